// SPDX-License-Identifier: GPL-2.0-or-later
//! Second stage: evaluates the product graph for a batch of atoms, forwards and backwards.
//!
//! A vector has one lane per atom of the batch; a node takes two vectors, its real and its imaginary part.

use super::{BiasJob, Nodes, ProductJob};
use crate::plan::SpeciesPlan;
use crate::plan::graph::{BLOCK, Block, Terms};
use crate::simd::{Lanes, OCT};
use std::ops::Range;

/// Computes the interior nodes and the densities.
///
/// # Safety
/// The processor has the instruction set of `V`, and `ProductJob::check` ran with `V::N` lanes. Nodes, terms and ranges of
/// the graph are in range since `Graph::new`.
#[inline(always)]
pub(super) unsafe fn forward<V: Lanes>(job: &mut ProductJob) {
    let nd = job.plan.embedding().ndensity;
    // SAFETY: the caller's promise is passed on.
    unsafe {
        interior::<V>(job);
        match nd {
            1 => densities::<V, 1>(job),
            2 => densities::<V, 2>(job),
            3 => densities::<V, 3>(job),
            _ => densities_any::<V>(job),
        }
    }
}

/// Adjoints of all nodes from the derivatives of the energy with respect to the densities.
///
/// # Safety
/// See [`forward`].
#[inline(always)]
pub(super) unsafe fn backward<V: Lanes>(job: &mut ProductJob) {
    let nd = job.plan.embedding().ndensity;
    // SAFETY: the caller's promise is passed on.
    unsafe {
        match nd {
            1 => terms_back::<V, 1>(job),
            2 => terms_back::<V, 2>(job),
            3 => terms_back::<V, 3>(job),
            _ => terms_back_any::<V>(job),
        }
        interior_back::<V>(job.plan, job.nodes);
    }
}

/// # Safety
/// See [`forward`].
#[inline(always)]
unsafe fn interior<V: Lanes>(job: &mut ProductJob) {
    let g = job.plan.graph();
    // SAFETY: `ProductJob::check` gave every node two vectors; by `Graph::new` the factors precede the node.
    unsafe {
        let values: *mut f64 = job.nodes.value.as_mut_ptr().cast();
        let mut out = values.add(g.base() * V::NODE);
        for i in g.interior() {
            let (a, b) = (values.add(i.a as usize * V::NODE), values.add(i.b as usize * V::NODE));
            let (ar, ai) = (V::load(a), V::load(a.add(V::N)));
            let (br, bi) = (V::load(b), V::load(b.add(V::N)));
            let (re, im) = if i.conj {
                (ai.fma(bi, ar.mul(br)), ar.fnma(bi, ai.mul(br)))
            } else {
                (ai.fnma(bi, ar.mul(br)), ar.fma(bi, ai.mul(br)))
            };
            re.store(out);
            im.store(out.add(V::N));
            out = out.add(V::NODE);
        }
    }
}

/// # Safety
/// See [`forward`].
#[inline(always)]
unsafe fn densities<V: Lanes, const ND: usize>(job: &mut ProductJob) {
    let g = job.plan.graph().by_x();
    // SAFETY: `ProductJob::check` checked the buffers, `Graph::new` all nodes and ranges.
    unsafe {
        let values: *const f64 = job.nodes.value.as_ptr().cast();
        let mut sums: *mut f64 = job.nodes.sums.as_mut_ptr().cast();
        let mut rho = [V::splat(0.0); ND];
        for group in &g.groups {
            let (plain, conj) = (group.start as usize..group.mid as usize, group.mid as usize..group.end as usize);
            let (re, im) = partners::<V, ND, false>(g, plain, values, [V::splat(0.0); ND], [V::splat(0.0); ND]);
            let (re, im) = partners::<V, ND, true>(g, conj, values, re, im);
            let x = values.add(group.node as usize * V::NODE);
            let (xr, xi) = (V::load(x), V::load(x.add(V::N)));
            for p in 0..ND {
                rho[p] = xi.fma(im[p], xr.fma(re[p], rho[p]));
                re[p].store(sums.add(p * V::NODE));
                im[p].store(sums.add(p * V::NODE + V::N));
            }
            sums = sums.add(ND * V::NODE);
        }
        for (p, r) in rho.into_iter().enumerate() {
            r.store(job.nodes.rho.as_mut_ptr().cast::<f64>().add(p * V::N));
        }
    }
}

/// Adds the partners of a range of terms, times their coefficients in each density, to the sums of real parts and of negated
/// imaginary parts; with `CONJ`, of imaginary parts.
///
/// # Safety
/// See [`forward`].
#[inline(always)]
unsafe fn partners<V: Lanes, const ND: usize, const CONJ: bool>(
    terms: &Terms,
    range: Range<usize>,
    values: *const f64,
    mut re: [V; ND],
    mut im: [V; ND],
) -> ([V; ND], [V; ND]) {
    // SAFETY: `ProductJob::check` checked the buffers, `Graph::new` all nodes and ranges.
    unsafe {
        for t in range {
            let y = values.add(*terms.partner.get_unchecked(t) as usize * V::NODE);
            let (yr, yi) = (V::load(y), V::load(y.add(V::N)));
            for p in 0..ND {
                let c = V::splat(*terms.coef.get_unchecked(t * ND + p));
                re[p] = c.fma(yr, re[p]);
                im[p] = if CONJ { c.fma(yi, im[p]) } else { c.fnma(yi, im[p]) };
            }
        }
        (re, im)
    }
}

/// As [`densities`], for any number of densities.
///
/// # Safety
/// See [`forward`].
#[inline(always)]
unsafe fn densities_any<V: Lanes>(job: &mut ProductJob) {
    let g = job.plan.graph().by_x();
    let nd = job.plan.embedding().ndensity;
    // SAFETY: `ProductJob::check` checked the buffers, `Graph::new` all nodes and ranges.
    unsafe {
        let values: *const f64 = job.nodes.value.as_ptr().cast();
        let sums: *mut f64 = job.nodes.sums.as_mut_ptr().cast();
        for p in 0..nd {
            let mut rho = V::splat(0.0);
            for (k, group) in g.groups.iter().enumerate() {
                let (mut re, mut im) = (V::splat(0.0), V::splat(0.0));
                for t in group.start..group.end {
                    let y = values.add(*g.partner.get_unchecked(t as usize) as usize * V::NODE);
                    let c = V::splat(*g.coef.get_unchecked(t as usize * nd + p));
                    re = c.fma(V::load(y), re);
                    let yi = V::load(y.add(V::N));
                    im = if t < group.mid { c.fnma(yi, im) } else { c.fma(yi, im) };
                }
                let x = values.add(group.node as usize * V::NODE);
                rho = V::load(x.add(V::N)).fma(im, V::load(x).fma(re, rho));
                let s = sums.add((k * nd + p) * V::NODE);
                re.store(s);
                im.store(s.add(V::N));
            }
            rho.store(job.nodes.rho.as_mut_ptr().cast::<f64>().add(p * V::N));
        }
    }
}

/// Adjoints of the first factors of all terms, from the sums that [`densities`] stored, then of the second factors.
///
/// # Safety
/// See [`forward`].
#[inline(always)]
unsafe fn terms_back<V: Lanes, const ND: usize>(job: &mut ProductJob) {
    let (by_x, by_y) = (job.plan.graph().by_x(), job.plan.graph().by_y());
    // SAFETY: `ProductJob::check` checked the buffers, `Graph::new` all nodes and ranges.
    unsafe {
        let values: *const f64 = job.nodes.value.as_ptr().cast();
        let adjoints: *mut f64 = job.nodes.adjoint.as_mut_ptr().cast();
        let mut sums: *const f64 = job.nodes.sums.as_ptr().cast();
        let mut slope = [V::splat(0.0); ND];
        for (p, s) in slope.iter_mut().enumerate() {
            *s = V::load(job.nodes.slope.as_ptr().cast::<f64>().add(p * V::N));
        }
        for group in &by_x.groups {
            let (mut re, mut im) = (V::splat(0.0), V::splat(0.0));
            for (p, slope) in slope.iter().enumerate() {
                re = slope.fma(V::load(sums.add(p * V::NODE)), re);
                im = slope.fma(V::load(sums.add(p * V::NODE + V::N)), im);
            }
            let dx = adjoints.add(group.node as usize * V::NODE);
            re.store(dx);
            im.store(dx.add(V::N));
            sums = sums.add(ND * V::NODE);
        }
        for group in &by_y.groups {
            let dy = adjoints.add(group.node as usize * V::NODE);
            let (plain, conj) = (group.start as usize..group.mid as usize, group.mid as usize..group.end as usize);
            let (re, im) = factors::<V, ND>(by_y, plain, values, &slope);
            let (more, minus) = factors::<V, ND>(by_y, conj, values, &slope);
            re.add(more).add(V::load(dy)).store(dy);
            minus.sub(im).add(V::load(dy.add(V::N))).store(dy.add(V::N));
        }
    }
}

/// Sum over a range of terms of the partner times the term's derivative.
///
/// # Safety
/// See [`forward`].
#[inline(always)]
unsafe fn factors<V: Lanes, const ND: usize>(
    terms: &Terms,
    range: Range<usize>,
    values: *const f64,
    slope: &[V; ND],
) -> (V, V) {
    // SAFETY: `ProductJob::check` checked the buffers, `Graph::new` all nodes and ranges.
    unsafe {
        // Two independent sums, to hide latency.
        let mut sums = [(V::splat(0.0), V::splat(0.0)); 2];
        let mut t = range.start;
        while t < range.end {
            for (k, (re, im)) in sums.iter_mut().enumerate() {
                if t + k < range.end {
                    let coef = terms.coef.as_ptr().add((t + k) * ND);
                    let mut c = V::splat(*coef).mul(slope[0]);
                    for (p, slope) in slope.iter().enumerate().skip(1) {
                        c = V::splat(*coef.add(p)).fma(*slope, c);
                    }
                    let x = values.add(*terms.partner.get_unchecked(t + k) as usize * V::NODE);
                    *re = c.fma(V::load(x), *re);
                    *im = c.fma(V::load(x.add(V::N)), *im);
                }
            }
            t += 2;
        }
        (sums[0].0.add(sums[1].0), sums[0].1.add(sums[1].1))
    }
}

/// As [`terms_back`], for any number of densities.
///
/// # Safety
/// See [`forward`].
#[inline(always)]
unsafe fn terms_back_any<V: Lanes>(job: &mut ProductJob) {
    let (by_x, by_y) = (job.plan.graph().by_x(), job.plan.graph().by_y());
    let nd = job.plan.embedding().ndensity;
    // SAFETY: `ProductJob::check` checked the buffers, `Graph::new` all nodes and ranges.
    unsafe {
        let values: *const f64 = job.nodes.value.as_ptr().cast();
        let adjoints: *mut f64 = job.nodes.adjoint.as_mut_ptr().cast();
        let sums: *const f64 = job.nodes.sums.as_ptr().cast();
        for p in 0..nd {
            let slope = V::load(job.nodes.slope.as_ptr().cast::<f64>().add(p * V::N));
            for (k, group) in by_x.groups.iter().enumerate() {
                let s = sums.add((k * nd + p) * V::NODE);
                let dx = adjoints.add(group.node as usize * V::NODE);
                slope.fma(V::load(s), V::load(dx)).store(dx);
                slope.fma(V::load(s.add(V::N)), V::load(dx.add(V::N))).store(dx.add(V::N));
            }
            for group in &by_y.groups {
                let dy = adjoints.add(group.node as usize * V::NODE);
                let (mut re, mut im) = (V::load(dy), V::load(dy.add(V::N)));
                for t in group.start..group.end {
                    let c = V::splat(*by_y.coef.get_unchecked(t as usize * nd + p)).mul(slope);
                    let x = values.add(*by_y.partner.get_unchecked(t as usize) as usize * V::NODE);
                    re = c.fma(V::load(x), re);
                    let xi = V::load(x.add(V::N));
                    im = if t < group.mid { c.fnma(xi, im) } else { c.fma(xi, im) };
                }
                re.store(dy);
                im.store(dy.add(V::N));
            }
        }
    }
}

/// # Safety
/// See [`forward`].
#[inline(always)]
unsafe fn interior_back<V: Lanes>(plan: &SpeciesPlan, nodes: &mut Nodes) {
    let g = plan.graph();
    // SAFETY: `ProductJob::check` checked the buffers, `Graph::new` all nodes and ranges.
    unsafe {
        let values: *const f64 = nodes.value.as_ptr().cast();
        let adjoints: *mut f64 = nodes.adjoint.as_mut_ptr().cast();
        for (k, i) in g.interior().iter().enumerate().rev() {
            let d = adjoints.add((g.base() + k) * V::NODE);
            let (a, b) = (i.a as usize * V::NODE, i.b as usize * V::NODE);
            let (dr, di) = (V::load(d), V::load(d.add(V::N)));
            let (ar, ai) = (V::load(values.add(a)), V::load(values.add(a + V::N)));
            let (br, bi) = (V::load(values.add(b)), V::load(values.add(b + V::N)));
            let (pa, pb) = (adjoints.add(a), adjoints.add(b));
            // a and b can be the same node: store the first before loading the second.
            let (mut xr, mut xi) = (V::load(pa), V::load(pa.add(V::N)));
            if i.conj {
                xr = di.fnma(bi, dr.fma(br, xr));
                xi = di.fma(br, dr.fma(bi, xi));
            } else {
                xr = di.fma(bi, dr.fma(br, xr));
                xi = dr.fnma(bi, di.fma(br, xi));
            }
            xr.store(pa);
            xi.store(pa.add(V::N));
            let (mut yr, mut yi) = (V::load(pb), V::load(pb.add(V::N)));
            yr = di.fma(ai, dr.fma(ar, yr));
            yi = if i.conj { di.fnma(ar, dr.fma(ai, yi)) } else { dr.fnma(ai, di.fma(ar, yi)) };
            yr.store(pb);
            yi.store(pb.add(V::N));
        }
    }
}

/// Adjoints of all nodes from the derivatives with respect to the densities and to the functions, which atoms have each
/// their own: as [`backward`], but a term's coefficient differs from lane to lane.
///
/// # Safety
/// See [`forward`]; `BiasJob::check` ran.
#[inline(always)]
pub(super) unsafe fn backward_biased<V: Lanes>(job: &mut BiasJob) {
    let (by_x, by_y) = (job.plan.graph().by_x(), job.plan.graph().by_y());
    // SAFETY: `BiasJob::check` checked the buffers, `Graph::new` all nodes, ranges and numbers.
    unsafe {
        let adjoints: *mut f64 = job.nodes.adjoint.as_mut_ptr().cast();
        for group in &by_x.groups {
            let (re, im) = biased_partners::<V>(job, group.start..group.mid);
            let (more, minus) = biased_partners::<V>(job, group.mid..group.end);
            let dx = adjoints.add(group.node as usize * V::NODE);
            re.add(more).store(dx);
            minus.sub(im).store(dx.add(V::N));
        }
        for group in &by_y.groups {
            let (re, im) = biased_factors::<V>(job, group.start..group.mid);
            let (more, minus) = biased_factors::<V>(job, group.mid..group.end);
            let dy = adjoints.add(group.node as usize * V::NODE);
            re.add(more).add(V::load(dy)).store(dy);
            minus.sub(im).add(V::load(dy.add(V::N))).store(dy.add(V::N));
        }
        interior_back::<V>(job.plan, job.nodes);
    }
}

/// Sum over a range of terms of `by_x` of the second factor times the term's coefficient.
///
/// # Safety
/// See [`backward_biased`]; the terms exist.
#[inline(always)]
unsafe fn biased_partners<V: Lanes>(job: &mut BiasJob, range: Range<u32>) -> (V, V) {
    // SAFETY: see `backward_biased`.
    unsafe {
        let values: *const f64 = job.nodes.value.as_ptr().cast();
        let (mut re, mut im) = (V::splat(0.0), V::splat(0.0));
        for t in range.start as usize..range.end as usize {
            let c = coefficient::<V>(job, t);
            let y = values.add(*job.plan.graph().by_x().partner.get_unchecked(t) as usize * V::NODE);
            re = c.fma(V::load(y), re);
            im = c.fma(V::load(y.add(V::N)), im);
        }
        (re, im)
    }
}

/// Sum over a range of terms of `by_y` of the first factor times the term's coefficient, which [`coefficient`] stored.
///
/// # Safety
/// See [`backward_biased`]; the terms exist.
#[inline(always)]
unsafe fn biased_factors<V: Lanes>(job: &BiasJob, range: Range<u32>) -> (V, V) {
    let by_y = job.plan.graph().by_y();
    // SAFETY: see `backward_biased`.
    unsafe {
        let values: *const f64 = job.nodes.value.as_ptr().cast();
        let terms: *const f64 = job.terms.as_ptr().cast();
        let (mut re, mut im) = (V::splat(0.0), V::splat(0.0));
        for t in range.start as usize..range.end as usize {
            let c = V::load(terms.add(*by_y.other.get_unchecked(t) as usize * V::N));
            let x = values.add(*by_y.partner.get_unchecked(t) as usize * V::NODE);
            re = c.fma(V::load(x), re);
            im = c.fma(V::load(x.add(V::N)), im);
        }
        (re, im)
    }
}

/// Coefficient of term `t` of `by_x`, from the derivatives with respect to densities and functions; it is stored for `by_y`.
///
/// # Safety
/// See [`backward_biased`]; the term exists.
#[inline(always)]
unsafe fn coefficient<V: Lanes>(job: &mut BiasJob, t: usize) -> V {
    let g = job.plan.graph();
    let nd = job.plan.embedding().ndensity;
    // SAFETY: see `backward_biased`; there is one more of the starts than there are terms.
    unsafe {
        let slopes: *const f64 = job.nodes.slope.as_ptr().cast();
        let coef = g.by_x().coef.as_ptr().add(t * nd);
        let mut c = V::splat(*coef).mul(V::load(slopes));
        for p in 1..nd {
            c = V::splat(*coef.add(p)).fma(V::load(slopes.add(p * V::N)), c);
        }
        let (start, end) = (*g.share_starts().get_unchecked(t), *g.share_starts().get_unchecked(t + 1));
        for share in g.shares().get_unchecked(start as usize..end as usize) {
            let a = V::load(job.functions.as_ptr().cast::<f64>().add(share.function as usize * V::N));
            c = V::splat(share.coef).fma(a, c);
        }
        c.store(job.terms.as_mut_ptr().cast::<f64>().add(t * V::N));
        c
    }
}

/// Projections on the functions of more than one neighbour.
///
/// # Safety
/// See [`forward`]; `projections` has an oct for each function of the graph.
#[inline(always)]
pub(super) unsafe fn project<V: Lanes>(job: &mut ProductJob) {
    let graph = job.plan.graph();
    // SAFETY: the caller's promise is passed on; by `Graph::new` a block has 1 to `BLOCK` functions.
    unsafe {
        for block in graph.blocks() {
            match block.numbers.len() {
                1 => project_block::<V, 1>(job, block),
                2 => project_block::<V, 2>(job, block),
                3 => project_block::<V, 3>(job, block),
                4 => project_block::<V, 4>(job, block),
                5 => project_block::<V, 5>(job, block),
                6 => project_block::<V, 6>(job, block),
                7 => project_block::<V, 7>(job, block),
                _ => project_block::<V, BLOCK>(job, block),
            }
        }
    }
}

/// # Safety
/// See [`project`]; the block is one of the graph and has `N` functions.
#[inline(always)]
unsafe fn project_block<V: Lanes, const N: usize>(job: &mut ProductJob, block: &Block) {
    let graph = job.plan.graph();
    // SAFETY: as for `forward`; function numbers are below the number of functions, and terms and coefficients exist, by `Graph::new`.
    unsafe {
        let values: *const f64 = job.nodes.value.as_ptr().cast();
        let out = job.projections.as_mut_ptr().cast::<f64>().add(job.lane);
        let mut coefs = graph.part_coefs().as_ptr().add(block.coefs);
        let mut sums = [V::splat(0.0); N];
        for t in block.start..block.end {
            let part = graph.parts().get_unchecked(t as usize);
            let (x, y) = (values.add(part.x as usize * V::NODE), values.add(part.y as usize * V::NODE));
            let re = V::load(x).mul(V::load(y));
            let (xi, yi) = (V::load(x.add(V::N)), V::load(y.add(V::N)));
            let product = if t < block.mid { xi.fnma(yi, re) } else { xi.fma(yi, re) };
            for (f, sum) in sums.iter_mut().enumerate() {
                *sum = V::splat(*coefs.add(f)).fma(product, *sum);
            }
            coefs = coefs.add(N);
        }
        for (sum, number) in sums.into_iter().zip(&block.numbers) {
            sum.store(out.add(*number as usize * OCT));
        }
    }
}
