// SPDX-License-Identifier: GPL-2.0-or-later
//! Third stage: contracts the adjoint of the atomic base to a gradient per neighbour.
//!
//! First over n, with radial values and slopes; then over l and m, with recomputed Legendre functions and derivatives.

use super::{ForceJob, Range};
use crate::plan::Legendre;
use crate::simd::{Lanes, OCT, Oct, doubles, flat};

/// Largest number of radial functions of a shell that are contracted together: their values and slopes stay in registers.
const CHUNK: usize = 5;

/// Number of vectors of neighbours that are processed together per shell, so that loop lengths are predictable.
pub(super) const GROUP: usize = 4;

/// Runs the stage for one atom.
///
/// # Safety
/// The processor has the instruction set of `V`, `ForceJob::check` ran, and the nodes have `V::N` lanes. Columns and
/// components of the plan are in range since `SpeciesPlan::check`.
#[inline(always)]
pub(super) unsafe fn run<V: Lanes>(job: &mut ForceJob) {
    // SAFETY: the processor has the instruction set.
    let mut sums = unsafe { [V::splat(0.0); 9] };
    for (j, segment) in job.plan.segments().iter().enumerate() {
        let range = job.atom.ranges[j];
        let Some(table) = &segment.table else { continue };
        if range.blocks == 0 {
            continue;
        }
        let adjoints = doubles(&job.nodes.adjoint);
        for (g, (&d, norm)) in job.scratch.adjoint.iter_mut().zip(segment.dest.iter().zip(&segment.norm)) {
            *g = norm * adjoints[d as usize * V::N + job.lane];
        }
        let vectors = range.vectors(V::N);
        for v in (0..vectors).step_by(GROUP) {
            // SAFETY: the caller's promise; the vectors are within the range.
            unsafe { neighbours::<V>(job, j, range, table.ncol(), v, GROUP.min(vectors - v), &mut sums) }
        }
        let atom = &mut *job.atom;
        for f in [&mut atom.fx, &mut atom.fy, &mut atom.fz] {
            // Vectors of padding alone.
            flat(f)[range.block * OCT + vectors * V::N..(range.block + range.blocks) * OCT].fill(0.0);
        }
    }
    // SAFETY: the processor has the instruction set.
    let sums = sums.map(|v| unsafe { v.sum() });
    job.atom.gradient.copy_from_slice(&sums[..3]);
    job.atom.virial.copy_from_slice(&sums[3..]);
}

/// Gradients of `count` vectors of neighbours, from vector `first` of the range on. Adds them to their sum and to the virial.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn neighbours<V: Lanes>(
    job: &mut ForceJob,
    element: usize,
    range: Range,
    ncol: usize,
    first: usize,
    count: usize,
    totals: &mut [V; 9],
) {
    let nd = job.plan.embedding().ndensity;
    let segment = &job.plan.segments()[element];
    let shells = segment.shells.len();
    // Only for a bias.
    let columns = job.columns.get(element).map_or(&[][..], |columns| columns);
    // SAFETY: `ForceJob::check` sized the buffers for the blocks of the range and `GROUP` vectors; by `SpeciesPlan::check` the
    // columns are within the table.
    unsafe {
        let radial: *const f64 = job.atom.radial.as_ptr().add(range.radial).cast();
        // Slopes of the functions of one neighbour in the first block, and doubles from one block to the next.
        let (single, blocks) = match segment.base_sums.table() {
            Some(base) if !columns.is_empty() => {
                let values: *const f64 = job.atom.radial_base.as_ptr().add(range.radial_base).cast();
                (values.add(base.ncol() * OCT), 2 * base.ncol() * OCT)
            }
            _ => (radial.add(ncol * OCT), 2 * ncol * OCT),
        };
        let contracted: *mut f64 = job.scratch.contracted.as_mut_ptr().cast();
        // For each vector: its block and lane, its radial functions, and the output of the contraction.
        let mut places = [(0, 0); GROUP];
        let mut values = [radial; GROUP];
        let mut sums = [contracted; GROUP];
        for w in 0..count {
            let (block, lane) = ((first + w) * V::N / OCT, (first + w) * V::N % OCT);
            places[w] = (range.block + block, lane);
            values[w] = radial.add(block * 2 * ncol * OCT + lane);
            sums[w] = contracted.add(w * shells * shells * V::NODE);
        }
        for (l, shell) in segment.shells.iter().enumerate() {
            let nn = shell.ns.len();
            let components = 2 * l + 1;
            let mut t = Contraction {
                ncol,
                adjoint: job.scratch.adjoint.as_ptr().add(shell.dest),
                nn,
                components,
                column: shell.column,
                component: l * l,
                add: false,
            };
            if nn == 0 {
                for sums in &sums[..count] {
                    let out = sums.add(l * l * V::NODE);
                    (0..components * 2).for_each(|i| V::splat(0.0).store(out.add(i * V::N)));
                }
            }
            let mut left = nn;
            while left > 0 {
                let nb = left.div_ceil(left.div_ceil(CHUNK));
                let vectors = values[..count].iter().zip(&sums[..count]);
                match nb {
                    1 => vectors.for_each(|(&r, &out)| contract::<V, 1>(t, r, out)),
                    2 => vectors.for_each(|(&r, &out)| contract::<V, 2>(t, r, out)),
                    3 => vectors.for_each(|(&r, &out)| contract::<V, 3>(t, r, out)),
                    4 => vectors.for_each(|(&r, &out)| contract::<V, 4>(t, r, out)),
                    _ => vectors.for_each(|(&r, &out)| contract::<V, 5>(t, r, out)),
                }
                t.adjoint = t.adjoint.add(nb);
                t.column += nb;
                t.add = true;
                left -= nb;
            }
        }
        for w in 0..count {
            let (g, lane) = places[w];
            // Repulsion and densities of one neighbour depend on the distance only.
            let slopes = values[w].add(ncol * OCT);
            let mut fr = V::splat(job.atom.core_slope).mul(V::load(slopes.add(segment.core_column * OCT)));
            for p in 0..nd {
                let s = V::splat(*job.atom.slope.get_unchecked(p));
                fr = s.fma(V::load(slopes.add((segment.rho_column + p) * OCT)), fr);
            }
            for (c, u) in columns.iter().enumerate() {
                fr = V::splat(*u).fma(V::load(single.add((g - range.block) * blocks + c * OCT + lane)), fr);
            }
            let load = |v: &[Oct]| V::load(v.as_ptr().add(g).cast::<f64>().add(lane));
            let (x, y, z) = (load(&job.atom.x), load(&job.atom.y), load(&job.atom.z));
            let inv = load(&job.atom.inv_r);
            let (mut gx, mut gy, mut gz) = (V::splat(0.0), V::splat(0.0), V::splat(0.0));
            if shells > 0 {
                (fr, gx, gy, gz) = angular::<V>(job.legendre, shells, sums[w], (x, y, z), fr);
            }
            // Project out the component of the gradient along the unit vector.
            let along = gx.mul(x).add(gy.mul(y)).add(gz.mul(z));
            let radial = along.fnma(inv, fr);
            let (fx, fy, fz) = (radial.fma(x, inv.mul(gx)), radial.fma(y, inv.mul(gy)), radial.fma(z, inv.mul(gz)));
            let store = |v: &mut [Oct], f: V| f.store(v.as_mut_ptr().add(g).cast::<f64>().add(lane));
            store(&mut job.atom.fx, fx);
            store(&mut job.atom.fy, fy);
            store(&mut job.atom.fz, fz);
            let r = load(&job.atom.r);
            let (dx, dy, dz) = (x.mul(r), y.mul(r), z.mul(r));
            for (sum, f) in totals.iter_mut().zip([fx, fy, fz]) {
                *sum = sum.add(f);
            }
            let pairs = [(dx, fx), (dy, fy), (dz, fz), (dx, fy), (dx, fz), (dy, fz)];
            for (sum, (d, f)) in totals[3..].iter_mut().zip(pairs) {
                *sum = d.fnma(f, *sum);
            }
        }
    }
}

/// A contraction over some radial functions of a shell.
#[derive(Clone, Copy)]
struct Contraction {
    /// Columns of the table.
    ncol: usize,
    /// `[component][n]`
    adjoint: *const f64,
    nn: usize,
    components: usize,
    /// Column of the first radial function.
    column: usize,
    /// Index of the first component.
    component: usize,
    /// Whether to add to the output of previous functions.
    add: bool,
}

/// Sums over `NB` radial functions for a vector of neighbours: per component the value and the slope.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn contract<V: Lanes, const NB: usize>(t: Contraction, values: *const f64, out: *mut f64) {
    // SAFETY: the caller's functions and components are within the shell, which is within the table and the adjoint.
    unsafe {
        let mut r = [V::splat(0.0); NB];
        let mut d = [V::splat(0.0); NB];
        for n in 0..NB {
            r[n] = V::load(values.add((t.column + n) * OCT));
            d[n] = V::load(values.add((t.ncol + t.column + n) * OCT));
        }
        let out = out.add(t.component * V::NODE);
        for c in 0..t.components {
            let out = out.add(c * V::NODE);
            let (mut u, mut s) = (V::splat(0.0), V::splat(0.0));
            if t.add {
                (u, s) = (V::load(out), V::load(out.add(V::N)));
            }
            for n in 0..NB {
                let g = V::splat(*t.adjoint.add(c * t.nn + n));
                u = g.fma(r[n], u);
                s = g.fma(d[n], s);
            }
            u.store(out);
            s.store(out.add(V::N));
        }
    }
}

/// Derivatives with respect to the distance and to the (unconstrained) unit vector, for one vector of neighbours.
///
/// # Safety
/// See [`run`]; there is a shell.
#[inline(always)]
unsafe fn angular<V: Lanes>(
    legendre: &Legendre,
    shells: usize,
    contracted: *const f64,
    (x, y, z): (V, V, V),
    mut fr: V,
) -> (V, V, V, V) {
    let (b, ld) = (legendre.b(), legendre.ld());
    // SAFETY: `contracted` has `shells²` components; `ForceJob::check` asserted shells ≤ ld, and `b` has ld² elements.
    unsafe {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        // `at`: adjoint of a component and of its radial derivative; `next`: P and P' of the next l.
        let at = |c: usize| (V::load(contracted.add(c * V::NODE)), V::load(contracted.add(c * V::NODE + V::N)));
        let next = |l: usize, m: usize, (p0, p1, d0, d1): (V, V, V, V)| {
            let b = V::splat(*b.get_unchecked(l * ld + m));
            (p1, p1.fma(z, b.mul(p0)), d1, d1.fma(z, b.fma(d0, p1)))
        };
        // For m = 0: sums over l of the adjoint times P and P', and of the radial derivative's adjoint times P.
        let mut gz = zero;
        fr = fr.add(at(0).1);
        let mut p = (zero, one, zero, zero);
        for l in 1..shells {
            p = next(l, 0, p);
            let (u, s) = at(l * l);
            gz = u.fma(p.3, gz);
            fr = s.fma(p.1, fr);
        }
        let (mut gx, mut gy) = (zero, zero);
        // (x + iy)^m and (x + iy)^(m-1).
        let (mut re, mut im) = (x, y);
        let (mut re0, mut im0) = (one, zero);
        for m in 1..shells {
            let c = m * m + 2 * m - 1;
            let ((mut sr, mut vr), (mut si, mut vi)) = (at(c), at(c + 1));
            let (mut tr, mut ti) = (zero, zero);
            let mut p = (zero, one, zero, zero);
            for l in m + 1..shells {
                p = next(l, m, p);
                let c = l * l + 2 * m - 1;
                let ((ur, wr), (ui, wi)) = (at(c), at(c + 1));
                sr = ur.fma(p.1, sr);
                si = ui.fma(p.1, si);
                tr = ur.fma(p.3, tr);
                ti = ui.fma(p.3, ti);
                vr = wr.fma(p.1, vr);
                vi = wi.fma(p.1, vi);
            }
            fr = vi.fma(im, vr.fma(re, fr));
            gz = ti.fma(im, tr.fma(re, gz));
            let mf = V::splat(m as f64);
            gx = mf.fma(si.fma(im0, sr.mul(re0)), gx);
            gy = mf.fma(sr.fnma(im0, si.mul(re0)), gy);
            (re0, im0) = (re, im);
            (re, im) = (im.fnma(y, re.mul(x)), im.fma(x, re.mul(y)));
        }
        (fr, gx, gy, gz)
    }
}
