// SPDX-License-Identifier: GPL-2.0-or-later
//! Detection of environments that are already stored.
//!
//! An MD run samples the same environment repeatedly: the same defect a few steps later, or at another place. A second
//! label of it costs DFT time and adds no information. An [`Environment`] is a descriptor of the neighbourhood of an
//! atom, and [`Novelty`] finds the most similar stored one.
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
//! Properties of this descriptor:
//!
//! - It is invariant under rotation, reflection and permutation of equal atoms.
//! - It depends on angles, unlike sorted lists of distances, which are equal for shells of the same radii in fcc and
//!   hcp.
//! - It is smooth: an atom that crosses the cutoff changes nothing.
//! - It distinguishes elements.
//! - It is independent of the potential. The B-projections of the potential span the space in which γ is measured and
//!   would be more selective, but they change with each training, so stored ones could not be compared with new ones.
//! - Like all power spectra it is not injective: rare pairs of different environments coincide. Then one candidate is
//!   not stored. If γ of its environment stays high, a later event with a slightly different environment stores it.
//!
//! Distances in Al with a cutoff of 5.5 Å (median of 40; checked by `tests/cut_out.rs`):
//!
//! | environments | distance |
//! |---|---|
//! | two snapshots with independent thermal displacements of 0.05 Å | 0.02 |
//! | the same with 0.1 Å (300 K) | 0.04 |
//! | strain of 1.2 % | 0.03 |
//! | missing neighbour | 0.03 |
//! | fcc and hcp | 0.17 |
//! | surface | 0.2 |
//!
//! [`DEFAULT_THRESHOLD`] is small: an unnecessary candidate costs one DFT calculation, a missing one can degrade the
//! potential.
use super::{Cluster, Selected};
use crate::structure::{Element, Structure, Vec3};
use crate::vector::{dot, norm};
use serde::{Deserialize, Serialize};

/// Number of radial functions. Few and wide ones, because narrow ones are more sensitive to a strain of 1 % (0.03 Å)
/// than to a missing neighbour.
const RADIAL: usize = 4;
/// Number of Legendre polynomials, up to l = 6, the first that separates fcc and hcp well.
const ANGULAR: usize = 7;

/// Default of [`Novelty::threshold`]: about the distance caused by displacements of 0.05 Å.
pub const DEFAULT_THRESHOLD: f64 = 0.02;

/// A descriptor of the neighbourhood of an atom, independent of its orientation and of the order of atoms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Atomic number of the centre.
    pub center: u32,
    /// Cutoff of the descriptor, Å. Environments with different cutoffs cannot be compared.
    pub cutoff: f64,
    /// The spectrum for each pair of atomic numbers of the neighbours (the smaller first, pairs ascending); 4 × 4 × 7
    /// numbers each. The norm over all pairs is 1, or 0 without neighbours.
    pub spectrum: Vec<(u32, u32, Vec<f64>)>,
}

impl Environment {
    /// The descriptor of the `neighbours` (element, offset from the centre in Å) nearer than `cutoff` (Å). An offset of
    /// 0 is ignored.
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
                // Pairs are stored with the smaller atomic number first.
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

    /// The environment of an atom of a cut-out, images included. It is the same as in the parent if the atom's distance
    /// from the centre plus `cutoff` (Å) is at most radius + buffer.
    ///
    /// # Panics
    /// If `index` is out of range.
    #[must_use]
    pub fn of(cluster: &Cluster, index: usize, cutoff: f64) -> Self {
        Self::in_structure(&cluster.structure, index, cutoff)
    }

    /// The environment of an atom of a structure, images included. `cutoff` is in Å.
    ///
    /// # Panics
    /// If `index` is out of range.
    #[must_use]
    pub fn in_structure(structure: &Structure, index: usize, cutoff: f64) -> Self {
        let region = super::Region::Sphere { radius: cutoff };
        let found = super::select(structure.atoms(), &structure.cell, structure.position(index), region);
        Self::of_selected(structure.element(index), &found, &structure.elements, cutoff)
    }

    /// The environment of the centre of a selection. `elements` is the table of types, `cutoff` is in Å.
    ///
    /// # Panics
    /// If a type is not in the table of elements.
    #[must_use]
    pub fn of_selected(center: Element, selected: &[Selected], elements: &[Element], cutoff: f64) -> Self {
        Self::new(center, selected.iter().map(|atom| (elements[atom.ty as usize - 1], atom.offset)), cutoff)
    }

    /// Distance of two environments, from 0 (equal) to √2 (orthogonal); infinite if the centres are of different
    /// elements or the cutoffs differ.
    #[must_use]
    pub fn distance(&self, other: &Self) -> f64 {
        if self.center != other.center || self.cutoff != other.cutoff {
            return f64::INFINITY;
        }
        // The difference of the spectra, because √(2 - 2 p·q) loses half of the digits near 0.
        let mut sum = 0.0;
        let square = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>();
        for (a, b, values) in &self.spectrum {
            sum += match other.spectrum.iter().find(|block| (block.0, block.1) == (*a, *b)) {
                Some((_, _, other_values)) => values.iter().zip(other_values).map(|(x, y)| (x - y) * (x - y)).sum(),
                None => square(values),
            };
        }
        for (a, b, other_values) in &other.spectrum {
            if !self.spectrum.iter().any(|block| (block.0, block.1) == (*a, *b)) {
                sum += square(other_values);
            }
        }
        sum.sqrt()
    }
}

/// Gaussians with equidistant centres and the width of their spacing, times a cosine cutoff. `r` and `cutoff` in Å.
fn radial(r: f64, cutoff: f64) -> [f64; RADIAL] {
    let step = cutoff / RADIAL as f64;
    let taper = 0.5 * (1.0 + (std::f64::consts::PI * r / cutoff).cos());
    std::array::from_fn(|n| {
        let t = (r - (n as f64 + 0.5) * step) / step;
        taper * (-0.5 * t * t).exp()
    })
}

/// The Legendre polynomials P_0 to P_6 at `x`, scaled by √(2 l + 1) as the spherical harmonics are.
fn legendre(x: f64) -> [f64; ANGULAR] {
    let mut p = [1.0; ANGULAR];
    p[1] = x;
    for l in 2..ANGULAR {
        let k = l as f64;
        p[l] = ((2.0 * k - 1.0) * x * p[l - 1] - (k - 1.0) * p[l - 2]) / k;
    }
    std::array::from_fn(|l| p[l] * (2.0 * l as f64 + 1.0).sqrt())
}

/// A stored environment and its distance from the one it was compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StoredMatch {
    /// The key under which it was stored.
    pub key: i64,
    /// Distance of the two environments, from 0 to √2.
    pub distance: f64,
}

/// The set of stored environments.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Novelty {
    /// Environments at a smaller distance are duplicates; with 0 there are none.
    pub threshold: f64,
    stored: Vec<(i64, Environment)>,
}

impl Novelty {
    /// Creates an empty set with this threshold.
    #[must_use]
    pub fn new(threshold: f64) -> Self {
        Self { threshold, stored: Vec::new() }
    }

    /// The nearest stored environment, and the first stored of several at the same distance. `None` if no stored
    /// environment is comparable.
    #[must_use]
    pub fn nearest(&self, environment: &Environment) -> Option<StoredMatch> {
        let distances =
            self.stored.iter().map(|(key, stored)| StoredMatch { key: *key, distance: stored.distance(environment) });
        distances.filter(|stored| stored.distance.is_finite()).min_by(|a, b| a.distance.total_cmp(&b.distance))
    }

    /// The nearest stored environment if its distance is below the threshold; `None` if `environment` is new.
    #[must_use]
    pub fn find_duplicate(&self, environment: &Environment) -> Option<StoredMatch> {
        self.nearest(environment).filter(|stored| stored.distance < self.threshold)
    }

    /// Stores an environment under a key chosen by the caller, such as the row of the candidate.
    pub fn insert(&mut self, key: i64, environment: Environment) {
        self.stored.push((key, environment));
    }

    /// Number of stored environments.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Whether no environment is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 12 nearest neighbours of a close-packed atom at distance 1: six in the plane, three above and three below,
    /// those below at the same angles as above (hcp) or rotated by 60° (fcc).
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
    fn descriptor_is_invariant_under_rotation_reflection_and_permutation() {
        let mut points = close_packed(true);
        points[3] = points[3].map(|x| 1.1 * x);
        let before = environment(&points);
        // A rotation about z with sine 0.8 and cosine 0.6, a reflection, and another order.
        for p in &mut points {
            *p = [0.6 * p[0] - 0.8 * p[1], 0.8 * p[0] + 0.6 * p[1], -p[2]];
        }
        points.reverse();
        // Sums of 144 terms: rounding only.
        assert!(before.distance(&environment(&points)) < 1e-13);
    }

    #[test]
    fn descriptor_separates_fcc_and_hcp_with_equal_distances() {
        let distance = environment(&close_packed(true)).distance(&environment(&close_packed(false)));
        assert!(distance > 0.02, "{distance}");
    }

    #[test]
    fn descriptor_separates_elements() {
        let points = close_packed(true);
        let with = |center, shell| Environment::new(center, points.iter().map(|&p| (shell, p.map(|x| 2.7 * x))), 5.5);
        assert_eq!(with(Element::Al, Element::Al).distance(&with(Element::Cu, Element::Al)), f64::INFINITY);
        let apart = with(Element::Al, Element::Al).distance(&with(Element::Al, Element::Cu));
        // Two orthogonal unit vectors.
        assert!((apart - 2.0_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn descriptor_is_continuous_at_the_cutoff() {
        let mut points = close_packed(true);
        let before = environment(&points);
        points.push([0.0, 0.0, 5.499_999 / 2.86]);
        assert!(before.distance(&environment(&points)) < 1e-6);
    }

    #[test]
    fn find_duplicate_returns_a_stored_environment() {
        let mut novelty = Novelty::new(0.05);
        let (fcc, hcp) = (environment(&close_packed(true)), environment(&close_packed(false)));
        assert_eq!(novelty.find_duplicate(&fcc), None);
        novelty.insert(17, fcc.clone());
        assert_eq!(novelty.find_duplicate(&fcc), Some(StoredMatch { key: 17, distance: 0.0 }));
        assert!(novelty.nearest(&hcp).is_some_and(|stored| stored.distance > 0.0));
    }

    #[test]
    fn descriptor_without_neighbours_is_zero() {
        let empty = environment(&[]);
        assert_eq!(empty.distance(&empty), 0.0);
        assert!((empty.distance(&environment(&close_packed(true))) - 1.0).abs() < 1e-12);
    }
}
