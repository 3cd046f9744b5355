// SPDX-License-Identifier: GPL-2.0-or-later
//! Structure files: extended XYZ, LAMMPS data files and LAMMPS dumps.
//!
//! A file that is truncated, or holds numbers that are not finite, or disagrees with its own header, is an error that
//! names the line. No input makes these readers panic, and a header alone never makes them reserve memory.
//!
//! A file may be compressed with gzip, under any name (`al.extxyz.gz`, `dump.al.gz`), and may begin with a byte order mark.
//! A line that is not UTF-8 is read as Latin-1.
pub mod extxyz;
pub mod lammps_data;
pub mod lammps_dump;
mod masses;
pub(crate) mod plain;
mod text;

use crate::structure::{DegenerateCell, Element, FrameError, Structure};
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use plain::PlainText;

/// What went wrong with a structure file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something could not be written.
    #[error("cannot write the structure: {0}")]
    Write(#[from] std::io::Error),
    /// A line does not hold what it should.
    #[error("{}, line {line}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong, and what to do about it.
        message: String,
    },
    /// The elements of the atom types are not known.
    #[error("{}: {message}; give the elements in the order of the types (for example Al,Cu)", path.display())]
    Elements {
        /// The file.
        path: PathBuf,
        /// Which type, and what the file says about it.
        message: String,
    },
    /// The file says of a type what does not go together.
    #[error("{}: {message}", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// Which type, what is said of it, and what to do.
        message: String,
    },
    /// The cell spans no volume.
    #[error("{}, line {line}: {source}", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// The line that completes the cell.
        line: u64,
        /// The cell.
        source: DegenerateCell,
    },
    /// The file has fewer frames than asked for.
    #[error("{} holds {found} frame(s), but frame {wanted} (counted from 0) was asked for", path.display())]
    NoFrame {
        /// The file.
        path: PathBuf,
        /// Frames found.
        found: usize,
        /// The frame asked for, from 0.
        wanted: usize,
    },
    /// Neither name nor content tell the format.
    #[error("cannot tell what kind of file {} is: name it .extxyz or .xyz, .data or .lmp (LAMMPS data), or .dump or \
             .lammpstrj (LAMMPS dump)", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The structure has no LAMMPS form.
    #[error("cannot write a LAMMPS data file: {0}")]
    Frame(#[from] FrameError),
    /// A column or key cannot be written.
    #[error("cannot write {name:?} into extended XYZ: {message}")]
    Column {
        /// The column or key.
        name: String,
        /// Why.
        message: String,
    },
}

/// Most warnings about one file.
const MOST_NOTES: usize = 20;

/// Bytes at the start of a file from which its format is detected.
const LOOKED_AT: u64 = 4096;

/// Which frame of a file with several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Frame {
    /// The first; the rest of the file is not read.
    First,
    /// The last.
    #[default]
    Last,
    /// The frame with this number, from 0.
    Nth(usize),
}

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Extended XYZ.
    ExtXyz,
    /// What `read_data` and `write_data` use.
    LammpsData,
    /// What `dump atom` and `dump custom` write, as text.
    LammpsDump,
}

/// Reads the last frame of a structure file. `hint` lists the elements of the atom types, in the order of the types:
/// for files that do not name them, and to fix the numbering of the types for files that do.
///
/// # Errors
/// [`Error`], with file and line.
pub fn read(path: impl AsRef<Path>, hint: Option<&[Element]>) -> Result<Structure, Error> {
    read_frame(path, hint, Frame::Last)
}

/// Reads one frame of a structure file; see [`read`]. A LAMMPS data file has a single frame.
///
/// # Errors
/// [`Error`], with file and line.
pub fn read_frame(path: impl AsRef<Path>, hint: Option<&[Element]>, frame: Frame) -> Result<Structure, Error> {
    read_noting(path, hint, frame).map(|(structure, _)| structure)
}

/// As [`read_frame`], with warnings: what is unusual in the file, and how it was read.
///
/// # Errors
/// [`Error`], with file and line.
pub fn read_noting(
    path: impl AsRef<Path>,
    hint: Option<&[Element]>,
    frame: Frame,
) -> Result<(Structure, Vec<String>), Error> {
    let path = path.as_ref();
    let mut notes = Vec::new();
    let mut reader = open(path)?;
    let mut start = Vec::new();
    let read = reader.by_ref().take(LOOKED_AT).read_to_end(&mut start);
    read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let format = detect(path, &start);
    let reader = Cursor::new(start).chain(reader);
    let structure = match format.ok_or_else(|| Error::UnknownFormat { path: path.to_owned() })? {
        Format::ExtXyz => extxyz::read_noting(reader, path, hint, frame, &mut notes),
        Format::LammpsDump => lammps_dump::read_noting(reader, path, hint, frame, &mut notes),
        Format::LammpsData => match frame {
            Frame::Nth(wanted @ 1..) => Err(Error::NoFrame { path: path.to_owned(), found: 1, wanted }),
            _ => lammps_data::read_noting(reader, path, hint, &mut notes),
        },
    }?;
    let named = |note: String| format!("{}: {note}", path.display());
    Ok((structure, notes.into_iter().take(MOST_NOTES).map(named).collect()))
}

/// The text of a file.
fn open(path: &Path) -> Result<BufReader<PlainText<File>>, Error> {
    let file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(BufReader::with_capacity(1 << 16, PlainText::limited(file)))
}

/// Tells the format of a file: by its first line where that leaves no doubt (a dump), by its name (also with `.gz` behind
/// it), by its first lines. `start` is the beginning of its text, unpacked.
#[must_use]
pub fn detect(path: &Path, start: &[u8]) -> Option<Format> {
    let text = String::from_utf8_lossy(&start[..start.len().min(LOOKED_AT as usize)]);
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
    if first.starts_with("ITEM:") {
        return Some(Format::LammpsDump);
    }
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("extxyz" | "xyz") => return Some(Format::ExtXyz),
        Some("data" | "lmp" | "lammps") => return Some(Format::LammpsData),
        Some("dump" | "lammpstrj") => return Some(Format::LammpsDump),
        _ if name.starts_with("data.") => return Some(Format::LammpsData),
        _ if name.starts_with("dump.") => return Some(Format::LammpsDump),
        _ => {}
    }
    let ends = |word: &str| text.lines().any(|line| line.split('#').next().unwrap_or("").trim_end().ends_with(word));
    if ends("xlo xhi") || ends(" avec") {
        Some(Format::LammpsData)
    } else if first.trim().parse::<u64>().is_ok() && text.contains('=') {
        Some(Format::ExtXyz)
    } else {
        None
    }
}
