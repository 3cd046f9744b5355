// SPDX-License-Identifier: GPL-2.0-or-later
//! Smallest allowed distances of atoms in a cut-out.
use super::{Error, Selected};
use crate::structure::{Element, Vec3};
use crate::vector::{dot, sub};

/// Smallest allowed distances between atoms, for each pair of elements.
#[derive(Debug, Clone, PartialEq)]
pub struct PairLimits {
    default: f64,
    pairs: Vec<(Element, Element, f64)>,
}

impl PairLimits {
    /// Creates limits with the same value for all pairs, Å.
    #[must_use]
    pub fn new(default: f64) -> Self {
        Self { default, pairs: Vec::new() }
    }

    /// Sets the limit of one pair of elements in any order, Å.
    pub fn set(&mut self, a: Element, b: Element, limit: f64) {
        self.pairs.push((a.min(b), a.max(b), limit));
    }

    /// The limit of a pair, Å.
    #[must_use]
    pub fn get(&self, a: Element, b: Element) -> f64 {
        let key = (a.min(b), a.max(b));
        let own = self.pairs.iter().rev().find(|pair| (pair.0, pair.1) == key);
        own.map_or(self.default, |pair| pair.2)
    }
}

/// A symmetric table with a number for each pair of types.
#[derive(Debug, Clone)]
pub(super) struct PairTable {
    types: usize,
    values: Vec<f64>,
}

impl PairTable {
    pub fn new(elements: &[Element], value: impl Fn(Element, Element) -> f64) -> Self {
        let values = elements.iter().flat_map(|&a| elements.iter().map(move |&b| (a, b)));
        Self { types: elements.len(), values: values.map(|(a, b)| value(a, b)).collect() }
    }

    /// The value for two types, from 1.
    pub fn get(&self, a: i32, b: i32) -> f64 {
        self.values[(a as usize - 1) * self.types + b as usize - 1]
    }

    fn lower(&mut self, a: i32, b: i32, value: f64) {
        for (a, b) in [(a, b), (b, a)] {
            let slot = &mut self.values[(a as usize - 1) * self.types + b as usize - 1];
            *slot = slot.min(value);
        }
    }

    pub fn largest(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }
}

/// The smallest distance of each pair of types (infinite if there is none) and the smallest of all, Å, without images.
///
/// # Errors
/// [`Error::Overlap`] if two atoms are closer than their limit.
pub(super) fn closest_pairs(
    atoms: &[Selected],
    elements: &[Element],
    limits: &PairLimits,
) -> Result<(PairTable, f64), Error> {
    let limit = PairTable::new(elements, |a, b| limits.get(a, b));
    let mut closest = PairTable::new(elements, |_, _| f64::INFINITY);
    let mut smallest = f64::INFINITY;
    for (i, a) in atoms.iter().enumerate() {
        for b in &atoms[..i] {
            let d = sub(a.offset, b.offset);
            let distance = dot(d, d).sqrt();
            let limit = limit.get(a.ty, b.ty);
            if distance < limit {
                return Err(Error::Overlap { a: b.id, b: a.id, distance, limit });
            }
            closest.lower(a.ty, b.ty, distance);
            smallest = smallest.min(distance);
        }
    }
    Ok((closest, smallest))
}

/// Smallest allowed distances across the faces of the new cell, Å: `scale` times the smallest distance of the two types
/// inside the cut-out, but at least their limit. Pairs of types that do not occur use the smallest distance of all.
pub(super) fn boundary_limits(
    closest: &PairTable,
    smallest: f64,
    scale: f64,
    elements: &[Element],
    limits: &PairLimits,
) -> PairTable {
    let mut table = PairTable::new(elements, |a, b| limits.get(a, b));
    for (slot, &distance) in table.values.iter_mut().zip(&closest.values) {
        let distance = if distance.is_finite() { distance } else { smallest };
        *slot = slot.max(scale * distance);
    }
    table
}

/// Squared distance of two atoms **across a face** of a cubic cell, Å²: to the nearest image other than the atom itself.
/// `d` is their direct offset, with components within ± `edge` (Å).
///
/// Along each axis the shorter of the direct offset and the one across the face is taken. If all direct offsets are
/// shorter, the axis with the smallest increase is taken across the face.
pub(super) fn squared_across(d: Vec3, edge: f64) -> f64 {
    let mut sum = 0.0;
    let mut extra = f64::INFINITY;
    for x in d {
        let (direct, through) = (x * x, (edge - x.abs()) * (edge - x.abs()));
        sum += direct.min(through);
        extra = extra.min((through - direct).max(0.0));
    }
    sum + extra
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squared_across_is_the_minimum_over_all_26_images() {
        let edge = 7.3;
        // A quasi-random sequence of offsets.
        for n in 0..5000 {
            let d: Vec3 = std::array::from_fn(|k| {
                let t = f64::from(n) * [0.618_033_988_7, 0.754_877_666_2, 0.569_840_290_9][k];
                (2.0 * t.fract() - 1.0) * edge
            });
            let mut best = f64::INFINITY;
            for i in -1..=1 {
                for j in -1..=1 {
                    for k in -1..=1 {
                        if (i, j, k) != (0, 0, 0) {
                            let n = [f64::from(i), f64::from(j), f64::from(k)];
                            let v: Vec3 = std::array::from_fn(|a| d[a] + n[a] * edge);
                            best = best.min(dot(v, v));
                        }
                    }
                }
            }
            // Sums of three squares below 200 Å².
            assert!((best - squared_across(d, edge)).abs() < 1e-12, "{d:?}");
        }
    }

    #[test]
    fn pair_limits_are_symmetric() {
        let mut limits = PairLimits::new(0.5);
        limits.set(Element::Cu, Element::Al, 1.2);
        assert_eq!(limits.get(Element::Al, Element::Cu), 1.2);
        assert_eq!(limits.get(Element::Cu, Element::Cu), 0.5);
    }
}
