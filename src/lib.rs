// SPDX-License-Identifier: GPL-2.0-or-later
//! Molecular dynamics that knows when its potential is wrong.
#![deny(unsafe_code)]
pub mod comm;
pub mod lammps;
pub mod structure;
