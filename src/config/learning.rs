// SPDX-License-Identifier: GPL-2.0-or-later
//! `LoopConfig`: the table `[loop]` with oracle, trainer and limits.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ensemble, Error, Potential, Ramp};

/// Active learning with `lammps-otf loop`: oracle, trainer and limits. Ignored by `lammps-otf run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoopConfig {
    /// Oracle: computes energy and forces of cut-outs. Required, unless a program that calls the library passes its own.
    pub oracle: Option<OracleConfig>,
    /// Trainer: fits a new potential to the labelled cut-outs. Required, unless a program that calls the library passes its own.
    pub trainer: Option<TrainerConfig>,
    /// Number of events after which a round ends. Between events the run continues with the current potential.
    #[serde(default = "defaults::batch")]
    pub batch: u32,
    /// Minimum number of steps between two events of a round. If absent, 10 × `sampling_interval`.
    pub event_spacing: Option<u64>,
    /// γ above which a round ends immediately, regardless of the number of events.
    #[serde(default = "defaults::halt")]
    pub halt: f64,
    /// Maximum number of candidates labelled per round.
    #[serde(default = "defaults::select")]
    pub select: usize,
    /// Maximum number of rounds.
    #[serde(default = "defaults::max_rounds")]
    pub max_rounds: u32,
    /// Maximum number of labels over all rounds.
    #[serde(default = "defaults::max_labels")]
    pub max_labels: usize,
    /// Wall time in seconds after which no new round begins. Unlimited if absent. Measured from the start of each process.
    pub max_time: Option<f64>,
    /// Simulated time in ps without an event after which the loop ends successfully. If absent, the run must complete
    /// without an event.
    pub quiet_time: Option<f64>,
    /// Where the run continues with the new potential.
    #[serde(default)]
    pub resume_from: ResumeFrom,
    /// Runs that share the store, the potential and the rounds. Each has the settings at the top level, except for those given here. If
    /// there are none, the settings at the top level are the only run.
    #[serde(default, rename = "run")]
    pub runs: Vec<RunConfig>,
    /// With several runs, label candidates of runs that are over while the others are done. Each of these selections is made without the
    /// candidates of later runs, so that more labels may be needed. Requires an oracle of the type `command` or `external`; no effect in
    /// rounds whose runs are all done side by side (`--replicas`).
    #[serde(default)]
    pub overlap: bool,
    /// Check structures. The oracle labels them once, and the errors of each potential of the loop on them are recorded.
    #[serde(default, rename = "check")]
    pub checks: Vec<CheckConfig>,
    /// A new potential is refused if an error on a check is larger than its limit and larger than this factor times the error of the
    /// initial potential.
    #[serde(default = "defaults::worsening")]
    pub worsening: f64,
    /// Candidate stores of other loops whose labels are trained on as well. They are copied when the loop is started. If absent, the
    /// store of the loop that made the initial potential, if there is one.
    pub labels: Option<Vec<PathBuf>>,
    /// Largest relative difference between forces of oracle and initial potential in the initial structure, with atoms displaced at
    /// random. If it is larger, the loop ends before it trains. 0: not compared.
    #[serde(default = "defaults::oracle_difference")]
    pub oracle_difference: f64,
    /// Exclude labels that do not fit the others from training, until they are accepted with `lammps-otf candidates accept`: a potential
    /// that was trained on them has errors there of more than 5 times the median over all labels, and of more than half of those before.
    #[serde(default = "defaults::yes")]
    pub exclude_suspects: bool,
    /// Folder of the configuration; the working directory of commands.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
}

/// One of several runs of a loop. A setting that is absent is that at the top level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Name, for tables and folders: a letter, followed by letters, digits, `_` and `-`.
    pub name: String,
    /// Structure file.
    pub structure: Option<PathBuf>,
    /// Ensemble.
    pub ensemble: Option<Ensemble>,
    /// Temperature in K: one value, or `[start, end]` for a linear ramp over the run.
    pub temperature: Option<Ramp>,
    /// Pressure in bar: one value, or `[start, end]` for a linear ramp over the run.
    pub pressure: Option<Ramp>,
    /// Number of time steps.
    pub steps: Option<u64>,
    /// Time step in ps.
    pub timestep: Option<f64>,
    /// Random seed of the initial velocities and of a Langevin thermostat.
    pub seed: Option<u32>,
    /// Strength of the bias; replaces `explore.strength`. 0: no bias. Requires the table `[explore]`.
    pub explore: Option<f64>,
}

/// A check structure, which the oracle labels once and each potential of the loop evaluates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckConfig {
    /// Name, for tables and messages: a letter, followed by letters, digits, `_` and `-`.
    pub name: String,
    /// Structure file. All its frames are labelled and evaluated.
    pub structure: PathBuf,
    /// Limit of the root mean square force error in eV/Å. Not limited if absent.
    pub force_error: Option<f64>,
    /// Limit of the relative error of an energy difference, such as 0.02 for 2 %. The difference is that between the structure and the
    /// same atoms in the first check structures of their elements: the formation energy of a surface, vacancy or compound. Not limited
    /// if absent.
    pub energy_difference_error: Option<f64>,
    /// Whether its labels, including energy and stress, are trained on.
    #[serde(default)]
    pub train: bool,
}

/// Oracle: computes energy and forces of cut-outs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum OracleConfig {
    /// Oracle that is a program, executed once per label or once per batch of labels.
    Command {
        /// Program and arguments, executed without a shell. `{input}` and `{output}` are replaced by file names.
        command: Vec<String>,
        /// Wall time in seconds after which the program is terminated. Unlimited if absent.
        timeout: Option<f64>,
        /// Number of times the program is restarted after a failure. With `batch`, only for the candidates without a label.
        #[serde(default)]
        retries: u32,
        /// Number of programs that run at the same time, on the node of rank 0. At most 1024.
        #[serde(default = "defaults::parallel")]
        parallel: usize,
        /// Whether the program labels all selected candidates at once: `{input}` and `{output}` then have one frame for each.
        /// With `parallel = N`, the candidates are divided into N batches.
        #[serde(default)]
        batch: bool,
    },
    /// Oracle that is a reference potential, evaluated by a second LAMMPS instance in this process.
    Lammps {
        /// Arguments of the LAMMPS command `pair_style`.
        pair_style: String,
        /// Arguments of the LAMMPS command `pair_coeff`, one entry per command.
        pair_coeff: Vec<String>,
    },
    /// Workers outside the loop, which label the selected candidates in the candidate store (key `selected`).
    External {
        /// Wall time in seconds to wait for labels. The loop then ends with exit code 7, and the same command continues it. 0: do not
        /// wait. Unlimited if absent.
        wait: Option<f64>,
        /// Time in seconds without a heartbeat of its worker after which a claimed candidate is released for other workers. For
        /// workers without heartbeats, it must exceed the time of a label. If absent, claims are kept.
        claim_timeout: Option<f64>,
    },
}

/// Trainer: fits a new potential to the labelled cut-outs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainerConfig {
    /// Program and arguments, executed without a shell. `{labelled}`, `{potential}`, `{active_set}`, `{output}` and
    /// `{round}` are replaced by file names and the number of the round.
    pub command: Vec<String>,
    /// Wall time in seconds after which the program is terminated. Unlimited if absent.
    pub timeout: Option<f64>,
}

/// Where the run continues with the new potential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResumeFrom {
    /// At the first event of the round.
    #[default]
    Pause,
    /// At the last poll before the first event with γ below `uncertainty_low`. The thermostat state is reset.
    LastReliable,
    /// At the first step. Each round repeats the whole run, until one completes without an event.
    Start,
}

mod defaults {
    pub(super) fn yes() -> bool {
        true
    }
    pub(super) fn batch() -> u32 {
        4
    }
    pub(super) fn halt() -> f64 {
        25.0
    }
    pub(super) fn select() -> usize {
        8
    }
    pub(super) fn max_rounds() -> u32 {
        10
    }
    pub(super) fn max_labels() -> usize {
        100
    }
    pub(super) fn parallel() -> usize {
        1
    }
    pub(super) fn worsening() -> f64 {
        1.1
    }
    pub(super) fn oracle_difference() -> f64 {
        0.5
    }
}

/// Name of the check of the initial structure, on which oracle and potential are compared.
pub(crate) const INITIAL_CHECK: &str = "initial";

/// Whether a name can be that of a folder, a key and a word of a table.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && name != INITIAL_CHECK
}

impl LoopConfig {
    /// Checks every field. `high` is the threshold of γ of the run.
    pub(crate) fn validate(&self, high: f64) -> Result<(), Error> {
        check(self.batch >= 1, "loop.batch", &self.batch, "1 or more")?;
        check(self.event_spacing != Some(0), "loop.event_spacing", &self.event_spacing, "1 step or more")?;
        check(self.halt >= high, "loop.halt", &self.halt, "at least `uncertainty_threshold`")?;
        check(self.select >= 1, "loop.select", &self.select, "1 or more")?;
        check(self.max_rounds >= 1, "loop.max_rounds", &self.max_rounds, "1 or more")?;
        check(self.max_labels >= 1, "loop.max_labels", &self.max_labels, "1 or more")?;
        check(self.max_time.is_none_or(positive), "loop.max_time", &self.max_time, SECONDS)?;
        check(self.quiet_time.is_none_or(positive), "loop.quiet_time", &self.quiet_time, "a time in ps above 0")?;
        check(self.worsening >= 1.0, "loop.worsening", &self.worsening, "1 or more")?;
        let relative = "a number from 0 to 2; 0 to skip the comparison";
        check(
            (0.0..=2.0).contains(&self.oracle_difference),
            "loop.oracle_difference",
            &self.oracle_difference,
            relative,
        )?;
        let names = |field, names: Vec<&str>| {
            names.iter().enumerate().try_for_each(|(at, name)| {
                let allowed = "a letter, followed by letters, digits, `_` and `-`; not `initial`";
                check(is_name(name), field, name, allowed)?;
                check(!names[..at].contains(name), field, name, "a name that occurs once")
            })
        };
        names("loop.run.name", self.runs.iter().map(|run| &*run.name).collect())?;
        names("loop.check.name", self.checks.iter().map(|check| &*check.name).collect())?;
        for own in &self.checks {
            let is_limit = |limit: Option<f64>| limit.is_none_or(positive);
            check(is_limit(own.force_error), "loop.check.force_error", &own.force_error, "a force in eV/Å above 0")?;
            let (field, limit) = ("loop.check.energy_difference_error", own.energy_difference_error);
            check(is_limit(limit), field, &limit, "a fraction above 0")?;
        }
        let can_overlap = !self.runs.is_empty() && !matches!(self.oracle, Some(OracleConfig::Lammps { .. }));
        check(
            !self.overlap || can_overlap,
            "loop.overlap",
            &self.overlap,
            "false without [[loop.run]], or with an oracle of the type `lammps`, which labels in this process",
        )?;
        self.trainer.as_ref().map_or(Ok(()), TrainerConfig::validate)?;
        self.oracle.as_ref().map_or(Ok(()), OracleConfig::validate)
    }

    /// Whether the oracle of the configuration is workers outside the loop.
    pub(crate) fn has_external_oracle(&self) -> bool {
        matches!(self.oracle, Some(OracleConfig::External { .. }))
    }
}

/// Whether an argument of a command contains the name of a file that is put there.
fn contains(command: &[String], name: &str) -> bool {
    command.iter().any(|word| word.contains(name))
}

/// An error if a value is not allowed.
fn check(ok: bool, field: &'static str, value: &dyn std::fmt::Debug, allowed: &'static str) -> Result<(), Error> {
    if ok { Ok(()) } else { Err(Error::Range { field, value: format!("{value:?}"), allowed }) }
}

fn positive(x: f64) -> bool {
    x > 0.0 && x.is_finite()
}

/// Allowed values of a time.
const SECONDS: &str = "a number of seconds above 0";

impl TrainerConfig {
    fn validate(&self) -> Result<(), Error> {
        check(self.timeout.is_none_or(positive), "loop.trainer.timeout", &self.timeout, SECONDS)?;
        for (name, allowed) in [
            ("{labelled}", "a program and its arguments, including {labelled} for the file of labelled candidates"),
            ("{output}", "a program and its arguments, including {output} for the output folder"),
        ] {
            check(contains(&self.command, name), "loop.trainer.command", &self.command, allowed)?;
        }
        Ok(())
    }
}

impl OracleConfig {
    fn validate(&self) -> Result<(), Error> {
        match self {
            Self::Command { command, timeout, parallel, .. } => {
                for (name, allowed) in [
                    ("{input}", "a program and its arguments, including {input} for the input file"),
                    ("{output}", "a program and its arguments, including {output} for the output file"),
                ] {
                    check(contains(command, name), "loop.oracle.command", command, allowed)?;
                }
                check((1..=1024).contains(parallel), "loop.oracle.parallel", parallel, "1 to 1024 programs")?;
                check(timeout.is_none_or(positive), "loop.oracle.timeout", timeout, SECONDS)
            }
            Self::External { wait, claim_timeout } => {
                let is_time = wait.is_none_or(|wait| wait >= 0.0 && wait.is_finite());
                check(is_time, "loop.oracle.wait", &wait.unwrap_or(0.0), "a number of seconds, 0 or more")?;
                let age = claim_timeout.unwrap_or(1.0);
                check(positive(age), "loop.oracle.claim_timeout", &age, SECONDS)
            }
            Self::Lammps { .. } => self.potential().map_or(Ok(()), |p| p.validate()),
        }
    }

    /// The reference potential, if the oracle is one.
    pub(crate) fn potential(&self) -> Option<Potential> {
        match self {
            Self::Command { .. } | Self::External { .. } => None,
            Self::Lammps { pair_style, pair_coeff } => Some(Potential {
                file: None,
                active_set: None,
                engine: crate::config::Engine::default(),
                pair_style: Some(pair_style.clone()),
                pair_coeff: pair_coeff.clone(),
                cutoff: None,
            }),
        }
    }
}

impl LoopConfig {
    /// Absolute path of the folder of the configuration, in which commands are started.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn resolve(&mut self, folder: &Path) {
        // The parent of a bare file name is empty.
        let folder = Path::new(".").join(folder);
        self.folder = std::path::absolute(&folder).unwrap_or(folder);
        let checks = self.checks.iter_mut().map(|check| &mut check.structure);
        let files = self.runs.iter_mut().filter_map(|run| run.structure.as_mut()).chain(checks);
        files.chain(self.labels.iter_mut().flatten()).for_each(|path| *path = self.folder.join(&path));
    }
}
