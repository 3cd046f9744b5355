// SPDX-License-Identifier: GPL-2.0-or-later
//! Where the results of atoms go: directly to the output, or to a record that is added to the output later.

use super::{Output, Totals};
use crate::kernel::Atom;
use crate::simd::{OCT, doubles};

/// Which optional results are requested.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requested {
    pub virials: bool,
    pub inner_shares: bool,
    pub grades: bool,
    pub coefficients: bool,
    pub bias_forces: bool,
}

impl Requested {
    pub(super) fn of(output: &Output) -> Self {
        Requested {
            virials: output.virials.is_some(),
            inner_shares: output.inner_shares.is_some(),
            grades: output.grades.is_some(),
            coefficients: output.coefficients.is_some(),
            bias_forces: output.bias_forces.is_some(),
        }
    }
}

/// Receives the results of atoms, in the order in which they are computed.
pub(super) trait Sink {
    /// Energy in eV, and the shares that core repulsion and inner cutoff have switched off.
    fn atom(&mut self, index: usize, energy: f64, core_share: f64, inner_share: f64);
    fn grade(&mut self, index: usize, grade: f64);
    /// The smooth maximum of the bias.
    fn smooth(&mut self, index: usize, smooth: f64);
    fn coefficients(&mut self, index: usize, coefficients: Vec<f64>);
    /// The smallest distance of an atom, as a share of the sum of the covalent radii.
    fn closest(&mut self, distance: f64);
    /// Energy of the bias of some atoms in eV.
    fn bias(&mut self, energy: f64);
    /// Forces and virial of the energy of an atom.
    fn forces(&mut self, atom: &Atom);
    /// Forces of the bias of an atom alone.
    fn bias_forces(&mut self, atom: &Atom);
}

/// Adds results to the output.
pub(super) struct Direct<'o, 'a> {
    output: &'o mut Output<'a>,
    /// Empty if smooth maxima are not computed.
    smooth: &'o mut [f64],
    pub totals: Totals,
}

impl<'o, 'a> Direct<'o, 'a> {
    pub(super) fn new(output: &'o mut Output<'a>, smooth: &'o mut [f64]) -> Self {
        Direct { output, smooth, totals: Totals::default() }
    }
}

impl Sink for Direct<'_, '_> {
    fn atom(&mut self, index: usize, energy: f64, core_share: f64, inner_share: f64) {
        self.totals.energy += energy;
        let output = &mut *self.output;
        let arrays = [&mut output.energies, &mut output.core_shares, &mut output.inner_shares];
        for (array, value) in arrays.into_iter().zip([energy, core_share, inner_share]) {
            if let Some(array) = array {
                array[index] = value;
            }
        }
    }

    fn grade(&mut self, index: usize, grade: f64) {
        if let Some(grades) = self.output.grades.as_deref_mut() {
            grades[index] = grade;
        }
    }

    fn coefficients(&mut self, index: usize, coefficients: Vec<f64>) {
        if let Some(all) = self.output.coefficients.as_deref_mut() {
            all[index] = coefficients;
        }
    }

    fn smooth(&mut self, index: usize, smooth: f64) {
        if let Some(place) = self.smooth.get_mut(index) {
            *place = smooth;
        }
    }

    fn closest(&mut self, distance: f64) {
        self.totals.closest = self.totals.closest.min(distance);
    }

    fn bias(&mut self, energy: f64) {
        self.totals.bias += energy;
    }

    fn forces(&mut self, atom: &Atom) {
        scatter_forces(atom, self.output.forces);
        add(&mut self.totals.virial, &atom.virial);
        if let Some(virials) = self.output.virials.as_deref_mut() {
            // Each atom of a pair gets half.
            add(&mut virials[atom.index], &half(&atom.virial));
            pair_virials(atom, |j, pair| subtract(&mut virials[j], &half(&pair)));
        }
    }

    fn bias_forces(&mut self, atom: &Atom) {
        if let Some(forces) = self.output.bias_forces.as_deref_mut() {
            scatter_forces(atom, forces);
        }
    }
}

/// Results of some atoms. To add it to the output takes the same additions in the same order as to compute these atoms with
/// [`Direct`].
#[derive(Debug, Default)]
pub(super) struct Record {
    virials: bool,
    atoms: Vec<(usize, [f64; 3])>,
    grades: Vec<(usize, f64)>,
    smooth: Vec<(usize, f64)>,
    coefficients: Vec<(usize, Vec<f64>)>,
    closest: Option<f64>,
    bias: Vec<f64>,
    forces: Pairs,
    bias_forces: Pairs,
}

/// Forces of the energies of some atoms.
#[derive(Debug, Default)]
struct Pairs {
    /// Per atom: index, number of neighbours, gradient and virial.
    atoms: Vec<(usize, usize, [f64; 3], [f64; 6])>,
    /// Of all neighbours: index, gradient and, if requested, virial.
    neighbours: Vec<u32>,
    gradients: Vec<[f64; 3]>,
    virials: Vec<[f64; 6]>,
}

impl Pairs {
    fn clear(&mut self) {
        self.atoms.clear();
        self.neighbours.clear();
        self.gradients.clear();
        self.virials.clear();
    }

    fn push(&mut self, atom: &Atom) {
        let before = self.neighbours.len();
        for range in &atom.ranges {
            let octs = range.block..range.block + range.blocks;
            let [fx, fy, fz] = [&atom.fx, &atom.fy, &atom.fz].map(|f| &doubles(&f[octs.clone()])[..range.count]);
            self.neighbours.extend_from_slice(&atom.neighbour[range.block * OCT..][..range.count]);
            self.gradients.extend(fx.iter().zip(fy).zip(fz).map(|((x, y), z)| [*x, *y, *z]));
        }
        self.atoms.push((atom.index, self.neighbours.len() - before, atom.gradient, atom.virial));
    }

    /// Adds the results as [`Sink::forces`] of [`Direct`] does, without the virials if those are `None`.
    fn add(&self, forces: &mut [[f64; 3]], mut virials: Option<&mut [[f64; 6]]>, mut total: Option<&mut [f64; 6]>) {
        let mut first = 0;
        for (index, count, gradient, virial) in &self.atoms {
            let pairs = first..first + count;
            first = pairs.end;
            let neighbours = &self.neighbours[pairs.clone()];
            for (&j, g) in neighbours.iter().zip(&self.gradients[pairs.clone()]) {
                subtract(&mut forces[j as usize], g);
            }
            add(&mut forces[*index], gradient);
            if let Some(total) = total.as_deref_mut() {
                add(total, virial);
            }
            if let Some(virials) = virials.as_deref_mut() {
                add(&mut virials[*index], &half(virial));
                for (&j, pair) in neighbours.iter().zip(&self.virials[pairs]) {
                    subtract(&mut virials[j as usize], &half(pair));
                }
            }
        }
    }
}

impl Record {
    /// Forgets all results.
    pub(super) fn clear(&mut self, requested: Requested) {
        self.virials = requested.virials;
        self.atoms.clear();
        self.grades.clear();
        self.smooth.clear();
        self.closest = None;
        self.coefficients.clear();
        self.bias.clear();
        self.forces.clear();
        self.bias_forces.clear();
    }

    /// Adds the results to the output.
    pub(super) fn add_to(&mut self, direct: &mut Direct) {
        self.atoms.iter().for_each(|&(i, [energy, core, inner])| direct.atom(i, energy, core, inner));
        self.grades.iter().for_each(|&(i, grade)| direct.grade(i, grade));
        self.coefficients.drain(..).for_each(|(i, coefficients)| direct.coefficients(i, coefficients));
        self.smooth.iter().for_each(|&(i, smooth)| direct.smooth(i, smooth));
        self.closest.iter().for_each(|&distance| direct.closest(distance));
        self.bias.iter().for_each(|&energy| direct.bias(energy));
        let Output { forces, virials, bias_forces, .. } = &mut *direct.output;
        self.forces.add(forces, virials.as_deref_mut(), Some(&mut direct.totals.virial));
        if let Some(forces) = bias_forces.as_deref_mut() {
            self.bias_forces.add(forces, None, None);
        }
    }
}

impl Sink for Record {
    fn atom(&mut self, index: usize, energy: f64, core_share: f64, inner_share: f64) {
        self.atoms.push((index, [energy, core_share, inner_share]));
    }

    fn grade(&mut self, index: usize, grade: f64) {
        self.grades.push((index, grade));
    }

    fn coefficients(&mut self, index: usize, coefficients: Vec<f64>) {
        self.coefficients.push((index, coefficients));
    }

    fn smooth(&mut self, index: usize, smooth: f64) {
        self.smooth.push((index, smooth));
    }

    fn closest(&mut self, distance: f64) {
        self.closest = Some(self.closest.map_or(distance, |least| least.min(distance)));
    }

    fn bias(&mut self, energy: f64) {
        self.bias.push(energy);
    }

    fn forces(&mut self, atom: &Atom) {
        self.forces.push(atom);
        if self.virials {
            let virials = &mut self.forces.virials;
            pair_virials(atom, |_, pair| virials.push(pair));
        }
    }

    fn bias_forces(&mut self, atom: &Atom) {
        self.bias_forces.push(atom);
    }
}

fn half(virial: &[f64; 6]) -> [f64; 6] {
    virial.map(|v| 0.5 * v)
}

fn add<const N: usize>(to: &mut [f64; N], what: &[f64; N]) {
    to.iter_mut().zip(what).for_each(|(t, w)| *t += w);
}

fn subtract<const N: usize>(from: &mut [f64; N], what: &[f64; N]) {
    from.iter_mut().zip(what).for_each(|(f, w)| *f -= w);
}

fn scatter_forces(atom: &Atom, forces: &mut [[f64; 3]]) {
    for range in &atom.ranges {
        let octs = range.block..range.block + range.blocks;
        let [fx, fy, fz] = [&atom.fx, &atom.fy, &atom.fz].map(|f| doubles(&f[octs.clone()]));
        let neighbours = &atom.neighbour[range.block * OCT..][..range.count];
        for (&j, ((fx, fy), fz)) in neighbours.iter().zip(fx.iter().zip(fy).zip(fz)) {
            subtract(&mut forces[j as usize], &[*fx, *fy, *fz]);
        }
    }
    add(&mut forces[atom.index], &atom.gradient);
}

/// Calls `each` with the index of each neighbour of an atom and the product of its displacement and gradient: xx, yy, zz, xy, xz, yz.
fn pair_virials(atom: &Atom, mut each: impl FnMut(usize, [f64; 6])) {
    for range in &atom.ranges {
        for k in range.block * OCT..range.block * OCT + range.count {
            let (b, l) = (k / OCT, k % OCT);
            let r = atom.r[b].0[l];
            let d = [atom.x[b].0[l] * r, atom.y[b].0[l] * r, atom.z[b].0[l] * r];
            let f = [atom.fx[b].0[l], atom.fy[b].0[l], atom.fz[b].0[l]];
            let pair = [d[0] * f[0], d[1] * f[1], d[2] * f[2], d[0] * f[1], d[0] * f[2], d[1] * f[2]];
            each(atom.neighbour[k] as usize, pair);
        }
    }
}
