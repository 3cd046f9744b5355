// SPDX-License-Identifier: GPL-2.0-or-later
//! What ends a run before its time.

use std::path::PathBuf;

use crate::comm::{CollectiveError, Elsewhere};
use crate::lammps::RankFailure;
use crate::{io, simulation};

/// An error that ends a run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The structure cannot be read.
    #[error(transparent)]
    Structure(#[from] io::Error),
    /// The structure cannot be simulated.
    #[error("the structure {name}: {message}")]
    Unsound {
        /// Its file.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// The folder is in use.
    #[error("{} already holds a run: go on with it by --resume, or choose another folder with --output", .0.display())]
    Occupied(PathBuf),
    /// Another process runs in this folder.
    #[error("another process is running in {}: wait for its end, or stop it", .0.display())]
    Running(PathBuf),
    /// There is something in the folder, but nothing to go on from.
    #[error(
        "{} holds no checkpoint.json, so that there is no run to resume: choose another folder with --output, or run \
         without --resume", .0.display()
    )]
    NoCheckpoint(PathBuf),
    /// There is a symbolic link where the run would write.
    #[error(
        "{} is a symbolic link, and what is written to it would land outside the folder: remove it, or put what it \
         points at in its place", .0.display()
    )]
    Link(PathBuf),
    /// The checkpoint cannot be used.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why not.
        message: String,
    },
    /// The run was begun with another configuration.
    #[error(
        "the run in {} was begun with something else: {}. Give it that again, or begin a new run in another folder",
        folder.display(), what.join("; ")
    )]
    Changed {
        /// Its folder.
        folder: PathBuf,
        /// What is different, and how.
        what: Vec<String>,
    },
    /// A file of the run cannot be written.
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
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::candidates::StoreError),
    /// The set-up or the run failed.
    #[error(transparent)]
    Simulation(#[from] simulation::Error),
    /// This rank failed alone during the run; the result and its candidate are written.
    #[error(transparent)]
    Alone(simulation::Error),
    /// The embedding is configured badly.
    #[error("[embedding]: {0}")]
    Embedding(#[from] crate::embedding::Error),
    /// Another rank failed.
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
}

impl CollectiveError for Error {
    fn is_rank_failure(&self) -> bool {
        self.rank_failure().is_some()
    }
}

impl Error {
    /// For `map_err`: an error of writing to a path.
    pub(crate) fn writing(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }

    /// The failure of this rank alone, after which only [`crate::comm::Comm::abort`] can end the job.
    #[must_use]
    pub fn rank_failure(&self) -> Option<&RankFailure> {
        match self {
            Self::Alone(error) | Self::Simulation(error) => error.rank_failure(),
            _ => None,
        }
    }

    /// Whether the run crashed in a way that left its result behind all the same, as another crash does.
    #[must_use]
    pub fn is_recorded_crash(&self) -> bool {
        matches!(self, Self::Alone(_))
    }

    /// Whether this rank stopped because another one failed, and has nothing to say itself.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Elsewhere(_) | Self::Simulation(simulation::Error::Elsewhere(_)))
    }

    /// Whether it counts as an error of the input: all but files that cannot be written, the store, and one rank alone.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::Write { .. } | Self::Store(_) | Self::Alone(_) => false,
            Self::Simulation(e) => !e.is_rank_failure(),
            _ => true,
        }
    }
}
