// SPDX-License-Identifier: GPL-2.0-or-later
//! numpy arrays of LAMMPS's memory: the only unsafe code of this crate.
//!
//! Such an array is valid until LAMMPS moves on. Its base is a [`Lease`], which numpy keeps as long as the array or a view of it exists.
//! Each method of a simulation that changes it first checks that no lease exists ([`Leases::check`]), and a lease keeps the simulation alive.
//! So an array cannot exist while LAMMPS changes or frees the memory.
#![allow(unsafe_code)]

use std::sync::Arc;

use lammps_otf::structure::Integers;
use ndarray::{ArrayBase, Data, Dimension};
use numpy::{Element, PyArray, PyArrayMethods};
use pyo3::prelude::*;

use crate::errors::ViewError;

/// Counts the leases of a simulation.
#[derive(Default)]
pub struct Leases(Arc<()>);

/// What numpy keeps with an array of LAMMPS's memory.
#[pyclass(frozen, module = "lammps_otf._lammps")]
struct Lease {
    _count: Arc<()>,
    _simulation: Py<PyAny>,
}

impl Leases {
    /// Checks that no array shows LAMMPS's memory.
    pub fn check(&self) -> PyResult<()> {
        match Arc::strong_count(&self.0) - 1 {
            0 => Ok(()),
            count => Err(ViewError::new_err(format!(
                "{count} arrays of this simulation are in use, and LAMMPS is about to change their memory: delete them, or keep copies"
            ))),
        }
    }

    /// An array of the memory of `view`, which must belong to LAMMPS in the Python object `simulation`, whose leases these are. It is read-only.
    pub fn array<'py, S, D>(
        &self,
        simulation: &Bound<'py, PyAny>,
        view: &ArrayBase<S, D>,
    ) -> PyResult<Bound<'py, PyAny>>
    where
        S: Data,
        S::Elem: Element,
        D: Dimension,
    {
        let py = simulation.py();
        if view.is_empty() {
            // Without memory of LAMMPS.
            return Ok(PyArray::<S::Elem, D>::zeros(py, view.raw_dim(), false).into_any());
        }
        let lease = Lease { _count: Arc::clone(&self.0), _simulation: simulation.clone().unbind() };
        let container = Bound::new(py, lease)?.into_any();
        // SAFETY: the memory lives until the simulation changes or is dropped. The base of the array holds the simulation, and a lease, with
        // which every change is refused. LAMMPS runs on this thread only, and only inside of such changes.
        let array = unsafe { PyArray::borrow_from_array(view, container) };
        array.readwrite().make_nonwriteable();
        Ok(array.into_any())
    }

    /// An array of integers.
    pub fn integers<'py>(&self, simulation: &Bound<'py, PyAny>, view: Integers<'_>) -> PyResult<Bound<'py, PyAny>> {
        match view {
            Integers::I32(view) => self.array(simulation, &view),
            Integers::I64(view) => self.array(simulation, &view),
        }
    }
}
