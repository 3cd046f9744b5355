// SPDX-License-Identifier: GPL-2.0-or-later
//! Groups of MPI ranks, or a single process, behind one interface.
//!
//! No type of MPI is visible outside. A [`Comm`] of one process works in a build without the `mpi` feature too.
//!
//! A communicator keeps MPI initialised, so that it works as long as it exists:
//!
//! ```
//! use lammps_otf::comm::Session;
//!
//! let world = {
//!     let session = Session::initialize();
//!     session.world()
//! };
//! // MPI is finalised when `world` is dropped.
//! assert!(!world.any(false));
//! ```
//!
//! Ranks send each other typed values ([`Message`]), and nothing that points into the memory of one process:
//!
//! ```compile_fail
//! # fn f(comm: &lammps_otf::comm::Comm, names: Vec<String>) {
//! let all = comm.all_gather(&names);
//! # }
//! ```
//!
//! A communicator stays on its thread:
//!
//! ```compile_fail
//! fn sent<T: Send>() {}
//! sent::<lammps_otf::comm::Comm>();
//! ```

pub(crate) mod message;
#[cfg(feature = "mpi")]
mod ranks;
#[cfg(not(feature = "mpi"))]
mod single;

use std::cell::OnceCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

pub use message::Message;
#[cfg(feature = "mpi")]
use ranks as backend;
#[cfg(not(feature = "mpi"))]
use single as backend;

/// The rank that reads and writes files and prints messages; the root of every gather.
const ROOT: usize = 0;

/// Largest message in bytes: MPI counts with 32 bits.
const MAX_MESSAGE: usize = 1 << 30;

/// Exit code of a job that is aborted because a rank that has failed alone would have to communicate.
#[cfg(feature = "mpi")]
const ABORTED: i32 = 5;

/// Time that a message needs to get through `mpiexec`, which discards what it has not forwarded when a job is aborted.
const FORWARDING_TIME: std::time::Duration = std::time::Duration::from_millis(500);

/// Prints `reason` and ends all processes of the job. Can be called from any thread, also while this process waits in a
/// communication.
pub(crate) fn abort_job(reason: &str, code: i32) -> ! {
    eprintln!("error: {reason} The job is aborted.");
    std::thread::sleep(FORWARDING_TIME);
    backend::abort_world(code)
}

/// An initialised MPI.
///
/// MPI is finalised when the session and all communicators are dropped. Finalising is collective: where a rank of several
/// unwinds from a panic, or has failed alone ([`CollectiveError::is_rank_failure`]), dropping its session aborts the job instead.
pub struct Session {
    /// Made when it is first used, because making it is collective.
    world: OnceCell<Comm>,
    mpi: backend::Mpi,
}

impl Session {
    /// Initialises MPI unless it is initialised already.
    ///
    /// # MPI
    /// Collective over the job: every process that `mpiexec` started must call it, before it opens a
    /// [`Lammps`](crate::lammps::Lammps).
    ///
    /// # Panics
    /// If MPI was initialised and finalised before in this process.
    #[must_use]
    pub fn initialize() -> Self {
        Self { world: OnceCell::new(), mpi: backend::Mpi::initialize() }
    }

    /// All ranks of the job.
    ///
    /// # MPI
    /// The first call is collective over the job.
    #[must_use]
    pub fn world(&self) -> Comm {
        self.world.get_or_init(|| Comm::new(self.mpi.world())).clone()
    }

    /// Rank of this process in the job.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.mpi.rank()
    }

    /// Number of ranks of the job.
    #[must_use]
    pub fn size(&self) -> usize {
        self.mpi.size()
    }

    /// Ends all processes of the job with this exit code.
    pub fn abort(&self, code: i32) -> ! {
        backend::abort_world(code)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Here too, because a communicator that is leaked would keep the other ranks waiting for ever.
        self.mpi.abort_if_others_wait();
    }
}

/// Name and version of the MPI library, in one line; `None` in a build without MPI.
#[must_use]
pub fn library() -> Option<String> {
    #[cfg(feature = "mpi")]
    {
        let text = mpi::environment::library_version().ok()?;
        // Some libraries append their configuration, on many lines.
        text.lines().next().map(|line| line.trim_end_matches('\0').split_whitespace().collect::<Vec<_>>().join(" "))
    }
    #[cfg(not(feature = "mpi"))]
    None
}

/// A group of ranks that work together; cheap to clone. MPI stays initialised as long as one exists.
///
/// # MPI
/// Methods marked as collective must be called by all ranks of the group, in the same order. Dropping the last clone of a group
/// that [`Comm::split`] made is collective as well.
#[derive(Clone)]
pub struct Comm {
    group: Rc<backend::Group>,
    /// Largest message in bytes.
    max_message: usize,
}

impl std::fmt::Debug for Comm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Comm(rank {} of {})", self.rank(), self.size())
    }
}

/// One of several teams of ranks that work side by side, from [`Comm::divide`].
#[derive(Debug, Clone)]
pub struct Team {
    /// The ranks of this team.
    pub comm: Comm,
    /// Number of this team, from 0. Rank 0 of the whole group is in team 0.
    pub index: usize,
    /// Number of teams.
    pub count: usize,
}

/// Why ranks cannot be divided into teams.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DivisionError {
    /// The number of ranks is no multiple of that of teams.
    #[error(
        "--replicas {count} requires a multiple of {count} MPI ranks, but there are {ranks}: start it as \
         `mpiexec -n {count} lammps-otf …`, or with a larger multiple"
    )]
    Uneven {
        /// Number of teams.
        count: usize,
        /// Number of ranks.
        ranks: usize,
    },
    /// There are no teams.
    #[error("--replicas is 0, but must be 1 or more")]
    None,
}

/// An error of work that several ranks do together.
///
/// It includes whether the other ranks can still be reached. [`Comm::agree`] and the like return an error of one rank alone without
/// communicating. The caller may then write files, and must call [`Comm::abort`].
pub trait CollectiveError: std::error::Error + From<RemoteError> {
    /// Whether this rank has failed alone, while the others wait for it in a communication.
    fn is_rank_failure(&self) -> bool;
}

/// Groups.
impl Comm {
    fn new(group: backend::Group) -> Self {
        Self { group: Rc::new(group), max_message: MAX_MESSAGE }
    }

    /// This process alone. Initialises MPI unless it is initialised already, because LAMMPS would do so. MPI is then never
    /// finalised.
    ///
    /// # Panics
    /// If MPI was initialised and finalised before in this process.
    #[must_use]
    pub fn single() -> Self {
        Self::new(backend::Group::this_process())
    }

    /// Number of this process in the group, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.group.rank()
    }

    /// Number of processes in the group.
    #[must_use]
    pub fn size(&self) -> usize {
        self.group.size()
    }

    /// Whether this is rank 0, which reads and writes files and prints messages.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.rank() == ROOT
    }

    /// Splits the group into one group for each distinct `color`, with the ranks in the same order, and returns the one that
    /// contains this rank. Several simulations share one job in this way.
    ///
    /// ```no_run
    /// # use lammps_otf::comm::Session;
    /// let session = Session::initialize();
    /// let world = session.world();
    /// // Two simulations, each on half of the ranks.
    /// let half = world.split(2 * world.rank() / world.size());
    /// ```
    ///
    /// # MPI
    /// Collective. The groups are independent of each other, except that [`Comm::abort`] ends all of them.
    ///
    /// # Panics
    /// If `color` does not fit in an `i32`.
    #[must_use]
    pub fn split(&self, color: usize) -> Self {
        Self { group: Rc::new(self.group.split(color)), max_message: self.max_message }
    }

    /// Divides the group into `count` teams with an equal number of consecutive ranks.
    ///
    /// # Errors
    /// If the number of ranks is no multiple of `count`, or `count` is 0.
    ///
    /// # MPI
    /// Collective, as [`Comm::split`], with the same `count` on all ranks.
    pub fn divide(&self, count: usize) -> Result<Team, DivisionError> {
        let ranks = self.size();
        if count == 0 {
            return Err(DivisionError::None);
        }
        if !ranks.is_multiple_of(count) {
            return Err(DivisionError::Uneven { count, ranks });
        }
        let index = self.rank() / (ranks / count);
        let comm = if count == 1 { self.clone() } else { self.split(index) };
        Ok(Team { comm, index, count })
    }

    /// Ends all processes of the job at once, also those that wait for this one, and those of other groups: MPI
    /// does not promise more, and MPICH and Open MPI end them all.
    pub fn abort(&self, code: i32) -> ! {
        self.group.abort(code)
    }

    /// Bytes that this rank has passed to MPI through this group so far. What LAMMPS sends is not included, nor what MPI
    /// adds to a reduction or broadcast, e.g. by forwarding it along a tree.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.group.bytes_sent()
    }

    /// Limits messages to this number of bytes, so that a test need not send 2³⁰.
    #[doc(hidden)]
    #[must_use]
    pub fn with_max_message(self, max_message: usize) -> Self {
        Self { max_message, ..self }
    }

    /// The group of a communicator, which belongs to it from now on.
    ///
    /// # MPI
    /// Collective over the communicator.
    #[cfg(feature = "mpi")]
    pub(crate) fn of_communicator(communicator: mpi::topology::SimpleCommunicator) -> Self {
        Self::new(backend::Group::of_communicator(communicator))
    }

    /// The communicator to open LAMMPS on.
    #[cfg(feature = "mpi")]
    pub(crate) fn raw(&self) -> mpi::ffi::MPI_Comm {
        self.group.raw()
    }

    /// Records that this rank has failed alone. It must not communicate any more.
    pub(crate) fn mark_rank_failure(&self) {
        self.group.mark_rank_failure();
    }

    /// Whether this rank has failed alone, so that the others of this group wait for it.
    pub(crate) fn has_rank_failure(&self) -> bool {
        self.group.has_rank_failure()
    }

    /// Whether all ranks have failed. Returns `false` if the others have not called this within some seconds; this rank must then
    /// not communicate any more.
    ///
    /// # MPI
    /// Called by each rank that has failed; collective if all have.
    pub(crate) fn all_ranks_failed(&self) -> bool {
        self.group.all_ranks_failed()
    }
}

/// Communication.
impl Comm {
    /// The element-wise sum over all ranks, in place.
    ///
    /// # MPI
    /// Collective; same length on all ranks.
    pub fn sum(&self, values: &mut [f64]) {
        if self.size() > 1 {
            self.group.sum(values, self.max_message);
        }
    }

    /// The element-wise maximum over all ranks, in place. No value may be NaN.
    ///
    /// # MPI
    /// Collective; same length on all ranks.
    pub fn max(&self, values: &mut [f64]) {
        if self.size() > 1 {
            self.group.max(values, self.max_message);
        }
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
        if self.size() > 1 {
            self.group.min_i64(values, self.max_message);
        }
    }

    /// The element-wise sum of integers over all ranks, in place.
    ///
    /// # MPI
    /// Collective; same length on all ranks.
    pub fn sum_i64(&self, values: &mut [i64]) {
        if self.size() > 1 {
            self.group.sum_i64(values, self.max_message);
        }
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

    /// The values of rank `from`, on all ranks.
    ///
    /// # MPI
    /// Collective; the values of the other ranks are ignored.
    #[must_use]
    pub fn broadcast<T: Message>(&self, from: usize, values: Vec<T>) -> Vec<T> {
        if self.size() == 1 {
            return values;
        }
        let sends = self.rank() == from;
        let bytes = if sends { message::encode(&values) } else { Vec::new() };
        let bytes = self.group.broadcast(from, bytes, self.max_message);
        if sends { values } else { message::decode(&bytes) }
    }

    /// The values of all ranks, in the order of ranks, on rank 0; `None` on the others.
    ///
    /// # MPI
    /// Collective; lengths may differ.
    #[must_use]
    pub fn gather<T: Message>(&self, values: &[T]) -> Option<Vec<T>> {
        if self.size() == 1 {
            return Some(values.to_vec());
        }
        self.group.gather(&message::encode(values), self.max_message).map(|bytes| message::decode(&bytes))
    }

    /// The values of all ranks, in the order of ranks, on all of them. Meant for values of which most ranks have none.
    ///
    /// # MPI
    /// Collective; lengths may differ.
    #[must_use]
    pub fn all_gather<T: Message>(&self, values: &[T]) -> Vec<T> {
        if self.size() == 1 {
            return values.to_vec();
        }
        message::decode(&self.group.all_gather(&message::encode(values), self.max_message))
    }

    /// Sends `values[r]` to rank r. Returns what all ranks have sent to this one, in the order of ranks.
    ///
    /// # MPI
    /// Collective.
    #[must_use]
    pub(crate) fn exchange<T: Message>(&self, values: &[Vec<T>]) -> Vec<T> {
        if self.size() == 1 {
            return values.concat();
        }
        let messages: Vec<Vec<u8>> = values.iter().map(|values| message::encode(values)).collect();
        message::decode(&self.group.exchange(&messages, self.max_message))
    }

    /// The value of rank 0, on all ranks, sent as JSON.
    ///
    /// # MPI
    /// Collective; the values of the other ranks are ignored.
    pub(crate) fn share<T: serde::Serialize + serde::de::DeserializeOwned>(&self, value: Option<T>) -> T {
        let bytes =
            if self.is_root() { serde_json::to_vec(value.as_slice()).expect("numbers and names") } else { Vec::new() };
        let mut shared: Vec<T> = serde_json::from_slice(&self.broadcast(ROOT, bytes)).expect("as rank 0 wrote it");
        shared.pop().expect("rank 0 has a value")
    }

    /// Waits for all ranks without using the processor, which an ordinary barrier keeps busy.
    ///
    /// # MPI
    /// Collective.
    fn sleeping_barrier(&self) {
        if self.size() > 1 {
            self.group.sleeping_barrier();
        }
    }
}

/// Agreement on errors.
impl Comm {
    /// Gives all ranks the same outcome: if any rank failed, all fail, with the error of the lowest rank that did.
    ///
    /// # Errors
    /// The rank's own error, or [`RemoteError`] with the text of the lowest rank that failed.
    ///
    /// # MPI
    /// Collective, except for a rank that has failed alone, whose own error is returned at once.
    pub fn agree<T, E: CollectiveError>(&self, outcome: Result<T, E>) -> Result<T, E> {
        if outcome.as_ref().is_err_and(CollectiveError::is_rank_failure) {
            return outcome;
        }
        let first = self.min_i64(if outcome.is_err() { self.rank() as i64 } else { i64::MAX });
        if first == i64::MAX {
            return outcome;
        }
        let rank = first as usize;
        let text = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let text = self.broadcast(rank, text.into_bytes());
        match outcome {
            Err(own) => Err(own),
            Ok(_) => Err(RemoteError { rank, message: String::from_utf8_lossy(&text).into_owned() }.into()),
        }
    }

    /// [`Comm::agree`] after work that takes some ranks much longer than others: those that are done sleep meanwhile.
    ///
    /// # Errors
    /// As [`Comm::agree`].
    ///
    /// # MPI
    /// As [`Comm::agree`].
    pub fn agree_asleep<T, E: CollectiveError>(&self, outcome: Result<T, E>) -> Result<T, E> {
        if !outcome.as_ref().is_err_and(CollectiveError::is_rank_failure) {
            self.sleeping_barrier();
        }
        self.agree(outcome)
    }

    /// Does `work` on rank 0 only; all ranks get the error if it fails. A panic in `work` is an error on the other ranks, and resumes on rank 0.
    ///
    /// # Errors
    /// On rank 0 the error of `work`, on the others [`RemoteError`] with its text.
    ///
    /// # MPI
    /// Collective.
    pub fn on_root<T, E: CollectiveError>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<Option<T>, E> {
        self.agree_or_unwind(self.catch_on_root(work))
    }

    /// [`Comm::on_root`] for work that takes long: the other ranks sleep meanwhile, and leave their processors to it.
    ///
    /// # Errors
    /// As [`Comm::on_root`].
    ///
    /// # MPI
    /// Collective.
    pub fn on_root_alone<T, E: CollectiveError>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<Option<T>, E> {
        let outcome = self.catch_on_root(work);
        self.sleeping_barrier();
        self.agree_or_unwind(outcome)
    }

    /// Does `work` on rank 0 and returns its outcome or its panic.
    fn catch_on_root<T, E>(&self, work: impl FnOnce() -> Result<T, E>) -> std::thread::Result<Result<Option<T>, E>> {
        if !self.is_root() {
            return Ok(Ok(None));
        }
        catch_unwind(AssertUnwindSafe(work)).map(|outcome| outcome.map(Some))
    }

    /// Agrees on the outcome of [`Comm::catch_on_root`]; resumes its panic after the other ranks have received it as an error.
    fn agree_or_unwind<T, E: CollectiveError>(
        &self,
        outcome: std::thread::Result<Result<Option<T>, E>>,
    ) -> Result<Option<T>, E> {
        match outcome {
            Ok(outcome) => self.agree(outcome),
            Err(panic) => {
                let error = RemoteError { rank: self.rank(), message: "it panicked".into() };
                let _ = self.agree(Err::<T, E>(error.into()));
                resume_unwind(panic)
            }
        }
    }
}

/// An error of another rank, which ends the work of this one too.
#[derive(Debug, Clone, thiserror::Error)]
#[error("rank {rank} failed: {message}")]
pub struct RemoteError {
    /// The rank that failed.
    pub rank: usize,
    /// Its error.
    pub message: String,
}
