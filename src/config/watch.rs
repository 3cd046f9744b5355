// SPDX-License-Identifier: GPL-2.0-or-later
//! `WatchConfig`: monitoring of the uncertainty.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::{check, positive};
use super::{Determines, Error, Section};

/// Monitoring of the uncertainty: source of γ, thresholds, and polling interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// Threshold of the extrapolation grade γ. A poll above it is an event: the region is stored, and the run stops or
    /// continues as set by `mode`.
    #[serde(default = "defaults::uncertainty_threshold")]
    pub uncertainty_threshold: f64,
    /// Lower threshold of γ. A poll between the two thresholds is flagged in `polls.jsonl`.
    #[serde(default = "defaults::uncertainty_low")]
    pub uncertainty_low: f64,
    /// Number of steps between two polls of γ.
    #[serde(default = "defaults::sampling_interval")]
    pub sampling_interval: u64,
    /// Source of γ.
    #[serde(default)]
    pub uncertainty: Uncertainty,
    /// Largest share of the terms of an atom that core repulsion may switch off, from 0 to 1. A poll with an atom above it is an
    /// event, whatever γ: the potential has learned nothing at such distances, and γ does not show it. 1 switches this off. Only for
    /// the pair styles of PACE.
    #[serde(default = "defaults::core_share")]
    pub core_share: f64,
    /// Atoms with fewer neighbours than this within the cutoff are counted at each poll, because γ of an isolated atom is small. 0
    /// switches this off. Default: 4 with the potential of a `file`, unless KOKKOS evaluates it; otherwise 0, because LAMMPS builds
    /// a full neighbour list at each poll for a pair style that has none.
    #[serde(default)]
    pub sparse_neighbours: Option<u64>,
    /// Whether a poll with an atom that has fewer neighbours than `sparse_neighbours` is an event.
    #[serde(default)]
    pub sparse_trigger: bool,
    /// Action at an event.
    #[serde(default)]
    pub mode: Mode,
    /// Minimum number of steps between two candidates stored from flagged polls. 0 stores candidates only at events.
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
            "above 0 and at most `uncertainty_threshold`; if that is below 2, set `uncertainty_low` too",
        )?;
        check(
            (0.0..=1.0).contains(&self.core_share),
            "core_share",
            &self.core_share,
            "from 0 to 1, which switches it off",
        )?;
        let few = self.sparse_neighbours;
        check(
            !(self.sparse_trigger && few == Some(0)),
            "sparse_neighbours",
            &0,
            "1 or more with `sparse_trigger = true`",
        )?;
        check(few.is_none_or(|few| few <= 1000), "sparse_neighbours", &few.unwrap_or_default(), "at most 1000")?;
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
    pub(super) fn core_share() -> f64 {
        0.01
    }
    pub(super) fn sampling_interval() -> u64 {
        100
    }
}

/// Source of the uncertainty of each atom.
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
    /// No uncertainty: the run is not monitored.
    None,
}

/// Action at an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Store the region and stop the run.
    #[default]
    Stop,
    /// Store the region and continue.
    Flag,
}
