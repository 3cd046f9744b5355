// SPDX-License-Identifier: GPL-2.0-or-later
//! Errors of a run.

use std::path::PathBuf;

use crate::comm::{CollectiveError, RemoteError};
use crate::lammps::RankFailure;
use crate::{io, simulation};

/// An error that ends a run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The calibration of γ cannot be used.
    #[error("cannot use the calibration {}: {reason}", path.display())]
    Calibration {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The structure cannot be read.
    #[error(transparent)]
    Structure(#[from] io::Error),
    /// The structure cannot be simulated.
    #[error("the structure {name}: {message}")]
    InvalidStructure {
        /// Path of its file.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// The folder already holds a run.
    #[error("{} already holds a run: continue it with --resume, or choose another folder with --output", .0.display())]
    Occupied(PathBuf),
    /// Another process runs in this folder.
    #[error("another process is running in {}: wait until it ends, or stop it", .0.display())]
    Running(PathBuf),
    /// The folder has files, but no checkpoint.
    #[error(
        "cannot resume the run in {}: there is no checkpoint.json. Choose another folder with --output, or run without \
         --resume", .0.display()
    )]
    NoCheckpoint(PathBuf),
    /// The run to continue has no state to continue from.
    #[error(
        "cannot continue the run in {}: it has no checkpoint. A run writes one every `checkpoint_interval` steps and when it \
         ends, unless that is 0 or the run crashed",
        .0.display()
    )]
    NoState(PathBuf),
    /// The run to continue has other atoms.
    #[error(
        "cannot continue the run in {}: it has other atoms. These settings, or the files that they name, differ: {}",
        folder.display(), what.join(", ")
    )]
    OtherAtoms {
        /// Its folder.
        folder: PathBuf,
        /// The settings.
        what: Vec<&'static str>,
    },
    /// The run to continue has done all steps.
    #[error(
        "cannot continue the run in {}: it has done {done} steps, and `steps` is {steps}. Increase it: it counts from the first \
         step of that run",
        folder.display()
    )]
    NoStepsLeft {
        /// Its folder.
        folder: PathBuf,
        /// The steps that it has done.
        done: i64,
        /// The setting.
        steps: u64,
    },
    /// Settings that have an effect only at the start of a run are not those of the run to continue.
    #[error(
        "cannot continue the run in {} with other values of settings that act only at the start of a run: {}. Use those of that \
         run",
        folder.display(), what.join(", ")
    )]
    ActsOnce {
        /// Its folder.
        folder: PathBuf,
        /// The settings and commands.
        what: Vec<String>,
    },
    /// The run to resume does not continue this run.
    #[error(
        "the run in {} does not continue the run in {}: resume it without --from, or choose another folder with --output",
        folder.display(), parent.display()
    )]
    OtherParent {
        /// The folder to resume.
        folder: PathBuf,
        /// The folder of `--from`.
        parent: PathBuf,
    },
    /// A path that the run writes to is a symbolic link.
    #[error(
        "{} is a symbolic link, and its target may be outside the folder: remove the link, or replace it by its target",
        .0.display()
    )]
    Link(PathBuf),
    /// The checkpoint cannot be used.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// The reason.
        message: String,
    },
    /// The run was started with another configuration.
    #[error(
        "the run in {} was started with other settings: {}. Restore them, or start a new run in another folder",
        folder.display(), what.join("; ")
    )]
    Changed {
        /// Its folder.
        folder: PathBuf,
        /// The differences.
        what: Vec<String>,
    },
    /// A file of the run cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The potential's files cannot be read.
    #[error("cannot read the potential: {0}")]
    Potential(std::io::Error),
    /// The cutoff of the potential is unknown.
    #[error("the cutoff of the potential is unknown: set `cutoff` (Å) in [potential]")]
    Cutoff,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::candidates::StoreError),
    /// The set-up or the run failed.
    #[error(transparent)]
    Simulation(#[from] simulation::Error),
    /// Rank failure: this rank failed alone during the run. The result and the candidate of the fallback region are written.
    #[error(transparent)]
    RankFailure(simulation::Error),
    /// The settings in `[embedding]` cannot be used.
    #[error("[embedding]: {0}")]
    Embedding(#[from] crate::embedding::Error),
    /// Another rank failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl CollectiveError for Error {
    fn is_rank_failure(&self) -> bool {
        self.rank_failure().is_some()
    }
}

impl Error {
    /// Converts an I/O error to [`Error::Write`] for this path; for `map_err`.
    pub(crate) fn writing(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }

    /// The failure of this rank alone. After it, only [`crate::comm::Comm::abort`] can end the job.
    #[must_use]
    pub fn rank_failure(&self) -> Option<&RankFailure> {
        match self {
            Self::RankFailure(error) | Self::Simulation(error) => error.rank_failure(),
            _ => None,
        }
    }

    /// Whether the run ended by a rank failure whose result was written, as for any other crash.
    #[must_use]
    pub fn is_recorded_crash(&self) -> bool {
        matches!(self, Self::RankFailure(_))
    }

    /// Whether this rank stopped only because another one failed. Its message then repeats that of the other rank.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Remote(_) | Self::Simulation(simulation::Error::Remote(_)))
    }

    /// Whether the error is caused by the input: all errors except files that cannot be written, errors of the store, and rank
    /// failures.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::Write { .. } | Self::Store(_) | Self::RankFailure(_) => false,
            Self::Simulation(e) => !e.is_rank_failure(),
            _ => true,
        }
    }
}
