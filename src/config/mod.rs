// SPDX-License-Identifier: GPL-2.0-or-later
//! The configuration: read from TOML and validated once.
//!
//! The keys of the file are flat. Here they are grouped by topic, one [`Section`] per group. [`Determines`] specifies for
//! each section whether `--resume` accepts a change.
//!
//! Lengths are in Å, times in ps, temperatures in K, pressures in bar, energies in eV, also for a set-up in
//! `units real`.

mod candidates;
mod explore;
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
mod trajectory;
mod watch;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

pub use candidates::CandidatesConfig;
pub use explore::ExploreConfig;
pub(crate) use explore::LATEST_ONSET;
pub use job::JobConfig;
pub use lammps::LammpsConfig;
pub(crate) use learning::INITIAL_CHECK;
pub use learning::{CheckConfig, LoopConfig, OracleConfig, ResumeFrom, RunConfig, TrainerConfig};
pub use limits::{LimitsConfig, Sanity};
pub use md::{Barostat, Ensemble, MdConfig, Ramp, Thermostat, Velocities, VelocityMismatch};
pub use outputs::{Earlier, Outputs};
pub use replicas::Replicas;
pub use section::{Determines, Section};
pub use system::{Engine, Potential, SystemConfig, Units};
pub use trajectory::{TrajectoryConfig, TrajectoryFormat};
pub use watch::{Mode, Threshold, ToleratedError, Uncertainty, WatchConfig};

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
        /// The cause.
        source: std::io::Error,
    },
    /// The text is not a valid configuration.
    #[error("{}: {message}{hint}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Message of the parser, with the line.
        message: String,
        /// Suggestion for an unknown name, or empty.
        hint: String,
    },
    /// A setting in a file cannot be used.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The setting and the cause.
        source: Box<Self>,
    },
    /// Invalid settings of the cut-out.
    #[error(transparent)]
    Embedding(#[from] crate::embedding::Error),
    /// The value of a field is out of its range.
    #[error("`{field}` is {value}, but must be {allowed}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The allowed values.
        allowed: &'static str,
    },
}

/// Configuration of a run or a loop.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct InferenceConfig {
    /// The simulated system: atoms, potential, and additional LAMMPS commands.
    #[serde(flatten)]
    pub system: SystemConfig,
    /// Molecular dynamics: ensemble, temperature, pressure, and length of the run.
    #[serde(flatten)]
    pub md: MdConfig,
    /// Monitoring of the uncertainty: source of γ, thresholds, and polling interval.
    #[serde(flatten)]
    pub watch: WatchConfig,
    /// Candidates: how many are stored, and how they are cut out and checked.
    #[serde(flatten)]
    pub candidates: CandidatesConfig,
    /// Validity limits for the initial structure and for the frames of a run.
    #[serde(flatten)]
    pub limits: LimitsConfig,
    /// LAMMPS start-up: plugins and accelerators.
    #[serde(flatten)]
    pub lammps: LammpsConfig,
    /// Wall time, checkpoints and file sizes.
    #[serde(flatten)]
    pub job: JobConfig,
    /// Settings that differ between the replicas of one job (`--replicas`).
    #[serde(default, skip_serializing_if = "Replicas::is_default")]
    pub replicas: Replicas,
    /// The bias towards unknown environments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explore: Option<ExploreConfig>,
    /// Oracle, trainer and limits of `lammps-otf loop`.
    #[serde(rename = "loop")]
    pub active_learning: Option<LoopConfig>,
    /// Location of files that the commands of the set-up write. Set by the program, not by the file.
    #[serde(skip)]
    pub outputs: Outputs,
}

impl InferenceConfig {
    /// A copy with another potential.
    #[must_use]
    pub fn with_potential(&self, potential: Potential) -> Self {
        Self { system: SystemConfig { potential, ..self.system.clone() }, ..self.clone() }
    }

    /// Number of steps between two checkpoints, a multiple of the sampling interval; `None` without checkpoints.
    #[must_use]
    pub fn checkpoint_steps(&self) -> Option<u64> {
        let every = self.job.checkpoint_interval.div_ceil(self.watch.sampling_interval) * self.watch.sampling_interval;
        (every > 0).then_some(every)
    }

    /// Warnings about settings that are valid but have no effect in combination.
    #[must_use]
    pub fn remarks(&self) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let mut remark = |message: String, remedy| remarks.push(Remark { message, remedy });
        // A custom template may use any of these settings.
        if self.system.template.is_none()
            && self.md.ensemble == Ensemble::Nve
            && matches!(self.md.temperature, Ramp::Linear(_))
        {
            let t = Shown(self.md.temperature);
            remark(
                format!(
                    "`ensemble = \"nve\"` has no thermostat: only the first value of `temperature = {t:?}` is used."
                ),
                "Set a single temperature, or choose \"nvt\" or \"npt\".",
            );
        }
        if self.system.template.is_none() && self.md.ensemble != Ensemble::Npt && !self.md.pressure.all(|p| p == 0.0) {
            remark(
                "`pressure` has no effect unless `ensemble = \"npt\"`.".into(),
                "Set that ensemble, or remove `pressure`.",
            );
        }
        let (every, steps) = (self.watch.sampling_interval, self.md.steps);
        if self.watch.uncertainty != Uncertainty::None && every > steps {
            remark(
                format!(
                    "γ is polled every {every} steps, but the run has only {steps}: only the initial frame is polled."
                ),
                "Lower `sampling_interval`.",
            );
        }
        let learns_energies = |settings: &LoopConfig| {
            self.candidates.embedding.whole_frames_below > 0 || settings.checks.iter().any(|check| check.train)
        };
        let several = |settings: &LoopConfig| {
            settings.runs.iter().any(|run| run.structure.is_some() && run.structure != settings.runs[0].structure)
        };
        if self.active_learning.as_ref().is_some_and(|settings| several(settings) && !learns_energies(settings)) {
            remark(
                "the runs have several structures, and labels of cut-outs have no energies: nothing determines energy differences \
                 between them, such as that of a surface."
                    .into(),
                "Set `whole_frames_below` in [embedding], or add periodic cells with the same surface or defect as [[loop.check]] with \
                 `train = true`.",
            );
        }
        remarks
    }

    /// Compares the temperature `measured` (K) of the initial velocities with `temperature`.
    #[must_use]
    pub fn check_velocities(&self, measured: f64) -> Option<VelocityMismatch> {
        VelocityMismatch::of(measured, self.md.temperature.start(), self.md.velocities)
    }

    fn resolve(&mut self, folder: &Path) {
        if let Some(active_learning) = &mut self.active_learning {
            active_learning.resolve(folder);
            // Runs with structures of their own require none at the top level.
            let first = active_learning.runs.first().and_then(|run| run.structure.clone());
            if self.system.create.is_empty() && self.system.structure.as_os_str().is_empty() {
                self.system.structure = first.unwrap_or_default();
            }
        }
        let potential = &mut self.system.potential;
        let structure = (!self.system.structure.as_os_str().is_empty()).then_some(&mut self.system.structure);
        let paths = [structure, potential.file.as_mut(), potential.active_set.as_mut()]
            .into_iter()
            .flatten()
            .chain(self.system.template.as_mut())
            .chain(self.lammps.plugins.iter_mut())
            .chain(self.replicas.structures.iter_mut())
            .chain(self.watch.uncertainty_threshold.calibration_mut());
        for path in paths {
            // Absolute, because LAMMPS may run in another folder and searches other places for a bare file name.
            let joined = folder.join(&*path);
            *path = std::path::absolute(&joined).unwrap_or(joined);
        }
    }

    /// The name of replica `index`: its folder, its name in the store, and the prefix of files that `setup` writes.
    #[must_use]
    pub fn replica_name(index: usize) -> String {
        format!("replica-{index:02}")
    }

    /// The configuration of replica `index` (from 0) of `count`, with its entries of [`Replicas`] and the seed
    /// `(seed - 1 + 618033989 index) mod 900000000 + 1`. The seeds of all replicas differ, consecutive seeds are far apart,
    /// and replica 0 has `seed` itself.
    ///
    /// # Errors
    /// [`Error::Range`] if the length of a list is not `count`, or an entry is out of its range.
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
            let value = format!("a list of length {}", list.len());
            Err(Error::Range { field, value, allowed: "a list with one entry per replica (--replicas), or absent" })
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
        config.set_exploration(entry("replicas.explore", &self.replicas.explore, index, count)?, "replicas.explore")?;
        // The increment is coprime to the number of seeds, so that no seed repeats.
        config.md.seed = ((u64::from(self.md.seed) - 1 + 618_033_989 * index as u64) % 900_000_000) as u32 + 1;
        config.validate()?;
        Ok(config)
    }

    /// The configuration of a run of `[[loop.run]]`.
    ///
    /// # Errors
    /// [`Error::Range`] if a setting of the run is out of its range.
    pub fn of_run(&self, run: &RunConfig) -> Result<Self, Error> {
        let mut config = self.clone();
        config.outputs.prefix = format!("{}-", run.name);
        if let Some(structure) = &run.structure {
            config.system.structure.clone_from(structure);
            config.system.create.clear();
        }
        let md = &mut config.md;
        md.ensemble = run.ensemble.unwrap_or(md.ensemble);
        md.temperature = run.temperature.unwrap_or(md.temperature);
        md.pressure = run.pressure.unwrap_or(md.pressure);
        md.steps = run.steps.unwrap_or(md.steps);
        md.timestep = run.timestep.unwrap_or(md.timestep);
        md.seed = run.seed.unwrap_or(md.seed);
        config.set_exploration(run.explore, "explore")?;
        config.system.validate()?;
        config.md.validate()?;
        Ok(config)
    }

    /// Replaces the strength of the bias of a replica or run; 0 removes the bias.
    fn set_exploration(&mut self, strength: Option<f64>, field: &'static str) -> Result<(), Error> {
        let Some(strength) = strength else { return Ok(()) };
        if strength == 0.0 {
            self.explore = None;
            return Ok(());
        }
        let Some(explore) = &mut self.explore else {
            return check(false, field, &strength, "0, because the configuration has no table [explore]");
        };
        (explore.strength, explore.fixed_strength) = (strength, None);
        explore.validate(self.watch.uncertainty_threshold.initial())
    }

    /// The LAMMPS command-line arguments.
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
            check(self.system.units == Units::Metal, "units", &"real", "\"metal\", the only units of ML-PACE")?;
        }
        if let Some(trajectory) = &self.job.trajectory {
            let (frames, polls) = (trajectory.interval, self.watch.sampling_interval);
            // LAMMPS writes γ only at steps at which it is evaluated.
            let has_gamma = self.watch.uncertainty == Uncertainty::Pace && trajectory.format == TrajectoryFormat::Dump;
            check(
                !has_gamma || frames.is_multiple_of(polls),
                "trajectory.interval",
                &frames,
                "a multiple of `sampling_interval`, because each frame has γ",
            )?;
        }
        if let Some(explore) = &self.explore {
            explore.validate(self.watch.uncertainty_threshold.initial())?;
            let (uncertainty, engine) = (&self.watch.uncertainty, self.system.potential.engine);
            let what = "\"pace\", of which [explore] follows the gradient";
            check(*uncertainty == Uncertainty::Pace, "uncertainty", uncertainty, what)?;
            check(engine == Engine::Opt, "engine", &engine, "\"opt\", which computes the bias of [explore]")?;
        }
        let audited = self.watch.audits_per_ps > 0.0 || self.watch.uncertainty_threshold.tolerated().is_none();
        check(
            audited || self.active_learning.is_none(),
            "audits_per_ps",
            &self.watch.audits_per_ps,
            "above 0 in a configuration with a table [loop] and a tolerated force error, such as 4",
        )?;
        let Some(learning) = &self.active_learning else { return Ok(()) };
        learning.runs.iter().try_for_each(|run| self.of_run(run).map(drop))?;
        learning.validate(self.watch.uncertainty_threshold.initial())
    }
}

/// A warning about a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The problem.
    pub message: String,
    /// The remedy.
    pub remedy: &'static str,
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.message, self.remedy)
    }
}
