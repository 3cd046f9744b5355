// SPDX-License-Identifier: GPL-2.0-or-later
//! Atomic structures, and the cells that are cut out of them.
//!
//! - [`structure`]: cells, atoms, distances under periodic boundaries.
//! - [`io`]: extended XYZ, LAMMPS data files and LAMMPS dumps.
//! - [`embedding`]: the neighbourhood of an atom as a small periodic cell with a force mask, and whether it is new.
//! - [`thermo_log`]: a column of the thermo output in a log of LAMMPS.
//!
//! Plain data and arithmetic: neither LAMMPS nor MPI is needed. Numbers are in Å, ps, eV, K and u.
#![forbid(unsafe_code)]
pub mod embedding;
pub mod io;
pub mod structure;
pub mod thermo_log;
pub mod vector;
