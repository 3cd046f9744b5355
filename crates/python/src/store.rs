// SPDX-License-Identifier: GPL-2.0-or-later
//! The class `Store`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ndarray::Array2;
use numpy::{PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2, ToPyArray};
use otf_store::{Candidate, Labels, Status, StoredCandidate};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{StoreError, caught};
use crate::frame::{Arrays, structure};

/// The candidate store.
#[pyclass(frozen, module = "lammps_otf._native")]
pub struct Store {
    store: Mutex<otf_store::Store>,
}

fn exception(error: otf_store::StoreError) -> PyErr {
    match error {
        otf_store::StoreError::NoSuchCandidate { id, .. } => PyKeyError::new_err(id),
        otf_store::StoreError::InvalidLabels { .. } => PyValueError::new_err(error.to_string()),
        other => StoreError::new_err(other.to_string()),
    }
}

fn status(name: &str) -> PyResult<Status> {
    name.parse().map_err(|error: otf_store::UnknownStatus| PyValueError::new_err(error.to_string()))
}

impl Store {
    /// Calls `work` without the GIL, because another process can hold the lock of the database.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut otf_store::Store) -> Result<T, otf_store::StoreError> + Send,
    ) -> PyResult<T> {
        caught(|| {
            py.detach(|| {
                let mut store: MutexGuard<'_, otf_store::Store> =
                    self.store.lock().unwrap_or_else(PoisonError::into_inner);
                work(&mut store)
            })
            .map_err(exception)
        })
    }
}

#[pymethods]
impl Store {
    #[new]
    fn new(py: Python<'_>, path: PathBuf, create: bool) -> PyResult<Self> {
        caught(|| {
            let open = || if create { otf_store::Store::open(&path) } else { otf_store::Store::open_existing(&path) };
            py.detach(open).map(|store| Self { store: Mutex::new(store) }).map_err(exception)
        })
    }

    /// Number of candidates of each status.
    fn counts(&self, py: Python<'_>) -> PyResult<BTreeMap<&'static str, i64>> {
        let counts = self.with(py, |store| store.counts())?;
        Ok(counts.into_iter().map(|(status, count)| (status.as_str(), count)).collect())
    }

    /// Ids of the candidates with this status, ascending.
    #[pyo3(signature = (status_name = None))]
    fn ids(&self, py: Python<'_>, status_name: Option<&str>) -> PyResult<Vec<i64>> {
        let wanted = status_name.map(status).transpose()?;
        self.with(py, |store| store.ids(wanted))
    }

    /// A candidate.
    fn get<'py>(&self, py: Python<'py>, id: i64) -> PyResult<Bound<'py, PyDict>> {
        let row = self.with(py, |store| store.get(id))?;
        to_python(py, &row)
    }

    /// Adds a structure.
    fn add(
        &self,
        py: Python<'_>,
        arrays: Arrays<'_>,
        force_mask: PyReadonlyArray1<'_, f64>,
        weights: (f64, f64),
    ) -> PyResult<i64> {
        let mut candidate = caught(|| Ok(Candidate::new(structure(arrays, "")?)))?;
        if force_mask.len()? != candidate.structure.len() {
            return Err(PyValueError::new_err("force_mask must have one value for each atom"));
        }
        candidate.force_mask = force_mask.as_array().to_vec();
        (candidate.keys.energy_weight, candidate.keys.stress_weight) = (Some(weights.0), Some(weights.1));
        let ids = self.with(py, |store| store.add(&[candidate]))?;
        Ok(ids[0])
    }

    /// Claims the oldest pending candidate.
    fn claim<'py>(&self, py: Python<'py>, worker: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        let row = self.with(py, |store| store.claim(worker))?;
        row.map(|row| to_python(py, &row)).transpose()
    }

    /// Renews a claim.
    fn heartbeat(&self, py: Python<'_>, id: i64, worker: &str) -> PyResult<()> {
        self.with(py, |store| store.heartbeat(id, worker))
    }

    /// Stores the labels of a claimed candidate.
    #[allow(clippy::too_many_arguments, reason = "the arguments of the class in Python")]
    fn finish(
        &self,
        py: Python<'_>,
        id: i64,
        worker: &str,
        energy: f64,
        forces: PyReadonlyArray2<'_, f64>,
        stress: Option<[f64; 6]>,
        calculator: Option<String>,
    ) -> PyResult<()> {
        let forces = forces.as_array();
        let forces = Array2::from_shape_fn(forces.dim(), |at| forces[at]);
        let labels = Labels { energy, free_energy: None, forces, stress, calculator };
        self.with(py, |store| store.finish(id, worker, &labels))
    }

    /// Sets a claimed candidate to `FAILED`.
    fn fail(&self, py: Python<'_>, id: i64, worker: &str, log: &str) -> PyResult<()> {
        self.with(py, |store| store.fail(id, worker, log))
    }

    /// Releases a claimed candidate.
    fn release(&self, py: Python<'_>, id: i64, worker: &str) -> PyResult<()> {
        self.with(py, |store| store.release(id, worker))
    }

    /// Releases candidates whose claim was not renewed for `seconds`.
    fn release_stale(&self, py: Python<'_>, seconds: f64) -> PyResult<Vec<i64>> {
        let age = Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.with(py, |store| store.release_stale(age))
    }

    /// Changes a status.
    fn set_status(&self, py: Python<'_>, id: i64, status_name: &str) -> PyResult<()> {
        let to = status(status_name)?;
        self.with(py, |store| store.set_status(id, to))
    }
}

/// Copies a candidate.
fn to_python<'py>(py: Python<'py>, row: &StoredCandidate) -> PyResult<Bound<'py, PyDict>> {
    caught(|| {
        let candidate = &row.candidate;
        let atoms = &candidate.structure;
        let numbers: Vec<i64> = (0..atoms.len()).map(|i| i64::from(atoms.element(i).atomic_number())).collect();
        let numbers: Bound<'py, PyArray1<i64>> = numbers.to_pyarray(py);
        let cell: Bound<'py, PyArray2<f64>> =
            Array2::from_shape_fn((3, 3), |(i, k)| atoms.cell.vectors[i][k]).to_pyarray(py);
        let out = PyDict::new(py);
        out.set_item("id", row.id)?;
        out.set_item("status", row.status.map(Status::as_str))?;
        out.set_item("worker", row.worker.as_deref())?;
        out.set_item("message", row.message.as_deref().or(row.mismatch.as_deref()))?;
        out.set_item("numbers", numbers)?;
        out.set_item("positions", atoms.positions.to_pyarray(py))?;
        out.set_item("cell", cell)?;
        out.set_item("pbc", atoms.cell.pbc)?;
        out.set_item("force_mask", candidate.force_mask.to_pyarray(py))?;
        out.set_item("gamma", candidate.atom_gamma.as_ref().map(|gamma| gamma.to_pyarray(py)))?;
        let keys = PyDict::new(py);
        for (key, value) in candidate.keys.to_pairs() {
            match value {
                otf_store::KeyValue::Bool(value) => keys.set_item(key, value)?,
                otf_store::KeyValue::Int(value) => keys.set_item(key, value)?,
                otf_store::KeyValue::Float(value) => keys.set_item(key, value)?,
                otf_store::KeyValue::Text(value) => keys.set_item(key, value)?,
            }
        }
        out.set_item("keys", keys)?;
        if let Some(labels) = &candidate.labels {
            out.set_item("energy", labels.energy)?;
            out.set_item("forces", labels.forces.to_pyarray(py))?;
            out.set_item("stress", labels.stress.map(|stress| stress.to_pyarray(py)))?;
        }
        Ok(out)
    })
}
