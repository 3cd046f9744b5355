// SPDX-License-Identifier: GPL-2.0-or-later
//! Forces of a bias, per batch of atoms: from the large components of g to derivatives with respect to functions, densities,
//! repulsion and distances, and then through the backward pass of the potential itself.

use super::results::Sink;
use super::worker::{Job, Worker, add_pairs};
use crate::bias::{Bias, SHARE, smooth_maximum};
use crate::gamma::{Grade, Large};
use crate::kernel::{Atom, BiasJob, CombineJob, ForceJob, Range};
use crate::model::radial::switch_off;
use crate::model::{InnerCutoff, MAX_DENSITIES};
use crate::plan::{BaseSums, SpeciesPlan};
use crate::potential::Potential;
use crate::profile::Stage;
use crate::simd::{OCT, Oct, doubles, flat};

/// Derivatives of the bias of one atom, per unit of its strength, that the functions of several neighbours do not have.
#[derive(Debug, Default)]
struct AtomBias {
    /// −c S, dimensionless.
    energy: f64,
    /// With respect to each density; only for a non-linear active set.
    densities: Vec<f64>,
    /// With respect to the core repulsion.
    core: f64,
    /// With respect to the distance of the neighbour in [`Atom::switch_nearest`].
    nearest: f64,
    /// With respect to the distances of close neighbours.
    pairs: Vec<(usize, f64)>,
    /// With respect to the sums of the first columns of the tables, or of those of the radial basis functions, by element of the
    /// neighbour.
    columns: Vec<Vec<f64>>,
}

/// Buffers of the bias.
#[derive(Debug, Default)]
pub(super) struct BiasWork {
    large: Large,
    /// Derivative of s times the factors of the limits, per large component.
    weights: Vec<Oct>,
    /// Linear combinations of the rows of the inverted active set, one vector of lanes per component.
    combined: Vec<Oct>,
    /// Derivatives with respect to the functions, for a non-linear active set.
    functions: Vec<Oct>,
    /// Projections before they are multiplied by the derivatives of the embedding.
    projections: Vec<Oct>,
    /// Coefficients of the terms.
    terms: Vec<Oct>,
    /// Large components of one atom: their places in `large` and values.
    places: Vec<usize>,
    components: Vec<f64>,
    atoms: Vec<AtomBias>,
}

impl BiasWork {
    /// Keeps the projections of one lane on the functions.
    pub(super) fn keep(&mut self, projections: &[Oct], functions: usize, lane: usize) {
        self.projections.resize(functions, Oct::default());
        self.projections.iter_mut().zip(projections).for_each(|(to, p)| to.0[lane] = p.0[lane]);
    }

    /// Energy of the first atoms, per unit of the strength.
    pub(super) fn energy(&self, atoms: usize) -> f64 {
        self.atoms[..atoms].iter().map(|a| a.energy).sum()
    }

    /// Whether the first atoms have no forces of the bias.
    pub(super) fn is_zero(&self, atoms: usize) -> bool {
        let own = |a: &AtomBias| a.core == 0.0 && a.nearest == 0.0 && a.pairs.is_empty();
        self.atoms[..atoms].iter().all(own) && self.weights.iter().all(|w| w.0[..atoms].iter().all(|w| *w == 0.0))
    }
}

impl Worker {
    /// Computes the bias of the atoms of a batch, per unit of its strength, and its derivatives with respect to the results of
    /// the first two stages. The projections of the batch are the last ones of the grader. `again`: the grades of these atoms have
    /// been computed.
    pub(super) fn weigh(
        &mut self,
        potential: &Potential,
        element: usize,
        atoms: usize,
        (bias, again): (Bias, bool),
        grade: &Grade,
        grades: &mut dyn FnMut(usize, f64),
    ) {
        let plan = &potential.plan.species[element];
        let length = grade.length(element, plan);
        let lanes = self.kernels.lanes();
        for p in self.grader.last(length) {
            // Lanes without an atom have the values of earlier ones.
            let first = p.0[0];
            p.0[atoms..].fill(first);
        }
        let work = &mut self.work;
        work.large.share = SHARE;
        self.grader.flush_large(&self.kernels, grade, element, (length, !again), grades, &mut work.large);
        self.scratch.clock.lap(Stage::Grade);

        work.atoms.resize_with(lanes, AtomBias::default);
        work.weights.clear();
        work.weights.resize(work.large.rows.len(), Oct::default());
        for (lane, own) in work.atoms.iter_mut().enumerate().take(atoms) {
            let atom = &self.atoms[lane];
            (own.energy, own.core, own.nearest) = (0.0, 0.0, 0.0);
            own.pairs.clear();
            let values = &work.large.values[..work.large.rows.len()];
            let largest = values.iter().map(|v| v.0[lane].abs()).fold(0.0, |a: f64, b| if a > b { a } else { b });
            work.places.clear();
            work.places.extend((0..values.len()).filter(|&k| !(values[k].0[lane].abs() < SHARE * largest)));
            let g = &mut work.components;
            g.clear();
            g.extend(work.places.iter().map(|&k| values[k].0[lane]));
            let near = close_pairs(atom, plan, potential.plan.inner, bias, &mut own.pairs);
            let Some(s) = smooth_maximum(g) else {
                own.pairs.clear();
                continue;
            };
            let (value, slope) = bias.value(s);
            if value == 0.0 {
                own.pairs.clear();
                continue;
            }
            own.energy = -value * near * atom.on;
            own.pairs.iter_mut().for_each(|(_, d)| *d *= -value * atom.on);
            own.core = -value * near * atom.switch_slope;
            own.nearest = atom.switch_nearest.map_or(0.0, |(_, d)| -value * near * d);
            let factor = -slope * near * atom.on;
            work.places.iter().zip(g).for_each(|(&k, w)| work.weights[k].0[lane] = factor * *w);
        }
        self.kernels.combine(CombineJob {
            matrix: grade.inverse(element),
            rows: &work.large.rows,
            weights: &work.weights,
            out: &mut work.combined,
        });
        if !grade.linear {
            self.fold_densities(plan, element, atoms);
        }
        for lane in 0..atoms {
            self.single_neighbours(plan, lane, grade.linear);
        }
        self.scratch.clock.lap(Stage::Bias);
    }

    /// From derivatives with respect to functions times F'ₚ, with F the embedding: those with respect to functions and, because F'ₚ
    /// depends on them, to densities.
    fn fold_densities(&mut self, plan: &SpeciesPlan, element: usize, atoms: usize) {
        let (lanes, functions, nd) = (self.kernels.lanes(), plan.functions(), plan.embedding().ndensity);
        let work = &mut self.work;
        work.functions.clear();
        work.functions.resize((functions * lanes).div_ceil(OCT), Oct::default());
        let combined = doubles(&work.combined);
        let out = flat(&mut work.functions);
        for (lane, own) in work.atoms.iter_mut().enumerate().take(atoms) {
            let atom = &self.atoms[lane];
            let (mut rho, mut curvature) = ([0.0; MAX_DENSITIES], [0.0; MAX_DENSITIES]);
            for (p, rho) in rho[..nd].iter_mut().enumerate() {
                *rho = self.nodes[element].rho(p, lane) + atom.rho[p];
            }
            plan.embedding().curvature(&rho[..nd], &mut curvature);
            own.densities.clear();
            for p in 0..nd {
                let mut sum = 0.0;
                for f in 0..functions {
                    let a = combined[(p * functions + f) * lanes + lane];
                    out[f * lanes + lane] += atom.grade_slope[p] * a;
                    sum += a * work.projections[f].0[lane];
                }
                own.densities.push(curvature[p] * sum);
            }
        }
    }

    /// Derivatives with respect to the functions of one neighbour, which are not part of the atomic base.
    fn single_neighbours(&mut self, plan: &SpeciesPlan, lane: usize, linear: bool) {
        let lanes = self.kernels.lanes();
        let BiasWork { functions, combined, atoms, components: sums, .. } = &mut self.work;
        let derivative = doubles(if linear { combined } else { functions });
        let (own, atom) = (&mut atoms[lane], &self.atoms[lane]);
        own.columns.resize(plan.segments().len(), Vec::new());
        for (j, segment) in plan.segments().iter().enumerate() {
            let columns = &mut own.columns[j];
            columns.clear();
            if atom.ranges[j].count == 0 {
                continue;
            }
            sums.clear();
            sums.resize(atom.base_sums[j].len(), 0.0);
            for (f, _) in plan.single().iter().enumerate().filter(|(_, (mu, _))| usize::from(*mu) == j) {
                if let Some(sum) = sums.get_mut(usize::from(plan.single()[f].1)) {
                    *sum += derivative[f * lanes + lane];
                }
            }
            if sums.iter().all(|d| *d == 0.0) {
                continue;
            }
            match &segment.base_sums {
                BaseSums::None => {}
                BaseSums::Columns(inverse) => {
                    let dot = |row: &[f64]| row.iter().zip(&*sums).map(|(i, d)| i * d).sum::<f64>();
                    columns.extend(inverse.chunks_exact(sums.len()).map(dot));
                }
                BaseSums::Table(_) => columns.clone_from(sums),
            }
        }
    }

    /// Adds the forces of a batch: of the potential and the bias together or, with `apart`, of the bias alone. Then those of the
    /// potential have been added before.
    pub(super) fn biased_forces<F>(
        &mut self,
        job: &Job<F>,
        element: usize,
        atoms: usize,
        (bias, apart): (Bias, bool),
        sink: &mut impl Sink,
    ) {
        let plan = &job.potential.plan.species[element];
        let legendre = &job.potential.plan.legendre;
        let linear = job.potential.grade.as_ref().is_some_and(|grade| grade.linear);
        let factor = if job.requested.bias_forces { 1.0 } else { bias.strength };
        let work = &mut self.work;
        let nodes = &mut self.nodes[element];
        for (lane, own) in work.atoms.iter_mut().enumerate().take(atoms) {
            let atom = &mut self.atoms[lane];
            if apart {
                atom.slope.fill(0.0);
                (atom.core_slope, atom.nearest) = (0.0, None);
            }
            for (slope, own) in atom.slope.iter_mut().zip(own.densities.iter().filter(|_| !linear)) {
                *slope += factor * own;
            }
            atom.slope.iter().enumerate().for_each(|(p, slope)| nodes.set_slope(p, lane, *slope));
            atom.core_slope += factor * own.core;
            if let Some((k, _)) = atom.switch_nearest {
                atom.nearest = Some((k, atom.nearest.map_or(0.0, |(_, slope)| slope) + factor * own.nearest));
            }
            atom.pairs.clear();
            atom.pairs.extend(own.pairs.iter().map(|(k, slope)| (*k, factor * slope)));
            own.columns.iter_mut().flatten().for_each(|d| *d *= factor);
        }
        let functions = if linear { &mut work.combined } else { &mut work.functions };
        if factor != 1.0 {
            flat(functions).iter_mut().for_each(|d| *d *= factor);
        }
        nodes.adjoint.fill(Oct::default());
        self.kernels.backward_biased(BiasJob { plan, nodes, functions, terms: &mut work.terms });
        self.scratch.clock.lap(Stage::Backward);
        for lane in 0..atoms {
            let (atom, scratch, nodes) = (&mut self.atoms[lane], &mut self.scratch, &self.nodes[element]);
            let AtomBias { columns, .. } = &self.work.atoms[lane];
            self.kernels.force(ForceJob { plan, legendre, atom, scratch, nodes, lane, columns });
            self.scratch.clock.lap(Stage::Force);
            add_pairs(atom);
            if job.requested.bias_forces {
                sink.bias_forces(atom);
                scale(atom, bias.strength);
            }
            if bias.strength != 0.0 {
                sink.forces(atom);
            }
            self.scratch.clock.lap(Stage::Scatter);
        }
    }
}

/// The smallest distance of a neighbour, as a share of the sum of the covalent radii; infinite if it is not known.
pub(super) fn closest(atom: &Atom, plan: &SpeciesPlan) -> f64 {
    let ranges = atom.ranges.iter().zip(plan.covalent()).filter(|(_, sum)| **sum > 0.0);
    let share = |(range, sum): (&Range, &f64)| smallest(&atom.r[range.block..range.block + range.blocks]) / sum;
    ranges.map(share).fold(f64::INFINITY, f64::min)
}

/// The factor by which the bias of an atom is reduced because neighbours are close: the product of the factors of all pairs. `slopes`
/// receives the derivatives of the factor with respect to the distances.
fn close_pairs(atom: &Atom, plan: &SpeciesPlan, inner: InnerCutoff, bias: Bias, slopes: &mut Vec<(usize, f64)>) -> f64 {
    let mut factors: Vec<(f64, f64)> = Vec::new();
    for ((range, segment), &sum) in atom.ranges.iter().zip(plan.segments()).zip(plan.covalent()) {
        // The core repulsion of each pair acts within its inner cutoff.
        let core = inner == InnerCutoff::Distance && segment.r_in > 0.0 && segment.delta_in > 0.0;
        let end = bias.distance_end(sum).max(if core { segment.r_in } else { 0.0 });
        let least = smallest(&atom.r[range.block..range.block + range.blocks]);
        if !(least < end) {
            continue;
        }
        for k in range.block * OCT..range.block * OCT + range.count {
            let r = atom.r[k / OCT].0[k % OCT];
            if r >= end || r >= segment.rcut {
                continue;
            }
            let (mut f, mut d) = (1.0, 0.0);
            if r < bias.distance_end(sum) {
                (f, d) = bias.distance_factor(r, sum);
            }
            if core {
                let (off, slope) = switch_off(r, segment.r_in, segment.delta_in);
                (f, d) = (f * (1.0 - off), d * (1.0 - off) - f * slope);
            }
            factors.push((f, d));
            slopes.push((k, 0.0));
        }
    }
    for (i, (_, slope)) in slopes.iter_mut().enumerate() {
        let others = factors.iter().enumerate().filter(|(j, _)| *j != i);
        *slope = factors[i].1 * others.map(|(_, (f, _))| f).product::<f64>();
    }
    factors.iter().map(|(f, _)| f).product()
}

/// The smallest distance; padding is beyond the cutoff.
fn smallest(distances: &[Oct]) -> f64 {
    // One minimum for each lane, so that the loop is vectorised.
    let mut least = [f64::INFINITY; OCT];
    for oct in distances {
        least.iter_mut().zip(&oct.0).for_each(|(least, r)| *least = if *r < *least { *r } else { *least });
    }
    least.into_iter().fold(f64::INFINITY, f64::min)
}

/// Multiplies the gradients of an atom, of which those of single distances are part already.
fn scale(atom: &mut Atom, factor: f64) {
    (atom.nearest, atom.pairs) = (None, Vec::new());
    let blocks = atom.blocks();
    for f in [&mut atom.fx, &mut atom.fy, &mut atom.fz] {
        flat(&mut f[..blocks]).iter_mut().for_each(|f| *f *= factor);
    }
    atom.gradient.iter_mut().chain(&mut atom.virial).for_each(|v| *v *= factor);
}
