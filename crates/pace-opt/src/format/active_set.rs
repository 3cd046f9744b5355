// SPDX-License-Identifier: GPL-2.0-or-later
//! `.asi`: inverted active sets, a NumPy `.npz` archive with one square matrix per element.

use super::read_bytes;
use crate::error::{Error, Result, limit};
use crate::model::Model;
use std::io::{Cursor, Read};
use std::path::Path;

/// Largest number of rows of one matrix.
const MAX_ROWS: usize = 65_536;

/// Inverted active sets of a B-basis.
#[derive(Clone, Debug)]
pub struct ActiveSet {
    /// Whether the rows are functions alone (linear), or functions times densities, multiplied by the embedding's derivative.
    pub linear: bool,
    /// Per element the inverse, `[function][row of the active set]`.
    pub inverse: Vec<Vec<f64>>,
    /// Number of rows, per element.
    pub size: Vec<usize>,
}

impl ActiveSet {
    /// Reads an `.asi` file for a potential.
    ///
    /// # Errors
    /// If it cannot be read, is malformed, or does not belong to the potential.
    pub fn read(path: &Path, model: &Model) -> Result<Self> {
        Self::parse(&read_bytes(path)?, model).map_err(|e| e.at(path))
    }

    /// Reads an archive from memory. Fortran-ordered arrays are transposed.
    ///
    /// # Errors
    /// If it is malformed or does not belong to the potential.
    pub fn parse(bytes: &[u8], model: &Model) -> Result<Self> {
        if !model.is_b_basis {
            return Err(Error::bad("an active set requires a B-basis: use the .yaml file of the potential"));
        }
        let mut archive =
            zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| Error::bad(format!("not an .npz archive: {e}")))?;
        let ne = model.elements.len();
        if archive.len() != ne {
            return Err(Error::bad(format!(
                "it has {} array(s), one for each element, but the potential has {ne} element(s)",
                archive.len()
            )));
        }
        let mut found: Vec<Option<(usize, Vec<f64>)>> = vec![None; ne];
        for k in 0..archive.len() {
            let mut file = archive.by_index(k).map_err(|e| Error::bad(format!("array {k}: {e}")))?;
            let name = file.name().map_err(|e| Error::bad(format!("array {k}: {e}")))?;
            let name = name.trim_end_matches(".npy").to_owned();
            let i = model
                .elements
                .iter()
                .position(|e| *e == name)
                .ok_or_else(|| Error::bad(format!("array `{name}` is not an element of the potential")))?;
            let functions = model.functions[i].len() * model.embeddings[i].ndensity;
            // Limits the memory: the header is small, and the potential determines the size of the data.
            limit("rows of an active set", functions, MAX_ROWS)?;
            let max = (functions * functions * 8 + 65_536) as u64;
            let mut data = Vec::new();
            file.by_ref().take(max).read_to_end(&mut data).map_err(|e| Error::bad(format!("array `{name}`: {e}")))?;
            found[i] = Some(matrix(&data).map_err(|e| Error::bad(format!("array `{name}`: {e}")))?);
        }
        let (mut inverse, mut size, mut linear) = (Vec::new(), Vec::new(), None);
        for (i, m) in found.into_iter().enumerate() {
            let (n, data) = m.ok_or_else(|| Error::bad(format!("no array for {}", model.elements[i])))?;
            let (f, nd) = (model.functions[i].len(), model.embeddings[i].ndensity);
            let is_linear = if n == f {
                true
            } else if n == f * nd {
                false
            } else {
                return Err(Error::bad(format!(
                    "array `{}` has {n} rows, {f} (linear) or {} (non-linear) are expected",
                    model.elements[i],
                    f * nd
                )));
            };
            if *linear.get_or_insert(is_linear) != is_linear {
                return Err(Error::bad("some arrays are of a linear, some of a non-linear active set"));
            }
            inverse.push(data);
            size.push(n);
        }
        Ok(ActiveSet { linear: linear.unwrap_or(true), inverse, size })
    }
}

/// A square matrix of little-endian doubles from the bytes of an `.npy` file, in row-major order.
fn matrix(bytes: &[u8]) -> Result<(usize, Vec<f64>)> {
    let short = || Error::bad("the array is truncated");
    if bytes.get(..6) != Some(b"\x93NUMPY") {
        return Err(Error::bad("not an .npy array"));
    }
    let (start, len): (usize, usize) = match bytes.get(6).ok_or_else(short)? {
        1 => (10, u16::from_le_bytes([*bytes.get(8).ok_or_else(short)?, *bytes.get(9).ok_or_else(short)?]) as usize),
        2 | 3 => {
            let b: [u8; 4] = bytes.get(8..12).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
            (12, u32::from_le_bytes(b) as usize)
        }
        v => return Err(Error::bad(format!("version {v} of the .npy format is not supported"))),
    };
    let header = bytes.get(start..start.saturating_add(len)).ok_or_else(short)?;
    let header = std::str::from_utf8(header).map_err(|_| Error::bad("the header is not text"))?;
    let after = |key: &str| {
        let at = header.find(key).ok_or_else(|| Error::bad(format!("the header has no {key}")))?;
        Ok::<_, Error>(header[at + key.len()..].trim_start_matches([' ', ':']))
    };
    let descr = after("'descr'")?;
    if !(descr.starts_with("'<f8'") || descr.starts_with("'=f8'")) {
        let kind = descr.split(',').next().unwrap_or(descr);
        return Err(Error::bad(format!("it has numbers of type {kind}, '<f8' is expected")));
    }
    let fortran = after("'fortran_order'")?.starts_with("True");
    let shape = after("'shape'")?;
    let shape = shape.strip_prefix('(').and_then(|s| s.split(')').next()).ok_or_else(|| Error::bad("no shape"))?;
    let dims: Vec<usize> = shape
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(|s| s.parse().map_err(|_| Error::bad(format!("shape ({shape})"))))
        .collect::<Result<_>>()?;
    let [n, n2] = dims[..] else { return Err(Error::bad(format!("a matrix is expected, not shape ({shape})"))) };
    if n != n2 {
        return Err(Error::bad(format!("the matrix is not square: ({shape})")));
    }
    limit("rows of an active set", n, MAX_ROWS)?;
    let data = bytes.get(start + len..).ok_or_else(short)?;
    if data.len() > n * n * 8 {
        return Err(Error::bad(format!("the array has more numbers than its shape ({shape})")));
    }
    let data = data.get(..n * n * 8).ok_or_else(short)?;
    let flat: Vec<f64> = data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    if flat.iter().any(|v| !v.is_finite()) {
        return Err(Error::bad("a value is not finite"));
    }
    if !fortran {
        return Ok((n, flat));
    }
    Ok((n, (0..n * n).map(|k| flat[(k % n) * n + k / n]).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(order: &str, values: &[f64]) -> Vec<u8> {
        let header = format!("{{'descr': '<f8', 'fortran_order': {order}, 'shape': (2, 2), }}\n");
        let mut b = b"\x93NUMPY\x01\x00".to_vec();
        b.extend((header.len() as u16).to_le_bytes());
        b.extend(header.bytes());
        b.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        b
    }

    #[test]
    fn both_orders() {
        assert_eq!(matrix(&npy("False", &[1., 2., 3., 4.])).unwrap(), (2, vec![1., 2., 3., 4.]));
        assert_eq!(matrix(&npy("True", &[1., 2., 3., 4.])).unwrap(), (2, vec![1., 3., 2., 4.]));
    }

    #[test]
    fn truncated_arrays_are_errors() {
        let good = npy("False", &[1., 2., 3., 4.]);
        for k in 0..good.len() {
            assert!(matrix(&good[..k]).is_err());
        }
    }
}
