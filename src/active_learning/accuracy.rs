// SPDX-License-Identifier: GPL-2.0-or-later
//! Errors of the potentials of a loop on its labels, and what follows from them: the threshold of γ and the audit at the end.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Error;
use super::ledger::Ledger;
use crate::calibration::{Calibration, ErrorBound, Pair, Threshold as Found, min_regions, pairs_of};
use crate::candidates::{AuditResult, Candidate, ErrorOf, LabelErrors, Labels, Status, StoredCandidate, Trigger};
use crate::config::{Potential, Threshold};
use crate::prediction::{Prediction, Predictor, predictor};

/// The lowest threshold that a calibration sets: up to 1 the potential interpolates, so that labels of such regions would hardly
/// extend its active set.
const LOWEST: f64 = 1.0;

/// The calibration of events uses labels of earlier rounds until it has this many times the regions that its coverage requires at least.
const ENOUGH: usize = 2;

/// The threshold of γ for a potential, and the calibration that predicts its force errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Limits {
    pub(super) threshold: f64,
    calibration: Option<Calibration>,
    coverage: f64,
}

impl Limits {
    /// Those without a calibration.
    pub(super) fn initial(threshold: &Threshold) -> Self {
        let coverage = threshold.tolerated().map_or(0.0, |tolerated| tolerated.coverage);
        Self { threshold: threshold.initial(), calibration: None, coverage }
    }

    pub(super) fn error_bound(&self) -> Option<ErrorBound> {
        self.calibration.clone().map(|calibration| ErrorBound::new(calibration, self.coverage))
    }
}

/// The errors of a prediction on a labelled candidate: the forces on core atoms, and the energy if all atoms are core.
fn label_errors(prediction: &Prediction, candidate: &Candidate, labels: &Labels) -> LabelErrors {
    let is_core = |at: &usize| candidate.force_mask[*at] > 0.0;
    let errors = prediction.force_errors(labels.forces.view());
    let n = errors.len();
    let energy = ((0..n).all(|at| is_core(&at)) && n > 0).then(|| (labels.energy - prediction.energy) / n as f64);
    let forces = errors.into_iter().enumerate().map(|(at, error)| if is_core(&at) { error } else { f64::NAN });
    LabelErrors { forces: forces.collect(), energy }
}

/// Errors of a potential on labelled candidates. A candidate that it cannot evaluate, for example because atoms overlap, is skipped.
pub(super) fn errors_on(predictor: &mut Predictor, rows: &[StoredCandidate]) -> Vec<(i64, LabelErrors)> {
    let labelled = rows.iter().filter(|row| row.is_labelled());
    let errors = labelled.filter_map(|row| {
        let prediction = predictor.evaluate(&row.candidate.structure).ok()?;
        Some((row.id, label_errors(&prediction, &row.candidate, row.candidate.labels.as_ref()?)))
    });
    errors.collect()
}

/// Root mean square over the core atoms of all candidates, eV/Å.
fn rmse<'e>(errors: impl Iterator<Item = &'e LabelErrors>) -> Option<f64> {
    let core: Vec<f64> = errors.flat_map(|e| e.forces.iter().copied()).filter(|error| !error.is_nan()).collect();
    (!core.is_empty()).then(|| (core.iter().map(|error| error * error).sum::<f64>() / core.len() as f64).sqrt())
}

/// The potentials with which candidates were found. A candidate of an earlier round has an earlier potential.
#[derive(Default)]
struct PotentialsThatRan(HashMap<String, Option<Predictor>>);

impl PotentialsThatRan {
    /// The potential of a candidate; `None` if it is unknown or cannot be read.
    fn of(&mut self, row: &StoredCandidate, ledger: &Ledger) -> Result<Option<&mut Predictor>, Error> {
        let Some(hash) = &row.keys().potential_hash else { return Ok(None) };
        if !self.0.contains_key(hash) {
            let potential = ledger.store.potential(hash)?.map(|known| Potential {
                file: Some(known.file),
                active_set: Some(known.active_set),
                ..ledger.potential.clone()
            });
            self.0.insert(hash.clone(), potential.and_then(|potential| predictor(&potential).ok()));
        }
        Ok(self.0.get_mut(hash).and_then(Option::as_mut))
    }
}

impl Ledger {
    /// Stores the errors of the potentials that ran on the candidates of this round that were labelled. Returns their root mean
    /// square without audits, in eV/Å.
    pub(super) fn record_errors_of_run(&mut self, labelled: &[StoredCandidate]) -> Result<Option<f64>, Error> {
        let mut potentials = PotentialsThatRan::default();
        let mut all = Vec::new();
        for row in labelled {
            if let Some(predictor) = potentials.of(row, self)? {
                all.extend(errors_on(predictor, std::slice::from_ref(row)));
            }
        }
        self.store.set_errors(ErrorOf::Run, &all)?;
        let of_event = |id: i64| labelled.iter().any(|row| row.id == id && !is_audit(row));
        Ok(rmse(all.iter().filter(|(id, _)| of_event(*id)).map(|(_, errors)| errors)))
    }

    /// Stores the errors of a new potential on all labelled candidates. Returns their root mean square on the candidates of this
    /// round without audits, in eV/Å.
    pub(super) fn record_errors_of_newest(&mut self, potential: &Potential) -> Result<Option<f64>, Error> {
        let rows = self.labelled_rows()?;
        let all = errors_on(&mut predictor(potential)?, &rows);
        self.store.set_errors(ErrorOf::Newest, &all)?;
        let of_round =
            |id: i64| self.round.selected.contains(&id) && rows.iter().any(|row| row.id == id && !is_audit(row));
        Ok(rmse(all.iter().filter(|(id, _)| of_round(*id)).map(|(_, errors)| errors)))
    }

    /// All labelled candidates, without checks.
    pub(super) fn labelled_rows(&self) -> Result<Vec<StoredCandidate>, Error> {
        let mut rows: Vec<StoredCandidate> = self.store.iter(Some(Status::Done))?.collect::<Result<_, _>>()?;
        rows.retain(|row| row.is_labelled() && !row.is_check());
        Ok(rows)
    }

    /// The threshold of γ for a potential. If a force error is tolerated, it follows from errors on labels that the respective
    /// potential was not trained on:
    ///
    /// - The audits, with the errors of this potential, represent the atoms below the threshold. If their bound passes the tolerated
    ///   error at some γ, that is the threshold.
    /// - If it does not, the threshold is the fallback, or the γ up to which the events of the last rounds, with the errors of the
    ///   potentials that ran, are within the tolerated error, if that is larger.
    /// - With too few audits it is the fallback.
    pub(super) fn limits(&self, threshold: &Threshold, potential: &Potential) -> Result<Limits, Error> {
        let initial = Limits::initial(threshold);
        let Some(tolerated) = threshold.tolerated() else { return Ok(initial) };
        let (error, coverage) = (tolerated.force_error, tolerated.coverage);
        let (audits, labelled): (Vec<_>, Vec<_>) =
            self.labelled_rows()?.into_iter().filter(|row| !row.is_suspect()).partition(StoredCandidate::is_held_back);
        let mut predictor = predictor(potential)?;
        // A region that the potential cannot evaluate has no pairs.
        let of_audits: Vec<Pair> =
            audits.iter().flat_map(|row| finite(pairs_of([row], &mut predictor).unwrap_or_default())).collect();
        let events = Calibration::fit(&self.pairs_of_events(&labelled, ENOUGH * min_regions(coverage))?).ok();
        let audits = Calibration::fit(&of_audits).ok();
        let Some((audits, found)) = audits.and_then(|a| a.threshold(error, coverage).map(|found| (a, found))) else {
            // The events still predict errors at polls.
            return Ok(Limits { calibration: events, ..initial });
        };
        let threshold = match found {
            Found::Gamma(gamma) => gamma.max(LOWEST),
            Found::AboveAtZero(_) => LOWEST,
            Found::LargestGamma(_) => {
                let of_events = events.and_then(|events| events.threshold(error, coverage)?.gamma());
                initial.threshold.max(of_events.unwrap_or(0.0))
            }
        };
        Ok(Limits { threshold, calibration: Some(audits), ..initial })
    }

    /// γ and force errors of the potentials that ran, for the events of the last rounds: of as many as give this number of regions.
    /// Candidates of later rounds are later in `rows`.
    fn pairs_of_events(&self, rows: &[StoredCandidate], regions: usize) -> Result<Vec<Pair>, Error> {
        let mut potentials = PotentialsThatRan::default();
        let (mut pairs, mut found, mut last) = (Vec::new(), 0, None);
        for row in rows.iter().rev().filter(|row| !is_audit(row)) {
            let potential = row.keys().potential_hash.as_deref();
            if found >= regions && last != potential {
                break;
            }
            (found, last) = (found + 1, potential);
            if let Some(predictor) = potentials.of(row, self)? {
                pairs.extend(finite(pairs_of([row], predictor).unwrap_or_default()));
            }
        }
        Ok(pairs)
    }

    /// The errors of the current potential on the audits that no potential was trained on; `None` without such audits.
    pub(super) fn audit(&self, threshold: &Threshold) -> Result<Option<AuditResult>, Error> {
        let mut audits = self.labelled_rows()?;
        audits.retain(StoredCandidate::is_held_back);
        let errors = errors_on(&mut predictor(&self.potential)?, &audits);
        let Some(force_rmse) = rmse(errors.iter().map(|(_, errors)| errors)) else { return Ok(None) };
        // The tolerance holds for a random atom, whatever its γ.
        let of = |row: &StoredCandidate| errors.iter().find(|(id, _)| *id == row.id).map(|(_, errors)| errors);
        let pairs: Vec<Pair> = audits.iter().flat_map(|row| pairs_without_gamma(row, of(row))).collect();
        let bound = threshold
            .tolerated()
            .and_then(|tolerated| Calibration::fit(&pairs).ok()?.groups()[0].bound(0.0, tolerated.coverage));
        let limit = threshold.tolerated().map_or(f64::INFINITY, |tolerated| tolerated.force_error);
        Ok(Some(AuditResult {
            regions: audits.len(),
            atoms: pairs.len(),
            force_rmse,
            force_max: errors.iter().filter_map(|(_, errors)| errors.max()).fold(0.0, f64::max),
            force_bound: bound,
            // A region that the potential cannot evaluate has no error.
            accepted: bound.is_none_or(|bound| bound <= limit) && force_rmse <= limit && errors.len() == audits.len(),
        }))
    }

    /// Makes all audits training data, after the potential has failed them.
    pub(super) fn train_on_audits(&mut self) -> Result<(), Error> {
        let rows = self.labelled_rows()?;
        let ids: Vec<i64> = rows.iter().filter(|row| row.is_held_back()).map(|row| row.id).collect();
        Ok(self.store.train_on_audits(&ids)?)
    }
}

/// The force error of each core atom, with γ = 0, so that a calibration of these pairs does not depend on γ.
fn pairs_without_gamma(row: &StoredCandidate, errors: Option<&LabelErrors>) -> Vec<Pair> {
    let trigger = row.keys().trigger.clone().unwrap_or(Trigger::Gamma);
    let errors = errors.into_iter().flat_map(|errors| errors.forces.iter().copied().enumerate());
    let all = errors.map(|(at, error)| Pair {
        region: row.id,
        element: row.candidate.structure.element(at),
        trigger: trigger.clone(),
        gamma: 0.0,
        error,
    });
    all.filter(|pair| pair.error.is_finite()).collect()
}

/// The pairs that a calibration can use: γ of atoms that nearly overlap can be infinite.
fn finite(mut pairs: Vec<Pair>) -> Vec<Pair> {
    pairs.retain(|pair| pair.gamma.is_finite() && pair.error.is_finite());
    pairs
}

fn is_audit(row: &StoredCandidate) -> bool {
    row.keys().trigger == Some(Trigger::Audit)
}
