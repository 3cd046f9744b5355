// SPDX-License-Identifier: GPL-2.0-or-later
//! Multiplies rows of a matrix by the vectors of many atoms, for the extrapolation grade.

use super::{CombineJob, GradeJob, SelectJob};
use crate::matrix::ROWS;
use crate::simd::{Lanes, OCT, Oct};
use std::ops::Range;

/// Number of vectors that are multiplied by all rows together.
const GROUP: usize = 6;

/// Products of the listed rows with all vectors: the largest absolute values and, if requested, all products.
///
/// Each product is summed over the components in order, whatever the tile, so that it is bitwise the same whichever other
/// rows and vectors are multiplied with it.
///
/// # Safety
/// The processor has the instruction set of `V`; `GradeJob::check` ran.
#[inline(always)]
pub(super) unsafe fn run<V: Lanes>(job: &mut GradeJob) {
    let rows = job.rows.len();
    let vectors = job.batches.len() * job.lanes.div_ceil(V::N);
    // A few vectors at a time, because they are read once per strip of rows and must stay in the cache.
    for from in (0..vectors).step_by(GROUP) {
        let to = vectors.min(from + GROUP);
        let mut first = 0;
        while first < rows {
            // SAFETY: the caller's promise; `GradeJob::check` asserted that the number of rows is a multiple of `ROWS`.
            unsafe {
                if V::REGISTERS > 16 && rows - first >= 2 * ROWS {
                    strip::<V, { 2 * ROWS }>(job, first, from..to);
                    first += 2 * ROWS;
                } else {
                    strip::<V, ROWS>(job, first, from..to);
                    first += ROWS;
                }
            }
        }
    }
}

/// `R` rows against a range of vectors.
///
/// # Safety
/// See [`run`]; rows `first..first + R` and the vectors exist.
#[inline(always)]
unsafe fn strip<V: Lanes, const R: usize>(job: &mut GradeJob, first: usize, vectors: Range<usize>) {
    // 24 registers of sums on AVX-512, 8 on AVX2: the 12 sums of four rows and three vectors and their operands would need one
    // register more than AVX2 has.
    let width = if V::REGISTERS > 16 { 3 } else { 2 };
    for v in vectors.clone().step_by(width) {
        // SAFETY: the caller's promise; the vectors are within the range.
        unsafe {
            match width.min(vectors.end - v) {
                1 => tile::<V, R, 1>(job, first, v),
                2 => tile::<V, R, 2>(job, first, v),
                _ => tile::<V, R, 3>(job, first, v),
            }
        }
    }
}

/// `R` rows against `W` vectors.
///
/// # Safety
/// See [`run`]; rows `first..first + R` and vectors `v..v + W` exist.
#[inline(always)]
unsafe fn tile<V: Lanes, const R: usize, const W: usize>(job: &mut GradeJob, first: usize, v: usize) {
    // SAFETY: `GradeJob::check` compared the rows with the matrix, the batches with `vectors`, and asserted the lengths of
    // `max` and `values`.
    unsafe {
        let each = job.lanes.div_ceil(V::N);
        let at = |w: usize| ((v + w) / each, (v + w) % each * V::N);
        let mut from = [job.vectors.as_ptr().cast::<f64>(); W];
        for (w, p) in from.iter_mut().enumerate() {
            let (place, lane) = at(w);
            *p = p.add(*job.batches.get_unchecked(place) as usize * job.length * OCT + lane);
        }
        let mut row = [job.matrix.as_ptr(); R];
        for (r, p) in row.iter_mut().enumerate() {
            *p = p.add(job.rows[first + r] as usize * job.matrix.stride() * OCT);
        }
        let mut sums = [[V::splat(0.0); W]; R];
        for k in 0..job.matrix.columns() {
            let mut x = [V::splat(0.0); W];
            for w in 0..W {
                x[w] = V::load(from[w].add(k * job.step * OCT));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let m = V::splat(*row[r].add(k));
                for w in 0..W {
                    sums[w] = m.fma(x[w], sums[w]);
                }
            }
        }
        for w in 0..W {
            let (place, lane) = at(w);
            let out = job.max.as_mut_ptr().add(place).cast::<f64>().add(lane);
            let mut max = V::load(out);
            for sums in &sums {
                let minus = V::splat(0.0).sub(sums[w]);
                max = max.max(sums[w]).max(minus);
            }
            max.store(out);
            if !job.values.is_empty() {
                let out = job.values.as_mut_ptr().add(place * job.rows.len() + first).cast::<f64>().add(lane);
                for (r, sums) in sums.iter().enumerate() {
                    sums[w].store(out.add(r * OCT));
                }
            }
        }
    }
}

/// Lists the values whose absolute value is not below the limit for any of eight atoms, up to `SelectJob::max` of them.
///
/// # Safety
/// The processor has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn select<V: Lanes>(job: &mut SelectJob) {
    job.found.clear();
    let limit: *const f64 = std::ptr::from_ref(&job.limit).cast();
    for (k, value) in job.values.iter().enumerate() {
        let value: *const f64 = std::ptr::from_ref::<Oct>(value).cast();
        let mut hit = false;
        for h in 0..OCT / V::N {
            // SAFETY: both pointers are to eight doubles, and `V::N` divides eight.
            unsafe {
                let v = V::load(value.add(h * V::N));
                let size = v.max(V::splat(0.0).sub(v));
                hit |= size.any_not_below(V::load(limit.add(h * V::N)));
            }
        }
        if hit {
            if job.found.len() == job.max {
                job.overflow = true;
                return;
            }
            job.found.push(k as u32);
        }
    }
}

/// Number of components of a linear combination of rows that are summed together.
const COMPONENTS: usize = 8;

/// Linear combinations of rows, one per lane: per component one vector of `V::N` lanes.
///
/// # Safety
/// The processor has the instruction set of `V`; `CombineJob::check` ran with `V::N` lanes.
#[inline(always)]
pub(super) unsafe fn combine<V: Lanes>(job: &mut CombineJob) {
    let columns = job.matrix.columns();
    let out: *mut f64 = job.out.as_mut_ptr().cast();
    let mut first = 0;
    // SAFETY: `CombineJob::check` compared the rows with the matrix and sized `out`; a row has whole octs, so that reading to
    // the next multiple of eight is within it.
    unsafe {
        while first < columns {
            let mut sums = [V::splat(0.0); COMPONENTS];
            for (&row, weight) in job.rows.iter().zip(job.weights) {
                let w = V::load(std::ptr::from_ref(weight).cast());
                let row = job.matrix.as_ptr().add(row as usize * job.matrix.stride() * OCT + first);
                for (k, sum) in sums.iter_mut().enumerate() {
                    *sum = V::splat(*row.add(k)).fma(w, *sum);
                }
            }
            for (k, sum) in sums.iter().enumerate().take(columns - first) {
                sum.store(out.add((first + k) * V::N));
            }
            first += COMPONENTS;
        }
    }
}
