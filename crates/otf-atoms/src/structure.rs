// SPDX-License-Identifier: GPL-2.0-or-later
//! Simulation cells and the atoms in them.
//!
//! The data model is that of LAMMPS: atoms have an id and a type, types are numbered from 1, and a table maps each
//! type to its element. [`AtomsView`] borrows the atoms of a structure or of a running simulation.

mod cell;
mod distance;
mod frame;
mod integers;
mod neighbours;

pub use crate::vector::Vec3;
pub use cell::DegenerateCell;
pub use distance::{ClosestPair, StructureError};
pub use frame::{FrameError, Rotation};
pub use integers::Integers;
pub use mendeleev::Element;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
pub use neighbours::{NeighbourError, Neighbours};
use serde::{Deserialize, Serialize};

/// The id of an atom. LAMMPS stores it with 32 or 64 bits, depending on how it was built; see [`Integers`].
pub type AtomId = i64;

/// Boltzmann's constant in eV/K (exact in the SI).
const BOLTZMANN: f64 = 1.380_649e-23 / 1.602_176_634e-19;
/// u Å²/ps² in eV.
const U_A2_PER_PS2: f64 = 1.660_539_066_6e-27 * 1e4 / 1.602_176_634e-19;

/// A simulation cell: a parallelepiped, periodic or not along each of its three vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The corner at which the vectors start, Å.
    pub origin: Vec3,
    /// The three cell vectors as rows, Å.
    pub vectors: [Vec3; 3],
    /// Whether the cell is periodic along each vector.
    pub pbc: [bool; 3],
}

/// Atoms in a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Structure {
    /// The cell.
    pub cell: Cell,
    /// The element of each type: type `t` is `elements[t - 1]`.
    pub elements: Vec<Element>,
    /// The mass of each type, u; `None` if all are the standard atomic weights.
    pub masses: Option<Vec<f64>>,
    /// Type of each atom, from 1; shape (n).
    pub types: Array1<i32>,
    /// Id of each atom, unique and positive; shape (n).
    pub ids: Array1<AtomId>,
    /// Atoms fixed along some axes. Each axis of an atom occurs at most once.
    pub fixed: Vec<FixedAtoms>,
    /// Cartesian coordinates, Å; shape (n, 3). Atoms may lie outside the cell.
    pub positions: Array2<f64>,
    /// Velocities, Å/ps; shape (n, 3).
    pub velocities: Option<Array2<f64>>,
}

/// Atoms that are fixed along some axes, as with ASE's `FixAtoms` and `FixCartesian`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedAtoms {
    /// Whether the atoms are fixed along x, y and z.
    pub axes: [bool; 3],
    /// Ids of the atoms.
    pub ids: Vec<AtomId>,
}

/// The atoms of a [`Structure`], or the local atoms of one rank of a running simulation, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct AtomsView<'a> {
    /// Cartesian coordinates, Å; shape (n, 3).
    pub positions: ArrayView2<'a, f64>,
    /// Id of each atom; shape (n).
    pub ids: Integers<'a>,
    /// Type of each atom, from 1; shape (n).
    pub types: ArrayView1<'a, i32>,
}

impl FixedAtoms {
    /// The names of the fixed axes, for example `xyz`.
    #[must_use]
    pub fn axes(&self) -> String {
        "xyz".chars().zip(self.axes).filter(|(_, fixed)| *fixed).map(|(axis, _)| axis).collect()
    }

    /// The ids in the syntax of the LAMMPS command `group`: consecutive ids are joined, as in `1:18`.
    #[must_use]
    pub fn ranges(&self) -> Vec<String> {
        let mut ids = self.ids.clone();
        ids.sort_unstable();
        let range = |ids: &[AtomId]| match *ids {
            [id] => id.to_string(),
            [first, .., last] => format!("{first}:{last}"),
            [] => String::new(),
        };
        ids.chunk_by(|a, b| a.checked_add(1) == Some(*b)).map(range).collect()
    }
}

impl Structure {
    /// The atoms, borrowed.
    #[must_use]
    pub fn atoms(&self) -> AtomsView<'_> {
        AtomsView { positions: self.positions.view(), ids: self.ids.view().into(), types: self.types.view() }
    }

    /// Number of atoms.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no atoms.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The chemical formula in the order of atomic numbers, for example `Al32Cu4`.
    ///
    /// # Panics
    /// If an atom's type is not in the table.
    #[must_use]
    pub fn formula(&self) -> String {
        let mut counts = vec![0_usize; self.elements.len()];
        self.types.iter().for_each(|&t| counts[t as usize - 1] += 1);
        let mut by_number = std::collections::BTreeMap::new();
        for (element, n) in self.elements.iter().zip(counts).filter(|(_, n)| *n > 0) {
            by_number.entry(element.atomic_number()).or_insert((element.symbol(), 0)).1 += n;
        }
        let part = |&(symbol, n): &(&str, usize)| if n == 1 { symbol.to_owned() } else { format!("{symbol}{n}") };
        by_number.values().map(part).collect()
    }

    /// Element of the atom at `index` in the arrays, from 0.
    ///
    /// # Panics
    /// If `index` is out of range, or if the atom's type is not in the table.
    #[must_use]
    pub fn element(&self, index: usize) -> Element {
        self.elements[self.types[index] as usize - 1]
    }

    /// Number of degrees of freedom that are removed from the temperature: one for each axis of each fixed atom, and one
    /// for each axis along which no atom is fixed, for the centre of mass.
    #[must_use]
    pub fn lost_degrees_of_freedom(&self) -> usize {
        let along = |axis: usize| -> usize { self.fixed.iter().filter(|f| f.axes[axis]).map(|f| f.ids.len()).sum() };
        (0..3).map(|axis| along(axis).max(1)).sum()
    }

    /// Temperature of the velocities in K, `2 E_kin / (k_B (3 n - lost degrees of freedom))`; `None` if there are no
    /// velocities or all are 0.
    #[must_use]
    pub fn velocity_temperature(&self) -> Option<f64> {
        let velocities = self.velocities.as_ref().filter(|v| v.iter().any(|v| *v != 0.0))?;
        let twice =
            (0..self.len()).map(|i| self.mass(i) * U_A2_PER_PS2 * velocities.row(i).iter().map(|v| v * v).sum::<f64>());
        let freedom = (3 * self.len()).saturating_sub(self.lost_degrees_of_freedom()).max(1);
        Some(twice.sum::<f64>() / (freedom as f64 * BOLTZMANN))
    }

    /// The mass of each type, u; one for each entry of `elements`.
    #[must_use]
    pub fn type_masses(&self) -> Vec<f64> {
        self.masses.clone().unwrap_or_else(|| self.elements.iter().copied().map(standard_mass).collect())
    }

    /// Mass of the atom at `index` in the arrays, from 0, in u.
    ///
    /// # Panics
    /// If `index` is out of range, or if the atom's type is not in the table.
    #[must_use]
    pub fn mass(&self, index: usize) -> f64 {
        match &self.masses {
            Some(masses) => masses[self.types[index] as usize - 1],
            None => standard_mass(self.element(index)),
        }
    }

    /// A copy whose types are numbered by another table of elements. Its masses are the standard ones.
    ///
    /// # Errors
    /// A message with the symbol of the first element that is not in the table.
    pub fn with_elements(&self, elements: &[Element]) -> Result<Self, String> {
        let type_of = |index: usize| {
            let element = self.element(index);
            let place = elements.iter().position(|listed| *listed == element);
            place
                .map(|place| place as i32 + 1)
                .ok_or_else(|| format!("{} is not among the elements of the run", element.symbol()))
        };
        let types = (0..self.len()).map(type_of).collect::<Result<Array1<i32>, _>>()?;
        Ok(Self { elements: elements.to_vec(), masses: None, types, ..self.clone() })
    }
}

impl Cell {
    /// A rectangular cell with its corner at the origin. `edges` are in Å.
    #[must_use]
    pub fn orthorhombic(edges: Vec3, pbc: [bool; 3]) -> Self {
        let [a, b, c] = edges;
        Self { origin: [0.0; 3], vectors: [[a, 0.0, 0.0], [0.0, b, 0.0], [0.0, 0.0, c]], pbc }
    }

    /// The cell of a LAMMPS box: lower and upper bounds of the untilted box and the tilt factors `xy`, `xz`, `yz`, Å.
    #[must_use]
    pub fn from_lammps(lo: Vec3, hi: Vec3, [xy, xz, yz]: [f64; 3], pbc: [bool; 3]) -> Self {
        Self {
            origin: lo,
            vectors: [[hi[0] - lo[0], 0.0, 0.0], [xy, hi[1] - lo[1], 0.0], [xz, yz, hi[2] - lo[2]]],
            pbc,
        }
    }
}

/// The standard atomic weight of an element, u.
#[must_use]
pub fn standard_mass(element: Element) -> f64 {
    f64::from(element.atomic_weight())
}

/// The field [`Structure::masses`] for these masses (u) and elements: `None` if all are the standard atomic weights.
#[must_use]
pub fn nonstandard_masses(masses: Vec<f64>, elements: &[Element]) -> Option<Vec<f64>> {
    let standard = masses.iter().zip(elements).all(|(mass, element)| *mass == standard_mass(*element));
    (!standard).then_some(masses)
}

/// The element with this symbol, case-insensitive; `None` if there is none.
#[must_use]
pub fn element_from_symbol(symbol: &str) -> Option<Element> {
    Element::iter().find(|element| element.symbol().eq_ignore_ascii_case(symbol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_ids_are_joined_to_ranges() {
        let fixed = FixedAtoms { axes: [true, false, true], ids: vec![9, 2, 1, 3, 12, 11] };
        assert_eq!((fixed.axes().as_str(), fixed.ranges()), ("xz", vec!["1:3".into(), "9".into(), "11:12".into()]));
    }

    #[test]
    fn with_elements_renumbers_the_types() {
        let own = Structure {
            cell: Cell::orthorhombic([9.0; 3], [true; 3]),
            elements: vec![Element::Cu, Element::Al],
            masses: None,
            types: Array1::from_vec(vec![1, 2, 2]),
            ids: Array1::from_vec(vec![1, 2, 3]),
            fixed: Vec::new(),
            positions: Array2::zeros((3, 3)),
            velocities: None,
        };
        let other = own.with_elements(&[Element::Al, Element::Ni, Element::Cu]).unwrap();
        assert_eq!(other.types.to_vec(), [3, 1, 1]);
        assert!((0..3).all(|i| own.element(i) == other.element(i)));
        assert!(own.with_elements(&[Element::Al]).unwrap_err().contains("Cu"));
    }
}
