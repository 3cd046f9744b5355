// SPDX-License-Identifier: GPL-2.0-or-later
//! `JobConfig`: wall time, checkpoints and file sizes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::{check, positive};
use super::{Determines, Error, Section, TrajectoryConfig};

/// Wall time, checkpoints and file sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobConfig {
    /// Wall time in seconds after which the run stops at the next poll. Unlimited if absent. Measured from the start of each
    /// process, so a resumed run has the full time again.
    pub wall_time: Option<f64>,
    /// Number of steps between two checkpoints (`--resume` continues from the last one), rounded up to a multiple of
    /// `sampling_interval`. A run that ends without a crash writes a final one. 0 disables checkpoints, including the final
    /// one.
    #[serde(default = "defaults::checkpoint_interval")]
    pub checkpoint_interval: u64,
    /// Size in MB at which `polls.jsonl` is renamed to `polls.1.jsonl`, then `polls.2.jsonl`, …, and a new file is started.
    #[serde(default = "defaults::polls_file_size")]
    pub polls_file_size: f64,
    /// Maximum number of these files, including the current one. The oldest are removed.
    #[serde(default = "defaults::polls_files")]
    pub polls_files: u32,
    /// The frames of the run as a file. None if absent.
    pub trajectory: Option<TrajectoryConfig>,
}

impl Section for JobConfig {
    const DETERMINES: Determines = Determines::Nothing;
}

impl JobConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        let size = self.polls_file_size;
        check((0.001..=1e6).contains(&size), "polls_file_size", &size, "between 0.001 and 1000000 MB")?;
        check(self.polls_files >= 1, "polls_files", &self.polls_files, "1 or more")?;
        let every = self.checkpoint_interval;
        check(every <= i64::MAX as u64 / 2, "checkpoint_interval", &every, "0 (none), or less than 2^62 steps")?;
        let frames = self.trajectory.as_ref().map_or(1, |trajectory| trajectory.interval);
        check((1..=1 << 30).contains(&frames), "trajectory.interval", &frames, "between 1 and 2^30 steps")?;
        let time = self.wall_time;
        check(time.is_none_or(positive), "wall_time", &time.unwrap_or_default(), "a number of seconds above 0")
    }
}

mod defaults {
    pub(super) fn checkpoint_interval() -> u64 {
        10_000
    }
    pub(super) fn polls_file_size() -> f64 {
        64.0
    }
    pub(super) fn polls_files() -> u32 {
        16
    }
}
