// SPDX-License-Identifier: GPL-2.0-or-later
//! Rotation of a general cell into LAMMPS's restricted triclinic frame.
use super::{AtomId, Cell, DegenerateCell, Structure, Vec3};
use crate::vector::{cross, dot, norm};
use ndarray::Array2;

/// A proper rotation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotation {
    /// The rows are the new axes in the old frame: `x' = matrix · x`.
    pub matrix: [Vec3; 3],
}

impl Rotation {
    /// The identity.
    pub const IDENTITY: Self = Self { matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]] };

    /// Transforms a vector from the old frame to the new one.
    #[must_use]
    pub fn apply(&self, v: Vec3) -> Vec3 {
        self.matrix.map(|row| dot(row, v))
    }

    /// Transforms a vector from the new frame to the old one.
    #[must_use]
    pub fn apply_inverse(&self, v: Vec3) -> Vec3 {
        std::array::from_fn(|k| (0..3).map(|row| self.matrix[row][k] * v[row]).sum())
    }

    fn apply_to_rows(&self, rows: &Array2<f64>) -> Array2<f64> {
        let mut out = rows.clone();
        for mut row in out.rows_mut() {
            let rotated = self.apply([row[0], row[1], row[2]]);
            (0..3).for_each(|k| row[k] = rotated[k]);
        }
        out
    }
}

/// The error for a structure that cannot be rotated into LAMMPS's frame.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The vectors span no volume.
    #[error(transparent)]
    Degenerate(#[from] DegenerateCell),
    /// The vectors are left-handed.
    #[error(
        "the cell vectors are left-handed (signed volume {volume} Å³), and LAMMPS requires right-handed ones: swap two \
             of the cell vectors and their periodic flags, which describes the same crystal"
    )]
    LeftHanded {
        /// `a · (b × c)`, Å³.
        volume: f64,
    },
    /// An atom is fixed along some axes only, in a cell that has to be rotated.
    #[error(
        "atom {id} is fixed along some axes only (`move_mask` with three columns), but the cell must be rotated for \
             LAMMPS, which changes the axes. Use a cell whose first vector is along x and whose second is in the xy \
             plane, or fix the atom along all axes"
    )]
    FixedAxis {
        /// The first such atom.
        id: AtomId,
    },
}

impl Structure {
    /// The structure in LAMMPS's restricted triclinic frame (a along x, b in the xy plane, c with z > 0), and the
    /// rotation into it. A structure that is already in this frame is returned unchanged, bit by bit.
    ///
    /// The axes are `a/|a|` for x, `(a × b)/|a × b|` for z, and their cross product for y (LAMMPS manual, *Howto
    /// triclinic*). Positions, velocities and the origin are rotated.
    ///
    /// # Errors
    /// [`FrameError`] if the cell spans no volume or is left-handed, or if it has to be rotated and atoms are fixed along
    /// some axes only.
    pub fn to_lammps_frame(&self) -> Result<(Self, Rotation), FrameError> {
        self.cell.check()?;
        let volume = self.cell.signed_volume();
        if volume < 0.0 {
            return Err(FrameError::LeftHanded { volume });
        }
        let [a, b, c] = self.cell.vectors;
        if a[1] == 0.0 && a[2] == 0.0 && b[2] == 0.0 && a[0] > 0.0 && b[1] > 0.0 && c[2] > 0.0 {
            return Ok((self.clone(), Rotation::IDENTITY));
        }
        if let Some(fixed) = self.fixed.iter().find(|fixed| fixed.axes != [true; 3]) {
            return Err(FrameError::FixedAxis { id: fixed.ids.first().copied().unwrap_or_default() });
        }
        let unit = |v: Vec3| v.map(|x| x / norm(v));
        let x = unit(a);
        let z = unit(cross(a, b));
        let rotation = Rotation { matrix: [x, cross(z, x), z] };
        let [a, b, c] = self.cell.vectors.map(|v| rotation.apply(v));
        let cell = Cell {
            origin: rotation.apply(self.cell.origin),
            // Components that are zero by construction are exactly 0, not 1e-17.
            vectors: [[a[0], 0.0, 0.0], [b[0], b[1], 0.0], c],
            pbc: self.cell.pbc,
        };
        let rotated = Self {
            cell,
            elements: self.elements.clone(),
            masses: self.masses.clone(),
            types: self.types.clone(),
            ids: self.ids.clone(),
            fixed: self.fixed.clone(),
            positions: rotation.apply_to_rows(&self.positions),
            velocities: self.velocities.as_ref().map(|v| rotation.apply_to_rows(v)),
        };
        Ok((rotated, rotation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structure::Element;
    use ndarray::{arr1, arr2};

    fn structure(vectors: [Vec3; 3]) -> Structure {
        Structure {
            cell: Cell { origin: [0.5, 0.0, -1.0], vectors, pbc: [true; 3] },
            elements: vec![Element::Al],
            masses: None,
            types: arr1(&[1, 1]),
            ids: arr1(&[1, 2]),
            fixed: Vec::new(),
            positions: arr2(&[[0.1, 0.2, 0.3], [2.0, -1.0, 4.0]]),
            velocities: None,
        }
    }

    #[test]
    fn rotation_keeps_fractional_coordinates_and_is_invertible() {
        let old = structure([[0.0, 4.0, 0.3], [1.0, 0.0, 5.0], [6.0, 1.0, 0.0]]);
        let (new, rotation) = old.to_lammps_frame().unwrap();
        for i in 0..2 {
            let row = |s: &Structure| std::array::from_fn(|k| s.positions[[i, k]]);
            let (before, after) = (old.cell.fractional(row(&old)), new.cell.fractional(row(&new)));
            let back = rotation.apply_inverse(row(&new));
            // Two 3 × 3 products on numbers of order 1.
            assert!((0..3).all(|k| (before[k] - after[k]).abs() < 1e-14));
            assert!((0..3).all(|k| (back[k] - old.positions[[i, k]]).abs() < 1e-14));
        }
        assert_eq!(new.to_lammps_frame().unwrap().1, Rotation::IDENTITY);
    }

    #[test]
    fn left_handed_cells_are_rejected() {
        let left = structure([[0.0, 4.0, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 4.0]]);
        assert!(matches!(left.to_lammps_frame(), Err(FrameError::LeftHanded { .. })));
    }
}
