// SPDX-License-Identifier: GPL-2.0-or-later
//! How a run ended, and what it gave.

use std::path::PathBuf;

use serde::Serialize;

use crate::comm::Comm;
use crate::simulation::{Crash, Poll};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// All steps were done.
    Completed,
    /// γ passed the threshold.
    Uncertain,
    /// The run broke.
    Crashed,
    /// A signal or the wall-time limit.
    Interrupted,
}

/// A candidate that is safe on the disk.
#[derive(Debug, Clone, Serialize)]
pub struct Stored {
    /// Its number in `candidates.db`.
    pub candidate: i64,
    /// The step that it was cut from.
    pub step: i64,
    /// Id of the atom in its middle.
    pub center_id: i32,
    /// γ of that atom; `null` if it is infinite or unknown.
    pub gamma: Option<f64>,
    /// Why it was stored: `gamma`, `flag` or `crash`.
    pub trigger: String,
    /// The same as extended XYZ, in the run's folder.
    pub file: PathBuf,
}

/// What watching cost, beyond the steps themselves: seconds of the slowest rank, and bytes that all ranks together gave to
/// MPI, without LAMMPS's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Number of polls.
    pub polls: u64,
    /// Seconds in polls: checks, γ, the frame that is kept, and what is shared; without events.
    pub poll_seconds: f64,
    /// Bytes sent in polls.
    pub poll_bytes: u64,
    /// Number of polls, of `polls`, that told all ranks what to store if one of them fails alone.
    pub shares: u64,
    /// Seconds, of `poll_seconds`, in that.
    pub shared_seconds: f64,
    /// Bytes, of `poll_bytes`, for that.
    pub shared_bytes: u64,
    /// Number of regions that were cut out, stored or not.
    pub regions: u64,
    /// Seconds in cutting out, checking and storing them.
    pub region_seconds: f64,
    /// Bytes sent for them.
    pub region_bytes: u64,
}

impl Cost {
    /// What each rank noted, together.
    pub(super) fn collect(&mut self, comm: &Comm) {
        let mut seconds = [self.poll_seconds, self.shared_seconds, self.region_seconds];
        comm.max(&mut seconds);
        [self.poll_seconds, self.shared_seconds, self.region_seconds] = seconds;
        let mut bytes = [self.poll_bytes, self.shared_bytes, self.region_bytes].map(|b| b as i64);
        comm.sum_i64(&mut bytes);
        [self.poll_bytes, self.shared_bytes, self.region_bytes] = bytes.map(|b| b as u64);
    }
}

/// What a run gives.
#[derive(Debug, Clone, Serialize)]
pub struct SimulationResult {
    /// How it ended.
    pub status: Status,
    /// The step at which γ passed the threshold first, or at which the run broke.
    pub trigger_step: Option<i64>,
    /// The largest γ that was seen in the run; `null` if it is infinite, or if the run was not watched.
    pub gamma_max: Option<f64>,
    /// The worst atom of the last event.
    pub atom_id: Option<i32>,
    /// Numbers of the stored candidates in `candidates.db`.
    pub candidates: Vec<i64>,
    /// Steps done, counted from where the run began.
    pub steps: i64,
    /// Polls between the thresholds.
    pub flagged: u64,
    /// Regions that were not stored because their like was.
    pub known: u64,
    /// What broke, if the run crashed.
    pub crash: Option<Crash>,
    /// What was not as it should be: regions that were not stored, or are not in their cell what they were in the run.
    pub warnings: Vec<String>,
    /// Number of warnings that are not listed, because there were too many.
    pub more_warnings: u64,
    /// The state at the last poll.
    pub last: Option<Poll>,
    /// Number of atoms.
    pub atoms: u64,
    /// Wall time in seconds, of the run without its set-up.
    pub seconds: f64,
    /// Wall time in seconds of the last poll that stored a candidate: from the end of its last step until all that it stored
    /// was on the disk and, where the run goes on, all ranks were told the region.
    pub event_seconds: Option<f64>,
    /// The part of `event_seconds` that was the commit to `candidates.db`, on rank 0.
    pub commit_seconds: Option<f64>,
    /// Number of MPI ranks.
    pub ranks: usize,
    /// What watching cost.
    pub cost: Cost,
    /// The run's folder.
    pub output: PathBuf,
}
