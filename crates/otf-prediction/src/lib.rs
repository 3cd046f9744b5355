// SPDX-License-Identifier: GPL-2.0-or-later
//! Energy, forces, virial and extrapolation grade γ of structures with an ACE potential, and D-optimal selection of structures.
//!
//! The evaluator is `pace-opt`; results agree with those of the LAMMPS pair styles to rounding. The crate depends on neither LAMMPS
//! nor MPI. Units are Å and eV.
#![forbid(unsafe_code)]

mod condition;
mod neighbours;
mod selection;

use std::path::Path;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2};
use otf_atoms::structure::{NeighbourError, Neighbours, Structure};
use rayon::prelude::*;

pub use condition::condition_number;
use neighbours::NeighbourCache;
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
    /// One for each thread of an evaluation.
    evaluators: Vec<pace_opt::Evaluator>,
    lists: NeighbourCache,
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
        Self { evaluators: vec![pace_opt::Evaluator::new(potential)], lists: NeighbourCache::default() }
    }

    /// Evaluates each structure with this number of threads (at least 1), the threads of the `rayon` pool in which
    /// [`evaluate`](Self::evaluate) is called. The order of summation, and so rounding, depends on the number.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        let potential = self.potential().clone();
        self.evaluators.resize_with(threads.max(1), || pace_opt::Evaluator::new(Arc::clone(&potential)));
        self
    }

    /// Keeps the neighbour lists between evaluations, with atoms up to `skin` (Å) beyond the cutoff, until an atom has moved by half of
    /// it. A structure with another cell, other elements or another number of atoms gets new lists. Results then depend by rounding on the
    /// evaluations before. With 0, the default, each evaluation makes its lists.
    #[must_use]
    pub fn with_skin(mut self, skin: f64) -> Self {
        self.lists = NeighbourCache::new(skin);
        self
    }

    /// The potential.
    #[must_use]
    pub fn potential(&self) -> &Arc<pace_opt::Potential> {
        self.evaluators[0].potential()
    }

    /// Evaluates all atoms of a structure.
    ///
    /// # Errors
    /// If the structure is invalid, contains an element that the potential lacks, or has overlapping atoms.
    pub fn evaluate(&mut self, structure: &Structure) -> Result<Prediction, PredictionError> {
        let all: Vec<i32> = (0..structure.len() as i32).collect();
        let found = evaluate(&mut self.evaluators, &mut self.lists, structure, &all, false)?;
        Ok(Prediction {
            energy: found.energy,
            energies: found.energies,
            forces: Array2::from(found.forces),
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
        let mut found = evaluate(&mut self.evaluators[..1], &mut NeighbourCache::default(), structure, &core, true)?;
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

impl Evaluated {
    /// Adds the results of other atoms of the same structure.
    fn add(mut self, other: Self) -> Self {
        let sum = |a: &mut [f64], b: &[f64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        self.energy += other.energy;
        sum(&mut self.virial, &other.virial);
        sum(&mut self.energies, &other.energies);
        sum(self.forces.as_flattened_mut(), other.forces.as_flattened());
        sum(&mut self.core_share, &other.core_share);
        if let (Some(a), Some(b)) = (&mut self.gamma, &other.gamma) {
            sum(a, b);
        }
        for (own, others) in self.coefficients.iter_mut().zip(other.coefficients) {
            own.extend(others);
        }
        self
    }
}

/// Evaluates the atoms with these indices. Each evaluator takes a part of them, on a thread of its own. `coefficients` requires an active
/// set.
///
/// # Errors
/// As [`Predictor::evaluate`].
fn evaluate(
    evaluators: &mut [pace_opt::Evaluator],
    lists: &mut NeighbourCache,
    structure: &Structure,
    atoms: &[i32],
    coefficients: bool,
) -> Result<Evaluated, PredictionError> {
    let potential = Arc::clone(evaluators[0].potential());
    let neighbours = lists.update(structure, potential.cutoff(), atoms)?;
    let index = |element: &str| potential.elements().iter().position(|known| known == element);
    let of_type: Vec<Option<usize>> = structure.elements.iter().map(|e| index(e.symbol())).collect();
    let element = |i: usize| of_type[structure.types[i] as usize - 1].ok_or(structure.element(i).symbol());
    let n = structure.len();
    let elements: Vec<usize> = (0..n).map(element).collect::<Result<_, _>>().map_err(PredictionError::Element)?;
    let types: Vec<i32> = neighbours.owners.iter().map(|&owner| elements[owner as usize] as i32).collect();
    // The types are indices of elements.
    let element_of_type: Vec<i32> = (0..potential.elements().len() as i32).collect();
    let share = atoms.len().div_ceil(evaluators.len()).max(1);
    let parts: Vec<(usize, &mut pace_opt::Evaluator)> = (0..).step_by(share).zip(evaluators).collect();
    let evaluate = |(first, evaluator): (usize, &mut pace_opt::Evaluator)| {
        let system = pace_opt::System {
            positions: &neighbours.positions,
            types: &types,
            element_of_type: &element_of_type,
            scales: &[],
            atoms: &atoms[first.min(atoms.len())..(first + share).min(atoms.len())],
            neighbours: |k: usize| neighbours.of(first + k),
            mask: i32::MAX,
        };
        let all = neighbours.positions.len();
        let mut part = Evaluated {
            energy: 0.0,
            energies: vec![0.0; all],
            virial: [0.0; 6],
            forces: vec![[0.0; 3]; all],
            gamma: potential.has_grade().then(|| vec![0.0; all]),
            core_share: vec![0.0; all],
            coefficients: vec![Vec::new(); if coefficients { all } else { 0 }],
            elements: Vec::new(),
        };
        let mut output = pace_opt::Output {
            forces: &mut part.forces,
            energies: Some(&mut part.energies),
            core_shares: Some(&mut part.core_share),
            grades: part.gamma.as_deref_mut(),
            coefficients: coefficients.then_some(&mut part.coefficients[..]),
            ..pace_opt::Output::default()
        };
        let totals = evaluator.evaluate(&system, &mut output).map_err(|error| of_owners(error, neighbours))?;
        (part.energy, part.virial) = (totals.energy, totals.virial);
        // An image moves with its atom.
        let (own, images) = part.forces.split_at_mut(n);
        for (force, &owner) in images.iter().zip(&neighbours.owners[n..]) {
            (0..3).for_each(|k| own[owner as usize][k] += force[k]);
        }
        part.forces.truncate(n);
        part.energies.truncate(n);
        part.core_share.truncate(n);
        part.coefficients.truncate(n);
        part.gamma.iter_mut().for_each(|gamma| gamma.truncate(n));
        Ok::<_, PredictionError>(part)
    };
    let parts: Vec<Evaluated> = match parts.len() {
        1 => parts.into_iter().map(evaluate).collect::<Result<_, _>>()?,
        _ => parts.into_par_iter().map(evaluate).collect::<Result<_, _>>()?,
    };
    let sum = parts.into_iter().reduce(Evaluated::add).expect("at least one evaluator");
    Ok(Evaluated { elements, ..sum })
}

/// The same error with atoms of the structure in place of their images.
fn of_owners(error: pace_opt::Error, neighbours: &Neighbours) -> pace_opt::Error {
    let owner = |i: usize| neighbours.owners[i] as usize;
    match error {
        pace_opt::Error::Overlap { i, j, r } => pace_opt::Error::Overlap { i: owner(i), j: owner(j), r },
        pace_opt::Error::NotFinite { i, j } => pace_opt::Error::NotFinite { i: owner(i), j: owner(j) },
        other => other,
    }
}
