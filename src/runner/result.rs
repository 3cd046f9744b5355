// SPDX-License-Identifier: GPL-2.0-or-later
//! The result of a run.

use std::path::PathBuf;

use serde::Serialize;

use super::averages::Averages;
use super::checkpoint::Parent;
use crate::comm::Comm;
use crate::simulation::{Crash, Poll};
use crate::structure::AtomId;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// All steps were done.
    Completed,
    /// The run stopped at an event: γ exceeded the threshold, or another limit was passed (`trigger` in `last`).
    Uncertain,
    /// The run crashed.
    Crashed,
    /// A guard of an exploration ended the run (`bias.guard` in `last`).
    Guarded,
    /// The run was stopped by a signal or by the wall-time limit.
    Interrupted,
}

/// A candidate that is written to the disk.
#[derive(Debug, Clone, Serialize)]
pub struct Stored {
    /// Its id in `candidates.db`.
    pub candidate: i64,
    /// The step of the frame that it was extracted from.
    pub step: i64,
    /// Id of its centre atom.
    pub center_id: AtomId,
    /// γ of that atom; `null` if it is infinite or unknown.
    pub gamma: Option<f64>,
    /// Why it was stored: `gamma`, `core`, `sparse`, `flag` or `crash`.
    pub trigger: String,
    /// Path of the same candidate as extended XYZ, in the folder of the run.
    pub file: PathBuf,
}

/// Cost of monitoring in addition to the time steps: wall time of the slowest rank in seconds, and bytes that all ranks together
/// passed to MPI, without the communication of LAMMPS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Number of polls.
    pub polls: u64,
    /// Seconds in polls: checks, γ, copying the last valid frame, and sharing the fallback region; without storing regions.
    pub poll_seconds: f64,
    /// Bytes sent in polls.
    pub poll_bytes: u64,
    /// Number of polls at which the fallback region was sent to all ranks.
    pub shares: u64,
    /// Part of `poll_seconds` spent sending the fallback region.
    pub shared_seconds: f64,
    /// Part of `poll_bytes` sent for the fallback region.
    pub shared_bytes: u64,
    /// Number of regions that were extracted, whether stored or not.
    pub regions: u64,
    /// Seconds spent extracting, verifying and storing regions.
    pub region_seconds: f64,
    /// Bytes sent for regions.
    pub region_bytes: u64,
}

impl Cost {
    /// Reduces the values over all ranks: the maximum of the times, the sum of the bytes.
    ///
    /// # MPI
    /// Collective.
    pub(super) fn reduce(&mut self, comm: &Comm) {
        let mut seconds = [self.poll_seconds, self.shared_seconds, self.region_seconds];
        comm.max(&mut seconds);
        [self.poll_seconds, self.shared_seconds, self.region_seconds] = seconds;
        let mut bytes = [self.poll_bytes, self.shared_bytes, self.region_bytes].map(|b| b as i64);
        comm.sum_i64(&mut bytes);
        [self.poll_bytes, self.shared_bytes, self.region_bytes] = bytes.map(|b| b as u64);
    }
}

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct SimulationResult {
    /// How the run ended.
    pub status: Status,
    /// The step of the first event, or at which the run crashed.
    pub trigger_step: Option<i64>,
    /// The threshold of γ.
    pub threshold: f64,
    /// The largest γ of the run; `null` if it is infinite, or if γ was not monitored.
    pub gamma_max: Option<f64>,
    /// Id of the atom that the last event is attributed to (the one with the largest γ, if that caused it), or of the centre of the region that a crash is attributed to.
    pub atom_id: Option<AtomId>,
    /// Ids of the stored candidates in `candidates.db`.
    pub candidates: Vec<i64>,
    /// Ids of the stored audits in `candidates.db`: regions below the threshold, drawn at random (`audits_per_ps`).
    pub audits: Vec<i64>,
    /// Number of steps done since the start of the run.
    pub steps: i64,
    /// Number of polls at which the largest γ was between the thresholds.
    pub flagged: u64,
    /// Number of regions that were not stored, because a similar environment was stored before.
    pub known: u64,
    /// The cause, if the run crashed.
    pub crash: Option<Crash>,
    /// Warnings, such as regions that could not be stored, or cut-outs whose γ or forces differ from those of the frame.
    pub warnings: Vec<String>,
    /// Number of further warnings that are not listed.
    pub more_warnings: u64,
    /// The state at the last poll.
    pub last: Option<Poll>,
    /// Means over the polls of the run after the first fifth of its steps; `null` without such polls.
    pub averages: Option<Averages>,
    /// Number of atoms.
    pub atoms: u64,
    /// Wall time of the run in seconds, without the set-up.
    pub seconds: f64,
    /// Wall time in seconds of the last poll that stored a candidate, from the end of the time step until all candidates of the
    /// poll were on the disk and, if the run continues, all ranks had the fallback region.
    pub event_seconds: Option<f64>,
    /// Part of `event_seconds` spent in the commit to `candidates.db`, on rank 0.
    pub commit_seconds: Option<f64>,
    /// Number of MPI ranks.
    pub ranks: usize,
    /// Cost of monitoring.
    pub cost: Cost,
    /// The run that this one continues; `steps` includes its steps.
    pub continues: Option<Parent>,
    /// The run's folder.
    pub output: PathBuf,
}
