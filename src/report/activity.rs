// SPDX-License-Identifier: GPL-2.0-or-later
//! Whether a process works in the folder of a run or a loop, and what has changed in it.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::{folders, part_folders};
use crate::active_learning;
use crate::config::TrajectoryFormat;
use crate::runner::{files, poll_files};

/// Lock files. The process that works in a folder holds one of them.
const LOCKS: [&str; 2] = [files::LOCK, active_learning::files::LOCK];
/// Length of the end of LAMMPS's log in which its last error is searched.
const LOG_END: u64 = 4096;

/// Whether a process works in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// A process holds the lock of the folder, or of one of its replicas.
    Running,
    /// No process holds a lock.
    Ended,
    /// There is no lock file, or the file system has no locks.
    Unknown,
}

impl Activity {
    /// The activity in the folder of a run, a loop, or replicas. Locks of other machines count if the file system passes them on.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        let replicas = folders(folder, "replica-");
        let places = std::iter::once(folder).chain(replicas.iter().map(PathBuf::as_path));
        let locks = places.flat_map(|place| LOCKS.iter().filter_map(|name| File::open(place.join(name)).ok()));
        let mut activity = Self::Unknown;
        for lock in locks {
            match lock.try_lock_shared() {
                // A lock that can be acquired is not held.
                Ok(()) => activity = Self::Ended,
                Err(TryLockError::WouldBlock) => return Self::Running,
                // The file system has no locks.
                Err(TryLockError::Error(_)) => return Self::Unknown,
            }
        }
        activity
    }
}

/// Whether the run, all replicas, or the loop in a folder has written its result.
#[must_use]
pub fn has_result(folder: &Path) -> bool {
    let replicas = folders(folder, "replica-");
    let all = !replicas.is_empty() && replicas.iter().all(|replica| replica.join(files::RESULT).is_file());
    all || folder.join(files::RESULT).is_file() || folder.join(active_learning::files::FINAL).is_dir()
}

/// The last error in the log of LAMMPS, for a run that ended without a result.
pub(super) fn last_error(folder: &Path) -> Option<String> {
    let mut log = File::open(folder.join(files::LOG)).ok()?;
    let length = log.metadata().ok()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(LOG_END))).ok()?;
    let mut end = Vec::new();
    log.take(LOG_END).read_to_end(&mut end).ok()?;
    let end = String::from_utf8_lossy(&end);
    end.lines().rev().find(|line| line.starts_with("ERROR")).map(|line| line.trim_end().to_owned())
}

/// Names, lengths and times of the files from which a report is made. Two equal values mean that a new report would be the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content(Vec<(PathBuf, u64, Option<SystemTime>)>, Activity);

impl Content {
    /// The present content of a folder. Missing files are left out.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        let (_, parts) = part_folders(folder);
        let mut paths = [files::CANDIDATES, files::RESULT, files::PROVENANCE].map(|name| folder.join(name)).to_vec();
        if folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("replica-")) {
            paths.push(folder.join("..").join(files::CANDIDATES));
        }
        for (part, _) in parts {
            paths.extend(poll_files(&part).unwrap_or_default());
            paths.extend([files::RESULT, files::PROVENANCE].map(|name| part.join(name)));
            paths.extend([TrajectoryFormat::Dump, TrajectoryFormat::Extxyz].map(|format| part.join(format.file())));
        }
        let state = |path: PathBuf| {
            // On network file systems, opening a file refreshes its length.
            let known = File::open(&path).and_then(|file| file.metadata()).ok()?;
            Some((path, known.len(), known.modified().ok()))
        };
        Self(paths.into_iter().filter_map(state).collect(), Activity::of(folder))
    }
}

/// The phase in which the last round of a loop is, for a sentence.
pub(super) fn phase(store: &[crate::candidates::Round]) -> String {
    use crate::candidates::Phase;
    let Some(round) = store.last() else { return "before the first round".into() };
    let phase = match round.phase {
        Phase::Explore => "exploration",
        Phase::Select => "selection of candidates",
        Phase::Label => "labelling",
        Phase::Train => "training",
        Phase::Done => "its end",
    };
    format!("round {}, {phase}", round.number)
}
