// SPDX-License-Identifier: GPL-2.0-or-later
//! A matrix in row-major order, with rows aligned to cache lines.

use crate::simd::{Eight, OCT, Oct, doubles, flat};

/// Number of rows in the smallest tile; lists of rows are padded to a multiple of it.
pub(crate) const ROWS: usize = 4;

/// The number of rows of a matrix in single precision is a multiple of this.
pub(crate) const SINGLE_ROWS: usize = 8;

/// Rows of numbers, eight in each `T`, padded so that adjacent rows do not map to the same sets of a cache.
///
/// `data` has `rows * stride` elements, and `columns <= stride * 8`; the kernels rely on this.
#[derive(Clone, Debug, Default)]
pub(crate) struct Padded<T> {
    data: Vec<T>,
    rows: usize,
    columns: usize,
    /// Elements of `data` from one row to the next.
    stride: usize,
}

/// A matrix of doubles.
pub(crate) type Matrix = Padded<Oct>;

/// A matrix in single precision, with rows of zeros up to a multiple of [`SINGLE_ROWS`].
pub(crate) type SingleMatrix = Padded<Eight>;

impl<T> Padded<T> {
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }
}

impl Matrix {
    pub(crate) fn from_fn(rows: usize, columns: usize, mut element: impl FnMut(usize, usize) -> f64) -> Self {
        let mut m = Matrix::zeros(rows, columns);
        for r in 0..rows {
            for (k, v) in m.row_mut(r).iter_mut().enumerate() {
                *v = element(r, k);
            }
        }
        m
    }

    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        // Odd, so that adjacent rows map to different sets of a cache.
        let stride = columns.div_ceil(OCT) | 1;
        Matrix { data: vec![Oct::default(); rows * stride], rows, columns, stride }
    }

    pub(crate) fn octs(&self) -> &[Oct] {
        &self.data
    }

    pub(crate) fn as_ptr(&self) -> *const f64 {
        self.data.as_ptr().cast()
    }

    pub(crate) fn row(&self, r: usize) -> &[f64] {
        &doubles(&self.data[r * self.stride..(r + 1) * self.stride])[..self.columns]
    }

    pub(crate) fn row_mut(&mut self, r: usize) -> &mut [f64] {
        &mut flat(&mut self.data[r * self.stride..(r + 1) * self.stride])[..self.columns]
    }

    /// All row indices in the form that the kernels require: padded with the last one.
    pub(crate) fn listed<'l>(&self, list: &'l mut Vec<u32>) -> &'l [u32] {
        list.clear();
        list.extend(0..self.rows as u32);
        pad(list);
        list
    }
}

impl SingleMatrix {
    /// The rounded elements of a matrix.
    pub(crate) fn of(matrix: &Matrix) -> Self {
        let (rows, columns) = (matrix.rows().next_multiple_of(SINGLE_ROWS), matrix.columns());
        // Not a multiple of a power of two: adjacent rows map to different sets of a cache.
        let stride = columns.div_ceil(OCT).next_multiple_of(2) + 2;
        let mut data = vec![Eight::default(); rows * stride];
        for (r, out) in data.chunks_exact_mut(stride).take(matrix.rows()).enumerate() {
            for (k, v) in matrix.row(r).iter().enumerate() {
                out[k / OCT].0[k % OCT] = *v as f32;
            }
        }
        SingleMatrix { data, rows, columns, stride }
    }

    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.data.as_ptr().cast()
    }
}

/// Repeats the last row of a list until its length is a multiple of [`ROWS`].
pub(crate) fn pad(list: &mut Vec<u32>) {
    if let Some(&last) = list.last() {
        list.resize(list.len().next_multiple_of(ROWS), last);
    }
}
