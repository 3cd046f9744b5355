// SPDX-License-Identifier: GPL-2.0-or-later
//! `CandidatesConfig`: candidates and cut-outs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::check;
use super::{Determines, Error, Section};
use crate::embedding::EmbeddingConfig;

/// Candidates: how many are stored, and how they are cut out and checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CandidatesConfig {
    /// Maximum number of regions extracted at one event.
    #[serde(default = "defaults::regions_per_event")]
    pub regions_per_event: usize,
    /// Maximum number of candidates stored by one run.
    #[serde(default = "defaults::max_candidates")]
    pub max_candidates: usize,
    /// Shape and size of a cut-out.
    #[serde(default)]
    pub embedding: EmbeddingConfig,
    /// Evaluate each cut-out once with the same potential, and store how far its γ and forces deviate from those in the
    /// simulation.
    #[serde(default = "defaults::verify")]
    pub verify: bool,
    /// Relax the buffer of each cut-out with the same potential, with the core fixed. Intended for the `cube` shape, where
    /// the new periodic boundary can place atoms close to each other.
    #[serde(default)]
    pub relax: bool,
    /// Minimum dimensionless distance of an atomic environment from those that this run has stored; nearer ones are not
    /// stored. 0 stores all.
    #[serde(default = "defaults::novelty")]
    pub novelty: f64,
}

impl Section for CandidatesConfig {
    const DETERMINES: Determines = Determines::Candidates;
}

impl CandidatesConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        let regions = self.regions_per_event;
        check((1..=1000).contains(&regions), "regions_per_event", &regions, "between 1 and 1000")?;
        check(self.max_candidates >= 1, "max_candidates", &self.max_candidates, "1 or more")?;
        check((0.0..=2.0).contains(&self.novelty), "novelty", &self.novelty, "between 0 and 2")?;
        Ok(self.embedding.validate()?)
    }
}

mod defaults {
    pub(super) fn regions_per_event() -> usize {
        1
    }
    pub(super) fn max_candidates() -> usize {
        100
    }
    pub(super) fn verify() -> bool {
        true
    }
    pub(super) fn novelty() -> f64 {
        crate::embedding::DEFAULT_THRESHOLD
    }
}
