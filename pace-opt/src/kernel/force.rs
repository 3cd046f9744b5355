// SPDX-License-Identifier: GPL-2.0-or-later
//! Third stage: the adjoint of the atomic base, contracted to a gradient per neighbour.
//!
//! Over n first, with radial values and slopes; then over l and m, with Legendre functions and their
//! derivatives recomputed on the fly.

use super::{ForceJob, Range};
use crate::plan::{Legendre, Segment};
use crate::simd::{Lanes, OCT, Oct};

/// Radial functions of one shell that are contracted at a time.
const CHUNK: usize = 5;

/// Runs the stage for one atom.
///
/// # Safety
/// The processor has the instruction set of `V`; `ForceJob::check` ran.
#[inline(always)]
pub(super) unsafe fn run<V: Lanes>(job: &mut ForceJob) {
    for (j, segment) in job.plan.segments.iter().enumerate() {
        let range = job.atom.ranges[j];
        let Some(table) = &segment.table else { continue };
        if range.blocks == 0 {
            continue;
        }
        for (g, &d) in job.scratch.adjoint.iter_mut().zip(&segment.dest) {
            *g = job.nodes.adjoint[d as usize].0[job.lane];
        }
        // SAFETY: see above.
        unsafe {
            let vectors = range.blocks * OCT / V::N;
            let mut v = 0;
            while v + 2 <= vectors {
                neighbours::<V, 2>(job, segment, range, table.ncol, v);
                v += 2;
            }
            if v < vectors {
                neighbours::<V, 1>(job, segment, range, table.ncol, v);
            }
        }
    }
}

/// Gradients of `W` vectors of neighbours, from vector `v` of the range on.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn neighbours<V: Lanes, const W: usize>(
    job: &mut ForceJob,
    segment: &Segment,
    range: Range,
    ncol: usize,
    v: usize,
) {
    let nd = job.plan.embedding.ndensity;
    // SAFETY: see above.
    unsafe {
        let radial: *const f64 = job.atom.radial.as_ptr().add(range.radial).cast();
        // Vector v + w: its block, and its place in the block.
        let place = |w: usize| {
            let block = (v + w) * V::N / OCT;
            (block, (v + w) * V::N % OCT)
        };
        let mut values = [radial; W];
        for (w, p) in values.iter_mut().enumerate() {
            let (block, lane) = place(w);
            *p = radial.add(block * 2 * ncol * OCT + lane);
        }
        let contracted: *mut f64 = job.scratch.contracted.as_mut_ptr().cast();
        for (l, shell) in segment.shells.iter().enumerate() {
            let nn = shell.ns.len();
            let out = contracted.add(l * l * 4 * OCT);
            let g = job.scratch.adjoint.as_ptr().add(shell.dest);
            let at = |n: usize| {
                let mut p = values;
                for p in &mut p {
                    *p = p.add((shell.column + n) * OCT);
                }
                p
            };
            if nn == 0 {
                for i in 0..(2 * l + 1) * 4 * OCT {
                    *out.add(i) = 0.0;
                }
            }
            let mut n = 0;
            while n < nn {
                let nb = (nn - n).div_ceil((nn - n).div_ceil(CHUNK));
                let p = at(n);
                match nb {
                    1 => contract::<V, W, 1>(p, ncol, g.add(n), nn, 2 * l + 1, out, n > 0),
                    2 => contract::<V, W, 2>(p, ncol, g.add(n), nn, 2 * l + 1, out, n > 0),
                    3 => contract::<V, W, 3>(p, ncol, g.add(n), nn, 2 * l + 1, out, n > 0),
                    4 => contract::<V, W, 4>(p, ncol, g.add(n), nn, 2 * l + 1, out, n > 0),
                    _ => contract::<V, W, 5>(p, ncol, g.add(n), nn, 2 * l + 1, out, n > 0),
                }
                n += nb;
            }
        }
        for (w, value) in values.iter().enumerate() {
            let (block, lane) = place(w);
            // Slopes of what depends on the distance alone.
            let slopes = value.add(ncol * OCT);
            let mut fr = V::splat(job.atom.core_slope).mul(V::load(slopes.add(segment.core_column * OCT)));
            for p in 0..nd {
                let s = V::splat(*job.atom.slope.get_unchecked(p));
                fr = s.fma(V::load(slopes.add((segment.rho_column + p) * OCT)), fr);
            }
            let g = range.block + block;
            let load = |v: &[Oct]| V::load(v.as_ptr().add(g).cast::<f64>().add(lane));
            let (x, y, z) = (load(&job.atom.x), load(&job.atom.y), load(&job.atom.z));
            let inv = load(&job.atom.inv_r);
            let (fr, gx, gy, gz) =
                angular::<V>(job.legendre, segment.shells.len(), contracted.add(w * OCT), (x, y, z), fr);
            // The gradient in the unit vector has no part along it.
            let along = gx.mul(x).add(gy.mul(y)).add(gz.mul(z));
            let radial = along.fnma(inv, fr);
            let store = |v: &mut [Oct], f: V| f.store(v.as_mut_ptr().add(g).cast::<f64>().add(lane));
            store(&mut job.atom.fx, radial.fma(x, inv.mul(gx)));
            store(&mut job.atom.fy, radial.fma(y, inv.mul(gy)));
            store(&mut job.atom.fz, radial.fma(z, inv.mul(gz)));
        }
    }
}

/// Sums over `NB` radial functions: per component the value and the slope, each for `W` vectors.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn contract<V: Lanes, const W: usize, const NB: usize>(
    values: [*const f64; W],
    ncol: usize,
    g: *const f64,
    nn: usize,
    components: usize,
    out: *mut f64,
    add: bool,
) {
    // SAFETY: see above.
    unsafe {
        let mut r = [[V::splat(0.0); W]; NB];
        let mut d = [[V::splat(0.0); W]; NB];
        for n in 0..NB {
            for w in 0..W {
                r[n][w] = V::load(values[w].add(n * OCT));
                d[n][w] = V::load(values[w].add((ncol + n) * OCT));
            }
        }
        for c in 0..components {
            let out = out.add(c * 4 * OCT);
            let mut u = [V::splat(0.0); W];
            let mut s = [V::splat(0.0); W];
            if add {
                for w in 0..W {
                    u[w] = V::load(out.add(w * OCT));
                    s[w] = V::load(out.add((2 + w) * OCT));
                }
            }
            for n in 0..NB {
                let g = V::splat(*g.add(c * nn + n));
                for w in 0..W {
                    u[w] = g.fma(r[n][w], u[w]);
                    s[w] = g.fma(d[n][w], s[w]);
                }
            }
            for w in 0..W {
                u[w].store(out.add(w * OCT));
                s[w].store(out.add((2 + w) * OCT));
            }
        }
    }
}

/// Radial slope and gradient in the (unconstrained) unit vector of one vector of neighbours.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn angular<V: Lanes>(
    legendre: &Legendre,
    shells: usize,
    contracted: *const f64,
    (x, y, z): (V, V, V),
    mut fr: V,
) -> (V, V, V, V) {
    let Legendre { start, a, b, ld } = legendre;
    // SAFETY: see above.
    unsafe {
        let zero = V::splat(0.0);
        let (mut gx, mut gy, mut gz) = (zero, zero, zero);
        // (x + iy)^m and the power before.
        let (mut re, mut im) = (V::splat(1.0), zero);
        let (mut re0, mut im0) = (zero, zero);
        for m in 0..shells {
            let (mut p0, mut p1) = (zero, V::splat(*start.get_unchecked(m)));
            let (mut d0, mut d1) = (zero, zero);
            // Sums over l of adjoint times P, times P', and of the slope's adjoint times P.
            let (mut sr, mut si, mut tr, mut ti, mut vr, mut vi) = (zero, zero, zero, zero, zero, zero);
            for l in m..shells {
                if l > m {
                    let i = l * ld + m;
                    let (ca, cb) = (V::splat(*a.get_unchecked(i)), V::splat(*b.get_unchecked(i)));
                    let p = p1.mul(z).fma(ca, p0.mul(cb));
                    let d = d1.fma(z, p1).fma(ca, d0.mul(cb));
                    (p0, p1) = (p1, p);
                    (d0, d1) = (d1, d);
                }
                let c = contracted.add((l * l + if m == 0 { 0 } else { 2 * m - 1 }) * 4 * OCT);
                let (u, s) = (V::load(c), V::load(c.add(2 * OCT)));
                sr = u.fma(p1, sr);
                tr = u.fma(d1, tr);
                vr = s.fma(p1, vr);
                if m > 0 {
                    let (u, s) = (V::load(c.add(4 * OCT)), V::load(c.add(6 * OCT)));
                    si = u.fma(p1, si);
                    ti = u.fma(d1, ti);
                    vi = s.fma(p1, vi);
                }
            }
            fr = vi.fma(im, vr.fma(re, fr));
            gz = ti.fma(im, tr.fma(re, gz));
            if m > 0 {
                let mf = V::splat(m as f64);
                gx = mf.fma(si.fma(im0, sr.mul(re0)), gx);
                gy = mf.fma(sr.fnma(im0, si.mul(re0)), gy);
            }
            (re0, im0) = (re, im);
            (re, im) = (im.fnma(y, re.mul(x)), im.fma(x, re.mul(y)));
        }
        (fr, gx, gy, gz)
    }
}
