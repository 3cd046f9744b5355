// SPDX-License-Identifier: GPL-2.0-or-later
//! Evaluation of batches of atoms by one thread.

use super::System;
use super::biased::{BiasWork, closest};
use super::results::{Requested, Sink};
use crate::bias::Bias;
use crate::error::{Error, Result};
use crate::gamma::{Grader, Track};
use crate::kernel::{Atom, BaseJob, ForceJob, GatherJob, Kernels, Nodes, Packed, ProductJob, Range, Scratch};
use crate::model::{InnerCutoff, MAX_ELEMENTS, radial::switch_off};
use crate::plan::SpeciesPlan;
use crate::potential::Potential;
use crate::profile::Stage;
use crate::simd::{OCT, Oct, doubles, flat};
use std::sync::Mutex;

/// What all threads of an evaluation read.
pub(super) struct Job<'s, 'a, F> {
    pub system: &'s System<'a, F>,
    pub potential: &'s Potential,
    /// All atoms, images included.
    pub packed: &'s [Packed],
    /// Whether any atom has no element of the potential.
    pub unknown_element: bool,
    pub task: Task,
    /// Per element, earlier estimates of the grades of batches.
    pub tracks: &'s [Vec<Mutex<Track>>],
    pub requested: Requested,
    /// Grade from which smooth maxima are computed, if they are.
    pub smooth_from: Option<f64>,
    /// Whether the smallest distance is computed.
    pub distances: bool,
}

/// What is computed for a batch of atoms.
#[derive(Clone, Copy)]
pub(super) enum Task {
    /// The potential.
    Potential,
    /// The potential and the bias.
    Both(Bias),
    /// The bias alone; the potential and the grades of these atoms have been computed.
    Bias(Bias),
}

impl Task {
    fn bias(self) -> Option<Bias> {
        match self {
            Self::Potential => None,
            Self::Both(bias) | Self::Bias(bias) => Some(bias),
        }
    }
}

/// The buffers of one thread.
pub(super) struct Worker {
    pub(super) kernels: Kernels,
    pub(super) atoms: Vec<Atom>,
    pub(super) scratch: Scratch,
    /// One per element.
    pub(super) nodes: Vec<Nodes>,
    near: Vec<Packed>,
    pub(super) grader: Grader,
    pub(super) work: BiasWork,
}

impl Worker {
    pub(super) fn new(potential: &Potential, kernels: Kernels) -> Self {
        Worker {
            kernels,
            atoms: (0..kernels.lanes()).map(|_| Atom::default()).collect(),
            scratch: Scratch::default(),
            nodes: potential.plan.species.iter().map(|plan| Nodes::new(plan, kernels.lanes())).collect(),
            near: Vec::new(),
            grader: Grader::default(),
            work: BiasWork::default(),
        }
    }

    /// Prepares for an evaluation in which about this number of atoms of each element follow.
    pub(super) fn begin(&mut self, expected: impl Iterator<Item = usize>) {
        self.grader.begin(expected);
        self.scratch.clock.start();
    }

    /// Evaluates atoms of one element, given by their places in [`System::atoms`]. `first` is the number of atoms of this element before
    /// them, a multiple of [`OCT`].
    ///
    /// Results of an atom do not depend on how the atoms of an element are divided into lists.
    ///
    /// # Errors
    /// See `Evaluator::evaluate`.
    pub(super) fn run<'a, F>(
        &mut self,
        job: &Job<'_, 'a, F>,
        (element, first): (usize, usize),
        list: &[u32],
        sink: &mut impl Sink,
    ) -> Result<()>
    where
        F: Fn(usize) -> &'a [i32],
    {
        let lanes = self.kernels.lanes();
        // The bias requires the grades of a batch before its forces.
        let together = if job.task.bias().is_some() { lanes } else { OCT };
        for (k, eight) in list.chunks(together).enumerate() {
            if job.projects() {
                let atoms = std::array::from_fn(|l| eight.get(l).map(|&k| job.system.atoms[k as usize] as usize));
                self.grader.push(job.vector_length(element), atoms, first / OCT + k);
            }
            for (part, batch) in eight.chunks(lanes).enumerate() {
                self.batch(job, element, (batch, part * lanes), sink)?;
            }
            if self.grader.is_full() {
                self.grade(job, element, sink);
            }
        }
        self.grade(job, element, sink);
        Ok(())
    }

    /// Computes the grades of the collected atoms.
    fn grade<F>(&mut self, job: &Job<F>, element: usize, sink: &mut impl Sink) {
        let (true, Some(grade)) = (job.requested.grades, &job.potential.grade) else { return };
        let length = job.vector_length(element);
        let tracks = &job.tracks[element];
        self.grader.flush(
            &self.kernels,
            grade,
            element,
            length,
            (job.smooth_from, tracks),
            &mut |atom, grade, smooth| {
                sink.grade(atom, grade);
                if let Some(smooth) = smooth {
                    sink.smooth(atom, smooth);
                }
            },
        );
        self.scratch.clock.lap(Stage::Grade);
    }

    /// Evaluates a batch of atoms of one element. `first` is the index of its first atom among the eight of a grade batch.
    fn batch<'a, F>(
        &mut self,
        job: &Job<'_, 'a, F>,
        element: usize,
        (batch, first): (&[u32], usize),
        sink: &mut impl Sink,
    ) -> Result<()>
    where
        F: Fn(usize) -> &'a [i32],
    {
        let Job { system, potential, task, requested, .. } = *job;
        let (bias, again) = (task.bias(), matches!(task, Task::Bias(_)));
        let plan = &potential.plan.species[element];
        let legendre = &potential.plan.legendre;
        let with_grades = job.projects();
        let nodes = &mut self.nodes[element];
        for (lane, &k) in batch.iter().enumerate() {
            let atom = &mut self.atoms[lane];
            atom.index = system.atoms[k as usize] as usize;
            let list = (system.neighbours)(k as usize);
            let (all, mask, cutoffs) = (job.packed, system.mask, plan.cutoffs());
            if job.unknown_element || !self.kernels.gather(GatherJob { all, list, mask, atom, cutoffs }) {
                gather(all, plan, list, mask, atom, &mut self.near)?;
            }
            self.scratch.clock.lap(Stage::Gather);
            let scratch = &mut self.scratch;
            let (projections, slopes) = (with_grades, bias.is_some());
            self.kernels.base(BaseJob { plan, legendre, atom, scratch, nodes, lane, projections, slopes });
            let atom = &self.atoms[lane];
            if atom.invalid {
                return Err(invalid_pair(system, atom, plan));
            }
            if job.distances && !again {
                sink.closest(closest(atom, plan));
            }
        }
        self.kernels.forward(ProductJob { plan, nodes, projections: &mut [], lane: 0 });
        self.scratch.clock.lap(Stage::Forward);
        for lane in 0..self.kernels.lanes() {
            if lane < batch.len() {
                let atom = &mut self.atoms[lane];
                let scale = system.scales.get(system.types[atom.index] as usize).copied().unwrap_or(1.0);
                let (energy, on) = embed(potential, plan, atom, nodes, lane, scale);
                if again {
                    continue;
                }
                let inner = if requested.inner_shares { inner_share(atom, plan, potential.plan.inner) } else { 0.0 };
                sink.atom(atom.index, energy, 1.0 - on, inner);
            } else {
                (0..plan.embedding().ndensity).for_each(|p| nodes.set_slope(p, lane, 0.0));
            }
        }
        self.scratch.clock.lap(Stage::Embedding);
        if let (true, Some(grade)) = (with_grades, &potential.grade) {
            let projections = self.grader.last(grade.length(element, plan));
            self.kernels.project(ProductJob { plan, nodes, projections, lane: first });
            for (lane, atom) in (first..).zip(&self.atoms[..batch.len()]) {
                for (p, &(mu, n)) in projections.iter_mut().zip(plan.single()) {
                    p.0[lane] = atom.base_sums[mu as usize].get(n as usize).copied().unwrap_or(0.0);
                }
                if bias.is_some() && !grade.linear {
                    self.work.keep(projections, plan.functions(), lane);
                }
                if !grade.linear {
                    // `[density][function]`; the first density last, because it overwrites the projections.
                    for (d, slope) in atom.grade_slope.iter().enumerate().rev() {
                        for f in 0..plan.functions() {
                            projections[d * plan.functions() + f].0[lane] = slope * projections[f].0[lane];
                        }
                    }
                }
            }
            if requested.coefficients {
                for (lane, atom) in (first..).zip(&self.atoms[..batch.len()]) {
                    sink.coefficients(atom.index, grade.coefficients(element, |k| projections[k].0[lane]));
                }
            }
            self.scratch.clock.lap(Stage::Projections);
        }
        if let (Some(bias), Some(grade)) = (bias, &potential.grade) {
            self.weigh(potential, element, batch.len(), (bias, again), grade, &mut |atom, grade| {
                if requested.grades {
                    sink.grade(atom, grade);
                }
            });
            sink.bias(bias.strength * self.work.energy(batch.len()));
        }
        let apart = again || requested.bias_forces;
        if !again && (bias.is_none() || apart) {
            let nodes = &mut self.nodes[element];
            nodes.adjoint.fill(Oct::default());
            self.kernels.backward(ProductJob { plan, nodes, projections: &mut [], lane: 0 });
            self.scratch.clock.lap(Stage::Backward);
            for lane in 0..batch.len() {
                let (atom, scratch) = (&mut self.atoms[lane], &mut self.scratch);
                atom.pairs.clear();
                let nodes = &self.nodes[element];
                self.kernels.force(ForceJob { plan, legendre, atom, scratch, nodes, lane, columns: &[] });
                self.scratch.clock.lap(Stage::Force);
                add_pairs(&mut self.atoms[lane]);
                sink.forces(&self.atoms[lane]);
                self.scratch.clock.lap(Stage::Scatter);
            }
        }
        if let Some(bias) = bias
            && !(again && self.work.is_zero(batch.len()))
        {
            self.biased_forces(job, element, batch.len(), (bias, apart), sink);
        }
        Ok(())
    }
}

impl<F> Job<'_, '_, F> {
    /// Whether projections are computed.
    fn projects(&self) -> bool {
        self.requested.grades || self.task.bias().is_some()
    }

    /// Length of the vectors from which grades are computed.
    fn vector_length(&self, element: usize) -> usize {
        self.potential.grade.as_ref().map_or(0, |g| g.length(element, &self.potential.plan.species[element]))
    }
}

/// Collects the neighbours within the cutoff, by element, padded to blocks of eight.
fn gather(
    all: &[Packed],
    plan: &SpeciesPlan,
    list: &[i32],
    mask: i32,
    atom: &mut Atom,
    near: &mut Vec<Packed>,
) -> Result<()> {
    let ne = plan.segments().len();
    let [xi, yi, zi] = all[atom.index].x;
    // Pairs without a table do not interact.
    let mut cut2 = [0.0; MAX_ELEMENTS];
    for (c, s) in cut2.iter_mut().zip(plan.segments()) {
        *c = if s.table.is_some() { s.rcut * s.rcut } else { -1.0 };
    }
    // One more than there are candidates, so that the store below is always in bounds.
    if near.len() <= list.len() {
        near.resize(list.len() + 1, Packed::default());
    }
    let mut counts = [0usize; MAX_ELEMENTS];
    let mut n = 0;
    for &j in list {
        let j = (j & mask) as usize;
        let Some(&Packed { x, index, element }) = all.get(j) else {
            return Err(Error::Argument(format!("neighbour {j} of atom {} does not exist", atom.index)));
        };
        let e = element as usize;
        if e >= ne {
            return Err(Error::Argument(format!("atom {j} has no element of the potential")));
        }
        let d = [x[0] - xi, x[1] - yi, x[2] - zi];
        let r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
        near[n] = Packed { x: d, index, element };
        // NaN counts as near, so that the first stage reports it.
        let hit = usize::from(!(r2 >= cut2[e % MAX_ELEMENTS]));
        n += hit;
        counts[e % MAX_ELEMENTS] += hit;
    }
    atom.ranges.clear();
    let mut block = 0;
    let mut next = [0usize; MAX_ELEMENTS];
    for e in 0..ne {
        let blocks = counts[e].div_ceil(OCT);
        atom.ranges.push(Range { block, blocks, count: counts[e], ..Range::default() });
        next[e] = block * OCT;
        block += blocks;
    }
    atom.reserve(block);
    for (range, segment) in atom.ranges.iter().zip(plan.segments()).filter(|(r, _)| r.blocks > 0) {
        // Padding is beyond the cutoff.
        let last = range.block + range.blocks - 1;
        (atom.x[last], atom.y[last]) = (Oct::default(), Oct::default());
        atom.z[last] = Oct([2.0 * segment.rcut; OCT]);
    }
    let (x, y, z) = (flat(&mut atom.x), flat(&mut atom.y), flat(&mut atom.z));
    for c in &near[..n] {
        let e = c.element as usize % MAX_ELEMENTS;
        let k = next[e];
        next[e] += 1;
        (x[k], y[k], z[k]) = (c.x[0], c.x[1], c.x[2]);
        atom.neighbour[k] = c.index;
    }
    Ok(())
}

/// The error for an atom that the first stage found invalid: names the pair.
fn invalid_pair<F>(system: &System<F>, atom: &Atom, plan: &SpeciesPlan) -> Error {
    let i = atom.index;
    let [xi, yi, zi] = system.positions[i];
    for (range, segment) in atom.ranges.iter().zip(plan.segments()) {
        let least = segment.table.as_ref().map_or(0.0, |t| 1.0 / t.scale());
        for k in range.block * OCT..range.block * OCT + range.count {
            let j = atom.neighbour[k] as usize;
            let p = system.positions[j];
            let r = ((p[0] - xi).powi(2) + (p[1] - yi).powi(2) + (p[2] - zi).powi(2)).sqrt();
            if !r.is_finite() {
                return Error::NotFinite { i, j };
            }
            if r < least {
                return Error::Overlap { i, j, r };
            }
        }
    }
    Error::NotFinite { i, j: i }
}

/// Energy of one atom in eV from its densities and repulsion, times `scale`, and the factor of the core repulsion's switching
/// function. Sets the derivatives.
fn embed(
    potential: &Potential,
    plan: &SpeciesPlan,
    atom: &mut Atom,
    nodes: &mut Nodes,
    lane: usize,
    scale: f64,
) -> (f64, f64) {
    let nd = plan.embedding().ndensity;
    let mut rho = [0.0; crate::model::MAX_DENSITIES];
    for p in 0..nd {
        rho[p] = nodes.rho(p, lane) + atom.rho[p];
    }
    atom.slope.clear();
    atom.slope.resize(nd, 0.0);
    let many = plan.embedding().evaluate(&rho[..nd], &mut atom.slope);
    atom.grade_slope.clone_from(&atom.slope);
    let core = atom.core;
    let (energy, on);
    (atom.nearest, atom.switch_nearest, atom.switch_slope) = (None, None, 0.0);
    if potential.plan.inner == InnerCutoff::Zbl {
        let mut f = 1.0;
        if let Some((k, gap, width)) = nearest(atom, plan, potential.plan.cutoff) {
            // The switching function rises with the distance of the nearest neighbour.
            let (v, d) = switch_off(width - gap, width, width);
            f = v;
            atom.switch_nearest = Some((k, -d));
            atom.nearest = Some((k, scale * (core - many) * d));
        }
        energy = many * f + core * (1.0 - f);
        atom.core_slope = 1.0 - f;
        on = f;
    } else {
        let (cut, width) = (plan.embedding().rho_cut, plan.embedding().drho_cut);
        let (f, df) = if core >= cut { (0.0, 0.0) } else { switch_off(core, cut, width) };
        energy = many * f + core;
        atom.switch_slope = df;
        atom.core_slope = many * df + 1.0;
        on = f;
    }
    atom.on = on;
    atom.core_slope *= scale;
    for (p, s) in atom.slope.iter_mut().enumerate() {
        *s *= scale * on;
        nodes.set_slope(p, lane, *s);
    }
    (scale * (energy + plan.e0()), on)
}

/// The neighbour that is deepest within its inner cutoff: its index, its distance from the lower end of the switching region,
/// and the width of that region, in Å.
fn nearest(atom: &Atom, plan: &SpeciesPlan, cutoff: f64) -> Option<(usize, f64, f64)> {
    let mut best = None;
    let mut least = cutoff;
    for (range, segment) in atom.ranges.iter().zip(plan.segments()) {
        for k in range.block * OCT..range.block * OCT + range.count {
            let r = atom.r[k / OCT].0[k % OCT];
            let gap = r - (segment.r_in - segment.delta_in);
            if r < segment.rcut && gap < least {
                least = gap;
                best = Some((k, gap, segment.delta_in));
            }
        }
    }
    best
}

/// The largest share of a neighbour's radial functions that the inner cutoff has switched off.
fn inner_share(atom: &Atom, plan: &SpeciesPlan, inner: InnerCutoff) -> f64 {
    if inner == InnerCutoff::Zbl {
        return 0.0;
    }
    let distances = doubles(&atom.r);
    let mut share = 0.0_f64;
    for (range, segment) in atom.ranges.iter().zip(plan.segments()).filter(|(_, segment)| segment.r_in > 0.0) {
        let start = range.block * OCT;
        let (octs, rest) = distances[start..start + range.count].as_chunks::<OCT>();
        let less = |a: f64, b: f64| if b < a { b } else { a };
        // One minimum for each lane, so that the loop is vectorised.
        let mut least = [f64::INFINITY; OCT];
        for oct in octs {
            least.iter_mut().zip(oct).for_each(|(least, r)| *least = less(*least, *r));
        }
        let nearest = least.iter().chain(rest).copied().fold(f64::INFINITY, less);
        share = share.max(match inner {
            InnerCutoff::Distance => switch_off(nearest, segment.r_in, segment.delta_in).0,
            // The functions end without a switching region.
            _ => f64::from(u8::from(nearest <= segment.r_in - segment.delta_in)),
        });
    }
    share
}

/// Adds the derivatives with respect to the distances of single neighbours to the gradients.
pub(super) fn add_pairs(atom: &mut Atom) {
    for k in 0..=atom.pairs.len() {
        let Some((k, slope)) = (if k == 0 { atom.nearest } else { Some(atom.pairs[k - 1]) }) else { continue };
        let (b, l) = (k / OCT, k % OCT);
        let unit = [atom.x[b].0[l], atom.y[b].0[l], atom.z[b].0[l]];
        let f = unit.map(|u| slope * u);
        for (g, f) in [&mut atom.fx, &mut atom.fy, &mut atom.fz].into_iter().zip(f) {
            g[b].0[l] += f;
        }
        let r = atom.r[b].0[l];
        let pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)];
        atom.gradient.iter_mut().zip(f).for_each(|(g, f)| *g += f);
        atom.virial.iter_mut().zip(pairs).for_each(|(v, (c, d))| *v -= r * unit[c] * f[d]);
    }
}
