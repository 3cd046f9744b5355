// SPDX-License-Identifier: GPL-2.0-or-later
//! Groups of MPI ranks.
//!
//! This file, `Comm::raw` and `Comm::of_communicator` contain all uses of the `mpi` crate, except for the conversion of handles in `lammps`.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::topology::{Color, SimpleCommunicator};
use mpi::traits::{
    AsRaw as _, Communicator, CommunicatorCollectives, Destination as _, Equivalence, Root as _, Source as _,
};

use super::{ABORTED, ROOT, abort_job};
use crate::progress;

/// Longest time between two tests whether a sleeping barrier is complete.
const MAX_SLEEP: Duration = Duration::from_millis(20);

/// How long a rank that has failed waits for the others to fail too, before it counts as a rank failure. Ranks that all see
/// an error see it within milliseconds of each other, or a little later if they read files on different nodes.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(4);

/// Tag of the messages of [`Group::gather`].
const GATHER_TAG: i32 = 29_012;
/// Tag of the messages of [`Group::exchange`].
const EXCHANGE_TAG: i32 = 29_013;

/// MPI, from its initialisation to its end. Every [`Group`] holds it, so that no communicator outlives MPI.
struct Environment {
    /// `None` if MPI was initialised outside of this crate, which then does not finalise it.
    universe: Option<Universe>,
    /// The thread that initialised MPI, which is also the one that must finalise it.
    thread: ThreadId,
    /// Ranks of the job.
    ranks: usize,
    /// This rank has failed while the others wait for it in a communication.
    rank_failure: AtomicBool,
}

/// The environment of this process.
struct Current {
    environment: Weak<Environment>,
    finalized: bool,
}

static CURRENT: Mutex<Current> = Mutex::new(Current { environment: Weak::new(), finalized: false });

fn current() -> MutexGuard<'static, Current> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Environment {
    /// The environment, initialised if necessary; the second value is `true` if it was.
    ///
    /// # Panics
    /// If MPI was finalised: it cannot be initialised twice.
    fn get() -> (Arc<Self>, bool) {
        let mut current = current();
        if let Some(environment) = current.environment.upgrade() {
            return (environment, false);
        }
        if current.finalized {
            // Releases the lock, which the panic would poison.
            drop(current);
            panic!("MPI has been finalised and cannot be initialised again: keep the `Session` until the program ends");
        }
        let universe = mpi::initialize_with_threading(mpi::Threading::Serialized).map(|(universe, _provided)| universe);
        let initialized = universe.is_some();
        let environment = Arc::new(Self {
            universe,
            thread: thread::current().id(),
            ranks: SimpleCommunicator::world().size() as usize,
            rank_failure: AtomicBool::new(false),
        });
        current.environment = Arc::downgrade(&environment);
        (environment, initialized)
    }

    /// Aborts the job if other ranks may wait for this one, which is about to finalise MPI: finalising is collective.
    fn abort_if_others_wait(&self) {
        let rank = || SimpleCommunicator::world().rank();
        if self.rank_failure.load(Ordering::Relaxed) {
            abort_after_rank_failure(rank() as usize);
        }
        if self.ranks > 1 && thread::panicking() {
            abort_job(&format!("rank {} panicked.", rank()), ABORTED);
        }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        let Some(universe) = self.universe.take() else { return };
        self.abort_if_others_wait();
        let mut current = current();
        // Left to the end of the process if another thread has begun to use MPI, or if this thread must not finalise it.
        if current.environment.strong_count() > 0 || self.thread != thread::current().id() {
            std::mem::forget(universe);
            return;
        }
        current.finalized = true;
        drop(universe);
    }
}

/// An initialised MPI.
pub(super) struct Mpi(Arc<Environment>);

impl Mpi {
    pub(super) fn initialize() -> Self {
        Self(Environment::get().0)
    }

    /// All ranks of the job. Collective.
    pub(super) fn world(&self) -> Group {
        Group::new(SimpleCommunicator::world(), Arc::clone(&self.0))
    }

    #[allow(clippy::unused_self)]
    pub(super) fn rank(&self) -> usize {
        SimpleCommunicator::world().rank() as usize
    }

    pub(super) fn size(&self) -> usize {
        self.0.ranks
    }

    pub(super) fn abort_if_others_wait(&self) {
        self.0.abort_if_others_wait();
    }
}

/// A communicator, and a second one for ranks that have failed.
pub(super) struct Group {
    communicator: SimpleCommunicator,
    /// Of several ranks: where those that have failed meet, separate from all other communication.
    failures: Option<SimpleCommunicator>,
    rank: usize,
    size: usize,
    sent: Cell<u64>,
    /// Dropped after the communicators.
    environment: Arc<Environment>,
}

impl Drop for Group {
    /// Frees the communicators, except after a failure.
    ///
    /// `MPI_Comm_free` is collective. Each rank comes here, because each rank drops every group before it finalises MPI, and in
    /// MPICH and Open MPI the call does not wait for other ranks. A rank that unwinds or has failed alone may come here while the
    /// others are elsewhere: it leaves the communicators to the end of the job.
    fn drop(&mut self) {
        if self.size > 1 && (self.has_rank_failure() || thread::panicking()) {
            // Dropping this one has no effect.
            let none = SimpleCommunicator::self_comm();
            std::mem::forget(std::mem::replace(&mut self.communicator, none));
            std::mem::forget(self.failures.take());
        }
    }
}

impl Group {
    fn new(communicator: SimpleCommunicator, environment: Arc<Environment>) -> Self {
        let (rank, size) = (communicator.rank() as usize, communicator.size() as usize);
        let failures = (size > 1).then(|| communicator.duplicate());
        Self { communicator, failures, rank, size, sent: Cell::new(0), environment }
    }

    /// This process. If this initialises MPI, MPI is never finalised, because it cannot be initialised again for a later call.
    pub(super) fn this_process() -> Self {
        let (environment, initialized) = Environment::get();
        if initialized {
            std::mem::forget(Arc::clone(&environment));
        }
        Self::new(SimpleCommunicator::self_comm(), environment)
    }

    /// The group of a communicator.
    pub(super) fn of_communicator(communicator: SimpleCommunicator) -> Self {
        Self::new(communicator, Environment::get().0)
    }

    pub(super) fn split(&self, color: usize) -> Self {
        self.enter();
        let color = Color::with_value(i32::try_from(color).expect("more groups than MPI can number"));
        let communicator = self.communicator.split_by_color(color).expect("a defined colour gives a group");
        Self::new(communicator, Arc::clone(&self.environment))
    }

    pub(super) fn rank(&self) -> usize {
        self.rank
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn raw(&self) -> mpi::ffi::MPI_Comm {
        self.communicator.as_raw()
    }

    pub(super) fn abort(&self, code: i32) -> ! {
        self.communicator.abort(code)
    }

    /// The failure of a rank concerns all groups of the process: the job is going to end.
    pub(super) fn mark_rank_failure(&self) {
        self.environment.rank_failure.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_rank_failure(&self) -> bool {
        self.size > 1 && self.environment.rank_failure.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_sent(&self) -> u64 {
        self.sent.get()
    }

    fn count(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
    }

    /// Begins a communication. Aborts the job in place of a communication that would not end.
    fn enter(&self) {
        if self.size == 1 {
            return;
        }
        progress::mark();
        crate::fault::before_communication();
        if self.has_rank_failure() {
            abort_after_rank_failure(self.rank);
        }
    }

    pub(super) fn all_ranks_failed(&self) -> bool {
        let Some(failures) = &self.failures else { return true };
        let mut request = failures.immediate_barrier();
        let started = Instant::now();
        loop {
            match request.test() {
                Ok(_) => return true,
                Err(pending) => request = pending,
            }
            if started.elapsed() > FAILURE_TIMEOUT {
                // It never completes: the job ends before.
                std::mem::forget(request);
                return false;
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    pub(super) fn sum(&self, values: &mut [f64], max_message: usize) {
        self.reduce(values, SystemOperation::sum, max_message);
    }

    pub(super) fn max(&self, values: &mut [f64], max_message: usize) {
        self.reduce(values, SystemOperation::max, max_message);
    }

    pub(super) fn min_i64(&self, values: &mut [i64], max_message: usize) {
        self.reduce(values, SystemOperation::min, max_message);
    }

    pub(super) fn sum_i64(&self, values: &mut [i64], max_message: usize) {
        self.reduce(values, SystemOperation::sum, max_message);
    }

    fn reduce<T: Equivalence + Copy>(
        &self,
        values: &mut [T],
        operation: impl Fn() -> SystemOperation,
        max_message: usize,
    ) {
        self.enter();
        self.count(size_of_val(values));
        let (send, most) = (values.to_vec(), (max_message / size_of::<T>()).max(1));
        for (send, receive) in send.chunks(most).zip(values.chunks_mut(most)) {
            self.communicator.all_reduce_into(send, receive, operation());
        }
    }

    pub(super) fn broadcast(&self, from: usize, mut bytes: Vec<u8>, max_message: usize) -> Vec<u8> {
        self.enter();
        if self.rank == from {
            self.count(bytes.len() + size_of::<u64>());
        }
        let mut length = bytes.len() as u64;
        self.communicator.process_at_rank(from as i32).broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        self.broadcast_into(from, &mut bytes, max_message);
        bytes
    }

    fn broadcast_into(&self, from: usize, bytes: &mut [u8], max_message: usize) {
        let root = self.communicator.process_at_rank(from as i32);
        for part in bytes.chunks_mut(max_message) {
            root.broadcast_into(part);
        }
    }

    pub(super) fn gather(&self, bytes: &[u8], max_message: usize) -> Option<Vec<u8>> {
        self.enter();
        let root = self.communicator.process_at_rank(ROOT as i32);
        let count = bytes.len() as u64;
        if self.rank != ROOT {
            self.count(bytes.len() + size_of::<u64>());
            root.gather_into(&count);
            // Not `MPI_Gatherv`: its counts and displacements have 32 bits.
            bytes.chunks(max_message).for_each(|part| root.send_with_tag(part, GATHER_TAG));
            return None;
        }
        let mut counts = vec![0_u64; self.size];
        root.gather_into_root(&count, &mut counts[..]);
        let mut all = Vec::with_capacity(counts.iter().sum::<u64>() as usize);
        for (rank, &count) in counts.iter().enumerate() {
            if rank == ROOT {
                all.extend_from_slice(bytes);
            } else {
                self.receive(rank, count, GATHER_TAG, &mut all, max_message);
            }
        }
        Some(all)
    }

    /// Appends `count` bytes from `rank` to `received`.
    fn receive(&self, rank: usize, count: u64, tag: i32, received: &mut Vec<u8>, max_message: usize) {
        let begin = received.len();
        received.resize(begin + count as usize, 0);
        let process = self.communicator.process_at_rank(rank as i32);
        for part in received[begin..].chunks_mut(max_message) {
            process.receive_into_with_tag(part, tag);
        }
    }

    pub(super) fn exchange(&self, messages: &[Vec<u8>], max_message: usize) -> Vec<u8> {
        self.enter();
        let to: Vec<u64> = messages.iter().map(|message| message.len() as u64).collect();
        let mut from = vec![0_u64; self.size];
        self.count(size_of_val(&to[..]));
        self.communicator.all_to_all_into(&to[..], &mut from[..]);
        let mut received = Vec::with_capacity(from.iter().sum::<u64>() as usize);
        mpi::request::scope(|scope| {
            let mut sending = Vec::new();
            for (rank, message) in messages.iter().enumerate().filter(|(rank, _)| *rank != self.rank) {
                let process = self.communicator.process_at_rank(rank as i32);
                self.count(message.len());
                for part in message.chunks(max_message) {
                    sending.push(process.immediate_send_with_tag(scope, part, EXCHANGE_TAG));
                }
            }
            for (rank, &count) in from.iter().enumerate() {
                if rank == self.rank {
                    received.extend_from_slice(&messages[rank]);
                } else {
                    self.receive(rank, count, EXCHANGE_TAG, &mut received, max_message);
                }
            }
            for request in sending {
                request.wait();
            }
        });
        received
    }

    /// One broadcast from each rank that has anything: what is collected here lies in one region, and most ranks of a large job
    /// have none of it.
    pub(super) fn all_gather(&self, bytes: &[u8], max_message: usize) -> Vec<u8> {
        self.enter();
        let mut counts = vec![0_u64; self.size];
        self.count(size_of::<u64>() + bytes.len());
        self.communicator.all_gather_into(&(bytes.len() as u64), &mut counts[..]);
        let mut all = vec![0; counts.iter().sum::<u64>() as usize];
        let mut rest = &mut all[..];
        for (rank, &count) in counts.iter().enumerate() {
            let part = rest.split_off_mut(..count as usize).expect("the counts add up to the whole");
            if rank == self.rank {
                part.copy_from_slice(bytes);
            }
            self.broadcast_into(rank, part, max_message);
        }
        all
    }

    pub(super) fn sleeping_barrier(&self) {
        self.enter();
        let mut request = self.communicator.immediate_barrier();
        let mut sleep = Duration::from_micros(50);
        loop {
            match request.test() {
                Ok(_) => return,
                Err(pending) => request = pending,
            }
            // A rank that waits here for rank 0 is not stuck.
            progress::mark();
            thread::sleep(sleep);
            sleep = (sleep * 2).min(MAX_SLEEP);
        }
    }
}

fn abort_after_rank_failure(rank: usize) -> ! {
    abort_job(&format!("rank {rank} failed alone and cannot communicate."), ABORTED)
}

/// Ends all processes of the job.
pub(super) fn abort_world(code: i32) -> ! {
    SimpleCommunicator::world().abort(code)
}
