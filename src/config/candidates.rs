// SPDX-License-Identifier: GPL-2.0-or-later
//! What is stored of an event.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::check;
use super::{Determines, Error, Section};
use crate::embedding::EmbeddingConfig;

/// What is stored of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CandidatesConfig {
    /// Most regions that are cut out at one event.
    #[serde(default = "defaults::regions_per_event")]
    pub regions_per_event: usize,
    /// Most candidates that one run stores.
    #[serde(default = "defaults::max_candidates")]
    pub max_candidates: usize,
    /// How the neighbourhood of the worst atom is cut out.
    #[serde(default)]
    pub embedding: EmbeddingConfig,
    /// Evaluate each cut-out once with the same potential, and note how far γ and forces agree with the parent's.
    #[serde(default = "defaults::verify")]
    pub verify: bool,
    /// Relax the buffer of each cut-out with the same potential, with the core frozen: for the `cube` shape, whose new
    /// boundary brings atoms together that never met.
    #[serde(default)]
    pub relax: bool,
    /// Environments nearer than this to one that this run has stored are not stored again; 0 stores all.
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
