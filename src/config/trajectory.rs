// SPDX-License-Identifier: GPL-2.0-or-later
//! `TrajectoryConfig`: the frames of a run as a file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A trajectory in the folder of the run, of each replica, or of each round of a loop, written by LAMMPS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrajectoryConfig {
    /// Number of steps between two frames. With γ, a multiple of `sampling_interval`.
    pub interval: u64,
    /// Format of the file.
    #[serde(default)]
    pub format: TrajectoryFormat,
    /// Write the velocities.
    #[serde(default = "defaults::velocities")]
    pub velocities: bool,
    /// Write the forces.
    #[serde(default)]
    pub forces: bool,
}

/// Format of a trajectory. Atoms are sorted by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrajectoryFormat {
    /// Text dump of LAMMPS, `trajectory.dump`: also ids, images and γ of each atom (`f_otf_gamma`).
    #[default]
    Dump,
    /// Extended XYZ, `trajectory.extxyz`, without ids and γ.
    Extxyz,
}

impl TrajectoryFormat {
    /// Name of the file.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Dump => "trajectory.dump",
            Self::Extxyz => "trajectory.extxyz",
        }
    }
}

mod defaults {
    pub(super) fn velocities() -> bool {
        true
    }
}
