// SPDX-License-Identifier: GPL-2.0-or-later
//! Stops on a signal, even if the process waits for a rank that has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::{comm, progress};

/// Minimum time without progress after which a process that was asked to stop ends the job. It equals the default time between
/// SIGTERM and SIGKILL in Slurm.
const MIN_STUCK_TIME: Duration = Duration::from_secs(30);
/// The time without progress must also exceed the longest earlier one by this factor, for processes with slow steps.
const STUCK_FACTOR: u32 = 2;
/// Interval at which the thread checks for progress.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// A flag that SIGINT and SIGTERM set, for [`LammpsRunner::interrupt_by`](crate::runner::LammpsRunner::interrupt_by). A second
/// signal ends the process at once.
///
/// If a process that was asked to stop makes no progress for 30 s, and for twice the longest time between two earlier marks of
/// progress, it ends the whole job with exit code `code`. A rank that waits for a failed one cannot stop otherwise.
#[must_use]
pub fn on_signals(code: i32) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The order matters: the first signal sets the flag, and the second finds it set and ends the process.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&flag));
        let _ = signal_hook::flag::register(signal, Arc::clone(&flag));
    }
    let asked = Arc::clone(&flag);
    // If the thread cannot be started, the flag still works.
    let _ = std::thread::Builder::new().name("stop".into()).spawn(move || {
        wait_until_stuck(&asked);
        comm::abort_job(
            "asked to stop, but no progress since: this process waits for a rank that has failed, or for a step that does not end.",
            code,
        )
    });
    flag
}

/// Returns when the process has been asked to stop and is stuck.
fn wait_until_stuck(asked: &AtomicBool) {
    let (mut seen, mut since, mut longest) = (progress::marks(), Instant::now(), Duration::ZERO);
    let mut asked_at = None;
    loop {
        std::thread::sleep(CHECK_INTERVAL);
        let now = progress::marks();
        if now != seen {
            longest = longest.max(since.elapsed());
            (seen, since) = (now, Instant::now());
        }
        if asked_at.is_none() && asked.load(Ordering::Relaxed) {
            asked_at = Some(Instant::now());
        }
        if asked_at.is_some_and(|at| at.max(since).elapsed() > MIN_STUCK_TIME.max(longest * STUCK_FACTOR)) {
            return;
        }
    }
}
