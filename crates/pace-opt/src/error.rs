// SPDX-License-Identifier: GPL-2.0-or-later
//! Error types.

use std::path::PathBuf;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of reading or evaluating a potential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The contents of a file are malformed.
    #[error("{path}: {message}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The fault and, where known, its place in the file.
        message: String,
    },
    /// The contents are malformed: [`Error::File`] before the file's name is known.
    #[error("{0}")]
    Malformed(String),
    /// The file is valid but requires a feature that this evaluator lacks and ML-PACE's own evaluator has.
    #[error(
        "not supported by pace/opt: {0}. ML-PACE's own evaluator reads it: set engine = \"ml-pace\" in lammps-otf, or \
         leave out /opt in LAMMPS"
    )]
    Unsupported(String),
    /// A size in the file, or the memory that it requires, exceeds a limit of this evaluator: [`Error::Unsupported`] before the
    /// file's name is known.
    #[error("too large: {what} is {value}, the limit is {limit}")]
    TooLarge {
        /// The quantity.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// Two atoms are closer than the first bin of the spline table.
    #[error("atoms {i} and {j} are {r:.3e} Å apart: too close to evaluate")]
    Overlap {
        /// Index of the central atom.
        i: usize,
        /// Index of its neighbour.
        j: usize,
        /// Distance in Å.
        r: f64,
    },
    /// The coordinates of an atom or of its neighbour, or the distance between them, are not finite.
    #[error("atom {i} has a coordinate, or a neighbour {j} with one, that is not finite")]
    NotFinite {
        /// Index of the central atom.
        i: usize,
        /// Index of the neighbour.
        j: usize,
    },
    /// Threads could not be started.
    #[error("cannot start threads: {0}")]
    Threads(#[source] std::io::Error),
    /// An argument is invalid or does not fit the potential.
    #[error("{0}")]
    Argument(String),
}

impl Error {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Error::Malformed(message.into())
    }

    /// Prepends the file's name to a message about its contents.
    pub(crate) fn at(self, path: &std::path::Path) -> Self {
        match self {
            Error::Io { .. } | Error::File { .. } => self,
            Error::Unsupported(m) => Error::Unsupported(format!("{}: {m}", path.display())),
            Error::TooLarge { .. } => Error::Unsupported(format!("{}: {self}", path.display())),
            other => Error::File { path: path.to_path_buf(), message: other.to_string() },
        }
    }
}

/// Returns an error if a value is above its limit.
pub(crate) fn limit(what: &'static str, value: usize, limit: usize) -> Result<()> {
    if value > limit {
        return Err(Error::TooLarge { what, value: value as u64, limit: limit as u64 });
    }
    Ok(())
}
