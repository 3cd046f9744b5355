// SPDX-License-Identifier: GPL-2.0-or-later
//! Radial functions on a grid, as values and slopes at the bin edges.
//!
//! Between two edges the function is the cubic that takes both values and slopes. That is the same cubic
//! that ML-PACE stores as four coefficients per bin; edges take half the memory.

use crate::simd::{OCT, Oct, QUAD, flat};

/// Grid of one ordered pair of elements.
#[derive(Debug)]
pub(crate) struct Table {
    /// Per edge: all values, then all slopes times the bin width.
    rows: Vec<Oct>,
    /// Columns, a multiple of four.
    pub ncol: usize,
    /// Number of bins; the edge `bins` is the cutoff.
    pub bins: usize,
    /// Bins per Å.
    pub scale: f64,
}

impl Table {
    /// Bytes that a table will take.
    pub(crate) fn bytes(columns: usize, rcut: f64, delta: f64) -> usize {
        ((rcut / delta) as usize + 3) * 2 * columns.next_multiple_of(QUAD) * size_of::<f64>()
    }

    /// Tabulates `fill(r, values, slopes)` from the first edge to the cutoff.
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
        // The first row and the last two stay zero: nothing below the first edge, nothing beyond the cutoff.
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

    /// First double of the first row.
    pub(crate) fn as_ptr(&self) -> *const f64 {
        self.rows.as_ptr().cast()
    }

    /// Bytes of the table.
    pub(crate) fn size(&self) -> usize {
        self.rows.len() * size_of::<Oct>()
    }
}
