// SPDX-License-Identifier: GPL-2.0-or-later
//! Clusters of atoms with all others as neighbours, and a generator of random numbers.

// Each test binary uses a part of this module.
#![allow(dead_code)]

use pace_opt::{Evaluator, Isa, Output, Potential, Result, System};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A linear congruential generator, reproducible on all platforms.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 31) as f64
    }
}

/// Atoms on a distorted grid, of random types.
#[derive(Clone)]
pub struct Cluster {
    pub positions: Vec<[f64; 3]>,
    pub types: Vec<i32>,
    /// Factor of the energies of each type; empty means one.
    pub scales: Vec<f64>,
}

pub struct Evaluated {
    pub energy: f64,
    pub energies: Vec<f64>,
    pub forces: Vec<[f64; 3]>,
    pub virial: [f64; 6],
    pub virials: Vec<[f64; 6]>,
    pub grades: Vec<f64>,
    pub coefficients: Vec<Vec<f64>>,
    pub bias: f64,
    pub bias_forces: Vec<[f64; 3]>,
}

impl Cluster {
    pub fn new(side: usize, spacing: f64, kinds: u64, seed: u64) -> Self {
        let mut random = Random(seed);
        let (mut positions, mut types) = (Vec::new(), Vec::new());
        for i in 0..side * side * side {
            let cell = [i % side, i / side % side, i / side / side];
            positions.push(cell.map(|c| spacing * c as f64 + 0.5 * (random.unit() - 0.5)));
            types.push((random.next() % kinds) as i32);
        }
        Cluster { positions, types, scales: Vec::new() }
    }

    pub fn evaluate(&self, evaluator: &mut Evaluator, grades: bool) -> Result<Evaluated> {
        self.evaluate_with(evaluator, grades, false)
    }

    /// As `evaluate`, with the forces of the bias apart if requested.
    pub fn evaluate_with(&self, evaluator: &mut Evaluator, grades: bool, bias_forces: bool) -> Result<Evaluated> {
        let n = self.positions.len();
        let atoms: Vec<i32> = (0..n as i32).collect();
        let lists: Vec<Vec<i32>> = (0..n).map(|i| (0..n as i32).filter(|&j| j as usize != i).collect()).collect();
        let kinds: Vec<i32> = (0..evaluator.potential().elements().len() as i32).collect();
        let mut out = Evaluated {
            energy: 0.0,
            energies: vec![0.0; n],
            forces: vec![[0.0; 3]; n],
            virial: [0.0; 6],
            virials: vec![[0.0; 6]; n],
            grades: vec![0.0; n],
            coefficients: vec![Vec::new(); n],
            bias: 0.0,
            bias_forces: vec![[0.0; 3]; n],
        };
        let system = System {
            positions: &self.positions,
            types: &self.types,
            element_of_type: &kinds,
            scales: &self.scales,
            atoms: &atoms,
            neighbours: |k: usize| &lists[k][..],
            mask: i32::MAX,
        };
        let mut output = Output {
            forces: &mut out.forces,
            energies: Some(&mut out.energies),
            virials: Some(&mut out.virials),
            core_shares: None,
            inner_shares: None,
            grades: grades.then_some(&mut out.grades[..]),
            coefficients: grades.then_some(&mut out.coefficients[..]),
            bias_forces: bias_forces.then_some(&mut out.bias_forces[..]),
        };
        let totals = evaluator.evaluate(&system, &mut output)?;
        (out.energy, out.bias, out.virial) = (totals.energy, totals.bias, totals.virial);
        Ok(out)
    }
}

pub fn evaluator(name: &str, isa: Isa) -> Evaluator {
    Evaluator::with_isa(potential(name), isa)
}

pub fn potential(name: &str) -> Arc<Potential> {
    Potential::read(&data(name), None).unwrap()
}
