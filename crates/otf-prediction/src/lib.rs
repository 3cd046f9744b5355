// SPDX-License-Identifier: GPL-2.0-or-later
//! Energy, forces, virial and extrapolation grade γ of structures with an ACE potential, and D-optimal selection of structures.
//!
//! The evaluator is `pace-opt`; results agree with those of the LAMMPS pair styles to rounding. The crate depends on neither LAMMPS
//! nor MPI. Units are Å and eV.
#![forbid(unsafe_code)]

mod condition;
mod selection;

use std::path::Path;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2};
use otf_atoms::structure::{NeighbourError, Structure};

pub use condition::condition_number;
pub use selection::{Projected, select};

/// Why a structure cannot be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictionError {
    /// The potential is given by LAMMPS commands.
    #[error("the potential is not an ACE potential that this program can evaluate: set `file` in [potential]")]
    NotAce,
    /// The potential has no active set.
    #[error("the potential has no active set (.asi), so γ cannot be computed: make it with `pace_activeset`")]
    NoActiveSet,
    /// The files of the potential cannot be used, or atoms overlap.
    #[error(transparent)]
    Evaluator(#[from] pace_opt::Error),
    /// The potential does not contain an element.
    #[error("the potential does not contain the element {0}")]
    Element(&'static str),
    /// The structure is invalid.
    #[error(transparent)]
    Structure(#[from] NeighbourError),
}

/// Evaluates structures with an ACE potential. Has buffers of its own; use one per thread.
pub struct Predictor {
    evaluator: pace_opt::Evaluator,
}

/// Energy, forces and γ of a structure, in the order of its atoms.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Total energy, eV.
    pub energy: f64,
    /// Energy of each atom, eV; length n.
    pub energies: Vec<f64>,
    /// Forces, eV/Å; shape (n, 3).
    pub forces: Array2<f64>,
    /// Virial Σ r·f, eV: xx, yy, zz, xy, xz, yz. Divided by the volume it is the pressure of the potential; ASE's stress is its
    /// negative.
    pub virial: [f64; 6],
    /// Extrapolation grade γ of each atom; `None` if the potential has no active set. Length n.
    pub gamma: Option<Vec<f64>>,
    /// Fraction of the many-body energy of each atom that the core repulsion has switched off, 0 to 1; length n. It is 0 for
    /// potentials whose inner cutoff removes single neighbours instead (`inner_cutoff_type: distance`).
    pub core_share: Vec<f64>,
}

impl Predictor {
    /// Reads a potential (`.yaml`, `.yace`, `.ace`), and its active set if a file is given.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read(file: &Path, active_set: Option<&Path>) -> Result<Self, PredictionError> {
        Ok(Self::new(pace_opt::Potential::read(file, active_set)?))
    }

    /// Evaluates with a potential in memory, which several predictors can share.
    #[must_use]
    pub fn new(potential: Arc<pace_opt::Potential>) -> Self {
        Self { evaluator: pace_opt::Evaluator::new(potential) }
    }

    /// The potential.
    #[must_use]
    pub fn potential(&self) -> &Arc<pace_opt::Potential> {
        self.evaluator.potential()
    }

    /// Evaluates all atoms of a structure.
    ///
    /// # Errors
    /// If the structure is invalid, contains an element that the potential lacks, or has overlapping atoms.
    pub fn evaluate(&mut self, structure: &Structure) -> Result<Prediction, PredictionError> {
        let all: Vec<i32> = (0..structure.len() as i32).collect();
        let found = evaluate(&mut self.evaluator, structure, &all, false)?;
        Ok(Prediction {
            energy: found.energy,
            energies: found.energies,
            forces: Array2::from_shape_fn((structure.len(), 3), |(i, k)| found.forces[i][k]),
            virial: found.virial,
            gamma: found.gamma,
            core_share: found.core_share,
        })
    }

    /// The rows of the atoms of a structure whose `mask` is above 0, for [`select`]. `mask` has one value for each atom.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate), and if the potential has no active set.
    ///
    /// # Panics
    /// If `mask` has fewer values than the structure has atoms.
    pub fn rows(&mut self, id: i64, structure: &Structure, mask: &[f64]) -> Result<Projected, PredictionError> {
        if !self.potential().has_grade() {
            return Err(PredictionError::NoActiveSet);
        }
        let core: Vec<i32> = (0..structure.len()).filter(|&i| mask[i] > 0.0).map(|i| i as i32).collect();
        let mut found = evaluate(&mut self.evaluator, structure, &core, true)?;
        let row = |&i: &i32| (found.elements[i as usize], std::mem::take(&mut found.coefficients[i as usize]));
        Ok(Projected { id, rows: core.iter().map(row).collect() })
    }
}

impl Prediction {
    /// The norm of the difference between label and prediction of the force on each atom, eV/Å; length n. `labels` are forces in
    /// eV/Å, shape (n, 3).
    ///
    /// # Panics
    /// If `labels` has another number of atoms.
    #[must_use]
    pub fn force_errors(&self, labels: ArrayView2<f64>) -> Vec<f64> {
        let difference = &labels - &self.forces;
        difference.rows().into_iter().map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt()).collect()
    }
}

/// Results of [`evaluate`].
struct Evaluated {
    /// Energy of the evaluated atoms, eV.
    energy: f64,
    /// Energy of each atom, eV; 0 for atoms that are not evaluated.
    energies: Vec<f64>,
    /// Virial of the energy of the evaluated atoms, eV.
    virial: [f64; 6],
    /// Forces of the energy of the evaluated atoms on all atoms, eV/Å.
    forces: Vec<[f64; 3]>,
    /// γ of each atom, if there is an active set; 0 for atoms that are not evaluated.
    gamma: Option<Vec<f64>>,
    /// Core share of each atom; 0 for atoms that are not evaluated.
    core_share: Vec<f64>,
    /// Projections of each atom as a combination of the rows of the active set, if requested; empty for atoms that are not
    /// evaluated.
    coefficients: Vec<Vec<f64>>,
    /// Index of the element of each atom in the potential.
    elements: Vec<usize>,
}

/// Evaluates the atoms with these indices. `coefficients` requires an active set.
///
/// # Errors
/// As [`Predictor::evaluate`].
fn evaluate(
    evaluator: &mut pace_opt::Evaluator,
    structure: &Structure,
    atoms: &[i32],
    coefficients: bool,
) -> Result<Evaluated, PredictionError> {
    let potential = Arc::clone(evaluator.potential());
    let neighbours = structure.neighbours(potential.cutoff(), atoms)?;
    let index = |element: &str| potential.elements().iter().position(|known| known == element);
    let of_type: Vec<Option<usize>> = structure.elements.iter().map(|e| index(e.symbol())).collect();
    let element = |i: usize| of_type[structure.types[i] as usize - 1].ok_or(structure.element(i).symbol());
    let elements: Vec<usize> =
        (0..structure.len()).map(element).collect::<Result<_, _>>().map_err(PredictionError::Element)?;
    let types: Vec<i32> = neighbours.owners.iter().map(|&owner| elements[owner as usize] as i32).collect();
    // The types are indices of elements.
    let element_of_type: Vec<i32> = (0..potential.elements().len() as i32).collect();
    let all = neighbours.positions.len();
    let mut forces = vec![[0.0; 3]; all];
    let (mut energies, mut core_share) = (vec![0.0; all], vec![0.0; all]);
    let mut gamma = potential.has_grade().then(|| vec![0.0; all]);
    let mut rows = vec![Vec::new(); if coefficients { all } else { 0 }];
    let system = pace_opt::System {
        positions: &neighbours.positions,
        types: &types,
        element_of_type: &element_of_type,
        scales: &[],
        atoms,
        neighbours: |k: usize| neighbours.of(k),
        mask: i32::MAX,
    };
    let mut output = pace_opt::Output {
        forces: &mut forces,
        energies: Some(&mut energies),
        core_shares: Some(&mut core_share),
        grades: gamma.as_deref_mut(),
        coefficients: coefficients.then_some(&mut rows[..]),
        ..pace_opt::Output::default()
    };
    let totals = evaluator.evaluate(&system, &mut output)?;
    let n = structure.len();
    // An image moves with its atom.
    let (own, images) = forces.split_at_mut(n);
    for (force, &owner) in images.iter().zip(&neighbours.owners[n..]) {
        (0..3).for_each(|k| own[owner as usize][k] += force[k]);
    }
    forces.truncate(n);
    energies.truncate(n);
    core_share.truncate(n);
    rows.truncate(n);
    if let Some(gamma) = &mut gamma {
        gamma.truncate(n);
    }
    let pace_opt::Totals { energy, virial, .. } = totals;
    Ok(Evaluated { energy, energies, virial, forces, gamma, core_share, coefficients: rows, elements })
}
