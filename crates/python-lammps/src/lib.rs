// SPDX-License-Identifier: GPL-2.0-or-later
//! The part of the Python package `lammps_otf` that links LAMMPS: the module `lammps_otf._lammps`.
//!
//! The functions that users see are written in Python, in `crates/python/python/lammps_otf`. Configurations and results pass as
//! JSON. LAMMPS and MPI are used by the thread that has called first; the GIL is released while LAMMPS runs.
#![deny(unsafe_code)]

mod calibration;
mod config;
mod errors;
mod learn;
mod run;
mod session;
mod simulation;
mod views;

use pyo3::prelude::*;

/// The module `lammps_otf._lammps`.
#[pymodule]
mod _lammps {
    #[pymodule_export]
    use crate::calibration::{Calibration, least_regions};
    #[pymodule_export]
    use crate::learn::{Stop, learn};
    #[pymodule_export]
    use crate::run::run;
    #[pymodule_export]
    use crate::session::{abort, finalize, mpi_library, rank, size};
    #[pymodule_export]
    use crate::simulation::Simulation;
}
