// SPDX-License-Identifier: GPL-2.0-or-later
//! What can go wrong with a store.

use super::status::Status;
use rusqlite::ErrorCode;
use std::path::{Path, PathBuf};

/// An error of the candidate store: what was tried, on which file, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file does not exist and was not to be created.
    #[error("there is no candidate store {}: check the path, or let a run create it", path.display())]
    Missing {
        /// The database.
        path: PathBuf,
    },
    /// The file is something else than an SQLite database.
    #[error("{} is not an SQLite database, so it cannot be a candidate store: choose another path", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is an SQLite database, but not one of ASE's.
    #[error(
        "{} is an SQLite database, but not an ASE one ({detail}); nothing was changed: choose another path",
        path.display()
    )]
    NotAse {
        /// The database.
        path: PathBuf,
        /// What is missing.
        detail: String,
    },
    /// ASE's schema has another version than the one written here.
    #[error(
        "{} has version {found} of ASE's database schema, this program works with version {}: {}",
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
        "{} was written by a newer lammps-otf (store version {found}, this program knows up to {known}): update \
         lammps-otf; nothing was changed",
        path.display()
    )]
    StoreVersion {
        /// The database.
        path: PathBuf,
        /// The version found in it.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// The file is damaged.
    #[error(
        "{0} is damaged ({detail}). Stop everything that uses it and copy the file away. Then save what can be read: \
         `sqlite3 {0} .recover | sqlite3 recovered.db`, check the result with `lammps-otf candidates check`, and \
         put it, or your last backup, in its place",
        path.display()
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// No write permission, on the file or on its folder.
    #[error(
        "cannot {doing} the candidate store {}: it or its folder is read-only ({detail}). SQLite writes a journal \
         beside the database, so both must be writable",
        path.display()
    )]
    ReadOnly {
        /// The database.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        detail: String,
    },
    /// Somebody has moved or deleted the file, or put another one in its place, since it was opened.
    #[error(
        "cannot {doing} the candidate store {}: the file was moved, deleted or replaced while it was open. Put it back under \
         this name, with nothing that was there meanwhile, and go on (`--resume`, or `loop` again)", path.display()
    )]
    Moved {
        /// Where the database was.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
    },
    /// No space left, or a file-size limit.
    #[error(
        "cannot {doing} the candidate store {}: the disk, a quota or a file-size limit is full ({detail}). What was \
         stored before is intact; free some space and try again",
        path.display()
    )]
    Full {
        /// The database.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What SQLite says.
        detail: String,
    },
    /// Another process kept the database for itself for too long.
    #[error(
        "cannot {doing} the candidate store {}: another process has kept it locked for {seconds} s. Look for a \
         program that holds a transaction open (an `ase.db` `with` block, an sqlite3 shell)",
        path.display()
    )]
    Busy {
        /// The database.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// ASE's lock file did not go away.
    #[error(
        "cannot {doing} the candidate store: the lock file {} is held by {owner} for more than {seconds} s. If no \
         program works on the database, remove that file",
        path.display()
    )]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Who made the lock file, as far as it can be told.
        owner: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Any other error of SQLite.
    #[error("cannot {doing} the candidate store {}: {source}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// SQLite's own error.
        source: rusqlite::Error,
    },
    /// An error of the file system.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The system's own error.
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
    /// A row of the database cannot be understood.
    #[error("candidate {id} in {} cannot be read: {reason}", path.display())]
    InvalidRow {
        /// The database.
        path: PathBuf,
        /// The row.
        id: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// The atoms of a row are not those that were stored.
    #[error(
        "candidate {id} in {} does not hold the atoms that were stored, in their order: {reason}. Its force mask belongs \
         to those atoms, so its label is not used. {}",
        path.display(),
        if *restorable {
            "Set its status to rejected and then to pending_dft to restore them and label them again"
        } else {
            "It is of a version that kept no copy of them: delete the row, or restore it from a backup"
        }
    )]
    Mismatch {
        /// The database.
        path: PathBuf,
        /// The row.
        id: i64,
        /// In what the atoms differ.
        reason: String,
        /// Whether the atoms that were stored are still known.
        restorable: bool,
    },
    /// A candidate that must not be stored.
    #[error("the candidate cannot be stored: {0}")]
    InvalidCandidate(String),
    /// A key that ASE would refuse or misread.
    #[error("the key {key:?} cannot be stored: {reason}")]
    InvalidKey {
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
    /// Labels that do not fit the candidate.
    #[error("the labels of candidate {id} cannot be stored: {reason}")]
    InvalidLabels {
        /// The row.
        id: i64,
        /// What is wrong with them.
        reason: String,
    },
    /// A status that cannot follow the present one.
    #[error("candidate {id} is {} and cannot become {to}", .from.map_or("without a status", Status::as_str))]
    Transition {
        /// The row.
        id: i64,
        /// Its status now.
        from: Option<Status>,
        /// The status asked for.
        to: Status,
    },
    /// A worker reports on a candidate that it does not hold.
    #[error(
        "candidate {id} is not claimed by {worker:?} but by {holder:?}: the claim was released, for instance because \
         it had grown stale; the result was not stored"
    )]
    ClaimLost {
        /// The row.
        id: i64,
        /// Who reports.
        worker: String,
        /// Who holds the claim.
        holder: String,
    },
    /// An export cannot be written.
    #[error("cannot export: {0}")]
    Export(String),
}

impl StoreError {
    /// Sorts SQLite's errors into those that a user can do something about, and the rest.
    pub(super) fn sqlite(
        path: &Path,
        doing: &'static str,
        timeout: std::time::Duration,
        source: rusqlite::Error,
    ) -> Self {
        let path = path.to_owned();
        let detail = source.to_string();
        let Some(error) = source.sqlite_error() else { return Self::Sqlite { path, doing, source } };
        // The low byte of an extended code is the plain code: 10 is SQLITE_IOERR, whose write, fsync, truncate and
        // file-size failures all mean that the disk would not take the data.
        let write_failed = matches!(error.extended_code, 778 | 1034 | 1290 | 1546);
        match error.code {
            ErrorCode::NotADatabase => Self::NotADatabase { path },
            ErrorCode::DatabaseCorrupt => Self::Corrupt { path, detail },
            // SQLITE_READONLY_DBMOVED; and where its folder is gone, no journal can be made.
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
