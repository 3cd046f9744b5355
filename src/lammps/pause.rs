// SPDX-License-Identifier: GPL-2.0-or-later
//! Runs that pause at the end of a step, with LAMMPS at rest in the middle of its loop.
//!
//! `fix otf/pause` (`plugins/pause`) calls back on such a step. The run is a coroutine with a stack of its own, which the
//! callback suspends. The caller sees a function that returns at each pause, and LAMMPS one uninterrupted run. At a pause
//! LAMMPS prints a row of its table; nothing is parsed or set up.

use std::cell::Cell;
use std::ffi::{CString, c_int};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::rc::Rc;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use rustix::process::{Resource, getrlimit};

use super::preflight::plugin_folder;
use super::{Error, Failure, Instance, Lammps, c_string, guarded, run_command, sys};
use crate::progress;

/// Id of the fix.
const FIX: &str = "otf_pause";
/// Style of the fix.
const STYLE: &str = "otf/pause";
/// The plugin that contains it.
const PLUGIN: &str = "otfpauseplugin.so";

/// Least and most bytes of the stack of a run. See [`stack_size`].
const STACK: RangeInclusive<u64> = 8 << 20..=64 << 20;

/// Size in bytes of the stack of a run, for a process whose own stack is limited to `limit` (`ulimit -s`; `None`: unlimited).
///
/// It is the size of the process's own stack, on which `lmp` would do the run: users raise that limit for pair styles that need
/// it. The default of 8 MiB is the minimum. The maximum of 64 MiB, eight times the default, stands for `unlimited`, which is
/// common on clusters. Only pages that are touched take memory, but systems that do not overcommit (`vm.overcommit_memory = 2`)
/// charge the whole mapping to each rank.
fn stack_size(limit: Option<u64>) -> usize {
    limit.unwrap_or(u64::MAX).clamp(*STACK.start(), *STACK.end()) as usize
}

/// What a suspended run does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResumeAction {
    Continue,
    Stop,
}

/// What the fix and the run share. Part of the [`Instance`], so that it lives longer than the fix, at one address.
#[repr(C)]
pub(super) struct PauseChannel {
    /// The first member, whose address is all that the fix has.
    shared: Cell<sys::otf_pause>,
    /// Suspends the current run.
    yielder: Cell<Option<NonNull<Yielder<ResumeAction, ()>>>>,
}

impl PauseChannel {
    pub(super) fn new() -> Self {
        Self { shared: Cell::new(sys::otf_pause { at_end_of_step: None }), yielder: Cell::new(None) }
    }
}

/// The fix's callback.
unsafe extern "C" fn at_end_of_step(shared: *mut sys::otf_pause) -> c_int {
    // SAFETY: the fix passes the address that it was given, of the first member of the `PauseChannel` of its instance.
    let yielder = unsafe { (*shared.cast::<PauseChannel>()).yielder.get() };
    // SAFETY: the fix calls within the run, whose yielder is on its stack.
    yielder.map_or(0, |yielder| c_int::from(unsafe { yielder.as_ref() }.suspend(()) == ResumeAction::Stop))
}

type Run = Coroutine<ResumeAction, (), Result<(), Failure>, DefaultStack>;

/// A run that is suspended at a pause.
///
/// Its stack holds frames of LAMMPS, which must return and cannot be unwound. Dropping this therefore stops the run at its
/// present step first. Stopping is collective: where this thread unwinds from a panic, or this rank has failed alone, the stack
/// is leaked instead. A run holds a reference to its instance, on its stack, so that LAMMPS is never closed under a run.
pub(super) struct PausedRun {
    /// `None` once the run has finished.
    run: Option<Run>,
    instance: Rc<Instance>,
}

/// How far a run has come.
enum Progress {
    Paused(PausedRun),
    /// The run has finished. Its stack can be used again.
    Finished(Result<(), Failure>, DefaultStack),
}

impl PausedRun {
    /// Runs `command`, which is also in `text`, up to the first pause.
    fn begin(instance: Rc<Instance>, stack: DefaultStack, text: CString, command: String) -> Progress {
        let own = Rc::clone(&instance);
        let run = Coroutine::with_stack(stack, move |yielder: &Yielder<ResumeAction, ()>, _| {
            let channel = &own.pause;
            channel.yielder.set(Some(NonNull::from(yielder)));
            channel.shared.set(sys::otf_pause { at_end_of_step: Some(at_end_of_step) });
            let outcome = run_to_end(&own, &text, command);
            channel.shared.set(sys::otf_pause { at_end_of_step: None });
            channel.yielder.set(None);
            outcome
        });
        Self { run: Some(run), instance }.resume(ResumeAction::Continue)
    }

    fn resume(mut self, action: ResumeAction) -> Progress {
        let outcome = self.run.as_mut().expect("the run has not finished").resume(action);
        progress::mark();
        match outcome {
            CoroutineResult::Yield(()) => Progress::Paused(self),
            CoroutineResult::Return(outcome) => {
                let run = self.run.take().expect("the run has just finished");
                Progress::Finished(outcome, run.into_stack())
            }
        }
    }
}

impl Drop for PausedRun {
    fn drop(&mut self) {
        let Some(mut run) = self.run.take() else { return };
        while !run.done() {
            if std::thread::panicking() || self.instance.comm.has_rank_failure() {
                std::mem::forget(run);
                return;
            }
            if let CoroutineResult::Return(Err(failure)) = run.resume(ResumeAction::Stop) {
                // `drop` cannot report the error, but it decides whether LAMMPS can be closed.
                let _ = self.instance.fail(failure, None);
            }
        }
    }
}

impl Lammps {
    /// Makes the pause fix available, if possible, and returns whether it is. It comes from a plugin that `ci/install` and `ci/setup` build, in
    /// the folders that [`Lammps::require_pair_style`] searches.
    ///
    /// # Errors
    /// LAMMPS's error on loading the plugin, if this rank failed alone.
    ///
    /// # MPI
    /// Collective; the same answer on all ranks.
    pub fn load_pause_fix(&mut self) -> Result<bool, Error> {
        let everywhere = |lammps: &Self| !lammps.comm().any(!lammps.has_style("fix", STYLE));
        if everywhere(self) {
            return Ok(true);
        }
        let plugin: PathBuf = plugin_folder().join(PLUGIN);
        if self.comm().any(!plugin.is_file()) {
            return Ok(false);
        }
        match self.load_plugin(&plugin) {
            Err(error) if error.is_rank_failure() => Err(error),
            // A plugin that does not load, or that was compiled for another version, counts as missing.
            _ => Ok(everywhere(self)),
        }
    }

    /// Makes runs started with [`Lammps::begin_run`] pause at the end of each step that is a multiple of `interval`, from the
    /// next set-up of a run on. Fixes that were defined before have done their work at the end of that step.
    ///
    /// # Errors
    /// LAMMPS's own text, e.g. if the pause fix is not available ([`Lammps::load_pause_fix`]).
    ///
    /// # MPI
    /// Collective.
    pub fn pause_every(&mut self, interval: i64) -> Result<(), Error> {
        if self.has_id("fix", FIX) {
            self.command(&format!("unfix {FIX}"))?;
        }
        let address = (&raw const self.instance.pause).expose_provenance();
        self.command(&format!("fix {FIX} all {STYLE} {interval} {address}"))
    }

    /// Begins a run like [`Lammps::run`] without set-up. Returns `true` if it paused, `false` if it finished.
    ///
    /// [`Lammps::continue_run`] resumes a paused run. While it is paused, everything can be read. Commands and other calls that
    /// change the instance end the run first, at its present step.
    ///
    /// # Errors
    /// As [`Lammps::command`]; [`Error::Preflight`] if there is no memory for a stack.
    ///
    /// # MPI
    /// Collective, as is each [`Lammps::continue_run`].
    pub fn begin_run(&mut self, steps: i64, ramp: Range<i64>) -> Result<bool, Error> {
        self.end_run()?;
        let command = run_command(steps, false, &ramp);
        let text = c_string("the command", &command)?;
        let size = stack_size(getrlimit(Resource::Stack).current);
        let stack = self.stack.take().map_or_else(|| DefaultStack::new(size), Ok);
        // Agreed: the other ranks would wait within the run for a rank that cannot begin it.
        let failed = self.comm().any(stack.is_err());
        let Some(stack) = stack.ok().filter(|_| !failed) else {
            return Err(Error::Preflight(format!(
                "a rank could not allocate the stack of a run, {size} bytes of address space: raise `ulimit -v`, or lower \
                 `ulimit -s`, which sets its size."
            )));
        };
        let progress = PausedRun::begin(Rc::clone(&self.instance), stack, text, command);
        self.record(progress)
    }

    /// Resumes a paused run. Returns `true` if it paused again, `false` if it finished or was not paused.
    ///
    /// # Errors
    /// As [`Lammps::command`].
    ///
    /// # MPI
    /// Collective.
    pub fn continue_run(&mut self) -> Result<bool, Error> {
        match self.paused.take() {
            Some(run) => self.record(run.resume(ResumeAction::Continue)),
            None => Ok(false),
        }
    }

    /// Whether a run has paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Ends a paused run at its present step.
    ///
    /// # Errors
    /// As [`Lammps::command`].
    ///
    /// # MPI
    /// Collective.
    pub fn end_run(&mut self) -> Result<(), Error> {
        while let Some(run) = self.paused.take() {
            self.record(run.resume(ResumeAction::Stop))?;
        }
        Ok(())
    }

    /// Keeps a run that has paused, or the stack of one that has finished. Returns whether it has paused.
    fn record(&mut self, progress: Progress) -> Result<bool, Error> {
        match progress {
            Progress::Paused(run) => {
                self.paused = Some(run);
                Ok(true)
            }
            Progress::Finished(outcome, stack) => {
                self.stack = Some(stack);
                self.classify(outcome).map(|()| false)
            }
        }
    }
}

fn run_to_end(instance: &Instance, text: &CString, command: String) -> Result<(), Failure> {
    let handle = instance.handle.as_ptr();
    let outcome = guarded(
        "command",
        || command,
        instance.comm.size(),
        // SAFETY: the handle is open and the text a valid C string. No view of the instance is alive when the run is resumed,
        // because that needs &mut Lammps.
        |failure| unsafe { sys::otf_command(handle, text.as_ptr(), failure) },
    );
    outcome.map_err(Failure::while_running)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_between_8_and_64_mib() {
        assert_eq!(stack_size(Some(8 << 20)), 8 << 20);
        assert_eq!(stack_size(Some(1 << 20)), 8 << 20);
        assert_eq!(stack_size(Some(32 << 20)), 32 << 20);
        assert_eq!(stack_size(Some(1 << 40)), 64 << 20);
        assert_eq!(stack_size(None), 64 << 20);
    }
}
