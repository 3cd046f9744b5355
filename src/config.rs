// SPDX-License-Identifier: GPL-2.0-or-later
//! What a run is to do: read from TOML, checked once, and then trusted.
//!
//! Lengths are in Å, times in ps, temperatures in K, pressures in bar, energies in eV, also for a set-up in
//! `units real`.

mod learning;
mod outputs;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::embedding::EmbeddingConfig;
pub use learning::{LoopConfig, OracleConfig, ResumeFrom, TrainerConfig};
pub use outputs::{Earlier, Outputs};

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

/// One run of molecular dynamics under watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InferenceConfig {
    /// The initial structure: extended XYZ, or a LAMMPS data or dump file, also compressed with gzip. Relative to the
    /// configuration file. Masses in it replace the standard atomic weights. Read on rank 0, which holds all its atoms; for more
    /// than one rank can hold, see `create`. Atoms that its column `move_mask` (extended XYZ; ASE's `FixAtoms` and
    /// `FixCartesian`) fixes stay where they are; under a barostat they stay where they are in the cell.
    #[serde(default)]
    pub structure: PathBuf,
    /// In place of `structure`: LAMMPS commands that make the box and the atoms, e.g. `["read_data /path/big.data"]`,
    /// `["read_restart /path/big.restart"]`, or `boundary`, `lattice`, `region`, `create_box`, `create_atoms` and `mass`.
    /// LAMMPS deals the atoms out to the ranks at once, so that no rank ever holds all of them. `elements` has to name the
    /// types; nothing is checked beforehand (`min_distance`), and the ids
    /// that `create_atoms` gives depend on the number of ranks. File names are relative to where the program runs. A loop has
    /// to begin at step 0: let them end with `reset_timestep 0`. They are trusted, like `setup`.
    #[serde(default)]
    pub create: Vec<String>,
    /// Chemical symbols in the order of the types of a LAMMPS file that names none, or of what `create` makes. They go before
    /// a dump's column `element` that is C for all atoms, which LAMMPS writes by itself.
    #[serde(default)]
    pub elements: Vec<String>,
    /// The potential.
    pub potential: Potential,

    /// Target temperature in K: one value, or `[start, end]` for a linear ramp over the run.
    pub temperature: Ramp,
    /// Target pressure in bar: one value, or `[start, end]`. For `ensemble = "npt"`.
    #[serde(default)]
    pub pressure: Ramp,
    /// Number of time steps.
    #[serde(default = "defaults::steps")]
    pub steps: u64,
    /// Time step in ps.
    #[serde(default = "defaults::timestep")]
    pub timestep: f64,
    /// What is held constant.
    #[serde(default)]
    pub ensemble: Ensemble,
    /// How the temperature is held.
    #[serde(default)]
    pub thermostat: Thermostat,
    /// How the cell may change under pressure.
    #[serde(default)]
    pub barostat: Barostat,
    /// Relaxation time of the thermostat in ps; 100 time steps if absent.
    pub temperature_damping: Option<f64>,
    /// Relaxation time of the barostat in ps; 1000 time steps if absent.
    pub pressure_damping: Option<f64>,
    /// Seed of the initial velocities and of a Langevin thermostat.
    #[serde(default = "defaults::seed")]
    pub seed: u32,
    /// Where the initial velocities come from.
    #[serde(default)]
    pub velocities: Velocities,
    /// Minimise the energy before the run.
    #[serde(default)]
    pub minimize: bool,

    /// Extrapolation grade γ above which the run stops and the region is stored.
    #[serde(default = "defaults::uncertainty_threshold")]
    pub uncertainty_threshold: f64,
    /// Extrapolation grade γ above which a step is flagged.
    #[serde(default = "defaults::uncertainty_low")]
    pub uncertainty_low: f64,
    /// Number of steps between two looks at γ.
    #[serde(default = "defaults::sampling_interval")]
    pub sampling_interval: u64,
    /// Where γ comes from.
    #[serde(default)]
    pub uncertainty: Uncertainty,
    /// What happens above the threshold.
    #[serde(default)]
    pub mode: Mode,
    /// Store a candidate also for steps between the two thresholds, at most every so many steps; 0 stores none.
    #[serde(default)]
    pub flag_interval: u64,
    /// Most regions that are cut out at one event.
    #[serde(default = "defaults::regions_per_event")]
    pub regions_per_event: usize,
    /// Most candidates that one run stores.
    #[serde(default = "defaults::max_candidates")]
    pub max_candidates: usize,

    /// In what the simulations of one job differ (`--replicas`).
    #[serde(default, skip_serializing_if = "Replicas::is_default")]
    pub replicas: Replicas,
    /// How the neighbourhood of the worst atom is cut out.
    #[serde(default)]
    pub embedding: EmbeddingConfig,
    /// Evaluate each cut-out once with the same potential, and note how far γ and forces agree with the parent's.
    #[serde(default = "defaults::verify")]
    pub verify: bool,
    /// Relax the buffer of each cut-out with the same potential, with the core frozen: for the `cube` shape, whose new
    /// boundary brings atoms together that never met.
    #[serde(default)]
    pub relax: bool,
    /// Environments nearer than this to one that this run has stored are not stored again; 0 stores all.
    #[serde(default = "defaults::novelty")]
    pub novelty: f64,
    /// What a frame must satisfy to be kept as valid.
    #[serde(default)]
    pub sanity: Sanity,

    /// LAMMPS units of the set-up.
    #[serde(default)]
    pub units: Units,
    /// Smallest distance between two atoms of the initial structure, Å.
    #[serde(default = "defaults::min_distance")]
    pub min_distance: f64,
    /// A template to use instead of the built-in one, `templates/md.in.j2`; trusted like `setup`.
    pub template: Option<PathBuf>,
    /// LAMMPS commands to run after the set-up, before the first step: computes, fixes, variables, `thermo_modify`. They are
    /// trusted and run as they stand, also `shell` and `include`: take a configuration of somebody else's as you take a
    /// program. Those that end or replace the commands around them (`quit`, `clear`, `jump`, `label`, `next`, `log`, `shell cd`)
    /// are refused. A `thermo_style` has to be `custom` with temp, press, pe and etotal, which each poll reads. A run that is
    /// resumed leaves those out that change the atoms (`velocity`, `displace_atoms` and their like) or make groups, and appends
    /// to the files of `dump` and of fixes. File names are relative to where the program runs.
    #[serde(default)]
    pub setup: Vec<String>,
    /// Plugin files to load before the set-up.
    #[serde(default)]
    pub plugins: Vec<PathBuf>,
    /// Variants of LAMMPS's styles to use where there are such: `"opt"`, `"omp"`, `"intel"`, `"gpu"`, `"kk"`, or
    /// `"hybrid intel opt"`. The same as LAMMPS's switch `-suffix`; `"kk"` also switches KOKKOS on.
    pub suffix: Option<String>,
    /// Settings of accelerator packages, each as LAMMPS's switch `-package` takes it, e.g. `["omp 4"]`.
    #[serde(default)]
    pub package: Vec<String>,
    /// More command-line arguments of LAMMPS, e.g. `["-kokkos", "on", "gpus", "2"]`.
    #[serde(default)]
    pub lammps_args: Vec<String>,
    /// Wall time in seconds after which the run stops at the next poll; none if absent. Counted for each process: a run
    /// that is continued has the whole time again.
    pub wall_time: Option<f64>,
    /// Number of steps between two checkpoints, from which `--resume` continues; rounded up to a multiple of
    /// `sampling_interval`. A run that stops in good order writes one more at its end. 0 writes none at all.
    #[serde(default = "defaults::checkpoint_interval")]
    pub checkpoint_interval: u64,
    /// Size in MB at which `polls.jsonl` is put aside as `polls.1.jsonl`, then `polls.2.jsonl`, …, and a new one is begun.
    #[serde(default = "defaults::polls_file_size")]
    pub polls_file_size: f64,
    /// Most such files that are kept, the present one among them; the oldest are removed.
    #[serde(default = "defaults::polls_files")]
    pub polls_files: u32,
    /// Who labels and trains, for `lammps-otf loop`.
    #[serde(rename = "loop")]
    pub active_learning: Option<LoopConfig>,
    /// Where the files go that the commands of the set-up write. Not in the file: the program decides.
    #[serde(skip)]
    pub outputs: Outputs,
}

/// Most bytes of a configuration.
const LARGEST: u64 = 16_000_000;

/// A potential: ML-PACE by its files, or any other by LAMMPS commands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Potential {
    /// The ML-PACE potential: `.yaml` (B-basis, which γ needs) or, without γ, `.yace`.
    pub file: Option<PathBuf>,
    /// The active set, `.asi`; the same name as `file` if absent.
    pub active_set: Option<PathBuf>,
    /// Which evaluator of ML-PACE potentials to use. Both give the same numbers, but where elements differ in their number of
    /// densities: ML-PACE's are wrong there, and refused. Each reads some files that the other does not.
    #[serde(default)]
    pub engine: Engine,
    /// Arguments of `pair_style` for any other potential, e.g. `"eam/fs"`.
    pub pair_style: Option<String>,
    /// Arguments of `pair_coeff`, e.g. `["* * Al_mm.eam.fs Al"]`.
    #[serde(default)]
    pub pair_coeff: Vec<String>,
    /// Cutoff in Å, for the checks of the cut-out. Read from the file for ML-PACE, else from LAMMPS, if absent.
    pub cutoff: Option<f64>,
}

/// In what the simulations of one job differ, besides their seeds: for `lammps-otf run --replicas R`.
///
/// A list that is not empty has one entry for each replica, in their order, in place of the field of the same name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Replicas {
    /// [`InferenceConfig::temperature`] of each.
    pub temperatures: Vec<Ramp>,
    /// [`InferenceConfig::structure`] of each.
    pub structures: Vec<PathBuf>,
}

impl Replicas {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The evaluators of ML-PACE potentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The one of this project, several times as fast: `pace/opt`, `pace/extrapolation/opt`.
    #[default]
    Opt,
    /// ML-PACE's own, which the other is tested against: `pace`, `pace/extrapolation`.
    MlPace,
}

/// A value, or a linear change over the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number, or [start, end] for a ramp")]
pub enum Ramp {
    /// The same from start to end.
    Constant(f64),
    /// From the first to the second.
    Linear([f64; 2]),
}

/// What is held constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ensemble {
    /// Energy and volume.
    Nve,
    /// Temperature and volume.
    #[default]
    Nvt,
    /// Temperature and pressure.
    Npt,
}

/// How the temperature is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Thermostat {
    /// Nosé–Hoover chains, deterministic.
    #[default]
    NoseHoover,
    /// Friction and random forces.
    Langevin,
}

/// How the cell may change under pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Barostat {
    /// All edges by the same factor.
    #[default]
    Iso,
    /// Each edge by itself.
    Aniso,
    /// Edges and angles.
    Tri,
}

/// Where the initial velocities come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Velocities {
    /// From the structure, or from what `create` reads, if any atom moves there, else drawn. Those of a structure are
    /// refused where their temperature is more than 1000 times above or below `temperature`.
    #[default]
    Auto,
    /// Drawn from a Gaussian at the starting temperature.
    Create,
    /// From the structure, whatever they are.
    Keep,
}

/// Where the uncertainty of each atom comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Uncertainty {
    /// The extrapolation grade of ML-PACE.
    #[default]
    Pace,
    /// The per-atom vector of the fix with this id.
    Fix(String),
    /// The per-atom vector of the compute with this id.
    Compute(String),
    /// The atom-style variable of this name.
    Variable(String),
    /// Nothing: the run is not watched.
    None,
}

/// What happens above the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The region is stored and the run stops.
    #[default]
    Stop,
    /// The region is stored and the run goes on.
    Flag,
}

/// LAMMPS units of the set-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Units {
    /// Å, ps, eV, bar.
    #[default]
    Metal,
    /// Å, fs, kcal/mol, atm.
    Real,
}

/// What a frame must satisfy to be kept as the last valid one; beyond this the run counts as crashed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sanity {
    /// Highest temperature in K.
    pub max_temperature: f64,
    /// Largest force on an atom in eV/Å.
    pub max_force: f64,
    /// Largest distance in Å that an atom may go between two polls. If absent, 1000 Å/ps (1 Å in 1 fs) times the time
    /// between two polls: the speed of a hydrogen atom of 50 eV.
    pub max_displacement: Option<f64>,
}

impl Default for Sanity {
    fn default() -> Self {
        // Far beyond condensed matter: what exceeds them has exploded.
        Self { max_temperature: 1e5, max_force: 1e4, max_displacement: None }
    }
}

mod defaults {
    pub(super) fn steps() -> u64 {
        10_000
    }
    pub(super) fn timestep() -> f64 {
        0.001
    }
    pub(super) fn seed() -> u32 {
        1
    }
    pub(super) fn uncertainty_threshold() -> f64 {
        5.0
    }
    pub(super) fn uncertainty_low() -> f64 {
        2.0
    }
    pub(super) fn sampling_interval() -> u64 {
        100
    }
    pub(super) fn polls_file_size() -> f64 {
        64.0
    }
    pub(super) fn polls_files() -> u32 {
        16
    }
    pub(super) fn checkpoint_interval() -> u64 {
        10_000
    }
    pub(super) fn regions_per_event() -> usize {
        1
    }
    pub(super) fn max_candidates() -> usize {
        100
    }
    pub(super) fn verify() -> bool {
        true
    }
    pub(super) fn novelty() -> f64 {
        crate::embedding::DEFAULT_THRESHOLD
    }
    pub(super) fn min_distance() -> f64 {
        0.5
    }
}

impl Default for Ramp {
    fn default() -> Self {
        Self::Constant(0.0)
    }
}

impl Units {
    /// As LAMMPS calls them.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Metal => "metal",
            Self::Real => "real",
        }
    }
}

impl Ramp {
    /// The value at the start.
    #[must_use]
    pub fn start(self) -> f64 {
        match self {
            Self::Constant(value) | Self::Linear([value, _]) => value,
        }
    }

    /// The value at the end.
    #[must_use]
    pub fn end(self) -> f64 {
        match self {
            Self::Constant(value) | Self::Linear([_, value]) => value,
        }
    }

    fn all(self, ok: impl Fn(f64) -> bool) -> bool {
        ok(self.start()) && ok(self.end())
    }
}

impl InferenceConfig {
    /// Reads and checks a TOML file. Paths in it are taken relative to its folder.
    ///
    /// # Errors
    /// [`Error`], which names the file and line, or the field, its value and what is allowed.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::parse(&Self::text(path)?, path)
    }

    /// The text of a file, for [`InferenceConfig::parse`]; nothing larger than 16 MB, which is no configuration.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn text(path: &Path) -> Result<String, Error> {
        let unreadable = |source| Error::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(unreadable)?.len() > LARGEST {
            return Err(unreadable(std::io::Error::other("it is larger than 16 MB")));
        }
        std::fs::read_to_string(path).map_err(unreadable)
    }

    /// Checks the text of a TOML file; `path` names it in errors and is where relative paths begin.
    ///
    /// # Errors
    /// As [`InferenceConfig::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let mut config: Self = toml::from_str(text).map_err(|e| {
            // What is missing stands on no line.
            let missing = e.message().strip_prefix("missing field ").map(|name| match name {
                "`structure`" | "`temperature`" | "`potential`" => format!(
                    "the key {name} is missing; `lammps-otf init` writes a configuration with all that is needed"
                ),
                _ => format!("the key {name} is missing in the table that begins on line {}", line_of(text, e.span())),
            });
            let message = missing.unwrap_or_else(|| e.to_string());
            let hint = suggestion(&message);
            // The nearest name says more than the list of all.
            let end = if hint.is_empty() { None } else { message.find(", expected one of") };
            let message = message[..end.unwrap_or(message.len())].trim_end().to_owned();
            Error::Parse { path: path.to_owned(), hint, message }
        })?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        config.validate().map_err(|e| Error::InFile { path: path.to_owned(), source: Box::new(e) })?;
        Ok(config)
    }

    /// Number of steps between two checkpoints, a multiple of the sampling interval; `None` for a run without.
    #[must_use]
    pub fn checkpoint_steps(&self) -> Option<u64> {
        let every = self.checkpoint_interval.div_ceil(self.sampling_interval) * self.sampling_interval;
        (every > 0).then_some(every)
    }

    /// Settings that are in order each by itself and do nothing together.
    #[must_use]
    pub fn remarks(&self) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let mut remark = |message: String, remedy| remarks.push(Remark { message, remedy });
        // A template of one's own may make of them what it likes.
        if self.template.is_none() && self.ensemble == Ensemble::Nve && matches!(self.temperature, Ramp::Linear(_)) {
            let t = Shown(self.temperature);
            remark(
                format!("`ensemble = \"nve\"` holds no temperature: of `temperature = {t:?}` only the first counts."),
                "Give one temperature, or choose \"nvt\" or \"npt\".",
            );
        }
        if self.template.is_none() && self.ensemble != Ensemble::Npt && !self.pressure.all(|p| p == 0.0) {
            remark(
                "`pressure` is held with `ensemble = \"npt\"` only.".into(),
                "Choose that, or leave `pressure` out.",
            );
        }
        let (every, steps) = (self.sampling_interval, self.steps);
        if self.uncertainty != Uncertainty::None && every > steps {
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
        VelocityDoubt::of(measured, self.temperature.start(), self.velocities)
    }

    fn resolve(&mut self, folder: &Path) {
        if let Some(active_learning) = &mut self.active_learning {
            active_learning.resolve(folder);
        }
        let potential = &mut self.potential;
        let structure = (!self.structure.as_os_str().is_empty()).then_some(&mut self.structure);
        let paths = [structure, potential.file.as_mut(), potential.active_set.as_mut()]
            .into_iter()
            .flatten()
            .chain(self.template.as_mut())
            .chain(self.plugins.iter_mut())
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
            config.temperature = temperature;
        }
        if let Some(structure) = entry("replicas.structures", &self.replicas.structures, index, count)? {
            config.structure = structure;
        }
        // A step that has no factor in common with the number of seeds meets each of them once.
        config.seed = ((u64::from(self.seed) - 1 + 618_033_989 * index as u64) % 900_000_000) as u32 + 1;
        config.validate()?;
        Ok(config)
    }

    /// The switches that LAMMPS is opened with.
    #[must_use]
    pub fn lammps_arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let kokkos = |given: &String| given == "-k" || given == "-kokkos";
        let suffix: Vec<&str> = self.suffix.iter().flat_map(|s| s.split_whitespace()).collect();
        if suffix.contains(&"kk") && !self.lammps_args.iter().any(kokkos) {
            arguments.extend(["-kokkos", "on"].map(str::to_owned));
        }
        for (switch, text) in
            self.package.iter().map(|p| ("-package", p)).chain(self.suffix.iter().map(|s| ("-suffix", s)))
        {
            arguments.push(switch.to_owned());
            arguments.extend(text.split_whitespace().map(str::to_owned));
        }
        arguments.extend_from_slice(&self.lammps_args);
        arguments
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Range`] for the first field that is out of its range.
    pub fn validate(&self) -> Result<(), Error> {
        let words = |text: &str| !text.trim().is_empty() && !text.split_whitespace().any(|w| w.starts_with('-'));
        let check = |ok: bool, field, value: &dyn std::fmt::Debug, allowed| {
            if ok { Ok(()) } else { Err(Error::Range { field, value: format!("{value:?}"), allowed }) }
        };
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let temperature = |t: f64| (0.0..=1e6).contains(&t);

        let named = !self.structure.as_os_str().is_empty();
        check(
            named == self.create.is_empty(),
            "structure",
            &self.structure,
            "a file, or absent where `create` is given; `lammps-otf init` writes a configuration with all that is needed",
        )?;
        let missing = !self.create.is_empty() && self.elements.is_empty();
        check(!missing, "elements", &self.elements, "the chemical symbol of each type that `create` makes")?;
        let switch =
            "what stands behind LAMMPS's switch of that name, without other switches; those go into lammps_args";
        check(self.suffix.as_deref().is_none_or(words), "suffix", &self.suffix, switch)?;
        check(self.package.iter().all(|p| words(p)), "package", &self.package, switch)?;
        let t = self.temperature;
        check(t.all(temperature), "temperature", &Shown(t), "between 0 and 1000000 K")?;
        let thermostatted = self.ensemble != Ensemble::Nve;
        check(!thermostatted || t.all(positive), "temperature", &Shown(t), "above 0 K where a thermostat holds it")?;
        let p = self.pressure;
        check(p.all(|p| p.abs() <= 1e9), "pressure", &Shown(p), "a finite number of bar, at most 1e9 in size")?;
        check(self.steps >= 1, "steps", &self.steps, "1 or more")?;
        check(self.steps <= i64::MAX as u64 / 2, "steps", &self.steps, "less than 2^62")?;
        let dt = self.timestep;
        check(dt > 0.0 && dt <= 0.1, "timestep", &dt, "above 0 and at most 0.1 ps (0.001 is usual)")?;
        for (field, damping) in
            [("temperature_damping", self.temperature_damping), ("pressure_damping", self.pressure_damping)]
        {
            check(
                damping.is_none_or(|d| positive(d) && d >= dt),
                field,
                &damping.unwrap_or_default(),
                "a time in ps not below the timestep",
            )?;
        }
        check(self.seed >= 1 && self.seed <= 900_000_000, "seed", &self.seed, "between 1 and 900000000")?;
        let (low, high) = (self.uncertainty_low, self.uncertainty_threshold);
        check(positive(high), "uncertainty_threshold", &high, "a number above 0 (5 is usual)")?;
        check(
            positive(low) && low <= high,
            "uncertainty_low",
            &low,
            "above 0 and not above `uncertainty_threshold`: set it lower too, also where it was left out",
        )?;
        let n = self.sampling_interval;
        check((1..=i32::MAX as u64).contains(&n), "sampling_interval", &n, "between 1 and 2147483647 steps")?;
        let regions = self.regions_per_event;
        check((1..=1000).contains(&regions), "regions_per_event", &regions, "between 1 and 1000")?;
        check(self.max_candidates >= 1, "max_candidates", &self.max_candidates, "1 or more")?;
        check(
            positive(self.sanity.max_temperature),
            "sanity.max_temperature",
            &self.sanity.max_temperature,
            "above 0 K",
        )?;
        check(positive(self.sanity.max_force), "sanity.max_force", &self.sanity.max_force, "above 0 eV/Å")?;
        let far = self.sanity.max_displacement;
        check(far.is_none_or(positive), "sanity.max_displacement", &far, "a length in Å above 0")?;
        let size = self.polls_file_size;
        check((0.001..=1e6).contains(&size), "polls_file_size", &size, "between 0.001 and 1000000 MB")?;
        check(self.polls_files >= 1, "polls_files", &self.polls_files, "1 or more")?;
        let every = self.checkpoint_interval;
        check(every <= i64::MAX as u64 / 2, "checkpoint_interval", &every, "0 (none) or less than 2^62 steps")?;
        let d = self.min_distance;
        check((0.0..=10.0).contains(&d), "min_distance", &d, "between 0 and 10 Å")?;
        check((0.0..=2.0).contains(&self.novelty), "novelty", &self.novelty, "between 0 and 2")?;
        check(
            self.wall_time.is_none_or(positive),
            "wall_time",
            &self.wall_time.unwrap_or_default(),
            "a number of seconds above 0",
        )?;
        self.potential.validate()?;
        if self.uncertainty == Uncertainty::Pace {
            self.potential.check_for_gamma()?;
            check(self.units == Units::Metal, "units", &"real", "\"metal\": ML-PACE takes no other units")?;
        }
        if let Some(active_learning) = &self.active_learning {
            active_learning.validate(high)?;
        }
        self.embedding.validate()?;
        Ok(())
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

/// Velocities whose temperature is far from the one that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VelocityDoubt {
    /// What is said of them.
    pub remark: Remark,
    /// Whether a run does not begin with them: they are off by more than a factor of 1000 in temperature, and the
    /// configuration does not say that they are meant.
    pub refused: bool,
}

impl VelocityDoubt {
    /// What is to be said of velocities with the temperature `measured` where `wanted` is asked for, both in K; `None` if
    /// they are within a factor of 10. Mostly such velocities are in other units than Å/ps.
    #[must_use]
    pub fn of(measured: f64, wanted: f64, velocities: Velocities) -> Option<Self> {
        let within = |factor: f64| (wanted / factor..=wanted * factor).contains(&measured);
        if wanted == 0.0 || within(10.0) || measured.is_nan() {
            return None;
        }
        if measured == 0.0 {
            let message = format!("all atoms are at rest at the start, and `temperature` is {wanted} K.");
            let remedy = "If that is not meant, have velocities drawn by `velocities = \"create\"`.";
            return Some(Self { remark: Remark { message, remedy }, refused: false });
        }
        // A number in such a unit, taken for one in Å/ps, is too small by this factor.
        let units = [
            ("Å/fs (LAMMPS's `units real`, GPUMD)", 1000.0),
            ("ASE's unit, √(eV/u)", crate::io::extxyz::ASE_VELOCITY),
            ("nm/ps", 10.0),
            ("m/s", 0.01),
            ("atomic units", 21_876.912_6),
        ];
        let factor = (wanted / measured).sqrt();
        let unit = units.iter().find(|(_, unit)| (0.5..=2.0).contains(&(factor / unit)));
        let why =
            unit.map_or(String::new(), |(name, _)| format!(": they look like numbers in {name}, and Å/ps is expected"));
        let shown = if (0.1..1e5).contains(&measured) { format!("{measured:.1}") } else { format!("{measured:.1e}") };
        let message = format!("the velocities are those of {shown} K, and `temperature` is {wanted} K{why}.");
        let remedy = "Convert them, have new ones drawn by `velocities = \"create\"`, or take them as they are by \
                      `velocities = \"keep\"`.";
        let refused = velocities == Velocities::Auto && !within(1000.0);
        Some(Self { remark: Remark { message, remedy }, refused })
    }
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.message, self.remedy)
    }
}

/// Prints a ramp as it is written in the file.
struct Shown(Ramp);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Ramp::Constant(value) => write!(f, "{value:?}"),
            Ramp::Linear(values) => write!(f, "{values:?}"),
        }
    }
}

impl Potential {
    /// The files of an ML-PACE potential and its active set; `None` for another kind of potential.
    #[must_use]
    pub fn pace_files(&self) -> Option<(PathBuf, PathBuf)> {
        let file = self.file.clone()?;
        let active_set = self.active_set.clone().unwrap_or_else(|| file.with_extension("asi"));
        Some((file, active_set))
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |field, value: &dyn std::fmt::Debug, allowed| {
            Err(Error::Range { field, value: format!("{value:?}"), allowed })
        };
        match (&self.file, &self.pair_style) {
            (None, None) => {
                return refuse(
                    "potential",
                    &format_args!("{{}}"),
                    "given by `file` (ML-PACE), or by `pair_style` and `pair_coeff`",
                );
            }
            (Some(file), Some(_)) => {
                return refuse("potential.file", file, "absent where `pair_style` is given: one potential at a time");
            }
            (None, Some(_)) if self.pair_coeff.is_empty() => {
                return refuse(
                    "potential.pair_coeff",
                    &self.pair_coeff,
                    "given with `pair_style`, e.g. [\"* * file Al\"]",
                );
            }
            _ => {}
        }
        for (field, file) in [("potential.file", &self.file), ("potential.active_set", &self.active_set)] {
            if let Some(path) = file.as_deref().filter(|p| !p.is_file()) {
                return refuse(field, &path, "a file that exists");
            }
        }
        let leaves_its_line = |t: &&String| t.contains(['\n', '\r', '&', '$']) || t.contains("\"\"\"");
        if let Some(text) = self.pair_style.iter().chain(&self.pair_coeff).find(leaves_its_line) {
            return refuse("potential.pair_style or pair_coeff", text, "on one line, without `&`, `$` and `\"\"\"`");
        }
        if let Some(cutoff) = self.cutoff.filter(|c| !(0.5..=100.0).contains(c)) {
            return refuse("potential.cutoff", &cutoff, "between 0.5 and 100 Å");
        }
        Ok(())
    }

    /// γ needs the B-basis and its active set.
    fn check_for_gamma(&self) -> Result<(), Error> {
        let refuse = |field, path: &Path, allowed| Err(Error::Range { field, value: format!("{path:?}"), allowed });
        let Some((file, active_set)) = self.pace_files() else {
            return Err(Error::Range {
                field: "uncertainty",
                value: "\"pace\"".into(),
                allowed: "\"none\", or { fix | compute | variable = \"name\" } where the potential is not ML-PACE",
            });
        };
        match file.extension().and_then(|e| e.to_str()) {
            Some("yaml" | "yml") => {}
            Some("yace") => {
                return refuse(
                    "potential.file",
                    &file,
                    "the .yaml file of the same fit: a .yace holds the C-tilde basis, from which the extrapolation grade \
                     cannot be computed and which cannot be turned back. γ needs the B-basis (.yaml) and its active set \
                     (.asi), which pacemaker writes as output_potential.yaml and `pace_activeset` makes from it; or set \
                     uncertainty = \"none\" to run without γ",
                );
            }
            _ => {
                return refuse("potential.file", &file, "a .yaml file (B-basis), with its active set (.asi) beside it");
            }
        }
        if !active_set.is_file() {
            return refuse(
                "potential.active_set",
                &active_set,
                "an .asi file that exists: make it with `pace_activeset -d <fitting data> <potential>.yaml`",
            );
        }
        Ok(())
    }
}

/// The line, from 1, on which a part of the text begins.
fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start);
    text.bytes().take(start).filter(|&b| b == b'\n').count() + 1
}

/// ". Did you mean `temperature`?" for a parser's "unknown field `temprature`, expected one of `a`, `b`".
fn suggestion(message: &str) -> String {
    let Some(at) = message.find("unknown field `").or_else(|| message.find("unknown variant `")) else {
        return String::new();
    };
    let mut names = message[at..].split('`').skip(1).step_by(2);
    let Some(unknown) = names.next() else { return String::new() };
    names
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .map(|(_, name)| format!("\nDid you mean `{name}`?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn velocities_in_other_units_are_named() {
        let of = |measured: f64| VelocityDoubt::of(measured, 300.0, Velocities::Auto);
        // Within what a start from another temperature may be.
        assert!([30.0, 300.0, 3000.0, f64::NAN].iter().all(|kelvin| of(*kelvin).is_none()));
        assert_eq!(VelocityDoubt::of(5.0, 0.0, Velocities::Auto), None);
        for (factor, unit) in
            [(1000.0, "Å/fs"), (98.2, "ASE's unit"), (10.5, "nm/ps"), (0.01, "m/s"), (21_900.0, "atomic units")]
        {
            let doubt = of(300.0 / (factor * factor)).unwrap();
            assert!(doubt.remark.message.contains(unit), "{doubt:?}");
            assert_eq!(doubt.refused, factor != 10.5, "{doubt:?}");
        }
        let cold = of(25.0).unwrap();
        assert!(cold.remark.message.ends_with("25.0 K, and `temperature` is 300 K.") && !cold.refused, "{cold:?}");
        for velocities in [Velocities::Keep, Velocities::Create] {
            assert!(!VelocityDoubt::of(3e-4, 300.0, velocities).unwrap().refused);
        }
        assert!(of(0.0).unwrap().remark.message.contains("at rest"));
    }
}
