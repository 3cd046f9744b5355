// SPDX-License-Identifier: GPL-2.0-or-later
//! The geometry of a cell.
use super::{Cell, Vec3};

/// A cell whose vectors do not span a volume, or are not numbers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "the cell vectors {vectors:?} (Å) do not span a volume: every vector must be finite and point out of the \
         plane of the other two"
)]
pub struct DegenerateCell {
    /// The three vectors as rows, Å.
    pub vectors: [Vec3; 3],
}

/// Dot product.
#[must_use]
pub(crate) fn dot(a: Vec3, b: Vec3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Cross product.
#[must_use]
pub(crate) fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// Length.
#[must_use]
pub(crate) fn norm(a: Vec3) -> f64 {
    dot(a, a).sqrt()
}

/// `a - b`.
#[must_use]
pub(crate) fn sub(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

/// What is left of `v` after its projections on `basis` (vectors perpendicular to each other) are taken away.
fn perpendicular(mut v: Vec3, basis: &[Vec3]) -> Vec3 {
    for &b in basis {
        let t = dot(v, b) / dot(b, b);
        v = std::array::from_fn(|k| v[k] - t * b[k]);
    }
    v
}

impl Cell {
    /// Volume with the sign of the handedness, Å³: `a · (b × c)`; negative if the vectors are left-handed.
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

    /// Distance between the two faces that each cell vector joins, Å: `h_k = V / |b × c|` and so on.
    ///
    /// A sphere of radius r reaches `r / h_k` cells to each side along vector k, also in a strongly tilted cell,
    /// where the length of the vector says nothing.
    #[must_use]
    pub fn heights(&self) -> Vec3 {
        let [a, b, c] = self.vectors;
        let volume = self.volume();
        [volume / norm(cross(b, c)), volume / norm(cross(c, a)), volume / norm(cross(a, b))]
    }

    /// Checks that the vectors and the origin are finite and span a volume.
    ///
    /// # Errors
    /// [`DegenerateCell`] if the volume is not a normal number, or below 1e-10 of the product of the lengths of the
    /// vectors: below that, fractional coordinates keep fewer than five digits.
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

    /// The matrix that turns Cartesian offsets into fractional ones, 1/Å: row k is the reciprocal vector of cell
    /// vector k (without 2π), so `s_k = row_k · (x - origin)`. Not finite for a degenerate cell: see [`Cell::check`].
    #[must_use]
    pub fn inverse(&self) -> [Vec3; 3] {
        let [a, b, c] = self.vectors;
        let volume = self.signed_volume();
        [cross(b, c), cross(c, a), cross(a, b)].map(|v| v.map(|x| x / volume))
    }

    /// Fractional coordinates of a point: 0 at the origin, 1 at the end of each vector.
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

    /// The image of a point inside the cell, along its periodic vectors only.
    #[must_use]
    pub fn wrap(&self, point: Vec3) -> Vec3 {
        let s = self.fractional(point);
        let cells: Vec3 = std::array::from_fn(|k| if self.pbc[k] { -s[k].floor() } else { 0.0 });
        let shift = self.combine(cells);
        [point[0] + shift[0], point[1] + shift[1], point[2] + shift[2]]
    }

    /// Whether each vector lies along its own Cartesian axis, so that the cell is a box along x, y and z.
    #[must_use]
    pub fn is_axis_aligned(&self) -> bool {
        (0..3).all(|i| (0..3).all(|j| i == j || self.vectors[i][j] == 0.0))
    }

    /// Largest number of cells along each vector that an image of an atom in the same cell can be away and still
    /// lie within `distance` (Å) of it; 0 along vectors that are not periodic.
    #[must_use]
    pub fn image_range(&self, distance: f64) -> [i32; 3] {
        let heights = self.heights();
        std::array::from_fn(|k| {
            // `as` saturates, so a hopeless cell gives a large number and not a wrong one.
            if self.pbc[k] { (distance / heights[k]).ceil() as i32 } else { 0 }
        })
    }

    /// The same lattice in a compact form, for distances: the periodic vectors reduced against each other (pairwise,
    /// as in Gauss's reduction, repeated until nothing shrinks), the others turned perpendicular to what came before.
    ///
    /// Few images have to be looked at in it, however tilted the cell was. The integers say how many of the old
    /// vectors each new periodic vector is made of: `new_i = Σ_j integers[i][j] old_j`.
    #[must_use]
    pub fn reduced(&self) -> (Self, [[i64; 3]; 3]) {
        let mut cell = self.clone();
        let mut integers = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
        // Each step makes a vector shorter by at least a part in 1e12, so this ends; the limit is a seat belt.
        for _ in 0..1000 {
            let mut changed = false;
            for (i, j) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
                if !self.pbc[i] || !self.pbc[j] {
                    continue;
                }
                let (u, v) = (cell.vectors[i], cell.vectors[j]);
                let n = (dot(u, v) / dot(v, v)).round();
                let shorter: Vec3 = std::array::from_fn(|k| u[k] - n * v[k]);
                // Beyond a million cells of tilt the integers would outgrow what an image shift can hold.
                if n != 0.0 && n.abs() < 1e6 && dot(shorter, shorter) < dot(u, u) * (1.0 - 1e-12) {
                    let row: [i64; 3] = std::array::from_fn(|k| integers[i][k] - n as i64 * integers[j][k]);
                    if row.iter().any(|x| x.abs() > 1_000_000) {
                        continue;
                    }
                    cell.vectors[i] = shorter;
                    integers[i] = row;
                    changed = true;
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
        (cell, integers)
    }

    /// Whether any image of `b` lies within `distance` of `a` (Å, at the limit counts as within).
    #[must_use]
    pub fn within(&self, a: Vec3, b: Vec3, distance: f64) -> bool {
        let mut found = false;
        for_images(self, sub(b, a), distance, |_, offset| found |= norm(offset) <= distance);
        found
    }
}

/// Calls `visit(image, offset)` for every image of `offset` that can lie within `reach`: a superset, bounded by the
/// heights between the faces.
pub(crate) fn for_images(cell: &Cell, offset: Vec3, reach: f64, mut visit: impl FnMut([i32; 3], Vec3)) {
    let inverse = cell.inverse();
    let heights = cell.heights();
    let mut low = [0_i32; 3];
    let mut high = [0_i32; 3];
    for k in 0..3 {
        let s = dot(inverse[k], offset);
        // A little wider than exact, so that rounding never loses an image; the caller tests the distance.
        let w = reach / heights[k] * (1.0 + 1e-9) + 1e-9 + s.abs() * 1e-12;
        if cell.pbc[k] {
            low[k] = (-w - s).ceil() as i32;
            high[k] = (w - s).floor() as i32;
        } else if s.abs() > w {
            return;
        }
    }
    let [a, b, c] = cell.vectors;
    for i in low[0]..=high[0] {
        for j in low[1]..=high[1] {
            let [fi, fj] = [f64::from(i), f64::from(j)];
            let base: Vec3 = std::array::from_fn(|k| offset[k] + fi * a[k] + fj * b[k]);
            for l in low[2]..=high[2] {
                let fl = f64::from(l);
                visit([i, j, l], std::array::from_fn(|k| base[k] + fl * c[k]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tilted() -> Cell {
        Cell::from_lammps([-1.0, 0.5, 2.0], [4.0, 6.0, 9.0], [3.0, -2.0, 4.0], [true; 3])
    }

    #[test]
    fn fractional_and_cartesian_undo_each_other() {
        let cell = tilted();
        let point = [17.3, -4.2, 0.1];
        let back = cell.cartesian(cell.fractional(point));
        // Coordinates of order 10 through a well-conditioned matrix: a few units in the last place.
        assert!((0..3).all(|k| (back[k] - point[k]).abs() < 1e-13), "{back:?}");
    }

    #[test]
    fn heights_of_a_tilted_cell_are_shorter_than_its_vectors() {
        let cell = tilted();
        let heights = cell.heights();
        // The height along c of a LAMMPS box is lz, whatever the tilts.
        assert!((heights[2] - 7.0).abs() < 1e-14);
        assert!(heights[0] < 5.0 && heights[1] < norm(cell.vectors[1]));
    }

    #[test]
    fn wrap_leaves_fixed_directions_alone() {
        let mut cell = tilted();
        cell.pbc = [true, false, true];
        let s = cell.fractional(cell.wrap([50.0, 60.0, 70.0]));
        assert!((0.0..1.0).contains(&s[0]) && (0.0..1.0).contains(&s[2]) && s[1] > 1.0, "{s:?}");
    }

    #[test]
    fn reduction_keeps_the_volume_and_shortens_a_strong_tilt() {
        let cell = Cell::from_lammps([0.0; 3], [4.0, 4.0, 4.0], [400.4, 80.0, -900.3], [true; 3]);
        let (reduced, n) = cell.reduced();
        let c = cell.combine(n[2].map(|x| x as f64));
        assert!((0..3).all(|k| (c[k] - reduced.vectors[2][k]).abs() < 1e-10));
        assert!((reduced.volume() - 64.0).abs() < 1e-9 && reduced.vectors.iter().all(|&v| norm(v) < 6.0));
    }

    #[test]
    fn flat_and_infinite_cells_are_refused() {
        let mut cell = tilted();
        cell.vectors[2] = cell.vectors[0];
        assert!(cell.check().is_err());
        cell.vectors[2] = [f64::NAN, 0.0, 1.0];
        assert!(cell.check().is_err());
        assert!(tilted().check().is_ok());
    }
}
