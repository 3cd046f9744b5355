// SPDX-License-Identifier: GPL-2.0-or-later
//! Runs that pause at the end of a step, with all of LAMMPS at rest in the middle of its loop.
//!
//! `fix otf/pause` (`plugins/pause`) calls back on such a step. The run is a coroutine, with a stack of its own, which the
//! callback suspends: so the caller sees a function that returns at each pause, and LAMMPS one run. At a pause a
//! row is printed; nothing is parsed or set up.

use std::cell::Cell;
use std::ffi::{CString, c_int};
use std::ops::Range;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::rc::Rc;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use rustix::process::{Resource, getrlimit};

use super::preflight::plugin_folder;
use super::{Error, Failure, Lammps, c_string, guarded, run_command, sys};
use crate::progress;

/// Id of the fix.
const FIX: &str = "otf_pause";
/// Its style.
const STYLE: &str = "otf/pause";
/// The file with it.
const PLUGIN: &str = "otfpauseplugin.so";
/// Least and most bytes of a run's stack; only what is used takes memory.
const STACK: Range<u64> = 8 << 20..256 << 20;

/// A run on its way: it has paused.
pub(super) type Paused = Coroutine<Order, (), Result<(), Failure>, DefaultStack>;

/// What a paused run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    GoOn,
    End,
}

/// What the fix and the run share, at one address for as long as one of them lives.
#[repr(C)]
pub(super) struct Meeting {
    /// The first member: the fix knows no more.
    shared: Cell<sys::otf_pause>,
    /// Suspends the run that goes on.
    run: Cell<Option<NonNull<Yielder<Order, ()>>>>,
}

impl Meeting {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { shared: Cell::new(sys::otf_pause { at_end_of_step: None }), run: Cell::new(None) })
    }
}

/// The fix's callback.
unsafe extern "C" fn at_end_of_step(shared: *mut sys::otf_pause) -> c_int {
    // SAFETY: the fix gives back what it got, the first member of a `Meeting` that lives as long as the run.
    let run = unsafe { (*shared.cast::<Meeting>()).run.get() };
    // SAFETY: the fix calls within the run, which has its yielder on its stack.
    run.map_or(0, |run| c_int::from(unsafe { run.as_ref() }.suspend(()) == Order::End))
}

impl Lammps {
    /// Makes this instance able to pause, if it can be: a plugin is needed, made by `ci/setup`, from the folders that
    /// [`Lammps::require_pair_style`] looks into.
    ///
    /// # Errors
    /// What LAMMPS says of the plugin on one rank alone.
    ///
    /// # MPI
    /// Collective; the same answer on all ranks.
    pub fn able_to_pause(&mut self) -> Result<bool, Error> {
        let everywhere = |lammps: &Self| !lammps.comm().any(!lammps.has_style("fix", STYLE));
        if everywhere(self) {
            return Ok(true);
        }
        let plugin: PathBuf = plugin_folder().join(PLUGIN);
        // Not every LAMMPS takes plugins, and not every one comes with the headers that this one is compiled with.
        if self.comm.any(!plugin.is_file() || !self.has_style("command", "plugin")) {
            return Ok(false);
        }
        match self.load_plugin(&plugin) {
            Err(error) if error.is_rank_failure() => Err(error),
            // One that does not load, or was compiled for another version and registers nothing, is as good as none.
            _ => Ok(everywhere(self)),
        }
    }

    /// Lets the runs that [`Lammps::begin`] begins pause at the end of each step that is a multiple of `interval`, once a run has
    /// been set up. What other fixes do at the end of such a step, they have done before.
    ///
    /// # Errors
    /// What LAMMPS says, e.g. where this instance cannot pause ([`Lammps::able_to_pause`]).
    ///
    /// # MPI
    /// Collective.
    pub fn pause_every(&mut self, interval: i64) -> Result<(), Error> {
        if self.has_id("fix", FIX) {
            self.command(&format!("unfix {FIX}"))?;
        }
        let address = Rc::as_ptr(&self.meeting).expose_provenance();
        self.command(&format!("fix {FIX} all {STYLE} {interval} {address}"))
    }

    /// Begins a run as [`Lammps::run`] does, without set-up; gives whether it has paused, and not ended.
    ///
    /// A paused run goes on with [`Lammps::go_on`]. Until then all can be read; what changes the instance, as any command does,
    /// first ends the run where it is.
    ///
    /// # Errors
    /// As [`Lammps::command`]; [`Error::Preflight`] if there is no memory for a stack.
    ///
    /// # MPI
    /// Collective, as is each going on.
    pub fn begin(&mut self, steps: i64, ramp: Range<i64>) -> Result<bool, Error> {
        self.end_run()?;
        let command = run_command(steps, false, &ramp);
        let text = c_string("the command", &command)?;
        let size = stack_size();
        let stack = DefaultStack::new(size);
        // Agreed: the others would wait within the run for a rank that cannot begin it.
        let short = self.comm.any(stack.is_err());
        let Some(stack) = stack.ok().filter(|_| !short) else {
            return Err(Error::Preflight(format!("a rank has no memory for the stack of a run, {size} bytes")));
        };
        let (handle, ranks, meeting) = (self.handle.as_ptr(), self.comm.size(), Rc::clone(&self.meeting));
        let run = Coroutine::with_stack(stack, move |yielder: &Yielder<Order, ()>, _| {
            meeting.run.set(Some(NonNull::from(yielder)));
            meeting.shared.set(sys::otf_pause { at_end_of_step: Some(at_end_of_step) });
            let outcome = run_to_its_end(handle, &text, command, ranks);
            meeting.shared.set(sys::otf_pause { at_end_of_step: None });
            meeting.run.set(None);
            outcome
        });
        self.resume(run, Order::GoOn)
    }

    /// Lets a paused run go on; gives whether it has paused again, and not ended, as one that has not paused before has.
    ///
    /// # Errors
    /// As [`Lammps::command`].
    ///
    /// # MPI
    /// Collective.
    pub fn go_on(&mut self) -> Result<bool, Error> {
        match self.paused.take() {
            Some(run) => self.resume(run, Order::GoOn),
            None => Ok(false),
        }
    }

    /// Whether a run has paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Ends a paused run with the step at whose end it stands.
    ///
    /// # Errors
    /// As [`Lammps::command`].
    ///
    /// # MPI
    /// Collective.
    pub fn end_run(&mut self) -> Result<(), Error> {
        while let Some(run) = self.paused.take() {
            self.resume(run, Order::End)?;
        }
        Ok(())
    }

    fn resume(&mut self, mut run: Paused, order: Order) -> Result<bool, Error> {
        let outcome = run.resume(order);
        progress::mark();
        match outcome {
            CoroutineResult::Yield(()) => {
                self.paused = Some(run);
                Ok(true)
            }
            CoroutineResult::Return(outcome) => self.noted(outcome).map(|()| false),
        }
    }
}

/// As large as that of this process (`ulimit -s`), on which the run would be without us.
fn stack_size() -> usize {
    let limit = getrlimit(Resource::Stack).current.unwrap_or(STACK.end);
    limit.clamp(STACK.start, STACK.end) as usize
}

fn run_to_its_end(handle: *mut std::ffi::c_void, text: &CString, command: String, ranks: usize) -> Result<(), Failure> {
    let outcome = guarded(
        "command",
        || command,
        ranks,
        // SAFETY: the handle is open and the text a valid C string. Views of the instance are gone by the time that the run
        // is resumed, which needs &mut.
        |failure| unsafe { sys::otf_command(handle, text.as_ptr(), failure) },
    );
    outcome.map_err(Failure::while_running)
}
