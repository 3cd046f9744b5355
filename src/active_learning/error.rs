// SPDX-License-Identifier: GPL-2.0-or-later
//! What ends a loop before its time.

use std::path::PathBuf;

use crate::candidates::StoreError;
use crate::comm::{CollectiveError, Elsewhere};
use crate::{embedding, runner, simulation};

/// An error that ends a loop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration says nothing of a loop.
    #[error("the configuration has no table [loop], which names who labels and who trains")]
    NoLoop,
    /// The folder holds something else.
    #[error("{} holds something that is no loop: choose another folder with --output", .0.display())]
    Occupied(PathBuf),
    /// The folder's name.
    #[error("{}: LAMMPS cannot write restart files into a folder with `*`, `%` or a quote in its name", .0.display())]
    Name(PathBuf),
    /// The loop was begun with something else.
    #[error("the loop in {} was begun with another {what}: give it that again, or begin a new one in another folder", folder.display())]
    Changed {
        /// Its folder.
        folder: PathBuf,
        /// What is different.
        what: String,
    },
    /// The set-up does not begin at step 0.
    #[error(
        "a loop counts its steps from 0, and its set-up stands at step {0}: let `create` end with `reset_timestep 0`, and begin \
         it in another folder"
    )]
    Begun(i64),
    /// Candidates cannot be selected with this potential.
    #[error("cannot select candidates: {0}")]
    Selection(#[from] super::ProjectionError),
    /// Training failed.
    #[error(transparent)]
    Training(#[from] super::TrainerError),
    /// What ends a run ends a loop.
    #[error(transparent)]
    Run(#[from] runner::Error),
}

/// Errors of a run that come from below.
macro_rules! from_run {
    ($($source:ty),+) => {
        $(impl From<$source> for Error {
            fn from(source: $source) -> Self {
                Self::Run(source.into())
            }
        })+
    };
}
from_run!(StoreError, simulation::Error, embedding::Error, Elsewhere);

impl CollectiveError for Error {
    fn is_rank_failure(&self) -> bool {
        matches!(self, Self::Run(error) if error.is_rank_failure())
    }
}

impl Error {
    /// Whether this rank stopped because another one failed, and has nothing to report itself.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Run(error) if error.is_elsewhere())
    }

    /// Whether the input is at fault.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::Run(error) => error.is_input(),
            Self::Training(_) => false,
            _ => true,
        }
    }
}
