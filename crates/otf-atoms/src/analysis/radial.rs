// SPDX-License-Identifier: GPL-2.0-or-later
//! Radial distribution functions by pairs of elements.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use super::choose;
use crate::structure::{Element, NeighbourError, Structure};
use crate::vector::{norm, sub};

/// Radial distribution functions of all pairs of elements: the mean of those of the frames.
///
/// `g_ab(r)` of a frame is the mean number density of atoms of element b at the distance r of an atom of element a, divided by `N_b / V`, with the
/// volume of the cell of the frame and the exact volume of each shell (M. P. Allen and D. J. Tildesley, "Computer Simulation of
/// Liquids", section 2.6). All periodic images count, also those of the atom itself.
#[derive(Debug, Clone)]
pub struct RadialDistribution {
    range: f64,
    bins: usize,
    frames: usize,
    pairs: BTreeMap<(u32, u32), Pair>,
}

#[derive(Debug, Clone)]
struct Pair {
    elements: [Element; 2],
    /// Of the present frame: counts, and the number of centres times the density of their partners, Å⁻³.
    counts: Vec<u64>,
    ideal: f64,
    /// Sum over the frames of counts divided by `ideal`, Å³.
    sum: Vec<f64>,
}

/// The radial distribution function of a pair of elements.
#[derive(Debug, Clone, PartialEq)]
pub struct PairDistribution {
    /// The elements, in the order of atomic numbers.
    pub elements: [Element; 2],
    /// g in each bin.
    pub g: Vec<f64>,
}

impl RadialDistribution {
    /// No frames yet. The functions are known up to `range` (Å) in `bins` bins of equal width.
    ///
    /// # Panics
    /// If `range` is not a positive number, or if there are no bins.
    #[must_use]
    pub fn new(range: f64, bins: usize) -> Self {
        assert!(range > 0.0 && range.is_finite() && bins > 0, "a positive range and at least one bin");
        Self { range, bins, frames: 0, pairs: BTreeMap::new() }
    }

    /// Adds a frame. Of each element, at most `centres` atoms are used as centres, evenly chosen; their partners are all atoms.
    ///
    /// # Errors
    /// [`NeighbourError`]. The frame is then not counted.
    pub fn add(&mut self, structure: &Structure, centres: usize) -> Result<(), NeighbourError> {
        let chosen = choose(structure, centres);
        let all: Vec<i32> = chosen.iter().flat_map(|(_, atoms)| atoms.iter().map(|&i| i as i32)).collect();
        let neighbours = structure.neighbours(self.range, &all)?;
        let mut total: BTreeMap<u32, (Element, usize)> = BTreeMap::new();
        let numbers: Vec<u32> = (0..structure.len()).map(|i| structure.element(i).atomic_number()).collect();
        for (i, &number) in numbers.iter().enumerate() {
            total.entry(number).or_insert((structure.element(i), 0)).1 += 1;
        }
        let volume = structure.cell.volume();
        let mut k = 0;
        for (element, atoms) in &chosen {
            let own = element.atomic_number();
            for (&number, &(other, n)) in &total {
                let pair = self.pairs.entry((own.min(number), own.max(number))).or_insert_with(|| Pair {
                    elements: if own <= number { [*element, other] } else { [other, *element] },
                    counts: vec![0; self.bins],
                    ideal: 0.0,
                    sum: vec![0.0; self.bins],
                });
                pair.ideal += atoms.len() as f64 * n as f64 / volume;
            }
            for &i in atoms {
                let centre = neighbours.positions[i];
                for &j in neighbours.of(k) {
                    let distance = norm(sub(neighbours.positions[j as usize], centre));
                    let bin = (distance / self.range * self.bins as f64) as usize;
                    let number = numbers[neighbours.owners[j as usize] as usize];
                    if let Some(pair) = self.pairs.get_mut(&(own.min(number), own.max(number)))
                        && let Some(count) = pair.counts.get_mut(bin)
                    {
                        *count += 1;
                    }
                }
                k += 1;
            }
        }
        for pair in self.pairs.values_mut() {
            if pair.ideal > 0.0 {
                pair.sum.iter_mut().zip(&pair.counts).for_each(|(sum, n)| *sum += *n as f64 / pair.ideal);
            }
            pair.counts.fill(0);
            pair.ideal = 0.0;
        }
        self.frames += 1;
        Ok(())
    }

    /// Number of frames.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The middle of each bin, Å.
    #[must_use]
    pub fn radii(&self) -> Vec<f64> {
        let width = self.range / self.bins as f64;
        (0..self.bins).map(|k| (k as f64 + 0.5) * width).collect()
    }

    /// The functions of all pairs of elements that occur, in the order of atomic numbers.
    #[must_use]
    pub fn pairs(&self) -> Vec<PairDistribution> {
        let width = self.range / self.bins as f64;
        let shell = |k: usize| {
            let (inner, outer) = (k as f64 * width, (k as f64 + 1.0) * width);
            4.0 / 3.0 * PI * (outer.powi(3) - inner.powi(3))
        };
        let of_pair = |pair: &Pair| {
            let g = pair.sum.iter().enumerate().map(|(k, sum)| sum / (self.frames as f64 * shell(k)));
            PairDistribution { elements: pair.elements, g: g.collect() }
        };
        self.pairs.values().map(of_pair).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structure::Cell;
    use ndarray::{Array1, Array2};

    /// Caesium chloride with an edge of 4 Å.
    fn crystal(cells: usize) -> Structure {
        let mut positions = Vec::new();
        let mut types = Vec::new();
        for n in 0..cells.pow(3) {
            let corner = [n % cells, n / cells % cells, n / cells / cells].map(|x| 4.0 * x as f64);
            positions.extend(corner);
            positions.extend(corner.map(|x| x + 2.0));
            types.extend([1, 2]);
        }
        let n = types.len();
        Structure {
            cell: Cell::orthorhombic([4.0 * cells as f64; 3], [true; 3]),
            elements: vec![Element::Cs, Element::Cl],
            masses: None,
            types: Array1::from_vec(types),
            ids: (1..=n as i64).collect(),
            fixed: Vec::new(),
            positions: Array2::from_shape_vec((n, 3), positions).unwrap(),
            velocities: None,
        }
    }

    #[test]
    fn peaks_of_a_crystal_hold_its_coordination_numbers() {
        // A cell that is smaller than the range, a larger one, and some of its centres only: the same crystal.
        for (cells, centres) in [(1, 9), (3, 99), (4, 5)] {
            let mut radial = RadialDistribution::new(7.0, 70);
            radial.add(&crystal(cells), centres).unwrap();
            radial.add(&crystal(cells), centres).unwrap();
            assert_eq!((radial.frames(), radial.radii()[1]), (2, 0.150_000_000_000_000_02));
            let pairs = radial.pairs();
            assert_eq!(pairs[1].elements, [Element::Cl, Element::Cs]);
            let coordination = |pair: usize, from: f64, to: f64| -> f64 {
                let shell = |r: f64| 4.0 * PI * 0.1 * (r * r + 0.01 / 12.0);
                let found = radial.radii().into_iter().zip(&pairs[pair].g).filter(|(r, _)| *r > from && *r < to);
                found.map(|(r, g)| g * shell(r) / 64.0).sum()
            };
            // 8 unlike neighbours at 3.46 Å, 6 like ones at 4 Å and 12 at 5.66 Å.
            for (pair, from, to, expected) in
                [(1, 3.0, 3.9, 8.0), (0, 3.0, 4.5, 6.0), (2, 3.0, 4.5, 6.0), (2, 5.0, 6.0, 12.0), (1, 0.0, 3.0, 0.0)]
            {
                let found = coordination(pair, from, to);
                assert!((found - expected).abs() < 1e-9, "{cells} cells, pair {pair}: {found} instead of {expected}");
            }
        }
    }
}
