// SPDX-License-Identifier: GPL-2.0-or-later
//! What ends a loop before its time.

use std::path::PathBuf;

use crate::comm::{CollectiveError, Elsewhere};
use crate::{runner, simulation};

/// An error that ends a loop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration says nothing of a loop.
    #[error("the configuration has no table [loop], which names who labels and who trains")]
    NoLoop,
    /// The folder holds something else.
    #[error("{} holds something that is no loop: choose another folder with --output", .0.display())]
    Occupied(PathBuf),
    /// Another process works in the folder.
    #[error("another process runs the loop in {}: wait for its end, or stop it", .0.display())]
    Running(PathBuf),
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
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The potential's files cannot be read.
    #[error("cannot read the potential: {0}")]
    Potential(std::io::Error),
    /// How far the potential reaches is not known.
    #[error("the cutoff of the potential is not known: give `cutoff` in [potential], in Å")]
    Cutoff,
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
    /// The structure cannot be used.
    #[error(transparent)]
    Structure(#[from] runner::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::candidates::StoreError),
    /// The set-up or the run failed.
    #[error(transparent)]
    Simulation(#[from] simulation::Error),
    /// The embedding is configured badly.
    #[error("[embedding]: {0}")]
    Embedding(#[from] crate::embedding::Error),
    /// Another rank failed.
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
}

impl CollectiveError for Error {
    fn is_rank_failure(&self) -> bool {
        match self {
            Self::Simulation(error) => error.is_rank_failure(),
            Self::Structure(error) => error.is_rank_failure(),
            _ => false,
        }
    }
}

impl Error {
    /// Whether this rank stopped because another one failed, and has nothing to say itself.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        match self {
            Self::Elsewhere(_) | Self::Simulation(simulation::Error::Elsewhere(_)) => true,
            Self::Structure(e) => e.is_elsewhere(),
            _ => false,
        }
    }

    /// Whether something else failed than what the user gave.
    #[must_use]
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Write { .. } | Self::Store(_) | Self::Training(_))
    }
}
