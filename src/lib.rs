// SPDX-License-Identifier: GPL-2.0-or-later
//! Molecular dynamics that knows when its potential is wrong.
#![deny(unsafe_code)]
pub mod candidates;
pub mod comm;
pub mod config;
pub mod embedding;
pub mod frame;
pub mod io;
pub mod lammps;
pub mod log;
pub mod potential;
pub mod runner;
pub mod script;
pub mod simulation;
pub mod structure;
pub mod uncertainty;
