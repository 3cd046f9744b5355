// SPDX-License-Identifier: GPL-2.0-or-later
//! Monitoring of the uncertainty.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::{check, positive};
use super::{Determines, Error, Section};

/// Monitoring of the uncertainty: thresholds, and how often and where it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// Extrapolation grade γ above which the run stops and the region is stored.
    #[serde(default = "defaults::uncertainty_threshold")]
    pub uncertainty_threshold: f64,
    /// Extrapolation grade γ above which a step is flagged.
    #[serde(default = "defaults::uncertainty_low")]
    pub uncertainty_low: f64,
    /// Number of steps between two looks at γ.
    #[serde(default = "defaults::sampling_interval")]
    pub sampling_interval: u64,
    /// Where γ comes from.
    #[serde(default)]
    pub uncertainty: Uncertainty,
    /// What happens above the threshold.
    #[serde(default)]
    pub mode: Mode,
    /// Store a candidate also for steps between the two thresholds, at most every so many steps; 0 stores none.
    #[serde(default)]
    pub flag_interval: u64,
}

impl Section for WatchConfig {
    const DETERMINES: Determines = Determines::Candidates;
}

impl WatchConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        let (low, high) = (self.uncertainty_low, self.uncertainty_threshold);
        check(positive(high), "uncertainty_threshold", &high, "a number above 0 (5 is usual)")?;
        check(
            positive(low) && low <= high,
            "uncertainty_low",
            &low,
            "above 0 and not above `uncertainty_threshold`: set it lower too, also where it was left out",
        )?;
        let n = self.sampling_interval;
        check((1..=i32::MAX as u64).contains(&n), "sampling_interval", &n, "between 1 and 2147483647 steps")
    }
}

mod defaults {
    pub(super) fn uncertainty_threshold() -> f64 {
        5.0
    }
    pub(super) fn uncertainty_low() -> f64 {
        2.0
    }
    pub(super) fn sampling_interval() -> u64 {
        100
    }
}

/// Where the uncertainty of each atom comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Uncertainty {
    /// The extrapolation grade of ML-PACE.
    #[default]
    Pace,
    /// The per-atom vector of the fix with this id.
    Fix(String),
    /// The per-atom vector of the compute with this id.
    Compute(String),
    /// The atom-style variable of this name.
    Variable(String),
    /// Nothing: the run is not watched.
    None,
}

/// What happens above the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The region is stored and the run stops.
    #[default]
    Stop,
    /// The region is stored and the run goes on.
    Flag,
}
