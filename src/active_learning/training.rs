// SPDX-License-Identifier: GPL-2.0-or-later
//! The phase of a round in which a potential is trained on all labelled candidates and tested.

use std::fs::File;

use super::accuracy::errors_on;
use super::ledger::{Ledger, make_round_folders};
use super::queue::find;
use super::trainer::{Trainer, TrainerError, TrainingJob};
use super::trial::trial;
use super::{Error, LoopConfig, Outcome, PhaseOutcome, files};
use crate::candidates::export::{self, Format};
use crate::candidates::{ErrorOf, Phase, PotentialRecord, Round, RoundOutcome, RunState, StoredCandidate, outliers};
use crate::config::{Potential, Threshold};
use crate::potential::fingerprint;
use crate::prediction::{Predictor, predictor};
use crate::runner::Error as RunError;
use crate::script::Script;

impl Ledger {
    /// Trains a potential on all labelled candidates, and tests it. Returns the potential, the completed round, and the next round.
    pub(super) fn train(
        &mut self,
        trainer: &mut dyn Trainer,
        script: &Script,
        threshold: &Threshold,
        settings: &LoopConfig,
    ) -> Result<PhaseOutcome<(Potential, Round, Round)>, Error> {
        let (mut round, parent) = (self.round.clone(), self.potential.clone());
        let here = self.current_folder();
        if round.outcome == Some(RoundOutcome::Quiet) && round.audit.is_some_and(|audit| !audit.accepted) {
            self.train_on_audits()?;
        }
        let mut rows = self.labelled_rows()?;
        rows.retain(|row| !row.is_held_back() && !row.is_suspect());
        rows.extend(self.trained_checks(settings)?);
        // They may have been stored by a process that was killed before it stored the potential.
        rows.iter_mut().for_each(StoredCandidate::remove_errors_of_newest);
        let place = here.join(files::POTENTIAL);
        // Left by a process that was killed before it stored the end of the round.
        if place.exists() {
            std::fs::remove_dir_all(&place).map_err(RunError::writing(&place))?;
        }
        let (output, report, trained) = loop {
            let labelled = here.join(files::LABELLED);
            export::export(Format::Extxyz, &rows, &labelled)?;
            let output =
                tempfile::Builder::new().prefix("training-").tempdir_in(&here).map_err(RunError::writing(&here))?;
            let job = TrainingJob {
                labelled: &labelled,
                parent: &parent,
                output: output.path(),
                round: round.number,
                log: &here.join(files::TRAINING_LOG),
            };
            let report = match trainer.train(&job) {
                Ok(report) => report,
                Err(TrainerError::Refused(why)) => return Ok(PhaseOutcome::Stop(Outcome::Refused(why))),
                Err(TrainerError::Interrupted) => return Ok(PhaseOutcome::Stop(Outcome::Interrupted)),
                Err(error) => return Err(error.into()),
            };
            let trained = Potential {
                file: Some(output.path().join(files::BASIS)),
                active_set: Some(output.path().join(files::ACTIVE_SET)),
                ..parent.clone()
            };
            if let Some(missing) =
                [&trained.file, &trained.active_set].into_iter().flatten().find(|path| !path.is_file())
            {
                let message = format!("it did not write {}", missing.file_name().unwrap_or_default().display());
                return Err(TrainerError::Failed { message, log: job.log.to_owned() }.into());
            }
            let suspects = if settings.exclude_suspects { self.suspects(&rows, &trained)? } else { Vec::new() };
            if suspects.is_empty() {
                break (output, report, trained);
            }
            // Again, without them.
            self.store.set_suspect(&suspects, true)?;
            rows.retain(|row| !suspects.contains(&row.id));
        };
        let of_round = |row: &StoredCandidate| row.is_suspect() && round.selected.contains(&row.id);
        round.suspects = self.labelled_rows()?.iter().filter(|row| of_round(row)).map(|row| row.id).collect();
        round.seconds.train += self.take_elapsed();
        let cutoff =
            |potential| crate::potential::reach(potential).map_err(|e| format!("its file cannot be read: {e}"));
        match (cutoff(&trained), cutoff(&parent)) {
            (Ok(Some(new)), Ok(Some(old))) if new > old => {
                let why = format!(
                    "its cutoff is {new} Å, larger than the {old} Å of its parent, for which regions are extracted"
                );
                return Ok(PhaseOutcome::Stop(Outcome::Refused(why)));
            }
            (Err(why), _) => return Ok(PhaseOutcome::Stop(Outcome::Refused(why))),
            _ => {}
        }
        let elements = &self.elements;
        let trial_script = script.with_potential(&trained, elements).map_err(|e| e.to_string());
        self.trial_instance = match trial_script.and_then(|script| trial(&script, elements, &rows, threshold.initial()))
        {
            Ok(instance) => Some(instance),
            Err(why) => return Ok(PhaseOutcome::Stop(Outcome::Refused(why))),
        };
        let checks = self.evaluate_checks(settings, &trained)?;
        if let Some(why) = self.worsened_check(settings, &checks)? {
            return Ok(PhaseOutcome::Stop(Outcome::Refused(why)));
        }
        let hash = fingerprint(&trained).map_err(RunError::Potential)?;
        std::fs::rename(output.keep(), &place).map_err(RunError::writing(&place))?;
        crate::runner::inherit_permissions(&place);
        let (file, active_set) = (place.join(files::BASIS), place.join(files::ACTIVE_SET));
        for file in [&file, &active_set, &here] {
            File::open(file).and_then(|file| file.sync_all()).map_err(RunError::writing(file))?;
        }
        let potential = Potential { file: Some(file.clone()), active_set: Some(active_set.clone()), ..parent };
        let record = PotentialRecord {
            hash: hash.clone(),
            parent: Some(round.potential.clone()),
            round: round.number,
            file,
            active_set,
        };
        let report = serde_json::to_value(&report).expect("numbers and names");
        let mut next = Round::begin(round.number + 1, &hash, round.next_restart.clone(), round.next_from);
        next.checks = checks;
        next.runs = round.runs.iter().map(RunState::next).collect();
        let mut projector = predictor(&potential).map_err(Error::Selection)?;
        round.force_rmse_after = self.record_errors_of_newest(&potential)?;
        let limits = self.limits(threshold, &potential)?;
        // A calibrated threshold can be so low that many regions of earlier potentials are above it.
        if self.has_pending_above(&mut projector, limits.threshold.max(threshold.initial()))? {
            // A run would meet the environments of these candidates again, so label them first.
            (next.phase, next.next_restart, next.next_from) = (Phase::Select, next.restart.clone(), next.from);
        }
        make_round_folders(&self.folder, next.number + 1, &self.names)?;
        round.seconds.trial += self.take_elapsed();
        let done = Round { phase: Phase::Done, report, ..round };
        self.store.record(&[&done, &next], Some(&record), &[])?;
        (self.potential, self.projector, self.limits) = (potential.clone(), projector, limits);
        Ok(PhaseOutcome::Continue((potential, done, self.set_round(next))))
    }

    /// Labels of this round that do not fit those of the other rows, all of which this potential was trained on. They are looked for
    /// once in a round, also by a process that continues it.
    fn suspects(&self, rows: &[StoredCandidate], trained: &Potential) -> Result<Vec<i64>, Error> {
        let of_round = |id: &i64| self.round.selected.contains(id);
        for id in &self.round.selected {
            if find(&self.store, *id)?.is_some_and(|row| row.is_suspect()) {
                return Ok(Vec::new());
            }
        }
        // A potential that cannot be read is refused later.
        let Ok(mut predictor) = predictor(trained) else { return Ok(Vec::new()) };
        let after = errors_on(&mut predictor, rows);
        let before = |id: i64| rows.iter().find(|row| row.id == id)?.errors(ErrorOf::Run)?.rmse();
        let errors = after.iter().filter_map(|(id, errors)| Some((*id, before(*id)?, errors.rmse()?)));
        let mut found = outliers(&errors.collect::<Vec<_>>());
        // One that was accepted is not judged again.
        found.retain(|id| of_round(id) && !rows.iter().any(|row| row.id == *id && row.is_judged()));
        Ok(found)
    }

    /// Whether γ of a pending candidate, other than an audit, is above the threshold with this potential.
    fn has_pending_above(&self, projector: &mut Predictor, threshold: f64) -> Result<bool, Error> {
        for row in self.pending()? {
            let row = row?;
            if row.is_held_back() {
                continue;
            }
            let StoredCandidate { id, candidate, .. } = row;
            let rows = projector.rows(id, &candidate.structure, &candidate.force_mask);
            if rows.is_ok_and(|rows| rows.gamma() > threshold) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
