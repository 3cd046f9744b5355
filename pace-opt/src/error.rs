// SPDX-License-Identifier: GPL-2.0-or-later
//! What can go wrong, as types.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that reading or evaluating a potential can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read from the disk.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file is not what its format says.
    #[error("{path}: {message}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the place where it is known.
        message: String,
    },
    /// The contents are malformed (the same as [`Error::File`] before the file's name is known).
    #[error("{0}")]
    Malformed(String),
    /// The file is valid, and asks for something that this evaluator does not implement and ML-PACE's own does.
    #[error(
        "not supported by pace/opt: {0}. ML-PACE's own evaluator reads it: set engine = \"ml-pace\" in lammps-otf, or \
         leave out /opt in LAMMPS"
    )]
    Unsupported(String),
    /// A size in the file, or the memory it would take, passes a limit of this evaluator (the same as
    /// [`Error::Unsupported`] before the file's name is known).
    #[error("too large: {what} is {value}, the limit is {limit}")]
    TooLarge {
        /// Which quantity.
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
    /// An atom's coordinates, or what was computed from them, are not finite.
    #[error("atom {i} has a coordinate, or a neighbour {j} with one, that is not finite")]
    NotFinite {
        /// Index of the central atom.
        i: usize,
        /// Index of the neighbour.
        j: usize,
    },
    /// An argument does not fit the potential.
    #[error("{0}")]
    Argument(String),
}

impl Error {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Error::Malformed(message.into())
    }

    /// Puts the file's name in front of a message about its contents.
    pub(crate) fn at(self, path: &std::path::Path) -> Self {
        match self {
            Error::Io { .. } | Error::File { .. } => self,
            Error::Unsupported(m) => Error::Unsupported(format!("{}: {m}", path.display())),
            Error::TooLarge { .. } => Error::Unsupported(format!("{}: {self}", path.display())),
            other => Error::File { path: path.to_path_buf(), message: other.to_string() },
        }
    }
}

/// Refuses a value above a limit.
pub(crate) fn limit(what: &'static str, value: usize, limit: usize) -> Result<()> {
    if value > limit {
        return Err(Error::TooLarge { what, value: value as u64, limit: limit as u64 });
    }
    Ok(())
}
