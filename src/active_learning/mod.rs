// SPDX-License-Identifier: GPL-2.0-or-later
//! The closed loop of active learning: runs, selects and labels candidates, and trains the potential, in one process.
//!
//! ```text
//! explore ─► select ─► label ─► train ─► swap ─┐
//!    ▲                                         │ from where γ exceeded the threshold, or from the start
//!    └─────────────────────────────────────────┘ until no event occurs
//! ```
//!
//! In one round, molecular dynamics runs until [`LoopConfig::batch`] events have occurred, and at each event the regions with the
//! largest γ are extracted. [`select()`] chooses a few of them that span the others, the [`Oracle`] labels these, and the
//! [`Trainer`] fits a new potential to all labelled candidates. The new potential is loaded and tested in a LAMMPS instance of
//! its own, and then swapped into the running simulation. If γ of a candidate without a label is still above the threshold,
//! more candidates are labelled before the run continues.
//!
//! All state is in the candidate store and in restart files. Each phase of a round ends with one transaction, which stores its
//! results and the next phase. A process that is killed at any time and started again continues with the phase that it was in,
//! and reaches the same result.

mod accuracy;
mod background;
mod checks;
mod error;
mod explore;
mod imports;
mod labelling;
mod ledger;
mod oracle;
mod oracle_check;
mod program;
mod queue;
mod trainer;
mod training;
mod trial;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::candidates::{CheckResult, Phase, Round, RoundOutcome};
use crate::comm::{Comm, Team};
use crate::config::InferenceConfig;
use crate::embedding::EmbeddingExtractor;
use crate::potential;
use crate::runner::{Error as RunError, outline, read_structure};
use crate::script::{Earlier, Outputs, Script};
use crate::simulation::{self, Poll, Resumption, Simulation};
use crate::structure::Structure;

pub use crate::config::{LoopConfig, OracleConfig, ResumeFrom, TrainerConfig};
pub use crate::prediction::{Projected, select};
use accuracy::Limits;
use background::Background;
pub use error::Error;
use ledger::Ledger;
pub use oracle::{CommandOracle, LammpsOracle, Oracle, OracleError, check_oracle_potential};
pub use program::ProgramError;
pub use queue::LabelQueue;
pub use trainer::{CommandTrainer, Trainer, TrainerError, TrainingJob, TrainingReport};

/// Names of the files of a loop. The files of a round are in its folder, such as `round-001`.
pub mod files {
    /// Locked by the process that runs the loop; in the loop's folder.
    pub const LOCK: &str = "loop.lock";
    /// The candidate store, in the loop's folder.
    pub const CANDIDATES: &str = "candidates.db";
    /// The initial structure as a LAMMPS data file, in the loop's folder.
    pub const DATA: &str = "data.lammps";
    /// The settings, versions and number of ranks of the last run, in the loop's folder.
    pub const PROVENANCE: &str = crate::runner::files::PROVENANCE;
    /// Folder of the initial potential, in the loop's folder.
    pub const START: &str = "start";
    /// Folder of the final potential, in the loop's folder; absent while the loop runs.
    pub const FINAL: &str = "final";
    /// Folder of the potential that a round has trained, in the round's folder.
    pub const POTENTIAL: &str = "potential";
    /// The B-basis, in the folder of a potential.
    pub const BASIS: &str = "potential.yaml";
    /// The active set, in the folder of a potential.
    pub const ACTIVE_SET: &str = "potential.asi";
    /// The report of the trainer, in the folder of a potential.
    pub const REPORT: &str = "report.json";
    /// All labelled candidates up to this round.
    pub const LABELLED: &str = "labelled.extxyz";
    /// The output of the trainer.
    pub const TRAINING_LOG: &str = "training.log";
    /// The polls of the run of the round, one line each.
    pub const POLLS: &str = "polls.jsonl";
    /// The log of LAMMPS, if the round sets up the simulation again.
    pub const LOG: &str = "log.lammps";
    /// The restart file from which the run of the round starts.
    pub const RESTART: &str = "start.restart";
}

/// Why a loop ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A run had no event until its end, or for the quiet time.
    Learned,
    /// A run had no event, but an error on a check is larger than its limit; or the audits do not show force errors within the tolerance,
    /// and the maximum number of rounds was reached or there are no audits.
    Inaccurate,
    /// The maximum number of rounds was reached.
    Rounds,
    /// The maximum number of labels was reached.
    Labels,
    /// The time limit was reached.
    Time,
    /// Events occurred, but there is no candidate to train on: no region could be extracted, or no label could be computed.
    Nothing,
    /// The new potential was rejected by its trainer or by its trial. The previous potential is kept.
    Refused(String),
    /// The time to wait for the labels of external workers is over. The same call continues to wait.
    Waiting,
    /// The loop was stopped by a signal.
    Interrupted,
}

/// The result of a loop.
#[derive(Debug, Clone, Serialize)]
pub struct LearningResult {
    /// Why the loop ended.
    pub outcome: Outcome,
    /// All rounds, including those of earlier processes.
    pub rounds: Vec<Round>,
    /// The final potential (`.yaml`) in the folder [`files::FINAL`], which also contains its active set.
    pub potential: PathBuf,
    /// Number of labelled candidates.
    pub labels: usize,
    /// Seconds of molecular dynamics and extraction in this process.
    pub run_seconds: f64,
    /// Seconds in this process until the simulation had its new potential, including setting up again, but without the trials
    /// of the potentials.
    pub swap_seconds: f64,
    /// Warnings about cut-outs in this process, on rank 0: regions that have no valid cell, and cut-outs whose γ or forces differ
    /// from those of the frame.
    pub warnings: Vec<String>,
    /// Stores of other loops whose labels this process has copied, with the number of labels, on rank 0.
    pub imported: Vec<(PathBuf, usize)>,
    /// What the last run of the loop has not shown: why the loop has not ended with [`Outcome::Learned`]. Empty if it has.
    pub unmet: Vec<String>,
    /// The loop's folder.
    pub output: PathBuf,
}

/// Runs a loop.
///
/// ```no_run
/// use lammps_otf::{active_learning::ActiveLearning, comm::Session, config::InferenceConfig};
///
/// let mpi = Session::initialize();
/// let config = InferenceConfig::read("al-learn.toml")?;
/// let result = ActiveLearning::new(&mpi.world(), "learned").run(&config)?;
/// println!("{:?} after {} rounds: {}", result.outcome, result.rounds.len(), result.potential.display());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ActiveLearning<'o> {
    comm: Comm,
    output: PathBuf,
    oracle: Option<Box<dyn Oracle + 'o>>,
    trainer: Option<Box<dyn Trainer + 'o>>,
    observer: Box<dyn FnMut(&Round) + 'o>,
    poll_observer: PollObserver<'o>,
    interrupt: Arc<AtomicBool>,
    teams: usize,
}

/// Called with the number of the round, the name of the run, and the poll.
type PollObserver<'o> = Box<dyn FnMut(u32, &str, &Poll) + 'o>;

impl<'o> ActiveLearning<'o> {
    /// A loop on the ranks of `comm` in the folder `output`, which is new or contains a loop to continue.
    #[must_use]
    pub fn new(comm: &Comm, output: impl Into<PathBuf>) -> Self {
        Self {
            comm: comm.clone(),
            output: output.into(),
            oracle: None,
            trainer: None,
            observer: Box::new(|_| {}),
            poll_observer: Box::new(|_, _, _| {}),
            interrupt: Arc::default(),
            teams: 1,
        }
    }

    /// Divides the ranks into this number of teams with an equal number of consecutive ranks, which do the runs of a round
    /// (`[[loop.run]]`) side by side; at most as many as there are runs. Restart files and polls are written by each team, so that
    /// all must see the loop's folder.
    #[must_use]
    pub fn replicas(mut self, teams: usize) -> Self {
        self.teams = teams;
        self
    }

    /// Uses this oracle instead of the one in the configuration.
    #[must_use]
    pub fn oracle(mut self, oracle: impl Oracle + 'o) -> Self {
        self.oracle = Some(Box::new(oracle));
        self
    }

    /// Uses this trainer instead of the one in the configuration.
    #[must_use]
    pub fn trainer(mut self, trainer: impl Trainer + 'o) -> Self {
        self.trainer = Some(Box::new(trainer));
        self
    }

    /// Calls `observer` on rank 0 after each round, and at the start for each completed round of an earlier process.
    #[must_use]
    pub fn observe(mut self, observer: impl FnMut(&Round) + 'o) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Calls `observer` on each rank at each poll, with the number of the round, the name of the run (empty if it is the only one), and the
    /// poll.
    #[must_use]
    pub fn observe_polls(mut self, observer: impl FnMut(u32, &str, &Poll) + 'o) -> Self {
        self.poll_observer = Box::new(observer);
        self
    }

    /// Stops soon after `flag` is set on any rank. The loop can be continued later.
    #[must_use]
    pub fn interrupt_by(mut self, flag: Arc<AtomicBool>) -> Self {
        self.interrupt = flag;
        self
    }

    /// Runs rounds until a run has no event, or until a limit in `[loop]` is reached.
    ///
    /// # Errors
    /// [`Error`]. Completed phases are kept, and the same call continues after them.
    ///
    /// # MPI
    /// Collective. The oracle and the trainer are called on rank 0, while the other ranks sleep.
    pub fn run(self, config: &InferenceConfig) -> Result<LearningResult, Error> {
        let settings = config.active_learning.as_ref().ok_or(Error::NoLoop)?;
        let comm = &self.comm;
        // Oracle and trainer are used on rank 0 only, where a program may have its own. Before anything is written.
        comm.on_root(|| match (self.oracle.is_some(), self.trainer.is_some()) {
            (false, _) if settings.oracle.is_none() => Err(Error::Missing { what: "oracle" }),
            (_, false) if settings.trainer.is_none() => Err(Error::Missing { what: "trainer" }),
            _ => Ok(()),
        })?;
        let team = comm.divide(self.teams)?;
        let mut warnings = Vec::new();
        let mut runs = Vec::new();
        let mut structures = Vec::new();
        for (name, config) in configurations(config)? {
            let (structure, of_run) = read_structure(comm, &config)?;
            warnings.extend(of_run);
            let outline = outline(comm, &structure);
            // A round may set up the simulation again. Commands that would then overwrite files are rejected now.
            let repeated =
                Script::new(&config, &outline, &self.output.join(files::DATA)).and_then(|s| s.continued(0).render());
            comm.agree(repeated.map_err(|error| Error::from(simulation::Error::from(error))))?;
            structures.push(structure);
            runs.push(Run { name, config, outline, simulation: None });
        }
        if team.count > runs.len() {
            return Err(Error::Teams { teams: team.count, runs: runs.len() });
        }
        let cutoff = comm
            .agree(potential::cutoff(&config.system.potential).map_err(RunError::Potential))?
            .ok_or(RunError::Cutoff)?;
        let extractor = EmbeddingExtractor::new(&config.candidates.embedding, cutoff)?;
        comm.on_root(|| structures.iter().try_for_each(|s| extractor.check_size(s)).map_err(Error::from))?;
        let ledger = comm.on_root(|| {
            // Read before anything is written.
            settings.checks.iter().try_for_each(|check| checks::frames_of(check).map(drop))?;
            let mut ledger = Ledger::open(&self.output, config, &runs, &structures)?;
            let imported = ledger.import_labels(settings, &config.system.potential)?;
            ledger.add_checks(config, settings, &structures[0], &extractor)?;
            Ok::<_, Error>((ledger, imported))
        })?;
        let (ledger, imported) = ledger.unzip();
        let folder = PathBuf::from(comm.share(ledger.as_ref().map(|l| l.folder.display().to_string())));
        let round = comm.share(ledger.as_ref().map(|l| l.round.clone()));
        let potential = comm.share(ledger.as_ref().map(|l| l.potential.clone()));
        let limits = comm.share(ledger.as_ref().map(|l| l.limits.clone()));
        runs.iter_mut().for_each(|run| run.config.system.potential.clone_from(&potential));
        let elements = runs[0].outline.elements.clone();
        let script = runs[0].script(&folder)?;
        let oracle = match (self.oracle, &settings.oracle) {
            (None, Some(of_config)) => {
                Some(oracle::from_config(of_config, settings, &script, &elements, &self.interrupt))
            }
            (own, _) => own,
        };
        let trainer = match (self.trainer, &settings.trainer) {
            (None, Some(of_config)) => {
                Some(Box::new(CommandTrainer::new(of_config, settings, &self.interrupt)) as Box<dyn Trainer + 'o>)
            }
            (own, _) => own,
        };
        let learning = Learning {
            comm: comm.clone(),
            team,
            config: config.with_potential(potential),
            settings,
            extractor,
            folder,
            ledger,
            limits,
            round,
            runs,
            oracle,
            trainer,
            background: None,
            observer: self.observer,
            poll_observer: self.poll_observer,
            interrupt: self.interrupt,
            started: Instant::now(),
            running: Duration::ZERO,
            swapping: Duration::ZERO,
            warnings,
            imported: imported.unwrap_or_default(),
        };
        learning.run(self.output)
    }
}

/// A run of a loop. All fields are the same on all ranks.
struct Run {
    /// Its name; empty if it is the only one.
    name: String,
    /// Its configuration with the current potential.
    config: InferenceConfig,
    /// Its structure without the atoms.
    outline: Structure,
    /// The simulation at the start of the round; `None` if it must be set up again.
    simulation: Option<Simulation>,
}

impl Run {
    /// The set-up of the run with the current potential.
    fn script(&self, folder: &Path) -> Result<Script, Error> {
        let data = data_path(folder, &self.name);
        Ok(Script::new(&self.config, &self.outline, &data).map_err(simulation::Error::from)?)
    }
}

/// Names and configurations of the runs.
fn configurations(config: &InferenceConfig) -> Result<Vec<(String, InferenceConfig)>, Error> {
    let runs = config.active_learning.iter().flat_map(|settings| &settings.runs);
    let runs = runs.map(|run| Ok((run.name.clone(), config.of_run(run)?)));
    let runs = runs.collect::<Result<Vec<_>, Error>>()?;
    Ok(if runs.is_empty() { vec![(String::new(), config.clone())] } else { runs })
}

/// The data file of a run in the folder of a loop.
fn data_path(folder: &Path, run: &str) -> PathBuf {
    folder.join(if run.is_empty() { files::DATA.to_owned() } else { format!("{run}.{}", files::DATA) })
}

/// The folder of a run in the folder of a round.
fn run_folder(round: PathBuf, run: &str) -> PathBuf {
    if run.is_empty() { round } else { round.join(run) }
}

/// A loop in progress. All fields except `team`, `ledger` and `imported` are the same on all ranks.
struct Learning<'c, 'o> {
    comm: Comm,
    /// The ranks that do a run together with this one.
    team: Team,
    /// The configuration with the current potential.
    config: InferenceConfig,
    settings: &'c LoopConfig,
    extractor: EmbeddingExtractor,
    /// Absolute path of the folder of the loop.
    folder: PathBuf,
    /// On rank 0 only.
    ledger: Option<Ledger>,
    /// The threshold of γ for the current potential.
    limits: Limits,
    /// The current round, as stored.
    round: Round,
    /// The runs, at least one.
    runs: Vec<Run>,
    /// Used on rank 0, which has one; other ranks may have none. As the trainer.
    oracle: Option<Box<dyn Oracle + 'o>>,
    trainer: Option<Box<dyn Trainer + 'o>>,
    /// Labels candidates while the runs of a round are done, on rank 0, if there are any.
    background: Option<Background>,
    observer: Box<dyn FnMut(&Round) + 'o>,
    poll_observer: PollObserver<'o>,
    interrupt: Arc<AtomicBool>,
    started: Instant,
    /// Time in molecular dynamics and extraction.
    running: Duration,
    /// Time until the simulation had its new potential.
    swapping: Duration,
    /// Warnings about cut-outs.
    warnings: Vec<String>,
    /// Stores whose labels were copied by this process, with their numbers, on rank 0.
    imported: Vec<(PathBuf, usize)>,
}

impl Learning<'_, '_> {
    /// Runs the loop and collects its result.
    fn run(mut self, output: PathBuf) -> Result<LearningResult, Error> {
        let earlier = self.comm.on_root(|| self.ledger.as_ref().map_or(Ok(Vec::new()), Ledger::rounds))?;
        let earlier = self.comm.share(earlier);
        earlier.iter().filter(|round| round.phase == Phase::Done).try_for_each(|round| self.notify_observer(round))?;
        let outcome = match self.prepare()? {
            Some(outcome) => outcome,
            None => self.run_rounds()?,
        };
        let result = self.comm.on_root(|| match &self.ledger {
            Some(ledger) => Ok::<_, Error>(Some((ledger.rounds()?, ledger.labels()?, ledger.write_final()?))),
            None => Ok(None),
        })?;
        let (rounds, labels, potential) = result.flatten().unwrap_or_default();
        let (run_seconds, swap_seconds) = (self.running.as_secs_f64(), self.swapping.as_secs_f64());
        let unmet =
            rounds.last().filter(|_| outcome != Outcome::Learned).map_or(Vec::new(), |last| unmet(last, self.settings));
        Ok(LearningResult {
            outcome,
            unmet,
            imported: self.imported,
            rounds,
            potential,
            labels,
            run_seconds,
            swap_seconds,
            warnings: self.warnings,
            output,
        })
    }

    /// Calls the observer on rank 0 for a completed round.
    fn notify_observer(&mut self, round: &Round) -> Result<(), Error> {
        let observer = &mut self.observer;
        self.comm.on_root(|| {
            observer(round);
            Ok::<_, Error>(())
        })?;
        Ok(())
    }

    /// Labels the checks, and compares the oracle with the initial potential.
    fn prepare(&mut self) -> Result<Option<Outcome>, Error> {
        let (oracle, interrupt, ledger, settings) =
            (&mut self.oracle, &self.interrupt, &mut self.ledger, self.settings);
        let prepared = self.comm.on_root_alone(|| {
            let both = ledger.as_mut().zip(oracle.as_deref_mut());
            both.map(|(ledger, oracle)| ledger.prepare(settings, oracle, interrupt)).transpose()
        })?;
        let prepared = self.comm.share(prepared.flatten());
        Ok(self.finish_phase(prepared))
    }

    /// Runs phase after phase. Each phase stores its results and the next phase before it returns.
    fn run_rounds(&mut self) -> Result<Outcome, Error> {
        loop {
            // Agreed, because the flag can be set on a rank that takes no part in labelling and training.
            if self.round.phase != Phase::Done && self.comm.any(self.interrupt.load(Ordering::Relaxed)) {
                return Ok(Outcome::Interrupted);
            }
            let end = match self.round.phase {
                Phase::Explore if self.out_of_time() => Some(Outcome::Time),
                Phase::Explore => self.explore()?,
                Phase::Select if self.is_past_last_round() && self.round.outcome != Some(RoundOutcome::Quiet) => {
                    Some(Outcome::Rounds)
                }
                Phase::Select => self.select()?,
                Phase::Label => self.label()?,
                Phase::Train if self.is_past_last_round() && self.round.outcome == Some(RoundOutcome::Quiet) => {
                    Some(Outcome::Inaccurate)
                }
                Phase::Train => self.train()?,
                Phase::Done if self.round.checks.iter().all(CheckResult::is_passed) => Some(Outcome::Learned),
                Phase::Done if self.has_unused_checks() => self.train()?,
                Phase::Done => Some(Outcome::Inaccurate),
            };
            if let Some(outcome) = end {
                return Ok(outcome);
            }
        }
    }

    /// Whether a check has failed and there are labels of checks that the potential of this round was not trained on.
    fn has_unused_checks(&self) -> bool {
        self.round.number == 1
            && !self.round.checks.iter().all(CheckResult::is_passed)
            && self.settings.checks.iter().any(|check| check.train)
    }

    /// Whether the round is one more than may train a potential.
    fn is_past_last_round(&self) -> bool {
        self.round.number > self.settings.max_rounds
    }

    fn out_of_time(&self) -> bool {
        let is_over = self.settings.max_time.is_some_and(|limit| self.started.elapsed().as_secs_f64() > limit);
        self.comm.any(is_over)
    }

    /// Selects candidates to label from all that have no label.
    fn select(&mut self) -> Result<Option<Outcome>, Error> {
        let settings = self.settings;
        let selected = self.on_ledger(|ledger| ledger.select(settings))?;
        Ok(self.finish_phase(selected))
    }

    /// Labels the selected candidates.
    fn label(&mut self) -> Result<Option<Outcome>, Error> {
        let (oracle, interrupt, ledger) = (&mut self.oracle, &self.interrupt, &mut self.ledger);
        let background = self.background.take();
        let threshold = &self.config.watch.uncertainty_threshold;
        let labelled = self.comm.on_root_alone(|| {
            background.map_or(Ok(()), |background| background.finish(interrupt))?;
            let both = ledger.as_mut().zip(oracle.as_deref_mut());
            both.map(|(ledger, oracle)| ledger.label(threshold, oracle, interrupt)).transpose()
        })?;
        let labelled = self.comm.share(labelled.flatten());
        let end = self.finish_phase(labelled);
        if self.round.phase == Phase::Done && !self.has_unused_checks() {
            self.notify_observer(&self.round.clone())?;
        }
        Ok(end)
    }

    /// Trains and tests a new potential, and swaps it into the simulation.
    fn train(&mut self) -> Result<Option<Outcome>, Error> {
        let script = self.runs[0].script(&self.folder)?;
        let (trainer, threshold, ledger, settings) =
            (&mut self.trainer, &self.config.watch.uncertainty_threshold, &mut self.ledger, self.settings);
        let trained = self.comm.on_root_alone(|| {
            let both = ledger.as_mut().zip(trainer.as_deref_mut());
            both.map(|(ledger, trainer)| ledger.train(trainer, &script, threshold, settings)).transpose()
        })?;
        let (potential, done, next) = match self.comm.share(trained.flatten()) {
            PhaseOutcome::Continue((potential, done, next)) => (potential, done, next),
            PhaseOutcome::Stop(outcome) => return Ok(Some(outcome)),
        };
        self.config.system.potential = potential;
        self.limits = self.comm.share(self.ledger.as_ref().map(|ledger| ledger.limits.clone()));
        for run in &mut self.runs {
            run.config.system.potential.clone_from(&self.config.system.potential);
            let Some(simulation) = &mut run.simulation else { continue };
            let swap_start = Instant::now();
            simulation.swap_potential(&self.config.system.potential)?;
            self.swapping += swap_start.elapsed();
            self.ledger.iter_mut().for_each(Ledger::record_setup);
        }
        self.notify_observer(&done)?;
        self.round = next;
        Ok(None)
    }

    /// Sets the round to the one that rank 0 has stored. Returns the outcome if the loop ends.
    fn finish_phase(&mut self, phase: PhaseOutcome<Round>) -> Option<Outcome> {
        match phase {
            PhaseOutcome::Continue(round) => {
                self.round = round;
                None
            }
            PhaseOutcome::Stop(outcome) => Some(outcome),
        }
    }

    /// Runs `work` on rank 0 while the other ranks sleep, and sends its result to all ranks.
    fn on_ledger<T: Serialize + serde::de::DeserializeOwned>(
        &mut self,
        work: impl FnOnce(&mut Ledger) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let ledger = &mut self.ledger;
        let done = self.comm.on_root_alone(|| ledger.as_mut().map(work).transpose())?;
        Ok(self.comm.share(done.flatten()))
    }

    /// The simulation of a run of this team at the start of the round: the running one, or one that is set up from the restart file.
    fn simulation(&mut self, index: usize) -> Result<Simulation, Error> {
        let (restart, from) = self.start_of(index);
        let run = &mut self.runs[index];
        let folder = run_folder(round_folder(&self.folder, self.round.number), &run.name);
        if let Some(mut running) = run.simulation.take() {
            running.move_trajectory(&folder)?;
            return Ok(running);
        }
        // That of an earlier process, which has started this round, is written again.
        if let Some(trajectory) = &run.config.job.trajectory {
            let path = folder.join(trajectory.format.file());
            self.team.comm.on_root(|| match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(RunError::Write { path, source }),
                _ => Ok(()),
            })?;
        }
        let (data, log) = (data_path(&self.folder, &run.name), folder.join(files::LOG));
        // The log exists if an earlier process has started this round.
        let comm = &self.team.comm;
        let is_repeated = self.round.number > 1 || comm.any(comm.is_root() && log.exists());
        let earlier = if is_repeated { Earlier::Repeated } else { Earlier::None };
        let config =
            InferenceConfig { outputs: Outputs { earlier, ..run.config.outputs.clone() }, ..run.config.clone() };
        let simulation = match restart {
            Some(restart) => {
                let restart = self.folder.join(restart);
                let from = Resumption { restart: &restart, step: from, first: 0, bias: None };
                Simulation::resume(&config, &run.outline, &data, from, Some(&log), comm)
            }
            None => Simulation::new(&config, &run.outline, &data, Some(&log), comm),
        }?;
        match simulation.first_step() {
            0 => Ok(simulation),
            step => Err(Error::FirstStep(step)),
        }
    }

    /// The restart file and the step at which a run of this round starts.
    fn start_of(&self, index: usize) -> (Option<String>, i64) {
        match self.round.runs.get(index) {
            Some(run) => (run.restart.clone(), run.from),
            None => (self.round.restart.clone(), self.round.from),
        }
    }
}

/// What the last round of a loop has not shown, of that which ends a loop.
fn unmet(last: &Round, settings: &LoopConfig) -> Vec<String> {
    let run = match last.outcome {
        Some(RoundOutcome::Quiet) => None,
        Some(RoundOutcome::Events) => Some(format!("the last run had {} events", last.events)),
        Some(RoundOutcome::Crash) => Some("the last run broke".into()),
        None => Some("no run of the newest potential has been completed".into()),
    };
    let audit = last.audit.filter(|audit| !audit.accepted).map(|audit| {
        let bound = audit.force_bound.map_or(String::new(), |bound| format!(", bound {bound:.3} eV/Å"));
        format!("the audits have force errors of {:.3} eV/Å (root mean square){bound}", audit.force_rmse)
    });
    let checks = last.checks.iter().flat_map(|check| check.failures.iter().map(move |why| (&check.name, why)));
    let checks = checks.map(|(name, why)| format!("check {name:?}: {why}"));
    let is_energy_wrong = last.checks.iter().any(|check| !check.is_passed() && check.difference.is_some());
    let energies = (is_energy_wrong && !settings.checks.iter().any(|check| check.train)).then(|| {
        "labels of cut-outs have no energies, so that nothing pins an energy difference: train on whole structures (`train = true` in \
         a check, or `whole_frames_below` in [embedding])"
            .to_owned()
    });
    run.into_iter().chain(audit).chain(checks).chain(energies).collect()
}

/// Outcome of a phase of a round.
#[derive(Serialize, Deserialize)]
enum PhaseOutcome<T> {
    /// The loop continues with the next phase.
    Continue(T),
    /// The loop ends.
    Stop(Outcome),
}

/// The folders of the existing rounds of a loop, in order.
pub fn round_folders(loop_folder: &Path) -> impl Iterator<Item = PathBuf> {
    (1..).map(move |n| round_folder(loop_folder, n)).take_while(|folder| folder.is_dir())
}

/// The folders of a round that contain polls: that of the round, or those of its runs.
pub fn run_folders(round: &Path) -> Vec<PathBuf> {
    if round.join(files::POLLS).is_file() {
        return vec![round.to_owned()];
    }
    let entries = round.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let mut runs: Vec<PathBuf> = entries.filter(|folder| folder.join(files::POLLS).is_file()).collect();
    runs.sort();
    if runs.is_empty() { vec![round.to_owned()] } else { runs }
}

/// The folder of a round in the folder of a loop.
fn round_folder(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("round-{number:03}"))
}
