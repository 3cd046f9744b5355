// SPDX-License-Identifier: GPL-2.0-or-later
//! Molecular dynamics that knows when its potential is wrong.
//!
//! One step of a run, from LAMMPS's memory to a row in the database, goes through these modules in this order:
//!
//! 1. [`config`]: what to run, read from TOML and checked once; [`script`] makes LAMMPS commands of it.
//! 2. [`lammps`]: LAMMPS in this process, its arrays as borrowed views; on the ranks of a [`comm`].
//! 3. [`simulation`]: runs, pauses, and yields what it sees as events; [`frame`] keeps the last valid one.
//! 4. [`uncertainty`]: where γ comes from, and what follows from it.
//! 5. [`embedding`]: the neighbourhood of an atom as a small periodic cell with a force mask; [`verify`] asks the
//!    potential whether the core still sees what it saw.
//! 6. [`candidates`]: the ASE database in which it waits for a label.
//!
//! [`report`] shows people what came of it. [`runner`] does all of it in one call:
//!
//! ```no_run
//! use lammps_otf::{comm::Session, config::InferenceConfig, runner::LammpsRunner};
//!
//! let mpi = Session::initialize();
//! let config = InferenceConfig::read("al-melt.toml")?;
//! let result = LammpsRunner::new(&mpi.world(), "melt").run(&config)?;
//! println!("{:?} at step {:?}", result.status, result.trigger_step);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Public numbers are in Å, ps, eV, K and bar.
#![deny(unsafe_code)]
pub mod active_learning;
pub mod centers;
pub mod comm;
pub mod config;
mod fault;
pub mod frame;
pub mod interrupt;
pub mod lammps;
pub mod potential;
mod progress;
pub mod report;
pub mod runner;
pub mod script;
pub mod simulation;
pub mod uncertainty;
pub mod verify;

pub use otf_atoms::{embedding, io, structure, thermo_log};
pub use otf_store as candidates;

/// The examples of the README, so that they compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
