// SPDX-License-Identifier: GPL-2.0-or-later
//! The phase of a round in which the oracle labels the selected candidates.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::background::Background;
use super::ledger::{LABELS, Ledger};
use super::oracle::Oracle;
use super::queue::{LabelQueue, POLL_INTERVAL, find};
use super::{Error, Outcome, PhaseOutcome, files};
use crate::candidates::{Phase, Round, RoundOutcome, Status};
use crate::config::Threshold;
use crate::runner::Error as RunError;

impl Ledger {
    /// A thread that labels candidates of this round; `None` if the oracle cannot label while simulations run.
    pub(super) fn label_in_background(&self, oracle: &dyn Oracle) -> Result<Option<Background>, Error> {
        let folder = self.current_folder().join(LABELS);
        Background::start(oracle, self.store.path(), &self.worker, folder, self.round.number)
    }

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
            done.extend(find(&self.store, id)?.filter(|row| row.status == Some(Status::Done) && row.is_labelled()));
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
        if phase == Phase::Select {
            round.selected.clear();
        }
        round.seconds.label += self.take_elapsed();
        self.store.record(&[&round], None, &[])?;
        Ok(PhaseOutcome::Continue(self.set_round(round)))
    }

    /// Has the oracle label candidates, and waits for those that other workers have claimed. Returns why the loop ends, if it does.
    pub(super) fn label_rows(
        &mut self,
        ids: &[i64],
        folder: &Path,
        oracle: &mut dyn Oracle,
        interrupt: &AtomicBool,
    ) -> Result<Option<Outcome>, Error> {
        let mut is_reported = false;
        loop {
            let mut queue = LabelQueue::new(&mut self.store, &self.worker, ids, self.round.number, interrupt);
            oracle.label_all(&mut queue, folder);
            let open = queue.unprocessed();
            if let Some(outcome) = queue.into_end()? {
                return Ok(Some(outcome));
            }
            let Some(row) = open?.into_iter().next() else { return Ok(None) };
            if interrupt.load(Ordering::Relaxed) {
                return Ok(Some(Outcome::Interrupted));
            }
            // Another worker has claimed it. Only the user can decide whether that worker is still running.
            if row.status == Some(Status::RunningDft) && !std::mem::replace(&mut is_reported, true) {
                eprintln!(
                    "waiting for candidate {}, which {} is labelling. If that worker no longer runs, release its candidates with \
                     `lammps-otf candidates release --older-than HOURS {}`",
                    row.id,
                    row.worker.as_deref().unwrap_or("another worker"),
                    self.folder.join(files::CANDIDATES).display()
                );
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}
