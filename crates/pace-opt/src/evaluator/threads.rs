// SPDX-License-Identifier: GPL-2.0-or-later
//! Evaluation of the atoms of a system by several threads.
//!
//! Threads take chunks of atoms in order. Each computes a chunk into a [`Record`]; the records are added to the output in the order of the
//! chunks, by whichever thread completes the next one. All sums thus have the same order as on one thread, and the results are the same to
//! the last bit, whatever the number of threads and their timing.

use super::Totals;
use super::results::{Direct, Record};
use super::worker::{Job, Worker};
use crate::error::{Error, Result};
use crate::gamma::BATCHES;
use crate::simd::OCT;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Largest number of threads of an evaluator.
pub(super) const MAX_THREADS: usize = 1024;

/// Chunks per thread that are computed ahead of the one that must be added next.
const AHEAD: usize = 4;

/// Threads that wait for work. They have ended when it has been dropped: a plugin that is unloaded must not leave any.
pub(super) struct Pool {
    pool: Option<rayon::ThreadPool>,
    handles: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts threads.
    ///
    /// # Errors
    /// If the operating system cannot start them.
    pub(super) fn new(threads: usize) -> io::Result<Self> {
        let mut pool = Pool { pool: None, handles: Vec::new() };
        let start = |thread: rayon::ThreadBuilder| {
            let name = format!("pace-opt {}", thread.index() + 1);
            pool.handles.push(std::thread::Builder::new().name(name).spawn(|| thread.run())?);
            Ok(())
        };
        let made = rayon::ThreadPoolBuilder::new().num_threads(threads).spawn_handler(start).build();
        pool.pool = Some(made.map_err(io::Error::other)?);
        Ok(pool)
    }

    /// Calls `work` for each worker, for the first one on this thread. Continues a panic of any.
    fn each<T: Send>(&self, workers: &mut [T], work: impl Fn(&mut T) + Sync) {
        let (Some(pool), [first, others @ ..]) = (&self.pool, workers) else { return };
        let work = &work;
        pool.in_place_scope(|scope| {
            others.iter_mut().for_each(|worker| scope.spawn(move |_| work(worker)));
            work(first);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.pool = None;
        for handle in self.handles.drain(..) {
            // A panic of a thread was continued by `each`.
            let _ = handle.join();
        }
    }
}

/// Atoms of one element, by their places in `System::atoms`.
pub(super) struct Chunk<'l> {
    element: usize,
    /// Number of atoms of the element before them.
    first: usize,
    list: &'l [u32],
}

/// Divides the atoms of each element into chunks. The last chunks are small, so that threads end at about the same time.
pub(super) fn divide(by_element: &[Vec<u32>], threads: usize) -> Vec<Chunk<'_>> {
    let mut rest: usize = by_element.iter().map(Vec::len).sum();
    let mut chunks = Vec::new();
    for (element, mut list) in by_element.iter().map(Vec::as_slice).enumerate() {
        let all = list.len();
        while !list.is_empty() {
            // Whole batches of the grade.
            let size = (rest / (4 * threads)).next_multiple_of(OCT).clamp(OCT, BATCHES * OCT);
            let (own, others) = list.split_at(size.min(list.len()));
            chunks.push(Chunk { element, first: all - list.len(), list: own });
            list = others;
            rest -= own.len();
        }
    }
    chunks
}

/// The state that threads share.
struct State {
    /// Number of chunks that threads have taken.
    taken: usize,
    /// Number of chunks that have been added.
    added: usize,
    /// Completed chunks that have not been added.
    complete: BTreeMap<usize, (Record, Result<()>)>,
    /// Records without contents.
    spare: Vec<Record>,
    /// Whether a thread is adding chunks.
    adding: bool,
    /// No chunk is taken or added any more: of the result of the first chunk with an error, or a panic.
    stopped: Option<Result<()>>,
}

/// Takes chunks, and adds their records in order.
struct Queue<'q, 'o, 'a> {
    chunks: &'q [Chunk<'q>],
    /// Largest number of chunks that are computed or wait.
    window: usize,
    state: Mutex<State>,
    changed: Condvar,
    direct: Mutex<Direct<'o, 'a>>,
}

/// Evaluates all chunks with all workers.
///
/// # Errors
/// Those of the first chunk that has one; the chunks before it have been added to the output.
pub(super) fn run<'a, F>(
    pool: &Pool,
    workers: &mut [Worker],
    job: &Job<'_, 'a, F>,
    chunks: &[Chunk],
    spare: &mut Vec<Record>,
    direct: Direct,
) -> Result<Totals>
where
    F: Fn(usize) -> &'a [i32] + Sync,
{
    let state = State {
        taken: 0,
        added: 0,
        complete: BTreeMap::new(),
        spare: std::mem::take(spare),
        adding: false,
        stopped: None,
    };
    let window = AHEAD * workers.len();
    let direct = Mutex::new(direct);
    let queue = Queue { chunks, window, state: Mutex::new(state), changed: Condvar::new(), direct };
    pool.each(workers, |worker| queue.work(worker, job));
    let state = queue.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    *spare = state.spare;
    let totals = queue.direct.into_inner().unwrap_or_else(PoisonError::into_inner).totals;
    state.stopped.unwrap_or(Ok(())).map(|()| totals)
}

impl Queue<'_, '_, '_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes chunks until none is left.
    fn work<'a, F>(&self, worker: &mut Worker, job: &Job<'_, 'a, F>)
    where
        F: Fn(usize) -> &'a [i32],
    {
        let _guard = StopAtPanic(self);
        while let Some((place, mut record)) = self.take() {
            record.clear(job.requested);
            let Chunk { element, first, list } = self.chunks[place];
            let result = worker.run(job, (element, first), list, &mut record);
            self.add(place, record, result);
        }
    }

    /// The next chunk, and a record for it. Waits while too many chunks wait for a slow one.
    fn take(&self) -> Option<(usize, Record)> {
        let mut state = self.state();
        loop {
            if state.stopped.is_some() || state.taken == self.chunks.len() {
                return None;
            }
            if state.taken < state.added + self.window {
                let place = state.taken;
                state.taken += 1;
                return Some((place, state.spare.pop().unwrap_or_default()));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds the record of a chunk when those before it have been added, and then those after it that are complete.
    fn add(&self, place: usize, record: Record, result: Result<()>) {
        let mut state = self.state();
        state.complete.insert(place, (record, result));
        if state.adding {
            // That thread will find it.
            return;
        }
        state.adding = true;
        let mut direct = self.direct.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let next = state.added;
            let Some((mut record, result)) = state.complete.remove(&next).filter(|_| state.stopped.is_none()) else {
                state.adding = false;
                return;
            };
            drop(state);
            record.add_to(&mut direct);
            state = self.state();
            state.added += 1;
            state.spare.push(record);
            if result.is_err() {
                state.stopped = Some(result);
            }
            self.changed.notify_all();
        }
    }
}

/// Stops the other threads if this one panics: they would wait for its chunk forever.
struct StopAtPanic<'q, 'c, 'o, 'a>(&'q Queue<'c, 'o, 'a>);

impl Drop for StopAtPanic<'_, '_, '_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state().stopped = Some(Err(Error::Argument("a thread panicked".into())));
            self.0.changed.notify_all();
        }
    }
}
