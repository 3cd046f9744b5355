// SPDX-License-Identifier: GPL-2.0-or-later
//! The closest pair of atoms, over all periodic images, and what makes a structure fit to be used.
use super::{Cell, DegenerateCell, Structure, Vec3};
use crate::vector::{norm, sub};
use kiddo::{ImmutableKdTree, SquaredEuclidean};
use std::num::NonZero;

/// The two atoms of a structure that are closest to each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClosestPair {
    /// Their places in the arrays, from 0; equal if the closest is an atom's own image.
    pub indices: (usize, usize),
    /// Their distance, Å.
    pub distance: f64,
}

/// What makes a structure unfit for a simulation.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StructureError {
    /// The cell spans no volume.
    #[error(transparent)]
    Cell(#[from] DegenerateCell),
    /// The arrays do not have one row for each atom.
    #[error("{what} has {found} rows for {expected} atoms")]
    Shape {
        /// The array.
        what: &'static str,
        /// Its rows.
        found: usize,
        /// The number of ids.
        expected: usize,
    },
    /// An atom's type has no element.
    #[error("atom {id} has type {ty}, but the structure names the elements of types 1 to {types} only")]
    Type {
        /// The atom.
        id: i32,
        /// Its type.
        ty: i32,
        /// Number of types.
        types: usize,
    },
    /// An id that is not positive, or used twice.
    #[error("atom id {id} is not positive or is used twice: ids must be unique and start from 1")]
    Id {
        /// The id.
        id: i32,
    },
    /// A type's mass is not a positive number, or types have none.
    #[error("type {ty} of {types} has a mass of {mass} u: each type needs a positive mass")]
    Mass {
        /// The type.
        ty: usize,
        /// Number of types.
        types: usize,
        /// Its mass, NaN if there is none.
        mass: f64,
    },
    /// A coordinate or velocity is NaN or infinite.
    #[error("{what} {value:?} of atom {id} is not a finite number")]
    NotFinite {
        /// Position or velocity.
        what: &'static str,
        /// The atom.
        id: i32,
        /// Its row.
        value: Vec3,
    },
    /// There are no atoms.
    #[error("it has no atoms: choose another file, or another frame of it")]
    Empty,
    /// There is a single atom.
    #[error("it has a single atom, on which no force acts, since its periodic images move with it: repeat the cell")]
    Single,
    /// All atoms are fixed.
    #[error("all its atoms are fixed (`move_mask`): at least one must be able to move")]
    AllFixed,
    /// Two atoms overlap.
    #[error(
        "atoms {a} and {b} are {distance:.4} Å apart, closer than the limit of {limit} Å (`min_distance`; periodic \
             images count, also an atom's own): repair or relax the structure"
    )]
    Overlap {
        /// One atom's id.
        a: i32,
        /// The other's.
        b: i32,
        /// Their distance, Å.
        distance: f64,
        /// The smallest distance allowed, Å.
        limit: f64,
    },
}

impl Structure {
    /// Position of the atom at `index`, Å.
    ///
    /// # Panics
    /// If `index` is out of range.
    #[must_use]
    pub fn position(&self, index: usize) -> Vec3 {
        std::array::from_fn(|k| self.positions[[index, k]])
    }

    /// Checks everything that the rest of the program takes for granted: array shapes, types, ids, finite numbers, a
    /// cell with a volume, atoms that can move against each other, and no two atoms (periodic images included) closer than
    /// `min_distance` (Å; 0.5 by custom).
    ///
    /// # Errors
    /// [`StructureError`], the first that is found.
    pub fn validate(&self, min_distance: f64) -> Result<(), StructureError> {
        self.check_arrays()?;
        if 3 * self.len() <= self.lost_degrees_of_freedom() {
            return Err(match self.len() {
                0 => StructureError::Empty,
                1 => StructureError::Single,
                _ => StructureError::AllFixed,
            });
        }
        if let Some(pair) = self.closest_pair()
            && pair.distance < min_distance
        {
            let (a, b) = (self.ids[pair.indices.0], self.ids[pair.indices.1]);
            return Err(StructureError::Overlap { a, b, distance: pair.distance, limit: min_distance });
        }
        Ok(())
    }

    /// The part of [`Structure::validate`] that looks at each atom alone.
    ///
    /// # Errors
    /// [`StructureError`], the first that is found.
    pub fn check_arrays(&self) -> Result<(), StructureError> {
        self.cell.check()?;
        let n = self.ids.len();
        let rows = [
            ("types", self.types.len(), 1),
            ("positions", self.positions.nrows(), self.positions.ncols() / 3),
            ("velocities", self.velocities.as_ref().map_or(n, |v| v.nrows()), 1),
        ];
        for (what, found, columns) in rows {
            if found != n || columns != 1 {
                return Err(StructureError::Shape { what, found, expected: n });
            }
        }
        let types = self.elements.len();
        if let Some(masses) = &self.masses {
            let mass = |ty: usize| masses.get(ty - 1).copied().unwrap_or(f64::NAN);
            if let Some(ty) = (1..=types.max(masses.len())).find(|&ty| !(mass(ty) > 0.0 && mass(ty).is_finite())) {
                return Err(StructureError::Mass { ty, types, mass: mass(ty) });
            }
        }
        for (&id, &ty) in self.ids.iter().zip(&self.types) {
            if ty < 1 || ty as usize > types {
                return Err(StructureError::Type { id, ty, types });
            }
        }
        let mut sorted = self.ids.to_vec();
        sorted.sort_unstable();
        if let Some(&id) = sorted.first()
            && id < 1
        {
            return Err(StructureError::Id { id });
        }
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(StructureError::Id { id: pair[0] });
        }
        let arrays = [("position", Some(&self.positions)), ("velocity", self.velocities.as_ref())];
        for (what, array) in arrays.into_iter().filter_map(|(what, array)| Some((what, array?))) {
            for (&id, row) in self.ids.iter().zip(array.rows()) {
                if !row.iter().all(|x| x.is_finite()) {
                    return Err(StructureError::NotFinite { what, id, value: [row[0], row[1], row[2]] });
                }
            }
        }
        Ok(())
    }

    /// The closest pair of atoms, over all periodic images (an atom and its own image too); `None` if there is none:
    /// fewer than two atoms and no periodic direction, or coordinates or a cell that are not finite.
    ///
    /// A k-d tree over the atoms in the cell finds the closest direct pair; only images of atoms that lie within
    /// that distance of a periodic face can be closer, so only those are asked again. O(N log N), whatever the
    /// cell's shape and however uneven the density (a small cluster in a large vacuum box included).
    #[must_use]
    pub fn closest_pair(&self) -> Option<ClosestPair> {
        let (cell, _) = self.cell.reduced();
        if cell.check().is_err() {
            return None;
        }
        let points: Vec<Vec3> = (0..self.len()).map(|i| cell.wrap(self.position(i))).collect();
        if points.is_empty() || !points.iter().flatten().all(|x| x.is_finite()) {
            return None;
        }
        // The closest own image: the shortest lattice vector, which a reduced cell has among its own.
        let mut best = ClosestPair { indices: (0, 0), distance: f64::INFINITY };
        let shortest = (0..3).filter(|&k| cell.pbc[k]).map(|k| norm(cell.vectors[k])).fold(f64::INFINITY, f64::min);
        best.distance = shortest;
        let Ok(tree) = ImmutableKdTree::<f64, 3>::new_from_slice(&points) else {
            return direct_search(&cell, &points, best);
        };
        if points.len() > 1 {
            for (i, point) in points.iter().enumerate() {
                let two = tree.query(point).nearest_n::<SquaredEuclidean<f64>>(TWO).execute();
                // Of two coincident atoms either may come first: take the one that is not this atom.
                if let Some(other) = two.iter().find(|found| found.item as usize != i) {
                    let distance = other.distance.sqrt();
                    if distance < best.distance {
                        best = ClosestPair { indices: (i, other.item as usize), distance };
                    }
                }
            }
        }
        if !cell.pbc.contains(&true) {
            return best.distance.is_finite().then_some(best);
        }
        let (inverse, heights, range) = (cell.inverse(), cell.heights(), cell.image_range(best.distance));
        for (i, &point) in points.iter().enumerate() {
            let s = inverse.map(|row| crate::vector::dot(row, sub(point, cell.origin)));
            let near: [bool; 3] = std::array::from_fn(|k| {
                let w = best.distance / heights[k] + 1e-9;
                cell.pbc[k] && (s[k] < w || s[k] > 1.0 - w)
            });
            if near == [false; 3] {
                continue;
            }
            let [ra, rb, rc]: [i32; 3] = std::array::from_fn(|k| if near[k] { range[k] } else { 0 });
            for a in -ra..=ra {
                for b in -rb..=rb {
                    for c in -rc..=rc {
                        // Half of the images: the other half are the same pairs from the other side.
                        if (a, b, c) <= (0, 0, 0) {
                            continue;
                        }
                        let n = [f64::from(a), f64::from(b), f64::from(c)];
                        let outside = (0..3).any(|k| {
                            let (t, w) = (s[k] + n[k], best.distance / heights[k] + 1e-9);
                            cell.pbc[k] && (t < -w || t > 1.0 + w)
                        });
                        if outside {
                            continue;
                        }
                        let shift = cell.combine(n);
                        let image: Vec3 = std::array::from_fn(|k| point[k] + shift[k]);
                        let nearest = tree.query(&image).nearest_one::<SquaredEuclidean<f64>>().execute();
                        let distance = nearest.distance.sqrt();
                        if distance < best.distance {
                            best = ClosestPair { indices: (i, nearest.item as usize), distance };
                        }
                    }
                }
            }
        }
        best.distance.is_finite().then_some(best)
    }
}

const TWO: NonZero<usize> = NonZero::new(2).unwrap();

/// The same by looking at every pair, for what the tree refuses to hold.
fn direct_search(cell: &Cell, points: &[Vec3], mut best: ClosestPair) -> Option<ClosestPair> {
    for (i, &p) in points.iter().enumerate() {
        for (j, &q) in points.iter().enumerate().skip(i + 1) {
            let distance = cell.distance_reduced(sub(q, p));
            if distance < best.distance {
                best = ClosestPair { indices: (i, j), distance };
            }
        }
    }
    best.distance.is_finite().then_some(best)
}
