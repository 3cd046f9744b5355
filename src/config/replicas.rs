// SPDX-License-Identifier: GPL-2.0-or-later
//! Several simulations in one job.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Ramp;

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
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
