// SPDX-License-Identifier: GPL-2.0-or-later
//! Errors of LAMMPS and of the binding.

use std::fmt;

use super::sys;
use crate::comm::Comm;
use crate::fault::Fault;

/// Which ranks have an error, according to LAMMPS. The consequence for this rank is the variant of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// All ranks have it; the instance stays usable.
    AllRanks,
    /// Only this rank has it, and the others wait for it in a communication.
    ThisRank,
    /// A C++ exception that LAMMPS did not throw itself (a plugin, a parser). Whether the other ranks have it too depends on
    /// where it was thrown: reading a file fails on all ranks, evaluating an atom on one.
    Foreign,
}

/// A call into LAMMPS that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The function of LAMMPS's C interface.
    pub call: &'static str,
    /// Its argument.
    pub argument: String,
    /// Which ranks have the error, according to LAMMPS.
    pub severity: Severity,
    /// Whether it failed during the steps of a run.
    pub running: bool,
    /// LAMMPS's own text.
    pub message: String,
}

/// A failure of this rank alone, while the others wait for it in a communication. No collective call may follow. The caller may
/// write files, and must then abort the job ([`Comm::abort`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rank {rank} failed alone{}, and the other ranks cannot be reached: {failure}", at(*step))]
pub struct RankFailure {
    /// The rank.
    pub rank: usize,
    /// The time step, if known.
    pub step: Option<i64>,
    /// What failed.
    pub failure: Failure,
}

fn at(step: Option<i64>) -> String {
    step.map_or(String::new(), |step| format!(" at step {step}"))
}

/// An error of the binding.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// LAMMPS, or code that it called, failed on all ranks of the instance.
    #[error(transparent)]
    Failure(Failure),
    /// LAMMPS, or code that it called, failed on this rank alone.
    #[error(transparent)]
    RankFailure(Box<RankFailure>),
    /// This liblammps cannot be used.
    #[error("{0}")]
    Preflight(String),
    /// LAMMPS has no object of this kind and name.
    #[error("LAMMPS has no {what} `{name}`{hint}")]
    Missing {
        /// The kind of object.
        what: &'static str,
        /// Its name.
        name: String,
        /// A possible reason; empty, or beginning with a separator.
        hint: &'static str,
    },
    /// A string that cannot be passed to LAMMPS.
    #[error("{what} {text:?} cannot be written in a LAMMPS command: {why}")]
    Text {
        /// What the string is.
        what: &'static str,
        /// The string.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Error {
    /// Classifies a failure on the ranks of `comm`: this is the only place that decides whether the other ranks can still be
    /// reached. LAMMPS may wrongly report an error of all ranks. The ranks therefore confirm it to each other; if they do not, it is
    /// a rank failure.
    ///
    /// # MPI
    /// Called by each rank on which the call has failed.
    pub(super) fn of(failure: Failure, step: Option<i64>, comm: &Comm) -> Self {
        let alone = match failure.severity {
            Severity::ThisRank => true,
            // Thrown in the middle of a step, typically for one atom.
            Severity::Foreign if failure.running => true,
            _ => false,
        };
        if comm.size() == 1 || (!alone && comm.all_ranks_failed()) {
            return Self::Failure(failure);
        }
        comm.mark_rank_failure();
        Self::RankFailure(Box::new(RankFailure { rank: comm.rank(), step, failure }))
    }

    /// The severity of an error in LAMMPS.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        match self {
            Self::Failure(f) => Some(f.severity),
            Self::RankFailure(alone) => Some(alone.failure.severity),
            _ => None,
        }
    }

    /// Whether this rank has failed alone, so that the others cannot be reached.
    #[must_use]
    pub fn is_rank_failure(&self) -> bool {
        matches!(self, Self::RankFailure(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.message.trim();
        write!(f, "LAMMPS ({})", self.call)?;
        if !self.argument.is_empty() && self.argument.len() < 200 && !self.argument.contains('\n') {
            write!(f, " at `{}`", self.argument)?;
        }
        write!(f, ": {text}")
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// The failure of a call for fault injection ([`crate::fault`]).
    pub(super) fn injected(fault: Fault, call: &'static str) -> Self {
        let severity = match fault {
            Fault::One => Severity::ThisRank,
            Fault::All => Severity::AllRanks,
            Fault::Foreign => Severity::Foreign,
        };
        Self { call, argument: String::new(), severity, running: false, message: "an injected fault".into() }
    }

    /// A call that returned no result and no message.
    pub(super) fn without_reason(call: &'static str, argument: String) -> Self {
        let message = "LAMMPS gave no reason".into();
        Self { call, argument, severity: Severity::AllRanks, running: false, message }
    }

    /// The same failure, during the steps of a run.
    pub(super) fn while_running(self) -> Self {
        Self { running: true, ..self }
    }

    /// Reads a failure that the guard has written.
    pub(super) fn take(raw: &sys::otf_failure, call: &'static str) -> Self {
        let severity = match u32::try_from(raw.severity).unwrap_or(sys::OTF_EXCEPTION) {
            sys::OTF_ERROR => Severity::AllRanks,
            sys::OTF_ABORT => Severity::ThisRank,
            _ => Severity::Foreign,
        };
        let bytes: Vec<u8> = raw.message.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect();
        let message = String::from_utf8_lossy(&bytes).trim().to_owned();
        Self { call, argument: String::new(), severity, running: false, message }
    }
}
