// SPDX-License-Identifier: GPL-2.0-or-later
//! Structure files: extended XYZ, LAMMPS data files and LAMMPS dumps, and all formats that ASE reads, if there is a Python with ASE.
//! Extended XYZ, LAMMPS data files and POSCAR files are written.
//!
//! A file that is truncated, contains numbers that are not finite, or contradicts its own header is an error with the
//! line number. The readers do not panic on any input, and they do not allocate memory according to a header alone.
//!
//! Files compressed with gzip are detected by content (`al.extxyz.gz`, `dump.al.gz`). A byte order mark is skipped. A line
//! that is not UTF-8 is read as Latin-1.
mod convert;
pub mod extxyz;
pub mod lammps_data;
pub mod lammps_dump;
mod line;
mod masses;
pub(crate) mod plain;
pub mod poscar;
mod text;
pub mod trajectory;

use crate::structure::{DegenerateCell, Element, FrameError, Structure};
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

pub use line::{LineEnd, MAX_LINE_LENGTH, read_line};
use plain::PlainText;

/// The error of reading or writing a structure file.
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
    /// Writing failed.
    #[error("cannot write the structure: {0}")]
    Write(#[from] std::io::Error),
    /// A line is invalid.
    #[error("{}, line {line}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The problem and its remedy.
        message: String,
    },
    /// The elements of the atom types are not known.
    #[error("{}: {message}; give the elements in the order of the types (for example Al,Cu)", path.display())]
    Elements {
        /// The file.
        path: PathBuf,
        /// The type and the data of the file about it.
        message: String,
    },
    /// The data of the file about a type are contradictory.
    #[error("{}: {message}", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// The type, the contradiction, and its remedy.
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
    /// The file has fewer frames than requested.
    #[error("{} has {found} frame(s), but frame {wanted} (counted from 0) was requested", path.display())]
    NoFrame {
        /// The file.
        path: PathBuf,
        /// Number of frames in the file.
        found: usize,
        /// The requested frame, from 0.
        wanted: usize,
    },
    /// The format cannot be detected from name and content, and ASE cannot read the file.
    #[error(
        "cannot detect the format of {0}, and ASE did not read it: {reason}. Convert it with `ase convert {0} {1}`. A file in extended \
         XYZ or of LAMMPS needs a name that ends in .extxyz, .xyz, .data, .lmp, .dump or .lammpstrj",
        path.display(), path.with_extension("extxyz").display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Why ASE did not read it.
        reason: String,
    },
    /// The structure cannot be rotated into LAMMPS's frame.
    #[error("cannot write a LAMMPS data file: {0}")]
    Frame(#[from] FrameError),
    /// A column or key cannot be written.
    #[error("cannot write {name:?} to extended XYZ: {message}")]
    Column {
        /// The column or key.
        name: String,
        /// Why.
        message: String,
    },
}

/// Largest number of warnings about one file.
const MAX_WARNINGS: usize = 20;

/// Number of bytes at the start of a file from which its format is detected.
const DETECTION_LENGTH: u64 = 4096;

/// Selection of a frame of a trajectory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Frame {
    /// The first; the rest of the file is not read.
    First,
    /// The last.
    #[default]
    Last,
    /// The frame with this index, from 0.
    Nth(usize),
}

impl Frame {
    /// Whether the frame with this index, from 0, is selected before the end of the file is known.
    fn is_index(self, index: usize) -> bool {
        match self {
            Self::First => index == 0,
            Self::Last => false,
            Self::Nth(wanted) => index == wanted,
        }
    }
}

/// A structure file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Extended XYZ.
    ExtXyz,
    /// LAMMPS data file, as read by `read_data` and written by `write_data`.
    LammpsData,
    /// LAMMPS text dump, as written by `dump atom` and `dump custom`.
    LammpsDump,
}

/// Reads the last frame of a structure file. `hint` lists the elements in the order of the types. It is required for
/// files without element names and fixes the numbering of the types for other files.
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
    read_with_warnings(path, hint, frame).map(|(structure, _)| structure)
}

/// As [`read_frame`], and also returns warnings (at most 20) about unusual content and how it was interpreted.
///
/// # Errors
/// [`Error`], with file and line.
pub fn read_with_warnings(
    path: impl AsRef<Path>,
    hint: Option<&[Element]>,
    frame: Frame,
) -> Result<(Structure, Vec<String>), Error> {
    let path = path.as_ref();
    let mut warnings = Vec::new();
    let (format, reader) = detected(path)?;
    let structure = match format {
        Format::ExtXyz => extxyz::read_with_warnings(reader, path, hint, frame, &mut warnings),
        Format::LammpsDump => lammps_dump::read_with_warnings(reader, path, hint, frame, &mut warnings),
        Format::LammpsData => match frame {
            Frame::Nth(wanted @ 1..) => Err(Error::NoFrame { path: path.to_owned(), found: 1, wanted }),
            _ => lammps_data::read_with_warnings(reader, path, hint, &mut warnings),
        },
    }?;
    let with_path = |warning: String| format!("{}: {warning}", path.display());
    Ok((structure, warnings.into_iter().take(MAX_WARNINGS).map(with_path).collect()))
}

/// Passes all frames of a structure file to `use_frame`, with one frame in memory at a time. `hint` as in [`read`].
///
/// # Errors
/// [`Error`], with file and line, or the error of `use_frame`. The frames before it were passed.
pub fn for_each_frame<E: From<Error>>(
    path: &Path,
    hint: Option<&[Element]>,
    mut use_frame: impl FnMut(Structure) -> Result<(), E>,
) -> Result<(), E> {
    let (format, reader) = detected(path)?;
    match format {
        Format::ExtXyz => extxyz::for_each_frame(reader, path, hint, use_frame),
        Format::LammpsDump => lammps_dump::for_each_frame(reader, path, hint, use_frame),
        Format::LammpsData => use_frame(lammps_data::read(reader, path, hint)?),
    }
}

/// As [`for_each_frame`], with energies, forces and force masks, if the format has them. LAMMPS files have none.
///
/// # Errors
/// As [`for_each_frame`], and as [`extxyz::for_each_labelled`].
pub fn for_each_labelled<E: From<Error>>(
    path: &Path,
    mut use_frame: impl FnMut(extxyz::Labelled) -> Result<(), E>,
) -> Result<(), E> {
    let (format, reader) = detected(path)?;
    let unlabelled =
        |structure| extxyz::Labelled { structure, results: extxyz::Results::default(), force_mask: None, line: 1 };
    match format {
        Format::ExtXyz => extxyz::for_each_labelled_in(reader, path, use_frame),
        Format::LammpsDump => lammps_dump::for_each_frame(reader, path, None, |frame| use_frame(unlabelled(frame))),
        Format::LammpsData => use_frame(unlabelled(lammps_data::read(reader, path, None)?)),
    }
}

/// The format of a file, and its uncompressed text. A file in a format of others is converted to extended XYZ.
fn detected(path: &Path) -> Result<(Format, Box<dyn BufRead>), Error> {
    let mut reader = open(path)?;
    let mut start = Vec::new();
    let read = reader.by_ref().take(DETECTION_LENGTH).read_to_end(&mut start);
    read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(match detect(path, &start) {
        Some(format) => (format, Box::new(Cursor::new(start).chain(reader))),
        None => (Format::ExtXyz, Box::new(Cursor::new(convert::by_ase(path)?))),
    })
}

/// Opens a file as uncompressed text.
fn open(path: &Path) -> Result<BufReader<PlainText<File>>, Error> {
    let file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(BufReader::with_capacity(1 << 16, PlainText::limited(file)))
}

/// Detects the format of a file: by its first line (dumps), else by its name (a trailing `.gz` is ignored), else by its
/// first lines. `start` is the beginning of its uncompressed text.
#[must_use]
pub fn detect(path: &Path, start: &[u8]) -> Option<Format> {
    let text = String::from_utf8_lossy(&start[..start.len().min(DETECTION_LENGTH as usize)]);
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
