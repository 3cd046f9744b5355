// SPDX-License-Identifier: GPL-2.0-or-later
//! The class `Simulation`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use lammps_otf::comm::Comm;
use lammps_otf::config::{InferenceConfig, Potential};
use lammps_otf::embedding::EmbeddingExtractor;
use lammps_otf::potential;
use lammps_otf::runner::LammpsRunner;
use lammps_otf::script::GAMMA_FIX;
use lammps_otf::simulation::{self, Event};
use lammps_otf::structure::Structure;
use ndarray::Array2;
use numpy::ToPyArray;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use send_wrapper::SendWrapper;

use crate::errors::{SimulationError, caught, of_run};
use crate::run::abort_if_others_wait;
use crate::views::Leases;
use crate::{config, session};

/// A simulation that pauses at each poll.
#[pyclass(unsendable, module = "lammps_otf._lammps")]
pub struct Simulation {
    /// `None` when it is closed.
    inner: Option<simulation::Simulation>,
    config: InferenceConfig,
    comm: Comm,
    leases: Leases,
}

impl Simulation {
    fn open(&self) -> PyResult<&simulation::Simulation> {
        self.inner.as_ref().ok_or_else(|| self.error("the simulation is closed"))
    }

    fn error(&self, message: &str) -> PyErr {
        SimulationError::new_err((message.to_owned(), self.comm.rank()))
    }

    /// Calls `work` without the GIL. Refused while arrays show LAMMPS's memory.
    fn change<T>(
        &mut self,
        py: Python<'_>,
        work: impl FnOnce(&mut simulation::Simulation) -> Result<T, simulation::Error>,
    ) -> PyResult<T> {
        self.leases.check()?;
        let comm = self.comm.clone();
        let Some(inner) = &mut self.inner else {
            return Err(self.error("the simulation is closed"));
        };
        // Runs on this thread, which the wrapper checks.
        let work = SendWrapper::new(|| catch_unwind(AssertUnwindSafe(|| work(inner))));
        let outcome = py.detach(move || SendWrapper::new(work.take()())).take();
        let outcome = outcome.unwrap_or_else(|panic| {
            abort_if_others_wait("this rank panicked", &comm);
            resume_unwind(panic)
        });
        outcome.map_err(|error| {
            if error.rank_failure().is_some() {
                abort_if_others_wait(&error.to_string(), &comm);
            }
            self.error(&error.to_string())
        })
    }
}

/// A dictionary with the arrays of a structure: `numbers`, `positions` (Å), `cell` (Å) and `pbc`.
pub fn structure<'py>(py: Python<'py>, atoms: &Structure) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    let numbers: Vec<i64> = (0..atoms.len()).map(|i| i64::from(atoms.element(i).atomic_number())).collect();
    out.set_item("numbers", numbers.to_pyarray(py))?;
    out.set_item("positions", atoms.positions.to_pyarray(py))?;
    out.set_item("cell", Array2::from_shape_fn((3, 3), |(i, k)| atoms.cell.vectors[i][k]).to_pyarray(py))?;
    out.set_item("pbc", atoms.cell.pbc)?;
    Ok(out)
}

#[pymethods]
impl Simulation {
    #[new]
    #[pyo3(signature = (file, values, output, comm = None))]
    fn new(py: Python<'_>, file: Option<PathBuf>, values: &str, output: PathBuf, comm: Option<i32>) -> PyResult<Self> {
        caught(|| {
            let comm = session::group(comm)?;
            let config = config::read(file.as_deref(), values, &comm)?;
            let runner = LammpsRunner::new(&comm, output);
            let work = SendWrapper::new(|| runner.simulation(&config));
            let outcome = py.detach(move || SendWrapper::new(work.take()())).take();
            let inner = outcome.map_err(|error| of_run(&error, &comm))?;
            Ok(Self { inner: Some(inner), config, comm, leases: Leases::default() })
        })
    }

    /// Runs to the next poll. The kind of the event, and its values as JSON.
    fn advance(&mut self, py: Python<'_>) -> PyResult<(&'static str, String)> {
        caught(|| {
            let event = self.change(py, simulation::Simulation::advance)?;
            let json = |result: serde_json::Result<String>| result.map_err(|error| self.error(&error.to_string()));
            Ok(match event {
                Event::Polled(poll) => ("polled", json(serde_json::to_string(&poll))?),
                Event::Crashed(crash) => ("crashed", json(serde_json::to_string(&crash))?),
                Event::Finished => ("finished", String::new()),
            })
        })
    }

    /// An array of LAMMPS's memory, with the atoms of this rank.
    fn array<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        caught(|| {
            let this = slf.borrow();
            let (lammps, leases, owner) = (this.open()?.lammps(), &this.leases, slf.as_any());
            match name {
                "positions" => leases.array(owner, &lammps.positions()),
                "velocities" => leases.array(owner, &lammps.velocities()),
                "forces" => leases.array(owner, &lammps.forces()),
                "types" => leases.array(owner, &lammps.types()),
                "ids" => leases.integers(owner, lammps.ids()),
                "gamma" => {
                    let gamma = lammps.fix_vector(GAMMA_FIX).map_err(|error| this.error(&error.to_string()))?;
                    leases.array(owner, &gamma)
                }
                other => Err(PyKeyError::new_err(other.to_owned())),
            }
        })
    }

    /// Chemical symbols of the types.
    #[getter]
    fn elements(&self) -> PyResult<Vec<&'static str>> {
        caught(|| Ok(self.open()?.elements().iter().map(|element| element.symbol()).collect()))
    }

    /// Time step.
    #[getter]
    fn step(&self) -> PyResult<i64> {
        caught(|| Ok(self.open()?.lammps().step()))
    }

    /// Origin, vectors and periodic directions of the cell.
    #[getter]
    #[expect(clippy::type_complexity, reason = "a tuple of Python")]
    fn cell(&self) -> PyResult<([f64; 3], [[f64; 3]; 3], [bool; 3])> {
        caught(|| {
            let cell = self.open()?.lammps().cell();
            Ok((cell.origin, cell.vectors, cell.pbc))
        })
    }

    /// The neighbourhood of an atom, on rank 0.
    fn cut_out<'py>(&self, py: Python<'py>, center_id: i64) -> PyResult<Option<Bound<'py, PyDict>>> {
        caught(|| {
            let simulation = self.open()?;
            let cutoff = potential::cutoff(&self.config.system.potential)?;
            let cutoff = cutoff
                .ok_or_else(|| self.error("the cutoff of the potential is unknown: set `cutoff` in potential"))?;
            let extractor = EmbeddingExtractor::new(&self.config.candidates.embedding, cutoff)
                .map_err(|error| self.error(&error.to_string()))?;
            let found = simulation.cut_out(center_id, &extractor).map_err(|error| self.error(&error.to_string()))?;
            let Some(found) = found else { return Ok(None) };
            let out = structure(py, &found.cluster.structure)?;
            out.set_item("force_mask", found.cluster.force_mask.to_pyarray(py))?;
            out.set_item("source_ids", found.cluster.source_ids.to_pyarray(py))?;
            out.set_item("gamma", found.gamma.map(|gamma| gamma.to_pyarray(py)))?;
            out.set_item("center", found.cluster.center)?;
            Ok(Some(out))
        })
    }

    /// Runs lines of LAMMPS's language.
    fn command(&mut self, py: Python<'_>, text: &str) -> PyResult<()> {
        caught(|| {
            self.change(py, |simulation| {
                let lammps = simulation.lammps_mut();
                text.lines().filter(|line| !line.trim().is_empty()).try_for_each(|line| lammps.command(line))?;
                Ok(())
            })
        })
    }

    /// Replaces the potential.
    #[pyo3(signature = (file, active_set = None))]
    fn swap(&mut self, py: Python<'_>, file: PathBuf, active_set: Option<PathBuf>) -> PyResult<()> {
        caught(|| {
            let new = Potential::ace(file, active_set);
            self.change(py, |simulation| simulation.swap_potential(&new))?;
            self.config.system.potential = new;
            Ok(())
        })
    }

    /// Writes a restart file of LAMMPS.
    fn checkpoint(&mut self, py: Python<'_>, file: PathBuf) -> PyResult<()> {
        caught(|| self.change(py, |simulation| simulation.checkpoint(&file)))
    }

    /// Goes back to the last valid frame.
    fn restore(&mut self, py: Python<'_>) -> PyResult<()> {
        caught(|| self.change(py, simulation::Simulation::restore))
    }

    /// Ends the simulation.
    fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        caught(|| {
            if self.inner.is_some() {
                self.change(py, simulation::Simulation::end_run)?;
                self.inner = None;
            }
            Ok(())
        })
    }
}
