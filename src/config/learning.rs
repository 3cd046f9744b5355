// SPDX-License-Identifier: GPL-2.0-or-later
//! `[loop]`: who labels, who trains, and when it is enough.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Error, Potential};

/// The table `[loop]` of a configuration. `lammps-otf run` does not look at it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoopConfig {
    /// Who computes energies and forces of cut-outs.
    pub oracle: OracleConfig,
    /// Who makes a new potential of them.
    pub trainer: TrainerConfig,
    /// Events after which a round ends. The run goes on between them, with the potential that it has.
    #[serde(default = "defaults::batch")]
    pub batch: u32,
    /// Steps from one event of a round to the next; 10 sampling intervals if absent.
    pub event_spacing: Option<u64>,
    /// γ above which a round ends at once, whatever its number of events.
    #[serde(default = "defaults::halt")]
    pub halt: f64,
    /// Most candidates that are labelled in one round.
    #[serde(default = "defaults::select")]
    pub select: usize,
    /// Most rounds.
    #[serde(default = "defaults::max_rounds")]
    pub max_rounds: u32,
    /// Most candidates that are labelled in all.
    #[serde(default = "defaults::max_labels")]
    pub max_labels: usize,
    /// Wall time in seconds after which no other round begins; of this process alone.
    pub max_time: Option<f64>,
    /// Simulated time without an event, in ps, after which the potential is good enough; the whole run if absent.
    pub quiet_time: Option<f64>,
    /// Where the run goes on with the new potential.
    #[serde(default)]
    pub resume_from: ResumeFrom,
    /// The configuration's folder, where commands are run.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
}

/// Who computes energies and forces of cut-outs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum OracleConfig {
    /// A program that is run for each label.
    Command {
        /// The program and its arguments; no shell. `{input}` and `{output}` in them are replaced.
        command: Vec<String>,
        /// Wall time in seconds after which it is ended; none if absent.
        timeout: Option<f64>,
        /// How often it is started again after it failed.
        #[serde(default)]
        retries: u32,
    },
    /// Another potential, in an instance of LAMMPS in this process.
    Lammps {
        /// Arguments of `pair_style`.
        pair_style: String,
        /// Arguments of each `pair_coeff`.
        pair_coeff: Vec<String>,
    },
}

/// Who makes a new potential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainerConfig {
    /// The program and its arguments; no shell. `{labelled}`, `{potential}`, `{active_set}`, `{output}` and `{round}` in
    /// them are replaced.
    pub command: Vec<String>,
    /// Wall time in seconds after which it is ended; none if absent.
    pub timeout: Option<f64>,
}

/// Where the run goes on with the new potential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResumeFrom {
    /// Where the first event of the round was.
    #[default]
    Pause,
    /// At the last poll before that with γ below `uncertainty_low`; the thermostat begins anew.
    LastReliable,
    /// At the first step: every round runs the whole ramp, until one does without an event.
    Start,
}

mod defaults {
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
}

impl LoopConfig {
    /// Checks every field; `high` is the run's threshold of γ, `folder` where the configuration stands.
    pub(crate) fn validate(&self, high: f64) -> Result<(), Error> {
        let check = |ok: bool, field, value: &dyn std::fmt::Debug, allowed| {
            if ok { Ok(()) } else { Err(Error::Range { field, value: format!("{value:?}"), allowed }) }
        };
        let positive = |x: f64| x > 0.0 && x.is_finite();
        check(self.batch >= 1, "loop.batch", &self.batch, "1 or more")?;
        check(self.event_spacing != Some(0), "loop.event_spacing", &self.event_spacing, "1 step or more")?;
        check(self.halt >= high, "loop.halt", &self.halt, "not below uncertainty_threshold")?;
        check(self.select >= 1, "loop.select", &self.select, "1 or more")?;
        check(self.max_rounds >= 1, "loop.max_rounds", &self.max_rounds, "1 or more")?;
        check(self.max_labels >= 1, "loop.max_labels", &self.max_labels, "1 or more")?;
        let seconds = "a number of seconds above 0";
        check(self.max_time.is_none_or(positive), "loop.max_time", &self.max_time, seconds)?;
        check(self.quiet_time.is_none_or(positive), "loop.quiet_time", &self.quiet_time, "a time in ps above 0")?;
        let trainer = &self.trainer;
        check(trainer.timeout.is_none_or(positive), "loop.trainer.timeout", &trainer.timeout, seconds)?;
        let names = |command: &[String], name: &str| command.iter().any(|word| word.contains(name));
        for (name, allowed) in [
            ("{labelled}", "a program and its arguments, with {labelled} for the file of the labelled candidates"),
            ("{output}", "a program and its arguments, with {output} for the folder that it writes into"),
        ] {
            check(names(&trainer.command, name), "loop.trainer.command", &trainer.command, allowed)?;
        }
        match &self.oracle {
            OracleConfig::Command { command, timeout, .. } => {
                for (name, allowed) in [
                    ("{input}", "a program and its arguments, with {input} for the file that it reads"),
                    ("{output}", "a program and its arguments, with {output} for the file that it writes"),
                ] {
                    check(names(command, name), "loop.oracle.command", command, allowed)?;
                }
                check(timeout.is_none_or(positive), "loop.oracle.timeout", timeout, seconds)
            }
            OracleConfig::Lammps { .. } => self.oracle.potential().map_or(Ok(()), |p| p.validate()),
        }
    }
}

impl OracleConfig {
    /// The potential that labels, where it is one.
    pub(crate) fn potential(&self) -> Option<Potential> {
        match self {
            Self::Command { .. } => None,
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
    pub(crate) fn resolve(&mut self, folder: &Path) {
        // A name alone has an empty parent.
        let folder = Path::new(".").join(folder);
        self.folder = std::path::absolute(&folder).unwrap_or(folder);
    }
}
