// SPDX-License-Identifier: GPL-2.0-or-later
//! The closest pair of atoms over all periodic images, and the validation of a structure.
use super::{AtomId, Cell, DegenerateCell, Structure, Vec3};
use crate::vector::{norm, sub};
use kiddo::{ImmutableKdTree, SquaredEuclidean};
use std::num::NonZero;

/// The two atoms of a structure that are closest to each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClosestPair {
    /// Indices of the atoms, from 0; equal if the pair is an atom and its own image.
    pub indices: (usize, usize),
    /// Their distance, Å.
    pub distance: f64,
}

/// The error for a structure that cannot be simulated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StructureError {
    /// The cell spans no volume.
    #[error(transparent)]
    Cell(#[from] DegenerateCell),
    /// An array does not have one row for each atom, or three columns.
    #[error("the structure has {found} {what} instead of {expected}")]
    Shape {
        /// The array.
        what: &'static str,
        /// Number of rows.
        found: usize,
        /// The number of ids.
        expected: usize,
    },
    /// An atom's type has no element.
    #[error("atom {id} has type {ty}, but the structure defines the elements of types 1 to {types} only")]
    Type {
        /// Id of the atom.
        id: AtomId,
        /// Type of the atom.
        ty: i32,
        /// Number of types.
        types: usize,
    },
    /// An id is not positive, or occurs twice.
    #[error("atom id {id} is not positive or occurs twice: ids must be positive and unique")]
    Id {
        /// The id.
        id: AtomId,
    },
    /// A type has no mass, or one that is not a positive number.
    #[error("atom type {ty} of {types} has the mass {mass} u: each type requires a positive mass")]
    Mass {
        /// The type.
        ty: usize,
        /// Number of types.
        types: usize,
        /// Mass of the type, u; NaN if there is none.
        mass: f64,
    },
    /// A coordinate or velocity is NaN or infinite.
    #[error("the {what} {value:?} of atom {id} is not finite")]
    NotFinite {
        /// `position` or `velocity`.
        what: &'static str,
        /// Id of the atom.
        id: AtomId,
        /// The position (Å) or velocity (Å/ps).
        value: Vec3,
    },
    /// There are no atoms.
    #[error("it has no atoms: choose another file or another frame")]
    Empty,
    /// There is a single atom.
    #[error(
        "it has a single atom, on which no force acts because its periodic images move with it: use a supercell with \
             at least two atoms"
    )]
    Single,
    /// All atoms are fixed.
    #[error("all its atoms are fixed (`move_mask`): at least one must be free to move")]
    AllFixed,
    /// Two atoms overlap.
    #[error(
        "atoms {a} and {b} are {distance:.4} Å apart, closer than `min_distance` ({limit} Å; periodic images included): \
             correct or relax the structure"
    )]
    Overlap {
        /// Id of the first atom.
        a: AtomId,
        /// Id of the second atom.
        b: AtomId,
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

    /// Checks the array shapes, types, ids and masses, that all numbers are finite, that the cell has a volume, that
    /// atoms can move relative to each other, and that no two atoms (periodic images included) are closer than
    /// `min_distance` (Å; usually 0.5).
    ///
    /// # Errors
    /// The first [`StructureError`] found.
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

    /// The checks of [`Structure::validate`] that do not involve distances or the number of atoms.
    ///
    /// # Errors
    /// The first [`StructureError`] found.
    pub fn check_arrays(&self) -> Result<(), StructureError> {
        self.cell.check()?;
        let n = self.ids.len();
        let shapes = [
            ("types", self.types.len(), n),
            ("positions", self.positions.nrows(), n),
            ("columns of positions", self.positions.ncols(), 3),
            ("velocities", self.velocities.as_ref().map_or(n, |v| v.nrows()), n),
            ("columns of velocities", self.velocities.as_ref().map_or(3, |v| v.ncols()), 3),
        ];
        for (what, found, expected) in shapes {
            if found != expected {
                return Err(StructureError::Shape { what, found, expected });
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

    /// The closest pair of atoms over all periodic images, including an atom and its own image. `None` if there is none
    /// (fewer than two atoms and no periodic direction) or if coordinates or cell are not finite.
    ///
    /// A k-d tree over the atoms in the cell gives the closest direct pair. Only images of atoms within that distance
    /// of a periodic face can be closer, so only those are queried again. The cost is O(N log N) for any cell shape
    /// and density, including a small cluster in a large vacuum box.
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
        // The closest own image is at the shortest lattice vector, which is one of the vectors of a reduced cell.
        let mut best = ClosestPair { indices: (0, 0), distance: f64::INFINITY };
        let shortest = (0..3).filter(|&k| cell.pbc[k]).map(|k| norm(cell.vectors[k])).fold(f64::INFINITY, f64::min);
        best.distance = shortest;
        let Ok(tree) = ImmutableKdTree::<f64, 3>::new_from_slice(&points) else {
            return direct_search(&cell, &points, best);
        };
        if points.len() > 1 {
            for (i, point) in points.iter().enumerate() {
                let two = tree.query(point).nearest_n::<SquaredEuclidean<f64>>(TWO).execute();
                // Of two coincident atoms either may be returned first: take the one that is not this atom.
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
                        // Half of the images: the other half give the same pairs.
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

/// The closest pair by comparing all pairs, for points from which the tree cannot be built.
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
