// SPDX-License-Identifier: GPL-2.0-or-later
//! First stage: distances, radial functions, spherical harmonics, and the sums of their products over neighbours.

use super::{BaseJob, Range};
use crate::plan::{BaseSums, Segment};
use crate::profile::Stage;
use crate::simd::{Lanes, OCT, Oct, flat};

/// Largest number of radial or angular functions in a tile of the atomic base.
const MAX_TILE: usize = 5;

/// Number of neighbours by which table rows are prefetched.
const PREFETCH_DISTANCE: usize = OCT;

/// Runs the stage for one atom.
///
/// # Safety
/// The processor has the instruction set of `V`, `BaseJob::check` ran, and the nodes have `V::N` lanes. Columns and
/// components of the plan are in range since `SpeciesPlan::check`.
#[inline(always)]
pub(super) unsafe fn run<V: Lanes>(job: &mut BaseJob) {
    let nd = job.plan.embedding().ndensity;
    job.atom.rho.clear();
    job.atom.rho.resize(nd, 0.0);
    job.atom.core = 0.0;
    job.atom.invalid = false;
    if job.projections {
        job.atom.base_sums.resize(job.plan.segments().len(), Vec::new());
    }
    for (j, segment) in job.plan.segments().iter().enumerate() {
        let range = job.atom.ranges[j];
        let Some(table) = &segment.table else { continue };
        if job.projections {
            let n = match &segment.base_sums {
                BaseSums::None => 0,
                BaseSums::Columns(inverse) => inverse.len() / segment.rho_column.max(1),
                BaseSums::Table(table) => table.ncol(),
            };
            job.atom.base_sums[j].clear();
            job.atom.base_sums[j].resize(n, 0.0);
        }
        if range.blocks == 0 {
            // No neighbours of this element: the base is zero. A previous atom may have left other values.
            for &d in &segment.dest {
                flat(&mut job.nodes.value)[d as usize * V::N + job.lane] = 0.0;
            }
            continue;
        }
        // SAFETY: `BaseJob::check` sized all buffers for the blocks of this range; by `SpeciesPlan::check` a separate table
        // of the basis functions has the bins of this one.
        unsafe {
            distances::<V>(job, range, table.scale(), table.bins());
            if job.atom.invalid {
                return;
            }
            job.scratch.clock.lap(Stage::Distances);
            let radial: *mut f64 = job.atom.radial.as_mut_ptr().add(range.radial).cast();
            // Projections require all sums; otherwise only those of the densities and the repulsion are.
            let first = if job.projections { 0 } else { segment.rho_column };
            interpolate::<V>(table.as_ptr(), table.ncol(), job, range, radial, first);
            job.scratch.clock.lap(Stage::Splines);
            let sums = &flat(&mut job.scratch.sums)[..table.ncol()];
            for (rho, sum) in job.atom.rho.iter_mut().zip(&sums[segment.rho_column..]) {
                *rho += sum;
            }
            job.atom.core += sums[segment.core_column];
            job.scratch.clock.lap(Stage::Base);
            if job.projections {
                match &segment.base_sums {
                    BaseSums::None => {}
                    BaseSums::Columns(inverse) => {
                        let columns = &flat(&mut job.scratch.sums)[..segment.rho_column];
                        let sums = &mut job.atom.base_sums[j];
                        for (c, row) in columns.iter().zip(inverse.chunks_exact(sums.len())) {
                            sums.iter_mut().zip(row).for_each(|(sum, i)| *sum += i * c);
                        }
                    }
                    BaseSums::Table(base) if job.slopes => {
                        let out: *mut f64 = job.atom.radial_base.as_mut_ptr().add(range.radial_base).cast();
                        interpolate::<V>(base.as_ptr(), base.ncol(), job, range, out, 0);
                        job.atom.base_sums[j].copy_from_slice(&flat(&mut job.scratch.sums)[..base.ncol()]);
                    }
                    BaseSums::Table(base) => {
                        let sums = job.atom.base_sums[j].as_mut_ptr();
                        sum_base::<V>(base.as_ptr(), base.ncol(), job, range, sums);
                    }
                }
                job.scratch.clock.lap(Stage::Projections);
            }
            if !segment.shells.is_empty() {
                harmonics::<V>(job, range, segment.shells.len());
                job.scratch.clock.lap(Stage::Harmonics);
                accumulate::<V>(job, segment, range, radial, table.ncol());
                job.scratch.clock.lap(Stage::Base);
            }
        }
    }
}

/// Unit vectors, bins and interpolation weights.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn distances<V: Lanes>(job: &mut BaseJob, range: Range, scale: f64, bins: usize) {
    let a = &mut *job.atom;
    let s = &mut *job.scratch;
    let mut bad = 0;
    // SAFETY: `BaseJob::check` sized these buffers for the blocks of the range.
    unsafe {
        let (one, two, three, six) = (V::splat(1.0), V::splat(2.0), V::splat(3.0), V::splat(6.0));
        let grid = V::splat(scale);
        for b in 0..range.blocks {
            let at = |v: *mut Oct, h: usize| v.add(range.block + b).cast::<f64>().add(h * V::N);
            let weights: *mut f64 = s.weights.as_mut_ptr().add(b).cast();
            let (mut bin, mut place) = (Oct::default(), Oct::default());
            for h in 0..OCT / V::N {
                let (px, py, pz) = (at(a.x.as_mut_ptr(), h), at(a.y.as_mut_ptr(), h), at(a.z.as_mut_ptr(), h));
                let (x, y, z) = (V::load(px), V::load(py), V::load(pz));
                let r = z.fma(z, y.fma(y, x.mul(x))).sqrt();
                let inv = one.div(r);
                x.mul(inv).store(px);
                y.mul(inv).store(py);
                z.mul(inv).store(pz);
                r.store(at(a.r.as_mut_ptr(), h));
                inv.store(at(a.inv_r.as_mut_ptr(), h));
                let t = r.mul(grid);
                let floor = t.floor();
                let w = t.sub(floor);
                let u = one.sub(w);
                let (wu, ww) = (w.mul(u), w.mul(w));
                let slope = wu.mul(six);
                let out = [
                    ww.mul(two.fnma(w, three)),
                    wu.mul(u),
                    ww.mul(w.sub(one)),
                    slope.mul(grid),
                    u.mul(three.fnma(w, one)).mul(grid),
                    w.mul(three.fma(w, V::splat(-2.0))).mul(grid),
                ];
                for (k, v) in out.into_iter().enumerate() {
                    v.store(weights.add(k * OCT + h * V::N));
                }
                t.store(place.0.as_mut_ptr().add(h * V::N));
                floor.min(V::splat(bins as f64)).store(bin.0.as_mut_ptr().add(h * V::N));
            }
            for k in 0..OCT {
                // True for NaN as well.
                bad |= u32::from(!(place.0[k] >= 1.0));
                // `min` limits the bin to 0..=bins, also for NaN. Beyond the cutoff and in the padding it is the bin
                // after the last, whose edges are zero.
                let i = bin.0[k].to_int_unchecked::<i32>() as u32;
                s.bins[b][k] = i + u32::from(i as usize == bins);
            }
        }
    }
    a.invalid = bad != 0;
}

/// Values and slopes of all columns, in blocks of eight neighbours; sums of the values from column `first` on.
///
/// # Safety
/// See [`run`]; `rows` are those of a table with `ncol` columns, `out` has room for the blocks of the range.
#[inline(always)]
unsafe fn interpolate<V: Lanes>(
    rows: *const f64,
    ncol: usize,
    job: &mut BaseJob,
    range: Range,
    out: *mut f64,
    first: usize,
) {
    let bins: *const u32 = job.scratch.bins.as_ptr().cast();
    let weights: *const f64 = job.scratch.weights.as_ptr().cast();
    let block: *mut f64 = job.scratch.block.as_mut_ptr().cast();
    let sums = &mut flat(&mut job.scratch.sums)[..ncol];
    sums.fill(0.0);
    let sums = sums.as_mut_ptr();
    // SAFETY: bins are at most `bins + 1`, and the table has `bins + 3` rows; `BaseJob::check` sized the other buffers.
    unsafe {
        let row = |i: usize| rows.add(*bins.add(i) as usize * 2 * ncol);
        for b in 0..range.blocks {
            for k in 0..OCT {
                let i = b * OCT + k;
                let to = block.add(k * 2 * ncol);
                if i >= range.count {
                    std::slice::from_raw_parts_mut(to, 2 * ncol).fill(0.0);
                    continue;
                }
                let job = Cubics {
                    row: row(i),
                    ahead: row((i + PREFETCH_DISTANCE).min(range.count - 1)),
                    ncol,
                    weights: weights.add(b * 6 * OCT + k),
                    to,
                };
                let c = cubics::<V>(job, 0);
                cubics::<V::Half>(job, c);
            }
            let out = out.add(b * 2 * ncol * OCT);
            let c = transpose::<V>(block, ncol, out, (sums, first), 0);
            transpose::<V::Half>(block, ncol, out, (sums, first), c);
        }
    }
}

/// Input and output of the interpolation for one neighbour.
#[derive(Clone, Copy)]
struct Cubics {
    row: *const f64,
    /// The row to prefetch.
    ahead: *const f64,
    ncol: usize,
    weights: *const f64,
    /// Output: values, then slopes.
    to: *mut f64,
}

/// Values and slopes of one neighbour, in whole vectors from column `c` on. Returns the first column that is left.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn cubics<V: Lanes>(job: Cubics, mut c: usize) -> usize {
    let Cubics { row, ahead, ncol, weights, to } = job;
    // SAFETY: the job's pointers are to two rows of `2 * ncol`, six weights, and an output of `2 * ncol` doubles.
    unsafe {
        let mut w = [V::splat(0.0); 6];
        for (j, w) in w.iter_mut().enumerate() {
            *w = V::splat(*weights.add(j * OCT));
        }
        while c + V::N <= ncol {
            // The number of cache lines that these columns take in two rows; together the calls cover both rows.
            for line in 0..V::N * 4 / OCT {
                V::prefetch(ahead.add(c * 4 + line * OCT));
            }
            let f0 = V::load(row.add(c));
            let d0 = V::load(row.add(ncol + c));
            let rise = V::load(row.add(2 * ncol + c)).sub(f0);
            let d1 = V::load(row.add(3 * ncol + c));
            d1.fma(w[2], d0.fma(w[1], rise.fma(w[0], f0))).store(to.add(c));
            d1.fma(w[5], d0.fma(w[4], rise.mul(w[3]))).store(to.add(ncol + c));
            c += V::N;
        }
    }
    c
}

/// Transposes the rows of eight neighbours, in whole vectors from column `c` on. Returns the first column that is left.
/// Values from column `first` on are added to `sums`.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn transpose<V: Lanes>(
    block: *const f64,
    ncol: usize,
    out: *mut f64,
    (sums, first): (*mut f64, usize),
    mut c: usize,
) -> usize {
    // SAFETY: `block` has eight rows of `2 * ncol` doubles, `out` has as many columns of eight, `sums` has `ncol` doubles.
    unsafe {
        let rows = |c: usize| {
            let mut v = [V::splat(0.0); OCT];
            for (k, v) in v.iter_mut().enumerate() {
                *v = V::load(block.add(k * 2 * ncol + c));
            }
            v
        };
        while c + V::N <= ncol {
            let v = rows(c);
            if c + V::N > first {
                let four = |i: usize| v[i].add(v[i + 1]).add(v[i + 2].add(v[i + 3]));
                V::load(sums.add(c)).add(four(0).add(four(4))).store(sums.add(c));
            }
            V::store_transposed(&v, out.add(c * OCT), OCT);
            V::store_transposed(&rows(ncol + c), out.add((ncol + c) * OCT), OCT);
            c += V::N;
        }
    }
    c
}

/// Sums of the radial basis functions over the neighbours.
///
/// # Safety
/// See [`run`]; `rows` are those of a table with `ncol` columns and the bins of the segment's table, `sums` has `ncol` doubles.
#[inline(always)]
unsafe fn sum_base<V: Lanes>(rows: *const f64, ncol: usize, job: &BaseJob, range: Range, sums: *mut f64) {
    let mut c = 0;
    while c < ncol {
        // SAFETY: the caller's promise is passed on; by `SpeciesPlan::check` the columns are a multiple of eight.
        unsafe {
            let wide = 16 / V::N;
            if ncol - c >= wide * V::N {
                match wide {
                    2 => sum_columns::<V, 2>(rows, ncol, job, range, sums, c),
                    _ => sum_columns::<V, 4>(rows, ncol, job, range, sums, c),
                }
                c += wide * V::N;
            } else {
                match OCT / V::N {
                    1 => sum_columns::<V, 1>(rows, ncol, job, range, sums, c),
                    _ => sum_columns::<V, 2>(rows, ncol, job, range, sums, c),
                }
                c += OCT;
            }
        }
    }
}

/// Sums of `W` vectors of columns, from column `c` on.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn sum_columns<V: Lanes, const W: usize>(
    rows: *const f64,
    ncol: usize,
    job: &BaseJob,
    range: Range,
    sums: *mut f64,
    c: usize,
) {
    let bins: *const u32 = job.scratch.bins.as_ptr().cast();
    let weights: *const f64 = job.scratch.weights.as_ptr().cast();
    let count = range.blocks * OCT;
    // SAFETY: as for `sum_base`; `W` vectors from column `c` on are within `ncol`.
    unsafe {
        let mut total = [V::splat(0.0); W];
        for i in 0..count {
            let row = |i: usize| rows.add(*bins.add(i) as usize * 2 * ncol + c);
            if i + 2 * PREFETCH_DISTANCE < count {
                let next = row(i + 2 * PREFETCH_DISTANCE);
                for part in 0..4 {
                    for w in 0..(W * V::N).div_ceil(OCT) {
                        V::prefetch(next.add(part * ncol + w * OCT));
                    }
                }
            }
            let p = row(i);
            let w = |k: usize| V::splat(*weights.add(i / OCT * 6 * OCT + k * OCT + i % OCT));
            let (w0, w1, w2) = (w(0), w(1), w(2));
            for (k, total) in total.iter_mut().enumerate() {
                let p = p.add(k * V::N);
                let (f0, d0) = (V::load(p), V::load(p.add(ncol)));
                let (f1, d1) = (V::load(p.add(2 * ncol)), V::load(p.add(3 * ncol)));
                let v = f1.sub(f0).fma(w0, f0);
                *total = total.add(d1.fma(w2, d0.fma(w1, v)));
            }
        }
        for (k, total) in total.iter().enumerate() {
            total.store(sums.add(c + k * V::N));
        }
    }
}

/// Spherical harmonics for m ≥ 0, without their norms: Legendre functions of z times powers of x + iy.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn harmonics<V: Lanes>(job: &mut BaseJob, range: Range, shells: usize) {
    let (b, ld) = (job.legendre.b(), job.legendre.ld());
    let components = shells * shells;
    // SAFETY: `BaseJob::check` sized `harmonics` for `components` octs per block and asserted shells ≤ ld; `b` has ld² elements.
    unsafe {
        let b = |l: usize, m: usize| V::splat(*b.get_unchecked(l * ld + m));
        let one = V::splat(1.0);
        for v in 0..range.vectors(V::N) {
            let (block, lane) = (v * V::N / OCT, v * V::N % OCT);
            let at = |v: &[Oct]| V::load(v.as_ptr().add(range.block + block).cast::<f64>().add(lane));
            let (x, y, z) = (at(&job.atom.x), at(&job.atom.y), at(&job.atom.z));
            let out = job.scratch.harmonics.as_mut_ptr().add(block * components).cast::<f64>().add(lane);
            let (mut p0, mut p1) = (V::splat(0.0), one);
            one.store(out);
            for l in 1..shells {
                (p0, p1) = (p1, p1.fma(z, p0.mul(b(l, 0))));
                p1.store(out.add(l * l * OCT));
            }
            let (mut re, mut im) = (x, y);
            for m in 1..shells {
                let store = |l: usize, p: V| {
                    p.mul(re).store(out.add((l * l + 2 * m - 1) * OCT));
                    p.mul(im).store(out.add((l * l + 2 * m) * OCT));
                };
                let (mut p0, mut p1) = (V::splat(0.0), one);
                store(m, one);
                for l in m + 1..shells {
                    (p0, p1) = (p1, p1.fma(z, p0.mul(b(l, m))));
                    store(l, p1);
                }
                (re, im) = (im.fnma(y, re.mul(x)), im.fma(x, re.mul(y)));
            }
        }
    }
}

/// Input and output of a tile, with the strides of its rows.
#[derive(Clone, Copy)]
struct Tile {
    radial: *const f64,
    radial_step: usize,
    angular: *const f64,
    angular_step: usize,
    vectors: usize,
    out: *mut f64,
    dest: *const u32,
    norm: *const f64,
    dest_step: usize,
}

/// Adds the products of one vector of neighbours to the sums.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn add<V: Lanes, const NB: usize, const MB: usize>(acc: &mut [[V; MB]; NB], r: *const f64, y: *const f64) {
    // SAFETY: the caller gives pointers to `NB` radial and `MB` angular functions of a block.
    unsafe {
        let mut ys = [V::splat(0.0); MB];
        for (m, v) in ys.iter_mut().enumerate() {
            *v = V::load(y.add(m * OCT));
        }
        for (n, row) in acc.iter_mut().enumerate() {
            let rv = V::load(r.add(n * OCT));
            for (m, sum) in row.iter_mut().enumerate() {
                *sum = rv.fma(ys[m], *sum);
            }
        }
    }
}

/// Sums over neighbours of `NB` radial times `MB` angular functions.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn tile<V: Lanes, const NB: usize, const MB: usize>(t: Tile) {
    // SAFETY: `accumulate` gives a tile whose functions, vectors and components are in range.
    unsafe {
        let mut acc = [[V::splat(0.0); MB]; NB];
        let (mut r, mut y) = (t.radial, t.angular);
        let whole = OCT / V::N;
        for _ in 0..t.vectors / whole {
            for h in 0..whole {
                add::<V, NB, MB>(&mut acc, r.add(h * V::N), y.add(h * V::N));
            }
            (r, y) = (r.add(t.radial_step), y.add(t.angular_step));
        }
        for h in 0..t.vectors % whole {
            add::<V, NB, MB>(&mut acc, r.add(h * V::N), y.add(h * V::N));
        }
        // Eight sums at a time; those beyond the tile are not stored.
        let mut k = 0;
        while k < NB * MB {
            let mut eight = [V::splat(0.0); 8];
            for (i, v) in eight.iter_mut().enumerate() {
                if k + i < NB * MB {
                    *v = acc[(k + i) / MB][(k + i) % MB];
                }
            }
            let sums = V::sum8(&eight);
            for (i, sum) in sums.into_iter().enumerate() {
                if k + i < NB * MB {
                    let (n, m) = ((k + i) / MB, (k + i) % MB);
                    let at = m * t.dest_step + n;
                    *t.out.add(*t.dest.add(at) as usize * V::N) = sum * *t.norm.add(at);
                }
            }
            k += 8;
        }
    }
}

macro_rules! tile_sizes {
    ($v:ty, $t:expr, $n:expr, $m:expr; $($nb:literal)*) => {
        match $n { $($nb => tile_sizes!(@row $v, $t, $nb, $m; 1 2 3 4 5),)* _ => unreachable!() }
    };
    (@row $v:ty, $t:expr, $nb:literal, $m:expr; $($mb:literal)*) => {
        match $m { $($mb => tile::<$v, $nb, $mb>($t),)* _ => unreachable!() }
    };
}

/// The atomic base of all shells of a segment.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn accumulate<V: Lanes>(job: &mut BaseJob, segment: &Segment, range: Range, radial: *const f64, ncol: usize) {
    let shells = segment.shells.len();
    // SAFETY: by `SpeciesPlan::check` the shells' columns and components are within the table and `dest`, and all of `dest` within
    // the base nodes; `BaseJob::check` sized the buffers.
    unsafe {
        let out: *mut f64 = job.nodes.value.as_mut_ptr().cast::<f64>().add(job.lane);
        let angular: *const f64 = job.scratch.harmonics.as_ptr().cast();
        for (l, shell) in segment.shells.iter().enumerate() {
            let (nn, nm) = (shell.ns.len(), 2 * l + 1);
            let mut n = 0;
            while n < nn {
                // Equal parts: 6 is split into 3 + 3, not 5 + 1.
                let nb = (nn - n).div_ceil((nn - n).div_ceil(MAX_TILE));
                // As many sums as fit into registers beside the angular functions and one radial function.
                let wide = ((V::REGISTERS - 1) / (nb + 1)).min(MAX_TILE);
                let mut m = 0;
                while m < nm {
                    let mb = (nm - m).div_ceil((nm - m).div_ceil(wide));
                    let t = Tile {
                        radial: radial.add((shell.column + n) * OCT),
                        radial_step: 2 * ncol * OCT,
                        angular: angular.add((l * l + m) * OCT),
                        angular_step: shells * shells * OCT,
                        vectors: range.vectors(V::N),
                        out,
                        dest: segment.dest.as_ptr().add(shell.dest + m * nn + n),
                        norm: segment.norm.as_ptr().add(shell.dest + m * nn + n),
                        dest_step: nn,
                    };
                    tile_sizes!(V, t, nb, mb; 1 2 3 4 5);
                    m += mb;
                }
                n += nb;
            }
        }
    }
}
