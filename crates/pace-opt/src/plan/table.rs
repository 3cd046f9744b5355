// SPDX-License-Identifier: GPL-2.0-or-later
//! Radial functions on a grid, as values and slopes at the bin edges.
//!
//! Between two edges the function is the cubic polynomial with the values and slopes of both. ML-PACE stores the same
//! polynomial as four coefficients per bin, which takes twice the memory.

use crate::simd::{OCT, Oct, QUAD, flat};

/// Grid of one ordered pair of elements.
///
/// There are `bins() + 3` rows of `2 * ncol()` doubles, which the kernels read through [`Table::as_ptr`].
#[derive(Debug)]
pub(crate) struct Table {
    /// Per edge: all values, then all slopes times the bin width.
    rows: Vec<Oct>,
    ncol: usize,
    bins: usize,
    scale: f64,
}

impl Table {
    /// Size in bytes of a table with this number of columns; cutoff and bin width in Å.
    pub(crate) fn bytes(columns: usize, rcut: f64, delta: f64) -> usize {
        ((rcut / delta) as usize + 3) * 2 * columns.next_multiple_of(QUAD) * size_of::<f64>()
    }

    /// Tabulates `fill(r, values, slopes)` from the first edge to the cutoff `rcut`, in bins of about `delta` Å.
    pub(crate) fn new(
        columns: usize,
        rcut: f64,
        delta: f64,
        mut fill: impl FnMut(f64, &mut [f64], &mut [f64]),
    ) -> Self {
        let bins = (rcut / delta) as usize;
        let ncol = columns.next_multiple_of(QUAD);
        let scale = bins as f64 / rcut;
        let width = 1.0 / scale;
        // The first row and the last two stay zero: distances below the first edge and beyond the cutoff contribute nothing.
        let mut rows = vec![Oct::default(); (bins + 3) * 2 * ncol / OCT];
        let (mut v, mut d) = (vec![0.0; columns], vec![0.0; columns]);
        if columns > 0 {
            for n in 1..=bins {
                fill(width * n as f64, &mut v, &mut d);
                let row = &mut flat(&mut rows)[n * 2 * ncol..][..2 * ncol];
                for c in 0..columns {
                    row[c] = v[c];
                    row[ncol + c] = d[c] * width;
                }
            }
        }
        Table { rows, ncol, bins, scale }
    }

    /// Number of columns, padded to a multiple of four.
    pub(crate) fn ncol(&self) -> usize {
        self.ncol
    }

    /// Number of bins; edge `bins()` is the cutoff.
    pub(crate) fn bins(&self) -> usize {
        self.bins
    }

    /// Bins per Å.
    pub(crate) fn scale(&self) -> f64 {
        self.scale
    }

    /// First double of the first row.
    pub(crate) fn as_ptr(&self) -> *const f64 {
        self.rows.as_ptr().cast()
    }

    /// Size in bytes.
    pub(crate) fn size(&self) -> usize {
        self.rows.len() * size_of::<Oct>()
    }
}
