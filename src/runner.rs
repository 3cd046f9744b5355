// SPDX-License-Identifier: GPL-2.0-or-later
//! The one call that most users need: run, watch, stop, cut out, store.

use std::cmp::Ordering as Order;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ndarray::{Array1, Array2};
use serde::Serialize;

use crate::candidates::{Candidate, CandidateKeys, Store, Trigger};
use crate::comm::{Comm, Elsewhere};
use crate::config::{InferenceConfig, Mode, Potential};
use crate::embedding::{EmbeddingExtractor, Environment, Novelty};
use crate::io::{self, extxyz};
use crate::potential;
use crate::simulation::{self, Crash, CutOut, Event, Poll, Region, Simulation};
use crate::structure::{Cell, Element, Structure};
use crate::uncertainty::Verdict;
use crate::verify::{Verification, relax, verify};

/// Files of a run, in its folder.
pub mod files {
    /// The store.
    pub const CANDIDATES: &str = "candidates.db";
    /// The result.
    pub const RESULT: &str = "result.json";
    /// One line for each poll.
    pub const POLLS: &str = "polls.jsonl";
    /// LAMMPS's log.
    pub const LOG: &str = "log.lammps";
    /// The initial structure as LAMMPS read it.
    pub const DATA: &str = "data.lammps";
    /// The set-up commands, for plain `lmp`.
    pub const SCRIPT: &str = "md.in";
    /// The candidates as extended XYZ.
    pub const EXTXYZ: &str = "candidates";
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// All steps were done.
    Completed,
    /// γ passed the threshold.
    Uncertain,
    /// The run broke.
    Crashed,
    /// A signal or the wall-time limit.
    Interrupted,
}

/// What a run gives.
#[derive(Debug, Clone, Serialize)]
pub struct SimulationResult {
    /// How it ended.
    pub status: Status,
    /// The step at which γ passed the threshold first, or at which the run broke.
    pub trigger_step: Option<i64>,
    /// The largest γ that was seen in the run; `null` if it is infinite, or if the run was not watched.
    pub gamma_max: Option<f64>,
    /// The worst atom of the last event.
    pub atom_id: Option<i32>,
    /// Numbers of the stored candidates in `candidates.db`.
    pub candidates: Vec<i64>,
    /// Steps done.
    pub steps: i64,
    /// Polls between the thresholds.
    pub flagged: u64,
    /// Regions that were not stored because their like was.
    pub known: u64,
    /// What broke, if the run crashed.
    pub crash: Option<Crash>,
    /// Why a region was not stored.
    pub warnings: Vec<String>,
    /// The state at the last poll.
    pub last: Option<Poll>,
    /// Number of atoms.
    pub atoms: u64,
    /// Wall time in seconds, of the run without its set-up.
    pub seconds: f64,
    /// Number of MPI ranks.
    pub ranks: usize,
    /// The run's folder.
    pub output: PathBuf,
}

/// An error that ends a run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The structure cannot be read.
    #[error(transparent)]
    Structure(#[from] io::Error),
    /// The structure cannot be simulated.
    #[error("the structure {name}: {message}")]
    Unsound {
        /// Its file.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// The folder is in use.
    #[error("{} already holds a run: choose another folder with --output", .0.display())]
    Occupied(PathBuf),
    /// A file of the run cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The potential's files cannot be read.
    #[error("cannot read the potential: {0}")]
    Potential(std::io::Error),
    /// How far the potential reaches is not known.
    #[error("the cutoff of the potential is not known: give `cutoff` in [potential], in Å")]
    Cutoff,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::candidates::StoreError),
    /// The set-up or the run failed.
    #[error(transparent)]
    Simulation(#[from] simulation::Error),
    /// This rank failed alone during the run; the result and its candidate are written.
    #[error(transparent)]
    Alone(simulation::Error),
    /// The embedding is configured badly.
    #[error("[embedding]: {0}")]
    Embedding(#[from] crate::embedding::Error),
    /// Another rank failed.
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
}

impl Error {
    /// Whether one rank failed alone, so that only [`Comm::abort`] can end the job.
    #[must_use]
    pub fn must_abort(&self) -> bool {
        matches!(self, Self::Alone(_) | Self::Simulation(simulation::Error::OneRank { .. }))
    }

    /// Whether the run crashed in a way that left its result behind all the same, as another crash does.
    #[must_use]
    pub fn is_recorded_crash(&self) -> bool {
        matches!(self, Self::Alone(_))
    }

    /// Whether this rank stopped because another one failed, and has nothing to say itself.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Elsewhere(_) | Self::Simulation(simulation::Error::Elsewhere(_)))
    }

    /// Whether the run had begun: errors before that are errors of the input.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::Write { .. } | Self::Store(_) | Self::Alone(_) => false,
            Self::Simulation(e) => !matches!(e, simulation::Error::OneRank { .. }),
            _ => true,
        }
    }
}

/// Called after each poll, on every rank.
type Observer<'o> = Box<dyn FnMut(&Poll) + 'o>;

/// Runs simulations under watch, and stores what their potential does not know.
pub struct LammpsRunner<'o> {
    comm: Comm,
    output: PathBuf,
    observer: Option<Observer<'o>>,
    interrupt: Arc<AtomicBool>,
}

impl<'o> LammpsRunner<'o> {
    /// A runner on the ranks of `comm`, whose run writes into the new folder `output`.
    #[must_use]
    pub fn new(comm: &Comm, output: impl Into<PathBuf>) -> Self {
        Self { comm: comm.clone(), output: output.into(), observer: None, interrupt: Arc::default() }
    }

    /// Calls `observer` after each poll. A panic in it ends the run on all ranks.
    #[must_use]
    pub fn observe(mut self, observer: impl FnMut(&Poll) + 'o) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Stops at the next poll once `flag` is set, on any rank.
    #[must_use]
    pub fn interrupt_by(mut self, flag: Arc<AtomicBool>) -> Self {
        self.interrupt = flag;
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
        let structure = self.comm.on_root(|| {
            let elements: Option<Vec<Element>> =
                config.elements.iter().map(|s| crate::structure::element_from_symbol(s)).collect();
            let elements = elements.ok_or_else(|| Error::Unsound {
                name: "elements".into(),
                message: format!("{:?} holds a symbol that is no chemical element", config.elements),
            })?;
            let hint = (!elements.is_empty()).then_some(&elements[..]);
            Ok::<_, Error>(io::read(&config.structure, hint)?)
        })?;
        let structure = structure.unwrap_or_else(no_atoms);
        self.run_md(&structure, &config.potential, config)
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
        let config = &InferenceConfig { potential: potential.clone(), ..config.clone() };
        let comm = self.comm.clone();
        let name = config.structure.display().to_string();
        let staged = comm.on_root(|| Stage::new(&self.output, structure, config, &name))?;
        let folder = share_path(&comm, staged.as_ref().map(|s| s.folder.path()));
        let outline = outline(&comm, structure);

        let (data, log) = (folder.join(files::DATA), folder.join(files::LOG));
        let simulation =
            comm.agree(Simulation::new(config, &outline, &data, Some(&log), &comm).map_err(Error::from))?;
        // Only now: LAMMPS says better than we could what is wrong with a potential file.
        let cutoff = comm.agree(potential::cutoff(&config.potential).map_err(Error::Potential))?;
        let stores = config.uncertainty != crate::config::Uncertainty::None;
        let extractor = match cutoff {
            Some(cutoff) => Some(EmbeddingExtractor::new(&config.embedding, cutoff)?),
            None if stores => return Err(Error::Cutoff),
            None => None,
        };
        let recorder = comm.on_root(|| {
            let stage = staged.expect("made on the root");
            stage.write_script(&simulation)?;
            let folder = stage.keep(&self.output)?;
            Recorder::new(&folder, config)
        })?;
        let kept = share_path(&comm, recorder.as_ref().map(|r| r.folder.as_path()));
        Run {
            comm,
            config,
            simulation,
            extractor,
            recorder,
            observer: self.observer.as_mut(),
            interrupt: &self.interrupt,
            result: SimulationResult {
                status: Status::Completed,
                trigger_step: None,
                gamma_max: None,
                atom_id: None,
                candidates: Vec::new(),
                steps: 0,
                flagged: 0,
                known: 0,
                crash: None,
                warnings: Vec::new(),
                last: None,
                atoms: 0,
                seconds: 0.0,
                ranks: self.comm.size(),
                output: self.output.clone(),
            },
            last_flag: None,
            insurance: None,
            folder: kept,
        }
        .finish()
    }
}

/// What every rank must know of a structure whose atoms rank 0 alone has: an empty structure with the same cell and types.
fn outline(comm: &Comm, structure: &Structure) -> Structure {
    let symbols: Vec<&str> = structure.elements.iter().map(|e| e.symbol()).collect();
    let cell = &structure.cell;
    let mine = serde_json::json!([symbols, cell.origin, cell.vectors, cell.pbc, structure.velocities.is_some()]);
    let bytes = comm.broadcast(0, mine.to_string().into_bytes());
    type Outline = (Vec<String>, [f64; 3], [[f64; 3]; 3], [bool; 3], bool);
    let (symbols, origin, vectors, pbc, velocities): Outline =
        serde_json::from_slice(&bytes).expect("as rank 0 wrote it");
    Structure {
        cell: Cell { origin, vectors, pbc },
        elements: symbols.iter().filter_map(|s| crate::structure::element_from_symbol(s)).collect(),
        velocities: velocities.then(|| Array2::zeros((0, 3))),
        ..no_atoms()
    }
}

/// What ranks other than 0 have before rank 0 tells them more.
fn no_atoms() -> Structure {
    Structure {
        cell: Cell::orthorhombic([1.0; 3], [true; 3]),
        elements: Vec::new(),
        types: Array1::zeros(0),
        ids: Array1::zeros(0),
        positions: Array2::zeros((0, 3)),
        velocities: None,
    }
}

fn share_path(comm: &Comm, path: Option<&Path>) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = path.map(|p| p.as_os_str().as_bytes().to_vec()).unwrap_or_default();
    std::ffi::OsString::from_vec(comm.broadcast(0, bytes)).into()
}

/// The run's folder while the set-up may still fail: beside its final place, gone if it is dropped.
struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn new(output: &Path, structure: &Structure, config: &InferenceConfig, name: &str) -> Result<Self, Error> {
        let unsound = |message: String| Error::Unsound { name: name.to_owned(), message };
        structure.validate(config.min_distance).map_err(|e| unsound(e.to_string()))?;
        let (mut turned, _) = structure.to_lammps_frame().map_err(|e| unsound(e.to_string()))?;
        if let Some(velocities) = &mut turned.velocities {
            *velocities /= crate::script::UnitFactors::of(config.units).velocity();
        }
        if output.read_dir().is_ok_and(|mut entries| entries.next().is_some()) || output.is_file() {
            return Err(Error::Occupied(output.to_owned()));
        }
        let parent = match output.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        let writing = |source| Error::Write { path: output.to_owned(), source };
        std::fs::create_dir_all(parent).map_err(writing)?;
        let absolute = std::path::absolute(parent).map_err(writing)?;
        let folder = tempfile::Builder::new().prefix(".lammps-otf-").tempdir_in(absolute).map_err(writing)?;
        let path = folder.path().join(files::DATA);
        let writing = |source| Error::Write { path: path.clone(), source };
        let mut out = BufWriter::new(File::create(&path).map_err(writing)?);
        io::lammps_data::write(&turned, &mut out)?;
        out.flush().map_err(writing)?;
        Ok(Self { folder })
    }

    fn write_script(&self, simulation: &Simulation) -> Result<(), Error> {
        let mut script = simulation.script().clone();
        files::DATA.clone_into(&mut script.data);
        let commands = script.render().map_err(simulation::Error::from)?;
        let run = format!("{commands}\nrun             {}\n", simulation.last_step());
        let path = self.folder.path().join(files::SCRIPT);
        std::fs::write(&path, run).map_err(|source| Error::Write { path, source })
    }

    /// Moves it to its final place.
    fn keep(self, output: &Path) -> Result<PathBuf, Error> {
        let writing = |source| Error::Write { path: output.to_owned(), source };
        let staged = self.folder.keep();
        // tempfile makes folders for their owner alone; a run's folder is as open as any that the user makes.
        if let Some(model) = staged.parent().and_then(|p| p.metadata().ok()) {
            let _ = std::fs::set_permissions(&staged, model.permissions());
        }
        std::fs::rename(&staged, output).map_err(writing)?;
        std::path::absolute(output).map_err(writing)
    }
}

/// What rank 0 writes while the run goes on.
struct Recorder {
    folder: PathBuf,
    polls: File,
    store: Store,
    potential_hash: String,
    source: String,
    novelty: Novelty,
}

impl Recorder {
    fn new(folder: &Path, config: &InferenceConfig) -> Result<Self, Error> {
        let extxyz = folder.join(files::EXTXYZ);
        std::fs::create_dir_all(&extxyz).map_err(|source| Error::Write { path: extxyz, source })?;
        Self::again(folder, config)
    }

    /// In a folder that another process began.
    fn again(folder: &Path, config: &InferenceConfig) -> Result<Self, Error> {
        let path = folder.join(files::POLLS);
        let polls = File::options().create(true).append(true).open(&path);
        let polls = polls.map_err(|source| Error::Write { path, source })?;
        Ok(Self {
            polls,
            store: Store::open(&folder.join(files::CANDIDATES))?,
            potential_hash: potential::fingerprint(&config.potential).map_err(Error::Potential)?,
            source: config.structure.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            novelty: Novelty::new(config.novelty),
            folder: folder.to_owned(),
        })
    }

    fn poll(&mut self, poll: &Poll) -> Result<(), Error> {
        let mut line = serde_json::to_vec(poll).expect("numbers and names");
        line.push(b'\n');
        // One write for each line, so that who reads along never sees half of one.
        self.polls.write_all(&line).map_err(|source| Error::Write { path: self.folder.join(files::POLLS), source })
    }

    /// Stores a cut-out; `None` if its like is stored already.
    fn candidate(
        &mut self,
        cut_out: &CutOut,
        checked: Verification,
        gamma: Option<f64>,
        step: i64,
        trigger: Trigger,
    ) -> Result<Option<i64>, Error> {
        let cluster = &cut_out.cluster;
        let environment = Environment::of(cluster, cluster.center, cluster.cutoff);
        if self.novelty.seen(&environment).is_some() {
            return Ok(None);
        }
        let candidate = Candidate {
            structure: cluster.structure.clone(),
            force_mask: cluster.force_mask.clone(),
            source_ids: cluster.source_ids.clone(),
            source_images: cluster.source_images.clone(),
            atom_gamma: cut_out.gamma.clone(),
            keys: CandidateKeys {
                gamma,
                step: Some(step),
                center: Some(cluster.center),
                center_id: Some(cluster.source_ids[cluster.center]),
                radius: Some(cluster.radius),
                buffer: Some(cluster.buffer),
                shape: Some(cluster.shape.to_string()),
                source: Some(self.source.clone()),
                potential_hash: Some(self.potential_hash.clone()),
                trigger: Some(trigger),
                gamma_parent: checked.gamma_parent,
                gamma_cluster: checked.gamma_cluster,
                max_force_difference: checked.max_force_difference,
                ..CandidateKeys::default()
            },
            labels: None,
        };
        let ids = self.store.add(std::slice::from_ref(&candidate))?;
        let id = ids[0];
        self.novelty.insert(id, environment);
        let path = self.folder.join(files::EXTXYZ).join(format!("candidate-{id:06}.extxyz"));
        let mut text = Vec::new();
        let columns = [
            extxyz::Column::real("force_mask", &candidate.force_mask),
            extxyz::Column::integer("source_id", &candidate.source_ids),
        ];
        let mut info = vec![("candidate", extxyz::Value::Integer(id)), ("step", extxyz::Value::Integer(step))];
        info.extend(gamma.map(|g| ("gamma", extxyz::Value::Real(g))));
        info.push(("center", extxyz::Value::Integer(cluster.center as i64)));
        extxyz::write(&mut text, &candidate.structure, &columns, &info)?;
        write_aside(&path, &text)?;
        Ok(Some(id))
    }

    fn result(&self, result: &SimulationResult) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(result).expect("numbers and names");
        write_aside(&self.folder.join(files::RESULT), &text)
    }
}

/// Writes a whole file, or nothing: beside its place first, then renamed.
fn write_aside(path: &Path, content: &[u8]) -> Result<(), Error> {
    let writing = |source| Error::Write { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder).map_err(writing)?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(writing)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(writing)?;
    file.persist(path).map_err(|e| writing(e.error))?;
    Ok(())
}

/// One run on its way.
struct Run<'r, 'o> {
    comm: Comm,
    config: &'r InferenceConfig,
    simulation: Simulation,
    extractor: Option<EmbeddingExtractor>,
    /// On rank 0.
    recorder: Option<Recorder>,
    observer: Option<&'r mut Observer<'o>>,
    interrupt: &'r AtomicBool,
    result: SimulationResult,
    last_flag: Option<i64>,
    /// On several ranks: what a rank stores that fails alone.
    insurance: Option<Insurance>,
    /// Where all ranks find the run's files; absolute.
    folder: PathBuf,
}

/// The region that a crash would be blamed on, known to every rank.
struct Insurance {
    region: Region,
    step: i64,
    center: i32,
    gamma: Option<f64>,
}

impl Run<'_, '_> {
    fn finish(mut self) -> Result<SimulationResult, Error> {
        let started = Instant::now();
        self.result.atoms = self.simulation.lammps().total_atoms();
        let status = loop {
            let event = match self.simulation.advance() {
                Err(error @ simulation::Error::OneRank { .. }) => return Err(self.alone(error)),
                other => other?,
            };
            match event {
                Event::Finished => break Status::Completed,
                Event::Crashed(crash) => {
                    self.crashed(crash)?;
                    break Status::Crashed;
                }
                Event::Polled(poll) => {
                    if let Some(status) = self.polled(&poll, started)? {
                        break status;
                    }
                }
            }
        };
        self.result.status = status;
        self.result.seconds = started.elapsed().as_secs_f64();
        let (recorder, result) = (&self.recorder, &self.result);
        self.comm.on_root(|| recorder.as_ref().map_or(Ok(()), |r| r.result(result)))?;
        Ok(self.result)
    }

    /// Notes a poll and acts on it; gives the status with which the run ends, if it does.
    fn polled(&mut self, poll: &Poll, started: Instant) -> Result<Option<Status>, Error> {
        let recorder = &mut self.recorder;
        self.comm.on_root(|| recorder.as_mut().map_or(Ok(()), |r| r.poll(poll)))?;
        self.result.steps = poll.step;
        self.result.last = Some(poll.clone());
        if let Some(gamma) = &poll.gamma {
            self.result.gamma_max = Some(self.result.gamma_max.map_or(gamma.max, |g| g.max(gamma.max)));
        }
        let seen = match &mut self.observer {
            Some(observer) => catch_unwind(AssertUnwindSafe(|| observer(poll))),
            None => Ok(()),
        };
        self.observed(seen)?;
        let worst = poll.gamma.as_ref().map(|g| (g.worst_id, g.max));
        match (poll.verdict, worst) {
            (Verdict::Extrapolating, Some((id, gamma))) => {
                self.result.trigger_step.get_or_insert(poll.step);
                self.result.atom_id = Some(id);
                for (center, gamma) in self.regions(id, gamma)? {
                    self.store(center, Some(gamma), poll.step, Trigger::Gamma, false)?;
                }
                if self.config.mode == Mode::Stop {
                    return Ok(Some(Status::Uncertain));
                }
            }
            (Verdict::Flagged, Some((id, gamma))) => {
                self.result.flagged += 1;
                let every = self.config.flag_interval as i64;
                if every > 0 && self.last_flag.is_none_or(|last| poll.step - last >= every) {
                    self.last_flag = Some(poll.step);
                    self.store(id, Some(gamma), poll.step, Trigger::Flag, false)?;
                }
            }
            _ => {}
        }
        self.insure()?;
        let over = self.config.wall_time.is_some_and(|limit| started.elapsed().as_secs_f64() > limit);
        let stop = self.comm.any(over || self.interrupt.load(Ordering::Relaxed));
        Ok(stop.then_some(Status::Interrupted))
    }

    /// Lets a panic of one rank's observer end the run on all ranks, instead of leaving the others in a communication that
    /// never comes.
    fn observed(&self, seen: std::thread::Result<()>) -> Result<(), Error> {
        let rank = if seen.is_err() { self.comm.rank() as i64 } else { i64::MAX };
        let first = self.comm.min_i64(rank);
        if let Err(panic) = seen {
            resume_unwind(panic);
        }
        if first == i64::MAX {
            return Ok(());
        }
        let message = "its observer panicked".to_owned();
        Err(Elsewhere { rank: first as usize, message }.into())
    }

    /// Stores the region of the last valid frame that is to blame: around its worst γ, else around its fastest atom.
    fn crashed(&mut self, crash: Crash) -> Result<(), Error> {
        self.result.trigger_step.get_or_insert(crash.step);
        self.result.crash = Some(crash);
        let frame = self.simulation.last_valid();
        if frame.cell().is_none() {
            self.result
                .warnings
                .push("the run broke before its first poll: there is no valid frame to cut from".into());
            return Ok(());
        }
        let step = frame.step();
        let (id, gamma) = self.to_blame();
        self.result.atom_id = Some(id);
        self.store(id, gamma, step, Trigger::Crash, true)
    }

    /// The centres of the regions to be cut out at an event, the worst atom first.
    fn regions(&self, worst: i32, gamma: f64) -> Result<Vec<(i32, f64)>, Error> {
        match (&self.extractor, self.config.regions_per_event) {
            (None, _) => Ok(Vec::new()),
            (_, 1) => Ok(vec![(worst, gamma)]),
            (Some(extractor), limit) => {
                let regions = self.simulation.worst_regions(extractor.radius(), limit)?;
                Ok(regions.into_iter().map(|center| (center.id, center.gamma)).collect())
            }
        }
    }

    /// The atom of the last valid frame that a crash is blamed on, and its γ.
    fn to_blame(&self) -> (i32, Option<f64>) {
        match self.result.last.as_ref().and_then(|poll| poll.gamma.as_ref()) {
            Some(g) => (g.worst_id, Some(g.max)),
            None => (self.simulation.last_valid().fastest_atom(&self.comm), None),
        }
    }

    /// Tells all ranks what to store if one of them fails alone before the next poll.
    fn insure(&mut self) -> Result<(), Error> {
        let Some(extractor) = self.extractor.as_ref().filter(|_| self.comm.size() > 1) else { return Ok(()) };
        let (center, gamma) = self.to_blame();
        let region = self.simulation.share_last_valid(center, extractor)?;
        let step = self.simulation.last_valid().step();
        self.insurance = Some(Insurance { region, step, center, gamma });
        Ok(())
    }

    /// Writes down what this rank knows, while the others wait for it in a communication that will never end.
    ///
    /// Nothing here may be collective. Of several ranks that fail at once, the first does it.
    fn alone(mut self, error: simulation::Error) -> Error {
        let simulation::Error::OneRank { crash, .. } = &error else { return error.into() };
        let folder = self.folder.clone();
        let claimed = File::options().write(true).create_new(true).open(folder.join(files::RESULT));
        if claimed.is_err() {
            // Whoever came first aborts this process too, once all is written.
            std::thread::sleep(std::time::Duration::from_secs(10));
            return error.into();
        }
        self.result.status = Status::Crashed;
        self.result.trigger_step.get_or_insert(crash.step);
        self.result.crash = Some(crash.clone());
        match self.store_alone(&folder) {
            Ok(()) => Error::Alone(error),
            Err(other) => {
                eprintln!("error: {other}");
                error.into()
            }
        }
    }

    fn store_alone(&mut self, folder: &Path) -> Result<(), Error> {
        let mut recorder = match self.recorder.take() {
            Some(recorder) => recorder,
            None => Recorder::again(folder, self.config)?,
        };
        let room = self.result.candidates.len() < self.config.max_candidates;
        if let (Some(insurance), Some(extractor), true) = (&self.insurance, &self.extractor, room) {
            self.result.atom_id = Some(insurance.center);
            match insurance.region.build(extractor, self.simulation.elements()) {
                Ok(cut_out) => {
                    // Not asked of the potential, which has just failed.
                    let checked = Verification::default();
                    let id = recorder.candidate(&cut_out, checked, insurance.gamma, insurance.step, Trigger::Crash)?;
                    self.result.candidates.extend(id);
                }
                Err(error) => self.result.warnings.push(format!("step {}: {error}", insurance.step)),
            }
        }
        recorder.result(&self.result)
    }

    /// Cuts a region out and stores it. A region that makes no valid cell is a warning: the run's end says why it ended.
    fn store(
        &mut self,
        center: i32,
        gamma: Option<f64>,
        step: i64,
        trigger: Trigger,
        from_last_valid: bool,
    ) -> Result<(), Error> {
        let Some(extractor) = &self.extractor else { return Ok(()) };
        if self.result.candidates.len() >= self.config.max_candidates {
            return Ok(());
        }
        let cut = if from_last_valid {
            self.simulation.cut_out_of_last_valid(center, extractor)
        } else {
            self.simulation.cut_out(center, extractor)
        };
        let cut_out = match cut {
            Ok(cut_out) => cut_out,
            Err(error @ (simulation::Error::Embedding(_) | simulation::Error::Elsewhere(_))) => {
                self.result.warnings.push(format!("step {step}, atom {center}: {error}"));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let (recorder, warnings) = (&mut self.recorder, &mut self.result.warnings);
        let (simulation, config) = (&self.simulation, self.config);
        let id = self.comm.on_root(|| {
            let (Some(recorder), Some(mut cut_out)) = (recorder, cut_out) else { return Ok(None) };
            if config.relax {
                relax(&mut cut_out, simulation.script()).map_err(simulation::Error::from)?;
            }
            let cut_out = &cut_out;
            let checked =
                if config.verify { check(cut_out, simulation, step, warnings) } else { Verification::default() };
            recorder.candidate(cut_out, checked, gamma, step, trigger)
        })?;
        // -1 for a region whose like is stored already.
        let id = id.flatten().unwrap_or(-1);
        let id = self.comm.broadcast(0, id.to_le_bytes().to_vec());
        let id = i64::from_le_bytes(id.try_into().expect("eight bytes"));
        if id < 0 {
            self.result.known += 1;
        } else {
            self.result.candidates.push(id);
        }
        Ok(())
    }
}

/// γ and forces of the core in the cut-out against the parent; what should agree and does not is a warning.
fn check(cut_out: &CutOut, simulation: &Simulation, step: i64, warnings: &mut Vec<String>) -> Verification {
    // Rounding: the cut-out's atoms are added up in another order than the parent's.
    const SAME: f64 = 1e-8;
    let cluster = &cut_out.cluster;
    let center = cluster.source_ids[cluster.center];
    let mut warn = |text: String| warnings.push(format!("step {step}, atom {center}: {text}"));
    let found = match verify(cut_out, simulation.script()) {
        Ok(found) => found,
        Err(error) => {
            warn(format!("the cut-out could not be checked by the potential: {error}"));
            return Verification::default();
        }
    };
    let gamma_differs = match (found.gamma_parent, found.gamma_cluster) {
        // NaN on either side is a difference.
        (Some(parent), Some(here)) => (parent - here).abs().partial_cmp(&(SAME * parent.abs())) != Some(Order::Less),
        _ => false,
    };
    let (buffer, cutoff) = (cluster.buffer, cluster.cutoff);
    if !cluster.is_complete() {
        let forces =
            found.max_force_difference.map_or(String::new(), |d| format!(" and forces differ by up to {d:.1e} eV/Å"));
        warn(format!(
            "the buffer of {buffer} Å is thinner than the cutoff of {cutoff} Å, so that the core does not see all its \
             neighbours{forces}; give `buffer = {cutoff}` in [embedding]"
        ));
    } else if gamma_differs {
        warn(format!(
            "γ of the centre is {:?} in the cut-out and {:?} in the parent, although the buffer is not thinner than the \
             cutoff: do not use this candidate, and report this, please",
            found.gamma_cluster, found.gamma_parent
        ));
    } else if buffer >= 2.0 * cutoff && found.max_force_difference.is_some_and(|d| d > SAME) {
        warn(format!(
            "forces in the core differ by {:?} eV/Å, although the buffer is twice the cutoff",
            found.max_force_difference
        ));
    }
    found
}
