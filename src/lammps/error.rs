// SPDX-License-Identifier: GPL-2.0-or-later
//! What LAMMPS says when it refuses.

use std::fmt;

use super::sys;
use crate::comm::Comm;
use crate::fault::Fault;

/// How far an error reaches, in LAMMPS's words. What follows from it for this rank is in the type of the [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// All ranks saw it; the instance stays usable.
    AllRanks,
    /// This rank alone saw it, while the others wait for it in a communication.
    ThisRank,
    /// A C++ exception that is not LAMMPS's own (a plugin, a parser). Whether the other ranks saw it too depends on
    /// where it was thrown: reading a file fails on all ranks, evaluating an atom on one.
    Foreign,
}

/// A call into LAMMPS that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The function of LAMMPS's C interface.
    pub call: &'static str,
    /// What it was called with.
    pub argument: String,
    /// How far the error reaches, as LAMMPS has it.
    pub severity: Severity,
    /// Whether it failed within the steps of a run.
    pub running: bool,
    /// LAMMPS's own text.
    pub message: String,
}

/// A failure of this rank alone: the others wait for it in a communication. Nothing collective may follow; what is known can be
/// written down, and then the job can only be aborted ([`Comm::abort`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rank {rank} failed alone{}, and the others cannot be reached: {failure}", at(*step))]
pub struct RankFailure {
    /// The rank.
    pub rank: usize,
    /// The time step; `None` before there is one.
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
    /// LAMMPS, or something that it called, failed on all ranks of the instance.
    #[error(transparent)]
    Failure(Failure),
    /// It failed on this rank alone.
    #[error(transparent)]
    RankFailure(Box<RankFailure>),
    /// This liblammps cannot be used.
    #[error("{0}")]
    Preflight(String),
    /// LAMMPS has nothing of this name, or not of this kind.
    #[error("LAMMPS has no {what} `{name}`{hint}")]
    Missing {
        /// The kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// What may be the reason; empty, or beginning with a separator.
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
    /// Makes an error of a failure on the ranks of `comm`; the only place where it is decided whether the other ranks can still be
    /// reached. Where LAMMPS says that all have failed, they are asked, because LAMMPS may be wrong: if they do not answer, this
    /// rank is alone.
    ///
    /// # MPI
    /// Called by each rank on which the call has failed.
    pub(super) fn of(failure: Failure, step: Option<i64>, comm: &Comm) -> Self {
        let alone = match failure.severity {
            Severity::ThisRank => true,
            // While evaluating this rank's atoms. LAMMPS is left in the middle of a step, even if others failed as well.
            Severity::Foreign if failure.running => true,
            _ => false,
        };
        if comm.size() == 1 || (!alone && comm.all_ranks_failed()) {
            return Self::Failure(failure);
        }
        comm.mark_rank_failure();
        Self::RankFailure(Box::new(RankFailure { rank: comm.rank(), step, failure }))
    }

    /// The severity, if LAMMPS itself refused.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        match self {
            Self::Failure(f) => Some(f.severity),
            Self::RankFailure(alone) => Some(alone.failure.severity),
            _ => None,
        }
    }

    /// Whether this rank has failed alone, so that the others cannot be reached any more.
    #[must_use]
    pub fn is_rank_failure(&self) -> bool {
        matches!(self, Self::RankFailure(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // "ERROR on proc 1: text (src/file.cpp:123)\nLast input line: ..." reads badly inside a sentence.
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
    /// A failure on purpose, for the test of what follows from one.
    pub(super) fn on_purpose(fault: Fault, call: &'static str) -> Self {
        let severity = match fault {
            Fault::One => Severity::ThisRank,
            Fault::All => Severity::AllRanks,
            Fault::Foreign => Severity::Foreign,
        };
        Self { call, argument: String::new(), severity, running: false, message: "a fault on purpose".into() }
    }

    /// A call that gave nothing, and no reason.
    pub(super) fn without_reason(call: &'static str, argument: String) -> Self {
        let message = "it gave no reason".into();
        Self { call, argument, severity: Severity::AllRanks, running: false, message }
    }

    /// The same, within the steps of a run.
    pub(super) fn while_running(self) -> Self {
        Self { running: true, ..self }
    }

    /// Reads what the guard wrote of something that went wrong.
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
