// SPDX-License-Identifier: GPL-2.0-or-later
//! `WatchConfig`: monitoring of the uncertainty.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::{check, positive};
use super::{Determines, Error, Section};

/// Monitoring of the uncertainty: source of γ, thresholds, and polling interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// Threshold of the extrapolation grade γ, or a tolerated force error, from which a calibration derives the threshold. A poll
    /// above it is an event: the region is stored, and the run stops or continues as set by `mode`.
    #[serde(default = "defaults::uncertainty_threshold")]
    pub uncertainty_threshold: Threshold,
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
    /// Expected number of audits per ps: regions below the threshold around a random atom, at random polls, stored with the trigger
    /// `audit`. Their labels measure the error where γ is low; they are not trained on, and do not count in `max_candidates`. At most
    /// one at each poll.
    #[serde(default)]
    pub audits_per_ps: f64,
}

impl Section for WatchConfig {
    const DETERMINES: Determines = Determines::Candidates;
}

impl WatchConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        self.uncertainty_threshold.validate()?;
        let (low, high) = (self.uncertainty_low, self.uncertainty_threshold.initial());
        check(
            positive(low) && low <= high,
            "uncertainty_low",
            &low,
            "above 0 and at most `uncertainty_threshold`; if that is below 2, set `uncertainty_low` too",
        )?;
        let audits = self.audits_per_ps;
        check(audits >= 0.0 && audits.is_finite(), "audits_per_ps", &audits, "0 or a number of audits per ps")?;
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
    pub(super) fn uncertainty_threshold() -> super::Threshold {
        super::Threshold::Grade(fallback())
    }
    pub(super) fn fallback() -> f64 {
        5.0
    }
    pub(super) fn coverage() -> f64 {
        0.9
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

/// The threshold of γ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "a number above 0, or a table with `force_error` in eV/Å, such as { force_error = 0.15, coverage = 0.9 }"
)]
pub enum Threshold {
    /// A fixed value of γ.
    Grade(f64),
    /// The largest γ at which a calibration predicts at most this force error.
    ForceError(ToleratedError),
}

/// A tolerated force error, from which the threshold of γ follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToleratedError {
    /// Largest tolerated force error on an atom in eV/Å.
    pub force_error: f64,
    /// Fraction of the atoms at the threshold whose force error is not larger.
    #[serde(default = "defaults::coverage")]
    pub coverage: f64,
    /// The threshold of γ while the labelled regions are too few for a calibration.
    #[serde(default = "defaults::fallback")]
    pub fallback: f64,
    /// The calibration of a run: the file written by `lammps-otf calibrate --json`. A loop makes its own in each round.
    pub calibration: Option<PathBuf>,
}

impl Threshold {
    /// The threshold of γ before there is a calibration.
    #[must_use]
    pub fn initial(&self) -> f64 {
        match self {
            Self::Grade(gamma) => *gamma,
            Self::ForceError(tolerated) => tolerated.fallback,
        }
    }

    /// The tolerated force error, if the threshold follows from one.
    #[must_use]
    pub fn tolerated(&self) -> Option<&ToleratedError> {
        match self {
            Self::Grade(_) => None,
            Self::ForceError(tolerated) => Some(tolerated),
        }
    }

    /// The path of the calibration, to be resolved.
    pub(super) fn calibration_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Grade(_) => None,
            Self::ForceError(tolerated) => tolerated.calibration.as_mut(),
        }
    }

    fn validate(&self) -> Result<(), Error> {
        match self {
            Self::Grade(gamma) => {
                check(positive(*gamma), "uncertainty_threshold", gamma, "a number above 0 (5 is usual)")
            }
            Self::ForceError(ToleratedError { force_error, coverage, fallback, calibration }) => {
                let field = "uncertainty_threshold.force_error";
                check(positive(*force_error), field, force_error, "a force error in eV/Å above 0")?;
                let field = "uncertainty_threshold.coverage";
                check((0.5..1.0).contains(coverage), field, coverage, "at least 0.5 and below 1, such as 0.9")?;
                check(positive(*fallback), "uncertainty_threshold.fallback", fallback, "a γ above 0 (5 is usual)")?;
                let found = calibration.as_ref().is_none_or(|path| path.is_file());
                let field = "uncertainty_threshold.calibration";
                check(found, field, calibration, "an existing file, written by `lammps-otf calibrate --json`")
            }
        }
    }
}

/// As in a summary of the settings, after the word "threshold".
impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Grade(gamma) => write!(f, "{gamma}"),
            Self::ForceError(ToleratedError { force_error, coverage, .. }) => {
                write!(f, "for a force error of {force_error} eV/Å at coverage {coverage}")
            }
        }
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
