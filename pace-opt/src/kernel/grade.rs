// SPDX-License-Identifier: GPL-2.0-or-later
//! Extrapolation grades: a matrix product of projections and inverted active sets, reduced on the fly.

use super::GradeJob;
use crate::simd::{Lanes, OCT};

/// Vectors of atoms in a tile.
const WIDTH: usize = 3;

/// Largest absolute component of each atom's product with the inverted active set.
///
/// # Safety
/// The processor has the instruction set of `V`; `GradeJob::check` ran.
#[inline(always)]
pub(super) unsafe fn run<V: Lanes>(job: &mut GradeJob) {
    let vectors = job.batches * OCT / V::N;
    // SAFETY: see above.
    unsafe {
        for panel in 0..job.size.div_ceil(OCT) {
            let matrix = job.panels.as_ptr().add(panel * job.size).cast::<f64>();
            let mut v = 0;
            while v < vectors {
                match vectors - v {
                    1 => panel_rows::<V, 1>(job, matrix, v),
                    2 => panel_rows::<V, 2>(job, matrix, v),
                    _ => panel_rows::<V, WIDTH>(job, matrix, v),
                }
                v += WIDTH;
            }
        }
    }
}

/// Eight rows of the active set against `W` vectors of atoms.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn panel_rows<V: Lanes, const W: usize>(job: &mut GradeJob, matrix: *const f64, v: usize) {
    // SAFETY: see above.
    unsafe {
        // Twelve vector registers of sums on AVX2, twenty-four on AVX-512.
        if V::N == OCT {
            tile::<V, 8, W>(job, matrix, v);
        } else {
            tile::<V, 4, W>(job, matrix, v);
            tile::<V, 4, W>(job, matrix.add(4), v);
        }
    }
}

/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn tile<V: Lanes, const R: usize, const W: usize>(job: &mut GradeJob, matrix: *const f64, v: usize) {
    // SAFETY: see above.
    unsafe {
        let at = |w: usize| ((v + w) * V::N / OCT, (v + w) * V::N % OCT);
        let mut from = [job.vectors.as_ptr().cast::<f64>(); W];
        for (w, p) in from.iter_mut().enumerate() {
            let (batch, lane) = at(w);
            *p = p.add(batch * job.size * OCT + lane);
        }
        let mut acc = [[V::splat(0.0); W]; R];
        for k in 0..job.size {
            let mut x = [V::splat(0.0); W];
            for w in 0..W {
                x[w] = V::load(from[w].add(k * OCT));
            }
            for (r, row) in acc.iter_mut().enumerate() {
                let m = V::splat(*matrix.add(k * OCT + r));
                for w in 0..W {
                    row[w] = m.fma(x[w], row[w]);
                }
            }
        }
        for w in 0..W {
            let (batch, lane) = at(w);
            let out = job.grades.as_mut_ptr().add(batch).cast::<f64>().add(lane);
            let mut most = V::load(out);
            for row in &acc {
                let minus = V::splat(0.0).sub(row[w]);
                most = most.max(row[w]).max(minus);
            }
            most.store(out);
        }
    }
}
