// SPDX-License-Identifier: GPL-2.0-or-later
//! Makes candidates from events: selection of centres, extraction, novelty, relaxation, verification, storage.
//!
//! Runs, replicas and the loop share this pipeline. They differ in where candidates are stored ([`Sink`]).

mod check;
mod known;

use std::path::Path;

use crate::candidates::{Candidate, CandidateKeys, KeyValue, Trigger};
use crate::comm::{CollectiveError, Comm, RemoteError};
use crate::config::InferenceConfig;
use crate::embedding::{CutOut, EmbeddingExtractor, Environment};
use crate::simulation::{self, Center, EventCenter, Poll, Simulation};
use crate::structure::AtomId;
use crate::uncertainty::{Cause, Verdict};
use crate::verify::Verification;

use check::relax_and_verify;
pub(crate) use known::KnownEnvironments;

/// The key of candidates with more atoms than `max_atoms`.
const OVERSIZED: &str = "oversized";

/// A region of a frame to be stored as a candidate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Region {
    /// Id of the atom at its centre.
    pub(crate) center: AtomId,
    /// Extrapolation grade of the centre, if known.
    pub(crate) gamma: Option<f64>,
    /// Step of the frame.
    pub(crate) step: i64,
    /// The reason for storing it. A crash refers to the last valid frame, other triggers to the current frame.
    pub(crate) trigger: Trigger,
}

/// Destination of candidates. All methods are called on rank 0 only.
pub(crate) trait Sink {
    /// Why a candidate cannot be stored.
    type Error;

    /// Whether a region should be stored. `false` if a limit is reached or a similar environment is known.
    fn accepts(&mut self, region: &Region, environment: &Environment) -> bool;

    /// Stores a candidate and returns its id. `None` if another process has stored a similar environment since
    /// [`Sink::accepts`].
    fn store(&mut self, candidate: Candidate, environment: Environment) -> Result<Option<i64>, Self::Error>;
}

/// Outcome of processing a region; the same on all ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The region was stored as the candidate with this id.
    Stored(i64),
    /// The region was not accepted: a limit is reached, or a similar environment is known.
    Known,
    /// The region has no valid cell. A warning was added.
    Invalid,
}

impl From<Cause> for Trigger {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Gamma => Self::Gamma,
            Cause::Core => Self::Core,
            Cause::Sparse => Self::Sparse,
        }
    }
}

/// The regions to store at a poll: at most `limit` at an event, as [`Simulation::centers`] orders them, one at a flagged poll.
///
/// # Errors
/// If the values of the atoms cannot be read.
///
/// # MPI
/// Collective; the same result on all ranks.
pub(crate) fn regions(
    simulation: &Simulation,
    poll: &Poll,
    extractor: &EmbeddingExtractor,
    limit: usize,
) -> Result<Vec<Region>, simulation::Error> {
    let Some(gamma) = &poll.gamma else { return Ok(Vec::new()) };
    let step = poll.step;
    Ok(match poll.verdict {
        Verdict::Reliable | Verdict::Unwatched => Vec::new(),
        Verdict::Flagged => {
            vec![Region { center: gamma.worst_id, gamma: Some(gamma.max), step, trigger: Trigger::Flag }]
        }
        Verdict::Extrapolating => {
            // Several regions of a whole frame would be the same frame.
            let limit = if extractor.takes_whole(simulation.lammps().total_atoms()) { 1 } else { limit };
            let centers = simulation.centers(poll, extractor.radius(), limit)?;
            let region = |center: EventCenter| Region {
                center: center.id,
                gamma: center.gamma,
                step,
                trigger: center.cause.into(),
            };
            centers.into_iter().map(region).collect()
        }
    })
}

/// The region to audit at a poll that is not an event, as the setting `audits_per_ps` requires; `None` at most polls. `round` is that
/// of a loop, and 0 in a run.
///
/// # Errors
/// If γ cannot be read.
///
/// # MPI
/// Collective; the same result on all ranks.
pub(crate) fn audit(simulation: &Simulation, poll: &Poll, round: u32) -> Result<Option<Region>, simulation::Error> {
    // The initial frame is not part of what the run samples.
    if poll.steps == 0 || !matches!(poll.verdict, Verdict::Reliable | Verdict::Flagged) {
        return Ok(None);
    }
    let drawn = simulation.draw_audit(round)?;
    let region = |center: Center| Region {
        center: center.id,
        gamma: Some(center.gamma),
        step: poll.step,
        trigger: Trigger::Audit,
    };
    Ok(drawn.map(region))
}

/// The region of the last valid frame that a crash is attributed to: around the suspect of the last poll ([`Poll::suspect`]), or around
/// the fastest atom if γ is unknown. `None` if there is no valid frame.
///
/// # MPI
/// Collective; the same result on all ranks.
pub(crate) fn region_of_crash(simulation: &Simulation, last: Option<&Poll>) -> Option<Region> {
    let frame = simulation.last_valid();
    frame.cell()?;
    let (center, gamma) = match last.and_then(|poll| Some((poll.suspect()?, poll.gamma.as_ref()?))) {
        Some((suspect, gamma)) => (suspect, Some(gamma.max).filter(|_| suspect == gamma.worst_id)),
        None => (frame.fastest_atom(simulation.comm()), None),
    };
    Some(Region { center, gamma, step: frame.step(), trigger: Trigger::Crash })
}

/// The pipeline from a region to a candidate.
#[derive(Clone, Copy)]
pub(crate) struct Pipeline<'a> {
    pub(crate) comm: &'a Comm,
    pub(crate) config: &'a InferenceConfig,
    pub(crate) extractor: &'a EmbeddingExtractor,
    /// SHA-256 of the potential's files; used on rank 0.
    pub(crate) potential_hash: &'a str,
}

impl Pipeline<'_> {
    /// Extracts a region, relaxes and verifies it as configured, and stores it. `sink` is that of rank 0.
    ///
    /// # Errors
    /// An error of the simulation or of the sink. A region that has no valid cell, or that the potential cannot evaluate, only adds
    /// a warning to `warnings`, on rank 0.
    ///
    /// # MPI
    /// Collective; the same outcome on all ranks.
    pub(crate) fn process<S: Sink>(
        &self,
        simulation: &Simulation,
        region: &Region,
        sink: Option<&mut S>,
        warnings: &mut Vec<String>,
    ) -> Result<Outcome, S::Error>
    where
        S::Error: CollectiveError + From<simulation::Error> + From<RemoteError>,
    {
        let extracted = match region.trigger {
            Trigger::Crash => simulation.cut_out_of_last_valid(region.center, self.extractor),
            _ => simulation.cut_out(region.center, self.extractor),
        };
        let cut_out = match extracted {
            Ok(cut_out) => cut_out,
            Err(error @ (simulation::Error::Embedding(_) | simulation::Error::Remote(_))) => {
                warnings.push(format!("step {}, atom {}: {error}", region.step, region.center));
                return Ok(Outcome::Invalid);
            }
            Err(error) => return Err(error.into()),
        };
        let stored = self.comm.on_root(|| {
            let (Some(mut cut_out), Some(sink)) = (cut_out, sink) else { return Ok(None) };
            let environment = environment_of(&cut_out);
            if !sink.accepts(region, &environment) {
                return Ok(None);
            }
            let verification = relax_and_verify(&mut cut_out, self.config, simulation.script(), region.step, warnings);
            let candidate = self.candidate(&cut_out, verification, region);
            sink.store(candidate, environment)
        })?;
        let id: Option<i64> = self.comm.share(stored);
        Ok(id.map_or(Outcome::Known, Outcome::Stored))
    }

    /// Converts a cut-out to a candidate.
    pub(crate) fn candidate(&self, cut_out: &CutOut, verification: Verification, region: &Region) -> Candidate {
        let cluster = &cut_out.cluster;
        // The energy and the stress of a part of a frame have no meaning.
        let weights =
            if cluster.is_whole() { CandidateKeys::of_whole(&cluster.structure) } else { CandidateKeys::default() };
        let of_cut_out = |length: f64| (!cluster.is_whole()).then_some(length);
        let oversized = cluster.is_oversized().then(|| (OVERSIZED.to_owned(), KeyValue::Bool(true)));
        Candidate {
            structure: cluster.structure.clone(),
            force_mask: cluster.force_mask.clone(),
            source_ids: cluster.source_ids.clone(),
            source_images: cluster.source_images.clone(),
            atom_gamma: cut_out.gamma.clone(),
            atom_core_share: cut_out.core_share.clone().filter(|shares| shares.iter().any(|share| *share > 0.0)),
            keys: CandidateKeys {
                gamma: region.gamma,
                core_share: cut_out.core_share.as_ref().map(|shares| shares[cluster.center]),
                step: Some(region.step),
                center: Some(cluster.center),
                center_id: Some(region.center),
                radius: of_cut_out(cluster.radius),
                buffer: of_cut_out(cluster.buffer),
                shape: Some(cluster.shape.map_or_else(|| "frame".into(), |shape| shape.to_string())),
                energy_weight: weights.energy_weight,
                stress_weight: weights.stress_weight,
                source: Some(name_of(&self.config.system.structure)),
                potential_hash: Some(self.potential_hash.to_owned()),
                trigger: Some(region.trigger.clone()),
                gamma_parent: verification.gamma_parent,
                gamma_cluster: verification.gamma_cluster,
                gamma_rounding: verification.gamma_rounding,
                max_force_difference: verification.max_force_difference,
                extra: oversized.into_iter().collect(),
                ..CandidateKeys::default()
            },
            labels: None,
        }
    }
}

/// The environment of the centre, which is used to compare cut-outs.
pub(crate) fn environment_of(cut_out: &CutOut) -> Environment {
    let cluster = &cut_out.cluster;
    Environment::of(cluster, cluster.center, cluster.cutoff)
}

/// Name of the structure file; `created` if LAMMPS creates the atoms.
fn name_of(structure: &Path) -> String {
    structure.file_name().map_or("created".into(), |name| name.to_string_lossy().into_owned())
}
