// SPDX-License-Identifier: GPL-2.0-or-later
//! From errors and panics to Python's exceptions.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use otf_prediction::PredictionError;
use pyo3::prelude::*;

pyo3::import_exception!(lammps_otf._errors, Error);
pyo3::import_exception!(lammps_otf._errors, InternalError);
pyo3::import_exception!(lammps_otf._errors, PotentialError);
pyo3::import_exception!(lammps_otf._errors, StoreError);
pyo3::import_exception!(lammps_otf._errors, StructureError);

/// The exception for an error of an evaluation. `place` is put before the message, for example `frame 3: `.
pub fn exception(error: PredictionError, place: &str) -> PyErr {
    let message = format!("{place}{error}");
    match error {
        // The constructor selects the subclass of OSError, for example FileNotFoundError.
        PredictionError::Evaluator(pace_opt::Error::Io { source, .. }) => {
            std::io::Error::new(source.kind(), message).into()
        }
        PredictionError::Evaluator(pace_opt::Error::Overlap { .. } | pace_opt::Error::NotFinite { .. })
        | PredictionError::Element(_)
        | PredictionError::Structure(_) => StructureError::new_err(message),
        PredictionError::NoActiveSet | PredictionError::NotAce | PredictionError::Evaluator(_) => {
            PotentialError::new_err(message)
        }
        _ => Error::new_err(message),
    }
}

/// Calls the body of a method. A panic becomes an exception; that of PyO3 would not be a subclass of `Exception`.
pub fn caught<T>(body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    // What a panic can leave half done is replaced by the next evaluation.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(InternalError::new_err(text(&*panic))))
}

/// The message of a panic.
fn text(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("{}; please report this", message.unwrap_or("panic without a message"))
}
