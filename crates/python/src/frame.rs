// SPDX-License-Identifier: GPL-2.0-or-later
//! Structures from arrays, and results to arrays.

use ndarray::{Array1, Array2};
use numpy::{PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2, ToPyArray};
use otf_atoms::structure::{Cell, Element, Structure};
use otf_prediction::Prediction;
use pyo3::prelude::*;

use crate::errors::StructureError;

/// Positions (n, 3) in Å, cell vectors (3, 3) in Å, periodic directions, atomic numbers (n).
pub type Arrays<'py> = (PyReadonlyArray2<'py, f64>, PyReadonlyArray2<'py, f64>, [bool; 3], PyReadonlyArray1<'py, i64>);

/// Energy, energies (n), forces (n, 3), virial (6), γ (n) or `None`, core shares (n).
pub type Results<'py> = (
    f64,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray1<f64>>,
    Option<Bound<'py, PyArray1<f64>>>,
    Bound<'py, PyArray1<f64>>,
);

/// The structure that Python has given. `place` is put before a message, for example `frame 3: `.
pub fn structure(arrays: Arrays<'_>, place: &str) -> PyResult<Structure> {
    let (positions, cell, pbc, numbers) = arrays;
    let (positions, cell, numbers) = (positions.as_array(), cell.as_array(), numbers.as_array());
    let n = positions.nrows();
    if positions.ncols() != 3 || cell.dim() != (3, 3) || numbers.len() != n {
        let shapes = (positions.dim(), cell.dim(), numbers.len());
        return Err(StructureError::new_err(format!(
            "{place}positions, cell and numbers have the shapes {shapes:?}; required are (n, 3), (3, 3) and n"
        )));
    }
    let mut elements: Vec<Element> = Vec::new();
    let mut types = Array1::zeros(n);
    // The type of an atomic number.
    let mut known: Vec<(i64, i32)> = Vec::new();
    for (ty, &number) in types.iter_mut().zip(numbers) {
        *ty = match known.iter().find(|(z, _)| *z == number) {
            Some(&(_, ty)) => ty,
            None => {
                let element = Element::iter().find(|e| i64::from(e.atomic_number()) == number);
                elements.push(element.ok_or_else(|| {
                    StructureError::new_err(format!("{place}{number} is not the atomic number of an element"))
                })?);
                known.push((number, elements.len() as i32));
                elements.len() as i32
            }
        };
    }
    Ok(Structure {
        cell: Cell { origin: [0.0; 3], vectors: std::array::from_fn(|i| std::array::from_fn(|k| cell[[i, k]])), pbc },
        elements,
        masses: None,
        types,
        ids: (1..=n as i64).collect(),
        fixed: Vec::new(),
        // numpy's strides of an empty array are not those that `to_owned` expects.
        positions: Array2::from_shape_fn((n, 3), |(i, k)| positions[[i, k]]),
        velocities: None,
    })
}

/// The structures that Python has given.
pub fn structures(frames: Vec<Arrays<'_>>) -> PyResult<Vec<Structure>> {
    frames.into_iter().enumerate().map(|(k, arrays)| structure(arrays, &format!("frame {k}: "))).collect()
}

/// Copies results to arrays of Python.
pub fn to_python<'py>(py: Python<'py>, found: &Prediction) -> Results<'py> {
    (
        found.energy,
        found.energies.to_pyarray(py),
        found.forces.to_pyarray(py),
        found.virial.to_pyarray(py),
        found.gamma.as_ref().map(|gamma| gamma.to_pyarray(py)),
        found.core_share.to_pyarray(py),
    )
}
