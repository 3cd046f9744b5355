// SPDX-License-Identifier: GPL-2.0-or-later
//! The class `Evaluator`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use otf_atoms::structure::Structure;
use otf_prediction::{Prediction, PredictionError, Predictor, Projected, select};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::errors::{caught, exception};
use crate::frame::{Arrays, Results, structure, structures, to_python};

/// Frames per thread between two checks for Ctrl-C.
const FRAMES: usize = 64;

/// Evaluates structures with an ACE potential.
#[pyclass(frozen, module = "lammps_otf._native")]
pub struct Evaluator {
    potential: Arc<pace_opt::Potential>,
    /// Evaluates single structures.
    predictor: Mutex<Predictor>,
    /// The threads, if there is more than one.
    pool: Option<Pool>,
}

/// A pool of threads that is made again in a child process, to which `fork` copies no threads.
struct Pool {
    threads: usize,
    /// The process that has made the pool.
    made: Mutex<(u32, Arc<rayon::ThreadPool>)>,
}

impl Pool {
    fn new(threads: usize) -> PyResult<Self> {
        Ok(Self { threads, made: Mutex::new((std::process::id(), Self::make(threads)?)) })
    }

    fn make(threads: usize) -> PyResult<Arc<rayon::ThreadPool>> {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = builder.thread_name(|k| format!("lammps-otf {k}")).build();
        pool.map(Arc::new).map_err(|error| std::io::Error::other(error).into())
    }

    fn get(&self) -> PyResult<Arc<rayon::ThreadPool>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.0 != std::process::id() {
            let old = std::mem::replace(&mut *made, (std::process::id(), Self::make(self.threads)?));
            // Dropped, it would signal threads that do not exist.
            std::mem::forget(old);
        }
        Ok(Arc::clone(&made.1))
    }
}

#[pymethods]
impl Evaluator {
    #[new]
    #[pyo3(signature = (file, active_set = None, *, threads = 1, skin = 0.0))]
    fn new(py: Python<'_>, file: PathBuf, active_set: Option<PathBuf>, threads: usize, skin: f64) -> PyResult<Self> {
        caught(|| {
            if !(1..=1024).contains(&threads) {
                return Err(PyValueError::new_err(format!("threads is {threads}; required is 1 to 1024")));
            }
            if !(0.0..=10.0).contains(&skin) {
                return Err(PyValueError::new_err(format!("skin is {skin} Å; required is 0 to 10")));
            }
            let pool = (threads > 1).then(|| Pool::new(threads)).transpose()?;
            let predictor =
                py.detach(|| Predictor::read(&file, active_set.as_deref())).map_err(|error| exception(error, ""))?;
            let potential = Arc::clone(predictor.potential());
            let predictor = Mutex::new(predictor.with_skin(skin).with_threads(threads));
            Ok(Self { potential, predictor, pool })
        })
    }

    /// Chemical symbols.
    #[getter]
    fn elements(&self) -> Vec<String> {
        self.potential.elements().to_vec()
    }

    /// Largest cutoff, Å.
    #[getter]
    fn cutoff(&self) -> f64 {
        self.potential.cutoff()
    }

    /// Number of basis functions.
    #[getter]
    fn functions(&self) -> usize {
        self.potential.size().functions
    }

    /// Whether there is an active set.
    #[getter]
    fn has_gamma(&self) -> bool {
        self.potential.has_grade()
    }

    /// Evaluates a structure.
    fn evaluate<'py>(&self, py: Python<'py>, frame: Arrays<'py>) -> PyResult<Results<'py>> {
        caught(|| {
            let structure = structure(frame, "")?;
            let pool = self.pool.as_ref().map(Pool::get).transpose()?;
            let found = py.detach(|| {
                let mut guard = self.predictor.lock().unwrap_or_else(PoisonError::into_inner);
                let predictor: &mut Predictor = &mut guard;
                match pool {
                    Some(pool) => pool.install(|| predictor.evaluate(&structure)),
                    None => predictor.evaluate(&structure),
                }
            });
            Ok(to_python(py, &found.map_err(|error| exception(error, ""))?))
        })
    }

    /// Evaluates structures, each on one thread.
    fn evaluate_all<'py>(&self, py: Python<'py>, frames: Vec<Arrays<'py>>) -> PyResult<Vec<Results<'py>>> {
        caught(|| {
            let all = structures(frames)?;
            let found: Vec<Prediction> =
                self.for_all(py, &all, |predictor, _, structure| predictor.evaluate(structure))?;
            Ok(found.iter().map(|found| to_python(py, found)).collect())
        })
    }

    /// Indices of at most `n` structures, selected by MaxVol.
    fn select(&self, py: Python<'_>, frames: Vec<Arrays<'_>>, n: usize) -> PyResult<Vec<i64>> {
        caught(|| {
            let all = structures(frames)?;
            let pool: Vec<Projected> = self.for_all(py, &all, |predictor, index, structure| {
                predictor.rows(index as i64, structure, &vec![1.0; structure.len()])
            })?;
            Ok(py.detach(|| select(pool, &[], n)))
        })
    }
}

impl Evaluator {
    /// Calls `work` for all frames, each on one thread, with their indices. Ends early at Ctrl-C.
    fn for_all<T: Send>(
        &self,
        py: Python<'_>,
        frames: &[Structure],
        work: impl Fn(&mut Predictor, usize, &Structure) -> Result<T, PredictionError> + Sync,
    ) -> PyResult<Vec<T>> {
        let mut results = Vec::with_capacity(frames.len());
        let pool = self.pool.as_ref().map(Pool::get).transpose()?;
        let new = || Predictor::new(Arc::clone(&self.potential));
        let mut serial = new();
        let count = FRAMES * pool.as_ref().map_or(1, |pool| pool.current_num_threads());
        for (k, chunk) in frames.chunks(count).enumerate() {
            let one = |predictor: &mut Predictor, (i, frame): (usize, &Structure)| {
                let index = k * count + i;
                work(predictor, index, frame).map_err(|error| (index, error))
            };
            let found: Vec<Result<T, (usize, PredictionError)>> = py.detach(|| match &pool {
                Some(pool) => pool.install(|| chunk.par_iter().enumerate().map_init(new, one).collect()),
                None => chunk.iter().enumerate().map(|each| one(&mut serial, each)).collect(),
            });
            for result in found {
                results.push(result.map_err(|(index, error)| exception(error, &format!("frame {index}: ")))?);
            }
            py.check_signals()?;
        }
        Ok(results)
    }
}
