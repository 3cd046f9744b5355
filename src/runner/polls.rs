// SPDX-License-Identifier: GPL-2.0-or-later
//! The lines of `polls.jsonl`, in files of bounded size.
//!
//! `polls.jsonl` is the one that is written. When it is full it becomes `polls.N.jsonl`, N one more than that of the one
//! before, and another is begun; of so many files the oldest are removed. A run that is continued cuts off what was written
//! after its checkpoint, also where that goes back to an earlier file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, files};
use crate::config::InferenceConfig;

/// Where the next line goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Number of files that are full.
    #[serde(default)]
    pub(super) full: u64,
    /// Bytes in `polls.jsonl`.
    pub(super) bytes: u64,
}

/// The lines of the polls, as they are written.
pub(super) struct Polls {
    folder: PathBuf,
    file: File,
    at: Position,
    /// Most bytes of a file; a line is never cut.
    limit: u64,
    /// Most files.
    most: u64,
}

/// The files with the lines of a run's polls, the oldest first; those that exist.
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

/// Numbers of the files that are full.
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
    /// Opens the files of a run at a place in them; what comes after it is removed.
    pub(super) fn at(folder: &Path, at: Position, config: &InferenceConfig) -> Result<Self, Error> {
        let path = folder.join(files::POLLS);
        let writing = |source| Error::Write { path: path.clone(), source };
        let mut later: Vec<u64> = full_files(folder).map_err(writing)?.into_iter().filter(|n| *n > at.full).collect();
        later.sort_unstable();
        // The newest first: killed in between, this finds the rest again.
        while let Some(number) = later.pop() {
            let full = full_file(folder, number);
            if number == at.full + 1 {
                std::fs::rename(full, &path).map_err(writing)?;
            } else {
                std::fs::remove_file(full).map_err(writing)?;
                if later.is_empty() {
                    // That of the checkpoint was among the oldest, and is gone.
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

    /// Opens them where they end, on a rank that goes on writing for another.
    pub(super) fn at_end(folder: &Path, config: &InferenceConfig) -> Result<Self, Error> {
        let full = full_files(folder).unwrap_or_default().into_iter().max().unwrap_or(0);
        Self::open(folder, full, config)
    }

    fn open(folder: &Path, full: u64, config: &InferenceConfig) -> Result<Self, Error> {
        let path = folder.join(files::POLLS);
        let file = File::options().create(true).append(true).open(&path);
        let sized = file.and_then(|file| Ok((file.metadata()?.len(), file)));
        let (bytes, file) = sized.map_err(Error::writing(path))?;
        let (limit, most) = ((config.job.polls_file_size * 1e6) as u64, u64::from(config.job.polls_files));
        Ok(Self { folder: folder.to_owned(), file, at: Position { full, bytes }, limit, most })
    }

    /// Where the next line goes.
    pub(super) fn position(&self) -> Position {
        self.at
    }

    /// Writes a line, which ends with its newline. In one piece, so that who reads along never sees half of one.
    pub(super) fn write(&mut self, line: &[u8]) -> Result<(), Error> {
        if self.at.bytes > 0 && self.at.bytes + line.len() as u64 > self.limit {
            self.turn_over()?;
        }
        let path = || self.folder.join(files::POLLS);
        self.file.write_all(line).map_err(|source| Error::Write { path: path(), source })?;
        self.at.bytes += line.len() as u64;
        Ok(())
    }

    /// Puts the full file aside and begins another.
    fn turn_over(&mut self) -> Result<(), Error> {
        let path = self.folder.join(files::POLLS);
        let writing = |source| Error::Write { path: path.clone(), source };
        let full = self.at.full + 1;
        self.file.sync_data().map_err(writing)?;
        std::fs::rename(&path, full_file(&self.folder, full)).map_err(writing)?;
        self.file = File::options().create(true).append(true).open(&path).map_err(writing)?;
        self.at = Position { full, bytes: 0 };
        // With the present one there are `most`.
        if let Some(oldest) = full.checked_sub(self.most.saturating_sub(1)).filter(|n| *n > 0) {
            let _ = std::fs::remove_file(full_file(&self.folder, oldest));
        }
        Ok(())
    }

    /// Waits until all is on the disk.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.file.sync_all()
    }
}
