// SPDX-License-Identifier: GPL-2.0-or-later
//! Check structures: labelled once, and evaluated with each potential of a loop.

use std::sync::atomic::AtomicBool;

use super::ledger::Ledger;
use super::oracle::Oracle;
use super::oracle_check::{compare_energies, compare_forces, displaced};
use super::{Error, LoopConfig, Outcome, PhaseOutcome};
use crate::candidates::{
    Candidate, CandidateKeys, CheckResult, EnergyDifference, KeyValue, Phase, Round, Status, StoredCandidate, Trigger,
};
use crate::config::{CheckConfig, INITIAL_CHECK, InferenceConfig, Potential};
use crate::embedding::EmbeddingExtractor;
use crate::io::{self, Frame};
use crate::prediction::{Prediction, predictor};
use crate::runner::Error as RunError;
use crate::structure::{Element, Structure};

/// The key of a row that holds the name of its check.
const CHECK: &str = "check_name";

/// Folder of the files of the oracle for the checks, in the folder of the loop.
const FOLDER: &str = "checks";

/// Rows of a check, in the order of its frames.
struct Check {
    name: String,
    rows: Vec<StoredCandidate>,
}

/// A structure of a check that a potential has evaluated.
struct Evaluated<'r> {
    row: &'r StoredCandidate,
    prediction: Option<Prediction>,
}

impl Ledger {
    /// Stores the structures of the checks, and of the comparison of oracle and potential, that are not in the store.
    ///
    /// # Errors
    /// If a file cannot be read, or if it has changed since the loop was started.
    pub(super) fn add_checks(
        &mut self,
        config: &InferenceConfig,
        settings: &LoopConfig,
        structure: &Structure,
        extractor: &EmbeddingExtractor,
    ) -> Result<(), Error> {
        let known = self.checks()?;
        let mut new = Vec::new();
        for check in &settings.checks {
            let frames = frames_of(check)?;
            match known.iter().find(|known| known.name == check.name) {
                Some(known) => {
                    let same = known.rows.len() == frames.len()
                        && known.rows.iter().zip(&frames).all(|(row, frame)| is_same(&row.candidate.structure, frame));
                    if !same {
                        return Err(Error::Changed {
                            folder: self.folder.clone(),
                            what: format!("check {:?}", check.name),
                        });
                    }
                }
                None => new.extend(frames.into_iter().map(|frame| candidate(&check.name, Candidate::new(frame)))),
            }
        }
        // Not in a loop of an earlier version that has begun.
        let is_first = self.round.number == 1 && self.round.phase == Phase::Explore;
        let is_compared = settings.oracle_difference > 0.0 && !structure.is_empty() && is_first;
        if is_compared && !known.iter().any(|known| known.name == INITIAL_CHECK) {
            // A region that has no valid cell cannot be compared.
            let region = displaced(structure, config.candidates.embedding.max_atoms, extractor, config.md.seed.into());
            new.extend(region.map(|region| candidate(INITIAL_CHECK, region)));
        }
        self.store.add(&new)?;
        Ok(())
    }

    /// The checks in the store.
    fn checks(&self) -> Result<Vec<Check>, Error> {
        let mut checks: Vec<Check> = Vec::new();
        for row in self.store.iter(None)? {
            let row = row?;
            let Some(name) = row.keys().extra.get(CHECK).and_then(KeyValue::as_text).filter(|_| row.is_check()) else {
                continue;
            };
            match checks.iter_mut().find(|check| check.name == name) {
                Some(check) => check.rows.push(row),
                None => checks.push(Check { name: name.to_owned(), rows: vec![row] }),
            }
        }
        Ok(checks)
    }

    /// The checks of the configuration, in its order, and then the initial structure.
    fn checks_of(&self, settings: &LoopConfig) -> Result<Vec<Check>, Error> {
        let mut found = self.checks()?;
        let initial = (settings.oracle_difference > 0.0).then_some(INITIAL_CHECK);
        let names = settings.checks.iter().map(|check| &*check.name).chain(initial);
        let mut take = |name: &str| Some(found.swap_remove(found.iter().position(|check| check.name == name)?));
        Ok(names.filter_map(&mut take).collect())
    }

    /// The labelled structures of the checks that are trained on, with the weights of whole structures.
    pub(super) fn trained_checks(&self, settings: &LoopConfig) -> Result<Vec<StoredCandidate>, Error> {
        let is_trained = |name: &str| settings.checks.iter().any(|check| check.name == name && check.train);
        let checks = self.checks()?.into_iter().filter(|check| is_trained(&check.name));
        let mut rows: Vec<StoredCandidate> = checks.flat_map(|check| check.rows).collect();
        rows.retain(is_done);
        for row in &mut rows {
            let whole = CandidateKeys::of_whole(&row.candidate.structure);
            let keys = &mut row.candidate.keys;
            (keys.energy_weight, keys.stress_weight) = (whole.energy_weight, whole.stress_weight);
        }
        Ok(rows)
    }

    /// Labels the checks, compares the labels of the oracle with the initial potential, and records the errors of the current potential.
    ///
    /// # Errors
    /// [`Error::Oracle`] if a check cannot be labelled, or if oracle and potential differ too much.
    pub(super) fn prepare(
        &mut self,
        settings: &LoopConfig,
        oracle: &mut dyn Oracle,
        interrupt: &AtomicBool,
    ) -> Result<PhaseOutcome<Round>, Error> {
        // The initial structure first: if its label is wrong, the others need not be computed.
        let mut checks = self.checks_of(settings)?;
        checks.sort_by_key(|check| check.name != INITIAL_CHECK);
        for check in &checks {
            if let Some(outcome) = self.label_check(settings, check, oracle, interrupt)? {
                return Ok(PhaseOutcome::Stop(outcome));
            }
            self.compare_with_oracle(settings, &check.name)?;
        }
        let results = self.evaluate_checks(settings, &self.potential)?;
        if self.round.checks != results {
            let mut round = Round { checks: results, ..self.round.clone() };
            round.seconds.label += self.take_elapsed();
            self.store.record(&[&round], None, &[])?;
            self.set_round(round);
        }
        Ok(PhaseOutcome::Continue(self.round.clone()))
    }

    /// Labels the structures of a check that have no label. Returns why the loop ends, if it does.
    fn label_check(
        &mut self,
        settings: &LoopConfig,
        check: &Check,
        oracle: &mut dyn Oracle,
        interrupt: &AtomicBool,
    ) -> Result<Option<Outcome>, Error> {
        let open: Vec<i64> = check.rows.iter().filter(|row| !is_done(row)).map(|row| row.id).collect();
        if open.is_empty() {
            return Ok(None);
        }
        // Workers outside the loop repeat their attempts themselves.
        if !settings.has_external_oracle() {
            for row in check.rows.iter().filter(|row| matches!(row.status, Some(Status::Failed | Status::Rejected))) {
                self.store.set_status(row.id, Status::PendingDft)?;
            }
        }
        let folder = self.folder.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(RunError::writing(&folder))?;
        if let Some(outcome) = self.label_rows(&open, &folder, oracle, interrupt)? {
            return Ok(Some(outcome));
        }
        for id in open {
            let row = self.store.get(id)?;
            if !is_done(&row) {
                let why = row.message.unwrap_or_else(|| "it has no label".into());
                let again = if settings.has_external_oracle() {
                    "; `lammps-otf candidates set-status` queues it again"
                } else {
                    ""
                };
                let name = &check.name;
                return Err(Error::Oracle(format!(
                    "the check {name:?} (candidate {id}) is not labelled: {why}{again}"
                )));
            }
        }
        Ok(None)
    }

    /// Compares the labels of the initial structure, and the energies of checks that are trained on, with the initial potential.
    /// Labels that differ are removed.
    fn compare_with_oracle(&mut self, settings: &LoopConfig, name: &str) -> Result<(), Error> {
        let is_trained = settings.checks.iter().any(|check| check.name == name && check.train);
        let is_first = self.round.number == 1 && self.round.phase == Phase::Explore;
        if !is_first || !(is_trained || name == INITIAL_CHECK) || settings.oracle_difference == 0.0 {
            return Ok(());
        }
        let mut predictor = predictor(&self.initial_potential()?)?;
        let checks = self.checks()?;
        let rows: Vec<&StoredCandidate> =
            checks.iter().filter(|check| check.name == name).flat_map(|check| &check.rows).collect();
        for row in &rows {
            let Ok(prediction) = predictor.evaluate(&row.candidate.structure) else { continue };
            let compared = match name {
                INITIAL_CHECK => compare_forces(&row.candidate, &prediction, settings.oracle_difference),
                _ => compare_energies(&row.candidate, &prediction),
            };
            if let Err(why) = compared {
                for row in &rows {
                    self.store.set_status(row.id, Status::Rejected)?;
                    self.store.set_status(row.id, Status::PendingDft)?;
                }
                return Err(Error::Oracle(format!("{why}. The structure is candidate {}", row.id)));
            }
        }
        Ok(())
    }

    /// The potential with which the loop was started.
    fn initial_potential(&self) -> Result<Potential, Error> {
        let first = self.store.rounds()?.into_iter().next().map(|round| round.potential);
        let record = first.map(|hash| self.store.potential(&hash)).transpose()?.flatten();
        Ok(record.map_or_else(
            || self.potential.clone(),
            |known| Potential { file: Some(known.file), active_set: Some(known.active_set), ..self.potential.clone() },
        ))
    }

    /// The errors of a potential on the labelled checks.
    pub(super) fn evaluate_checks(
        &self,
        settings: &LoopConfig,
        potential: &Potential,
    ) -> Result<Vec<CheckResult>, Error> {
        let checks = self.checks_of(settings)?;
        let mut predictor = predictor(potential)?;
        let mut evaluate = |row| Evaluated { row, prediction: predictor.evaluate(&row.candidate.structure).ok() };
        let evaluated: Vec<Vec<Evaluated<'_>>> =
            checks.iter().map(|check| check.rows.iter().map(&mut evaluate).collect()).collect();
        let mut differences = differences(evaluated.iter().flatten()).into_iter();
        let results = checks.iter().zip(&evaluated).map(|(check, evaluated)| {
            let own: Vec<_> = differences.by_ref().take(evaluated.len()).flatten().collect();
            let limits = settings.checks.iter().find(|limits| limits.name == check.name);
            result(&check.name, evaluated, &own, limits)
        });
        Ok(results.collect())
    }

    /// Why a new potential is refused: an error on a check that is larger than its limit and larger than with the initial potential.
    pub(super) fn worsened_check(
        &self,
        settings: &LoopConfig,
        results: &[CheckResult],
    ) -> Result<Option<String>, Error> {
        // Not the stored results of the first round, because checks may have been added since.
        let initial = self.evaluate_checks(settings, &self.initial_potential()?)?;
        let refused = results.iter().find_map(|now| {
            let limits = settings.checks.iter().find(|check| check.name == now.name)?;
            let before = initial.iter().find(|initial| initial.name == now.name)?;
            worsened(limits, before, now, settings.worsening)
        });
        Ok(refused)
    }
}

/// A row of a check.
fn candidate(name: &str, of: Candidate) -> Candidate {
    let extra = [(CHECK.to_owned(), KeyValue::from(name))].into_iter().collect();
    Candidate { keys: CandidateKeys { trigger: Some(Trigger::Check), extra, ..CandidateKeys::default() }, ..of }
}

/// All frames of the structure file of a check.
pub(super) fn frames_of(check: &CheckConfig) -> Result<Vec<Structure>, Error> {
    let mut frames = Vec::new();
    loop {
        match io::read_frame(&check.structure, None, Frame::Nth(frames.len())) {
            Ok(frame) => frames.push(frame),
            Err(io::Error::NoFrame { .. }) if !frames.is_empty() => return Ok(frames),
            Err(error) => return Err(RunError::from(error).into()),
        }
    }
}

/// Whether a row is labelled, and its label was not rejected.
fn is_done(row: &StoredCandidate) -> bool {
    row.status == Some(Status::Done) && row.is_labelled()
}

/// Whether a stored structure is that of a file.
fn is_same(stored: &Structure, read: &Structure) -> bool {
    let symbols = |s: &Structure| (0..s.len()).map(|i| s.element(i)).collect::<Vec<_>>();
    // The store keeps positions relative to the origin of the cell, so that the last digit may differ.
    let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
    stored.len() == read.len()
        && stored.positions.iter().zip(&read.positions).all(near)
        && stored.cell.vectors == read.cell.vectors
        && stored.cell.pbc == read.cell.pbc
        && symbols(stored) == symbols(read)
}

/// The errors on the structures of a check.
fn result(
    name: &str,
    evaluated: &[Evaluated<'_>],
    differences: &[EnergyDifference],
    limits: Option<&CheckConfig>,
) -> CheckResult {
    let mut core = Vec::new();
    let (mut gamma, mut energy): (f64, Option<f64>) = (0.0, None);
    for Evaluated { row, prediction } in evaluated {
        let (Some(prediction), Some(labels)) = (prediction, &row.candidate.labels) else {
            core.push(f64::NAN);
            continue;
        };
        let mask = &row.candidate.force_mask;
        let errors = prediction.force_errors(labels.forces.view()).into_iter().zip(mask);
        core.extend(errors.filter(|(_, mask)| **mask > 0.0).map(|(error, _)| error));
        let all = prediction.gamma.iter().flatten().zip(mask).filter(|(_, mask)| **mask > 0.0);
        gamma = all.map(|(gamma, _)| *gamma).fold(gamma, |a, b| if b.is_nan() { f64::INFINITY } else { a.max(b) });
        if mask.iter().all(|mask| *mask > 0.0) {
            let error = (labels.energy - prediction.energy) / mask.len() as f64;
            energy = Some(energy.filter(|largest| largest.abs() >= error.abs()).unwrap_or(error));
        }
    }
    let difference = differences.iter().copied().max_by(|a, b| a.relative_error().total_cmp(&b.relative_error()));
    let mut result = CheckResult {
        name: name.to_owned(),
        structures: evaluated.len(),
        force_rmse: (core.iter().map(|error| error * error).sum::<f64>() / core.len() as f64).sqrt(),
        force_max: core.iter().copied().fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b) }),
        gamma_max: Some(gamma).filter(|gamma| gamma.is_finite()),
        energy_error: energy,
        difference,
        failures: Vec::new(),
    };
    result.failures = limits.map_or(Vec::new(), |limits| failures(&result, limits));
    result
}

/// The errors that are larger than their limits.
fn failures(result: &CheckResult, limits: &CheckConfig) -> Vec<String> {
    let mut failures = Vec::new();
    if result.force_rmse.is_nan() {
        failures.push("the potential cannot evaluate a structure".into());
    }
    if let Some(limit) = limits.force_error.filter(|limit| result.force_rmse > *limit) {
        failures.push(format!("force error {:.4} eV/Å, limit {limit}", result.force_rmse));
    }
    if let (Some(limit), Some(found)) = (limits.energy_difference_error, result.difference)
        && found.relative_error() > limit
    {
        failures.push(format!(
            "energy difference {:.4} eV instead of {:.4} eV: {:.1} %, limit {:.1} %",
            found.prediction,
            found.label,
            100.0 * found.relative_error(),
            100.0 * limit
        ));
    }
    failures
}

/// Why a potential is worse than the initial one.
fn worsened(limits: &CheckConfig, initial: &CheckResult, now: &CheckResult, factor: f64) -> Option<String> {
    let (name, of) = (&now.name, |result: &CheckResult| result.difference.map_or(0.0, |d| d.relative_error()));
    if now.force_rmse.is_nan() {
        return Some(format!("it cannot evaluate a structure of the check {name:?}"));
    }
    let exceeds =
        |limit: Option<f64>, before: f64, now: f64| limit.is_some_and(|limit| now > limit) && now > factor * before;
    if exceeds(limits.force_error, initial.force_rmse, now.force_rmse) {
        let (before, now) = (initial.force_rmse, now.force_rmse);
        return Some(format!(
            "the force error on the check {name:?} is {now:.4} eV/Å, with the initial potential {before:.4} eV/Å"
        ));
    }
    let (before, after) = (of(initial), of(now));
    exceeds(limits.energy_difference_error, before, after).then(|| {
        let (before, now) = (100.0 * before, 100.0 * after);
        format!("the error of the energy difference of the check {name:?} is {now:.1} %, with the initial potential {before:.1} %")
    })
}

/// For each structure, the difference between its energy and that of the same atoms in reference structures. A structure whose
/// composition is not a combination of those of the references before it becomes a reference itself; it has no difference.
fn differences<'e>(evaluated: impl Iterator<Item = &'e Evaluated<'e>> + Clone) -> Vec<Option<EnergyDifference>> {
    let whole = |e: &Evaluated<'_>| e.row.candidate.force_mask.iter().all(|mask| *mask > 0.0);
    let mut elements: Vec<_> = evaluated.clone().flat_map(|e| e.row.candidate.structure.elements.clone()).collect();
    elements.sort_by_key(|element| element.atomic_number());
    elements.dedup();
    let mut references = References::default();
    let difference = |e: &Evaluated<'_>| {
        let (structure, prediction) = (&e.row.candidate.structure, e.prediction.as_ref()?);
        let energy = [e.row.candidate.labels.as_ref()?.energy, prediction.energy];
        if !whole(e) {
            return None;
        }
        let count =
            |element: &Element| (0..structure.len()).filter(|&i| structure.element(i) == *element).count() as f64;
        let [label, prediction] = references.difference(elements.iter().map(count).collect(), energy)?;
        // The structure of a reference once more: an error relative to rounding has no meaning.
        if label.abs() < 1e-6 * structure.len() as f64 {
            return None;
        }
        Some(EnergyDifference { label, prediction })
    };
    evaluated.map(difference).collect()
}

/// Compositions and energies of reference structures, in echelon form: each has a pivot element that those after it lack.
#[derive(Default)]
struct References(Vec<(usize, Vec<f64>, [f64; 2])>);

impl References {
    /// Subtracts the energies of the same atoms in the references; `None` if the structure becomes a reference.
    fn difference(&mut self, mut composition: Vec<f64>, mut energy: [f64; 2]) -> Option<[f64; 2]> {
        for (pivot, reference, own) in &self.0 {
            let factor = composition[*pivot] / reference[*pivot];
            composition.iter_mut().zip(reference).for_each(|(n, r)| *n -= factor * r);
            energy.iter_mut().zip(own).for_each(|(e, r)| *e -= factor * r);
        }
        // Numbers of atoms are integers, so that a remainder is not small unless it is rounding.
        let pivot = (0..composition.len()).max_by(|&a, &b| composition[a].abs().total_cmp(&composition[b].abs()))?;
        if composition[pivot].abs() < 1e-6 {
            return Some(energy);
        }
        self.0.push((pivot, composition, energy));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_to_the_first_structures_of_the_same_elements() {
        let mut references = References::default();
        // Ni3Al, Ni, then structures of both: energies -20 for Ni3Al, -4.5 per Ni.
        assert_eq!(references.difference(vec![1.0, 3.0], [-20.0, -19.0]), None);
        assert_eq!(references.difference(vec![0.0, 2.0], [-9.0, -9.0]), None);
        let [label, prediction] = references.difference(vec![2.0, 6.0], [-39.0, -38.5]).unwrap();
        assert!((label - 1.0).abs() < 1e-12 && (prediction + 0.5).abs() < 1e-12);
        // An antisite in 8 cells: one Al less, one Ni more; in bulk that is 7 Ni3Al + 4 Ni.
        let [label, _] = references.difference(vec![7.0, 25.0], [-157.0, 0.0]).unwrap();
        assert!((label - (-157.0 + 7.0 * 20.0 + 4.0 * 4.5)).abs() < 1e-12);
    }

    #[test]
    fn a_check_is_worse_if_its_error_exceeds_the_limit_and_that_of_the_initial_potential() {
        let limits = CheckConfig {
            name: "slab".into(),
            structure: "slab.xyz".into(),
            force_error: Some(0.1),
            energy_difference_error: Some(0.02),
            train: false,
        };
        let of = |force_rmse, prediction| CheckResult {
            name: "slab".into(),
            structures: 1,
            force_rmse,
            force_max: force_rmse,
            gamma_max: None,
            energy_error: None,
            difference: Some(EnergyDifference { label: 2.0, prediction }),
            failures: Vec::new(),
        };
        let is_worse = |initial, now| worsened(&limits, &initial, &now, 1.1).is_some();
        assert!(!is_worse(of(0.05, 2.0), of(0.09, 2.03)), "within the limits");
        assert!(is_worse(of(0.05, 2.0), of(0.11, 2.0)));
        assert!(!is_worse(of(0.2, 2.2), of(0.21, 2.21)), "as before");
        assert!(is_worse(of(0.2, 2.1), of(0.1, 1.8)));
        assert!(is_worse(of(0.2, 2.1), of(f64::NAN, 2.0)));
        assert_eq!(failures(&of(0.2, 2.1), &limits).len(), 2);
        assert_eq!(failures(&of(0.1, 1.97), &limits).len(), 0);
    }
}
