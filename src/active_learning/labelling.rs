// SPDX-License-Identifier: GPL-2.0-or-later
//! The phase of a round in which the oracle labels the selected candidates.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::ledger::{LABELS, Ledger};
use super::oracle::{Oracle, OracleError};
use super::{Error, Outcome, PhaseOutcome, files};
use crate::candidates::{Phase, Round, RoundOutcome, Status, StoreError, StoredCandidate};
use crate::config::Threshold;
use crate::runner::Error as RunError;

impl Ledger {
    /// Labels the selected candidates. A candidate that fails does not stop the others. After a run without an event, the audits
    /// decide whether the loop ends.
    pub(super) fn label(
        &mut self,
        threshold: &Threshold,
        oracle: &mut dyn Oracle,
        interrupt: &AtomicBool,
    ) -> Result<PhaseOutcome<Round>, Error> {
        let round = self.round.clone();
        let folder = self.current_folder().join(LABELS);
        std::fs::create_dir_all(&folder).map_err(RunError::writing(&folder))?;
        if let Some(outcome) = self.label_rows(&round.selected, &folder, oracle, interrupt)? {
            return Ok(PhaseOutcome::Stop(outcome));
        }
        let mut done = Vec::new();
        for &id in &round.selected {
            done.extend(self.row(id)?.filter(|row| row.status == Some(Status::Done) && row.is_labelled()));
        }
        let (labelled, failed) = (done.len(), round.failed + round.selected.len() - done.len());
        let force_rmse_before = self.record_errors_of_run(&done)?;
        let audit = self.audit(threshold)?;
        let is_quiet = round.outcome == Some(RoundOutcome::Quiet);
        let phase = match done.iter().any(|row| !row.is_held_back()) {
            true => Phase::Train,
            false if is_quiet && audit.map_or(threshold.tolerated().is_none(), |audit| audit.accepted) => Phase::Done,
            // Nothing shows the errors, and there is nothing to train on.
            false if is_quiet && audit.is_none() => return Ok(PhaseOutcome::Stop(Outcome::Inaccurate)),
            // The audits become training data.
            false if is_quiet => Phase::Train,
            // Without a new label, select other candidates of the pool.
            false => Phase::Select,
        };
        let mut round = Round { phase, labelled, failed, force_rmse_before, audit, ..round };
        round.seconds.label += self.take_elapsed();
        self.store.record(&[&round], None, &[])?;
        Ok(PhaseOutcome::Continue(self.set_round(round)))
    }

    /// Labels candidates that are neither labelled nor have failed. Returns the outcome if the loop is interrupted.
    pub(super) fn label_rows(
        &mut self,
        ids: &[i64],
        folder: &Path,
        oracle: &mut dyn Oracle,
        interrupt: &AtomicBool,
    ) -> Result<Option<Outcome>, Error> {
        for &id in ids {
            let mut reported = false;
            while !self.is_processed(id)? {
                if interrupt.load(Ordering::Relaxed) {
                    return Ok(Some(Outcome::Interrupted));
                }
                let Some(claimed) = self.store.claim_id(id, &self.worker)? else {
                    // Another worker has claimed it. Only the user can decide whether that worker is still running.
                    if !std::mem::replace(&mut reported, true) {
                        let worker = self.store.get(id)?.worker.unwrap_or_else(|| "another worker".into());
                        eprintln!(
                            "waiting for candidate {id}, which {worker} is labelling. If that worker no longer runs, release its \
                             candidates with `lammps-otf candidates release --older-than HOURS {}`",
                            self.folder.join(files::CANDIDATES).display()
                        );
                    }
                    std::thread::sleep(Duration::from_millis(200));
                    continue;
                };
                let (recorded, interrupted) = match oracle.label(&claimed, folder) {
                    Ok(labels) => match self.store.finish(id, &self.worker, &labels) {
                        Err(error @ StoreError::InvalidLabels { .. }) => {
                            (self.store.fail(id, &self.worker, &error.to_string()), false)
                        }
                        other => (other, false),
                    },
                    Err(OracleError::Failed { message, log }) => {
                        (self.store.fail(id, &self.worker, &format!("{message}\n{log}")), false)
                    }
                    Err(OracleError::Interrupted) => (self.store.release(id, &self.worker), true),
                };
                match recorded {
                    // The row was released, processed or deleted by another process in the meantime: check it again.
                    Err(StoreError::ClaimLost { .. } | StoreError::NoSuchCandidate { .. }) => {}
                    other => other?,
                }
                if interrupted {
                    return Ok(Some(Outcome::Interrupted));
                }
            }
        }
        Ok(None)
    }

    /// A candidate; `None` if it was deleted.
    fn row(&self, id: i64) -> Result<Option<StoredCandidate>, Error> {
        match self.store.get(id) {
            Ok(row) => Ok(Some(row)),
            Err(StoreError::NoSuchCandidate { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a candidate is neither pending nor being labelled.
    fn is_processed(&self, id: i64) -> Result<bool, Error> {
        let status = self.row(id)?.and_then(|row| row.status);
        Ok(!matches!(status, Some(Status::PendingDft | Status::RunningDft)))
    }
}
