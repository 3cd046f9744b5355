// SPDX-License-Identifier: GPL-2.0-or-later
//! What was run, and with what: `run.json`, for whoever looks at the results later.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{Error, write_aside};
use crate::comm::{self, Comm};
use crate::config::InferenceConfig;
use crate::lammps::{Build, Lammps};
use crate::potential;

/// The file, in the folder of a run or a loop.
pub(crate) const FILE: &str = "run.json";

/// What `run.json` holds.
#[derive(Debug, Serialize)]
struct Provenance<'c> {
    format: u32,
    /// Of this program.
    version: &'static str,
    /// Version of LAMMPS, as a date.
    lammps: i32,
    /// What the MPI library says of itself.
    mpi: Option<String>,
    ranks: usize,
    /// Fingerprint of the potential's files.
    potential_hash: String,
    /// When the run, or its continuation, began: seconds since 1970.
    started: u64,
    /// All settings, also those that were left to their defaults.
    config: &'c InferenceConfig,
}

/// Writes it, on rank 0.
pub(crate) fn write(folder: &Path, config: &InferenceConfig, lammps: &Lammps, comm: &Comm) -> Result<(), Error> {
    let provenance = Provenance {
        format: 1,
        version: env!("CARGO_PKG_VERSION"),
        lammps: Build::of(lammps).version,
        mpi: comm::library(),
        ranks: comm.size(),
        potential_hash: potential::fingerprint(&config.system.potential).map_err(Error::Potential)?,
        started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        config,
    };
    let text = serde_json::to_vec_pretty(&provenance).expect("numbers and names");
    write_aside(&folder.join(FILE), &text)
}
