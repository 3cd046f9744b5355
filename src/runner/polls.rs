// SPDX-License-Identifier: GPL-2.0-or-later
//! The polls of a run, one JSON line each, in files of limited size.
//!
//! Lines are appended to `polls.jsonl`. When this file is full, it is renamed to `polls.N.jsonl` with the next number N, and a
//! new `polls.jsonl` is started. If there are more files than the limit, the oldest is removed. A resumed run removes all
//! lines after its checkpoint, also across files.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, files};
use crate::config::InferenceConfig;

/// A position at which a line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Number of full files so far.
    #[serde(default)]
    pub(super) full: u64,
    /// Length of `polls.jsonl` in bytes.
    pub(super) bytes: u64,
}

/// Writes the lines of the polls.
pub(super) struct Polls {
    folder: PathBuf,
    file: File,
    at: Position,
    /// Maximum length of a file in bytes. Lines are never split.
    max_bytes: u64,
    /// Maximum number of files.
    max_files: u64,
}

/// The existing files with polls of a run, the oldest first.
///
/// # Errors
/// If the folder cannot be read.
pub fn poll_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut numbers = full_files(folder)?;
    numbers.sort_unstable();
    let mut paths: Vec<PathBuf> = numbers.into_iter().map(|n| full_file(folder, n)).collect();
    paths.extend(Some(folder.join(files::POLLS)).filter(|path| path.is_file()));
    Ok(paths)
}

fn full_file(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("polls.{number}.jsonl"))
}

/// Numbers of the full files.
fn full_files(folder: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in folder.read_dir()? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|n| n.strip_prefix("polls.")?.strip_suffix(".jsonl")?.parse().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}

impl Polls {
    /// Opens the files of a run at a position, and removes all lines after it.
    pub(super) fn open_at(folder: &Path, at: Position, config: &InferenceConfig) -> Result<Self, Error> {
        let path = folder.join(files::POLLS);
        let writing = |source| Error::Write { path: path.clone(), source };
        let mut later: Vec<u64> = full_files(folder).map_err(writing)?.into_iter().filter(|n| *n > at.full).collect();
        later.sort_unstable();
        // Newest first, so that a process that is killed here can repeat this step.
        while let Some(number) = later.pop() {
            let full = full_file(folder, number);
            if number == at.full + 1 {
                std::fs::rename(full, &path).map_err(writing)?;
            } else {
                std::fs::remove_file(full).map_err(writing)?;
                if later.is_empty() {
                    // The file of the checkpoint was removed as one of the oldest.
                    std::fs::write(&path, "").map_err(writing)?;
                }
            }
        }
        let polls = Self::open(folder, at.full, config)?;
        if polls.at.bytes > at.bytes {
            polls.file.set_len(at.bytes).map_err(writing)?;
        }
        Ok(Self { at: Position { bytes: polls.at.bytes.min(at.bytes), ..polls.at }, ..polls })
    }

    /// Opens the files at their end, on a rank that continues writing after a rank failure of rank 0.
    pub(super) fn at_end(folder: &Path, config: &InferenceConfig) -> Result<Self, Error> {
        let full = full_files(folder).unwrap_or_default().into_iter().max().unwrap_or(0);
        Self::open(folder, full, config)
    }

    fn open(folder: &Path, full: u64, config: &InferenceConfig) -> Result<Self, Error> {
        let path = folder.join(files::POLLS);
        let file = File::options().create(true).append(true).open(&path);
        let sized = file.and_then(|file| Ok((file.metadata()?.len(), file)));
        let (bytes, file) = sized.map_err(Error::writing(path))?;
        let (max_bytes, max_files) = ((config.job.polls_file_size * 1e6) as u64, u64::from(config.job.polls_files));
        Ok(Self { folder: folder.to_owned(), file, at: Position { full, bytes }, max_bytes, max_files })
    }

    /// The position of the next line.
    pub(super) fn position(&self) -> Position {
        self.at
    }

    /// Writes a line, including its newline, in one call, so that a concurrent reader never sees a partial line.
    pub(super) fn write(&mut self, line: &[u8]) -> Result<(), Error> {
        if self.at.bytes > 0 && self.at.bytes + line.len() as u64 > self.max_bytes {
            self.rotate()?;
        }
        let path = || self.folder.join(files::POLLS);
        self.file.write_all(line).map_err(|source| Error::Write { path: path(), source })?;
        self.at.bytes += line.len() as u64;
        Ok(())
    }

    /// Renames the full file and starts a new one.
    fn rotate(&mut self) -> Result<(), Error> {
        let path = self.folder.join(files::POLLS);
        let writing = |source| Error::Write { path: path.clone(), source };
        let full = self.at.full + 1;
        self.file.sync_data().map_err(writing)?;
        std::fs::rename(&path, full_file(&self.folder, full)).map_err(writing)?;
        self.file = File::options().create(true).append(true).open(&path).map_err(writing)?;
        self.at = Position { full, bytes: 0 };
        // `max_files` includes `polls.jsonl`.
        if let Some(oldest) = full.checked_sub(self.max_files.saturating_sub(1)).filter(|n| *n > 0) {
            let _ = std::fs::remove_file(full_file(&self.folder, oldest));
        }
        Ok(())
    }

    /// Waits until all lines are on the disk.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.file.sync_all()
    }
}
