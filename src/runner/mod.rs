// SPDX-License-Identifier: GPL-2.0-or-later
//! The one call that most users need: run, watch, stop, cut out, store.

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

use crate::comm::Comm;
use crate::config::{InferenceConfig, Potential, Uncertainty};
use crate::embedding::EmbeddingExtractor;
use crate::script::{Earlier, Outputs};
use crate::simulation::{Poll, Resumption, Simulation};
use crate::structure::{Element, Structure};
use crate::{io, potential};

use checkpoint::Checkpoint;
pub use error::Error;
pub use polls::poll_files;
use recorder::{Recorder, SharedStore};
pub(crate) use recorder::{lock, write_aside};
pub use result::{Cost, SimulationResult, Status, Stored};
use run::Run;
use stage::{Stage, no_atoms, share_path};
pub(crate) use stage::{data_file, open_to_all, outline, without_links};

/// Files of a run, in its folder.
pub mod files {
    /// The store.
    pub const CANDIDATES: &str = "candidates.db";
    /// The result.
    pub const RESULT: &str = "result.json";
    /// One line for each poll. What is full before is `polls.1.jsonl`, `polls.2.jsonl`, …: see
    /// [`poll_files`](super::poll_files).
    pub const POLLS: &str = "polls.jsonl";
    /// The file that the process which runs here has locked.
    pub const LOCK: &str = "run.lock";
    /// The settings, the versions and the number of ranks that it was run with.
    pub const PROVENANCE: &str = super::provenance::FILE;
    /// LAMMPS's log.
    pub const LOG: &str = "log.lammps";
    /// The initial structure as LAMMPS read it.
    pub const DATA: &str = "data.lammps";
    /// The set-up commands, for plain `lmp`.
    pub const SCRIPT: &str = "md.in";
    /// The candidates as extended XYZ.
    pub const EXTXYZ: &str = "candidates";
    /// What the run goes on from; names a LAMMPS restart file beside it.
    pub const CHECKPOINT: &str = "checkpoint.json";
}

/// Called after each poll, on every rank.
type Observer<'o> = Box<dyn FnMut(&Poll) + 'o>;
/// Called after each candidate, on every rank.
type Announcer<'o> = Box<dyn FnMut(&Stored) + 'o>;

/// Runs simulations under watch, and stores what their potential does not know.
pub struct LammpsRunner<'o> {
    comm: Comm,
    output: PathBuf,
    observer: Option<Observer<'o>>,
    announcer: Option<Announcer<'o>>,
    interrupt: Arc<AtomicBool>,
    resume: bool,
    store: Option<SharedStore>,
}

impl<'o> LammpsRunner<'o> {
    /// A runner on the ranks of `comm`, whose run writes into the new folder `output`.
    #[must_use]
    pub fn new(comm: &Comm, output: impl Into<PathBuf>) -> Self {
        Self {
            comm: comm.clone(),
            output: output.into(),
            observer: None,
            announcer: None,
            interrupt: Arc::default(),
            resume: false,
            store: None,
        }
    }

    /// Calls `observer` after each poll. A panic in it ends the run on all ranks.
    #[must_use]
    pub fn observe(mut self, observer: impl FnMut(&Poll) + 'o) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Calls `announcer` for each candidate once it is safe on the disk. A panic in it ends the run on all ranks.
    ///
    /// A resumed run announces those again that it comes across again, with the same number.
    #[must_use]
    pub fn announce(mut self, announcer: impl FnMut(&Stored) + 'o) -> Self {
        self.announcer = Some(Box::new(announcer));
        self
    }

    /// Goes on with the run in the folder from its last checkpoint, if there is one, and begins it if there is none.
    ///
    /// # What is the same
    /// As after a run that was never interrupted: the polls (those after the checkpoint are dropped and made again), the
    /// candidates (those after the checkpoint stay, and are not stored twice), counts and result. The trajectory of NVE and
    /// Nosé–Hoover NVT runs on the same number of ranks is the same bit for bit, if the run was killed; if it ended in good
    /// order, with a checkpoint of its own, it is that of a run with a checkpoint there. A barostat, and another number of
    /// ranks, keep it to rounding; the random numbers of a Langevin thermostat are others.
    ///
    /// Files that `setup` writes go on as well: what was written after the checkpoint is cut off.
    ///
    /// The configuration may change in what does not touch the trajectory, and in `steps` if no ramp depends on it.
    #[must_use]
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Stops at the next poll once `flag` is set, on any rank.
    #[must_use]
    pub fn interrupt_by(mut self, flag: Arc<AtomicBool>) -> Self {
        self.interrupt = flag;
        self
    }

    /// Stores candidates in the database at `path` in place of one in the run's folder, each with the key `run_id`. Several
    /// runs may share it, also at the same time: what one has stored, the others do not store again.
    #[must_use]
    pub fn store_in(mut self, path: impl Into<PathBuf>, run_id: impl Into<String>) -> Self {
        self.store = Some(SharedStore { path: path.into(), run_id: run_id.into() });
        self
    }

    /// Reads the structure that the configuration names, and runs.
    ///
    /// # Errors
    /// As [`LammpsRunner::run_md`]; also if the structure cannot be read.
    ///
    /// # MPI
    /// Collective. The structure is read on rank 0.
    pub fn run(&mut self, config: &InferenceConfig) -> Result<SimulationResult, Error> {
        let (structure, notes) = read_structure(&self.comm, config)?;
        let ready = self.prepare(&structure, config)?;
        // From here on LAMMPS has the atoms, each rank its own.
        drop(structure);
        self.finish(ready, config, notes)
    }

    /// Sets everything up as [`LammpsRunner::run`] does, in a new folder, and leaves the running to the caller.
    ///
    /// In the folder are `data.lammps`, `md.in` and `log.lammps`; nothing watches and nothing is stored.
    ///
    /// # Errors
    /// As [`LammpsRunner::run`].
    ///
    /// # MPI
    /// Collective. The structure is read on rank 0.
    pub fn simulation(&self, config: &InferenceConfig) -> Result<Simulation, Error> {
        let (structure, _) = read_structure(&self.comm, config)?;
        Ok(self.begin(&structure, config, false)?.simulation)
    }

    /// Runs molecular dynamics of `structure` with `potential` until the steps are done, γ passes the threshold, or the
    /// run breaks.
    ///
    /// # Errors
    /// [`Error`]. Nothing is written if the set-up fails. Whatever was stored before a later error stays stored.
    ///
    /// # MPI
    /// Collective. Only rank 0's structure is looked at; rank 0 writes all files.
    pub fn run_md(
        &mut self,
        structure: &Structure,
        potential: &Potential,
        config: &InferenceConfig,
    ) -> Result<SimulationResult, Error> {
        let config = &config.with_potential(potential.clone());
        let ready = self.prepare(structure, config)?;
        self.finish(ready, config, Vec::new())
    }

    /// Sets a run up, from its beginning or from its checkpoint.
    fn prepare(&self, structure: &Structure, config: &InferenceConfig) -> Result<Ready, Error> {
        match self.find(structure, config)? {
            Some((from, lock)) => self.go_on(structure, config, from, lock),
            None => self.begin(structure, config, true),
        }
    }

    /// Runs what is set up; `notes` are warnings of the set-up.
    fn finish(
        &mut self,
        ready: Ready,
        config: &InferenceConfig,
        notes: Vec<String>,
    ) -> Result<SimulationResult, Error> {
        let comm = self.comm.clone();
        let Ready { simulation, extractor, folder, from, resumed, lock, warnings: noticed } = ready;
        let cutoff = extractor.as_ref().map(EmbeddingExtractor::cutoff);
        let recorder =
            comm.on_root(|| Recorder::begin(&folder, config, lock, cutoff, from.clone(), self.store.as_ref()))?;
        comm.on_root(|| provenance::write(&folder, config, simulation.lammps(), &comm))?;
        let hash = comm.on_root(|| potential::fingerprint(&config.system.potential).map_err(Error::Potential))?;
        let potential_hash: String = comm.share(hash);
        let progress = from.progress;
        let mut warnings = progress.warnings;
        // A resumed run has them already.
        let new: Vec<String> = notes.into_iter().chain(noticed).filter(|note| !warnings.contains(note)).collect();
        warnings.extend(new);
        if resumed.is_some() && from.ranks != comm.size() {
            warnings.push(format!(
                "begun on {} ranks and resumed on {}: the trajectory is the same but for rounding",
                from.ranks,
                comm.size()
            ));
        }
        let checkpoints = config.checkpoint_steps();
        if checkpoints.is_some() && !checkpoint::is_possible_in(&folder) {
            warnings
                .push("no checkpoints are written: LAMMPS takes `*` and `%` in the folder's name for patterns".into());
        }
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
                gamma_max: progress.gamma_max.and_then(|text| text.parse().ok()),
                atom_id: progress.atom_id,
                candidates: progress.candidates,
                steps: from.step - from.first,
                flagged: progress.flagged,
                known: progress.known,
                crash: None,
                warnings,
                more_warnings: progress.more_warnings,
                last: progress.last,
                atoms: 0,
                seconds: progress.seconds,
                event_seconds: None,
                commit_seconds: None,
                ranks: self.comm.size(),
                cost: Cost::default(),
                output: self.output.clone(),
            },
            last_flag: from.last_flag,
            fallback: None,
            potential_hash,
            checkpoints: checkpoints.filter(|_| checkpoint::is_possible_in(&folder)),
            checkpointed: resumed,
            resumed,
            missed: progress.missed,
            unwritable: false,
            folder,
            store: self.store.as_ref(),
        }
        .finish()
    }

    /// The checkpoint to go on from, if the runner is to resume and there is one; on rank 0 with the lock of its folder.
    fn find(
        &self,
        structure: &Structure,
        config: &InferenceConfig,
    ) -> Result<Option<(Checkpoint, Option<File>)>, Error> {
        if !self.resume {
            return Ok(None);
        }
        let found = self.comm.on_root(|| {
            without_links([&self.output, &self.output.join(files::EXTXYZ)])?;
            let Some(found) = Checkpoint::read(&self.output)? else { return Ok(None) };
            found.check(config, &data_file(structure, config)?, &self.output)?;
            Ok::<_, Error>(Some((found, lock(&self.output.join(files::LOCK))?)))
        })?;
        let (found, lock) = found.flatten().unzip();
        let bytes = self.comm.broadcast(0, serde_json::to_vec(&found).expect("numbers and names"));
        let found: Option<Checkpoint> = serde_json::from_slice(&bytes).expect("as rank 0 wrote it");
        Ok(found.map(|found| (found, lock)))
    }

    /// Sets a run up, in a folder that appears only when all has gone well.
    fn begin(&self, structure: &Structure, config: &InferenceConfig, resumable: bool) -> Result<Ready, Error> {
        let comm = &self.comm;
        let staged = comm.on_root(|| {
            let data = data_file(structure, config)?;
            let stage = Stage::new(&self.output, &data)?;
            Ok::<_, Error>((stage, data))
        })?;
        let folder = share_path(comm, staged.as_ref().map(|(stage, _)| stage.folder.path()));
        let outline = outline(comm, structure);
        let (data, log) = (folder.join(files::DATA), folder.join(files::LOG));
        let mut simulation = Simulation::new(config, &outline, &data, Some(&log), comm)?;
        let extractor = self.extractor(config)?;
        let made = comm.on_root(|| {
            let (stage, data) = staged.expect("made on the root");
            if resumable {
                check_size(config, extractor.as_ref(), structure)?;
            }
            stage.write_script(&simulation, config.checkpoint_steps())?;
            let mut from = Checkpoint::at_start(config, &data, comm.size())?;
            from.files = simulation.file_lengths();
            if resumable {
                stage.write_checkpoint(&from)?;
            }
            let folder = stage.keep(&self.output)?;
            let lock = if resumable { Some(lock(&folder.join(files::LOCK))?) } else { None };
            Ok::<_, Error>((folder, from, lock))
        })?;
        let folder = share_path(comm, made.as_ref().map(|(folder, ..)| folder.as_path()));
        simulation.data_moved(&folder.join(files::DATA))?;
        let (from, lock) = match made {
            Some((_, from, lock)) => (from, lock),
            None => (Checkpoint::elsewhere(comm.size()), None),
        };
        Ok(Ready { simulation, extractor, folder, from, resumed: None, lock, warnings: Vec::new() })
    }

    /// Sets a run up that was begun before.
    fn go_on(
        &self,
        structure: &Structure,
        config: &InferenceConfig,
        from: Checkpoint,
        lock: Option<File>,
    ) -> Result<Ready, Error> {
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
                let restart = Resumption { restart: &folder.join(name), step: from.step, first: from.first };
                Simulation::resume(config, &outline, &data, restart, Some(&log), comm)
            }
            None => {
                let outputs = Outputs { earlier: Earlier::Resumed(0), ..config.outputs.clone() };
                Simulation::new(&InferenceConfig { outputs, ..config.clone() }, &outline, &data, Some(&log), comm)
            }
        }?;
        let extractor = self.extractor(config)?;
        comm.on_root(|| check_size(config, extractor.as_ref(), structure))?;
        let resumed = from.restart.is_some().then_some(from.step);
        let mut warnings = Vec::new();
        comm.on_root(|| {
            let writing = |source| Error::Write { path: folder.join(files::CHECKPOINT), source };
            for file in simulation.cut_files(&from.files).map_err(writing)? {
                warnings.push(format!(
                    "{} is not continued, because the run was begun in another folder, where `setup` names another file",
                    file.display()
                ));
            }
            Ok::<_, Error>(())
        })?;
        Ok(Ready { simulation, extractor, folder, from, resumed, lock, warnings })
    }

    /// Only after LAMMPS has read the potential: it says better than we could what is wrong with its files.
    fn extractor(&self, config: &InferenceConfig) -> Result<Option<EmbeddingExtractor>, Error> {
        let cutoff = self.comm.agree(potential::cutoff(&config.system.potential).map_err(Error::Potential))?;
        match cutoff {
            Some(cutoff) => Ok(Some(EmbeddingExtractor::new(&config.candidates.embedding, cutoff)?)),
            None if config.watch.uncertainty != Uncertainty::None => Err(Error::Cutoff),
            None => Ok(None),
        }
    }
}

/// Refuses a run of which no event could be stored.
fn check_size(
    config: &InferenceConfig,
    extractor: Option<&EmbeddingExtractor>,
    structure: &Structure,
) -> Result<(), Error> {
    let watched = extractor.filter(|_| config.watch.uncertainty != Uncertainty::None);
    Ok(watched.map_or(Ok(()), |extractor| extractor.check_size(structure))?)
}

/// Whether the folder is that of a run which ended before its first checkpoint, although it had gone on for some polls: resumed, it
/// begins at its first step again.
#[must_use]
pub fn begins_again(folder: &Path) -> bool {
    let polled = folder.join(files::POLLS).metadata().is_ok_and(|polls| polls.len() > 0);
    polled && Checkpoint::read(folder).is_ok_and(|found| found.is_some_and(|found| found.restart.is_none()))
}

/// The structure that the configuration names, on rank 0; the others get one without atoms, and all do where LAMMPS is to
/// create it. On rank 0 also warnings of the file.
///
/// # MPI
/// Collective.
pub(crate) fn read_structure(comm: &Comm, config: &InferenceConfig) -> Result<(Structure, Vec<String>), Error> {
    let structure = comm.on_root(|| {
        let elements: Option<Vec<Element>> =
            config.system.elements.iter().map(|s| crate::structure::element_from_symbol(s)).collect();
        let elements = elements.ok_or_else(|| Error::Unsound {
            name: "elements".into(),
            message: format!("{:?} holds a symbol that is no chemical element", config.system.elements),
        })?;
        if !config.system.create.is_empty() {
            return Ok((Structure { elements, ..no_atoms() }, Vec::new()));
        }
        let hint = (!elements.is_empty()).then_some(&elements[..]);
        Ok::<_, Error>(io::read_noting(&config.system.structure, hint, io::Frame::Last)?)
    })?;
    Ok(structure.unwrap_or_else(|| (no_atoms(), Vec::new())))
}

/// All that a run begins with.
struct Ready {
    simulation: Simulation,
    extractor: Option<EmbeddingExtractor>,
    /// Where all ranks find the run's files; absolute.
    folder: PathBuf,
    from: Checkpoint,
    /// The step of the restart file that it goes on from.
    resumed: Option<i64>,
    /// On rank 0.
    lock: Option<File>,
    /// What was noticed on the way, on rank 0.
    warnings: Vec<String>,
}
