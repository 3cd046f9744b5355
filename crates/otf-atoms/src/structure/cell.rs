// SPDX-License-Identifier: GPL-2.0-or-later
//! Geometry of a cell.
use super::{Cell, Vec3};
use crate::vector::{cross, dot, norm, sub};
use ndarray::ArrayView2;

/// The error for cell vectors that do not span a volume or are not finite.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "the cell vectors {vectors:?} (Å) do not span a volume: each vector must be finite and must not lie in the plane of \
         the other two"
)]
pub struct DegenerateCell {
    /// The three vectors as rows, Å.
    pub vectors: [Vec3; 3],
}

/// The component of `v` perpendicular to all vectors of `basis`, which are perpendicular to each other.
fn perpendicular(mut v: Vec3, basis: &[Vec3]) -> Vec3 {
    for &b in basis {
        let t = dot(v, b) / dot(b, b);
        v = std::array::from_fn(|k| v[k] - t * b[k]);
    }
    v
}

impl Cell {
    /// Smallest height in Å of a shrink-wrapped non-periodic direction. LAMMPS cannot build neighbour lists in a box
    /// of zero height.
    pub const MIN_HEIGHT: f64 = 1.0;

    /// The signed volume `a · (b × c)`, Å³; negative if the vectors are left-handed.
    #[must_use]
    pub fn signed_volume(&self) -> f64 {
        let [a, b, c] = self.vectors;
        dot(a, cross(b, c))
    }

    /// Volume, Å³.
    #[must_use]
    pub fn volume(&self) -> f64 {
        self.signed_volume().abs()
    }

    /// Distance between the pair of faces that each cell vector connects, Å: `V / |b × c|` and so on.
    ///
    /// A sphere of radius r extends over `r / h_k` cells to each side along vector k, also in a strongly tilted cell.
    #[must_use]
    pub fn heights(&self) -> Vec3 {
        let [a, b, c] = self.vectors;
        let volume = self.volume();
        [volume / norm(cross(b, c)), volume / norm(cross(c, a)), volume / norm(cross(a, b))]
    }

    /// Checks that the vectors and the origin are finite and span a volume.
    ///
    /// # Errors
    /// [`DegenerateCell`] if the volume is not a normal number or is below 1e-10 of the product of the lengths of the
    /// vectors, where fractional coordinates have fewer than five significant digits.
    pub fn check(&self) -> Result<(), DegenerateCell> {
        let lengths: f64 = self.vectors.iter().map(|&v| norm(v)).product();
        let volume = self.volume();
        let finite = self.origin.iter().all(|x| x.is_finite());
        if finite && volume.is_normal() && lengths.is_finite() && volume > 1e-10 * lengths {
            Ok(())
        } else {
            Err(DegenerateCell { vectors: self.vectors })
        }
    }

    /// The matrix that converts Cartesian offsets to fractional ones, 1/Å: row k is the reciprocal vector of cell
    /// vector k (without 2π), so `s_k = row_k · (x - origin)`. Not finite for a degenerate cell; see [`Cell::check`].
    #[must_use]
    pub fn inverse(&self) -> [Vec3; 3] {
        let [a, b, c] = self.vectors;
        let volume = self.signed_volume();
        [cross(b, c), cross(c, a), cross(a, b)].map(|v| v.map(|x| x / volume))
    }

    /// Fractional coordinates of a point (Å): 0 at the origin, 1 at the end of each vector.
    #[must_use]
    pub fn fractional(&self, point: Vec3) -> Vec3 {
        let offset = sub(point, self.origin);
        self.inverse().map(|row| dot(row, offset))
    }

    /// The point with these fractional coordinates, Å.
    #[must_use]
    pub fn cartesian(&self, fractional: Vec3) -> Vec3 {
        let shift = self.combine(fractional);
        [self.origin[0] + shift[0], self.origin[1] + shift[1], self.origin[2] + shift[2]]
    }

    /// The linear combination of the cell vectors with these factors, Å.
    #[must_use]
    pub fn combine(&self, factors: Vec3) -> Vec3 {
        let [a, b, c] = self.vectors;
        std::array::from_fn(|k| factors[0] * a[k] + factors[1] * b[k] + factors[2] * c[k])
    }

    /// The point (Å) wrapped into the cell along the periodic vectors.
    #[must_use]
    pub fn wrap(&self, point: Vec3) -> Vec3 {
        let s = self.fractional(point);
        let cells: Vec3 = std::array::from_fn(|k| if self.pbc[k] { -s[k].floor() } else { 0.0 });
        let shift = self.combine(cells);
        [point[0] + shift[0], point[1] + shift[1], point[2] + shift[2]]
    }

    /// A copy of the cell that is extended along its non-periodic vectors to contain `positions` (Å; shape (n, 3)). A
    /// vector along which the cell already contains them is unchanged.
    ///
    /// Along a vector across which all atoms lie in one plane, the cell gets a height of less than 1 Å.
    #[must_use]
    pub fn enclosing(&self, positions: ArrayView2<'_, f64>) -> Self {
        // Å. In LAMMPS, no rank owns an atom on the upper face.
        const MARGIN: f64 = Cell::MIN_HEIGHT / 4.0;
        const FLAT: f64 = 0.1;
        let (rows, heights) = (self.inverse(), self.heights());
        let mut cell = self.clone();
        for k in (0..3).filter(|&k| !self.pbc[k]) {
            let along = positions.rows().into_iter().map(|p| dot(rows[k], sub([p[0], p[1], p[2]], self.origin)));
            let (low, high) = along.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), s| (l.min(s), h.max(s)));
            let (margin, flat) = (MARGIN / heights[k], (high - low) * heights[k] < FLAT);
            if low > high || low >= 0.0 && high < 1.0 && !flat {
                continue;
            }
            let from = if flat || low < 0.0 { low - margin } else { 0.0 };
            let to = if flat || high >= 1.0 { high + margin } else { 1.0 };
            let vector = self.vectors[k];
            cell.origin = std::array::from_fn(|x| cell.origin[x] + from * vector[x]);
            cell.vectors[k] = vector.map(|x| (to - from) * x);
        }
        cell
    }

    /// Whether the vectors lie along x, y and z.
    #[must_use]
    pub fn is_axis_aligned(&self) -> bool {
        (0..3).all(|i| (0..3).all(|j| i == j || self.vectors[i][j] == 0.0))
    }

    /// Largest number of cells along each vector between an atom and an image within `distance` (Å), for atoms inside
    /// the cell; 0 along non-periodic vectors.
    #[must_use]
    pub fn image_range(&self, distance: f64) -> [i32; 3] {
        let heights = self.heights();
        std::array::from_fn(|k| {
            // `as` saturates, so a degenerate cell gives a large number, not a wrong one.
            if self.pbc[k] { (distance / heights[k]).ceil() as i32 } else { 0 }
        })
    }

    /// A compact cell of the same lattice, for distances: the periodic vectors are Minkowski-reduced (no sum or
    /// difference of them is shorter than they are), the others are perpendicular to all vectors before them.
    ///
    /// Distances in the reduced cell need few images, however tilted the original cell is. The second value holds the
    /// integer coefficients of each new periodic vector: `new_i = Σ_j numbers[i][j] old_j`.
    #[must_use]
    pub fn reduced(&self) -> (Self, [Vec3; 3]) {
        let mut cell = self.clone();
        let mut numbers = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        // Each step shortens a vector by a relative 1e-12 at least, so the loop terminates without this limit.
        for _ in 0..1000 {
            let mut changed = false;
            for i in 0..3 {
                let (j, k) = ((i + 1) % 3, (i + 2) % 3);
                let size = |x: Vec3, y: Vec3| if x == y { 0.0 } else { (dot(x, y) / dot(y, y)).round() };
                let [u, v, w] = [i, j, k].map(|n| cell.vectors[n]);
                // Multiples of one other vector, then the sums and differences of all three. In three dimensions
                // pairs are not sufficient: three coplanar vectors at 120° are pairwise reduced, but their sum is 0.
                let pairs = [(-size(u, v), 0.0), (0.0, -size(u, w))];
                for (m, n) in pairs.into_iter().chain([(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)]) {
                    let periodic = self.pbc[i] && (m == 0.0 || self.pbc[j]) && (n == 0.0 || self.pbc[k]);
                    let old = cell.vectors[i];
                    let shorter: Vec3 = std::array::from_fn(|x| old[x] + m * v[x] + n * w[x]);
                    if periodic && (m, n) != (0.0, 0.0) && dot(shorter, shorter) < dot(old, old) * (1.0 - 1e-12) {
                        cell.vectors[i] = shorter;
                        numbers[i] = std::array::from_fn(|x| numbers[i][x] + m * numbers[j][x] + n * numbers[k][x]);
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
        let mut done: Vec<Vec3> = Vec::with_capacity(3);
        for k in (0..3).filter(|&k| self.pbc[k]) {
            done.push(perpendicular(cell.vectors[k], &done));
        }
        for k in (0..3).filter(|&k| !self.pbc[k]) {
            cell.vectors[k] = perpendicular(cell.vectors[k], &done);
            done.push(cell.vectors[k]);
        }
        (cell, numbers)
    }

    /// Minimum-image distance of two points, Å, in any cell.
    ///
    /// For repeated calls, use [`Cell::distance_reduced`] of the [`Cell::reduced`] cell.
    #[must_use]
    pub fn distance(&self, a: Vec3, b: Vec3) -> f64 {
        self.reduced().0.distance_reduced(sub(b, a))
    }

    /// Whether the minimum-image distance of `a` and `b` is at most `distance` (Å).
    ///
    /// For repeated calls, use [`Cell::distance_reduced`] of the [`Cell::reduced`] cell.
    #[must_use]
    pub fn within(&self, a: Vec3, b: Vec3, distance: f64) -> bool {
        self.distance(a, b) <= distance
    }

    /// Length of the shortest image of an offset (Å), for a cell returned by [`Cell::reduced`]. In such a cell the
    /// shortest image is at most one cell away from the one given by rounding the fractional coordinates.
    #[must_use]
    pub fn distance_reduced(&self, offset: Vec3) -> f64 {
        let s = self.inverse().map(|row| dot(row, offset));
        let fold: Vec3 = std::array::from_fn(|k| if self.pbc[k] { -s[k].round() } else { 0.0 });
        let steps = |k: usize| if self.pbc[k] { [-1.0, 0.0, 1.0].as_slice() } else { [0.0].as_slice() };
        let mut shortest = f64::INFINITY;
        for i in steps(0) {
            for j in steps(1) {
                for k in steps(2) {
                    let shift = self.combine([fold[0] + i, fold[1] + j, fold[2] + k]);
                    let image: Vec3 = std::array::from_fn(|x| offset[x] + shift[x]);
                    shortest = shortest.min(norm(image));
                }
            }
        }
        shortest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tilted() -> Cell {
        Cell::from_lammps([-1.0, 0.5, 2.0], [4.0, 6.0, 9.0], [3.0, -2.0, 4.0], [true; 3])
    }

    #[test]
    fn fractional_and_cartesian_are_inverse() {
        let cell = tilted();
        let point = [17.3, -4.2, 0.1];
        let back = cell.cartesian(cell.fractional(point));
        // Coordinates of order 10 and a well-conditioned matrix: a few units in the last place.
        assert!((0..3).all(|k| (back[k] - point[k]).abs() < 1e-13), "{back:?}");
    }

    #[test]
    fn heights_of_a_tilted_cell_are_shorter_than_its_vectors() {
        let cell = tilted();
        let heights = cell.heights();
        // The height along c of a LAMMPS box is lz for any tilt.
        assert!((heights[2] - 7.0).abs() < 1e-14);
        assert!(heights[0] < 5.0 && heights[1] < norm(cell.vectors[1]));
    }

    #[test]
    fn wrap_keeps_non_periodic_directions() {
        let mut cell = tilted();
        cell.pbc = [true, false, true];
        let s = cell.fractional(cell.wrap([50.0, 60.0, 70.0]));
        assert!((0.0..1.0).contains(&s[0]) && (0.0..1.0).contains(&s[2]) && s[1] > 1.0, "{s:?}");
    }

    #[test]
    fn enclosing_cell_contains_the_atoms_along_open_directions() {
        let inside = |cell: &Cell, positions: &ndarray::Array2<f64>| {
            positions.rows().into_iter().all(|p| {
                let s = cell.fractional([p[0], p[1], p[2]]);
                (0..3).all(|k| cell.pbc[k] || (0.0..1.0).contains(&s[k]))
            })
        };
        let mut cell = tilted();
        cell.pbc = [true, false, false];
        let within = ndarray::arr2(&[[0.5, 2.0, 3.0], [90.0, 3.0, 6.0]]);
        assert!(inside(&cell, &within));
        assert_eq!(cell.enclosing(within.view()), cell, "a cell that contains the atoms is unchanged");
        assert_eq!(cell.enclosing(ndarray::Array2::zeros((0, 3)).view()), cell);

        let beyond = ndarray::arr2(&[[0.5, -30.0, 3.0], [1.0, 3.0, 50.0]]);
        let wide = cell.enclosing(beyond.view());
        assert!(!inside(&cell, &beyond) && inside(&wide, &beyond), "{wide:?}");
        assert_eq!(wide.vectors[0], cell.vectors[0], "a periodic vector is unchanged");

        // Atoms in a plane of the first two vectors, in a high cell.
        let plane = ndarray::arr2(&[[0.0, 1.0, 4.0], [1.0, 3.0, 4.0]]);
        let flat = cell.enclosing(plane.view());
        let heights = flat.heights();
        assert!(inside(&flat, &plane) && heights[2] < Cell::MIN_HEIGHT && heights[1] > Cell::MIN_HEIGHT, "{flat:?}");
    }

    #[test]
    fn reduction_keeps_the_volume_and_shortens_a_strong_tilt() {
        let cell = Cell::from_lammps([0.0; 3], [4.0, 4.0, 4.0], [400.4, 80.0, -900.3], [true; 3]);
        let (reduced, n) = cell.reduced();
        let c = cell.combine(n[2]);
        assert!((0..3).all(|k| (c[k] - reduced.vectors[2][k]).abs() < 1e-10));
        assert!((reduced.volume() - 64.0).abs() < 1e-9 && reduced.vectors.iter().all(|&v| norm(v) < 6.0));
    }

    #[test]
    fn reduction_of_three_vectors_that_nearly_cancel() {
        let h = 3.0_f64.sqrt() / 2.0;
        let vectors = [[1.0, 0.0, 0.0], [-0.5, h, 0.0], [-0.5, -h, 0.01]];
        let (reduced, _) = Cell { origin: [0.0; 3], vectors, pbc: [true; 3] }.reduced();
        let shortest = reduced.vectors.map(norm).into_iter().fold(1.0, f64::min);
        assert!((shortest - 0.01).abs() < 1e-12, "{reduced:?}");
    }

    #[test]
    fn distance_is_to_the_nearest_of_many_images() {
        let mut cell = tilted();
        for pbc in [[true; 3], [true, false, true], [false; 3], [false, false, true]] {
            cell.pbc = pbc;
            for n in 0..200 {
                let b: Vec3 = std::array::from_fn(|k| (f64::from(n) * [0.37, 0.73, 0.51][k]).fract() * 30.0 - 15.0);
                let range = |k: usize| if pbc[k] { -12..=12 } else { 0..=0 };
                let mut best = f64::INFINITY;
                for i in range(0) {
                    for j in range(1) {
                        for k in range(2) {
                            let shift = cell.combine([i, j, k].map(f64::from));
                            best = best.min(norm(std::array::from_fn(|x| b[x] + shift[x])));
                        }
                    }
                }
                assert!((best - cell.distance([0.0; 3], b)).abs() < 1e-12, "{b:?}");
            }
        }
    }

    #[test]
    fn check_rejects_flat_and_non_finite_cells() {
        let mut cell = tilted();
        cell.vectors[2] = cell.vectors[0];
        assert!(cell.check().is_err());
        cell.vectors[2] = [f64::NAN, 0.0, 1.0];
        assert!(cell.check().is_err());
        assert!(tilted().check().is_ok());
    }
}
