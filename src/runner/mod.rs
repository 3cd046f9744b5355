// SPDX-License-Identifier: GPL-2.0-or-later
//! Runs a simulation, monitors γ, and extracts and stores candidates: the entry point for most users.

mod averages;
mod checkpoint;
mod error;
mod polls;
pub(crate) mod provenance;
mod recorder;
mod result;
mod run;
mod stage;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::calibration::{Calibration, ErrorBound, min_regions};
use crate::comm::Comm;
use crate::config::{InferenceConfig, Potential, Uncertainty};
use crate::embedding::EmbeddingExtractor;
use crate::script::{Earlier, Outputs};
use crate::simulation::{Poll, Resumption, Simulation};
use crate::structure::{Element, Structure};
use crate::{io, potential};

pub use averages::{Averages, EQUILIBRATION, Mean};
use checkpoint::Checkpoint;
pub use checkpoint::Parent;
pub use error::Error;
pub use polls::poll_files;
use recorder::{Recorder, SharedStore};
pub(crate) use recorder::{lock, write_atomic};
pub use result::{Cost, SimulationResult, Status, Stored};
use run::Run;
use stage::{Stage, no_atoms, share_path};
pub(crate) use stage::{data_file, inherit_permissions, outline, refuse_links};

/// Names of the files in the folder of a run.
pub mod files {
    /// The candidate store.
    pub const CANDIDATES: &str = "candidates.db";
    /// The result.
    pub const RESULT: &str = "result.json";
    /// One line for each poll. Earlier lines may be in the full files `polls.1.jsonl`, `polls.2.jsonl`, …: see
    /// [`poll_files`](super::poll_files).
    pub const POLLS: &str = "polls.jsonl";
    /// Locked by the process that runs in the folder.
    pub const LOCK: &str = "run.lock";
    /// The settings, versions and number of ranks of the run.
    pub const PROVENANCE: &str = super::provenance::FILE;
    /// The log of LAMMPS.
    pub const LOG: &str = "log.lammps";
    /// The initial structure as a LAMMPS data file.
    pub const DATA: &str = "data.lammps";
    /// The commands of the set-up, which plain `lmp` can run.
    pub const SCRIPT: &str = "md.in";
    /// Folder of the candidates as extended XYZ.
    pub const EXTXYZ: &str = "candidates";
    /// The last checkpoint. It names a LAMMPS restart file in the same folder.
    pub const CHECKPOINT: &str = "checkpoint.json";
    /// The LAMMPS restart file from which a run started that continues another one.
    pub const START: &str = "start.restart";
}

/// Called after each poll, on every rank.
type Observer<'o> = Box<dyn FnMut(&Poll) + 'o>;
/// Called for each stored candidate, on every rank.
type Announcer<'o> = Box<dyn FnMut(&Stored) + 'o>;

/// Runs simulations, monitors γ, and stores the candidates of events, flagged polls and crashes.
pub struct LammpsRunner<'o> {
    comm: Comm,
    output: PathBuf,
    observer: Option<Observer<'o>>,
    announcer: Option<Announcer<'o>>,
    interrupt: Arc<AtomicBool>,
    resume: bool,
    parent: Option<PathBuf>,
    store: Option<SharedStore>,
}

impl<'o> LammpsRunner<'o> {
    /// Creates a runner on the ranks of `comm`. The run writes to the new folder `output`.
    #[must_use]
    pub fn new(comm: &Comm, output: impl Into<PathBuf>) -> Self {
        Self {
            comm: comm.clone(),
            output: output.into(),
            observer: None,
            announcer: None,
            interrupt: Arc::default(),
            resume: false,
            parent: None,
            store: None,
        }
    }

    /// Calls `observer` after each poll. A panic in it ends the run on all ranks.
    #[must_use]
    pub fn observe(mut self, observer: impl FnMut(&Poll) + 'o) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Calls `announcer` for each candidate after it is written to the disk. A panic in it ends the run on all ranks.
    ///
    /// A resumed run announces the candidates after its checkpoint again, with the same ids.
    #[must_use]
    pub fn announce(mut self, announcer: impl FnMut(&Stored) + 'o) -> Self {
        self.announcer = Some(Box::new(announcer));
        self
    }

    /// Continues the run in the folder from its last checkpoint. Starts a new run if the folder is empty or missing.
    ///
    /// # Reproducibility
    /// Polls, candidates, counts and result are those of an uninterrupted run. Polls after the checkpoint are removed and
    /// written again; candidates after the checkpoint are kept, and are not stored twice.
    ///
    /// For NVE and Nosé–Hoover NVT on the same number of ranks, the trajectory is bitwise identical if the run was killed. If it
    /// ended normally, which writes an additional checkpoint, the trajectory is identical to that of a run with a checkpoint at
    /// that step. With a barostat or another number of ranks, the trajectory agrees to rounding. A Langevin thermostat
    /// continues with other random numbers.
    ///
    /// Files that `setup` writes are continued as well, without what was written after the checkpoint.
    ///
    /// Settings that do not affect the trajectory may be changed, and `steps` if no ramp depends on it.
    #[must_use]
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// If `folder` is given, starts from the last checkpoint of the run in it, which is not changed, instead of from the structure: with its
    /// positions, velocities, thermostat and steps, but with the potential and the settings of the new configuration. The
    /// structure must be the same, and `steps` and ramps count from the first step of the other run.
    ///
    /// The step of the checkpoint is polled again. A run of the same settings has the trajectory of the other run if that were
    /// resumed.
    #[must_use]
    pub fn continue_from(mut self, folder: Option<&Path>) -> Self {
        self.parent = folder.map(Path::to_path_buf);
        self
    }

    /// Stops at the next poll once `flag` is set, on any rank.
    #[must_use]
    pub fn interrupt_by(mut self, flag: Arc<AtomicBool>) -> Self {
        self.interrupt = flag;
        self
    }

    /// Stores candidates with the key `run_id` in the database at `path` instead of in the folder of the run. Several
    /// concurrent runs may share a database: an environment stored by one run is not stored again by another.
    #[must_use]
    pub fn store_in(mut self, path: impl Into<PathBuf>, run_id: impl Into<String>) -> Self {
        self.store = Some(SharedStore { path: path.into(), run_id: run_id.into() });
        self
    }

    /// Reads the structure of the configuration and runs molecular dynamics.
    ///
    /// # Errors
    /// As for [`LammpsRunner::run_md`], and if the structure cannot be read.
    ///
    /// # MPI
    /// Collective. The structure is read on rank 0.
    pub fn run(&mut self, config: &InferenceConfig) -> Result<SimulationResult, Error> {
        let (structure, notes) = read_structure(&self.comm, config)?;
        let prepared = self.prepare(&structure, config)?;
        // LAMMPS now holds the atoms, distributed over the ranks.
        drop(structure);
        self.finish(prepared, config, notes)
    }

    /// Sets up the simulation as [`LammpsRunner::run`] does, in a new folder, without running it.
    ///
    /// The folder contains `data.lammps`, `md.in` and `log.lammps`. No candidates are stored.
    ///
    /// # Errors
    /// As for [`LammpsRunner::run`].
    ///
    /// # MPI
    /// Collective. The structure is read on rank 0.
    pub fn simulation(&self, config: &InferenceConfig) -> Result<Simulation, Error> {
        let (structure, _) = read_structure(&self.comm, config)?;
        let calibration = read_calibration(config, &self.comm)?;
        let mut simulation = self.start(&structure, config, false)?.simulation;
        calibrate(&mut simulation, config, calibration);
        Ok(simulation)
    }

    /// Runs molecular dynamics of `structure` with `potential` until all steps are done, γ exceeds the threshold, or the run
    /// crashes.
    ///
    /// # Errors
    /// [`Error`]. Nothing is written if the set-up fails. Candidates stored before a later error are kept.
    ///
    /// # MPI
    /// Collective. The structure is used on rank 0 only, and rank 0 writes all files.
    pub fn run_md(
        &mut self,
        structure: &Structure,
        potential: &Potential,
        config: &InferenceConfig,
    ) -> Result<SimulationResult, Error> {
        let config = &config.with_potential(potential.clone());
        let prepared = self.prepare(structure, config)?;
        self.finish(prepared, config, Vec::new())
    }

    /// Sets up a new run, or a run that continues from its checkpoint.
    fn prepare(&self, structure: &Structure, config: &InferenceConfig) -> Result<PreparedRun, Error> {
        let calibration = read_calibration(config, &self.comm)?;
        let mut prepared = match self.find_checkpoint(structure, config)? {
            Some((from, lock)) => self.resume_run(structure, config, from, lock)?,
            None => self.start(structure, config, true)?,
        };
        prepared.warnings.extend(calibrate(&mut prepared.simulation, config, calibration));
        Ok(prepared)
    }

    /// Runs the simulation. `notes` are warnings of the structure file.
    fn finish(
        &mut self,
        prepared: PreparedRun,
        config: &InferenceConfig,
        notes: Vec<String>,
    ) -> Result<SimulationResult, Error> {
        let comm = self.comm.clone();
        let PreparedRun { simulation, extractor, folder, from, checkpointed, resumed, lock, warnings: noticed } =
            prepared;
        let cutoff = extractor.as_ref().map(EmbeddingExtractor::cutoff);
        let recorder =
            comm.on_root(|| Recorder::start(&folder, config, lock, cutoff, from.clone(), self.store.as_ref()))?;
        let parent = from.parent.as_ref();
        comm.on_root(|| provenance::write(&folder, config, parent, simulation.lammps(), comm.size()))?;
        let hash = comm.on_root(|| potential::fingerprint(&config.system.potential).map_err(Error::Potential))?;
        let potential_hash: String = comm.share(hash);
        let progress = from.progress;
        let mut warnings = progress.warnings;
        // The checkpoint of a resumed run contains them already.
        let new: Vec<String> = notes.into_iter().chain(noticed).filter(|note| !warnings.contains(note)).collect();
        warnings.extend(new);
        if resumed.is_some() && from.ranks != comm.size() {
            warnings.push(format!(
                "the run was started on {} ranks and resumed on {}, so the trajectory is reproduced only to rounding",
                from.ranks,
                comm.size()
            ));
        }
        let checkpoints = config.checkpoint_steps();
        if checkpoints.is_some() && !checkpoint::is_possible_in(&folder) {
            warnings.push(
                "no checkpoints are written: the path of the folder contains `*` or `%`, which LAMMPS expands in the \
                 names of restart files"
                    .into(),
            );
        }
        let threshold = simulation.thresholds().high;
        Run {
            comm,
            config,
            simulation,
            extractor,
            recorder,
            observer: self.observer.as_mut(),
            announcer: self.announcer.as_mut(),
            interrupt: &self.interrupt,
            result: SimulationResult {
                status: Status::Completed,
                trigger_step: progress.trigger_step,
                threshold,
                gamma_max: progress.gamma_max.and_then(|text| text.parse().ok()),
                atom_id: progress.atom_id,
                candidates: progress.candidates,
                audits: progress.audits,
                steps: from.step - from.first,
                flagged: progress.flagged,
                known: progress.known,
                crash: None,
                warnings,
                more_warnings: progress.more_warnings,
                last: progress.last,
                averages: None,
                atoms: 0,
                seconds: progress.seconds,
                event_seconds: None,
                commit_seconds: None,
                ranks: self.comm.size(),
                cost: Cost::default(),
                continues: from.parent,
                output: self.output.clone(),
            },
            last_flag: from.last_flag,
            fallback: None,
            potential_hash,
            checkpoints: checkpoints.filter(|_| checkpoint::is_possible_in(&folder)),
            checkpointed,
            resumed,
            extraction_failed: progress.extraction_failed,
            sums: progress.sums,
            unwritable: false,
            folder,
            store: self.store.as_ref(),
        }
        .run()
    }

    /// The checkpoint to continue from, if resuming was requested and there is one; on rank 0 with the lock of the folder.
    fn find_checkpoint(
        &self,
        structure: &Structure,
        config: &InferenceConfig,
    ) -> Result<Option<(Checkpoint, Option<File>)>, Error> {
        if !self.resume {
            return Ok(None);
        }
        let found = self.comm.on_root(|| {
            refuse_links([&self.output, &self.output.join(files::EXTXYZ)])?;
            let Some(found) = Checkpoint::read(&self.output)? else { return Ok(None) };
            found.check(config, &data_file(structure, config)?, &self.output)?;
            self.parent.as_deref().map_or(Ok(()), |parent| found.check_parent(&self.output, parent))?;
            Ok::<_, Error>(Some((found, lock(&self.output.join(files::LOCK))?)))
        })?;
        let (found, lock) = found.flatten().unzip();
        let bytes = self.comm.broadcast(0, serde_json::to_vec(&found).expect("numbers and names"));
        let found: Option<Checkpoint> = serde_json::from_slice(&bytes).expect("as rank 0 wrote it");
        Ok(found.map(|found| (found, lock)))
    }

    /// Sets up a new run. Its folder appears only after the set-up has succeeded.
    fn start(&self, structure: &Structure, config: &InferenceConfig, resumable: bool) -> Result<PreparedRun, Error> {
        let comm = &self.comm;
        let staged = comm.on_root(|| {
            let data = data_file(structure, config)?;
            let stage = Stage::new(&self.output, &data)?;
            let parent = self
                .parent
                .as_deref()
                .map(|folder| stage.copy_state(folder, config, &data).map(|found| found.as_parent(folder)));
            Ok::<_, Error>((stage, data, parent.transpose()?))
        })?;
        let folder = share_path(comm, staged.as_ref().map(|(stage, ..)| stage.folder.path()));
        let outline = outline(comm, structure);
        let (data, log) = (folder.join(files::DATA), folder.join(files::LOG));
        let parent: Option<Parent> = comm.share(staged.as_ref().map(|(.., parent)| parent.clone()));
        let mut simulation = match &parent {
            Some(Parent { step, steps, .. }) => {
                let (step, first) = (*step, step - steps);
                let from = Resumption { restart: &folder.join(files::START), step, first, bias: None };
                Simulation::resume(config, &outline, &data, from, Some(&log), comm)
            }
            None => Simulation::new(config, &outline, &data, Some(&log), comm),
        }?;
        let extractor = self.extractor(config)?;
        let made = comm.on_root(|| {
            let (stage, data, _) = staged.expect("made on the root");
            if resumable {
                check_size(config, extractor.as_ref(), structure)?;
            }
            stage.write_script(&simulation, parent.as_ref().map(|parent| parent.step), config.checkpoint_steps())?;
            let mut from = Checkpoint::at_start(config, &data, comm.size())?;
            if let Some(parent) = parent.clone() {
                from = from.continuing(parent);
            }
            from.files = simulation.file_lengths();
            if resumable {
                stage.write_checkpoint(&from)?;
            }
            let folder = stage.publish(&self.output)?;
            let lock = if resumable { Some(lock(&folder.join(files::LOCK))?) } else { None };
            Ok::<_, Error>((folder, from, lock))
        })?;
        let folder = share_path(comm, made.as_ref().map(|(folder, ..)| folder.as_path()));
        simulation.set_data_file(&folder.join(files::DATA))?;
        let (from, lock) = match made {
            Some((_, from, lock)) => (from, lock),
            None => {
                let from = Checkpoint::empty(comm.size());
                (if let Some(parent) = parent.clone() { from.continuing(parent) } else { from }, None)
            }
        };
        let (checkpointed, warnings) = (parent.map(|parent| parent.step), Vec::new());
        Ok(PreparedRun { simulation, extractor, folder, from, checkpointed, resumed: None, lock, warnings })
    }

    /// Sets up a run that continues from a checkpoint.
    fn resume_run(
        &self,
        structure: &Structure,
        config: &InferenceConfig,
        from: Checkpoint,
        lock: Option<File>,
    ) -> Result<PreparedRun, Error> {
        let comm = &self.comm;
        let absolute = comm.on_root(|| {
            let writing = |source| Error::Write { path: self.output.clone(), source };
            std::path::absolute(&self.output).map_err(writing)
        })?;
        let folder = share_path(comm, absolute.as_deref());
        let outline = outline(comm, structure);
        let (data, log) = (folder.join(files::DATA), folder.join(files::LOG));
        let simulation = match &from.restart {
            Some(name) => {
                let (step, first, bias) = (from.step, from.first, from.progress.bias);
                let restart = Resumption { restart: &folder.join(name), step, first, bias };
                Simulation::resume(config, &outline, &data, restart, Some(&log), comm)
            }
            None => {
                let outputs = Outputs { earlier: Earlier::Resumed(0), ..config.outputs.clone() };
                Simulation::new(&InferenceConfig { outputs, ..config.clone() }, &outline, &data, Some(&log), comm)
            }
        }?;
        let extractor = self.extractor(config)?;
        comm.on_root(|| check_size(config, extractor.as_ref(), structure))?;
        // A run that continues another one has not polled the first step itself until its own first checkpoint.
        let resumed = from.progress.last.is_some().then_some(from.step);
        let mut warnings = Vec::new();
        comm.on_root(|| {
            let writing = |source| Error::Write { path: folder.join(files::CHECKPOINT), source };
            for file in simulation.truncate_files(&from.files).map_err(writing)? {
                warnings.push(format!(
                    "{} is not continued: the run was started in another folder, where its relative path named another file",
                    file.display()
                ));
            }
            Ok::<_, Error>(())
        })?;
        let checkpointed = from.restart.is_some().then_some(from.step);
        Ok(PreparedRun { simulation, extractor, folder, from, checkpointed, resumed, lock, warnings })
    }

    /// Creates the extractor. Called after LAMMPS has read the potential, because LAMMPS reports errors in its files more precisely.
    fn extractor(&self, config: &InferenceConfig) -> Result<Option<EmbeddingExtractor>, Error> {
        let cutoff = self.comm.agree(potential::cutoff(&config.system.potential).map_err(Error::Potential))?;
        match cutoff {
            Some(cutoff) => Ok(Some(EmbeddingExtractor::new(&config.candidates.embedding, cutoff)?)),
            None if config.watch.uncertainty != Uncertainty::None => Err(Error::Cutoff),
            None => Ok(None),
        }
    }
}

/// Checks that cut-outs of the initial structure are not larger than `max_atoms`, so that events can be stored.
fn check_size(
    config: &InferenceConfig,
    extractor: Option<&EmbeddingExtractor>,
    structure: &Structure,
) -> Result<(), Error> {
    let monitored = extractor.filter(|_| config.watch.uncertainty != Uncertainty::None);
    Ok(monitored.map_or(Ok(()), |extractor| extractor.check_size(structure))?)
}

/// Whether a run has polls, but ended before its first checkpoint. If it is resumed, it restarts at its first step.
#[must_use]
pub fn restarts_from_beginning(folder: &Path) -> bool {
    let polled = folder.join(files::POLLS).metadata().is_ok_and(|polls| polls.len() > 0);
    polled && Checkpoint::read(folder).is_ok_and(|found| found.is_some_and(|found| found.progress.last.is_none()))
}

/// Reads the structure of the configuration on rank 0, with warnings about the file. Other ranks get a structure without
/// atoms, and so do all ranks if LAMMPS creates the atoms.
///
/// # Errors
/// If the file cannot be read, or if an element is unknown.
///
/// # MPI
/// Collective.
pub(crate) fn read_structure(comm: &Comm, config: &InferenceConfig) -> Result<(Structure, Vec<String>), Error> {
    let structure = comm.on_root(|| {
        let elements: Option<Vec<Element>> =
            config.system.elements.iter().map(|s| crate::structure::element_from_symbol(s)).collect();
        let elements = elements.ok_or_else(|| Error::InvalidStructure {
            name: "elements".into(),
            message: format!("{:?} contains a symbol that is not a chemical element", config.system.elements),
        })?;
        if !config.system.create.is_empty() {
            return Ok((Structure { elements, ..no_atoms() }, Vec::new()));
        }
        let hint = (!elements.is_empty()).then_some(&elements[..]);
        Ok::<_, Error>(io::read_with_warnings(&config.system.structure, hint, io::Frame::Last)?)
    })?;
    Ok(structure.unwrap_or_else(|| (no_atoms(), Vec::new())))
}

/// A run that is set up.
struct PreparedRun {
    simulation: Simulation,
    extractor: Option<EmbeddingExtractor>,
    /// Absolute path of the folder of the run, on all ranks.
    folder: PathBuf,
    /// The checkpoint to continue from.
    from: Checkpoint,
    /// The step of the restart file that the run continues from.
    checkpointed: Option<i64>,
    /// That step, if its poll is recorded.
    resumed: Option<i64>,
    /// The lock of the folder, on rank 0.
    lock: Option<File>,
    /// Warnings of the set-up, on rank 0.
    warnings: Vec<String>,
}

/// The calibration in the configuration; `None` if there is none.
///
/// # Errors
/// [`Error::Calibration`] if the file cannot be used.
///
/// # MPI
/// Collective.
fn read_calibration(config: &InferenceConfig, comm: &Comm) -> Result<Option<Calibration>, Error> {
    let tolerated = config.watch.uncertainty_threshold.tolerated();
    let Some(path) = tolerated.and_then(|tolerated| tolerated.calibration.as_ref()) else { return Ok(None) };
    let read = comm.on_root(|| {
        let unusable = |reason| Error::Calibration { path: path.clone(), reason };
        let (calibration, of) = Calibration::read(path).map_err(unusable)?;
        let own = potential::fingerprint(&config.system.potential).map_err(Error::Potential)?;
        match of {
            Some(other) if other != own => Err(unusable(format!(
                "it is that of the potential {other}, and the run uses {own}: calibrate again with --potential"
            ))),
            _ => Ok(calibration),
        }
    })?;
    Ok(Some(comm.share(read)))
}

/// Sets the threshold of γ if it follows from a calibration. Returns a warning if there is no such threshold.
fn calibrate(
    simulation: &mut Simulation,
    config: &InferenceConfig,
    calibration: Option<Calibration>,
) -> Option<String> {
    let tolerated = config.watch.uncertainty_threshold.tolerated()?;
    let (error, coverage, fallback) = (tolerated.force_error, tolerated.coverage, tolerated.fallback);
    let Some(calibration) = calibration else {
        return Some(format!(
            "the threshold of γ is the fallback {fallback}: `uncertainty_threshold` has no `calibration`, a file that `lammps-otf \
             calibrate --json` writes"
        ));
    };
    let found = calibration.threshold(error, coverage);
    let warning = match found.map(|found| found.gamma()) {
        Some(Some(_)) => None,
        Some(None) => Some(format!("every poll is an event: the predicted force error is above {error} eV/Å at any γ")),
        None => Some(format!(
            "the threshold of γ is the fallback {fallback}: a coverage of {coverage} requires {} labelled regions, and the \
             calibration has {}",
            min_regions(coverage),
            calibration.regions()
        )),
    };
    let threshold = found.map_or(fallback, |found| found.gamma().unwrap_or(0.0));
    simulation.set_threshold(threshold, Some(ErrorBound::new(calibration, coverage)));
    warning
}
