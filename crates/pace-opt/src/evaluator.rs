// SPDX-License-Identifier: GPL-2.0-or-later
//! Energies, forces, virials and extrapolation grades of atoms with neighbour lists.

mod biased;

use crate::bias::{Bias, SHARE};
use crate::error::{Error, Result};
use crate::gamma::Grader;
use crate::kernel::{Atom, BaseJob, ForceJob, GatherJob, Kernels, Nodes, Packed, ProductJob, Range, Scratch};
use crate::model::{InnerCutoff, MAX_ELEMENTS, radial::switch_off};
use crate::plan::SpeciesPlan;
use crate::potential::Potential;
use crate::profile::Stage;
use crate::simd::{Isa, OCT, Oct, doubles, flat};
use biased::BiasWork;
use std::sync::Arc;
use std::time::Duration;

/// Atoms and their neighbours. Periodic images are separate atoms.
#[derive(Clone, Copy)]
pub struct System<'a, F> {
    /// Positions of all `n` atoms, images included, in Å.
    pub positions: &'a [[f64; 3]],
    /// Type of each atom, `n` indices into `element_of_type`.
    pub types: &'a [i32],
    /// Element index of each type; negative for types without an element.
    pub element_of_type: &'a [i32],
    /// Factor of the energies, and so of forces and virials, of atoms of each type, as for thermodynamic integration. Empty
    /// means one. Grades do not depend on it.
    pub scales: &'a [f64],
    /// Indices of the atoms to evaluate.
    pub atoms: &'a [i32],
    /// Neighbours of the k-th of `atoms`: indices into `positions` after the bitwise and with `mask`. May include atoms
    /// beyond the cutoff; must not include the atom itself.
    pub neighbours: F,
    /// Bit mask of neighbour indices.
    pub mask: i32,
}

/// Output arrays. Forces and virials are added to the present values, the others are set.
///
/// Arrays per atom are indexed like [`System::positions`] and at least as long.
#[derive(Default)]
pub struct Output<'a> {
    /// Forces in eV/Å.
    pub forces: &'a mut [[f64; 3]],
    /// Energy of each evaluated atom in eV.
    pub energies: Option<&'a mut [f64]>,
    /// Virial of each atom in eV (xx, yy, zz, xy, xz, yz); each atom of a pair gets half.
    pub virials: Option<&'a mut [[f64; 6]]>,
    /// Fraction of each evaluated atom's many-body energy that the core repulsion has switched off, 0 to 1.
    pub core_shares: Option<&'a mut [f64]>,
    /// The largest share of a neighbour's radial functions, for each evaluated atom, that the inner cutoff has switched off, 0 to 1;
    /// 0 with ZBL repulsion, which switches off the many-body energy instead.
    pub inner_shares: Option<&'a mut [f64]>,
    /// Extrapolation grade γ of each evaluated atom, dimensionless.
    pub grades: Option<&'a mut [f64]>,
    /// Each evaluated atom's projections as a linear combination of the rows of its element's active set: one coefficient per
    /// row. The grade is the largest absolute value. Requires `grades`.
    pub coefficients: Option<&'a mut [Vec<f64>]>,
    /// Forces of the bias ([`Evaluator::set_bias`]) alone, per unit of its strength, in 1/Å; added to. They are in `forces` too,
    /// times the strength. Takes another backward pass.
    pub bias_forces: Option<&'a mut [[f64; 3]]>,
}

/// Sums over all evaluated atoms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Totals {
    /// Energy in eV, without the bias.
    pub energy: f64,
    /// Energy of the bias in eV.
    pub bias: f64,
    /// With a bias, the smallest distance of two atoms as a share of the sum of their covalent radii, up to the cutoff; infinite
    /// without one, and if none is known.
    pub closest: f64,
    /// Virial in eV, with that of the bias: xx, yy, zz, xy, xz, yz.
    pub virial: [f64; 6],
}

impl Default for Totals {
    fn default() -> Self {
        Totals { energy: 0.0, bias: 0.0, closest: f64::INFINITY, virial: [0.0; 6] }
    }
}

/// Evaluates a potential. Has buffers of its own; use one evaluator per thread.
pub struct Evaluator {
    potential: Arc<Potential>,
    kernels: Kernels,
    isa: Isa,
    atoms: Vec<Atom>,
    scratch: Scratch,
    /// One per element.
    nodes: Vec<Nodes>,
    /// All atoms, images included.
    packed: Vec<Packed>,
    /// Whether any atom has no element of the potential.
    unknown_element: bool,
    near: Vec<Packed>,
    by_element: Vec<Vec<u32>>,
    grader: Grader,
    bias: Option<Bias>,
    work: BiasWork,
    /// Grades, if the caller requests none, but a bias does.
    own_grades: Vec<f64>,
    /// Grade from which the smooth maxima of a bias are computed, if they are.
    smooth_from: Option<f64>,
    smooth: Vec<f64>,
}

/// What is computed for a batch of atoms.
#[derive(Clone, Copy)]
enum Task {
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

impl Evaluator {
    /// Creates an evaluator with the fastest instruction set of this processor, or that of the environment variable
    /// `PACE_OPT_ISA` (`avx512`, `avx2`, `portable`) if the processor supports it.
    pub fn new(potential: Arc<Potential>) -> Self {
        let named = std::env::var("PACE_OPT_ISA").ok().and_then(|n| Isa::named(&n));
        Self::with_isa(potential, named.unwrap_or_else(Isa::detect))
    }

    /// Creates an evaluator with the given instruction set, or the portable one if the processor lacks it.
    pub fn with_isa(potential: Arc<Potential>, isa: Isa) -> Self {
        let isa = if Isa::available().contains(&isa) { isa } else { Isa::Portable };
        Self::with_kernels(potential, isa, Kernels::new(isa))
    }

    fn with_kernels(potential: Arc<Potential>, isa: Isa, kernels: Kernels) -> Self {
        let nodes = potential.plan.species.iter().map(|plan| Nodes::new(plan, kernels.lanes())).collect();
        let ne = potential.plan.species.len();
        Evaluator {
            kernels,
            isa,
            atoms: (0..kernels.lanes()).map(|_| Atom::default()).collect(),
            scratch: Scratch::default(),
            nodes,
            packed: Vec::new(),
            unknown_element: false,
            near: Vec::new(),
            by_element: vec![Vec::new(); ne],
            grader: Grader::default(),
            bias: None,
            work: BiasWork::default(),
            own_grades: Vec::new(),
            smooth_from: None,
            smooth: Vec::new(),
            potential,
        }
    }

    /// The potential.
    pub fn potential(&self) -> &Arc<Potential> {
        &self.potential
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Sets or removes a bias towards large extrapolation grades. Its forces and virials are added to those of the potential; its
    /// energy is [`Totals::bias`] alone. [`System::scales`] do not apply to it.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no active set, or a number is out of range.
    pub fn set_bias(&mut self, bias: Option<Bias>) -> Result<()> {
        if let Some(b) = &bias {
            if self.potential.grade.is_none() {
                return Err(Error::Argument("a bias requires an active set".into()));
            }
            let positive = b.limit.is_finite() && b.limit > 0.0;
            let valid = b.strength.is_finite() && b.onset >= 0.0 && b.has_range();
            if !(valid && positive && b.shortest.is_finite() && b.shortest >= 0.0) {
                return Err(Error::Argument(format!(
                    "the bias has strength {}, onset {}, limit {} and shortest distance {}; the limit must be positive and at least 1.5625 \
                     times the onset, the others not negative",
                    b.strength, b.onset, b.limit, b.shortest
                )));
            }
        }
        self.bias = bias;
        Ok(())
    }

    /// Enables or disables the measurement of times per stage and sets them to zero. Measuring slows evaluation by a few per
    /// cent.
    pub fn time_stages(&mut self, on: bool) {
        self.scratch.clock.set(on);
    }

    /// Time spent in each stage since [`time_stages`](Self::time_stages), less the overhead of the measurement.
    pub fn stages(&self) -> Vec<(Stage, Duration)> {
        self.scratch.clock.stages()
    }

    /// Evaluates the atoms of a system. Returns the sums over all evaluated atoms.
    ///
    /// # Errors
    /// - [`Error::Overlap`] if two atoms are too close, [`Error::NotFinite`] if a coordinate is not finite;
    /// - [`Error::Argument`] if an array is too short, an index or type is out of range, an atom has no element of the
    ///   potential, or grades are requested without an active set.
    ///
    /// After an error the output contains the contributions of the atoms evaluated before it.
    pub fn evaluate<'a, F>(&mut self, system: &System<'a, F>, output: &mut Output) -> Result<Totals>
    where
        F: Fn(usize) -> &'a [i32],
    {
        let n = system.positions.len();
        if system.types.len() < n || output.forces.len() < n {
            return Err(Error::Argument("types and forces must be as long as the positions".into()));
        }
        let short = |len: Option<usize>| len.is_some_and(|l| l < n);
        if short(output.energies.as_ref().map(|v| v.len()))
            || short(output.virials.as_ref().map(|v| v.len()))
            || short(output.core_shares.as_ref().map(|v| v.len()))
            || short(output.inner_shares.as_ref().map(|v| v.len()))
            || short(output.grades.as_ref().map(|v| v.len()))
            || short(output.coefficients.as_ref().map(|v| v.len()))
            || short(output.bias_forces.as_ref().map(|v| v.len()))
        {
            return Err(Error::Argument("outputs per atom must be as long as the positions".into()));
        }
        if !system.scales.is_empty() && system.scales.len() < system.element_of_type.len() {
            return Err(Error::Argument("scales must be as long as the elements of the types".into()));
        }
        if output.coefficients.is_some() && output.grades.is_none() {
            return Err(Error::Argument("coefficients are computed together with grades".into()));
        }
        if output.grades.is_some() && self.potential.grade.is_none() {
            return Err(Error::Argument("no active set was read, so there is no extrapolation grade".into()));
        }
        if output.bias_forces.is_some() && self.bias.is_none() {
            return Err(Error::Argument("no bias was set, so there are no bias forces".into()));
        }
        // Without strength, the results are those without bias to the last bit.
        let bias = self.bias.filter(|bias| bias.strength != 0.0 || output.bias_forces.is_some());
        self.scratch.clock.start();
        let ne = self.potential.plan.species.len();
        self.by_element.iter_mut().for_each(Vec::clear);
        for (k, &i) in system.atoms.iter().enumerate() {
            let element = usize::try_from(i).ok().and_then(|i| element_of(system, i)).filter(|&e| e < ne);
            match element {
                Some(e) => self.by_element[e].push(k as u32),
                None => return Err(Error::Argument(format!("atom {i} has no element of the potential"))),
            }
        }
        self.packed.clear();
        self.packed.extend(system.positions.iter().zip(system.types).enumerate().map(|(i, (&x, &t))| {
            let element = usize::try_from(t).ok().and_then(|t| system.element_of_type.get(t)).copied();
            Packed { x, index: i as u32, element: element.and_then(|e| u32::try_from(e).ok()).unwrap_or(u32::MAX) }
        }));
        self.unknown_element = self.packed.iter().any(|p| p.element as usize >= ne);
        self.scratch.clock.lap(Stage::Rest);
        let mut by_element = std::mem::take(&mut self.by_element);
        let mut own_grades = std::mem::take(&mut self.own_grades);
        let mut totals = Totals::default();
        let result = match bias {
            None => self.evaluate_atoms(system, &by_element, Task::Potential, output, &mut totals),
            Some(bias) if bias.onset == 0.0 => {
                self.evaluate_atoms(system, &by_element, Task::Both(bias), output, &mut totals)
            }
            // Few atoms are above the onset. Evaluating them again takes less time than the grades of all atoms before their forces.
            Some(bias) => {
                own_grades.resize(n, 0.0);
                let mut requested = output.grades.take();
                let mut unbiased = Output {
                    forces: &mut *output.forces,
                    energies: output.energies.as_deref_mut(),
                    virials: output.virials.as_deref_mut(),
                    core_shares: output.core_shares.as_deref_mut(),
                    inner_shares: output.inner_shares.as_deref_mut(),
                    grades: Some(requested.as_deref_mut().unwrap_or(&mut own_grades)),
                    coefficients: output.coefficients.as_deref_mut(),
                    bias_forces: output.bias_forces.as_deref_mut(),
                };
                // The smooth maximum is below γ / `SHARE`.
                self.smooth_from = Some(SHARE * bias.onset);
                self.smooth.resize(n, 0.0);
                let first = self.evaluate_atoms(system, &by_element, Task::Potential, &mut unbiased, &mut totals);
                self.smooth_from = None;
                let result = first.and_then(|()| {
                    let is_pushed = |k: &u32| self.smooth[system.atoms[*k as usize] as usize] > bias.onset;
                    by_element.iter_mut().for_each(|list| list.retain(is_pushed));
                    self.evaluate_atoms(system, &by_element, Task::Bias(bias), output, &mut totals)
                });
                output.grades = requested;
                result
            }
        };
        self.by_element = by_element;
        self.own_grades = own_grades;
        result.map(|()| totals)
    }

    /// Evaluates the listed atoms of each element.
    fn evaluate_atoms<'a, F>(
        &mut self,
        system: &System<'a, F>,
        by_element: &[Vec<u32>],
        task: Task,
        output: &mut Output,
        totals: &mut Totals,
    ) -> Result<()>
    where
        F: Fn(usize) -> &'a [i32],
    {
        let projections = output.grades.is_some() || task.bias().is_some();
        // The bias requires the grades of a batch before its forces.
        let together = if task.bias().is_some() { self.kernels.lanes() } else { OCT };
        if !matches!(task, Task::Bias(_)) {
            self.grader.begin(by_element.iter().map(Vec::len));
        }
        for (element, list) in by_element.iter().enumerate() {
            for eight in list.chunks(together) {
                if projections {
                    let atoms = std::array::from_fn(|l| eight.get(l).map(|&k| system.atoms[k as usize] as usize));
                    self.grader.push(self.vector_length(element), atoms);
                }
                for (part, batch) in eight.chunks(self.kernels.lanes()).enumerate() {
                    let first = part * self.kernels.lanes();
                    self.batch(system, element, (batch, first), task, output, totals)?;
                }
                if self.grader.is_full() {
                    self.grade(element, output);
                }
            }
            self.grade(element, output);
        }
        Ok(())
    }

    /// Computes the grades of the collected atoms.
    fn grade(&mut self, element: usize, output: &mut Output) {
        let length = self.vector_length(element);
        let (Some(grades), Some(grade)) = (output.grades.as_deref_mut(), &self.potential.grade) else { return };
        let smooth = self.smooth_from.map(|least| (least, &mut self.smooth[..]));
        self.grader.flush(&self.kernels, grade, element, length, grades, smooth);
        self.scratch.clock.lap(Stage::Grade);
    }

    /// Length of the vectors from which grades are computed.
    fn vector_length(&self, element: usize) -> usize {
        self.potential.grade.as_ref().map_or(0, |g| g.length(element, &self.potential.plan.species[element]))
    }

    /// Evaluates a batch of atoms of one element. `first` is the index of its first atom among the eight of a grade batch.
    fn batch<'a, F>(
        &mut self,
        system: &System<'a, F>,
        element: usize,
        (batch, first): (&[u32], usize),
        task: Task,
        output: &mut Output,
        totals: &mut Totals,
    ) -> Result<()>
    where
        F: Fn(usize) -> &'a [i32],
    {
        let potential = self.potential.clone();
        let (bias, again) = (task.bias(), matches!(task, Task::Bias(_)));
        let with_distances = self.bias.is_some_and(|bias| bias.strength != 0.0) && !again;
        let plan = &potential.plan.species[element];
        let legendre = &potential.plan.legendre;
        let with_grades = output.grades.is_some() || bias.is_some();
        let nodes = &mut self.nodes[element];
        for (lane, &k) in batch.iter().enumerate() {
            let atom = &mut self.atoms[lane];
            atom.index = system.atoms[k as usize] as usize;
            let list = (system.neighbours)(k as usize);
            let (all, mask, cutoffs) = (&self.packed[..], system.mask, plan.cutoffs());
            if self.unknown_element || !self.kernels.gather(GatherJob { all, list, mask, atom, cutoffs }) {
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
            if with_distances || output.bias_forces.is_some() {
                totals.closest = totals.closest.min(biased::closest(atom, plan));
            }
        }
        self.kernels.forward(ProductJob { plan, nodes, projections: &mut [], lane: 0 });
        self.scratch.clock.lap(Stage::Forward);
        for lane in 0..self.kernels.lanes() {
            if lane < batch.len() {
                let atom = &mut self.atoms[lane];
                let scale = system.scales.get(system.types[atom.index] as usize).copied().unwrap_or(1.0);
                let (energy, on) = embed(&potential, plan, atom, nodes, lane, scale);
                if again {
                    continue;
                }
                totals.energy += energy;
                if let Some(e) = output.energies.as_deref_mut() {
                    e[atom.index] = energy;
                }
                if let Some(s) = output.core_shares.as_deref_mut() {
                    s[atom.index] = 1.0 - on;
                }
                if let Some(s) = output.inner_shares.as_deref_mut() {
                    s[atom.index] = inner_share(atom, plan, potential.plan.inner);
                }
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
            if let (Some(coefficients), false) = (output.coefficients.as_deref_mut(), again) {
                for (lane, atom) in (first..).zip(&self.atoms[..batch.len()]) {
                    coefficients[atom.index] = grade.coefficients(element, |k| projections[k].0[lane]);
                }
            }
            self.scratch.clock.lap(Stage::Projections);
        }
        if let (Some(bias), Some(grade)) = (bias, &potential.grade) {
            self.weigh(&potential, element, batch.len(), (bias, again), grade, output);
            totals.bias += bias.strength * self.work.energy(batch.len());
        }
        let apart = again || output.bias_forces.is_some();
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
                scatter(&mut self.atoms[lane], output, totals);
                self.scratch.clock.lap(Stage::Scatter);
            }
        }
        if let Some(bias) = bias
            && !(again && self.work.is_zero(batch.len()))
        {
            self.biased_forces(plan, legendre, element, batch.len(), (bias, apart), output, totals);
        }
        Ok(())
    }
}

fn element_of<F>(system: &System<F>, atom: usize) -> Option<usize> {
    let t = usize::try_from(*system.types.get(atom)?).ok()?;
    usize::try_from(*system.element_of_type.get(t)?).ok()
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

/// Adds the forces and virials of one atom's energy to the output.
fn scatter(atom: &mut Atom, output: &mut Output, totals: &mut Totals) {
    add_pairs(atom);
    scatter_forces(atom, output.forces);
    for (t, v) in totals.virial.iter_mut().zip(&atom.virial) {
        *t += v;
    }
    if let Some(virials) = output.virials.as_deref_mut() {
        scatter_virials(atom, virials);
    }
}

/// Adds the derivatives with respect to the distances of single neighbours to the gradients.
fn add_pairs(atom: &mut Atom) {
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

fn scatter_forces(atom: &Atom, forces: &mut [[f64; 3]]) {
    for range in &atom.ranges {
        let octs = range.block..range.block + range.blocks;
        let [fx, fy, fz] = [&atom.fx, &atom.fy, &atom.fz].map(|f| doubles(&f[octs.clone()]));
        let neighbours = &atom.neighbour[range.block * OCT..][..range.count];
        for (&j, ((fx, fy), fz)) in neighbours.iter().zip(fx.iter().zip(fy).zip(fz)) {
            let force = &mut forces[j as usize];
            force[0] -= fx;
            force[1] -= fy;
            force[2] -= fz;
        }
    }
    for (force, total) in forces[atom.index].iter_mut().zip(atom.gradient) {
        *force += total;
    }
}

fn scatter_virials(atom: &Atom, virials: &mut [[f64; 6]]) {
    for (s, v) in virials[atom.index].iter_mut().zip(&atom.virial) {
        *s += 0.5 * v;
    }
    for range in &atom.ranges {
        for k in range.block * OCT..range.block * OCT + range.count {
            let (b, l) = (k / OCT, k % OCT);
            let r = atom.r[b].0[l];
            let d = [atom.x[b].0[l] * r, atom.y[b].0[l] * r, atom.z[b].0[l] * r];
            let f = [atom.fx[b].0[l], atom.fy[b].0[l], atom.fz[b].0[l]];
            let pair = [d[0] * f[0], d[1] * f[1], d[2] * f[2], d[0] * f[1], d[0] * f[2], d[1] * f[2]];
            for (s, v) in virials[atom.neighbour[k] as usize].iter_mut().zip(pair) {
                *s -= 0.5 * v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Tests eight lanes, and tables whose number of columns is not a multiple of eight, also without AVX-512.
    #[test]
    fn four_and_eight_lanes_agree() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/two.yaml");
        let potential = Potential::read(&data, None).unwrap();
        let tables = potential.plan.species.iter().flat_map(|s| s.segments()).filter_map(|s| s.table.as_ref());
        assert!(tables.map(|t| t.ncol() % OCT).any(|left| left != 0));
        // A distorted grid of 27 atoms that are all neighbours of each other.
        let positions: Vec<[f64; 3]> = (0..27)
            .map(|i| [i % 3, i / 3 % 3, i / 9].map(|c| f64::from(c) * 2.3).map(|c| c + 0.1 * (c + f64::from(i)).sin()))
            .collect();
        let types: Vec<i32> = (0..27).map(|i| i % 2).collect();
        let atoms: Vec<i32> = (0..27).collect();
        let lists: Vec<Vec<i32>> = (0..27).map(|i| (0..27).filter(|&j| j != i).collect()).collect();
        let system = System {
            positions: &positions,
            types: &types,
            element_of_type: &[0, 1],
            scales: &[],
            atoms: &atoms,
            neighbours: |k: usize| &lists[k][..],
            mask: i32::MAX,
        };
        let evaluate = |kernels| {
            let mut evaluator = Evaluator::with_kernels(potential.clone(), Isa::Portable, kernels);
            let mut forces = vec![[0.0; 3]; 27];
            let totals = evaluator.evaluate(&system, &mut Output { forces: &mut forces, ..Output::default() }).unwrap();
            (totals, forces)
        };
        let ((four, f), (eight, g)) = (evaluate(Kernels::new(Isa::Portable)), evaluate(Kernels::wide()));
        // The order of the sums over neighbours differs.
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-11 * (1.0 + a.abs()), "{a} and {b}");
        close(four.energy, eight.energy);
        four.virial.iter().zip(&eight.virial).for_each(|(a, b)| close(*a, *b));
        f.iter().flatten().zip(g.iter().flatten()).for_each(|(a, b)| close(*a, *b));
    }
}
