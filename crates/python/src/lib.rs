// SPDX-License-Identifier: GPL-2.0-or-later
//! The compiled part of the Python package `lammps_otf`: the module `lammps_otf._native`.
//!
//! The classes that users see are written in Python, in `python/lammps_otf`. This crate takes arrays of numpy and returns such
//! arrays; it does not know ASE. The GIL is released during every evaluation.
#![deny(unsafe_code)]

mod errors;
mod evaluator;
mod frame;
mod store;

use pyo3::prelude::*;

/// The module `lammps_otf._native`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::evaluator::Evaluator;
    #[pymodule_export]
    use crate::store::Store;

    /// Version of the package.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "the name that Python expects")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
