// SPDX-License-Identifier: GPL-2.0-or-later
//! Readers of the file formats.

mod ace;
mod active_set;
mod bbasis;
mod yace;
mod yaml;

pub use active_set::ActiveSet;

use crate::error::{Error, Result};
use crate::model::Model;
use std::path::Path;

/// Largest potential file that is read, in bytes.
const MAX_FILE: u64 = 2 << 30;

/// Reads a file, unless it is larger than the limit.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_FILE {
        return Err(Error::TooLarge { what: "file size in bytes", value: size, limit: MAX_FILE }.at(path));
    }
    std::fs::read(path).map_err(io)
}

/// The format of a potential file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// B-basis, `.yaml`: the only format for which the extrapolation grade is defined.
    BBasis,
    /// C-tilde basis, `.yace`.
    Yace,
    /// C-tilde basis as plain text, `.ace`, for one element.
    Ace,
}

impl Format {
    /// The format of a file, from its extension.
    ///
    /// # Errors
    /// If the extension is not one of `.yaml`, `.yml`, `.yace`, `.ace`.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("yaml" | "yml") => Ok(Self::BBasis),
            Some("yace") => Ok(Self::Yace),
            Some("ace") => Ok(Self::Ace),
            _ => Err(Error::bad("potential files are .yaml, .yace or .ace").at(path)),
        }
    }
}

impl Model {
    /// Reads a potential file, in the format given by its extension.
    ///
    /// # Errors
    /// If it cannot be read, is malformed, or requires an unsupported feature.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(Format::of(path)?, &read_bytes(path)?).map_err(|e| e.at(path))
    }

    /// Reads a potential from memory.
    ///
    /// # Errors
    /// If it is malformed or requires an unsupported feature.
    pub fn parse(format: Format, bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|e| Error::bad(format!("not UTF-8 text: {e}")))?;
        let model = match format {
            Format::BBasis => bbasis::parse(text),
            Format::Yace => yace::parse(text),
            Format::Ace => ace::parse(text),
        }?;
        model.validate()?;
        Ok(model)
    }
}
