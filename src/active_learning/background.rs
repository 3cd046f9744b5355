// SPDX-License-Identifier: GPL-2.0-or-later
//! Labelling while simulations run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use super::oracle::Oracle;
use super::queue::{LabelQueue, POLL_INTERVAL};
use super::{Error, Outcome};
use crate::candidates::Store;
use crate::runner::Error as RunError;

/// A thread on rank 0 that labels candidates with a connection of its own to the store. It does not use MPI.
pub(super) struct Background {
    /// Ids to be labelled.
    ids: Option<Sender<Vec<i64>>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
    /// Ends the programs of the oracle, whose candidates are then pending again.
    stop: Arc<AtomicBool>,
}

impl Background {
    /// Starts the thread, which labels candidates of the store at `database` in the round with this number; `None` if the oracle
    /// cannot label while simulations run.
    pub(super) fn start(
        oracle: &dyn Oracle,
        database: &Path,
        worker: &str,
        folder: PathBuf,
        round: u32,
    ) -> Result<Option<Self>, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let Some(mut oracle) = oracle.concurrent(&stop) else { return Ok(None) };
        std::fs::create_dir_all(&folder).map_err(RunError::writing(&folder))?;
        let mut store = Store::open_existing(database)?;
        let (sender, receiver) = mpsc::channel::<Vec<i64>>();
        let (worker, flag) = (worker.to_owned(), Arc::clone(&stop));
        let work = move || {
            for ids in receiver {
                let mut queue = LabelQueue::new(&mut store, &worker, &ids, round, &flag);
                oracle.label_all(&mut queue, &folder);
                if queue.into_end()? == Some(Outcome::Interrupted) {
                    break;
                }
            }
            Ok(())
        };
        Ok(Some(Self { ids: Some(sender), thread: Some(std::thread::spawn(work)), stop }))
    }

    /// Labels more candidates, after those before.
    pub(super) fn label(&self, ids: Vec<i64>) {
        if let Some(sender) = &self.ids {
            // A thread that has ended returns its error when it is waited for.
            let _ = sender.send(ids);
        }
    }

    /// Waits until the candidates are labelled, or until `interrupt` is set.
    ///
    /// # Errors
    /// An error of the store.
    pub(super) fn finish(mut self, interrupt: &AtomicBool) -> Result<(), Error> {
        self.ids = None;
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && !interrupt.load(Ordering::Relaxed) {
            std::thread::sleep(POLL_INTERVAL / 4);
        }
        self.join()
    }

    fn join(&mut self) -> Result<(), Error> {
        self.stop.store(true, Ordering::Relaxed);
        self.ids = None;
        let ended = self.thread.take().map(JoinHandle::join);
        ended.map_or(Ok(()), |ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // The loop ends because of another error, or is interrupted.
            let _ = self.join();
        }
    }
}
