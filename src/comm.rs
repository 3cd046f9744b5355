// SPDX-License-Identifier: GPL-2.0-or-later
//! One process or many MPI ranks behind one small interface.
//!
//! Nothing of MPI is visible outside. A [`Comm`] of one process works in a build without the `mpi` feature too.

use std::cell::Cell;
#[cfg(feature = "mpi")]
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

#[cfg(feature = "mpi")]
use mpi::collective::SystemOperation;
#[cfg(feature = "mpi")]
use mpi::topology::{Color, SimpleCommunicator};
#[cfg(feature = "mpi")]
use mpi::traits::{AsRaw as _, Communicator, CommunicatorCollectives, Destination as _, Root as _, Source as _};

#[cfg(feature = "mpi")]
use crate::progress;

/// MPI, from its initialisation to its end. Keep it until the program ends; dropping it finalises MPI.
pub struct Session {
    #[cfg(feature = "mpi")]
    _universe: Option<mpi::environment::Universe>,
    world: Comm,
}

impl Session {
    /// Initialises MPI if nobody has, and gives all ranks of the job.
    ///
    /// # MPI
    /// Collective over the job: every process that `mpiexec` started has to call it, before any [`crate::lammps::Lammps`]
    /// is opened.
    #[must_use]
    pub fn initialize() -> Self {
        #[cfg(feature = "mpi")]
        {
            let universe =
                mpi::initialize_with_threading(mpi::Threading::Serialized).map(|(universe, _provided)| universe);
            Self { _universe: universe, world: Comm::new(SimpleCommunicator::world()) }
        }
        #[cfg(not(feature = "mpi"))]
        Self { world: Comm::single() }
    }

    /// All ranks of the job.
    #[must_use]
    pub fn world(&self) -> Comm {
        self.world.clone()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.world.is_alone() && !std::thread::panicking() {
            // The end of MPI is collective as well.
            self.world.refuse();
        }
    }
}

/// What the MPI library says that it is, in one line; `None` in a build without MPI.
#[must_use]
pub fn library() -> Option<String> {
    #[cfg(feature = "mpi")]
    {
        let text = mpi::environment::library_version().ok()?;
        // Some add how they were configured, over many lines.
        text.lines().next().map(|line| line.trim_end_matches('\0').split_whitespace().collect::<Vec<_>>().join(" "))
    }
    #[cfg(not(feature = "mpi"))]
    None
}

/// A group of ranks that work together; cheap to clone.
///
/// # MPI
/// Methods marked as collective must be called by all ranks of the group, in the same order.
#[derive(Clone)]
pub struct Comm {
    #[cfg(feature = "mpi")]
    inner: Rc<SimpleCommunicator>,
    /// Of several ranks: where those that have failed meet, apart from all that the others communicate. Never freed, because
    /// that is collective, and must come before the end of MPI.
    #[cfg(feature = "mpi")]
    failures: Option<Rc<ManuallyDrop<SimpleCommunicator>>>,
    /// This rank has failed alone: the others wait for it elsewhere.
    failed: Rc<Cell<bool>>,
    sent: Rc<Cell<u64>>,
    /// Most elements of one message: MPI counts with 32 bits.
    #[cfg(feature = "mpi")]
    most: usize,
}

impl std::fmt::Debug for Comm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Comm(rank {} of {})", self.rank(), self.size())
    }
}

/// How long a rank sleeps between two looks at whether rank 0 is ready.
#[cfg(feature = "mpi")]
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// How long ranks that have failed wait for the others to fail too, before they count as having failed alone. Those that all see
/// an error see it within milliseconds of each other; files may be read a little later on one node than on another.
#[cfg(feature = "mpi")]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(4);

/// The tag of the messages of [`Comm::gather`].
#[cfg(feature = "mpi")]
const GATHERED: i32 = 29_012;
/// The tag of those of [`Comm::exchange`].
#[cfg(feature = "mpi")]
const EXCHANGED: i32 = 29_013;

/// Root of every gather and broadcast: the rank that talks to people and files.
const ROOT: i32 = 0;

/// Most elements of one message.
#[cfg(feature = "mpi")]
const MOST: usize = 1 << 30;

/// The exit code of a job in which a rank that has failed alone is asked to communicate.
const ABORTED: i32 = 5;

/// How long a message has to get through `mpiexec`, which throws away what it has not passed on when a job is aborted.
const SPEAKING: std::time::Duration = std::time::Duration::from_millis(500);

/// Says why and ends all processes of the job, from any thread, also while this process waits in a communication.
pub(crate) fn abort_job(why: &str, code: i32) -> ! {
    eprintln!("error: {why} The job is aborted.");
    std::thread::sleep(SPEAKING);
    #[cfg(feature = "mpi")]
    SimpleCommunicator::world().abort(code);
    #[cfg(not(feature = "mpi"))]
    std::process::exit(code)
}

/// An error of work that several ranks do together.
///
/// Whether the other ranks can still be reached is part of it: [`Comm::agree`] and the like hand an error of one rank alone back
/// without communicating, and whoever gets one may only write down what is known and call [`Comm::abort`].
pub trait CollectiveError: std::error::Error + From<Elsewhere> {
    /// Whether this rank has failed alone, while the others wait for it in a communication.
    fn is_rank_failure(&self) -> bool;
}

#[cfg(feature = "mpi")]
impl Comm {
    fn new(inner: SimpleCommunicator) -> Self {
        let failures = (inner.size() > 1).then(|| Rc::new(ManuallyDrop::new(inner.duplicate())));
        Self { inner: Rc::new(inner), failures, failed: Rc::default(), sent: Rc::default(), most: MOST }
    }

    /// Begins a communication.
    fn enter(&self) {
        if self.size() == 1 {
            return;
        }
        progress::mark();
        crate::fault::before_communication();
        if self.is_alone() {
            self.refuse();
        }
    }

    /// Whether all ranks have failed, and not this one alone; `false` if the others have not come within some seconds, after
    /// which this rank communicates no more.
    ///
    /// # MPI
    /// Called by each rank that has failed; collective if all have.
    pub(crate) fn all_failed(&self) -> bool {
        let Some(failures) = &self.failures else { return true };
        let mut request = failures.immediate_barrier();
        let started = std::time::Instant::now();
        loop {
            match request.test() {
                Ok(_) => return true,
                Err(pending) => request = pending,
            }
            if started.elapsed() > PATIENCE {
                // It never completes: the job ends before.
                std::mem::forget(request);
                return false;
            }
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }

    /// This process alone. Initialises MPI if nobody has, because LAMMPS would.
    #[must_use]
    pub fn single() -> Self {
        // Finalised by the end of the process, not by us: there is no later moment that is surely the last.
        std::mem::forget(mpi::initialize_with_threading(mpi::Threading::Serialized));
        Self::new(SimpleCommunicator::self_comm())
    }

    /// Number of this process in the group, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.inner.rank() as usize
    }

    /// Number of processes in the group.
    #[must_use]
    pub fn size(&self) -> usize {
        self.inner.size() as usize
    }

    /// Splits the group into one group for each distinct `color`, ranks in the same order, so that several simulations
    /// share one job: each gets the group that its ranks are in, and asks none of the others for anything.
    ///
    /// ```no_run
    /// # use lammps_otf::comm::Session;
    /// let session = Session::initialize();
    /// let world = session.world();
    /// // Two simulations, each on half of the ranks.
    /// let mine = world.split(2 * world.rank() / world.size());
    /// ```
    ///
    /// # MPI
    /// Collective. Groups end on their own; only [`Comm::abort`] reaches beyond its group.
    ///
    /// # Panics
    /// If `color` does not fit in an `i32`.
    #[must_use]
    pub fn split(&self, color: usize) -> Self {
        self.enter();
        let color = Color::with_value(i32::try_from(color).expect("more groups than MPI can number"));
        let group = Self::new(self.inner.split_by_color(color).expect("a defined colour gives a group"));
        // A rank that fails alone in its group is of no use to the others either.
        Self { failed: Rc::clone(&self.failed), most: self.most, ..group }
    }

    /// Ends all processes of the job at once, also those that wait for this one, and also those of other groups: MPI
    /// promises no less, and MPICH and Open MPI do it.
    pub fn abort(&self, code: i32) -> ! {
        self.inner.abort(code)
    }

    /// The element-wise sum over all ranks, in place.
    ///
    /// # MPI
    /// Collective; same length on all ranks.
    pub fn sum(&self, values: &mut [f64]) {
        self.reduce(values, SystemOperation::sum());
    }

    /// The element-wise maximum over all ranks, in place. No value may be NaN.
    ///
    /// # MPI
    /// Collective; same length on all ranks.
    pub fn max(&self, values: &mut [f64]) {
        self.reduce(values, SystemOperation::max());
    }

    /// The smallest value over all ranks.
    ///
    /// # MPI
    /// Collective.
    #[must_use]
    pub fn min_i64(&self, value: i64) -> i64 {
        let mut values = [value];
        self.min_each_i64(&mut values);
        values[0]
    }

    /// The element-wise minimum of integers over all ranks, in place.
    ///
    /// # MPI
    /// Collective; same length on all ranks.
    pub fn min_each_i64(&self, values: &mut [i64]) {
        self.reduce(values, SystemOperation::min());
    }

    /// The element-wise sum of integers over all ranks, in place.
    ///
    /// # MPI
    /// Collective; same length on all ranks.
    pub fn sum_i64(&self, values: &mut [i64]) {
        self.reduce(values, SystemOperation::sum());
    }

    fn reduce<T: mpi::traits::Equivalence + Copy>(&self, values: &mut [T], operation: SystemOperation) {
        if self.size() > 1 {
            self.enter();
            let send = values.to_vec();
            self.count(std::mem::size_of_val(values));
            self.inner.all_reduce_into(&send[..], values, operation);
        }
    }

    /// Sends no more than so many elements in one message, so that a test need not send 2³¹.
    #[doc(hidden)]
    #[must_use]
    pub fn with_messages_of(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Sends the bytes of rank `from` to all ranks.
    ///
    /// # MPI
    /// Collective; what the other ranks pass is ignored.
    #[must_use]
    pub fn broadcast(&self, from: usize, mut bytes: Vec<u8>) -> Vec<u8> {
        if self.size() == 1 {
            return bytes;
        }
        self.enter();
        if self.rank() == from {
            self.count(bytes.len() + size_of::<u64>());
        }
        let mut length = [bytes.len() as u64];
        self.broadcast_into(from, &mut length);
        bytes.resize(length[0] as usize, 0);
        self.broadcast_into(from, &mut bytes);
        bytes
    }

    /// Collects the numbers of all ranks, in the order of ranks, on rank 0; the others get `None`.
    ///
    /// # MPI
    /// Collective; lengths may differ.
    #[must_use]
    pub fn gather(&self, values: &[f64]) -> Option<Vec<f64>> {
        self.enter();
        let root = self.inner.process_at_rank(ROOT);
        let count = values.len() as u64;
        if !self.is_root() {
            self.count(std::mem::size_of_val(values) + size_of::<u64>());
            root.gather_into(&count);
            // Not one gather of all: its counts and places have 32 bits.
            values.chunks(self.most).for_each(|part| root.send_with_tag(part, GATHERED));
            return None;
        }
        let mut counts = vec![0_u64; self.size()];
        root.gather_into_root(&count, &mut counts[..]);
        let mut all = Vec::with_capacity(counts.iter().sum::<u64>() as usize);
        all.extend_from_slice(values);
        for (rank, &count) in counts.iter().enumerate().skip(1) {
            let begin = all.len();
            all.resize(begin + count as usize, 0.0);
            let from = self.inner.process_at_rank(rank as i32);
            for part in all[begin..].chunks_mut(self.most) {
                from.receive_into_with_tag(part, GATHERED);
            }
        }
        Some(all)
    }

    /// Sends rows to other ranks: `rows[r]` to rank r. Gives those that the ranks have sent to this one, in the order of ranks.
    ///
    /// # MPI
    /// Collective.
    #[must_use]
    pub(crate) fn exchange<const N: usize>(&self, rows: &[Vec<[f64; N]>]) -> Vec<[f64; N]> {
        self.enter();
        let to: Vec<u64> = rows.iter().map(|rows| rows.len() as u64).collect();
        let mut from = vec![0_u64; self.size()];
        self.count(std::mem::size_of_val(&to[..]));
        self.inner.all_to_all_into(&to[..], &mut from[..]);
        let mut received = Vec::with_capacity(from.iter().sum::<u64>() as usize);
        mpi::request::scope(|scope| {
            let mut sending = Vec::new();
            for (rank, rows) in rows.iter().enumerate().filter(|(rank, _)| *rank != self.rank()) {
                let process = self.inner.process_at_rank(rank as i32);
                self.count(std::mem::size_of_val(&rows[..]));
                for part in rows.as_flattened().chunks(self.most) {
                    sending.push(process.immediate_send_with_tag(scope, part, EXCHANGED));
                }
            }
            for (rank, &count) in from.iter().enumerate() {
                if rank == self.rank() {
                    received.extend_from_slice(&rows[rank]);
                    continue;
                }
                let begin = received.len();
                received.resize(begin + count as usize, [0.0; N]);
                let process = self.inner.process_at_rank(rank as i32);
                for part in received[begin..].as_flattened_mut().chunks_mut(self.most) {
                    process.receive_into_with_tag(part, EXCHANGED);
                }
            }
            for request in sending {
                request.wait();
            }
        });
        received
    }

    /// Collects the numbers of all ranks, in the order of ranks, on all of them: one broadcast from each rank that has any,
    /// because what is collected here is near one place, and most ranks of a large job have none of it.
    ///
    /// # MPI
    /// Collective; lengths may differ.
    #[must_use]
    pub fn all_gather(&self, values: &[f64]) -> Vec<f64> {
        self.enter();
        let mut counts = vec![0_i64; self.size()];
        self.count(size_of::<i64>());
        self.inner.all_gather_into(&(values.len() as i64), &mut counts[..]);
        let mut all = vec![0.0; counts.iter().sum::<i64>() as usize];
        let mut rest = &mut all[..];
        for (rank, &count) in counts.iter().enumerate() {
            let part = rest.split_off_mut(..count as usize).expect("the counts add up to the whole");
            if rank == self.rank() {
                part.copy_from_slice(values);
                self.count(std::mem::size_of_val(values));
            }
            self.broadcast_into(rank, part);
        }
        all
    }

    fn broadcast_into<T: mpi::traits::Equivalence>(&self, from: usize, values: &mut [T]) {
        let root = self.inner.process_at_rank(from as i32);
        for part in values.chunks_mut(self.most) {
            root.broadcast_into(part);
        }
    }

    /// Waits for all ranks, asleep: an ordinary barrier keeps a processor busy on every rank that waits.
    fn meet_asleep(&self) {
        self.enter();
        let mut request = self.inner.immediate_barrier();
        let mut pause = std::time::Duration::from_micros(50);
        loop {
            match request.test() {
                Ok(_) => return,
                Err(pending) => request = pending,
            }
            // To wait for rank 0 here is no standstill.
            progress::mark();
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The communicator that LAMMPS is opened on.
    pub(crate) fn raw(&self) -> mpi::ffi::MPI_Comm {
        self.inner.as_raw()
    }
}

#[cfg(not(feature = "mpi"))]
#[allow(clippy::unused_self)]
impl Comm {
    /// This process alone.
    #[must_use]
    pub fn single() -> Self {
        Self { failed: Rc::default(), sent: Rc::default() }
    }

    /// Number of this process in the group, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        0
    }

    /// Number of processes in the group.
    #[must_use]
    pub fn size(&self) -> usize {
        1
    }

    /// Splits the group into one group for each distinct `color`.
    #[must_use]
    pub fn split(&self, _color: usize) -> Self {
        self.clone()
    }

    /// Ends the process.
    pub fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }

    /// The element-wise sum over all ranks, in place.
    pub fn sum(&self, _values: &mut [f64]) {}

    /// The element-wise maximum over all ranks, in place.
    pub fn max(&self, _values: &mut [f64]) {}

    /// The smallest value over all ranks.
    #[must_use]
    pub fn min_i64(&self, value: i64) -> i64 {
        value
    }

    /// The element-wise minimum of integers over all ranks, in place.
    pub fn min_each_i64(&self, _values: &mut [i64]) {}

    /// The element-wise sum of integers over all ranks, in place.
    pub fn sum_i64(&self, _values: &mut [i64]) {}

    /// Sends the bytes of rank `from` to all ranks.
    #[must_use]
    pub fn broadcast(&self, _from: usize, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    /// Collects the numbers of all ranks on rank 0.
    #[must_use]
    pub fn gather(&self, values: &[f64]) -> Option<Vec<f64>> {
        Some(values.to_vec())
    }

    /// Collects the numbers of all ranks on all of them.
    #[must_use]
    pub fn all_gather(&self, values: &[f64]) -> Vec<f64> {
        values.to_vec()
    }

    /// Sends rows to other ranks.
    #[must_use]
    pub(crate) fn exchange<const N: usize>(&self, rows: &[Vec<[f64; N]>]) -> Vec<[f64; N]> {
        rows.concat()
    }

    pub(crate) fn all_failed(&self) -> bool {
        true
    }

    fn meet_asleep(&self) {}
}

impl Comm {
    /// Bytes that this rank has given to MPI so far through this group, with what LAMMPS sends by itself not among them.
    /// What MPI makes of a reduction or a broadcast, e.g. passing it on along a tree, is not counted.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.sent.get()
    }

    #[cfg(feature = "mpi")]
    fn count(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
    }

    /// Notes that this rank has failed alone: it will not communicate any more.
    pub(crate) fn has_failed_alone(&self) {
        self.failed.set(true);
    }

    /// Whether this rank has failed alone.
    pub(crate) fn is_alone(&self) -> bool {
        self.failed.get()
    }

    /// Ends the job in place of a communication of a rank that has failed alone: the others wait elsewhere, and it would not end.
    fn refuse(&self) -> ! {
        abort_job(&format!("rank {} has failed alone and cannot communicate.", self.rank()), ABORTED)
    }

    /// Whether this is rank 0, which talks to people and files.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.rank() == ROOT as usize
    }

    /// Whether `flag` is set on any rank.
    ///
    /// # MPI
    /// Collective.
    #[must_use]
    pub fn any(&self, flag: bool) -> bool {
        let mut value = [f64::from(u8::from(flag))];
        self.max(&mut value);
        value[0] > 0.0
    }

    /// Makes all ranks see the same outcome: if any rank failed, all fail, with the error of the lowest of them.
    ///
    /// # Errors
    /// The rank's own error, or [`Elsewhere`] with the text of the lowest rank that failed.
    ///
    /// # MPI
    /// Collective, but for a rank that has failed alone, which gets its own error back at once.
    pub fn agree<T, E: CollectiveError>(&self, outcome: Result<T, E>) -> Result<T, E> {
        if outcome.as_ref().is_err_and(CollectiveError::is_rank_failure) {
            return outcome;
        }
        let here = if outcome.is_err() { self.rank() as i64 } else { i64::MAX };
        let first = self.min_i64(here);
        if first == i64::MAX {
            return outcome;
        }
        let text = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let text = self.broadcast(first as usize, text.into_bytes());
        match outcome {
            Err(own) => Err(own),
            Ok(_) => {
                Err(Elsewhere { rank: first as usize, message: String::from_utf8_lossy(&text).into_owned() }.into())
            }
        }
    }

    /// Does `work` on rank 0 only and tells all ranks whether it went well. A panic goes on when they know of it.
    ///
    /// # Errors
    /// On rank 0 the error of `work`, on the others [`Elsewhere`] with its text.
    ///
    /// # MPI
    /// Collective.
    pub fn on_root<T, E: CollectiveError>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<Option<T>, E> {
        self.told(self.caught(work))
    }

    /// Does `work` on rank 0; what comes of it, or its panic.
    fn caught<T, E>(&self, work: impl FnOnce() -> Result<T, E>) -> std::thread::Result<Result<Option<T>, E>> {
        if !self.is_root() {
            return Ok(Ok(None));
        }
        catch_unwind(AssertUnwindSafe(work)).map(|outcome| outcome.map(Some))
    }

    /// Agrees on what came of it; a panic goes on once all know of it.
    fn told<T, E: CollectiveError>(&self, done: std::thread::Result<Result<Option<T>, E>>) -> Result<Option<T>, E> {
        match done {
            Ok(outcome) => self.agree(outcome),
            Err(panic) => {
                let error = Elsewhere { rank: self.rank(), message: "it panicked".into() };
                let _ = self.agree(Err::<T, E>(error.into()));
                resume_unwind(panic)
            }
        }
    }
}

impl Comm {
    /// Gives all ranks what rank 0 has.
    ///
    /// # MPI
    /// Collective; what the other ranks pass is ignored.
    pub(crate) fn share<T: serde::Serialize + serde::de::DeserializeOwned>(&self, value: Option<T>) -> T {
        let bytes =
            if self.is_root() { serde_json::to_vec(value.as_slice()).expect("numbers and names") } else { Vec::new() };
        let mut shared: Vec<T> = serde_json::from_slice(&self.broadcast(0, bytes)).expect("as rank 0 wrote it");
        shared.pop().expect("rank 0 has it")
    }

    /// [`Comm::on_root`] for work that takes long: the other ranks sleep, and leave their processors to it.
    ///
    /// # Errors
    /// As [`Comm::on_root`].
    ///
    /// # MPI
    /// Collective.
    pub fn on_root_alone<T, E: CollectiveError>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<Option<T>, E> {
        let done = self.caught(work);
        self.meet_asleep();
        self.told(done)
    }
}

/// Another rank failed, and this one stops with it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("rank {rank} failed: {message}")]
pub struct Elsewhere {
    /// The rank that failed.
    pub rank: usize,
    /// Its error.
    pub message: String,
}
