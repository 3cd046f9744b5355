// SPDX-License-Identifier: GPL-2.0-or-later
//! A run of molecular dynamics that yields what it sees: one [`Event`] for each look at it.
//!
//! LAMMPS pauses after each `sampling_interval` steps, in the middle of one long run ([`Lammps::begin`]); a LAMMPS that
//! cannot be made to runs as many steps at a time, without set-up in between (`run K pre no post no`). So no force is
//! computed that one uninterrupted run would not compute, and at each look the atoms stand still and all arrays
//! can be read in place.

mod centers;
mod cut_out;
mod swap;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::comm::{CollectiveError, Comm};
use crate::config::{InferenceConfig, Sanity, Uncertainty};
pub use crate::embedding::CutOut;
use crate::embedding::EmbeddingExtractor;
use crate::frame::{Frame, FrameFault};
use crate::lammps::{self, Lammps, RankFailure};
use crate::script::{self, Script, UnitFactors};
use crate::structure::{Element, FixedAtoms, Structure, Vec3, unless_standard};
use crate::uncertainty::{GammaSummary, LocalGamma, Thresholds, Verdict};
pub use centers::{Center, worst_regions};
use cut_out::LocalAtoms;
pub use cut_out::Neighbourhood;

/// What a simulation says each time that it has gone on.
#[derive(Debug, Clone)]
pub enum Event {
    /// All went well up to here; this is what γ is.
    Polled(Poll),
    /// The run is broken. The last valid frame is kept: [`Simulation::last_valid`], [`Simulation::restore`].
    Crashed(Crash),
    /// All steps are done.
    Finished,
}

/// One look at the running simulation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Poll {
    /// The form of these data; it changes when an older program would misread them. More keys may come without that.
    #[serde(default)]
    pub format: PollFormat,
    /// Time step.
    pub step: i64,
    /// Steps since the run began: less than `step` where it began at another one than 0.
    #[serde(default)]
    pub steps: i64,
    /// Simulated time in ps, as LAMMPS counts it (its thermo keyword `time`): with every change of the time step.
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
    /// γ; `null` in JSON for a run that is not watched, and at a last step that is no multiple of the interval.
    pub gamma: Option<GammaSummary>,
    /// What γ means.
    pub verdict: Verdict,
    /// Wall time in seconds since the look before, without what that took itself.
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub seconds: f64,
}

/// The form of a [`Poll`] in JSON, written as its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u32", into = "u32")]
#[schemars(with = "u32")]
pub struct PollFormat;

impl PollFormat {
    /// Its number.
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
        Err(format!("polls of format {number}, and this program reads format {}", Self::NUMBER))
    }
}

/// A broken run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Crash {
    /// The step at which it was seen.
    pub step: i64,
    /// What kind.
    pub kind: CrashKind,
    /// What LAMMPS said, or what was found.
    pub reason: String,
}

impl Crash {
    /// A crash for a reason that LAMMPS gave.
    fn because(step: i64, reason: String) -> Self {
        let kind = if reason.contains("Lost atoms") {
            CrashKind::LostAtoms
        } else if reason.contains("Non-numeric") || says_nan(&reason) {
            CrashKind::NotFinite
        } else {
            CrashKind::Refused
        };
        Self { step, kind, reason }
    }
}

/// The ways in which a run breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashKind {
    /// LAMMPS lost atoms.
    LostAtoms,
    /// A coordinate, velocity or force is not a finite number.
    NotFinite,
    /// Temperature, forces or displacements are beyond what the configuration calls sane.
    Insane,
    /// The run's files cannot be written, as on a full disk.
    Unwritable,
    /// LAMMPS, or a plugin, gave up for another reason.
    Refused,
}

/// An error that ends a simulation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The set-up failed, or LAMMPS refused something that it should not; [`lammps::Error::RankFailure`] if this rank failed
    /// alone.
    #[error(transparent)]
    Lammps(#[from] lammps::Error),
    /// The template failed.
    #[error(transparent)]
    Script(#[from] crate::script::Error),
    /// The potential cannot take the place of the running one, which goes on.
    #[error("the new potential cannot take the place of the running one: {0}")]
    Swap(String),
    /// No atom has this id.
    #[error("no atom has the id {0}")]
    NoAtom(i32),
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
    /// The failure of this rank alone, after which only [`Comm::abort`] is left.
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
    thresholds: Thresholds,
    sanity: Sanity,
    units: UnitFactors,
    interval: i64,
    first: i64,
    last: i64,
    setup: Setup,
    /// Whether the next look is the first of a run that was resumed.
    resumed: bool,
    /// Whether LAMMPS can pause within a run.
    pauses: bool,
    /// Chunks so far.
    chunks: u64,
    frame: Frame,
    /// Whether the present frame is to become the last valid one: see [`Simulation::keep`].
    unkept: bool,
    /// Id and place of the atom with the largest γ at the last poll.
    worst: Option<(i32, Vec3)>,
    /// Files that the set-up writes and that grow.
    growing: Vec<PathBuf>,
    /// How far the potential reaches, Å, where known.
    cutoff: Option<f64>,
}

/// Whether forces, neighbour lists and fixes are set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setup {
    /// No: the next event is a look at the atoms as they stand, set up anew.
    Look,
    /// Yes, and the next event is a look at the atoms as they stand.
    Fresh,
    /// No, but the atoms have been looked at.
    Quiet,
    /// Yes: the next chunk needs no set-up of its own.
    Done,
}

/// Where a run that was interrupted goes on.
#[derive(Debug, Clone, Copy)]
pub struct Resumption<'a> {
    /// What [`Simulation::checkpoint`] wrote.
    pub restart: &'a Path,
    /// The step of that file.
    pub step: i64,
    /// The step at which the run began: ramps and the number of steps are counted from there.
    pub first: i64,
}

/// Whether "nan" is a word of the text: it is also a part of names.
fn says_nan(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| word.eq_ignore_ascii_case("nan"))
}

/// Steps of a long run of LAMMPS, which counts them with 32 bits.
const LONG: i64 = 1 << 29;

/// A time in ps without the rounding with which LAMMPS adds it up, which differs with the number of its runs.
fn rounded(time: f64) -> f64 {
    (time * 1e12).round() / 1e12
}

/// Speed in Å/ps above which an atom counts as having exploded: [`Sanity::max_displacement`].
const FASTEST: f64 = 1000.0;

/// Chunks after which LAMMPS's log is closed: it writes a row for each, or a table where it cannot pause.
const LOGGED: u64 = 100_000;

impl Simulation {
    /// Opens LAMMPS and sets it up, up to the first step: forces are computed, and files that the set-up writes are open.
    ///
    /// `structure` tells elements and boundaries; LAMMPS reads the atoms from `data`. `log` is LAMMPS's log file.
    ///
    /// # Errors
    /// Whatever in the configuration, the potential or the template LAMMPS does not take.
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

    /// As [`Simulation::new`], for a run that goes on from a checkpoint. `data` is still what [`Simulation::restore`]
    /// begins from; `log` is appended to.
    ///
    /// With the same configuration and the same number of ranks the trajectory of NVE and Nosé–Hoover NVT runs is that of
    /// the run which wrote the checkpoint, bit for bit. A barostat keeps fewer digits, and the random numbers of a
    /// Langevin thermostat are others.
    ///
    /// # Errors
    /// As [`Simulation::new`]; what LAMMPS says of the restart file.
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
        // Each rank reads the template, and one that cannot must not leave the others waiting for it.
        let commands = comm.agree(match from {
            Some(from) => {
                script.resumed(from.restart, from.step).and_then(|script| script.render()).map_err(Error::from)
            }
            None => script.render().map_err(Error::from),
        })?;
        comm.agree(if comm.is_root() { script::check_folders(&commands).map_err(Error::from) } else { Ok(()) })?;
        let append = match log.filter(|_| from.is_some()) {
            Some(log) => format!("log {} append\n", lammps::quote_path(log)?),
            None => String::new(),
        };
        let log = log.filter(|_| from.is_none()).map_or_else(|| "none".to_owned(), |p| p.display().to_string());
        let mut arguments: Vec<&str> = vec!["-screen", "none", "-log", &log, "-nocite"];
        let more = config.lammps_arguments();
        arguments.extend(more.iter().map(String::as_str));

        let mut lammps = Lammps::open(&arguments, comm)?;
        let wants_pace = config.system.potential.file.is_some();
        if wants_pace {
            lammps.require_pair_style(&script.pair_style, &config.lammps.plugins)?;
        } else {
            for plugin in &config.lammps.plugins {
                lammps.load_plugin(plugin)?;
            }
        }
        lammps.command(&(append + &commands))?;
        let (types, named) = (lammps.setting("ntypes"), structure.elements.len());
        if types != named as i64 {
            return Err(lammps::Error::Preflight(format!(
                "the set-up has {types} atom types, and {named} elements are known: name one for each type under \
                 `elements`"
            ))
            .into());
        }
        config.watch.uncertainty.watch(&mut lammps, config.watch.sampling_interval as i64)?;
        let pauses = lammps.load_pause_fix()?;
        // Not those of `structure`: the set-up may have changed them.
        let masses = lammps.type_masses();
        let first = from.map_or_else(|| lammps.step(), |from| from.first);
        let mut simulation = Self {
            comm: comm.clone(),
            lammps,
            elements: structure.elements.clone(),
            fixed: structure.fixed.clone(),
            masses: if masses.len() == named { unless_standard(masses, &structure.elements) } else { None },
            uncertainty: config.watch.uncertainty.clone(),
            thresholds: Thresholds { low: config.watch.uncertainty_low, high: config.watch.uncertainty_threshold },
            sanity: config.limits.sanity,
            units: UnitFactors::of(config.system.units),
            interval: config.watch.sampling_interval as i64,
            first,
            last: first + config.md.steps as i64,
            setup: Setup::Look,
            resumed: from.is_some(),
            pauses,
            chunks: 0,
            frame: Frame::default(),
            unkept: false,
            worst: None,
            growing: script::growing_files(&commands),
            // A file that cannot be read has been refused by the pair style.
            cutoff: crate::potential::reach(&config.system.potential).ok().flatten(),
            script,
        };
        // What LAMMPS finds only when it prepares its first step is of the set-up too, e.g. a file that cannot be written.
        simulation.prepare()?;
        simulation.setup = Setup::Fresh;
        Ok(simulation)
    }

    /// Computes forces, neighbour lists and what fixes need.
    fn prepare(&mut self) -> Result<(), lammps::Error> {
        if self.pauses {
            // Anew, to come after all that others have defined.
            self.lammps.pause_every(self.interval)?;
        }
        self.lammps.run(0, true, self.first..self.last)
    }

    /// Runs to the next poll and looks. The first call looks at the initial structure, before any step.
    ///
    /// # Errors
    /// [`Error::Lammps`] for a failure of this rank alone, after which the job must be aborted, or if the uncertainty cannot be
    /// read.
    ///
    /// # MPI
    /// Collective; all ranks get the same event.
    pub fn advance(&mut self) -> Result<Event, Error> {
        self.keep();
        let step = self.lammps.step();
        if !matches!(self.setup, Setup::Look | Setup::Fresh) && step >= self.last {
            return Ok(Event::Finished);
        }
        let started = Instant::now();
        match self.chunk(step) {
            Ok(()) => {}
            Err(error) if error.is_rank_failure() => return Err(error.into()),
            Err(error) => return Ok(Event::Crashed(self.crash(&error))),
        }
        let new = self.setup != Setup::Done;
        // The run that wrote the checkpoint was set up anew after its look at this step, without γ, for which ML-PACE has forces
        // that differ in the last digits.
        self.setup = if std::mem::take(&mut self.resumed) { Setup::Quiet } else { Setup::Done };
        self.look(started.elapsed(), new)
    }

    /// Runs to the next step that is looked at.
    fn chunk(&mut self, step: i64) -> Result<(), lammps::Error> {
        self.chunks += 1;
        if self.chunks == LOGGED {
            self.lammps.command(&format!(
                "print \"The log ends after {LOGGED} looks at it, so that it does not grow for ever.\"\nlog none"
            ))?;
        }
        if matches!(self.setup, Setup::Look | Setup::Quiet) {
            self.prepare()?;
        }
        if matches!(self.setup, Setup::Look | Setup::Fresh) {
            return Ok(());
        }
        self.lammps.continue_run()?;
        if self.lammps.step() != step {
            return Ok(());
        }
        // No run was on its way, or it stood at its end.
        let to_poll = self.interval - step.rem_euclid(self.interval);
        let left = self.last - step;
        if self.pauses {
            let steps = left.min(LONG / self.interval * self.interval + to_poll);
            self.lammps.begin_run(steps, self.first..self.last)?;
        } else {
            self.lammps.run(left.min(to_poll), false, self.first..self.last)?;
        }
        if self.lammps.step() == step {
            return Err(lammps::Error::Preflight(format!(
                "LAMMPS goes no further than step {step}: `fix halt` or `timer timeout` in the template or under `setup` \
                 has ended the run"
            )));
        }
        Ok(())
    }

    /// Writes all that a later process needs to go on from here: a LAMMPS restart file.
    ///
    /// What comes next is set up anew, as in a process which reads the file: so both go the same way. That costs one
    /// more evaluation of the forces.
    ///
    /// # Errors
    /// [`Error::Lammps`] if the file cannot be written.
    ///
    /// # MPI
    /// Collective. Rank 0 writes, and gets the atoms of one other rank at a time.
    pub fn checkpoint(&mut self, file: &Path) -> Result<(), Error> {
        // LAMMPS deals the atoms out anew, and not every fix sends its values along.
        self.keep();
        let file = lammps::quote_path(file)?;
        if self.setup == Setup::Done {
            self.setup = Setup::Quiet;
        }
        Ok(self.lammps.command(&format!("write_restart {file}"))?)
    }

    /// What the atoms look like now; `new` after a set-up.
    fn look(&mut self, elapsed: Duration, new: bool) -> Result<Event, Error> {
        let now = self.lammps.state();
        let step = now.step;
        let crash = |kind, reason: String| Ok(Event::Crashed(Crash { step, kind, reason }));
        let since = self.frame.cell().is_some().then(|| self.frame.step());
        let fresh = step.rem_euclid(self.interval) == 0;
        let values = if fresh { self.uncertainty.values(&self.lammps).map_err(Error::from) } else { Ok(None) };
        // A fix without a value for each atom is not seen on a rank that has no atoms.
        let values = if new { self.comm.agree(values) } else { values }?;
        let here = values.map(|values| LocalGamma::of(values, now.atoms(), self.thresholds));
        let extremes = here.as_ref().map(LocalGamma::extremes).unwrap_or_default();
        // At the same step again, as after a swap, no time has gone by.
        let between =
            (now.time - self.frame.time()).max(self.lammps.timestep() * self.interval as f64) * self.units.time;
        let sanity =
            Sanity { max_displacement: Some(self.sanity.max_displacement.unwrap_or(FASTEST * between)), ..self.sanity };
        let (fault, extremes) = self.frame.check(&now, &sanity, self.units.energy, extremes, &self.comm);
        match fault {
            Some(FrameFault::NotFinite) => {
                return crash(CrashKind::NotFinite, "a coordinate, velocity or force is NaN or infinite".into());
            }
            Some(FrameFault::Force) => {
                let limit = self.sanity.max_force;
                return crash(CrashKind::Insane, format!("a force is above {limit} eV/Å (sanity.max_force)"));
            }
            Some(FrameFault::Displacement(distance)) => {
                let limit = sanity.max_displacement.unwrap_or_default();
                let since = since.unwrap_or(step);
                return crash(
                    CrashKind::Insane,
                    format!(
                        "an atom has gone {distance:.1} Å since step {since}, more than {limit} Å \
                         (sanity.max_displacement)"
                    ),
                );
            }
            None => {}
        }
        let [temperature, pressure, potential, total] =
            self.lammps.last_thermos(["Temp", "Press", "PotEng", "TotEng"])?.map(|value| value.unwrap_or(f64::NAN));
        // Agreed without asking: thermodynamic values are the same on all ranks.
        if temperature > self.sanity.max_temperature {
            let limit = self.sanity.max_temperature;
            return crash(
                CrashKind::Insane,
                format!("the temperature is {temperature:.0} K, above {limit} K (sanity.max_temperature)"),
            );
        }
        let (gamma, worst) = here.map(|here| here.reduce(extremes, &self.comm)).unzip();
        let poll = Poll {
            format: PollFormat,
            step,
            steps: step - self.first,
            time: rounded(now.time * self.units.time),
            temperature,
            pressure: pressure * self.units.pressure,
            potential_energy: potential * self.units.energy,
            total_energy: total * self.units.energy,
            verdict: gamma.as_ref().map_or(Verdict::Unwatched, |g| self.thresholds.verdict(g.max)),
            gamma,
            seconds: elapsed.as_secs_f64(),
        };
        self.worst = poll.gamma.as_ref().map(|gamma| gamma.worst_id).zip(worst);
        if poll.verdict == Verdict::Extrapolating {
            self.unkept = true;
        } else {
            self.frame.capture(&now, values);
        }
        Ok(Event::Polled(poll))
    }

    /// Makes the frame of a poll above the threshold the last valid one. That is put off until the run goes on, or until
    /// this is called, because at a million atoms it takes as long as all else that an event is waiting for.
    ///
    /// # MPI
    /// To be called on all ranks or on none, although none waits for another.
    pub fn keep(&mut self) {
        if std::mem::take(&mut self.unkept) {
            // They have been read at the poll: what cannot be read now is no reason to lose the positions. A rank that fails
            // alone at it fails at its next call too.
            let values = self.uncertainty.values(&self.lammps).ok().flatten();
            self.frame.capture(&self.lammps.state(), values);
        }
    }

    /// Ends LAMMPS's run where it has paused, which whatever changes the simulation, and dropping it, do by themselves. Going on
    /// begins another, which goes on as though there were but one.
    ///
    /// # Errors
    /// [`Error::Lammps`] for what LAMMPS says.
    ///
    /// # MPI
    /// Collective.
    pub fn end_run(&mut self) -> Result<(), Error> {
        Ok(self.lammps.end_run()?)
    }

    /// The crash that an error of a running LAMMPS is, where all ranks have seen it.
    fn crash(&self, error: &lammps::Error) -> Crash {
        Crash::because(self.lammps.step(), error.to_string())
    }

    /// The crash that a failure of this rank alone is.
    #[must_use]
    pub fn crash_of(&self, alone: &RankFailure) -> Crash {
        Crash::because(self.lammps.step(), alone.failure.to_string())
    }

    /// The last frame in which everything was finite and sane, of this rank's atoms. A poll above the threshold counts from
    /// [`Simulation::keep`] on.
    #[must_use]
    pub fn last_valid(&self) -> &Frame {
        &self.frame
    }

    /// LAMMPS itself, to look at.
    #[must_use]
    pub fn lammps(&self) -> &Lammps {
        &self.lammps
    }

    /// LAMMPS itself, to command. What a command changes (a fix, the box, a potential) is set up anew before the next step.
    ///
    /// # MPI
    /// Collective.
    pub fn lammps_mut(&mut self) -> &mut Lammps {
        self.keep();
        self.setup = Setup::Look;
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

    /// Tells where the data file that LAMMPS read is now, for [`Simulation::restore`].
    ///
    /// # Errors
    /// [`Error::Lammps`] for a path that no LAMMPS command can hold.
    pub fn data_moved(&mut self, data: &Path) -> Result<(), Error> {
        self.script.data = lammps::quote_path(data)?;
        Ok(())
    }

    /// Lengths in bytes of the files that grow while the commands of the set-up are at work (those of `dump` and of fixes), with
    /// all that LAMMPS has written up to here.
    #[must_use]
    pub fn file_lengths(&self) -> BTreeMap<PathBuf, u64> {
        lammps::flush();
        let length = |path: &PathBuf| Some((path.clone(), path.metadata().ok().filter(|m| m.is_file())?.len()));
        self.growing.iter().filter_map(length).collect()
    }

    /// Cuts off what of such files goes beyond these lengths: the steps after a checkpoint, which come again, and what LAMMPS has
    /// written at that step a second time. Gives the files that this set-up does not write.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn cut_files(&self, lengths: &BTreeMap<PathBuf, u64>) -> std::io::Result<Vec<PathBuf>> {
        lammps::flush();
        let mut others = Vec::new();
        for (path, length) in lengths {
            if !self.growing.contains(path) {
                others.push(path.clone());
            } else if path.metadata().is_ok_and(|now| now.len() > *length) {
                std::fs::File::options().write(true).open(path)?.set_len(*length)?;
            }
        }
        Ok(others)
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

    /// Makes a crashed simulation usable again: sets LAMMPS up anew and puts the last valid frame into it.
    ///
    /// Positions, velocities, image flags, box and step are those of the frame, bit for bit; the inner variables of a
    /// thermostat or barostat begin anew.
    ///
    /// # Errors
    /// [`Error::Lammps`] if there is no valid frame yet, or if LAMMPS refuses.
    ///
    /// # MPI
    /// Collective.
    pub fn restore(&mut self) -> Result<(), Error> {
        self.keep();
        let frame = std::mem::take(&mut self.frame);
        self.go_back(frame)
    }

    /// [`Simulation::restore`] to a frame that was the last valid one at some time: a clone of [`Simulation::last_valid`].
    ///
    /// # Errors
    /// As [`Simulation::restore`].
    ///
    /// # MPI
    /// Collective; each rank gives its own part of the frame.
    pub fn go_back(&mut self, frame: Frame) -> Result<(), Error> {
        (self.frame, self.unkept, self.worst) = (frame, false, None);
        if self.frame.cell().is_none() {
            return Err(lammps::Error::Preflight("there is no valid frame to go back to".into()).into());
        }
        self.lammps.command("clear")?;
        self.lammps.command(&self.script.continued(self.frame.step()).render()?)?;
        self.uncertainty.watch(&mut self.lammps, self.interval)?;
        self.frame.restore(&mut self.lammps)?;
        self.setup = Setup::Look;
        Ok(())
    }

    /// The atoms around which regions are cut out at an event, with their γ, the worst first: the worst one alone, or, of a
    /// larger `limit`, those of [`Simulation::worst_regions`].
    ///
    /// # Errors
    /// [`Error::Lammps`] if γ cannot be read.
    ///
    /// # MPI
    /// Collective; the same answer on all ranks.
    pub fn centers(&self, gamma: &GammaSummary, separation: f64, limit: usize) -> Result<Vec<(i32, f64)>, Error> {
        if limit == 1 {
            return Ok(vec![(gamma.worst_id, gamma.max)]);
        }
        let regions = self.worst_regions(separation, limit)?;
        Ok(regions.into_iter().map(|center| (center.id, center.gamma)).collect())
    }

    /// The regions above the threshold, worst first, their centres farther apart than `separation` (Å), at most `limit`;
    /// see [`worst_regions`].
    ///
    /// # Errors
    /// [`Error::Lammps`] if γ cannot be read.
    ///
    /// # MPI
    /// Collective; the same answer on all ranks.
    pub fn worst_regions(&self, separation: f64, limit: usize) -> Result<Vec<Center>, Error> {
        let Some(values) = self.uncertainty.values(&self.lammps)? else { return Ok(Vec::new()) };
        let atoms = self.lammps.atoms();
        let above =
            values.iter().enumerate().filter(|(_, gamma)| self.thresholds.verdict(**gamma) == Verdict::Extrapolating);
        let candidates: Vec<Center> = above
            .map(|(at, &gamma)| Center {
                id: atoms.ids[at],
                // An infinite value of either sign counts as the worst.
                gamma: if gamma.is_finite() { gamma } else { f64::INFINITY },
                position: [0, 1, 2].map(|k| atoms.positions[[at, k]]),
            })
            .collect();
        Ok(worst_regions(&candidates, &self.lammps.cell(), separation, limit, &self.comm))
    }

    /// Cuts the neighbourhood of an atom out of the running simulation, as it is now.
    ///
    /// # Errors
    /// [`Error::NoAtom`], or why the neighbourhood makes no valid cell.
    ///
    /// # MPI
    /// Collective. Each rank looks among its own atoms; only those inside the cut-out travel, to rank 0, which gets
    /// the cluster. The others get `None`.
    pub fn cut_out(&self, center_id: i32, extractor: &EmbeddingExtractor) -> Result<Option<CutOut>, Error> {
        let known = LocalAtoms {
            atoms: self.lammps.atoms(),
            cell: &self.lammps.cell(),
            gamma: self.uncertainty.values(&self.lammps)?,
            // A Langevin thermostat adds its friction and noise to the forces of the potential.
            forces: (!self.lammps.has_id("fix", "otf_bath")).then(|| self.lammps.forces()),
            force_unit: self.units.energy,
            fixed: self.fixed.iter().flat_map(|fixed| fixed.ids.iter().copied()).collect(),
        };
        self.cut_out_of(center_id, &known, extractor)
    }

    /// [`Simulation::cut_out`] from the last valid frame instead of the present one.
    ///
    /// # Errors
    /// As [`Simulation::cut_out`].
    ///
    /// # MPI
    /// Collective.
    pub fn cut_out_of_last_valid(
        &self,
        center_id: i32,
        extractor: &EmbeddingExtractor,
    ) -> Result<Option<CutOut>, Error> {
        self.cut_out_of(center_id, &self.local_atoms_of_last_valid().ok_or(Error::NoAtom(center_id))?, extractor)
    }

    fn cut_out_of(
        &self,
        center_id: i32,
        known: &LocalAtoms<'_>,
        extractor: &EmbeddingExtractor,
    ) -> Result<Option<CutOut>, Error> {
        self.check_cell(known, extractor)?;
        let center = known.find(center_id, &self.comm)?;
        let all = Neighbourhood::local(center_id, center, known, extractor).gathered(&self.comm);
        let cut_out = self.comm.on_root(|| all.map(|all| self.build(&all, extractor)).transpose())?;
        Ok(cut_out.flatten())
    }

    /// The cut-out of a neighbourhood in this simulation, on this rank by itself.
    ///
    /// # Errors
    /// Why the neighbourhood makes no valid cell.
    pub fn build(&self, neighbourhood: &Neighbourhood, extractor: &EmbeddingExtractor) -> Result<CutOut, Error> {
        let mut cut_out = neighbourhood.build(extractor, &self.elements)?;
        cut_out.cluster.structure.masses.clone_from(&self.masses);
        Ok(cut_out)
    }

    /// `None` before the first frame was taken.
    fn local_atoms_of_last_valid(&self) -> Option<LocalAtoms<'_>> {
        let (atoms, cell, gamma) = (self.frame.atoms(), self.frame.cell()?, self.frame.gamma());
        Some(LocalAtoms { atoms, cell, gamma, forces: None, force_unit: self.units.energy, fixed: HashSet::new() })
    }

    /// Gives all ranks the neighbourhood of an atom in the last valid frame, so that a rank that later fails alone, and
    /// cannot ask the others any more, has it.
    ///
    /// # Errors
    /// [`Error::NoAtom`]; [`Error::Embedding`] for a box that cannot be searched.
    ///
    /// # MPI
    /// Collective; the same error on all ranks. Only atoms inside the cut-out travel.
    pub fn share_last_valid(&self, center_id: i32, extractor: &EmbeddingExtractor) -> Result<Neighbourhood, Error> {
        let known = self.local_atoms_of_last_valid().ok_or(Error::NoAtom(center_id))?;
        self.check_cell(&known, extractor)?;
        let center = match self.worst {
            Some((id, place)) if id == center_id && !self.unkept => place,
            _ => known.find(center_id, &self.comm)?,
        };
        Ok(Neighbourhood::local(center_id, center, &known, extractor).shared(&self.comm))
    }

    /// Whether the box can be searched in reasonable time, judged by what all ranks know.
    fn check_cell(&self, known: &LocalAtoms<'_>, extractor: &EmbeddingExtractor) -> Result<(), Error> {
        let atoms = self.lammps.total_atoms().div_ceil(self.comm.size() as u64);
        Ok(extractor.check_cell(known.cell, atoms as usize)?)
    }
}
