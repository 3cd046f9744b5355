// SPDX-License-Identifier: GPL-2.0-or-later
//! `LoopConfig`: the table `[loop]` with oracle, trainer and limits.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Error, Potential};

/// Active learning with `lammps-otf loop`: oracle, trainer and limits. Ignored by `lammps-otf run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoopConfig {
    /// Oracle: computes energy and forces of cut-outs.
    pub oracle: OracleConfig,
    /// Trainer: fits a new potential to the labelled cut-outs.
    pub trainer: TrainerConfig,
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
    /// Folder of the configuration; the working directory of commands.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
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
}

impl LoopConfig {
    /// Checks every field. `high` is the threshold of γ of the run.
    pub(crate) fn validate(&self, high: f64) -> Result<(), Error> {
        let check = |ok: bool, field, value: &dyn std::fmt::Debug, allowed| {
            if ok { Ok(()) } else { Err(Error::Range { field, value: format!("{value:?}"), allowed }) }
        };
        let positive = |x: f64| x > 0.0 && x.is_finite();
        check(self.batch >= 1, "loop.batch", &self.batch, "1 or more")?;
        check(self.event_spacing != Some(0), "loop.event_spacing", &self.event_spacing, "1 step or more")?;
        check(self.halt >= high, "loop.halt", &self.halt, "at least `uncertainty_threshold`")?;
        check(self.select >= 1, "loop.select", &self.select, "1 or more")?;
        check(self.max_rounds >= 1, "loop.max_rounds", &self.max_rounds, "1 or more")?;
        check(self.max_labels >= 1, "loop.max_labels", &self.max_labels, "1 or more")?;
        let seconds = "a number of seconds above 0";
        check(self.max_time.is_none_or(positive), "loop.max_time", &self.max_time, seconds)?;
        check(self.quiet_time.is_none_or(positive), "loop.quiet_time", &self.quiet_time, "a time in ps above 0")?;
        let trainer = &self.trainer;
        check(trainer.timeout.is_none_or(positive), "loop.trainer.timeout", &trainer.timeout, seconds)?;
        let contains = |command: &[String], name: &str| command.iter().any(|word| word.contains(name));
        for (name, allowed) in [
            ("{labelled}", "a program and its arguments, including {labelled} for the file of labelled candidates"),
            ("{output}", "a program and its arguments, including {output} for the output folder"),
        ] {
            check(contains(&trainer.command, name), "loop.trainer.command", &trainer.command, allowed)?;
        }
        match &self.oracle {
            OracleConfig::Command { command, timeout, parallel, .. } => {
                for (name, allowed) in [
                    ("{input}", "a program and its arguments, including {input} for the input file"),
                    ("{output}", "a program and its arguments, including {output} for the output file"),
                ] {
                    check(contains(command, name), "loop.oracle.command", command, allowed)?;
                }
                check((1..=1024).contains(parallel), "loop.oracle.parallel", parallel, "1 to 1024 programs")?;
                check(timeout.is_none_or(positive), "loop.oracle.timeout", timeout, seconds)
            }
            OracleConfig::External { wait, claim_timeout } => {
                let is_time = wait.is_none_or(|wait| wait >= 0.0 && wait.is_finite());
                check(is_time, "loop.oracle.wait", &wait.unwrap_or(0.0), "a number of seconds, 0 or more")?;
                let age = claim_timeout.unwrap_or(1.0);
                check(positive(age), "loop.oracle.claim_timeout", &age, seconds)
            }
            OracleConfig::Lammps { .. } => self.oracle.potential().map_or(Ok(()), |p| p.validate()),
        }
    }
}

impl OracleConfig {
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
    pub(crate) fn resolve(&mut self, folder: &Path) {
        // The parent of a bare file name is empty.
        let folder = Path::new(".").join(folder);
        self.folder = std::path::absolute(&folder).unwrap_or(folder);
    }
}
