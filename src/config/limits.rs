// SPDX-License-Identifier: GPL-2.0-or-later
//! `LimitsConfig`: validity of structures and frames.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::{check, positive};
use super::{Determines, Error, Section};

/// Validity limits for the initial structure and for the frames of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Minimum distance in Å between two atoms of the initial structure, including periodic images.
    #[serde(default = "defaults::min_distance")]
    pub min_distance: f64,
    /// Limits for a valid frame.
    #[serde(default)]
    pub sanity: Sanity,
}

impl Section for LimitsConfig {
    const DETERMINES: Determines = Determines::Candidates;
}

impl LimitsConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        let Sanity { max_temperature, max_force, max_displacement: far } = self.sanity;
        check(positive(max_temperature), "sanity.max_temperature", &max_temperature, "above 0 K")?;
        check(positive(max_force), "sanity.max_force", &max_force, "above 0 eV/Å")?;
        check(far.is_none_or(positive), "sanity.max_displacement", &far, "a length in Å above 0")?;
        let d = self.min_distance;
        check((0.0..=10.0).contains(&d), "min_distance", &d, "between 0 and 10 Å")
    }
}

mod defaults {
    pub(super) fn min_distance() -> f64 {
        0.5
    }
}

/// Limits for a valid frame. A run that exceeds one of them ends as crashed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sanity {
    /// Maximum temperature in K.
    pub max_temperature: f64,
    /// Maximum force on an atom in eV/Å.
    pub max_force: f64,
    /// Maximum displacement of an atom between two polls, in Å. If absent, 1000 Å/ps (1 Å per fs, the speed of a hydrogen
    /// atom of 50 eV) times the time between two polls.
    pub max_displacement: Option<f64>,
}

impl Default for Sanity {
    fn default() -> Self {
        // Far above values in condensed matter: a frame beyond them has exploded.
        Self { max_temperature: 1e5, max_force: 1e4, max_displacement: None }
    }
}
