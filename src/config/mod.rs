// SPDX-License-Identifier: GPL-2.0-or-later
//! What a run is to do: read from TOML, checked once, and then trusted.
//!
//! The keys of the file are flat; here they are grouped by what they describe, one [`Section`] per group. What `--resume` may change
//! follows from what a section determines ([`Determines`]).
//!
//! Lengths are in Å, times in ps, temperatures in K, pressures in bar, energies in eV, also for a set-up in
//! `units real`.

mod candidates;
mod job;
mod lammps;
mod learning;
mod limits;
mod md;
mod outputs;
mod parse;
mod replicas;
mod section;
mod system;
mod watch;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

pub use candidates::CandidatesConfig;
pub use job::JobConfig;
pub use lammps::LammpsConfig;
pub use learning::{LoopConfig, OracleConfig, ResumeFrom, TrainerConfig};
pub use limits::{LimitsConfig, Sanity};
pub use md::{Barostat, Ensemble, MdConfig, Ramp, Thermostat, Velocities, VelocityDoubt};
pub use outputs::{Earlier, Outputs};
pub use replicas::Replicas;
pub use section::{Determines, Section};
pub use system::{Engine, Potential, SystemConfig, Units};
pub use watch::{Mode, Uncertainty, WatchConfig};

use md::Shown;
use section::check;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The text is not a configuration.
    #[error("{}: {message}{hint}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser says, with the line.
        message: String,
        /// The nearest name that exists, if a name was unknown; or empty.
        hint: String,
    },
    /// A setting in a file cannot be used.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// Which setting, and why.
        source: Box<Self>,
    },
    /// The settings of the cut-out.
    #[error(transparent)]
    Embedding(#[from] crate::embedding::Error),
    /// A field holds what it must not.
    #[error("`{field}` is {value}, but must be {allowed}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        allowed: &'static str,
    },
}

/// One run of molecular dynamics with its monitoring, and the loop around it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct InferenceConfig {
    /// What is simulated: the atoms, the potential, and additional LAMMPS commands.
    #[serde(flatten)]
    pub system: SystemConfig,
    /// Molecular dynamics: ensemble, temperature, pressure and length of the run.
    #[serde(flatten)]
    pub md: MdConfig,
    /// Monitoring of the uncertainty: thresholds, and how often and where it is read.
    #[serde(flatten)]
    pub watch: WatchConfig,
    /// What is stored of an event.
    #[serde(flatten)]
    pub candidates: CandidatesConfig,
    /// What counts as a broken structure or run.
    #[serde(flatten)]
    pub limits: LimitsConfig,
    /// How LAMMPS is started: plugins and accelerators.
    #[serde(flatten)]
    pub lammps: LammpsConfig,
    /// Wall time, checkpoints and the size of files.
    #[serde(flatten)]
    pub job: JobConfig,
    /// In what the simulations of one job differ (`--replicas`).
    #[serde(default, skip_serializing_if = "Replicas::is_default")]
    pub replicas: Replicas,
    /// Who labels and trains, for `lammps-otf loop`.
    #[serde(rename = "loop")]
    pub active_learning: Option<LoopConfig>,
    /// Where the files go that the commands of the set-up write. Not in the file: the program decides.
    #[serde(skip)]
    pub outputs: Outputs,
}

impl InferenceConfig {
    /// The same with another potential.
    #[must_use]
    pub fn with_potential(&self, potential: Potential) -> Self {
        Self { system: SystemConfig { potential, ..self.system.clone() }, ..self.clone() }
    }

    /// Number of steps between two checkpoints, a multiple of the sampling interval; `None` for a run without.
    #[must_use]
    pub fn checkpoint_steps(&self) -> Option<u64> {
        let every = self.job.checkpoint_interval.div_ceil(self.watch.sampling_interval) * self.watch.sampling_interval;
        (every > 0).then_some(every)
    }

    /// Settings that are in order each by itself and do nothing together.
    #[must_use]
    pub fn remarks(&self) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let mut remark = |message: String, remedy| remarks.push(Remark { message, remedy });
        // A template of one's own may make of them what it likes.
        if self.system.template.is_none()
            && self.md.ensemble == Ensemble::Nve
            && matches!(self.md.temperature, Ramp::Linear(_))
        {
            let t = Shown(self.md.temperature);
            remark(
                format!("`ensemble = \"nve\"` holds no temperature: of `temperature = {t:?}` only the first counts."),
                "Give one temperature, or choose \"nvt\" or \"npt\".",
            );
        }
        if self.system.template.is_none() && self.md.ensemble != Ensemble::Npt && !self.md.pressure.all(|p| p == 0.0) {
            remark(
                "`pressure` is held with `ensemble = \"npt\"` only.".into(),
                "Choose that, or leave `pressure` out.",
            );
        }
        let (every, steps) = (self.watch.sampling_interval, self.md.steps);
        if self.watch.uncertainty != Uncertainty::None && every > steps {
            remark(
                format!("γ is looked at every {every} steps, and the run has {steps}: only its first frame is seen."),
                "Lower `sampling_interval`.",
            );
        }
        remarks
    }

    /// What is to be said of a run whose atoms begin with velocities of this temperature (K).
    #[must_use]
    pub fn doubt_velocities(&self, measured: f64) -> Option<VelocityDoubt> {
        VelocityDoubt::of(measured, self.md.temperature.start(), self.md.velocities)
    }

    fn resolve(&mut self, folder: &Path) {
        if let Some(active_learning) = &mut self.active_learning {
            active_learning.resolve(folder);
        }
        let potential = &mut self.system.potential;
        let structure = (!self.system.structure.as_os_str().is_empty()).then_some(&mut self.system.structure);
        let paths = [structure, potential.file.as_mut(), potential.active_set.as_mut()]
            .into_iter()
            .flatten()
            .chain(self.system.template.as_mut())
            .chain(self.lammps.plugins.iter_mut())
            .chain(self.replicas.structures.iter_mut());
        for path in paths {
            // Absolute, because LAMMPS may run in another folder and looks elsewhere for a name without one.
            let joined = folder.join(&*path);
            *path = std::path::absolute(&joined).unwrap_or(joined);
        }
    }

    /// The name of replica `index`: of its folder, in the store, and before the names of the files that `setup` writes.
    #[must_use]
    pub fn replica_name(index: usize) -> String {
        format!("replica-{index:02}")
    }

    /// The configuration of replica `index` (from 0) of `count`: with its own entries of [`Replicas`], and a seed of its
    /// own, `(seed - 1 + 618033989 index) mod 900000000 + 1`. The seeds of all replicas differ, those of neighbours are far
    /// apart, and that of replica 0 is `seed` itself.
    ///
    /// # Errors
    /// [`Error::Range`] if a list has another length than `count`, or an entry is out of its range.
    pub fn replica(&self, index: usize, count: usize) -> Result<Self, Error> {
        fn entry<T: Clone + std::fmt::Debug>(
            field: &'static str,
            list: &[T],
            index: usize,
            count: usize,
        ) -> Result<Option<T>, Error> {
            if list.is_empty() || list.len() == count {
                return Ok(list.get(index).cloned());
            }
            let value = format!("a list of {}", list.len());
            Err(Error::Range { field, value, allowed: "a list with one entry for each of the --replicas, or absent" })
        }
        let mut config = self.clone();
        config.replicas = Replicas::default();
        config.outputs.prefix = format!("{}-", Self::replica_name(index));
        if let Some(temperature) = entry("replicas.temperatures", &self.replicas.temperatures, index, count)? {
            config.md.temperature = temperature;
        }
        if let Some(structure) = entry("replicas.structures", &self.replicas.structures, index, count)? {
            config.system.structure = structure;
        }
        // A step that has no factor in common with the number of seeds meets each of them once.
        config.md.seed = ((u64::from(self.md.seed) - 1 + 618_033_989 * index as u64) % 900_000_000) as u32 + 1;
        config.validate()?;
        Ok(config)
    }

    /// The switches that LAMMPS is opened with.
    #[must_use]
    pub fn lammps_arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let kokkos = |given: &String| given == "-k" || given == "-kokkos";
        let suffix: Vec<&str> = self.lammps.suffix.iter().flat_map(|s| s.split_whitespace()).collect();
        if suffix.contains(&"kk") && !self.lammps.lammps_args.iter().any(kokkos) {
            arguments.extend(["-kokkos", "on"].map(str::to_owned));
        }
        for (switch, text) in
            self.lammps.package.iter().map(|p| ("-package", p)).chain(self.lammps.suffix.iter().map(|s| ("-suffix", s)))
        {
            arguments.push(switch.to_owned());
            arguments.extend(text.split_whitespace().map(str::to_owned));
        }
        arguments.extend_from_slice(&self.lammps.lammps_args);
        arguments
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Range`] for the first field that is out of its range.
    pub fn validate(&self) -> Result<(), Error> {
        self.system.validate()?;
        self.md.validate()?;
        self.watch.validate()?;
        self.candidates.validate()?;
        self.limits.validate()?;
        self.lammps.validate()?;
        self.job.validate()?;
        if self.watch.uncertainty == Uncertainty::Pace {
            self.system.potential.check_for_gamma()?;
            check(self.system.units == Units::Metal, "units", &"real", "\"metal\": ML-PACE takes no other units")?;
        }
        self.active_learning.as_ref().map_or(Ok(()), |learning| learning.validate(self.watch.uncertainty_threshold))
    }
}

/// Something that a configuration says in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What.
    pub message: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.message, self.remedy)
    }
}
