// SPDX-License-Identifier: GPL-2.0-or-later
//! Crystals and random numbers for the tests of several crates.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use ndarray::{Array1, Array2};
use otf_atoms::structure::{Cell, Element, Structure, Vec3};

/// A structure of one or more elements; `atoms` are (type, position).
pub fn structure(cell: Cell, elements: &[Element], atoms: &[(i32, Vec3)]) -> Structure {
    let n = atoms.len();
    Structure {
        cell,
        elements: elements.to_vec(),
        masses: None,
        types: atoms.iter().map(|atom| atom.0).collect(),
        ids: Array1::from_iter(1..=n as i64),
        fixed: Vec::new(),
        positions: Array2::from_shape_fn((n, 3), |(i, k)| atoms[i].1[k]),
        velocities: None,
    }
}

/// An fcc crystal of `n` conventional cells of edge `a` (Å) along each axis.
pub fn fcc(element: Element, a: f64, n: usize) -> Structure {
    let basis = [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]];
    let mut atoms = Vec::with_capacity(4 * n * n * n);
    for i in 0..n {
        for j in 0..n {
            for k in 0..n {
                let corner = [i as f64, j as f64, k as f64];
                atoms.extend(basis.map(|b| (1, std::array::from_fn(|d| a * (corner[d] + b[d])))));
            }
        }
    }
    structure(Cell::orthorhombic([a * n as f64; 3], [true; 3]), &[element], &atoms)
}

/// The generator SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A uniform number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A uniform number in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// An integer in 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// A normal deviate with this standard deviation (Box-Muller).
    pub fn normal(&mut self, sigma: f64) -> f64 {
        let (u, v) = (1.0 - self.unit(), self.unit());
        sigma * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// Displaces every coordinate by a normal deviate, Å.
pub fn rattle(structure: &mut Structure, sigma: f64, seed: u64) {
    let mut random = Random(seed);
    structure.positions.mapv_inplace(|x| x + random.normal(sigma));
}
