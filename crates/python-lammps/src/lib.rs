// SPDX-License-Identifier: GPL-2.0-or-later
//! The part of the Python package `lammps_otf` that links LAMMPS: the module `lammps_otf._lammps`.
//!
//! The functions that users see are written in Python, in `crates/python/python/lammps_otf`. Configurations and results pass as
//! JSON. LAMMPS and MPI are used by the thread that has called first; the GIL is released while LAMMPS runs.
#![deny(unsafe_code)]

mod config;
mod errors;
mod run;
mod session;
mod simulation;
mod views;

use pyo3::prelude::*;

/// The module `lammps_otf._lammps`.
#[pymodule]
mod _lammps {
    #[pymodule_export]
    use crate::run::run;
    #[pymodule_export]
    use crate::session::{abort, finalize, rank, size};
    #[pymodule_export]
    use crate::simulation::Simulation;
}
