// SPDX-License-Identifier: GPL-2.0-or-later
//! The candidates to be labelled, from which an oracle claims those that it labels.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::oracle::OracleError;
use super::{Error, Outcome};
use crate::candidates::{Labels, Status, Store, StoreError, StoredCandidate};

/// Interval at which the store is checked for changes by other processes.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Largest interval at which the store is checked while external workers label, which may take days.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Largest interval at which claims without a heartbeat are released.
const MAX_RELEASE_INTERVAL: Duration = Duration::from_secs(10);

/// The selected candidates of a round that have no label yet, for [`Oracle::label_all`](super::Oracle::label_all).
///
/// An oracle claims a candidate when it begins to label it, and passes each claimed candidate to [`LabelQueue::finish`], in any
/// order. Errors of the store are kept: [`LabelQueue::claim`] then returns `None`, and the loop ends with the first of them.
#[derive(Debug)]
pub struct LabelQueue<'l> {
    store: &'l mut Store,
    /// Name under which candidates are claimed.
    worker: &'l str,
    /// The candidates to be labelled.
    ids: &'l [i64],
    /// Number of the round.
    round: u32,
    interrupt: &'l AtomicBool,
    /// Number of selected candidates that were already offered for claiming.
    offered: usize,
    /// Why the loop ends, if it does.
    end: Option<Outcome>,
    error: Option<StoreError>,
}

impl<'l> LabelQueue<'l> {
    /// A queue with the candidates `ids`, in the round with this number.
    pub(super) fn new(
        store: &'l mut Store,
        worker: &'l str,
        ids: &'l [i64],
        round: u32,
        interrupt: &'l AtomicBool,
    ) -> Self {
        Self { store, worker, ids, round, interrupt, offered: 0, end: None, error: None }
    }

    /// Claims the next candidate; `None` if none is left, or if the oracle must stop.
    pub fn claim(&mut self) -> Option<StoredCandidate> {
        if self.error.is_none() && self.end.is_none() && self.is_interrupted() {
            self.end = Some(Outcome::Interrupted);
        }
        if self.error.is_some() || self.end.is_some() {
            return None;
        }
        let claimed = self.claim_next();
        self.keep_error(claimed).flatten()
    }

    /// Stores the labels of a claimed candidate, or the reason why it has none. After [`OracleError::Interrupted`], the candidate
    /// is pending again, and the loop ends.
    pub fn finish(&mut self, id: i64, labels: Result<Labels, OracleError>) {
        let recorded = match labels {
            Ok(labels) => match self.store.finish(id, self.worker, &labels) {
                Err(error @ StoreError::InvalidLabels { .. }) => self.store.fail(id, self.worker, &error.to_string()),
                other => other,
            },
            Err(OracleError::Failed { message, log }) => self.store.fail(id, self.worker, &format!("{message}\n{log}")),
            Err(OracleError::Interrupted) => {
                self.end = Some(Outcome::Interrupted);
                self.store.release(id, self.worker)
            }
        };
        match recorded {
            // The row was released, processed or deleted by another process in the meantime: the loop checks it again.
            Err(StoreError::ClaimLost { .. } | StoreError::NoSuchCandidate { .. }) => {}
            other => {
                self.keep_error(other);
            }
        }
    }

    /// Publishes the candidates for external workers, and waits until they are processed. `limit` is the longest time to wait.
    /// Claims without a heartbeat for `claim_timeout` are released.
    pub(super) fn wait_for_workers(&mut self, limit: Option<Duration>, claim_timeout: Option<Duration>) {
        let waited = self.publish_and_wait(limit, claim_timeout);
        self.end = self.keep_error(waited).flatten();
    }

    /// Why the loop ends; `None` if it continues.
    ///
    /// # Errors
    /// The first error of the store.
    pub(super) fn into_end(self) -> Result<Option<Outcome>, Error> {
        self.error.map_or(Ok(self.end), |error| Err(error.into()))
    }

    /// The selected candidates that are neither labelled nor failed nor deleted.
    pub(super) fn unprocessed(&self) -> Result<Vec<StoredCandidate>, StoreError> {
        let is_open = |row: &StoredCandidate| matches!(row.status, Some(Status::PendingDft | Status::RunningDft));
        let rows = self.ids.iter().map(|&id| find(self.store, id));
        rows.filter_map(|row| row.map(|row| row.filter(is_open)).transpose()).collect()
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// Keeps the first error.
    fn keep_error<T>(&mut self, result: Result<T, StoreError>) -> Option<T> {
        result.map_err(|error| self.error.get_or_insert(error)).ok()
    }

    fn claim_next(&mut self) -> Result<Option<StoredCandidate>, StoreError> {
        while let Some(&id) = self.ids.get(self.offered) {
            self.offered += 1;
            if find(self.store, id)?.is_none_or(|row| row.status != Some(Status::PendingDft)) {
                continue;
            }
            match self.store.claim_id(id, self.worker) {
                Ok(None) | Err(StoreError::NoSuchCandidate { .. }) => {}
                claimed => return claimed,
            }
        }
        Ok(None)
    }

    fn publish_and_wait(
        &mut self,
        limit: Option<Duration>,
        claim_timeout: Option<Duration>,
    ) -> Result<Option<Outcome>, StoreError> {
        self.store.mark_selected(self.ids, self.round)?;
        let started = Instant::now();
        let mut released: Option<Instant> = None;
        let mut is_reported = false;
        let mut interval = POLL_INTERVAL;
        loop {
            if let Some(age) = claim_timeout
                && released.is_none_or(|at| at.elapsed() >= (age / 4).min(MAX_RELEASE_INTERVAL))
            {
                self.release_stale(age)?;
                released = Some(Instant::now());
            }
            let open = self.unprocessed()?.len();
            if open == 0 {
                return Ok(None);
            }
            if self.is_interrupted() {
                return Ok(Some(Outcome::Interrupted));
            }
            if limit.is_some_and(|limit| started.elapsed() >= limit) {
                return Ok(Some(Outcome::Waiting));
            }
            if !std::mem::replace(&mut is_reported, true) {
                eprintln!("waiting for external workers to label {open} candidates of {}", self.store.path().display());
            }
            let rest = limit.map_or(interval, |limit| limit.saturating_sub(started.elapsed()).min(interval));
            self.sleep(rest);
            interval = (interval * 5 / 4).min(MAX_POLL_INTERVAL);
        }
    }

    /// Sleeps, until an interrupt at most.
    fn sleep(&self, time: Duration) {
        let started = Instant::now();
        while !self.is_interrupted() && started.elapsed() < time {
            std::thread::sleep((time - started.elapsed().min(time)).min(POLL_INTERVAL));
        }
    }

    fn release_stale(&mut self, age: Duration) -> Result<(), StoreError> {
        // Without claims, the store need not be locked.
        if self.store.ids(Some(Status::RunningDft))?.is_empty() {
            return Ok(());
        }
        for id in self.store.release_stale(age)? {
            eprintln!("released candidate {id}: its worker has sent no heartbeat for {} s", age.as_secs_f64());
        }
        Ok(())
    }
}

/// A candidate; `None` if it was deleted.
pub(super) fn find(store: &Store, id: i64) -> Result<Option<StoredCandidate>, StoreError> {
    match store.get(id) {
        Ok(row) => Ok(Some(row)),
        Err(StoreError::NoSuchCandidate { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
