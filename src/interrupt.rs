// SPDX-License-Identifier: GPL-2.0-or-later
//! Stopping on a signal, also where the process waits for a rank that never answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::{comm, progress};

/// How long a process that was asked to stop may make no progress before it ends the job: as long as Slurm waits between
/// SIGTERM and SIGKILL by default.
const PATIENCE: Duration = Duration::from_secs(30);
/// A process whose steps take long is given this many times the longest pause between two marks of progress so far.
const SLOW: u32 = 2;
/// How often the watching thread looks.
const LOOK: Duration = Duration::from_millis(200);

/// A flag that SIGINT and SIGTERM set, for [`LammpsRunner::interrupt_by`](crate::runner::LammpsRunner::interrupt_by). A second
/// signal ends the process at once.
///
/// A process that has been asked to stop and then makes no progress for 30 s, or for twice the longest time that it needed
/// between two polls before, ends the whole job with `code`: a rank that waits for one that has failed cannot stop otherwise.
#[must_use]
pub fn on_signals(code: i32) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the first signal finds the flag unset and sets it, the second finds it set and ends.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&flag));
        let _ = signal_hook::flag::register(signal, Arc::clone(&flag));
    }
    let asked = Arc::clone(&flag);
    // Without the thread the flag still works.
    let _ = std::thread::Builder::new().name("stop".into()).spawn(move || {
        wait_until_stuck(&asked);
        comm::abort_job(
            "asked to stop, and no progress since: this process waits for a rank that has failed, or for a step that does not end.",
            code,
        )
    });
    flag
}

/// Returns when the process was asked to stop and is stuck.
fn wait_until_stuck(asked: &AtomicBool) {
    let (mut seen, mut since, mut longest) = (progress::marks(), Instant::now(), Duration::ZERO);
    let mut asked_at = None;
    loop {
        std::thread::sleep(LOOK);
        let now = progress::marks();
        if now != seen {
            longest = longest.max(since.elapsed());
            (seen, since) = (now, Instant::now());
        }
        if asked_at.is_none() && asked.load(Ordering::Relaxed) {
            asked_at = Some(Instant::now());
        }
        if asked_at.is_some_and(|at| at.max(since).elapsed() > PATIENCE.max(longest * SLOW)) {
            return;
        }
    }
}
