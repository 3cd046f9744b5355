// SPDX-License-Identifier: GPL-2.0-or-later
//! Results of a calculator in an extended XYZ file.

use std::io::BufRead;
use std::path::Path;

use ndarray::Array2;

use super::{Comment, next_frame, parse};
use crate::io::text::{FrameText, Lines, parse_error, real};
use crate::io::{Error, open};
use crate::structure::Structure;

/// Energy, forces and stress of one frame, with the units and names of ASE.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Results {
    /// Total energy, eV: the key `energy`.
    pub energy: Option<f64>,
    /// Forces, eV/Å: the column `forces`; shape (n, 3), in the order of the file.
    pub forces: Option<Array2<f64>>,
    /// Stress, eV/Å³: the key `stress`, with nine numbers or six; in the order xx, yy, zz, yz, xz, xy.
    pub stress: Option<[f64; 6]>,
}

/// A frame with the results of a calculator.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// The atoms.
    pub structure: Structure,
    /// The results.
    pub results: Results,
    /// The column `force_mask`, a real number for each atom; length n.
    pub force_mask: Option<Vec<f64>>,
    /// Number of the first line of the frame after that with the number of atoms, from 1.
    pub line: u64,
}

/// Reads the last frame of a file and its results.
///
/// # Errors
/// As [`super::read`]; also if the frame has a column of ids, because the results must be in the order of the atoms.
pub fn read_results(path: &Path) -> Result<(Structure, Results), Error> {
    let mut lines = Lines::new(open(path)?, path);
    let mut frame = FrameText::default();
    let mut found = false;
    while next_frame(&mut lines, &mut frame)? {
        found = true;
    }
    if !found {
        return Err(lines.error("the file is empty"));
    }
    let Labelled { structure, results, .. } = labelled(&frame, path, false)?;
    Ok((structure, results))
}

/// Reads all frames of a file with their results, and passes each to `use_frame`. One frame is in memory at a time.
///
/// # Errors
/// As [`read_results`]; also for a column `force_mask` that is not `R:1`; or the error of `use_frame`.
pub fn for_each_labelled<E: From<Error>>(
    path: &Path,
    use_frame: impl FnMut(Labelled) -> Result<(), E>,
) -> Result<(), E> {
    for_each_labelled_in(open(path)?, path, use_frame)
}

/// As [`for_each_labelled`]. `path` is used in error messages only.
///
/// # Errors
/// As [`for_each_labelled`].
pub fn for_each_labelled_in<E: From<Error>>(
    reader: impl BufRead,
    path: &Path,
    mut use_frame: impl FnMut(Labelled) -> Result<(), E>,
) -> Result<(), E> {
    let mut lines = Lines::new(reader, path);
    let mut frame = FrameText::default();
    while next_frame(&mut lines, &mut frame)? {
        use_frame(labelled(&frame, path, true)?)?;
    }
    Ok(())
}

/// Reads all frames of a file and their results, and passes each to `use_frame`, after the value of the key `name` in its comment
/// line. A frame with invalid content is passed as an error, and the frames after it are read.
///
/// # Errors
/// If the file cannot be read or divided into frames. The frames before the error were passed.
pub fn for_each_result(
    path: &Path,
    name: &str,
    use_frame: impl FnMut(Option<&str>, Result<(Structure, Results), Error>),
) -> Result<(), Error> {
    for_each_result_in(open(path)?, path, name, use_frame)
}

/// As [`for_each_result`]. `path` is used in error messages only.
///
/// # Errors
/// As [`for_each_result`].
pub fn for_each_result_in(
    reader: impl BufRead,
    path: &Path,
    name: &str,
    mut use_frame: impl FnMut(Option<&str>, Result<(Structure, Results), Error>),
) -> Result<(), Error> {
    let mut lines = Lines::new(reader, path);
    let mut frame = FrameText::default();
    while next_frame(&mut lines, &mut frame)? {
        let comment = frame.lines().next().and_then(|(_, header)| Comment::parse(header).ok());
        let value = comment.as_ref().and_then(|comment| comment.value(name).ok().flatten());
        use_frame(value, labelled(&frame, path, false).map(|frame| (frame.structure, frame.results)));
    }
    Ok(())
}

fn labelled(frame: &FrameText, path: &Path, with_mask: bool) -> Result<Labelled, Error> {
    let structure = parse(frame, path, None, &mut Vec::new())?;
    let mut lines = frame.lines();
    let (header_line, header) = lines.next().unwrap_or((frame.first, ""));
    let fail = |message: String| parse_error(path, header_line, message);
    let comment = Comment::parse(header).map_err(fail)?;
    let columns = comment.columns().map_err(fail)?;
    let (energy, stress) = (comment.value("energy").map_err(fail)?, comment.value("stress").map_err(fail)?);
    let has_columns = columns.force.is_some() || columns.mask.is_some();
    if columns.id.is_some() && (has_columns || !with_mask) {
        return Err(fail(
            "the frame has a column of ids: write the results in the order of the atoms, without ids".into(),
        ));
    }
    let mask = match columns.mask.filter(|_| with_mask) {
        Some((_, false)) => {
            return Err(fail(
                "Properties must have force_mask as force_mask:R:1, with 1 for each atom whose force is used and 0 for the \
                 others"
                    .into(),
            ));
        }
        other => other.map(|(at, _)| at),
    };
    let energy = energy.map(|text| real(Some(text), "the energy")).transpose().map_err(fail)?;
    let stress = stress.map(parse_stress).transpose().map_err(fail)?;
    let atoms: Vec<(u64, &str)> = lines.collect();
    let column = |at: usize, width: usize, what: &str| {
        let mut numbers = Vec::with_capacity(width * structure.len());
        for (number, line) in &atoms {
            for token in line.split_whitespace().skip(at).take(width) {
                numbers.push(real(Some(token), what).map_err(|message| parse_error(path, *number, message))?);
            }
        }
        Ok::<Vec<f64>, Error>(numbers)
    };
    let forces = columns.force.map(|at| column(at, 3, "a force")).transpose()?;
    let force_mask = mask.map(|at| column(at, 1, "a number of the force mask")).transpose()?;
    let rows = |forces| Array2::from_shape_vec((structure.len(), 3), forces).expect("every line has all its columns");
    let results = Results { energy, forces: forces.map(rows), stress };
    Ok(Labelled { structure, results, force_mask, line: header_line })
}

fn parse_stress(text: &str) -> Result<[f64; 6], String> {
    let tokens = text.split(|c: char| c.is_whitespace() || "[],".contains(c)).filter(|token| !token.is_empty());
    let numbers = tokens.map(|token| real(Some(token), "a number of the stress")).collect::<Result<Vec<f64>, _>>()?;
    match numbers[..] {
        [xx, yy, zz, yz, xz, xy] => Ok([xx, yy, zz, yz, xz, xy]),
        [xx, xy, xz, _, yy, yz, _, _, zz] => Ok([xx, yy, zz, yz, xz, xy]),
        _ => Err(format!("the stress has {} numbers instead of 9 or 6", numbers.len())),
    }
}
