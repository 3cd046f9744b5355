// SPDX-License-Identifier: GPL-2.0-or-later
//! `Replicas`: several simulations in one job.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Ramp;

/// Settings that differ between the replicas of one job (`lammps-otf run --replicas R`), in addition to their seeds.
///
/// A list is either empty or has one entry per replica, in order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Replicas {
    /// Target temperature of each replica in K; replaces `temperature`.
    pub temperatures: Vec<Ramp>,
    /// Initial structure of each replica; replaces `structure`.
    pub structures: Vec<PathBuf>,
    /// Strength of the bias of each replica; replaces `explore.strength`. 0: no bias.
    pub explore: Vec<f64>,
}

impl Replicas {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
