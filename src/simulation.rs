// SPDX-License-Identifier: GPL-2.0-or-later
//! A run of molecular dynamics that yields an [`Event`] at each poll.
//!
//! LAMMPS pauses after each `sampling_interval` steps, in the middle of one long run ([`Lammps::begin_run`]). Without the pause
//! fix it does separate runs of that many steps, without set-up (`run K pre no post no`). In both cases no forces are
//! computed that one uninterrupted run would not compute. At each poll LAMMPS is at rest and all arrays can be read in place.

mod audit;
mod bias;
mod centers;
mod cut_out;
mod swap;
mod trajectory;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ndarray::ArrayView1;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::calibration::ErrorBound;
use crate::comm::{CollectiveError, Comm};
use crate::config::{InferenceConfig, Sanity, Threshold, Uncertainty, WatchConfig};
pub use crate::embedding::CutOut;
use crate::embedding::EmbeddingExtractor;
use crate::frame::{Frame, FrameFault};
use crate::lammps::{self, Lammps, PairDevice, RankFailure};
use crate::potential::BasisSize;
use crate::script::{self, GammaFix, Script, UnitFactors};
use crate::structure::{AtomId, Element, FixedAtoms, Structure, Vec3, nonstandard_masses};
use crate::uncertainty::{
    BlindSpotLimits, BlindSpotValues, BlindSpots, Cause, CoreSummary, GammaSummary, LocalBlindSpots, LocalGamma,
    SparseSummary, Thresholds, Verdict,
};
use bias::SimulationBias;
pub use bias::{BiasState, BiasSummary, Guard};
use centers::add_regions;
pub use centers::{Center, EventCenter, worst_regions};
use cut_out::LocalAtoms;
pub use cut_out::Neighbourhood;
use trajectory::Trajectory;

/// The result of [`Simulation::advance`].
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one value exists at a time")]
pub enum Event {
    /// The present state is valid.
    Polled(Poll),
    /// The run has crashed. The last valid frame is available: [`Simulation::last_valid`], [`Simulation::restore`].
    Crashed(Crash),
    /// All steps are done.
    Finished,
}

/// One poll of the running simulation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Poll {
    /// Version of this format. It changes with every incompatible change; new keys can be added without one.
    #[serde(default)]
    pub format: PollFormat,
    /// Time step.
    pub step: i64,
    /// Number of steps since the start of the run; differs from `step` if the run did not start at step 0.
    #[serde(default)]
    pub steps: i64,
    /// Simulated time in ps, as the LAMMPS thermo keyword `time`, which accounts for changes of the time step.
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub time: f64,
    /// Temperature in K.
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub temperature: f64,
    /// Pressure in bar.
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub pressure: f64,
    /// Potential energy in eV.
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub potential_energy: f64,
    /// Total energy in eV.
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub total_energy: f64,
    /// Volume of the box in Å³. `null` in JSON unless it is periodic in all directions.
    #[serde(default = "not_known", deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub volume: f64,
    /// Density in g/cm³, with the atoms at the start of the run. `null` in JSON where `volume` is.
    #[serde(default = "not_known", deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub density: f64,
    /// The cell vectors, Å.
    #[serde(default, deserialize_with = "otf_store::json::matrix_or_nan")]
    #[schemars(with = "[[Option<f64>; 3]; 3]")]
    pub cell: [Vec3; 3],
    /// Pressure tensor in bar: xx, yy, zz, yz, xz, xy. `null` in JSON if the thermo output of the set-up lacks it.
    #[serde(default, deserialize_with = "otf_store::json::six_or_nan")]
    #[schemars(with = "Option<[Option<f64>; 6]>")]
    pub pressure_tensor: Option<[f64; 6]>,
    /// γ of all atoms. `null` in JSON if the run is not monitored, and at a last step that is not a multiple of
    /// `sampling_interval`.
    pub gamma: Option<GammaSummary>,
    /// The largest γ of the atoms of each element. Empty where `gamma` is `null`, and with a single element.
    #[serde(default, deserialize_with = "otf_store::json::map_or_infinite")]
    #[schemars(with = "BTreeMap<String, Option<f64>>")]
    pub gamma_by_element: BTreeMap<String, f64>,
    /// Core shares of all atoms. `null` in JSON where `gamma` is, with `core_share = 1`, and for pair styles that do not know them.
    #[serde(default)]
    pub core: Option<CoreSummary>,
    /// Atoms with few neighbours. `null` in JSON where `gamma` is, and if neighbours are not counted (`sparse_neighbours`).
    #[serde(default)]
    pub sparse: Option<SparseSummary>,
    /// Verdict on γ, core shares and neighbours.
    pub verdict: Verdict,
    /// Bound of the calibration at the largest γ, eV/Å: the force error that a random atom with this γ does not exceed with the coverage in
    /// `uncertainty_threshold`. `null` in JSON without a calibration, and if its regions are too few.
    #[serde(default)]
    pub force_error: Option<f64>,
    /// The bias of an exploration. `null` in JSON without `[explore]`, and at a last step that is not a multiple of
    /// `sampling_interval`.
    #[serde(default)]
    pub bias: Option<BiasSummary>,
    /// Why the verdict is `extrapolating`; of several reasons the first of `gamma`, `core`, `sparse`. `null` in JSON otherwise.
    #[serde(default)]
    pub trigger: Option<Cause>,
    /// Wall time in seconds since the previous poll, excluding the time of that poll.
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub seconds: f64,
    /// Simulated time per wall time since the previous poll, ns/day, excluding the time of that poll. `null` in JSON without steps since
    /// then.
    #[serde(default)]
    pub ns_per_day: Option<f64>,
}

/// The value of keys that earlier versions did not write.
fn not_known() -> f64 {
    f64::NAN
}

impl Poll {
    /// The atom to which an event, or else the next crash, is attributed: the one that is the [`trigger`](Poll::trigger), or has the
    /// largest γ. `None` if nothing is monitored.
    #[must_use]
    pub fn suspect(&self) -> Option<AtomId> {
        let of_trigger = match self.trigger {
            Some(Cause::Core) => self.core.as_ref().and_then(|core| core.worst_id),
            Some(Cause::Sparse) => self.sparse.as_ref().and_then(|sparse| sparse.fewest_id),
            Some(Cause::Gamma) | None => None,
        };
        of_trigger.or_else(|| self.gamma.as_ref().map(|gamma| gamma.worst_id))
    }

    /// The cause of an event in words, such as `γ passed 5: 7.25 at atom 12`. `None` if the poll is not an event.
    #[must_use]
    pub fn event(&self, config: &WatchConfig) -> Option<String> {
        let gamma = self.gamma.as_ref()?;
        let id = self.suspect()?;
        Some(match (self.trigger?, &self.core, &self.sparse) {
            (Cause::Core, Some(core), _) => format!(
                "the core share passed {}: {:.3} at atom {id} (largest γ: {:.2})",
                config.core_share, core.max, gamma.max
            ),
            (Cause::Sparse, _, Some(sparse)) => {
                let number = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
                let (atoms, fewest) =
                    (number(sparse.atoms, "atom"), number(sparse.fewest.unwrap_or_default(), "neighbour"));
                format!("too few neighbours at {atoms}: {fewest} at atom {id} (largest γ: {:.2})", gamma.max)
            }
            _ => match &config.uncertainty_threshold {
                Threshold::Grade(high) => format!("γ passed {high}: {:.2} at atom {id}", gamma.max),
                tolerated => format!("γ passed the threshold {tolerated}: {:.2} at atom {id}", gamma.max),
            },
        })
    }
}

/// The version of the format of a [`Poll`] in JSON, written as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u32", into = "u32")]
#[schemars(with = "u32")]
pub struct PollFormat;

impl PollFormat {
    /// The current version.
    pub const NUMBER: u32 = 1;
}

impl From<PollFormat> for u32 {
    fn from(_: PollFormat) -> Self {
        PollFormat::NUMBER
    }
}

impl TryFrom<u32> for PollFormat {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        if number == Self::NUMBER {
            return Ok(Self);
        }
        Err(format!("polls have format {number}, and this program reads format {}", Self::NUMBER))
    }
}

/// Why a run has crashed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Crash {
    /// The step at which the crash was found.
    pub step: i64,
    /// The kind of crash.
    pub kind: CrashKind,
    /// LAMMPS's own text, or the check that failed.
    pub reason: String,
}

impl Crash {
    /// Classifies an error of LAMMPS.
    fn from_reason(step: i64, reason: String) -> Self {
        let kind = if reason.contains("Lost atoms") {
            CrashKind::LostAtoms
        } else if reason.contains("Non-numeric") || mentions_nan(&reason) {
            CrashKind::NotFinite
        } else {
            CrashKind::LammpsError
        };
        Self { step, kind, reason }
    }
}

/// Kinds of crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashKind {
    /// LAMMPS lost atoms.
    LostAtoms,
    /// A coordinate, velocity or force is not a finite number.
    NotFinite,
    /// Temperature, forces or displacements exceed the limits in `sanity`.
    LimitExceeded,
    /// The files of the run cannot be written, e.g. because the disk is full.
    Unwritable,
    /// LAMMPS or a plugin failed for another reason.
    LammpsError,
}

/// An error that ends a simulation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The set-up or another call into LAMMPS failed; [`lammps::Error::RankFailure`] if this rank failed alone.
    #[error(transparent)]
    Lammps(#[from] lammps::Error),
    /// The template failed.
    #[error(transparent)]
    Script(#[from] crate::script::Error),
    /// The potential cannot replace the running one, which stays in use.
    #[error("the new potential cannot replace the running one: {0}")]
    Swap(String),
    /// No atom has this id.
    #[error("no atom has the id {0}")]
    NoAtom(AtomId),
    /// The neighbourhood cannot be cut out.
    #[error(transparent)]
    Embedding(#[from] crate::embedding::Error),
    /// Another rank failed.
    #[error(transparent)]
    Remote(#[from] crate::comm::RemoteError),
}

impl CollectiveError for Error {
    fn is_rank_failure(&self) -> bool {
        self.rank_failure().is_some()
    }
}

impl Error {
    /// The failure of this rank alone, after which the job must be aborted ([`Comm::abort`]).
    #[must_use]
    pub fn rank_failure(&self) -> Option<&RankFailure> {
        match self {
            Self::Lammps(lammps::Error::RankFailure(alone)) => Some(alone),
            _ => None,
        }
    }
}

/// A running simulation.
///
/// # MPI
/// Dropping it is collective.
#[derive(Debug)]
pub struct Simulation {
    comm: Comm,
    lammps: Lammps,
    script: Script,
    elements: Vec<Element>,
    fixed: Vec<FixedAtoms>,
    /// The mass of each type, u; `None` where all are the standard ones.
    masses: Option<Vec<f64>>,
    uncertainty: Uncertainty,
    /// The fix for γ, if the set-up defines it with `fix pair`.
    gamma_fix: Option<GammaFix>,
    thresholds: Thresholds,
    /// The configured lower threshold.
    low: f64,
    /// Predicts the force error at each poll.
    force_errors: Option<ErrorBound>,
    audits: audit::Audits,
    /// The bias of an exploration.
    bias: Option<SimulationBias>,
    blind_spots: BlindSpots,
    sanity: Sanity,
    units: UnitFactors,
    interval: i64,
    first: i64,
    last: i64,
    setup: SetupState,
    /// Whether the next poll is the first one of a run that was resumed.
    resumed: bool,
    /// Whether LAMMPS can pause within a run.
    can_pause: bool,
    /// Number of polls, including the present one.
    polls: u64,
    /// The last valid frame.
    frame: Frame,
    /// Whether the present state is to become the last valid frame: see [`Simulation::commit_frame`].
    pending: bool,
    /// Id and position of the atom with the largest γ at the last poll.
    worst: Option<(AtomId, Vec3)>,
    /// Files to which the commands of the set-up append.
    growing_files: Vec<PathBuf>,
    /// Total mass of the atoms, u.
    mass: f64,
    /// LAMMPS's time at the previous poll; NaN before the first.
    polled_time: f64,
    /// The dump of the frames.
    trajectory: Option<Trajectory>,
    /// Cutoff of the potential, Å, if known.
    cutoff: Option<f64>,
    /// Where LAMMPS evaluates the pair style.
    device: PairDevice,
    /// The basis of the potential, with a pair style of KOKKOS, if known.
    basis: Option<BasisSize>,
}

/// Whether forces, neighbour lists and fixes are set up, and what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SetupState {
    /// Not set up. The next event is a set-up and a poll of the present state, without a step.
    NeedsPoll,
    /// Set up. The next event is a poll of the present state, without a step.
    Initial,
    /// Not set up, and the present state has been polled. Steps follow after a set-up.
    NeedsSetup,
    /// Set up, and the present state has been polled. Steps follow.
    Ready,
}

impl SetupState {
    /// Whether the next event is a poll of the present state.
    fn polls_present_state(self) -> bool {
        matches!(self, Self::NeedsPoll | Self::Initial)
    }

    fn needs_setup(self) -> bool {
        matches!(self, Self::NeedsPoll | Self::NeedsSetup)
    }
}

/// The state from which an interrupted run is resumed.
#[derive(Debug, Clone, Copy)]
pub struct Resumption<'a> {
    /// A file written by [`Simulation::checkpoint`].
    pub restart: &'a Path,
    /// The step of the file.
    pub step: i64,
    /// The step at which the run began, to which ramps and the number of steps refer.
    pub first: i64,
    /// The state of the bias: [`Simulation::bias_state`] at the checkpoint.
    pub bias: Option<BiasState>,
}

/// Whether the text contains "nan" as a word, not as part of a name.
fn mentions_nan(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| word.eq_ignore_ascii_case("nan"))
}

/// One u/Å³ in g/cm³: the atomic mass constant (CODATA 2018) in g, times 1e24.
const U_PER_CUBIC_ANGSTROM: f64 = 1.660_539_066_60;

/// Total mass of the atoms of all ranks, u. `masses` are those of the types; NaN if they are not set.
fn total_mass(lammps: &Lammps, masses: &[f64], comm: &Comm) -> f64 {
    let mass = |kind: &i32| masses.get(*kind as usize - 1).copied().unwrap_or(f64::NAN);
    let mut sum = [lammps.types().iter().map(mass).sum::<f64>()];
    comm.sum(&mut sum);
    sum[0]
}

/// Steps of one run of LAMMPS, which counts them with 32 bits.
const MAX_RUN: i64 = 1 << 29;

/// A time in ps without the rounding errors of LAMMPS's sum, which depend on the number of runs.
fn rounded(time: f64) -> f64 {
    (time * 1e12).round() / 1e12
}

/// Speed in Å/ps that sets the default of [`Sanity::max_displacement`].
const MAX_SPEED: f64 = 1000.0;

/// Polls after which LAMMPS's log is closed. LAMMPS writes a row for each, or a table if it cannot pause.
const MAX_LOGGED_POLLS: u64 = 100_000;

/// γ and the blind spots of this rank's atoms; `None` if γ is not evaluated.
fn watched_values<'a>(
    uncertainty: &Uncertainty,
    blind_spots: &BlindSpots,
    lammps: &'a Lammps,
) -> Result<Option<(ArrayView1<'a, f64>, BlindSpotValues<'a>)>, Error> {
    let Some(gamma) = uncertainty.values(lammps)? else { return Ok(None) };
    Ok(Some((gamma, blind_spots.values(lammps)?)))
}

impl Simulation {
    /// Opens LAMMPS and sets the run up: forces are computed, and output files of the set-up are open.
    ///
    /// Elements and boundaries come from `structure`; LAMMPS reads the atoms from `data`. `log` is LAMMPS's log file.
    ///
    /// # Errors
    /// If LAMMPS does not accept the configuration, the potential or the template.
    ///
    /// # MPI
    /// Collective.
    pub fn new(
        config: &InferenceConfig,
        structure: &Structure,
        data: &Path,
        log: Option<&Path>,
        comm: &Comm,
    ) -> Result<Self, Error> {
        comm.agree(Self::open(config, structure, data, None, log, comm))
    }

    /// As [`Simulation::new`], for a run that is resumed from a checkpoint. [`Simulation::restore`] still reads `data`. `log` is
    /// appended to.
    ///
    /// With the same configuration and number of ranks, trajectories of NVE and Nosé–Hoover NVT runs are bitwise identical
    /// to those of an uninterrupted run. A barostat stores fewer digits, and a Langevin thermostat draws other random numbers.
    ///
    /// # Errors
    /// As [`Simulation::new`]; LAMMPS's own text for the restart file.
    ///
    /// # MPI
    /// Collective.
    pub fn resume(
        config: &InferenceConfig,
        structure: &Structure,
        data: &Path,
        from: Resumption<'_>,
        log: Option<&Path>,
        comm: &Comm,
    ) -> Result<Self, Error> {
        comm.agree(Self::open(config, structure, data, Some(from), log, comm))
    }

    fn open(
        config: &InferenceConfig,
        structure: &Structure,
        data: &Path,
        from: Option<Resumption<'_>>,
        log: Option<&Path>,
        comm: &Comm,
    ) -> Result<Self, Error> {
        let script = Script::new(config, structure, data)?;
        // Agreed, because each rank reads the template, and one may fail.
        let commands = comm.agree(match from {
            Some(from) => {
                script.resumed(from.restart, from.step).and_then(|script| script.render()).map_err(Error::from)
            }
            None => script.render().map_err(Error::from),
        })?;
        comm.agree(if comm.is_root() { script::check_folders(&commands).map_err(Error::from) } else { Ok(()) })?;
        let folder = log.and_then(Path::parent);
        let append = match log.filter(|_| from.is_some()) {
            Some(log) => format!("log {} append\n", lammps::quote_path(log)?),
            None => String::new(),
        };
        let log = log.filter(|_| from.is_none()).map_or_else(|| "none".to_owned(), |p| p.display().to_string());
        let mut arguments: Vec<&str> = vec!["-screen", "none", "-log", &log, "-nocite"];
        let more = config.lammps_arguments();
        arguments.extend(more.iter().map(String::as_str));

        let mut lammps = Lammps::open(&arguments, comm)?;
        let is_pace = config.system.potential.file.is_some();
        if is_pace {
            lammps.require_pair_style(&script.pair_style, &config.lammps.plugins)?;
        } else {
            for plugin in &config.lammps.plugins {
                lammps.load_plugin(plugin)?;
            }
        }
        lammps.command(&(append + &commands))?;
        // The set-up can contain `plugin load`.
        lammps.check_plugins()?;
        let (types, named) = (lammps.setting("ntypes"), structure.elements.len());
        if types != named as i64 {
            return Err(lammps::Error::Preflight(format!(
                "the set-up has {types} atom types, and {named} elements are known: give one for each type under \
                 `elements`"
            ))
            .into());
        }
        let style = script.pair_style.split_whitespace().next().unwrap_or_default();
        let device = lammps.pair_device(style)?;
        if script.gamma {
            device.check_precision()?;
        }
        // Also has the fix for γ.
        let can_pause = lammps.load_pause_fix()?;
        let gamma_fix = script.gamma_fix(&commands);
        let interval = config.watch.sampling_interval as i64;
        config.watch.uncertainty.watch(&mut lammps, interval, gamma_fix.as_ref())?;
        // An unreadable file was an error of the pair style before.
        let cutoff = crate::potential::reach(&config.system.potential).ok().flatten();
        let mut blind_spots = BlindSpots::new(BlindSpotLimits::of(config, device), &script.pair_style, cutoff);
        blind_spots.watch(&mut lammps, interval)?;
        let bias = SimulationBias::of(config, from.and_then(|from| from.bias));
        bias.iter().try_for_each(|bias| bias.apply(&mut lammps))?;
        // Not the masses of `structure`, which the set-up may have changed.
        let masses = lammps.type_masses();
        let first = from.map_or_else(|| lammps.step(), |from| from.first);
        let mass = total_mass(&lammps, &masses, comm);
        let trajectory = config.job.trajectory.as_ref().zip(folder);
        let trajectory =
            trajectory.map(|(settings, folder)| Trajectory::new(settings, folder, &structure.elements, script.gamma));
        let mut simulation = Self {
            comm: comm.clone(),
            lammps,
            elements: structure.elements.clone(),
            fixed: structure.fixed.clone(),
            masses: if masses.len() == named { nonstandard_masses(masses, &structure.elements) } else { None },
            uncertainty: config.watch.uncertainty.clone(),
            gamma_fix,
            thresholds: Thresholds {
                low: config.watch.uncertainty_low,
                high: config.watch.uncertainty_threshold.initial(),
            },
            low: config.watch.uncertainty_low,
            force_errors: None,
            audits: audit::Audits { rate: config.watch.audits_per_ps, seed: u64::from(config.md.seed) },
            bias,
            blind_spots,
            sanity: config.limits.sanity,
            units: UnitFactors::of(config.system.units),
            interval,
            first,
            last: first + config.md.steps as i64,
            setup: SetupState::NeedsPoll,
            resumed: from.is_some(),
            can_pause,
            polls: 0,
            frame: Frame::default(),
            pending: false,
            worst: None,
            growing_files: script::growing_files(&commands),
            mass,
            polled_time: f64::NAN,
            trajectory,
            cutoff,
            device,
            basis: if device == PairDevice::Cpu { None } else { BasisSize::of(&config.system.potential) },
            script,
        };
        if let Some(trajectory) = &simulation.trajectory {
            trajectory.start(&mut simulation.lammps, simulation.resumed)?;
        }
        // LAMMPS reports some errors of the set-up only here, e.g. an output file that cannot be written.
        simulation.set_up()?;
        simulation.setup = SetupState::Initial;
        Ok(simulation)
    }

    /// Sets up forces, neighbour lists and fixes.
    fn set_up(&mut self) -> Result<(), lammps::Error> {
        if self.can_pause {
            // The pause fix must be the last fix.
            self.lammps.pause_every(self.interval)?;
        }
        self.lammps.run(0, true, self.first..self.last)
    }

    /// Runs to the next poll. The first call polls the initial structure, before any step.
    ///
    /// # Errors
    /// [`Error::Lammps`] for a failure of this rank alone, after which the job must be aborted, or if the uncertainty cannot be
    /// read.
    ///
    /// # MPI
    /// Collective; all ranks get the same event.
    pub fn advance(&mut self) -> Result<Event, Error> {
        self.commit_frame();
        let step = self.lammps.step();
        if !self.setup.polls_present_state() && step >= self.last {
            return Ok(Event::Finished);
        }
        let started = Instant::now();
        match self.run_to_poll(step) {
            Ok(()) => {}
            Err(error) if error.is_rank_failure() => return Err(error.into()),
            Err(error) => return Ok(Event::Crashed(self.crash(&error))),
        }
        let is_new = self.setup != SetupState::Ready;
        let is_again = self.setup == SetupState::NeedsPoll;
        // The run that wrote the checkpoint was set up anew after it polled this step. Forces that ML-PACE computes together with
        // γ differ in the last digits from those without.
        self.setup = if std::mem::take(&mut self.resumed) { SetupState::NeedsSetup } else { SetupState::Ready };
        self.poll(started.elapsed(), is_new, is_again)
    }

    /// Runs to the step of the next poll.
    fn run_to_poll(&mut self, step: i64) -> Result<(), lammps::Error> {
        self.polls += 1;
        if self.polls == MAX_LOGGED_POLLS {
            self.lammps.command(&format!(
                "print \"The log ends after {MAX_LOGGED_POLLS} polls, to limit its size.\"\nlog none"
            ))?;
        }
        if self.setup.needs_setup() {
            self.set_up()?;
        }
        if self.setup.polls_present_state() {
            return Ok(());
        }
        self.lammps.continue_run()?;
        if self.lammps.step() != step {
            return Ok(());
        }
        // No run had paused, or it paused at its last step.
        let to_poll = self.interval - step.rem_euclid(self.interval);
        let left = self.last - step;
        if self.can_pause {
            let steps = left.min(MAX_RUN / self.interval * self.interval + to_poll);
            self.lammps.begin_run(steps, self.first..self.last)?;
        } else {
            self.lammps.run(left.min(to_poll), false, self.first..self.last)?;
        }
        if self.lammps.step() == step {
            return Err(lammps::Error::Preflight(format!(
                "LAMMPS does not continue beyond step {step}: `fix halt` or `timer timeout` in the template or under `setup` \
                 has ended the run"
            )));
        }
        Ok(())
    }

    /// Writes a LAMMPS restart file, from which a later process can resume the run.
    ///
    /// The next steps follow a new set-up, as in a process that reads the file, so that both trajectories are the same. This
    /// costs one more evaluation of the forces.
    ///
    /// # Errors
    /// [`Error::Lammps`] if the file cannot be written.
    ///
    /// # MPI
    /// Collective. Rank 0 writes, and receives the atoms of one other rank at a time.
    pub fn checkpoint(&mut self, file: &Path) -> Result<(), Error> {
        // Before the command, which redistributes the atoms, in which not every fix takes part.
        self.commit_frame();
        let file = lammps::quote_path(file)?;
        if self.setup == SetupState::Ready {
            self.setup = SetupState::NeedsSetup;
        }
        Ok(self.lammps.command(&format!("write_restart {file}"))?)
    }

    /// Checks the present state and evaluates γ; `is_new` after a set-up, `is_again` after a set-up at a step whose thermo output may have
    /// been printed before.
    fn poll(&mut self, elapsed: Duration, is_new: bool, is_again: bool) -> Result<Event, Error> {
        let now = self.lammps.state();
        let step = now.step;
        let crash = |kind, reason: String| Ok(Event::Crashed(Crash { step, kind, reason }));
        let last_valid = self.frame.cell().is_some().then(|| self.frame.step());
        let has_gamma = step.rem_euclid(self.interval) == 0;
        let values =
            if has_gamma { watched_values(&self.uncertainty, &self.blind_spots, &self.lammps) } else { Ok(None) };
        // Agreed, because a rank without atoms does not detect a fix without per-atom values.
        let values = if is_new { self.comm.agree(values) } else { values }?;
        let local = values.map(|(gamma, others)| {
            let others = LocalBlindSpots::of(others, now.ids, self.blind_spots.limits());
            (LocalGamma::of(gamma, now.atoms(), self.thresholds), others)
        });
        let values = values.map(|(gamma, _)| gamma);
        let extremes = local.as_ref().map(|(gamma, others)| others.extremes(gamma.extremes())).unwrap_or_default();
        // After a swap, the same step is polled again, and no time has passed.
        let between =
            (now.time - self.frame.time()).max(self.lammps.timestep() * self.interval as f64) * self.units.time;
        let sanity = Sanity {
            max_displacement: Some(self.sanity.max_displacement.unwrap_or(MAX_SPEED * between)),
            ..self.sanity
        };
        let (fault, extremes) = self.frame.check(&now, &sanity, self.units.energy, extremes, &self.comm);
        match fault {
            Some(FrameFault::NotFinite) => {
                return crash(CrashKind::NotFinite, "a coordinate, velocity or force is NaN or infinite".into());
            }
            Some(FrameFault::Force) => {
                let limit = self.sanity.max_force;
                return crash(CrashKind::LimitExceeded, format!("a force is above {limit} eV/Å (sanity.max_force)"));
            }
            Some(FrameFault::Displacement(distance)) => {
                let limit = sanity.max_displacement.unwrap_or_default();
                let since = last_valid.unwrap_or(step);
                return crash(
                    CrashKind::LimitExceeded,
                    format!(
                        "an atom has moved {distance:.1} Å since step {since}, more than {limit} Å \
                         (sanity.max_displacement)"
                    ),
                );
            }
            None => {}
        }
        let [temperature, pressure, potential, total, tensor @ ..] = if is_again {
            let keywords = [c"temp", c"press", c"pe", c"etotal", c"pxx", c"pyy", c"pzz", c"pyz", c"pxz", c"pxy"];
            // Agreed, because an error of LAMMPS on one rank only would leave the others in the next communication.
            self.comm.agree(self.lammps.thermos_now(keywords).map_err(Error::from))?.map(Some)
        } else {
            let columns = ["Temp", "Press", "PotEng", "TotEng", "Pxx", "Pyy", "Pzz", "Pyz", "Pxz", "Pxy"];
            self.lammps.last_thermos(columns)?
        };
        let [temperature, pressure, potential, total] =
            [temperature, pressure, potential, total].map(|value| value.unwrap_or(f64::NAN));
        let in_bar = tensor.map(|value| value.map(|value| value * self.units.pressure));
        let pressure_tensor = in_bar.iter().all(Option::is_some).then(|| in_bar.map(Option::unwrap_or_default));
        // No agreement is necessary: thermodynamic values are the same on all ranks.
        if temperature > self.sanity.max_temperature {
            let limit = self.sanity.max_temperature;
            return crash(
                CrashKind::LimitExceeded,
                format!("the temperature is {temperature:.0} K, above {limit} K (sanity.max_temperature)"),
            );
        }
        let reduced = local.map(|(gamma, others)| others.reduce(gamma, extremes, &self.comm));
        let (gamma, worst, core, sparse) = match reduced {
            Some((gamma, worst, core, sparse)) => (Some(gamma), Some(worst), core, sparse),
            None => (None, None, None, None),
        };
        let trigger = self.causes(gamma.as_ref(), core.as_ref(), sparse.as_ref()).next();
        let bias = match (&mut self.bias, &gamma) {
            // No agreement is necessary: all ranks have the same pair style.
            (Some(bias), Some(gamma)) => {
                Some(bias.poll(&self.lammps, step, temperature, gamma, trigger.is_some(), &self.comm)?)
            }
            _ => None,
        };
        let gamma_by_element = match values {
            Some(values) if self.elements.len() > 1 => self.largest_by_element(values, now.types),
            _ => BTreeMap::new(),
        };
        // A box that follows the atoms has no volume of its own.
        let volume = if now.cell.pbc == [true; 3] { now.cell.volume() } else { f64::NAN };
        let simulated = rounded((now.time - std::mem::replace(&mut self.polled_time, now.time)) * self.units.time);
        let ns_per_day = (simulated > 0.0).then(|| simulated * 1e-3 * 86400.0 / elapsed.as_secs_f64());
        let poll = Poll {
            format: PollFormat,
            step,
            steps: step - self.first,
            time: rounded(now.time * self.units.time),
            temperature,
            pressure: pressure * self.units.pressure,
            potential_energy: potential * self.units.energy,
            total_energy: total * self.units.energy,
            volume,
            density: self.mass * U_PER_CUBIC_ANGSTROM / volume,
            cell: now.cell.vectors,
            pressure_tensor,
            gamma_by_element,
            ns_per_day: ns_per_day.filter(|speed| speed.is_finite()),
            force_error: self.force_errors.as_ref().zip(gamma.as_ref()).and_then(|(e, gamma)| e.of(gamma.max)),
            verdict: match (trigger, &gamma) {
                (Some(_), _) => Verdict::Extrapolating,
                (None, Some(gamma)) => self.thresholds.verdict(gamma.max),
                (None, None) => Verdict::Unwatched,
            },
            bias,
            trigger,
            gamma,
            core,
            sparse,
            seconds: elapsed.as_secs_f64(),
        };
        self.worst = poll.gamma.as_ref().map(|gamma| gamma.worst_id).zip(worst);
        if poll.verdict == Verdict::Extrapolating {
            self.pending = true;
        } else {
            self.frame.capture(&now, values);
        }
        if let Some(bias) = &self.bias {
            bias.apply(&mut self.lammps)?;
        }
        Ok(Event::Polled(poll))
    }

    /// The largest γ of the atoms of each element. A value that is not finite counts as infinite.
    ///
    /// # MPI
    /// Collective; the same on all ranks.
    fn largest_by_element(&self, values: ArrayView1<'_, f64>, types: ArrayView1<'_, i32>) -> BTreeMap<String, f64> {
        let mut largest = vec![f64::NEG_INFINITY; self.elements.len()];
        for (&value, &kind) in values.iter().zip(types) {
            let value = if value.is_finite() { value.abs() } else { f64::INFINITY };
            let most = &mut largest[kind as usize - 1];
            *most = most.max(value);
        }
        self.comm.max(&mut largest);
        let mut found = BTreeMap::new();
        // Several types can be of one element.
        for (element, most) in self.elements.iter().zip(largest).filter(|(_, most)| *most >= 0.0) {
            let entry = found.entry(element.symbol().to_owned()).or_insert(0.0_f64);
            *entry = entry.max(most);
        }
        found
    }

    /// The reasons for an event, the most important first.
    fn causes(
        &self,
        gamma: Option<&GammaSummary>,
        core: Option<&CoreSummary>,
        sparse: Option<&SparseSummary>,
    ) -> impl Iterator<Item = Cause> + use<> {
        let is_sparse = self.blind_spots.limits().sparse_trigger && sparse.is_some_and(|sparse| sparse.atoms > 0);
        let found = [
            (Cause::Gamma, gamma.is_some_and(|gamma| self.thresholds.verdict(gamma.max) == Verdict::Extrapolating)),
            (Cause::Core, core.is_some_and(|core| core.above > 0)),
            (Cause::Sparse, is_sparse),
        ];
        found.into_iter().filter(|(_, is_found)| *is_found).map(|(cause, _)| cause)
    }

    /// Makes the state of a poll above the threshold the last valid frame. This is deferred until the run continues or this is
    /// called, because copying a million atoms takes as long as the rest of the work that an event waits for.
    ///
    /// # MPI
    /// Must be called on all ranks or on none. Does not wait for other ranks.
    pub fn commit_frame(&mut self) {
        if std::mem::take(&mut self.pending) {
            // The values were read at the poll. If they cannot be read now, the frame is stored without γ; a rank failure recurs at
            // the next call.
            let values = self.uncertainty.values(&self.lammps).ok().flatten();
            self.frame.capture(&self.lammps.state(), values);
        }
    }

    /// Ends LAMMPS's run where it has paused. Mutation and drop do this automatically. The next [`Simulation::advance`] begins
    /// another run, which continues this one.
    ///
    /// # Errors
    /// [`Error::Lammps`].
    ///
    /// # MPI
    /// Collective.
    pub fn end_run(&mut self) -> Result<(), Error> {
        Ok(self.lammps.end_run()?)
    }

    /// The crash for an error of all ranks.
    fn crash(&self, error: &lammps::Error) -> Crash {
        Crash::from_reason(self.lammps.step(), error.to_string())
    }

    /// The crash for a failure of this rank alone.
    #[must_use]
    pub fn crash_of(&self, alone: &RankFailure) -> Crash {
        Crash::from_reason(self.lammps.step(), alone.failure.to_string())
    }

    /// The last valid frame: this rank's atoms when all values were last finite and within the limits. The state of a poll above
    /// the threshold is included after [`Simulation::commit_frame`].
    #[must_use]
    pub fn last_valid(&self) -> &Frame {
        &self.frame
    }

    /// Sets the upper threshold of γ, and the calibration that predicts force errors at polls. The lower threshold is at most the
    /// upper one.
    ///
    /// # MPI
    /// Must be called with the same values on all ranks. Does not communicate.
    pub fn set_threshold(&mut self, high: f64, force_errors: Option<ErrorBound>) {
        self.thresholds = Thresholds { low: self.low.min(high), high };
        self.force_errors = force_errors;
    }

    /// The thresholds of γ.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// The LAMMPS instance, for reading.
    #[must_use]
    pub fn lammps(&self) -> &Lammps {
        &self.lammps
    }

    /// The LAMMPS instance, for commands. The run is set up anew before the next step, so that changes take effect.
    ///
    /// # MPI
    /// Collective.
    pub fn lammps_mut(&mut self) -> &mut Lammps {
        self.commit_frame();
        self.setup = SetupState::NeedsPoll;
        &mut self.lammps
    }

    /// The ranks that this simulation runs on.
    #[must_use]
    pub fn comm(&self) -> &Comm {
        &self.comm
    }

    /// The element of each type.
    #[must_use]
    pub fn elements(&self) -> &[Element] {
        &self.elements
    }

    /// The set-up.
    #[must_use]
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// Sets the path of the data file, which [`Simulation::restore`] reads, after the folder of the run was moved.
    ///
    /// # Errors
    /// [`Error::Lammps`] for a path that cannot be written in a LAMMPS command.
    pub fn set_data_file(&mut self, data: &Path) -> Result<(), Error> {
        self.script.data = lammps::quote_path(data)?;
        if let (Some(trajectory), Some(folder)) = (&mut self.trajectory, data.parent()) {
            trajectory.set_folder(folder);
        }
        Ok(())
    }

    /// Lengths in bytes of the files to which the commands of the set-up append (those of `dump` and of fixes), after flushing
    /// them.
    #[must_use]
    pub fn file_lengths(&self) -> BTreeMap<PathBuf, u64> {
        lammps::flush();
        let length = |path: &Path| Some((path.to_owned(), path.metadata().ok().filter(|m| m.is_file())?.len()));
        self.growing_files().filter_map(length).collect()
    }

    /// The files that the commands of the set-up, and the trajectory, append to.
    fn growing_files(&self) -> impl Iterator<Item = &Path> {
        self.growing_files.iter().map(PathBuf::as_path).chain(self.trajectory.as_ref().map(Trajectory::path))
    }

    /// Writes the trajectory to another folder from the next step on.
    ///
    /// # Errors
    /// [`Error::Lammps`] if the dump cannot be made.
    ///
    /// # MPI
    /// Collective.
    pub fn move_trajectory(&mut self, folder: &Path) -> Result<(), Error> {
        let Some(trajectory) = &mut self.trajectory else { return Ok(()) };
        trajectory.set_folder(folder);
        Ok(trajectory.start(&mut self.lammps, false)?)
    }

    /// The commands of the trajectory in the folder of the input script; empty if there is none.
    #[must_use]
    pub fn trajectory_commands(&self) -> String {
        let file = |t: &Trajectory| t.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.trajectory.as_ref().map_or(String::new(), |trajectory| trajectory.commands(&file(trajectory)))
    }

    /// Truncates files to these lengths, from [`Simulation::file_lengths`]: this removes the steps after a checkpoint, which are
    /// repeated, and the output that LAMMPS has written a second time at that step. Returns the files that this set-up does not
    /// write.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn truncate_files(&self, lengths: &BTreeMap<PathBuf, u64>) -> std::io::Result<Vec<PathBuf>> {
        lammps::flush();
        let mut others = Vec::new();
        for (path, length) in lengths {
            // The folder of the run may have been moved.
            let is_trajectory = |growing: &Path| {
                let own = self.trajectory.as_ref().map(Trajectory::path);
                own == Some(growing) && growing.file_name() == path.file_name()
            };
            match self.growing_files().find(|growing| growing == path || is_trajectory(growing)) {
                None => others.push(path.clone()),
                Some(path) if path.metadata().is_ok_and(|now| now.len() > *length) => {
                    std::fs::File::options().write(true).open(path)?.set_len(*length)?;
                }
                Some(_) => {}
            }
        }
        Ok(others)
    }

    /// The state of the bias of an exploration, for [`Resumption::bias`].
    #[must_use]
    pub fn bias_state(&self) -> Option<BiasState> {
        self.bias.as_ref().map(|bias| bias.state)
    }

    /// The step at which the run began.
    #[must_use]
    pub fn first_step(&self) -> i64 {
        self.first
    }

    /// The step at which the run ends.
    #[must_use]
    pub fn last_step(&self) -> i64 {
        self.last
    }

    /// Makes a crashed simulation usable again: sets LAMMPS up anew with the atoms of the last valid frame.
    ///
    /// Positions, velocities, image flags, box and step are bitwise those of the frame. The internal variables of a
    /// thermostat or barostat are initialised again.
    ///
    /// # Errors
    /// [`Error::Lammps`] if there is no valid frame yet, or if LAMMPS fails.
    ///
    /// # MPI
    /// Collective.
    pub fn restore(&mut self) -> Result<(), Error> {
        self.commit_frame();
        let frame = std::mem::take(&mut self.frame);
        self.restore_frame(frame)
    }

    /// [`Simulation::restore`] for an earlier frame: a clone of [`Simulation::last_valid`].
    ///
    /// # Errors
    /// As [`Simulation::restore`].
    ///
    /// # MPI
    /// Collective; each rank passes its own part of the frame.
    pub fn restore_frame(&mut self, frame: Frame) -> Result<(), Error> {
        (self.frame, self.pending, self.worst) = (frame, false, None);
        if self.frame.cell().is_none() {
            return Err(lammps::Error::Preflight("there is no valid frame to restore".into()).into());
        }
        self.lammps.command("clear")?;
        self.lammps.command(&self.script.continued(self.frame.step()).render()?)?;
        self.uncertainty.watch(&mut self.lammps, self.interval, self.gamma_fix.as_ref())?;
        self.blind_spots.watch(&mut self.lammps, self.interval)?;
        // The pair style is a new one.
        self.bias.iter().try_for_each(|bias| bias.apply(&mut self.lammps))?;
        self.frame.restore(&mut self.lammps)?;
        if let Some(trajectory) = &self.trajectory {
            trajectory.start(&mut self.lammps, true)?;
        }
        self.setup = SetupState::NeedsPoll;
        Ok(())
    }

    /// The centres of at most `limit` regions to cut out at an event, `poll`, the present state: first those above the threshold
    /// of γ, in descending order, then atoms above the limit of the core share, then those with too few neighbours. Centres are
    /// farther apart than `separation` (Å).
    ///
    /// # Errors
    /// [`Error::Lammps`] if the values cannot be read.
    ///
    /// # MPI
    /// Collective; the same answer on all ranks.
    pub fn centers(&self, poll: &Poll, separation: f64, limit: usize) -> Result<Vec<EventCenter>, Error> {
        if let (1, Some(Cause::Gamma), Some(gamma)) = (limit, poll.trigger, &poll.gamma) {
            return Ok(vec![EventCenter { id: gamma.worst_id, gamma: Some(gamma.max), cause: Cause::Gamma }]);
        }
        let watched = watched_values(&self.uncertainty, &self.blind_spots, &self.lammps)?;
        let Some((gamma, others)) = watched else { return Ok(Vec::new()) };
        let (limits, cell) = (self.blind_spots.limits(), self.lammps.cell());
        let few = limits.sparse_neighbours as f64;
        let (mut taken, mut causes) = (Vec::new(), Vec::new());
        for cause in self.causes(poll.gamma.as_ref(), poll.core.as_ref(), poll.sparse.as_ref()) {
            let candidates = match cause {
                Cause::Gamma => self.candidates(gamma, gamma, |g| self.thresholds.verdict(g) == Verdict::Extrapolating),
                Cause::Core => match others.core {
                    Some(shares) => self.candidates(shares, gamma, |share| share > limits.core_share),
                    None => continue,
                },
                Cause::Sparse => match others.neighbours {
                    Some(numbers) => self.candidates(numbers.mapv(|n| -n).view(), gamma, |n| -n < few),
                    None => continue,
                },
            };
            add_regions(&mut taken, &candidates, &cell, separation, limit, &self.comm);
            causes.resize(taken.len(), cause);
        }
        let center = |(center, cause): (Center, Cause)| EventCenter { id: center.id, gamma: Some(center.gamma), cause };
        Ok(taken.into_iter().zip(causes).map(center).collect())
    }

    /// The atoms of this rank whose value is wanted, with these values.
    fn candidates(
        &self,
        values: ArrayView1<'_, f64>,
        gamma: ArrayView1<'_, f64>,
        is_wanted: impl Fn(f64) -> bool,
    ) -> Vec<(f64, Center)> {
        let atoms = self.lammps.atoms();
        // A value that is not finite is the largest.
        let definite = |value: f64| if value.is_finite() { value } else { f64::INFINITY };
        let wanted = values.iter().enumerate().filter(|(_, value)| is_wanted(**value));
        let center = |at: usize| Center {
            id: atoms.ids.get(at),
            gamma: definite(gamma[at]),
            position: [0, 1, 2].map(|k| atoms.positions[[at, k]]),
        };
        wanted.map(|(at, &value)| (definite(value), center(at))).collect()
    }

    /// At most `limit` regions above the threshold, whose centres are farther apart than `separation` (Å), in descending order of γ;
    /// see [`worst_regions`].
    ///
    /// # Errors
    /// [`Error::Lammps`] if γ cannot be read.
    ///
    /// # MPI
    /// Collective; the same answer on all ranks.
    pub fn worst_regions(&self, separation: f64, limit: usize) -> Result<Vec<Center>, Error> {
        let Some(gamma) = self.uncertainty.values(&self.lammps)? else { return Ok(Vec::new()) };
        let above = self.candidates(gamma, gamma, |gamma| self.thresholds.verdict(gamma) == Verdict::Extrapolating);
        let mut taken = Vec::new();
        add_regions(&mut taken, &above, &self.lammps.cell(), separation, limit, &self.comm);
        Ok(taken)
    }

    /// Cuts out the neighbourhood of an atom from the present state.
    ///
    /// # Errors
    /// [`Error::NoAtom`]; [`Error::Embedding`] if no valid cell can be built.
    ///
    /// # MPI
    /// Collective. The ranks send only their atoms inside the cut-out, to rank 0, which gets the cut-out. The others get
    /// `None`.
    pub fn cut_out(&self, center_id: AtomId, extractor: &EmbeddingExtractor) -> Result<Option<CutOut>, Error> {
        let here = LocalAtoms {
            atoms: self.lammps.atoms(),
            cell: &self.lammps.cell(),
            gamma: self.uncertainty.values(&self.lammps)?,
            core_share: self.blind_spots.values(&self.lammps)?.core,
            // The forces include friction and noise of a Langevin thermostat, and those of a bias.
            forces: (!self.lammps.has_id("fix", "otf_bath") && self.bias.is_none()).then(|| self.lammps.forces()),
            force_unit: self.units.energy,
            fixed: self.fixed.iter().flat_map(|fixed| fixed.ids.iter().copied()).collect(),
        };
        self.cut_out_of(center_id, &here, extractor)
    }

    /// [`Simulation::cut_out`] from the last valid frame instead of the present state.
    ///
    /// # Errors
    /// As [`Simulation::cut_out`].
    ///
    /// # MPI
    /// Collective.
    pub fn cut_out_of_last_valid(
        &self,
        center_id: AtomId,
        extractor: &EmbeddingExtractor,
    ) -> Result<Option<CutOut>, Error> {
        self.cut_out_of(center_id, &self.local_atoms_of_last_valid().ok_or(Error::NoAtom(center_id))?, extractor)
    }

    fn cut_out_of(
        &self,
        center_id: AtomId,
        here: &LocalAtoms<'_>,
        extractor: &EmbeddingExtractor,
    ) -> Result<Option<CutOut>, Error> {
        self.check_cell(here, extractor)?;
        let center = here.find(center_id, &self.comm)?;
        let total = self.lammps.total_atoms();
        let all = Neighbourhood::local(center_id, center, here, total, extractor).gathered(&self.comm);
        let cut_out = self.comm.on_root(|| all.map(|all| self.build(&all, extractor)).transpose())?;
        Ok(cut_out.flatten())
    }

    /// Builds the cut-out of a neighbourhood of this simulation, on this rank alone.
    ///
    /// # Errors
    /// [`Error::Embedding`] if no valid cell can be built.
    pub fn build(&self, neighbourhood: &Neighbourhood, extractor: &EmbeddingExtractor) -> Result<CutOut, Error> {
        let mut cut_out = neighbourhood.build(extractor, &self.elements)?;
        cut_out.cluster.structure.masses.clone_from(&self.masses);
        Ok(cut_out)
    }

    /// `None` before the first frame.
    fn local_atoms_of_last_valid(&self) -> Option<LocalAtoms<'_>> {
        let (atoms, cell, gamma) = (self.frame.atoms(), self.frame.cell()?, self.frame.gamma());
        let (force_unit, fixed) = (self.units.energy, HashSet::new());
        Some(LocalAtoms { atoms, cell, gamma, core_share: None, forces: None, force_unit, fixed })
    }

    /// The neighbourhood of an atom in the last valid frame, on all ranks, so that a rank that fails alone later has it without
    /// communication.
    ///
    /// # Errors
    /// [`Error::NoAtom`]; [`Error::Embedding`] for a box that cannot be searched.
    ///
    /// # MPI
    /// Collective; the same error on all ranks. The ranks send only their atoms inside the cut-out.
    pub fn share_last_valid(&self, center_id: AtomId, extractor: &EmbeddingExtractor) -> Result<Neighbourhood, Error> {
        let here = self.local_atoms_of_last_valid().ok_or(Error::NoAtom(center_id))?;
        self.check_cell(&here, extractor)?;
        let center = match self.worst {
            Some((id, position)) if id == center_id && !self.pending => position,
            _ => here.find(center_id, &self.comm)?,
        };
        let total = self.lammps.total_atoms();
        Ok(Neighbourhood::local(center_id, center, &here, total, extractor).shared(&self.comm))
    }

    /// Checks whether the box can be searched in reasonable time; the same answer on all ranks.
    fn check_cell(&self, here: &LocalAtoms<'_>, extractor: &EmbeddingExtractor) -> Result<(), Error> {
        let atoms = self.lammps.total_atoms().div_ceil(self.comm.size() as u64);
        Ok(extractor.check_cell(here.cell, atoms as usize)?)
    }
}
