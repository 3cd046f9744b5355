// SPDX-License-Identifier: GPL-2.0-or-later
//! The closed loop: a run that learns what it does not know, in one process.
//!
//! ```text
//! explore ─► select ─► label ─► train ─► swap ─┐
//!    ▲                                         │ from where γ passed the threshold, or from the start
//!    └─────────────────────────────────────────┘ until nothing is unknown
//! ```
//!
//! One round: molecular dynamics runs until γ has passed the threshold as often as [`LoopConfig::batch`] says, and each time
//! the worst regions are cut out. [`select()`] takes the few of them that span the others, the [`Oracle`] labels these, the
//! [`Trainer`] makes a new potential of all that was ever labelled. It is loaded and tried in an instance of its own, then
//! swapped into the running one. If it does not know what else was cut out, more of that is labelled before the run goes on.
//!
//! All state is in the candidate store and in restart files beside it; each step ends with one transaction that holds its
//! candidates together with the news that it is done. A process that is killed anywhere, started again in the same way,
//! goes on with the step that it was in, and comes to the same end.

mod error;
mod explore;
mod ledger;
mod oracle;
mod program;
mod selection;
mod trainer;
mod trial;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::candidates::{Phase, Round};
use crate::comm::Comm;
use crate::config::InferenceConfig;
use crate::embedding::EmbeddingExtractor;
use crate::potential;
use crate::runner::{Error as RunError, outline, read_structure};
use crate::script::{Earlier, Outputs, Script};
use crate::simulation::{self, Resumption, Simulation};
use crate::structure::Structure;

pub use crate::config::{LoopConfig, OracleConfig, ResumeFrom, TrainerConfig};
pub use error::Error;
use ledger::Ledger;
pub use oracle::{CommandOracle, LammpsOracle, Oracle, OracleError};
pub use program::ProgramError;
pub use selection::{Projected, ProjectionError, Projector, select};
pub use trainer::{CommandTrainer, Trainer, TrainerError, TrainingJob, TrainingReport};

/// Files of a loop. Those of a round are in its folder, `round-001`.
pub mod files {
    /// The file that the process which runs here has locked, in the loop's folder.
    pub const LOCK: &str = "loop.lock";
    /// The store, in the loop's folder.
    pub const CANDIDATES: &str = "candidates.db";
    /// The initial structure as LAMMPS read it, in the loop's folder.
    pub const DATA: &str = "data.lammps";
    /// The settings, the versions and the number of ranks that it was run with last, in the loop's folder.
    pub const PROVENANCE: &str = crate::runner::files::PROVENANCE;
    /// Folder of the potential that the loop begins with, in the loop's folder.
    pub const START: &str = "start";
    /// Folder of the potential that the loop ends with, in the loop's folder; absent while the loop runs.
    pub const FINAL: &str = "final";
    /// Folder of the potential that a round has trained, in the round's folder.
    pub const POTENTIAL: &str = "potential";
    /// The B-basis, in the folder of a potential.
    pub const BASIS: &str = "potential.yaml";
    /// The active set, in the folder of a potential.
    pub const ACTIVE_SET: &str = "potential.asi";
    /// What the trainer says of its potential, beside it.
    pub const REPORT: &str = "report.json";
    /// Everything that was labelled up to this round.
    pub const LABELLED: &str = "labelled.extxyz";
    /// What the trainer said.
    pub const TRAINING_LOG: &str = "training.log";
    /// What the run of the round saw, one line for each poll.
    pub const POLLS: &str = "polls.jsonl";
    /// LAMMPS's log, of a round that begins anew.
    pub const LOG: &str = "log.lammps";
    /// Where the run of the round begins.
    pub const RESTART: &str = "start.restart";
}

/// Why a loop ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The potential knows all that the run saw: to its end, or for the quiet time.
    Learned,
    /// All rounds were used.
    Rounds,
    /// All labels were used.
    Labels,
    /// The time is over.
    Time,
    /// There is something unknown, but nothing to learn from: no region could be cut out, or no label be computed.
    Nothing,
    /// The new potential was refused, by its trainer or in its trial; the old one stays.
    Refused(String),
    /// A signal.
    Interrupted,
}

/// What a loop gives.
#[derive(Debug, Clone, Serialize)]
pub struct LearningResult {
    /// Why it ended.
    pub outcome: Outcome,
    /// Its rounds, those of earlier processes too.
    pub rounds: Vec<Round>,
    /// The last potential, `.yaml`, in the folder [`files::FINAL`]; its active set is beside it.
    pub potential: PathBuf,
    /// Candidates with a label.
    pub labels: usize,
    /// Seconds of molecular dynamics and of cutting out, of this process alone.
    pub run_seconds: f64,
    /// Seconds in which runs stood still until they had their new potential, of this process alone: trials are not counted,
    /// setting up anew is.
    pub swap_seconds: f64,
    /// What was noticed about cut-outs, on rank 0, by this process: regions that make no valid cell, cut-outs that the
    /// potential finds different from their frame.
    pub warnings: Vec<String>,
    /// The loop's folder.
    pub output: PathBuf,
}

/// A run that learns.
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
    interrupt: Arc<AtomicBool>,
}

impl<'o> ActiveLearning<'o> {
    /// A loop on the ranks of `comm`, whose folder is `output`: a new one, or that of a loop to go on with.
    #[must_use]
    pub fn new(comm: &Comm, output: impl Into<PathBuf>) -> Self {
        Self {
            comm: comm.clone(),
            output: output.into(),
            oracle: None,
            trainer: None,
            observer: Box::new(|_| {}),
            interrupt: Arc::default(),
        }
    }

    /// Asks this oracle instead of the one in the configuration.
    #[must_use]
    pub fn oracle(mut self, oracle: impl Oracle + 'o) -> Self {
        self.oracle = Some(Box::new(oracle));
        self
    }

    /// Asks this trainer instead of the one in the configuration.
    #[must_use]
    pub fn trainer(mut self, trainer: impl Trainer + 'o) -> Self {
        self.trainer = Some(Box::new(trainer));
        self
    }

    /// Calls `observer` after each round, on rank 0; first for those of an earlier process.
    #[must_use]
    pub fn observe(mut self, observer: impl FnMut(&Round) + 'o) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Stops soon after `flag` is set, on any rank, in a state to go on from.
    #[must_use]
    pub fn interrupt_by(mut self, flag: Arc<AtomicBool>) -> Self {
        self.interrupt = flag;
        self
    }

    /// Learns until the run holds nothing new, or until a limit of `[loop]` is reached.
    ///
    /// # Errors
    /// [`Error`]. What was learned by then stays, and the same call goes on from there.
    ///
    /// # MPI
    /// Collective. The oracle and the trainer are called on rank 0, while the other ranks sleep.
    pub fn run(self, config: &InferenceConfig) -> Result<LearningResult, Error> {
        let settings = config.active_learning.as_ref().ok_or(Error::NoLoop)?;
        let comm = &self.comm;
        let (structure, warnings) = read_structure(comm, config)?;
        let cutoff = comm
            .agree(potential::cutoff(&config.system.potential).map_err(RunError::Potential))?
            .ok_or(RunError::Cutoff)?;
        let extractor = EmbeddingExtractor::new(&config.candidates.embedding, cutoff)?;
        let outline = outline(comm, &structure);
        // Each round sets the run up again: what that would lose is refused now.
        let again = Script::new(config, &outline, &self.output.join(files::DATA)).and_then(|s| s.continued(0).render());
        comm.agree(again.map_err(|error| Error::from(simulation::Error::from(error))))?;
        comm.on_root(|| extractor.check_size(&structure).map_err(Error::from))?;
        let ledger = comm.on_root(|| Ledger::open(&self.output, config, &structure))?;
        let folder = PathBuf::from(comm.share(ledger.as_ref().map(|l| l.folder.display().to_string())));
        let round = comm.share(ledger.as_ref().map(|l| l.round.clone()));
        let potential = comm.share(ledger.as_ref().map(|l| l.potential.clone()));
        let script = Script::new(config, &outline, &folder.join(files::DATA)).map_err(simulation::Error::from)?;
        let oracle =
            self.oracle.unwrap_or_else(|| oracle::from_config(settings, &script, &outline.elements, &self.interrupt));
        let trainer = self.trainer.unwrap_or_else(|| Box::new(CommandTrainer::new(settings, &self.interrupt)));
        let learning = Learning {
            comm: comm.clone(),
            config: config.with_potential(potential),
            settings,
            extractor,
            outline,
            folder,
            ledger,
            round,
            simulation: None,
            oracle,
            trainer,
            observer: self.observer,
            interrupt: self.interrupt,
            started: Instant::now(),
            running: Duration::ZERO,
            swapping: Duration::ZERO,
            warnings,
        };
        learning.finish(self.output)
    }
}

/// A loop on its way. Everything but the ledger is the same on all ranks.
struct Learning<'c, 'o> {
    comm: Comm,
    /// With the present potential.
    config: InferenceConfig,
    settings: &'c LoopConfig,
    extractor: EmbeddingExtractor,
    /// The structure without its atoms.
    outline: Structure,
    /// Absolute.
    folder: PathBuf,
    /// On rank 0.
    ledger: Option<Ledger>,
    /// As it stands in the store.
    round: Round,
    /// Where it stands at the beginning of the round, unless it has to be set up anew.
    simulation: Option<Simulation>,
    oracle: Box<dyn Oracle + 'o>,
    trainer: Box<dyn Trainer + 'o>,
    observer: Box<dyn FnMut(&Round) + 'o>,
    interrupt: Arc<AtomicBool>,
    started: Instant,
    /// In molecular dynamics.
    running: Duration,
    /// Until the new potential runs.
    swapping: Duration,
    /// About cut-outs.
    warnings: Vec<String>,
}

impl Learning<'_, '_> {
    fn finish(mut self, output: PathBuf) -> Result<LearningResult, Error> {
        let before = self.comm.on_root(|| self.ledger.as_ref().map_or(Ok(Vec::new()), Ledger::rounds))?;
        let before = self.comm.share(before);
        before.iter().filter(|round| round.phase == Phase::Done).try_for_each(|round| self.observed(round))?;
        let outcome = self.learn()?;
        let result = self.comm.on_root(|| match &self.ledger {
            Some(ledger) => Ok::<_, Error>(Some((ledger.rounds()?, ledger.labels()?, ledger.write_final()?))),
            None => Ok(None),
        })?;
        let (rounds, labels, potential) = result.flatten().unwrap_or_default();
        let (run_seconds, swap_seconds) = (self.running.as_secs_f64(), self.swapping.as_secs_f64());
        Ok(LearningResult {
            outcome,
            rounds,
            potential,
            labels,
            run_seconds,
            swap_seconds,
            warnings: self.warnings,
            output,
        })
    }

    /// Tells the observer, on rank 0, of a round that is done.
    fn observed(&mut self, round: &Round) -> Result<(), Error> {
        let observer = &mut self.observer;
        self.comm.on_root(|| {
            observer(round);
            Ok::<_, Error>(())
        })?;
        Ok(())
    }

    /// The experiment. Each step leaves the round in its next phase, in the store, before it returns.
    fn learn(&mut self) -> Result<Outcome, Error> {
        loop {
            let end = match self.round.phase {
                Phase::Explore if self.out_of_time() => Some(Outcome::Time),
                Phase::Explore => self.explore()?,
                Phase::Select if self.round.number > self.settings.max_rounds => Some(Outcome::Rounds),
                Phase::Select => self.select()?,
                Phase::Label => self.label()?,
                Phase::Train => self.train()?,
                Phase::Done => Some(Outcome::Learned),
            };
            if let Some(outcome) = end {
                return Ok(outcome);
            }
        }
    }

    fn out_of_time(&self) -> bool {
        let over = self.settings.max_time.is_some_and(|limit| self.started.elapsed().as_secs_f64() > limit);
        self.comm.any(over)
    }

    /// Chooses what to label, of all that waits.
    fn select(&mut self) -> Result<Option<Outcome>, Error> {
        let settings = self.settings;
        let chosen = self.on_ledger(|ledger| ledger.select(settings))?;
        Ok(self.next(chosen))
    }

    /// Asks the oracle.
    fn label(&mut self) -> Result<Option<Outcome>, Error> {
        let (oracle, interrupt, ledger) = (&mut self.oracle, &self.interrupt, &mut self.ledger);
        let labelled =
            self.comm.on_root_alone(|| ledger.as_mut().map(|l| l.label(oracle.as_mut(), interrupt)).transpose())?;
        let labelled = self.comm.share(labelled.flatten());
        Ok(self.next(labelled))
    }

    /// Asks the trainer, tries what it has made, and lets the simulation go on with it.
    fn train(&mut self) -> Result<Option<Outcome>, Error> {
        let script = self.script()?;
        let (trainer, threshold, ledger) =
            (&mut self.trainer, self.config.watch.uncertainty_threshold, &mut self.ledger);
        let trained = self
            .comm
            .on_root_alone(|| ledger.as_mut().map(|l| l.train(trainer.as_mut(), &script, threshold)).transpose())?;
        let (potential, done, next) = match self.comm.share(trained.flatten()) {
            Step::Done((potential, done, next)) => (potential, done, next),
            Step::End(outcome) => return Ok(Some(outcome)),
        };
        self.config.system.potential = potential;
        if let Some(simulation) = &mut self.simulation {
            let begun = Instant::now();
            simulation.swap_potential(&self.config.system.potential)?;
            self.swapping += begun.elapsed();
            self.set_up();
        }
        self.observed(&done)?;
        self.round = next;
        Ok(None)
    }

    /// Notes that the run stands with its potential.
    fn set_up(&mut self) {
        self.ledger.iter_mut().for_each(Ledger::set_up);
    }

    /// Takes over what rank 0 has written down.
    fn next(&mut self, step: Step<Round>) -> Option<Outcome> {
        match step {
            Step::Done(round) => {
                self.round = round;
                None
            }
            Step::End(outcome) => Some(outcome),
        }
    }

    /// Does work on the ledger, on rank 0, while the others sleep; all get what it gives.
    fn on_ledger<T: Serialize + serde::de::DeserializeOwned>(
        &mut self,
        work: impl FnOnce(&mut Ledger) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let ledger = &mut self.ledger;
        let done = self.comm.on_root_alone(|| ledger.as_mut().map(work).transpose())?;
        Ok(self.comm.share(done.flatten()))
    }

    /// The set-up of the run with the present potential.
    fn script(&self) -> Result<Script, Error> {
        let data = self.folder.join(files::DATA);
        Ok(Script::new(&self.config, &self.outline, &data).map_err(simulation::Error::from)?)
    }

    /// The simulation where the round begins: the running one, or one that is set up from what was written down.
    fn simulation(&mut self) -> Result<Simulation, Error> {
        if let Some(running) = self.simulation.take() {
            return Ok(running);
        }
        let (data, log) =
            (self.folder.join(files::DATA), round_folder(&self.folder, self.round.number).join(files::LOG));
        // A round that was begun has written its log.
        let again = self.round.number > 1 || self.comm.any(self.comm.is_root() && log.exists());
        let earlier = if again { Earlier::Repeated } else { Earlier::None };
        let config = InferenceConfig { outputs: Outputs { earlier, ..Outputs::default() }, ..self.config.clone() };
        let simulation = match &self.round.restart {
            Some(restart) => {
                let restart = self.folder.join(restart);
                let from = Resumption { restart: &restart, step: self.round.from, first: 0 };
                Simulation::resume(&config, &self.outline, &data, from, Some(&log), &self.comm)
            }
            None => Simulation::new(&config, &self.outline, &data, Some(&log), &self.comm),
        }?;
        match simulation.first_step() {
            0 => Ok(simulation),
            step => Err(Error::Begun(step)),
        }
    }
}

/// What a step has come to.
#[derive(Serialize, Deserialize)]
enum Step<T> {
    /// It is done.
    Done(T),
    /// The loop ends.
    End(Outcome),
}

/// The folders of the rounds of a loop that have begun, the first first.
pub fn round_folders(loop_folder: &Path) -> impl Iterator<Item = PathBuf> {
    (1..).map(move |n| round_folder(loop_folder, n)).take_while(|folder| folder.is_dir())
}

fn round_folder(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("round-{number:03}"))
}
