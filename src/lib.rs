// SPDX-License-Identifier: GPL-2.0-or-later
//! On-the-fly active learning: LAMMPS runs inside this process, and environments that an ACE potential was not trained on become
//! candidates for DFT.
//!
//! One step of a run, from LAMMPS's memory to a row in the database, passes these modules in this order:
//!
//! 1. [`config`]: what to run, read from TOML and checked once; [`script`] makes LAMMPS commands of it.
//! 2. [`lammps`]: LAMMPS in this process, its arrays as borrowed views; on the ranks of a [`comm`].
//! 3. [`simulation`]: runs, pauses, and returns events; [`frame`] keeps the last valid frame.
//! 4. [`uncertainty`]: where γ comes from, and the verdict on it.
//! 5. `event`: the regions of an event; each is extracted by [`embedding`] as a small periodic cell with a force mask, compared with
//!    what is known, and checked by [`verify`].
//! 6. [`candidates`]: the ASE database in which it waits for a label.
//!
//! [`runner`] does all of this in one call, [`active_learning`] also labels, trains and swaps the potential; [`report`] shows the result.
//! [`structure`], [`io`], [`embedding`], [`analysis`] and [`thermo_log`] are the crate `otf-atoms`, [`candidates`] is the crate `otf-store`; neither
//! needs LAMMPS.
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
pub mod calibration;
pub mod comm;
pub mod config;
mod event;
mod fault;
pub mod frame;
pub mod interrupt;
pub mod lammps;
pub mod potential;
pub mod prediction;
mod progress;
pub mod report;
pub mod runner;
pub mod script;
pub mod simulation;
pub mod uncertainty;
pub mod verify;

pub use otf_atoms::{analysis, embedding, io, structure, thermo_log};
pub use otf_store as candidates;

/// The examples of the README, so that they compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
