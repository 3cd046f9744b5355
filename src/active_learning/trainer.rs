// SPDX-License-Identifier: GPL-2.0-or-later
//! Trainers, which fit a new potential to the labelled candidates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::program::{Program, ProgramError, tail};
use crate::config::{LoopConfig, Potential, TrainerConfig};

/// Fits a new potential.
pub trait Trainer {
    /// Trains a potential, and writes it to the output folder of the job.
    ///
    /// # Errors
    /// [`TrainerError`]. The loop then ends, and the current potential is kept.
    ///
    /// # MPI
    /// Called on rank 0 only, while the other ranks sleep.
    fn train(&mut self, job: &TrainingJob<'_>) -> Result<TrainingReport, TrainerError>;
}

/// Input and output of a training.
#[derive(Debug, Clone, Copy)]
pub struct TrainingJob<'a> {
    /// Extended XYZ file with all labelled candidates, including those of earlier rounds.
    pub labelled: &'a Path,
    /// The current potential.
    pub parent: &'a Potential,
    /// An empty folder, to which the trainer writes the [`files`](super::files) `potential.yaml`, `potential.asi` and `report.json`.
    pub output: &'a Path,
    /// Number of the round, from 1.
    pub round: u32,
    /// File for the output of the trainer.
    pub log: &'a Path,
}

/// The report of a trainer on its potential, `report.json`. Errors are root mean squares over structures to which neither
/// potential was fitted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TrainingReport {
    /// Error of the energy, meV/atom.
    pub energy_rmse_mev_per_atom: Option<f64>,
    /// Error of a force component, meV/Å.
    pub force_rmse_mev_per_angstrom: Option<f64>,
    /// Error of the energy with the parent potential, meV/atom.
    pub parent_energy_rmse_mev_per_atom: Option<f64>,
    /// Error of a force component with the parent potential, meV/Å.
    pub parent_force_rmse_mev_per_angstrom: Option<f64>,
    /// Whether the new potential may replace its parent.
    #[serde(default)]
    pub accepted: bool,
    /// The reason if it is not accepted.
    pub reason: Option<String>,
    /// Number of basis functions.
    pub functions: Option<u64>,
    /// Other keys.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// Why there is no new potential.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// The trainer rejected its potential, because it is worse than the parent.
    #[error("the trainer rejected the new potential: {0}")]
    Refused(String),
    /// Training failed.
    #[error("training failed: {message}; its log is {}", log.display())]
    Failed {
        /// The reason.
        message: String,
        /// The output of the trainer.
        log: PathBuf,
    },
    /// This process was interrupted.
    #[error("interrupted")]
    Interrupted,
}

/// A program that trains a potential.
///
/// The program is started without a shell, in the folder of the configuration. These names in its arguments are replaced:
///
/// | name | replaced by |
/// |---|---|
/// | `{labelled}` | extended XYZ file with all labelled candidates: `energy` (eV), `candidate` (id in the store), `round` and, if available, `stress` (eV/Å³); `forces:R:3` (eV/Å), `force_mask:R:1`, `source_id:I:1`. Fit only to forces and environments of atoms with mask 1. Energy and stress of a cut-out are not those of the bulk |
/// | `{potential}` | the current potential, `.yaml` |
/// | `{active_set}` | its active set, `.asi` |
/// | `{output}` | an empty folder, to which the program writes `potential.yaml`, `potential.asi` and `report.json` ([`TrainingReport`]) |
/// | `{round}` | the number of the round, from 1 |
///
/// The exit code must be 0, or 3 if the new potential is worse than its parent; `report.json` then states the reason. The same
/// input must give the same files, so that an interrupted loop has the same result as an uninterrupted one.
#[derive(Debug)]
pub struct CommandTrainer {
    program: Program,
}

/// The exit code of a trainer that rejects its potential.
const REFUSED: i32 = 3;

impl CommandTrainer {
    /// The trainer of a configuration, whose program is started in the folder of that configuration. It is killed when `interrupt` is set.
    #[must_use]
    pub fn new(trainer: &TrainerConfig, config: &LoopConfig, interrupt: &Arc<AtomicBool>) -> Self {
        Self {
            program: Program {
                command: trainer.command.clone(),
                folder: config.folder.clone(),
                timeout: trainer.timeout.map(Duration::from_secs_f64),
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
        let reason = |report: TrainingReport| report.reason.unwrap_or_else(|| "report.json states no reason".into());
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
                let output = tail(job.log);
                let last = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output");
                Err(failed(format!("{error} ({last})")))
            }
        }
    }
}
