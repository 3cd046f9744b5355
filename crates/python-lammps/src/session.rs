// SPDX-License-Identifier: GPL-2.0-or-later
//! MPI from the first use to the end of Python.

use std::cell::RefCell;

use lammps_otf::comm::{Comm, Session};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::errors::caught;

thread_local! {
    static SESSION: RefCell<State> = const { RefCell::new(State::New) };
}

/// Whether MPI is in use.
enum State {
    New,
    Open(Session),
    Finalized,
}

/// All ranks of the job. Initialises MPI unless another module, such as mpi4py, has done so.
pub fn world() -> PyResult<Comm> {
    SESSION.with_borrow_mut(|state| {
        if let State::New = state {
            *state = State::Open(Session::initialize());
        }
        match state {
            State::Open(session) => Ok(session.world()),
            _ => Err(PyRuntimeError::new_err("MPI is finalised: Python ends")),
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

/// Ends all processes of the job.
#[pyfunction]
pub fn abort(code: i32) -> PyResult<()> {
    caught(|| world()?.abort(code))
}

/// Rank of this process.
#[pyfunction]
pub fn rank() -> PyResult<usize> {
    caught(|| Ok(world()?.rank()))
}

/// Number of ranks.
#[pyfunction]
pub fn size() -> PyResult<usize> {
    caught(|| Ok(world()?.size()))
}
