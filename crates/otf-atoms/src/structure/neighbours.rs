// SPDX-License-Identifier: GPL-2.0-or-later
//! Neighbour lists of the atoms of a structure, with periodic images as separate atoms.
use super::{AtomId, Structure, StructureError, Vec3};
use crate::vector::{dot, sub};

/// Largest number of atoms and images.
const MAX_POINTS: usize = 20_000_000;
/// Largest number of neighbours of one atom. A dense crystal has some thousand within 15 Å.
const MAX_NEIGHBOURS: usize = 100_000;
/// Largest number of neighbours of all listed atoms.
const MAX_ENTRIES: usize = 1_000_000_000;

/// The error for a structure whose neighbours cannot be listed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NeighbourError {
    /// The structure is invalid.
    #[error(transparent)]
    Structure(#[from] StructureError),
    /// The cell is so small, or so strongly tilted, that there are too many images within the cutoff.
    #[error(
        "the {atoms} atoms have more than {MAX_POINTS} periodic images within {cutoff} Å: check the cell vectors, which must be in Å"
    )]
    TooManyImages {
        /// Number of atoms.
        atoms: usize,
        /// The cutoff, Å.
        cutoff: f64,
    },
    /// Atoms are so close to each other that the lists would not fit into memory.
    #[error("atom {id} has {found} neighbours within {cutoff} Å: atoms overlap, or positions and cell are not in Å")]
    TooManyNeighbours {
        /// Id of the atom.
        id: AtomId,
        /// Number of its neighbours.
        found: usize,
        /// The cutoff, Å.
        cutoff: f64,
    },
}

/// Atoms, their periodic images, and the neighbours of some of the atoms.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// Positions of the atoms, wrapped into the cell and in the order of the structure, followed by those of their images, Å.
    pub positions: Vec<Vec3>,
    /// For each of `positions`, the index of the atom in the structure.
    pub owners: Vec<u32>,
    /// The neighbours of all listed atoms, one after the other.
    indices: Vec<i32>,
    /// Where the neighbours of each listed atom begin; the last entry is the length of `indices`.
    starts: Vec<usize>,
}

impl Neighbours {
    /// Indices into `positions` of the neighbours of the k-th listed atom, ascending.
    ///
    /// # Panics
    /// If `k` is not below the number of listed atoms.
    #[must_use]
    pub fn of(&self, k: usize) -> &[i32] {
        &self.indices[self.starts[k]..self.starts[k + 1]]
    }

    /// Number of listed atoms.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether no atoms are listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Structure {
    /// Lists the neighbours within `cutoff` (Å, positive) of the atoms with these indices. Any cell is allowed, also one that
    /// is smaller than the cutoff, and any combination of periodic directions. An atom can be a neighbour of its own images.
    ///
    /// Atoms and images are sorted into cubes with an edge of at least the cutoff, so the cost is proportional to their number.
    ///
    /// # Errors
    /// [`NeighbourError`].
    ///
    /// # Panics
    /// If an index is out of range.
    pub fn neighbours(&self, cutoff: f64, atoms: &[i32]) -> Result<Neighbours, NeighbourError> {
        self.check_arrays()?;
        let (positions, owners) = self.with_images(cutoff)?;
        let cubes = Cubes::new(&positions, cutoff);
        let (mut indices, mut starts) = (Vec::new(), vec![0]);
        for &i in atoms {
            let begin = indices.len();
            let centre = positions[i as usize];
            cubes.around(centre, |members, points| {
                // Each member is written, and overwritten by the next one if it is not a neighbour: there is no branch to mispredict.
                let mut end = indices.len();
                indices.resize(end + members.len(), 0);
                for (&j, &x) in members.iter().zip(points) {
                    let d = sub(x, centre);
                    indices[end] = j;
                    end += usize::from(j != i && dot(d, d) <= cutoff * cutoff);
                }
                indices.truncate(end);
            });
            if indices.len() - begin > MAX_NEIGHBOURS || indices.len() > MAX_ENTRIES {
                let (id, found) = (self.ids[i as usize], indices.len() - begin);
                return Err(NeighbourError::TooManyNeighbours { id, found, cutoff });
            }
            // The order does not depend on the cubes.
            indices[begin..].sort_unstable();
            starts.push(indices.len());
        }
        Ok(Neighbours { positions, owners, indices, starts })
    }

    /// Positions of the atoms, wrapped into the cell, followed by those of the periodic images within `cutoff` (Å) of the cell,
    /// and the atom to which each belongs.
    fn with_images(&self, cutoff: f64) -> Result<(Vec<Vec3>, Vec<u32>), NeighbourError> {
        let (cell, n) = (&self.cell, self.len());
        if n == 0 {
            return Ok((Vec::new(), Vec::new()));
        }
        let too_many = || NeighbourError::TooManyImages { atoms: n, cutoff };
        let mut positions: Vec<Vec3> = (0..n).map(|i| cell.wrap(self.position(i))).collect();
        let fractional: Vec<Vec3> = positions.iter().map(|&x| cell.fractional(x)).collect();
        let [a, b, c] = cell.image_range(cutoff);
        let cells: f64 = [a, b, c].iter().map(|&m| 2.0 * f64::from(m) + 1.0).product();
        // Also limits the time of the loops below, in which most images are skipped.
        if cells * n as f64 > 27.0 * MAX_POINTS as f64 {
            return Err(too_many());
        }
        let mut owners: Vec<u32> = (0..n as u32).collect();
        let margin = cell.heights().map(|h| cutoff / h + 1e-9);
        for i in -a..=a {
            for j in -b..=b {
                for k in -c..=c {
                    let cells = [i, j, k];
                    if cells == [0; 3] {
                        continue;
                    }
                    let shift = cell.combine(cells.map(f64::from));
                    let near = |s: &Vec3| {
                        (0..3).all(|m| {
                            let t = s[m] + f64::from(cells[m]);
                            !cell.pbc[m] || (-margin[m] <= t && t <= 1.0 + margin[m])
                        })
                    };
                    for at in (0..n).filter(|&at| near(&fractional[at])) {
                        let x = positions[at];
                        positions.push(std::array::from_fn(|m| x[m] + shift[m]));
                        owners.push(at as u32);
                    }
                    if positions.len() > MAX_POINTS {
                        return Err(too_many());
                    }
                }
            }
        }
        Ok((positions, owners))
    }
}

/// Points sorted into cubes.
struct Cubes {
    low: Vec3,
    edge: f64,
    counts: [usize; 3],
    /// Indices of the points, by cube.
    members: Vec<i32>,
    /// Positions of the members.
    points: Vec<Vec3>,
    /// Where the members of each cube begin.
    starts: Vec<usize>,
}

impl Cubes {
    /// Sorts finite points into cubes with an edge of at least `edge`.
    fn new(points: &[Vec3], edge: f64) -> Self {
        let fold = |f: fn(f64, f64) -> f64, start: f64| -> Vec3 {
            std::array::from_fn(|k| points.iter().map(|p| p[k]).fold(start, f))
        };
        let (low, high) = (fold(f64::min, f64::INFINITY), fold(f64::max, f64::NEG_INFINITY));
        // A few atoms far from each other would otherwise require more cubes than there is memory.
        let volume: f64 = (0..3).map(|k| (high[k] - low[k]).max(edge)).product();
        let edge = edge.max((volume / (4 * points.len() + 64) as f64).cbrt());
        let counts: [usize; 3] = std::array::from_fn(|k| ((high[k] - low[k]) / edge) as usize + 1);
        let mut cubes = Self {
            low,
            edge,
            counts,
            members: vec![0; points.len()],
            points: vec![[0.0; 3]; points.len()],
            starts: Vec::new(),
        };
        let places: Vec<usize> = points.iter().map(|&p| cubes.index(cubes.place(p))).collect();
        let mut starts = vec![0; counts.iter().product::<usize>() + 1];
        places.iter().for_each(|&place| starts[place + 1] += 1);
        (1..starts.len()).for_each(|k| starts[k] += starts[k - 1]);
        let mut next = starts.clone();
        for (point, &place) in places.iter().enumerate() {
            cubes.members[next[place]] = point as i32;
            cubes.points[next[place]] = points[point];
            next[place] += 1;
        }
        cubes.starts = starts;
        cubes
    }

    fn place(&self, point: Vec3) -> [usize; 3] {
        std::array::from_fn(|k| (((point[k] - self.low[k]) / self.edge) as usize).min(self.counts[k] - 1))
    }

    fn index(&self, [a, b, c]: [usize; 3]) -> usize {
        (a * self.counts[1] + b) * self.counts[2] + c
    }

    /// Calls `use_members` with the points of the cube of `point` and of the cubes next to it, and their positions.
    fn around(&self, point: Vec3, mut use_members: impl FnMut(&[i32], &[Vec3])) {
        let place = self.place(point);
        let range = |k: usize| place[k].saturating_sub(1)..=(place[k] + 1).min(self.counts[k] - 1);
        for a in range(0) {
            for b in range(1) {
                // Cubes along the last direction are consecutive.
                let (from, to) = (self.index([a, b, *range(2).start()]), self.index([a, b, *range(2).end()]));
                let range = self.starts[from]..self.starts[to + 1];
                use_members(&self.members[range.clone()], &self.points[range]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structure::{Cell, Element};
    use ndarray::{Array1, Array2};
    use proptest::prelude::*;

    fn structure(cell: Cell, points: &[Vec3]) -> Structure {
        let n = points.len();
        Structure {
            cell,
            elements: vec![Element::Al],
            masses: None,
            types: Array1::ones(n),
            ids: (1..=n as i64).collect(),
            fixed: Vec::new(),
            positions: Array2::from_shape_fn((n, 3), |(i, k)| points[i][k]),
            velocities: None,
        }
    }

    /// The sorted distances of the neighbours of atom `i`, by comparing it with all images of all atoms.
    fn direct(s: &Structure, i: usize, cutoff: f64) -> Vec<f64> {
        // One more than for wrapped atoms on each side.
        let range = s.cell.image_range(cutoff).map(|m| if m > 0 { m + 1 } else { 0 });
        let at = |k: usize| s.cell.wrap(s.position(k));
        let mut found = Vec::new();
        for a in -range[0]..=range[0] {
            for b in -range[1]..=range[1] {
                for c in -range[2]..=range[2] {
                    let shift = s.cell.combine([a, b, c].map(f64::from));
                    for j in (0..s.len()).filter(|&j| j != i || [a, b, c] != [0; 3]) {
                        let d: Vec3 = std::array::from_fn(|k| at(j)[k] + shift[k] - at(i)[k]);
                        found.extend(Some(dot(d, d).sqrt()).filter(|&r| r <= cutoff));
                    }
                }
            }
        }
        found.sort_by(f64::total_cmp);
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn lists_equal_those_of_a_direct_search(
            vectors in prop::array::uniform3(prop::array::uniform3(-6.0..6.0_f64)),
            pbc in prop::array::uniform3(any::<bool>()),
            fractional in prop::collection::vec(prop::array::uniform3(-1.5..2.5_f64), 1..12),
            cutoff in 1.0..5.0_f64,
        ) {
            let cell = Cell { origin: [1.0, -2.0, 0.5], vectors, pbc };
            prop_assume!(cell.check().is_ok() && cell.heights().iter().all(|h| *h > 0.8));
            let points: Vec<Vec3> = fractional.iter().map(|&f| cell.cartesian(f)).collect();
            let s = structure(cell, &points);
            let all: Vec<i32> = (0..s.len() as i32).collect();
            let found = s.neighbours(cutoff, &all).unwrap();
            for i in 0..s.len() {
                let distance = |&j: &i32| { let d = sub(found.positions[j as usize], found.positions[i]); dot(d, d).sqrt() };
                let mut mine: Vec<f64> = found.of(i).iter().map(distance).collect();
                mine.sort_by(f64::total_cmp);
                let expected = direct(&s, i, cutoff);
                prop_assert_eq!(mine.len(), expected.len());
                prop_assert!(mine.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9));
            }
        }
    }

    #[test]
    fn distant_atoms_and_hostile_cells_take_neither_memory_nor_time() {
        let far = structure(Cell::orthorhombic([1.0; 3], [false; 3]), &[[0.0; 3], [1e12, 0.0, 0.0], [1.0, 0.0, 0.0]]);
        let found = far.neighbours(5.0, &[0, 1]).unwrap();
        assert_eq!((found.of(0), found.of(1), found.len()), (&[2][..], &[][..], 2));
        let tiny = structure(Cell::orthorhombic([1e-3; 3], [true; 3]), &[[0.0; 3]]);
        let error = tiny.neighbours(5.0, &[0]).unwrap_err();
        assert!(matches!(error, NeighbourError::TooManyImages { atoms: 1, .. }), "{error}");
        let dense = structure(Cell::orthorhombic([1.0; 3], [false; 3]), &vec![[0.5; 3]; MAX_NEIGHBOURS + 2]);
        let error = dense.neighbours(5.0, &[0, 1]).unwrap_err();
        assert!(matches!(error, NeighbourError::TooManyNeighbours { id: 1, .. }), "{error}");
        let flat = structure(Cell::orthorhombic([1.0, 1.0, 0.0], [true; 3]), &[[0.0; 3]]);
        assert!(matches!(flat.neighbours(5.0, &[0]), Err(NeighbourError::Structure(_))));
    }
}
