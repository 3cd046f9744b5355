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
use recorder::Recorder;
pub use result::{SimulationResult, Status};
use run::Run;
use stage::{Stage, no_atoms, outline, share_path};

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
