// SPDX-License-Identifier: GPL-2.0-or-later
//! The function `learn`: the loop of `lammps_otf::active_learning` with functions of Python as oracle and trainer.
//!
//! Both are called on rank 0, with the GIL, while the other ranks sleep. After an exception in one of them, the loop is interrupted as by a
//! signal: what it was doing is repeated when the loop is continued.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lammps_otf::active_learning::{
    ActiveLearning, Oracle, OracleError, Trainer, TrainerError, TrainingJob, TrainingReport,
};
use lammps_otf::candidates::{KeyValue, Labels, StoredCandidate};
use lammps_otf::comm::{CollectiveError as _, Comm};
use ndarray::Array2;
use numpy::{PyReadonlyArray2, ToPyArray};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use send_wrapper::SendWrapper;

use crate::errors::{LabelError, SimulationError, caught, of_loop};
use crate::run::abort_if_others_wait;
use crate::simulation::structure;
use crate::{config, session};

/// Stops a loop from another thread.
#[pyclass(frozen, module = "lammps_otf._lammps")]
#[derive(Default)]
pub struct Stop(Arc<AtomicBool>);

#[pymethods]
impl Stop {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Stops the loop soon. It can be continued.
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The first exception of a function of Python. It stops the loop.
struct Raised {
    error: RefCell<Option<PyErr>>,
    stop: Arc<AtomicBool>,
}

impl Raised {
    fn keep(&self, error: PyErr) {
        self.error.borrow_mut().get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Handles signals, and calls a function, if there is one.
    fn notify(&self, function: Option<&Py<PyAny>>, call: impl FnOnce(Python<'_>, &Py<PyAny>) -> PyResult<Py<PyAny>>) {
        let outcome = Python::attach(|py| {
            py.check_signals()?;
            function.map_or(Ok(()), |function| call(py, function).map(drop))
        });
        outcome.unwrap_or_else(|error| self.keep(error));
    }
}

/// Energy (eV), forces (eV/Å; n, 3), stress (eV/Å³; xx, yy, zz, yz, xz, xy), and the name of the calculator.
type FoundLabels<'py> = (f64, PyReadonlyArray2<'py, f64>, Option<[f64; 6]>, Option<String>);

/// A function of Python that gets a dictionary with a candidate.
struct PythonOracle<'r> {
    function: Py<PyAny>,
    raised: &'r Raised,
}

impl Oracle for PythonOracle<'_> {
    fn label(&mut self, row: &StoredCandidate, folder: &Path) -> Result<Labels, OracleError> {
        let labels = Python::attach(|py| {
            py.check_signals()?;
            let found = self.function.call1(py, (candidate(py, row)?, folder))?;
            let (energy, forces, stress, calculator): FoundLabels<'_> = found.extract(py)?;
            let forces = forces.as_array();
            let forces = Array2::from_shape_fn(forces.dim(), |at| forces[at]);
            Ok(Labels { energy, free_energy: None, forces, stress, calculator })
        });
        labels.map_err(|error: PyErr| {
            Python::attach(|py| {
                if error.is_instance_of::<LabelError>(py) {
                    let message = error.value(py).to_string();
                    return OracleError::Failed { message, log: traceback(py, &error) };
                }
                self.raised.keep(error);
                OracleError::Interrupted
            })
        })
    }
}

/// The traceback of an exception as text.
fn traceback(py: Python<'_>, error: &PyErr) -> String {
    let format =
        || py.import("traceback")?.call_method1("format_exception", (error.value(py),))?.extract::<Vec<String>>();
    format().map(|lines| lines.concat()).unwrap_or_default()
}

/// A dictionary with a candidate.
fn candidate<'py>(py: Python<'py>, row: &StoredCandidate) -> PyResult<Bound<'py, PyDict>> {
    let out = structure(py, &row.candidate.structure)?;
    out.set_item("id", row.id)?;
    out.set_item("force_mask", row.candidate.force_mask.to_pyarray(py))?;
    let keys = PyDict::new(py);
    for (key, value) in row.candidate.keys.to_pairs() {
        match value {
            KeyValue::Bool(value) => keys.set_item(key, value)?,
            KeyValue::Int(value) => keys.set_item(key, value)?,
            KeyValue::Float(value) => keys.set_item(key, value)?,
            KeyValue::Text(value) => keys.set_item(key, value)?,
        }
    }
    out.set_item("keys", keys)?;
    Ok(out)
}

/// A function of Python that gets a dictionary with a [`TrainingJob`], writes the potential, and returns its report as JSON.
struct PythonTrainer<'r> {
    function: Py<PyAny>,
    raised: &'r Raised,
}

impl Trainer for PythonTrainer<'_> {
    fn train(&mut self, job: &TrainingJob<'_>) -> Result<TrainingReport, TrainerError> {
        let report = Python::attach(|py| {
            py.check_signals()?;
            let arguments = PyDict::new(py);
            let (file, active_set) = job.parent.pace_files().unzip();
            arguments.set_item("labelled_file", job.labelled)?;
            arguments.set_item("potential", file)?;
            arguments.set_item("active_set", active_set)?;
            arguments.set_item("output", job.output)?;
            arguments.set_item("round", job.round)?;
            arguments.set_item("log", job.log)?;
            self.function.call1(py, (arguments,))?.extract::<String>(py)
        });
        let failed = |error: serde_json::Error| TrainerError::Failed {
            message: format!("its report: {error}"),
            log: job.log.to_owned(),
        };
        let report: TrainingReport = match report {
            Ok(text) => serde_json::from_str(&text).map_err(failed)?,
            Err(error) => {
                self.raised.keep(error);
                return Err(TrainerError::Interrupted);
            }
        };
        match report.accepted {
            true => Ok(report),
            false => Err(TrainerError::Refused(report.reason.unwrap_or_else(|| "its report states no reason".into()))),
        }
    }
}

/// Runs a loop, as the command `lammps-otf loop`. Returns the result as JSON.
///
/// `oracle` and `trainer` replace those of the configuration. `on_round` is called on rank 0 with a round as JSON, `on_poll` on each rank with the
/// number of the round, the name of the run and the poll as JSON. `replicas` is the number of teams of ranks that do the runs of a round side by
/// side. An exception in any of them, and Ctrl-C, end the loop on all ranks. The
/// exception is raised; on the other ranks `SimulationError` with its text.
///
/// # MPI
/// Collective over the communicator `comm`, a Fortran handle; without it over the job.
#[pyfunction]
#[pyo3(signature = (file, values, output, stop, *, oracle = None, trainer = None, on_round = None, on_poll = None, replicas = 1, comm = None))]
#[expect(clippy::too_many_arguments, reason = "those of the class in Python")]
pub fn learn(
    py: Python<'_>,
    file: Option<PathBuf>,
    values: &str,
    output: PathBuf,
    stop: &Stop,
    oracle: Option<Py<PyAny>>,
    trainer: Option<Py<PyAny>>,
    on_round: Option<Py<PyAny>>,
    on_poll: Option<Py<PyAny>>,
    replicas: usize,
    comm: Option<i32>,
) -> PyResult<String> {
    caught(|| {
        let comm = session::group(comm)?;
        let config = config::read(file.as_deref(), values, &comm)?;
        let raised = Raised { error: RefCell::new(None), stop: Arc::clone(&stop.0) };
        let mut learning = ActiveLearning::new(&comm, output)
            .replicas(replicas)
            .interrupt_by(Arc::clone(&stop.0))
            .observe(|round| {
                let json = serde_json::to_string(round).expect("numbers and names");
                raised.notify(on_round.as_ref(), |py, function| function.call1(py, (json,)));
            })
            .observe_polls(|round, run, poll| {
                let json = || serde_json::to_string(poll).expect("numbers and names");
                raised.notify(on_poll.as_ref(), |py, function| function.call1(py, (round, run, json())));
            });
        if let Some(function) = oracle {
            learning = learning.oracle(PythonOracle { function, raised: &raised });
        }
        if let Some(function) = trainer {
            learning = learning.trainer(PythonTrainer { function, raised: &raised });
        }
        // The closure runs on this thread, which the wrapper checks.
        let work = SendWrapper::new(|| catch_unwind(AssertUnwindSafe(|| learning.run(&config))));
        let outcome = py.detach(move || SendWrapper::new(work.take()())).take();
        let outcome = outcome.unwrap_or_else(|panic| {
            abort_if_others_wait("this rank panicked", &comm);
            resume_unwind(panic)
        });
        if let Err(error) = &outcome
            && error.is_rank_failure()
        {
            abort_if_others_wait(&error.to_string(), &comm);
        }
        // A signal that has stopped the loop outside of a function.
        py.check_signals().unwrap_or_else(|error| raised.keep(error));
        agree(raised.error.take(), &comm)?;
        let result = outcome.map_err(|error| of_loop(&error, &comm))?;
        let text = serde_json::to_vec(&result).expect("numbers and names");
        // Rank 0 has the rounds.
        Ok(String::from_utf8_lossy(&comm.broadcast(0, text)).into_owned())
    })
}

/// Raises an exception on all ranks if there is one on any: its own, or `SimulationError` with the text of that of the lowest rank.
///
/// # MPI
/// Collective.
fn agree(own: Option<PyErr>, comm: &Comm) -> PyResult<()> {
    let first = comm.min_i64(if own.is_some() { comm.rank() as i64 } else { i64::MAX });
    if first == i64::MAX {
        return Ok(());
    }
    let text = own.as_ref().map(ToString::to_string).unwrap_or_default();
    let text = comm.broadcast(first as usize, text.into_bytes());
    Err(own.unwrap_or_else(|| {
        SimulationError::new_err((format!("rank {first} failed: {}", String::from_utf8_lossy(&text)), first as usize))
    }))
}
