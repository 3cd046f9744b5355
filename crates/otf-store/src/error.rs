// SPDX-License-Identifier: GPL-2.0-or-later
//! Errors of the candidate store.

use super::status::Status;
use rusqlite::ErrorCode;
use std::path::{Path, PathBuf};

/// An error of the candidate store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file does not exist, and creating it was not requested.
    #[error("there is no candidate store {}: check the path, or let a run create it", path.display())]
    Missing {
        /// The database.
        path: PathBuf,
    },
    /// The file is not an SQLite database.
    #[error("{} is not an SQLite database, so it cannot be a candidate store: choose another path", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is an SQLite database, but not one of ASE's.
    #[error(
        "{} is an SQLite database, but not an ASE database ({detail}). The file is unchanged: choose another path",
        path.display()
    )]
    NotAse {
        /// The database.
        path: PathBuf,
        /// The missing part.
        detail: String,
    },
    /// The version of ASE's schema is not supported.
    #[error(
        "{} has version {found} of ASE's database schema, but lammps-otf supports version {} only: {}",
        path.display(),
        super::ase_db::SCHEMA_VERSION,
        if *found > super::ase_db::SCHEMA_VERSION { "update lammps-otf" } else { "convert it with `python -m ase.db.convert FILE`" }
    )]
    AseVersion {
        /// The database.
        path: PathBuf,
        /// The version found in it.
        found: i64,
    },
    /// The database was written by a newer lammps-otf.
    #[error(
        "{} was written by a newer lammps-otf (store version {found}; versions up to {known} are supported): update \
         lammps-otf. The file is unchanged",
        path.display()
    )]
    StoreVersion {
        /// The database.
        path: PathBuf,
        /// The version found in it.
        found: i64,
        /// The newest supported version.
        known: i64,
    },
    /// The file is damaged.
    #[error(
        "{0} is damaged ({detail}). Stop all programs that use it and make a copy of the file. Then recover it with \
         `sqlite3 {0} .recover | sqlite3 recovered.db`, check the result with `lammps-otf candidates check`, and \
         replace the file by it or by a backup",
        path.display()
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// The message of SQLite.
        detail: String,
    },
    /// No write permission, on the file or on its folder.
    #[error(
        "cannot {doing} the candidate store {}: the file or its folder is read-only ({detail}). SQLite writes a journal \
         beside the database: make both writable",
        path.display()
    )]
    ReadOnly {
        /// The database.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
        /// The message of the system.
        detail: String,
    },
    /// The file was moved, deleted or replaced while it was open.
    #[error(
        "cannot {doing} the candidate store {}: the file was moved, deleted or replaced while it was open. Restore the \
         original file under this name, and continue with `--resume`, or with the same `loop` command", path.display()
    )]
    Moved {
        /// Path of the database when it was opened.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
    },
    /// No space is left, or a quota or file-size limit is reached.
    #[error(
        "cannot {doing} the candidate store {}: the disk is full, or a quota or file-size limit is reached ({detail}). \
         The stored data are intact: free some space and try again",
        path.display()
    )]
    Full {
        /// The database.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
        /// The message of SQLite.
        detail: String,
    },
    /// Another process held the lock of the database for too long.
    #[error(
        "cannot {doing} the candidate store {}: another process kept it locked for {seconds} s. Close the program \
         that holds a transaction open (an `ase.db` `with` block, an sqlite3 shell)",
        path.display()
    )]
    Busy {
        /// The database.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
        /// The waiting time, s.
        seconds: u64,
    },
    /// ASE's lock file was not removed.
    #[error(
        "cannot {doing} the candidate store: the lock file {} has been held by {owner} for more than {seconds} s. If no \
         program uses the database, remove the lock file",
        path.display()
    )]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
        /// The process that created the lock file, if known.
        owner: String,
        /// The waiting time, s.
        seconds: u64,
    },
    /// Another error of SQLite.
    #[error("cannot {doing} the candidate store {}: {source}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
    /// An error of the file system.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
        /// The error of the system.
        source: std::io::Error,
    },
    /// There is no such row.
    #[error("there is no candidate {id} in {}", path.display())]
    NoSuchCandidate {
        /// The database.
        path: PathBuf,
        /// The row.
        id: i64,
    },
    /// A row of the database is invalid.
    #[error("candidate {id} in {} cannot be read: {reason}", path.display())]
    InvalidRow {
        /// The database.
        path: PathBuf,
        /// The row.
        id: i64,
        /// The problem.
        reason: String,
    },
    /// The atoms of a row are not the stored ones.
    #[error(
        "the atoms of candidate {id} in {} differ from the stored atoms: {reason}. The force mask belongs to the stored \
         atoms, so the label is not used. {}",
        path.display(),
        if *restorable {
            "To restore the atoms and label them again, set the status to rejected and then to pending_dft"
        } else {
            "An older version stored the row without a copy of the atoms: delete the row, or restore it from a backup"
        }
    )]
    Mismatch {
        /// The database.
        path: PathBuf,
        /// The row.
        id: i64,
        /// The difference.
        reason: String,
        /// Whether the row has a copy of the stored atoms.
        restorable: bool,
    },
    /// A candidate is invalid.
    #[error("the candidate cannot be stored: {0}")]
    InvalidCandidate(String),
    /// A key or its value is not valid in ASE.
    #[error("the key {key:?} cannot be stored: {reason}")]
    InvalidKey {
        /// The key.
        key: String,
        /// The reason.
        reason: String,
    },
    /// Labels do not belong to the candidate or are not finite.
    #[error("the labels of candidate {id} cannot be stored: {reason}")]
    InvalidLabels {
        /// The row.
        id: i64,
        /// The reason.
        reason: String,
    },
    /// A transition of the status is not allowed.
    #[error("candidate {id} is {} and cannot become {to}", .from.map_or("without a status", Status::as_str))]
    Transition {
        /// The row.
        id: i64,
        /// The current status.
        from: Option<Status>,
        /// The requested status.
        to: Status,
    },
    /// A worker reports the result of a candidate that it has not claimed.
    #[error(
        "candidate {id} is not claimed by {worker:?} (current claim: {holder}), so the result was not stored. The claim was \
         released, for example because it was stale"
    )]
    ClaimLost {
        /// The row.
        id: i64,
        /// The worker that reports.
        worker: String,
        /// The worker that holds the claim, or `none`.
        holder: String,
    },
    /// An export cannot be written.
    #[error("cannot export: {0}")]
    Export(String),
}

impl StoreError {
    /// Converts an error of SQLite to the most specific error.
    pub(super) fn sqlite(
        path: &Path,
        doing: &'static str,
        timeout: std::time::Duration,
        source: rusqlite::Error,
    ) -> Self {
        let path = path.to_owned();
        let detail = source.to_string();
        let Some(error) = source.sqlite_error() else { return Self::Sqlite { path, doing, source } };
        // The low byte of an extended code is the basic code. 10 is SQLITE_IOERR, whose write, fsync, truncate and
        // file-size failures all mean that the data cannot be written to the disk.
        let write_failed = matches!(error.extended_code, 778 | 1034 | 1290 | 1546);
        match error.code {
            ErrorCode::NotADatabase => Self::NotADatabase { path },
            ErrorCode::DatabaseCorrupt => Self::Corrupt { path, detail },
            // SQLITE_READONLY_DBMOVED, or a missing folder, in which no journal can be created.
            ErrorCode::ReadOnly if error.extended_code == 1032 => Self::Moved { path, doing },
            ErrorCode::CannotOpen | ErrorCode::ReadOnly if doing != "open" && !path.exists() => {
                Self::Moved { path, doing }
            }
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Self::ReadOnly { path, doing, detail },
            ErrorCode::CannotOpen if path.parent().is_none_or(|p| p.as_os_str().is_empty() || p.is_dir()) => {
                Self::ReadOnly { path, doing, detail }
            }
            ErrorCode::DiskFull => Self::Full { path, doing, detail },
            ErrorCode::SystemIoFailure if write_failed => Self::Full { path, doing, detail },
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                Self::Busy { path, doing, seconds: timeout.as_secs() }
            }
            _ => Self::Sqlite { path, doing, source },
        }
    }
}
