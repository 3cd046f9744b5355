// SPDX-License-Identifier: GPL-2.0-or-later
//! From errors and panics to Python's exceptions.

use std::panic::{AssertUnwindSafe, catch_unwind};

use lammps_otf::comm::Comm;
use lammps_otf::{active_learning, runner};
use pyo3::prelude::*;

pyo3::import_exception!(lammps_otf._errors, ConfigError);
pyo3::import_exception!(lammps_otf._errors, Error);
pyo3::import_exception!(lammps_otf._errors, InternalError);
pyo3::import_exception!(lammps_otf._errors, LabelError);
pyo3::import_exception!(lammps_otf._errors, PotentialError);
pyo3::import_exception!(lammps_otf._errors, SimulationError);
pyo3::import_exception!(lammps_otf._errors, StoreError);
pyo3::import_exception!(lammps_otf._errors, ViewError);

/// The exception for an error of a run.
pub fn of_run(error: &runner::Error, comm: &Comm) -> PyErr {
    let message = error.to_string();
    if error.is_input() { ConfigError::new_err(message) } else { SimulationError::new_err((message, comm.rank())) }
}

/// The exception for an error of a loop.
pub fn of_loop(error: &active_learning::Error, comm: &Comm) -> PyErr {
    let message = error.to_string();
    if error.is_input() { ConfigError::new_err(message) } else { SimulationError::new_err((message, comm.rank())) }
}

/// Calls the body of a function. A panic becomes an exception; that of PyO3 would not be a subclass of `Exception`.
pub fn caught<T>(body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(InternalError::new_err(format!("{}; please report this", text.unwrap_or("panic without a message"))))
    })
}
