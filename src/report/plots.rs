// SPDX-License-Identifier: GPL-2.0-or-later
//! The main plots as files, for papers: SVG, and PNG of the same.

use super::Report;

/// A plot that could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw {name}: {message}")]
pub struct PlotError {
    name: String,
    message: String,
}

pub(super) fn draw(_report: &Report) -> Result<Vec<(String, Vec<u8>)>, PlotError> {
    Ok(Vec::new())
}
