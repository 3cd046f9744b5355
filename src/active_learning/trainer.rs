// SPDX-License-Identifier: GPL-2.0-or-later
//! Who makes a new potential of what was labelled.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::program::{Program, ProgramError, tail};
use crate::config::LoopConfig;
use crate::config::Potential;

/// Makes a new potential.
pub trait Trainer {
    /// Trains, and leaves the new potential in the folder of the job.
    ///
    /// # Errors
    /// [`TrainerError`]; the loop then ends, and the potential stays as it is.
    ///
    /// # MPI
    /// Called on rank 0 alone, while the other ranks sleep.
    fn train(&mut self, job: &TrainingJob<'_>) -> Result<TrainingReport, TrainerError>;
}

/// What there is to learn.
#[derive(Debug, Clone, Copy)]
pub struct TrainingJob<'a> {
    /// Extended XYZ with every candidate that is labelled so far, those of earlier rounds too.
    pub labelled: &'a Path,
    /// The present potential.
    pub parent: &'a Potential,
    /// An empty folder, for [`files`](super::files) `potential.yaml`, `potential.asi` and `report.json`.
    pub output: &'a Path,
    /// The round, from 1.
    pub round: u32,
    /// Where what the trainer says is kept.
    pub log: &'a Path,
}

/// What a trainer says of its potential, `report.json`. Errors are root mean squares over structures that neither
/// potential was fitted to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TrainingReport {
    /// Of the energy, meV/atom.
    pub energy_rmse_mev_per_atom: Option<f64>,
    /// Of a force component, meV/Å.
    pub force_rmse_mev_per_angstrom: Option<f64>,
    /// The same of the potential that it replaces.
    pub parent_energy_rmse_mev_per_atom: Option<f64>,
    /// The same of the potential that it replaces.
    pub parent_force_rmse_mev_per_angstrom: Option<f64>,
    /// Whether it is good enough to replace the parent.
    #[serde(default)]
    pub accepted: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Number of basis functions.
    pub functions: Option<u64>,
    /// Whatever else it says.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// Why there is no new potential.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// The new one is worse than the one it would replace.
    #[error("the trainer refuses its own potential: {0}")]
    Refused(String),
    /// Training failed.
    #[error("training failed: {message}; its log is {}", log.display())]
    Failed {
        /// How.
        message: String,
        /// What it said.
        log: PathBuf,
    },
    /// This process was told to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A program that trains.
///
/// It is started without a shell, in the folder of the configuration. In its arguments are replaced:
///
/// | | by |
/// |---|---|
/// | `{labelled}` | extended XYZ with all labelled candidates so far: `energy`, `candidate` (row of the store), `round`, where known `stress`; `forces:R:3`, `force_mask:R:1`, `source_id:I:1`. Only forces and environments of atoms with mask 1 are to be learned; energy and stress of a cut-out are no bulk values |
/// | `{potential}` | the present potential, `.yaml` |
/// | `{active_set}` | its active set, `.asi` |
/// | `{output}` | an empty folder, into which it writes `potential.yaml`, `potential.asi` and `report.json` ([`TrainingReport`]) |
/// | `{round}` | the number of the round, from 1 |
///
/// It ends with 0, or with 3 if its potential is worse than the parent; `report.json` then says why. The same input must
/// give the same files, so that a loop that was interrupted goes on as if it had not been.
#[derive(Debug)]
pub struct CommandTrainer {
    program: Program,
}

/// The exit code of a trainer that refuses.
const REFUSED: i32 = 3;

impl CommandTrainer {
    /// The trainer that the configuration names, which is ended when `interrupt` is set.
    #[must_use]
    pub fn new(config: &LoopConfig, interrupt: &Arc<AtomicBool>) -> Self {
        Self {
            program: Program {
                command: config.trainer.command.clone(),
                folder: config.folder.clone(),
                timeout: config.trainer.timeout.map(Duration::from_secs_f64),
                interrupt: Arc::clone(interrupt),
            },
        }
    }
}

impl Trainer for CommandTrainer {
    fn train(&mut self, job: &TrainingJob<'_>) -> Result<TrainingReport, TrainerError> {
        let failed = |message: String| TrainerError::Failed { message, log: job.log.to_owned() };
        let text =
            |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| failed(format!("{path:?} is not UTF-8")));
        let (file, active_set) =
            job.parent.pace_files().ok_or_else(|| failed("the potential is not ML-PACE".into()))?;
        let values = [
            ("labelled", text(job.labelled)?),
            ("potential", text(&file)?),
            ("active_set", text(&active_set)?),
            ("output", text(job.output)?),
            ("round", job.round.to_string()),
        ];
        let ended = self.program.run(&values.each_ref().map(|(name, value)| (*name, value.as_str())), job.log);
        let report = || -> Result<TrainingReport, String> {
            let text = std::fs::read_to_string(job.output.join(super::files::REPORT)).map_err(|e| e.to_string())?;
            serde_json::from_str(&text).map_err(|e| e.to_string())
        };
        let reason = |report: TrainingReport| report.reason.unwrap_or_else(|| "it does not say why".into());
        match ended {
            Ok(()) => {
                let report = report().map_err(|e| failed(format!("report.json: {e}")))?;
                if report.accepted { Ok(report) } else { Err(TrainerError::Refused(reason(report))) }
            }
            Err(ProgramError::Status { status, .. }) if status.code() == Some(REFUSED) => {
                Err(TrainerError::Refused(report().map_or_else(|e| format!("report.json: {e}"), reason)))
            }
            Err(ProgramError::Interrupted) => Err(TrainerError::Interrupted),
            Err(error) => {
                let said = tail(job.log);
                let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
                Err(failed(format!("{error} ({last})")))
            }
        }
    }
}
