// SPDX-License-Identifier: GPL-2.0-or-later
//! Oracles, which label candidates.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

use ndarray::{Array2, Axis};

use super::program::{Program, ProgramError, tail};
use super::queue::LabelQueue;
use crate::candidates::export::{self, Format};
use crate::candidates::{Labels, StoredCandidate, recover_order};
use crate::config::{InferenceConfig, LoopConfig, OracleConfig};
use crate::io::extxyz::{self, Results};
use crate::script::Script;
use crate::structure::{Element, Structure, element_from_symbol};
use crate::verify::{evaluate, load};

/// Computes energy and forces of a candidate.
pub trait Oracle {
    /// The labels of a candidate: energy in eV, forces in eV/Å, in the order of its atoms.
    ///
    /// `folder` is for files of the oracle, such as logs. Files of an earlier attempt in it may be replaced.
    ///
    /// # Errors
    /// [`OracleError`]. The candidate gets the status `FAILED`, and the loop continues with the others.
    ///
    /// # MPI
    /// Called on rank 0 only, while the other ranks sleep.
    fn label(&mut self, candidate: &StoredCandidate, folder: &Path) -> Result<Labels, OracleError>;

    /// Labels the candidates of `queue`. The default labels one after another; override it to label several at once. The labels
    /// that are stored must not depend on the order in which they are finished.
    ///
    /// # MPI
    /// As [`Oracle::label`].
    fn label_all(&mut self, queue: &mut LabelQueue<'_>, folder: &Path) {
        while let Some(candidate) = queue.claim() {
            let labels = self.label(&candidate, folder);
            queue.finish(candidate.id, labels);
        }
    }

    /// The same oracle for a thread that labels while simulations run (`overlap` in `[loop]`); it must end soon after `stop` is set.
    /// `None`, the default, if it cannot: the candidates are then labelled after the runs.
    fn concurrent(&self, stop: &Arc<AtomicBool>) -> Option<Box<dyn Oracle + Send>> {
        let _ = stop;
        None
    }
}

/// Why a candidate has no label.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// This candidate cannot be labelled.
    #[error("{message}")]
    Failed {
        /// The reason, in one line.
        message: String,
        /// The output of the program.
        log: String,
    },
    /// This process was interrupted. The candidate is pending again.
    #[error("interrupted")]
    Interrupted,
}

impl OracleError {
    fn new(message: impl std::fmt::Display) -> Self {
        Self::Failed { message: message.to_string(), log: String::new() }
    }
}

/// The oracle of a configuration, for candidates of a run with this set-up and these elements of its atom types.
#[must_use]
pub(super) fn from_config(
    oracle: &OracleConfig,
    config: &LoopConfig,
    script: &Script,
    elements: &[Element],
    interrupt: &Arc<AtomicBool>,
) -> Box<dyn Oracle> {
    match oracle {
        OracleConfig::Command { command, timeout, retries, parallel, batch } => Box::new(CommandOracle {
            program: Program {
                command: command.clone(),
                folder: config.folder.clone(),
                timeout: timeout.map(duration),
                interrupt: Arc::clone(interrupt),
            },
            retries: *retries,
            parallel: *parallel,
            batch: *batch,
        }),
        OracleConfig::External { wait, claim_timeout } => {
            Box::new(ExternalOracle { wait: wait.map(duration), claim_timeout: claim_timeout.map(duration) })
        }
        OracleConfig::Lammps { pair_style, pair_coeff } => {
            Box::new(LammpsOracle { script: script.without_gamma(pair_style, pair_coeff), elements: elements.to_vec() })
        }
    }
}

/// Seconds of the configuration. A time that is too long for [`Duration`] is unlimited in practice.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// A program that labels one structure, or several.
///
/// The program is started without a shell, in the folder of the configuration. In its arguments, `{input}` is replaced by the
/// path of an extended XYZ file with the cut-out (`force_mask:R:1`, `source_id:I:1`, and its id in the store as `candidate=`),
/// and `{output}` by the path of the file that the program must write. This file has the same atoms in any order in the same
/// cell (`Lattice=`, `pbc=`), the total energy as `energy=` (eV) in the comment line, and `forces:R:3` (eV/Å) for each atom, as
/// written by ASE. `stress=` (eV/Å³, nine numbers or six in Voigt order) is optional. The exit code must be 0. The output of the
/// program is written to a log file.
///
/// With `parallel = N`, up to N programs run at the same time, each with files and a log of its own.
///
/// With `batch = true`, the input has one frame for each selected candidate, and the output one frame for each as well, in the
/// same order or with the key `candidate=` of the input. If a frame is missing or invalid, only its candidate has no label.
/// `timeout` is then the time of a whole batch, and `retries` repeats the program with the candidates that have no label.
#[derive(Debug)]
pub struct CommandOracle {
    program: Program,
    retries: u32,
    /// Number of programs that run at the same time.
    parallel: usize,
    /// Whether a program labels several candidates.
    batch: bool,
}

/// The labels of some candidates, by row id.
type Finished = Vec<(i64, Result<Labels, OracleError>)>;

impl Oracle for CommandOracle {
    fn label(&mut self, candidate: &StoredCandidate, folder: &Path) -> Result<Labels, OracleError> {
        let finished = self.run_job(vec![candidate.clone()], folder).pop();
        finished.map_or_else(|| Err(OracleError::new("there is no candidate")), |(_, labels)| labels)
    }

    fn label_all(&mut self, queue: &mut LabelQueue<'_>, folder: &Path) {
        let oracle = &*self;
        let mut batches = oracle.batches(queue).into_iter();
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            let mut running = 0;
            loop {
                while running < oracle.parallel {
                    let job = if oracle.batch { batches.next() } else { queue.claim().map(|one| vec![one]) };
                    let Some(job) = job else { break };
                    let sender = sender.clone();
                    scope.spawn(move || sender.send(oracle.run_job_or_fail(job, folder)));
                    running += 1;
                }
                if running == 0 {
                    return;
                }
                // Only this thread uses the store.
                let finished = receiver.recv().expect("this thread has a sender");
                running -= 1;
                finished.into_iter().for_each(|(id, labels)| queue.finish(id, labels));
            }
        });
    }

    fn concurrent(&self, stop: &Arc<AtomicBool>) -> Option<Box<dyn Oracle + Send>> {
        let program = Program { interrupt: Arc::clone(stop), ..self.program.clone() };
        Some(Box::new(Self { program, ..*self }))
    }
}

impl CommandOracle {
    /// All candidates of the queue, divided into as many batches as programs run at the same time; none without `batch`.
    fn batches(&self, queue: &mut LabelQueue<'_>) -> Vec<Vec<StoredCandidate>> {
        if !self.batch {
            return Vec::new();
        }
        let all: Vec<StoredCandidate> = std::iter::from_fn(|| queue.claim()).collect();
        let size = all.len().div_ceil(self.parallel).max(1);
        all.chunks(size).map(<[_]>::to_vec).collect()
    }

    /// As [`CommandOracle::run_job`]. After a panic, which would leave the other thread waiting, the candidates have no label.
    fn run_job_or_fail(&self, job: Vec<StoredCandidate>, folder: &Path) -> Finished {
        let ids: Vec<i64> = job.iter().map(|candidate| candidate.id).collect();
        catch_unwind(AssertUnwindSafe(|| self.run_job(job, folder))).unwrap_or_else(|_| {
            ids.into_iter().map(|id| (id, Err(OracleError::new("the thread that labels it panicked")))).collect()
        })
    }

    /// Labels candidates with one program, which is repeated with those that have no label.
    fn run_job(&self, mut open: Vec<StoredCandidate>, folder: &Path) -> Finished {
        let name = if self.batch { "batch" } else { "candidate" };
        let log = folder.join(format!("{name}-{:06}.log", open.first().map_or(0, |candidate| candidate.id)));
        let mut finished = Vec::new();
        for attempt in 0..=self.retries {
            let labels = self.attempt(&open, folder, &log);
            let mut failed = Vec::new();
            for (candidate, labels) in open.into_iter().zip(labels) {
                match labels {
                    Err(OracleError::Failed { .. }) if attempt < self.retries => failed.push(candidate),
                    Err(OracleError::Failed { message, .. }) => {
                        finished.push((candidate.id, Err(OracleError::Failed { message, log: tail(&log) })));
                    }
                    other => finished.push((candidate.id, other)),
                }
            }
            if failed.is_empty() {
                break;
            }
            open = failed;
        }
        finished
    }

    /// Runs the program once. Returns the labels of the candidates in their order.
    fn attempt(&self, job: &[StoredCandidate], folder: &Path, log: &Path) -> Vec<Result<Labels, OracleError>> {
        let labels = match self.run_program(job, folder, log) {
            Ok(labels) => labels,
            Err(OracleError::Interrupted) => return job.iter().map(|_| Err(OracleError::Interrupted)).collect(),
            Err(error) => return job.iter().map(|_| Err(OracleError::new(&error))).collect(),
        };
        let failed = |message: String| {
            // Append the error to the log, after the output of the program.
            let _ = std::fs::File::options().append(true).open(log).and_then(|mut f| writeln!(f, "{message}"));
            OracleError::new(message)
        };
        labels.into_iter().map(|labels| labels.map_err(failed)).collect()
    }

    fn run_program(
        &self,
        job: &[StoredCandidate],
        folder: &Path,
        log: &Path,
    ) -> Result<Vec<Result<Labels, String>>, OracleError> {
        // Each attempt has its own folder: a program that outlived a killed loop may still write to the previous one.
        let scratch = tempfile::Builder::new().prefix("label-").tempdir_in(folder).map_err(OracleError::new)?;
        let (input, output) = (scratch.path().join("input.extxyz"), scratch.path().join("output.extxyz"));
        export::export(Format::Extxyz, job, &input).map_err(OracleError::new)?;
        let values = [("input", text(&input)?), ("output", text(&output)?)];
        match self.program.run(&values.each_ref().map(|(name, path)| (*name, path.as_str())), log) {
            Ok(()) => {}
            Err(ProgramError::Interrupted) => return Err(OracleError::Interrupted),
            Err(error) => return Err(OracleError::new(error)),
        }
        Ok(match job {
            [candidate] if !self.batch => vec![read_labels(&output, &candidate.candidate.structure)],
            _ => read_batch(&output, job),
        })
    }
}

fn text(path: &Path) -> Result<String, OracleError> {
    path.to_str().map(str::to_owned).ok_or_else(|| OracleError::new(format!("{} is not UTF-8", path.display())))
}

/// Reads the labels from the last frame of `path`, which must contain the atoms of `structure` in the same cell.
fn read_labels(path: &Path, structure: &Structure) -> Result<Labels, String> {
    let (found, results) = extxyz::read_results(path).map_err(|e| e.to_string())?;
    labels_of(&path.file_name().unwrap_or_default().to_string_lossy(), structure, &found, results)
}

/// Reads the labels of all candidates from the frames of `path`. A frame belongs to the candidate with the id `candidate=`, or
/// without this key to the candidate at the same position. Of several frames of a candidate, the last is used.
fn read_batch(path: &Path, job: &[StoredCandidate]) -> Vec<Result<Labels, String>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut labels: Vec<Option<Result<Labels, String>>> = vec![None; job.len()];
    let mut frames = 0;
    let read = extxyz::for_each_result(path, "candidate", |id, frame| {
        let id = id.and_then(|id| id.parse::<i64>().ok());
        let at = id.map_or(Some(frames), |id| job.iter().position(|candidate| candidate.id == id));
        frames += 1;
        if let Some(at) = at.filter(|&at| at < job.len()) {
            let what = format!("the frame of candidate {} in {name}", job[at].id);
            let structure = &job[at].candidate.structure;
            labels[at] = Some(
                frame
                    .map_err(|e| e.to_string())
                    .and_then(|(found, results)| labels_of(&what, structure, &found, results)),
            );
        }
    });
    let missing = |candidate: &StoredCandidate| match &read {
        Err(error) => error.to_string(),
        Ok(()) => format!("{name} has no frame of candidate {}: it has {frames} for {}", candidate.id, job.len()),
    };
    labels.into_iter().zip(job).map(|(found, candidate)| found.unwrap_or_else(|| Err(missing(candidate)))).collect()
}

/// The labels of a structure from a frame, which is `what` in error messages.
fn labels_of(what: &str, structure: &Structure, found: &Structure, results: Results) -> Result<Labels, String> {
    let order = recover_order(structure, found)
        .map_err(|why| format!("{what} does not hold the atoms of the candidate: {why}"))?;
    let energy = results.energy.ok_or_else(|| format!("{what} has no energy= in its comment line"))?;
    let forces = results.forces.ok_or_else(|| format!("{what} has no column forces:R:3"))?;
    let forces = forces.select(Axis(0), &order);
    Ok(Labels { energy, free_energy: None, forces, stress: results.stress, calculator: Some("command".into()) })
}

/// Labels by workers outside the loop, which use the candidate store.
///
/// The selected candidates have the key `selected` with the number of the round. Workers claim and label those with the status
/// `PENDING_DFT`; the documentation of [`crate::candidates`] shows a worker, and `examples/oracles/worker.py` is one.
#[derive(Debug)]
struct ExternalOracle {
    /// Longest time to wait.
    wait: Option<Duration>,
    /// Age of a claim without a heartbeat at which it is released.
    claim_timeout: Option<Duration>,
}

impl Oracle for ExternalOracle {
    fn label(&mut self, _candidate: &StoredCandidate, _folder: &Path) -> Result<Labels, OracleError> {
        Err(OracleError::new("labels are computed by external workers"))
    }

    fn label_all(&mut self, queue: &mut LabelQueue<'_>, _folder: &Path) {
        queue.wait_for_workers(self.wait, self.claim_timeout);
    }

    /// Publishes the candidates, and does not wait.
    fn concurrent(&self, _stop: &Arc<AtomicBool>) -> Option<Box<dyn Oracle + Send>> {
        Some(Box::new(Self { wait: Some(Duration::ZERO), ..*self }))
    }
}

/// Labels with a potential in LAMMPS, in a separate instance in this process.
#[derive(Debug)]
pub struct LammpsOracle {
    script: Script,
    elements: Vec<Element>,
}

/// Loads the reference potential of `[loop.oracle]` in a LAMMPS instance of its own, if the oracle is one. Not for a configuration with
/// `create`, whose structure is unknown before the run.
///
/// # Errors
/// The reason why it cannot be used.
///
/// # MPI
/// Not collective. Runs on the calling rank only.
pub fn check_oracle_potential(config: &InferenceConfig) -> Result<(), String> {
    let Some(OracleConfig::Lammps { pair_style, pair_coeff }) =
        config.active_learning.as_ref().and_then(|l| l.oracle.as_ref())
    else {
        return Ok(());
    };
    if !config.system.create.is_empty() {
        return Ok(());
    }
    let elements = config.system.elements.iter().map(|s| element_from_symbol(s)).collect::<Option<Vec<Element>>>();
    let hint = elements.filter(|elements| !elements.is_empty());
    let structure = crate::io::read(&config.system.structure, hint.as_deref()).map_err(|e| e.to_string())?;
    let script = Script::new(config, &structure, Path::new("data")).map_err(|e| e.to_string())?;
    load(&script.without_gamma(pair_style, pair_coeff), &structure.elements).map_err(|e| e.to_string())?;
    Ok(())
}

impl Oracle for LammpsOracle {
    fn label(&mut self, candidate: &StoredCandidate, _folder: &Path) -> Result<Labels, OracleError> {
        // `pair_coeff` determines the order of types. Candidates of another run may have another order.
        let structure = &candidate.candidate.structure.with_elements(&self.elements).map_err(OracleError::new)?;
        let found = evaluate(structure, &self.script).map_err(OracleError::new)?;
        let forces = Array2::from_shape_fn((structure.len(), 3), |(i, k)| found.forces[i][k]);
        let periodic = structure.cell.pbc == [true; 3];
        Ok(Labels {
            energy: found.energy,
            free_energy: None,
            forces,
            stress: periodic.then_some(found.stress),
            calculator: Some("lammps".into()),
        })
    }
}
