// SPDX-License-Identifier: GPL-2.0-or-later
//! Atomic structures and cut-outs.
//!
//! - [`structure`]: cells, atoms, distances under periodic boundaries.
//! - [`io`]: extended XYZ, LAMMPS data files and LAMMPS dumps.
//! - [`embedding`]: cut-outs (the neighbourhood of an atom as a small periodic cell with a force mask), and detection of
//!   environments that are already stored.
//! - [`analysis`]: radial distribution functions and mean square displacements of trajectories.
//! - [`thermo_log`]: a column of the thermo output in a LAMMPS log.
//!
//! The crate depends on neither LAMMPS nor MPI. Units are Å, ps, eV, K and u.
#![forbid(unsafe_code)]
pub mod analysis;
pub mod embedding;
pub mod io;
pub mod structure;
pub mod thermo_log;
pub mod vector;
