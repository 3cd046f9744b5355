// SPDX-License-Identifier: GPL-2.0-or-later
//! MPI from the first use to the end of Python.

use std::cell::RefCell;
use std::time::Duration;

use lammps_otf::comm::{Comm, Session};
use lammps_otf::lammps::communicator;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::errors::{ConfigError, caught};

thread_local! {
    static SESSION: RefCell<State> = const { RefCell::new(State::New) };
}

/// Whether MPI is in use.
enum State {
    New,
    Open(Session),
    Finalized,
}

/// Calls `work` with MPI, which is initialised unless this package or another module, such as mpi4py, has done so.
fn with_session<T>(work: impl FnOnce(&Session) -> PyResult<T>) -> PyResult<T> {
    SESSION.with_borrow_mut(|state| {
        if let State::New = state {
            *state = State::Open(Session::initialize());
        }
        match state {
            State::Open(session) => work(session),
            _ => Err(PyRuntimeError::new_err("MPI is finalised: Python ends")),
        }
    })
}

/// The ranks of a communicator, given by its Fortran handle; without one all ranks of the job.
///
/// # MPI
/// Collective over the communicator.
pub fn group(handle: Option<i32>) -> PyResult<Comm> {
    with_session(|session| match handle {
        None => Ok(session.world()),
        // Not kept: the number belongs to another communicator when this one is freed.
        Some(handle) => {
            communicator(session, handle).ok_or_else(|| ConfigError::new_err("comm is the null communicator"))
        }
    })
}

/// Ends MPI, if this package has initialised it. Called when Python ends.
#[pyfunction]
pub fn finalize() -> PyResult<()> {
    caught(|| {
        SESSION.with_borrow_mut(|state| *state = State::Finalized);
        Ok(())
    })
}

/// Before a job is aborted, because mpiexec discards output that it has not yet forwarded.
const FORWARDING_TIME: Duration = Duration::from_millis(500);

/// Ends all processes of the job.
pub fn abort_job(comm: &Comm, code: i32) -> ! {
    std::thread::sleep(FORWARDING_TIME);
    comm.abort(code)
}

/// Ends all processes of the job.
#[pyfunction]
pub fn abort(code: i32) -> PyResult<()> {
    caught(|| {
        with_session(|session| {
            std::thread::sleep(FORWARDING_TIME);
            session.abort(code)
        })
    })
}

/// Rank of this process.
#[pyfunction]
pub fn rank() -> PyResult<usize> {
    caught(|| with_session(|session| Ok(session.rank())))
}

/// Number of ranks.
#[pyfunction]
pub fn size() -> PyResult<usize> {
    caught(|| with_session(|session| Ok(session.size())))
}

/// Name and version of the MPI library.
#[pyfunction]
pub fn mpi_library() -> PyResult<Option<String>> {
    caught(|| with_session(|_| Ok(lammps_otf::comm::library())))
}
