// SPDX-License-Identifier: GPL-2.0-or-later
//! Errors of a loop.

use std::path::PathBuf;

use crate::candidates::StoreError;
use crate::comm::{CollectiveError, DivisionError, RemoteError};
use crate::{embedding, runner, simulation};

/// An error that ends a loop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration does not configure a loop.
    #[error("the configuration has no table [loop]: add it, with an oracle and a trainer")]
    NoLoop,
    /// Neither the configuration nor the calling program has an oracle or a trainer.
    #[error("the table [loop] has no {what}: add the table [loop.{what}]")]
    Missing {
        /// `oracle` or `trainer`.
        what: &'static str,
    },
    /// The folder has files that are not those of a loop.
    #[error("{} contains files that do not belong to a loop: choose another folder with --output", .0.display())]
    Occupied(PathBuf),
    /// The path of the folder has characters that LAMMPS cannot use.
    #[error("LAMMPS cannot write restart files in {}: choose a path without `*`, `%` and quotes with --output", .0.display())]
    Name(PathBuf),
    /// The loop was started with another structure, potential or setting.
    #[error("the loop in {} was started with another {what}: restore it, or start a new loop in another folder", folder.display())]
    Changed {
        /// Its folder.
        folder: PathBuf,
        /// The setting or file that is different.
        what: String,
    },
    /// The set-up does not start at step 0.
    #[error(
        "the set-up of the loop starts at step {0} instead of 0: add `reset_timestep 0` at the end of `create`, and start the \
         loop in another folder"
    )]
    FirstStep(i64),
    /// Candidates cannot be selected with this potential.
    #[error("cannot select candidates: {0}")]
    Selection(crate::prediction::PredictionError),
    /// The errors of a potential cannot be computed.
    #[error("cannot compute the errors of a potential: {0}")]
    Prediction(#[from] crate::prediction::PredictionError),
    /// The settings of a run are invalid.
    #[error("[[loop.run]]: {0}")]
    Config(#[from] crate::config::Error),
    /// The runs have different elements.
    #[error(
        "the structure of the run {run:?} does not have the elements of the run {first:?} in the same order: list those of all runs in \
         `elements`"
    )]
    Elements {
        /// Name of the run.
        run: String,
        /// Name of the first run.
        first: String,
    },
    /// The ranks cannot be divided.
    #[error(transparent)]
    Division(#[from] DivisionError),
    /// There are more teams of ranks than runs.
    #[error(
        "--replicas {teams} is more than the number of runs in [[loop.run]], which is {runs}: each run is done by one team of ranks"
    )]
    Teams {
        /// Number of teams.
        teams: usize,
        /// Number of runs.
        runs: usize,
    },
    /// The labels of the oracle cannot be used.
    #[error("the labels of the oracle cannot be used: {0}")]
    Oracle(String),
    /// Training failed.
    #[error(transparent)]
    Training(#[from] super::TrainerError),
    /// An error of a run.
    #[error(transparent)]
    Run(#[from] runner::Error),
}

/// Converts errors through [`runner::Error`].
macro_rules! from_run {
    ($($source:ty),+) => {
        $(impl From<$source> for Error {
            fn from(source: $source) -> Self {
                Self::Run(source.into())
            }
        })+
    };
}
from_run!(StoreError, simulation::Error, embedding::Error, RemoteError);

impl CollectiveError for Error {
    fn is_rank_failure(&self) -> bool {
        matches!(self, Self::Run(error) if error.is_rank_failure())
    }
}

impl Error {
    /// Whether this rank stopped only because another one failed. Its message then repeats that of the other rank.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Run(error) if error.is_elsewhere())
    }

    /// Whether the error is caused by the input.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::Run(error) => error.is_input(),
            Self::Training(_) => false,
            _ => true,
        }
    }
}
