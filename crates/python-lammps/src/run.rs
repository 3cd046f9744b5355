// SPDX-License-Identifier: GPL-2.0-or-later
//! The function `run`.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lammps_otf::comm::Comm;
use lammps_otf::runner::LammpsRunner;
use pyo3::prelude::*;
use send_wrapper::SendWrapper;

use crate::errors::{SimulationError, caught, of_run};
use crate::{config, session};

/// Exit code of a job in which one rank has failed alone.
const ABORTED: i32 = 5;

/// Aborts a job of several ranks, after a failure of this rank alone.
pub fn abort_if_others_wait(reason: &str, comm: &Comm) {
    if comm.size() > 1 {
        eprintln!("error: rank {}: {reason}. The job is aborted.", comm.rank());
        session::abort_job(comm, ABORTED);
    }
}

/// Runs a simulation, as the command `lammps-otf run`. Returns the result as JSON.
///
/// `on_poll` and `on_candidate` are called with JSON. If they raise, or at Ctrl-C, the run stops at the next poll on all ranks, as at a
/// signal, and the exception is raised.
///
/// # MPI
/// Collective over the communicator `comm`, a Fortran handle; without it over the job.
#[pyfunction]
#[pyo3(signature = (file, values, output, *, resume = false, on_poll = None, on_candidate = None, comm = None))]
#[expect(clippy::too_many_arguments, reason = "those of the function in Python")]
pub fn run(
    py: Python<'_>,
    file: Option<PathBuf>,
    values: &str,
    output: PathBuf,
    resume: bool,
    on_poll: Option<Py<PyAny>>,
    on_candidate: Option<Py<PyAny>>,
    comm: Option<i32>,
) -> PyResult<String> {
    caught(|| {
        let comm = session::group(comm)?;
        let config = config::read(file.as_deref(), values, &comm)?;
        let raised: RefCell<Option<PyErr>> = RefCell::new(None);
        let stop = Arc::new(AtomicBool::new(false));
        // The first exception is kept.
        let call = |callback: &Option<Py<PyAny>>, json: &dyn Fn() -> serde_json::Result<String>| {
            let outcome = Python::attach(|py| {
                py.check_signals()?;
                if let Some(callback) = callback {
                    callback.call1(py, (json().unwrap_or_default(),))?;
                }
                Ok(())
            });
            if let Err(error) = outcome {
                raised.borrow_mut().get_or_insert(error);
                stop.store(true, Ordering::Relaxed);
            }
        };
        let mut runner = LammpsRunner::new(&comm, output)
            .resume(resume)
            .interrupt_by(Arc::clone(&stop))
            .observe(|poll| call(&on_poll, &|| serde_json::to_string(poll)))
            .announce(|stored| call(&on_candidate, &|| serde_json::to_string(stored)));
        // The closure runs on this thread, which the wrapper checks.
        let work = SendWrapper::new(|| catch_unwind(AssertUnwindSafe(|| runner.run(&config))));
        let outcome = py.detach(move || work.take()());
        let outcome = outcome.unwrap_or_else(|panic| {
            abort_if_others_wait("this rank panicked", &comm);
            resume_unwind(panic)
        });
        if let Err(error) = &outcome
            && error.rank_failure().is_some()
        {
            abort_if_others_wait(&error.to_string(), &comm);
        }
        drop(runner);
        if let Some(error) = raised.take() {
            return Err(error);
        }
        let result = outcome.map_err(|error| of_run(&error, &comm))?;
        serde_json::to_string(&result).map_err(|error| SimulationError::new_err((error.to_string(), comm.rank())))
    })
}
