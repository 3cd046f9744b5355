// SPDX-License-Identifier: GPL-2.0-or-later
//! The class `Calibration`.

use std::path::{Path, PathBuf};

use lammps_otf::calibration::{self, Pair, Threshold, is_trained_on, min_regions, pairs_of_candidate};
use lammps_otf::candidates::{Status, Store, StoreError as RustStoreError};
use lammps_otf::config::Potential;
use lammps_otf::potential::fingerprint;
use lammps_otf::prediction::{PredictionError, predictor};
use numpy::{PyArray1, ToPyArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::{Error, PotentialError, StoreError, caught};

/// Converts γ to a force error, by labelled candidates of a store.
#[pyclass(frozen, module = "lammps_otf._lammps")]
pub struct Calibration {
    inner: calibration::Calibration,
    pairs: Vec<Pair>,
}

/// What a store gives.
enum Fault {
    Store(RustStoreError),
    Potential(String),
}

/// The pairs of the labelled candidates of a store, without checks; with `held_out` only of those on which the potential was not trained.
fn pairs(store: &Path, potential: &Potential, held_out: bool) -> Result<Vec<Pair>, Fault> {
    let unusable = |error: PredictionError| Fault::Potential(error.to_string());
    let mut predictor = predictor(potential).map_err(unusable)?;
    let hash = fingerprint(potential).map_err(|error| Fault::Potential(error.to_string()))?;
    let store = Store::open_read_only(store).map_err(Fault::Store)?;
    let round = store.potential(&hash).map_err(Fault::Store)?.map(|record| record.round);
    let mut pairs = Vec::new();
    for row in store.iter(None).map_err(Fault::Store)? {
        let row = row.map_err(Fault::Store)?;
        if !row.is_labelled() || row.is_check() || row.status == Some(Status::Rejected) {
            continue;
        }
        if held_out && is_trained_on(&row, &store, round).map_err(Fault::Store)? {
            continue;
        }
        match pairs_of_candidate(row.id, &row.candidate, &mut predictor) {
            Ok(found) => pairs.extend(found),
            Err(error @ PredictionError::NoActiveSet) => return Err(unusable(error)),
            // A structure that the potential cannot evaluate has no γ.
            Err(_) => {}
        }
    }
    Ok(pairs)
}

#[pymethods]
impl Calibration {
    #[new]
    fn new(py: Python<'_>, store: PathBuf, potential: PathBuf, active_set: PathBuf, held_out: bool) -> PyResult<Self> {
        caught(|| {
            let potential = Potential::ace(potential, Some(active_set));
            let pairs = py.detach(|| pairs(&store, &potential, held_out)).map_err(|fault| match fault {
                Fault::Store(error) => StoreError::new_err(error.to_string()),
                Fault::Potential(error) => PotentialError::new_err(error),
            })?;
            if pairs.is_empty() && held_out {
                return Err(Error::new_err(
                    "there are no labels that the potential was not trained on, and its errors on others are too small: audit the \
                     runs (audits_per_ps), or use held_out=False",
                ));
            }
            let inner = calibration::Calibration::fit(&pairs).map_err(|error| Error::new_err(error.to_string()))?;
            Ok(Self { inner, pairs })
        })
    }

    /// Number of regions.
    #[getter]
    fn regions(&self) -> usize {
        self.inner.regions()
    }

    /// γ of each atom.
    #[getter]
    fn gamma<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.pairs.iter().map(|pair| pair.gamma).collect::<Vec<_>>().to_pyarray(py)
    }

    /// Force error of each atom, eV/Å.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.pairs.iter().map(|pair| pair.error).collect::<Vec<_>>().to_pyarray(py)
    }

    /// Force error, eV/Å, that an atom with this γ does not exceed with this coverage.
    fn bound(&self, gamma: f64, coverage: f64) -> PyResult<Option<f64>> {
        check(coverage)?;
        Ok(self.inner.bound(gamma, coverage))
    }

    /// The largest γ at which the bound is at most `force_error` (eV/Å), and whether there is one.
    fn threshold(&self, force_error: f64, coverage: f64) -> PyResult<Option<f64>> {
        check(coverage)?;
        Ok(self.inner.threshold(force_error, coverage).and_then(Threshold::gamma))
    }
}

fn check(coverage: f64) -> PyResult<()> {
    match (0.01..=0.999).contains(&coverage) {
        true => Ok(()),
        false => Err(PyValueError::new_err(format!("coverage is {coverage}; required is a number from 0.01 to 0.999"))),
    }
}

/// Number of regions below which a bound with this coverage does not exist.
#[pyfunction]
pub fn least_regions(coverage: f64) -> PyResult<usize> {
    check(coverage)?;
    Ok(min_regions(coverage))
}
