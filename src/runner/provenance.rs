// SPDX-License-Identifier: GPL-2.0-or-later
//! The file `run.json`: settings and versions with which a run was made.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::checkpoint::Parent;
use super::{Error, write_atomic};
use crate::comm;
use crate::config::InferenceConfig;
use crate::lammps::{Build, Lammps};
use crate::potential;

/// Name of the file in the folder of a run or a loop.
pub(crate) const FILE: &str = "run.json";

/// Content of `run.json`.
#[derive(Debug, Serialize)]
struct Provenance<'c> {
    format: u32,
    /// Version of lammps-otf.
    version: &'static str,
    /// Version of LAMMPS, as a date.
    lammps: i32,
    /// Version string of the MPI library.
    mpi: Option<String>,
    /// Number of MPI ranks.
    ranks: usize,
    /// The run that this one continues.
    continues: Option<&'c Parent>,
    /// Fingerprint of the potential's files.
    potential_hash: String,
    /// Time at which the run, or its continuation, started, in seconds since 1970-01-01T00:00:00Z.
    started: u64,
    /// All settings, including defaults.
    config: &'c InferenceConfig,
}

/// Writes `run.json` of a job with this number of `ranks`. Called on rank 0 only.
///
/// # Errors
/// If the potential cannot be read, or the file cannot be written.
pub(crate) fn write(
    folder: &Path,
    config: &InferenceConfig,
    continues: Option<&Parent>,
    lammps: &Lammps,
    ranks: usize,
) -> Result<(), Error> {
    let provenance = Provenance {
        format: 1,
        version: env!("CARGO_PKG_VERSION"),
        lammps: Build::of(lammps).version,
        mpi: comm::library(),
        ranks,
        continues,
        potential_hash: potential::fingerprint(&config.system.potential).map_err(Error::Potential)?,
        started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        config,
    };
    let text = serde_json::to_vec_pretty(&provenance).expect("numbers and names");
    write_atomic(&folder.join(FILE), &text)
}
