// SPDX-License-Identifier: GPL-2.0-or-later
//! Whether an environment has been cut out before.
//!
//! An MD run meets the same new environment again and again: the same defect a few steps later, or at another place.
//! Labelling it twice costs DFT time and teaches nothing. An [`Environment`] describes what surrounds an atom, and
//! [`Novelty`] finds the nearest of those that are stored.
//!
//! The descriptor is a smooth power spectrum (Bartók, Kondor, Csányi, *Phys. Rev. B* 87, 184115 (2013), eq. 20–36),
//! written as a sum over pairs of neighbours with the addition theorem of spherical harmonics:
//!
//! ```text
//! p[a b; n n' l] = Σ_{i of element a} Σ_{j of element b} g_n(r_i) g_n'(r_j) P_l(cos θ_ij)
//! ```
//!
//! with Gaussians g_n under a cosine cutoff and Legendre polynomials P_l; the distance of two environments is the
//! Euclidean distance of their spectra scaled to length 1, so between 0 and √2.
//!
//! Why this one: it does not change under rotations, reflections and exchange of equal atoms, by construction; it sees
//! angles, which sorted lists of distances do not (two shells of the same radii in fcc and hcp look the same to them);
//! it is smooth, so that an atom that crosses the cutoff changes nothing; it knows elements; and it belongs to no
//! potential. The potential's own B-projections span the space in which γ is measured and would be sharper, but they
//! change with each retraining, and old and new ones cannot be compared. Like all power spectra it is not injective:
//! rare pairs of different environments coincide. The price of that is one candidate that is not stored; if the
//! potential really does not know it, its γ stays high and the next event, a little different, brings it back.
//!
//! How far apart environments are, in Al with a cutoff of 5.5 Å (median of 40, `tests/cut_out.rs` holds them
//! to it): two snapshots with independent thermal displacements of 0.05 Å 0.02, of 0.1 Å (300 K) 0.04; a strain of
//! 1.2 % 0.03; a neighbour missing 0.03; fcc and hcp 0.17; a surface 0.2. [`DEFAULT_THRESHOLD`] errs to the side of
//! storing: a candidate too many costs one DFT run, one too few may cost the potential.
use super::{Cluster, Selected};
use crate::structure::{Element, Structure, Vec3};
use crate::vector::{dot, norm};
use serde::{Deserialize, Serialize};

/// Number of radial functions and of Legendre polynomials: few and wide radial functions, because narrow ones see a
/// strain of 1 % (0.03 Å) better than a missing neighbour; angles up to l = 6, the first that tells fcc from hcp well.
const RADIAL: usize = 4;
const ANGULAR: usize = 7;

/// Environments nearer to each other than this are taken for the same: about what displacements of 0.05 Å do.
pub const DEFAULT_THRESHOLD: f64 = 0.02;

/// What surrounds an atom, as numbers that do not depend on orientation or order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Atomic number of the atom in the middle.
    pub center: u32,
    /// How far the description reaches, Å. Environments with different cutoffs cannot be compared.
    pub cutoff: f64,
    /// For each pair of neighbours' atomic numbers (the smaller first, ascending), the spectrum; all together have
    /// length 1, or 0 without neighbours.
    pub spectrum: Vec<(u32, u32, Vec<f64>)>,
}

impl Environment {
    /// Describes the neighbours (element, offset from the centre in Å) nearer than `cutoff` (Å). The centre itself
    /// must not be among them.
    #[must_use]
    pub fn new(center: Element, neighbours: impl IntoIterator<Item = (Element, Vec3)>, cutoff: f64) -> Self {
        struct Neighbour {
            number: u32,
            direction: Vec3,
            radial: [f64; RADIAL],
        }
        let mut shell: Vec<Neighbour> = Vec::new();
        let mut numbers: Vec<u32> = Vec::new();
        for (element, offset) in neighbours {
            let r = norm(offset);
            // Also false for NaN.
            if r > 0.0 && r < cutoff {
                let number = element.atomic_number();
                if !numbers.contains(&number) {
                    numbers.push(number);
                }
                shell.push(Neighbour { number, direction: offset.map(|x| x / r), radial: radial(r, cutoff) });
            }
        }
        numbers.sort_unstable();

        let place = |a: u32, b: u32| {
            let at = |x| numbers.binary_search(&x).unwrap_or(0);
            at(a.min(b)) * numbers.len() + at(a.max(b))
        };
        let mut blocks = vec![vec![0.0; RADIAL * RADIAL * ANGULAR]; numbers.len() * numbers.len()];
        for i in &shell {
            for j in &shell {
                // Of two elements the smaller number comes first; the pair the other way round is the same entry.
                if i.number > j.number {
                    continue;
                }
                let legendre = legendre(dot(i.direction, j.direction).clamp(-1.0, 1.0));
                let block = &mut blocks[place(i.number, j.number)];
                for (n, row) in block.chunks_exact_mut(RADIAL * ANGULAR).enumerate() {
                    for (m, values) in row.chunks_exact_mut(ANGULAR).enumerate() {
                        let weight = i.radial[n] * j.radial[m];
                        for (value, p) in values.iter_mut().zip(legendre) {
                            *value += weight * p;
                        }
                    }
                }
            }
        }
        let length = blocks.iter().flatten().map(|x| x * x).sum::<f64>().sqrt();
        let mut spectrum = Vec::new();
        for &a in &numbers {
            for &b in numbers.iter().filter(|&&b| b >= a) {
                let mut values = std::mem::take(&mut blocks[place(a, b)]);
                if length > 0.0 {
                    values.iter_mut().for_each(|x| *x /= length);
                }
                spectrum.push((a, b, values));
            }
        }
        Self { center: center.atomic_number(), cutoff, spectrum }
    }

    /// The environment of an atom of a cut-out, images included. It is that of the parent if the atom's distance from
    /// the centre and `cutoff` (Å) together are at most radius + buffer.
    ///
    /// # Panics
    /// If `index` is out of range.
    #[must_use]
    pub fn of(cluster: &Cluster, index: usize, cutoff: f64) -> Self {
        Self::in_structure(&cluster.structure, index, cutoff)
    }

    /// The environment of an atom of any structure, images included.
    ///
    /// # Panics
    /// If `index` is out of range.
    #[must_use]
    pub fn in_structure(structure: &Structure, index: usize, cutoff: f64) -> Self {
        let region = super::Region::Sphere { radius: cutoff };
        let found = super::select(structure.atoms(), &structure.cell, structure.position(index), region);
        Self::of_selected(structure.element(index), &found, &structure.elements, cutoff)
    }

    /// The environment of the centre of a selection.
    ///
    /// # Panics
    /// If a type is not in the table of elements.
    #[must_use]
    pub fn of_selected(center: Element, selected: &[Selected], elements: &[Element], cutoff: f64) -> Self {
        Self::new(center, selected.iter().map(|atom| (elements[atom.ty as usize - 1], atom.offset)), cutoff)
    }

    /// Distance of two environments, 0 (the same) to √2 (nothing in common); infinite if the atoms in the middle are
    /// of different elements, or the cutoffs differ.
    #[must_use]
    pub fn distance(&self, other: &Self) -> f64 {
        if self.center != other.center || self.cutoff != other.cutoff {
            return f64::INFINITY;
        }
        // The difference of the spectra, not √(2 - 2 p·q): that would keep only half of the digits near 0.
        let mut sum = 0.0;
        let square = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>();
        for (a, b, values) in &self.spectrum {
            sum += match other.spectrum.iter().find(|block| (block.0, block.1) == (*a, *b)) {
                Some((_, _, theirs)) => values.iter().zip(theirs).map(|(x, y)| (x - y) * (x - y)).sum(),
                None => square(values),
            };
        }
        for (a, b, theirs) in &other.spectrum {
            if !self.spectrum.iter().any(|block| (block.0, block.1) == (*a, *b)) {
                sum += square(theirs);
            }
        }
        sum.sqrt()
    }
}

/// Gaussians with their centres and widths a step apart, under a cosine that takes them to 0 at the cutoff.
fn radial(r: f64, cutoff: f64) -> [f64; RADIAL] {
    let step = cutoff / RADIAL as f64;
    let fade = 0.5 * (1.0 + (std::f64::consts::PI * r / cutoff).cos());
    std::array::from_fn(|n| {
        let t = (r - (n as f64 + 0.5) * step) / step;
        fade * (-0.5 * t * t).exp()
    })
}

/// P_0 to P_6, each scaled by √(2 l + 1) as the spherical harmonics are.
fn legendre(x: f64) -> [f64; ANGULAR] {
    let mut p = [1.0; ANGULAR];
    p[1] = x;
    for l in 2..ANGULAR {
        let k = l as f64;
        p[l] = ((2.0 * k - 1.0) * x * p[l - 1] - (k - 1.0) * p[l - 2]) / k;
    }
    std::array::from_fn(|l| p[l] * (2.0 * l as f64 + 1.0).sqrt())
}

/// A stored environment that is like another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// What it was stored under.
    pub key: i64,
    /// Distance of the two.
    pub distance: f64,
}

/// The environments that have been stored.
#[derive(Debug, Clone, Default)]
pub struct Novelty {
    /// Environments nearer than this are the same; 0 keeps all.
    pub threshold: f64,
    known: Vec<(i64, Environment)>,
}

impl Novelty {
    /// A memory with this threshold, empty.
    #[must_use]
    pub fn new(threshold: f64) -> Self {
        Self { threshold, known: Vec::new() }
    }

    /// The nearest stored environment; of equally near ones the first stored. `None` if nothing comparable is.
    #[must_use]
    pub fn nearest(&self, environment: &Environment) -> Option<Known> {
        let distances =
            self.known.iter().map(|(key, known)| Known { key: *key, distance: known.distance(environment) });
        distances.filter(|known| known.distance.is_finite()).min_by(|a, b| a.distance.total_cmp(&b.distance))
    }

    /// The stored environment that makes this one superfluous, or `None` if this one is new.
    #[must_use]
    pub fn seen(&self, environment: &Environment) -> Option<Known> {
        self.nearest(environment).filter(|known| known.distance < self.threshold)
    }

    /// Stores an environment under a key of the caller's, such as the candidate's row.
    pub fn insert(&mut self, key: i64, environment: Environment) {
        self.known.push((key, environment));
    }

    /// Number of stored environments.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nearest neighbours of a close-packed atom at distance 1: six in the plane, three above, three below; below as
    /// above (hcp) or turned (fcc).
    fn close_packed(fcc: bool) -> Vec<Vec3> {
        let turn = |degrees: f64, r: f64, z: f64| {
            let t = degrees.to_radians();
            [r * t.cos(), r * t.sin(), z]
        };
        let (r, z) = ((1.0_f64 / 3.0).sqrt(), (2.0_f64 / 3.0).sqrt());
        let mut shell: Vec<Vec3> = (0..6).map(|k| turn(60.0 * f64::from(k), 1.0, 0.0)).collect();
        shell.extend((0..3).map(|k| turn(30.0 + 120.0 * f64::from(k), r, z)));
        shell.extend((0..3).map(|k| turn(if fcc { 90.0 } else { 30.0 } + 120.0 * f64::from(k), r, -z)));
        shell
    }

    fn environment(points: &[Vec3]) -> Environment {
        Environment::new(Element::Al, points.iter().map(|&p| (Element::Al, p.map(|x| 2.86 * x))), 5.5)
    }

    #[test]
    fn rotation_reflection_and_order_change_nothing() {
        let mut points = close_packed(true);
        points[3] = points[3].map(|x| 1.1 * x);
        let before = environment(&points);
        // A turn by (3, 4, 5) about z, a mirror, another order.
        for p in &mut points {
            *p = [0.6 * p[0] - 0.8 * p[1], 0.8 * p[0] + 0.6 * p[1], -p[2]];
        }
        points.reverse();
        // Sums of 144 terms: rounding only.
        assert!(before.distance(&environment(&points)) < 1e-13);
    }

    #[test]
    fn stacking_is_seen_though_the_distances_are_equal() {
        let distance = environment(&close_packed(true)).distance(&environment(&close_packed(false)));
        assert!(distance > 0.02, "{distance}");
    }

    #[test]
    fn elements_are_told_apart() {
        let points = close_packed(true);
        let with = |center, shell| Environment::new(center, points.iter().map(|&p| (shell, p.map(|x| 2.7 * x))), 5.5);
        assert_eq!(with(Element::Al, Element::Al).distance(&with(Element::Cu, Element::Al)), f64::INFINITY);
        let apart = with(Element::Al, Element::Al).distance(&with(Element::Al, Element::Cu));
        // Nothing in common: two unit vectors at a right angle.
        assert!((apart - 2.0_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn an_atom_that_crosses_the_cutoff_changes_nothing() {
        let mut points = close_packed(true);
        let before = environment(&points);
        points.push([0.0, 0.0, 5.499_999 / 2.86]);
        assert!(before.distance(&environment(&points)) < 1e-6);
    }

    #[test]
    fn what_was_stored_is_seen_again() {
        let mut novelty = Novelty::new(0.05);
        let (fcc, hcp) = (environment(&close_packed(true)), environment(&close_packed(false)));
        assert_eq!(novelty.seen(&fcc), None);
        novelty.insert(17, fcc.clone());
        assert_eq!(novelty.seen(&fcc), Some(Known { key: 17, distance: 0.0 }));
        assert!(novelty.nearest(&hcp).is_some_and(|known| known.distance > 0.0));
    }

    #[test]
    fn no_neighbours_is_a_description_too() {
        let empty = environment(&[]);
        assert_eq!(empty.distance(&empty), 0.0);
        assert!((empty.distance(&environment(&close_packed(true))) - 1.0).abs() < 1e-12);
    }
}
