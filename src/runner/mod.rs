// SPDX-License-Identifier: GPL-2.0-or-later
//! The one call that most users need: run, watch, stop, cut out, store.

mod error;
mod recorder;
mod result;
mod run;
mod stage;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::comm::Comm;
use crate::config::{InferenceConfig, Potential};
use crate::embedding::EmbeddingExtractor;
use crate::simulation::{Poll, Simulation};
use crate::structure::{Element, Structure};
use crate::{io, potential};

pub use error::Error;
use recorder::{Recorder, SharedStore};
pub use result::{Cost, SimulationResult, Status};
use run::Run;
use stage::{Stage, no_atoms, outline, share_path, without_atoms};

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

/// Called after each poll, on every rank.
type Observer<'o> = Box<dyn FnMut(&Poll) + 'o>;

/// Runs simulations under watch, and stores what their potential does not know.
pub struct LammpsRunner<'o> {
    comm: Comm,
    output: PathBuf,
    observer: Option<Observer<'o>>,
    interrupt: Arc<AtomicBool>,
    store: Option<SharedStore>,
}

impl<'o> LammpsRunner<'o> {
    /// A runner on the ranks of `comm`, whose run writes into the new folder `output`.
    #[must_use]
    pub fn new(comm: &Comm, output: impl Into<PathBuf>) -> Self {
        Self { comm: comm.clone(), output: output.into(), observer: None, interrupt: Arc::default(), store: None }
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
    /// Collective. The structure is read on rank 0, which gives its memory back before LAMMPS opens; one that LAMMPS
    /// creates ([`InferenceConfig::create`]) is nowhere as a whole.
    pub fn run(&mut self, config: &InferenceConfig) -> Result<SimulationResult, Error> {
        let elements: Option<Vec<Element>> =
            config.elements.iter().map(|s| crate::structure::element_from_symbol(s)).collect();
        let elements = elements.ok_or_else(|| Error::Unsound {
            name: "elements".into(),
            message: format!("{:?} holds a symbol that is no chemical element", config.elements),
        })?;
        if !config.create.is_empty() {
            let staged = self.comm.on_root(|| Stage::new(&self.output, None, config))?;
            return self.run_staged(staged, &Structure { elements, ..no_atoms() }, config);
        }
        let read = self.comm.on_root(|| {
            let hint = (!elements.is_empty()).then_some(&elements[..]);
            let structure = io::read(&config.structure, hint)?;
            let staged = Stage::new(&self.output, Some(&structure), config)?;
            Ok::<_, Error>((staged, without_atoms(structure)))
        })?;
        let (staged, structure) = read.unzip();
        let outline = outline(&self.comm, &structure.unwrap_or_else(no_atoms));
        self.run_staged(staged, &outline, config)
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
        let staged = self.comm.on_root(|| Stage::new(&self.output, Some(structure), config))?;
        let outline = outline(&self.comm, structure);
        self.run_staged(staged, &outline, config)
    }

    /// Runs what is ready in the folder that rank 0 has. `outline` tells elements and boundaries.
    fn run_staged(
        &mut self,
        staged: Option<Stage>,
        outline: &Structure,
        config: &InferenceConfig,
    ) -> Result<SimulationResult, Error> {
        let comm = self.comm.clone();
        let folder = share_path(&comm, staged.as_ref().map(|s| s.folder.path()));
        let (data, log) = (folder.join(files::DATA), folder.join(files::LOG));
        let simulation = comm.agree(Simulation::new(config, outline, &data, Some(&log), &comm).map_err(Error::from))?;
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
            Recorder::new(&folder, config, self.store.as_ref())
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
                cost: Cost::default(),
                output: self.output.clone(),
            },
            last_flag: None,
            insurance: None,
            folder: kept,
            store: self.store.as_ref(),
        }
        .finish()
    }
}
