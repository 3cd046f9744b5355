// SPDX-License-Identifier: GPL-2.0-or-later
//! Products in single precision, for estimates of the components from which the extrapolation grade is found.

use super::{PredictJob, SingleJob};
use crate::matrix::SINGLE_ROWS;
use crate::simd::{Lanes, OCT, Singles};

/// Products of all rows with all vectors.
///
/// # Safety
/// The processor has the instruction set of `V`; `SingleJob::check` ran.
#[inline(always)]
pub(super) unsafe fn multiply<V: Lanes>(job: &mut SingleJob) {
    let vectors = job.width * OCT / V::Single::N;
    // 24 registers of sums on AVX-512; twelve on AVX2, with three operands and one factor.
    let rows = if V::REGISTERS > 16 { SINGLE_ROWS } else { SINGLE_ROWS / 2 };
    for first in (0..job.matrix.rows()).step_by(rows) {
        for v in (0..vectors).step_by(3) {
            // SAFETY: the caller's promise; the number of rows is a multiple of `SINGLE_ROWS`, and `v` a vector.
            unsafe {
                if V::REGISTERS > 16 {
                    match vectors - v {
                        1 => tile::<V::Single, SINGLE_ROWS, 1>(job, first, v),
                        2 => tile::<V::Single, SINGLE_ROWS, 2>(job, first, v),
                        _ => tile::<V::Single, SINGLE_ROWS, 3>(job, first, v),
                    }
                } else {
                    match vectors - v {
                        1 => tile::<V::Single, { SINGLE_ROWS / 2 }, 1>(job, first, v),
                        2 => tile::<V::Single, { SINGLE_ROWS / 2 }, 2>(job, first, v),
                        _ => tile::<V::Single, { SINGLE_ROWS / 2 }, 3>(job, first, v),
                    }
                }
            }
        }
    }
}

/// `R` rows against `W` vectors.
///
/// # Safety
/// See [`multiply`]; rows `first..first + R` and vectors `v..v + W` exist.
#[inline(always)]
unsafe fn tile<S: Singles, const R: usize, const W: usize>(job: &mut SingleJob, first: usize, v: usize) {
    // SAFETY: `SingleJob::check` compared the lengths with the matrix.
    unsafe {
        let from = job.vectors.as_ptr().cast::<f32>().add(v * S::N);
        let step = job.width * OCT;
        let row: [*const f32; R] =
            std::array::from_fn(|r| job.matrix.as_ptr().add((first + r) * job.matrix.stride() * OCT));
        let mut sums = [[S::splat(0.0); W]; R];
        for k in 0..job.matrix.columns() {
            let mut x = [S::splat(0.0); W];
            for (w, x) in x.iter_mut().enumerate() {
                *x = S::load(from.add(k * step + w * S::N));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let m = S::splat(*row[r].add(k));
                for w in 0..W {
                    sums[w] = m.fma(x[w], sums[w]);
                }
            }
        }
        let out = job.out.as_mut_ptr().cast::<f32>().add(v * S::N);
        for (r, sums) in sums.iter().enumerate() {
            for (w, sum) in sums.iter().enumerate() {
                sum.store(out.add((first + r) * step + w * S::N));
            }
        }
    }
}

/// Lists the rows in which the linear combination of the references reaches the limit for any of eight atoms, up to `PredictJob::max`.
///
/// # Safety
/// The processor has the instruction set of `V`; `PredictJob::check` ran.
#[inline(always)]
pub(super) unsafe fn predict<V: Lanes>(job: &mut PredictJob) {
    job.found.clear();
    // A vector holds one or two rows.
    let together = V::Single::N / OCT;
    // SAFETY: `PredictJob::check` compared the lengths, and the number of rows is even.
    unsafe {
        let limit = repeated::<V::Single>(&job.limit.0);
        for k in (0..job.rows).step_by(together) {
            let mut sum = V::Single::splat(0.0);
            for (reference, factor) in job.references.iter().zip(job.factors) {
                let g = V::Single::load(reference.as_ptr().add(k).cast());
                sum = repeated::<V::Single>(&factor.0).fma(g, sum);
            }
            let hits = sum.not_below(limit);
            if hits == 0 {
                continue;
            }
            for row in 0..together {
                if hits >> (row * OCT) & 0xff != 0 {
                    if job.found.len() == job.max {
                        job.overflow = true;
                        return;
                    }
                    job.found.push((k + row) as u32);
                }
            }
        }
    }
}

/// Eight numbers, once or twice.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
unsafe fn repeated<S: Singles>(numbers: &[f32; OCT]) -> S {
    let twice: [f32; 2 * OCT] = std::array::from_fn(|k| numbers[k % OCT]);
    // SAFETY: there are sixteen numbers, and `S::N` is at most that.
    unsafe { S::load(twice.as_ptr()) }
}
