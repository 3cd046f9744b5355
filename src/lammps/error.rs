// SPDX-License-Identifier: GPL-2.0-or-later
//! What LAMMPS says when it refuses.

use std::fmt;

use super::sys;

/// How far an error reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// All ranks saw it; the instance stays usable.
    AllRanks,
    /// This rank alone saw it while the others wait for it in a communication: nothing collective may follow, the job
    /// can only be aborted ([`crate::comm::Comm::abort`]).
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
    /// How far the error reaches.
    pub severity: Severity,
    /// LAMMPS's own text.
    pub message: String,
}

/// An error of the binding.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// LAMMPS, or something that it called, refused.
    #[error(transparent)]
    Failure(#[from] Failure),
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
    /// The severity, if LAMMPS itself refused.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        match self {
            Self::Failure(f) => Some(f.severity),
            _ => None,
        }
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
    /// Reads what the guard wrote of something that went wrong.
    pub(super) fn take(raw: &sys::otf_failure, call: &'static str) -> Self {
        let severity = match u32::try_from(raw.severity).unwrap_or(sys::OTF_EXCEPTION) {
            sys::OTF_ERROR => Severity::AllRanks,
            sys::OTF_ABORT => Severity::ThisRank,
            _ => Severity::Foreign,
        };
        let bytes: Vec<u8> = raw.message.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect();
        let message = String::from_utf8_lossy(&bytes).trim().to_owned();
        Self { call, argument: String::new(), severity, message }
    }
}
