// SPDX-License-Identifier: GPL-2.0-or-later
//! The life of a candidate.

use std::fmt;
use std::str::FromStr;

/// Where a candidate stands. Stored as the text key `status`, so that `ase db candidates.db status=DONE` finds it.
///
/// ```text
///              claim             finish
/// PENDING_DFT ───────► RUNNING_DFT ───────► DONE
///   ▲  ▲  │  ◄───────      │    │            │
///   │  │  │   release      │    └──────┐     │
///   │  │  └───────────┐    ▼ fail      ▼     ▼
///   │  └── retry ── FAILED ───────► REJECTED ◄
///   └───────────────────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Waits for a label.
    PendingDft,
    /// A worker has claimed it and computes its label.
    RunningDft,
    /// Labelled: energy and forces are in the row.
    Done,
    /// The label could not be computed; the row holds the error.
    Failed,
    /// Taken out by a person or by a check; it is neither labelled nor exported.
    Rejected,
}

impl Status {
    /// Every status, in the order of a candidate's life.
    pub const ALL: [Self; 5] = [Self::PendingDft, Self::RunningDft, Self::Done, Self::Failed, Self::Rejected];

    /// The text in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PendingDft => "PENDING_DFT",
            Self::RunningDft => "RUNNING_DFT",
            Self::Done => "DONE",
            Self::Failed => "FAILED",
            Self::Rejected => "REJECTED",
        }
    }

    /// Whether a candidate may go from this status to `to`.
    ///
    /// Labels that were once accepted can be rejected, but a label is never silently computed twice: the way from
    /// `DONE` back to `PENDING_DFT` goes through `REJECTED`, which drops the label.
    #[must_use]
    pub fn may_become(self, to: Self) -> bool {
        use Status::{Done, Failed, PendingDft, Rejected, RunningDft};
        matches!(
            (self, to),
            (PendingDft, RunningDft | Rejected)
                | (RunningDft, Done | Failed | PendingDft | Rejected)
                | (Failed, PendingDft | Rejected)
                | (Done, Rejected)
                | (Rejected, PendingDft)
        )
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a status: use PENDING_DFT, RUNNING_DFT, DONE, FAILED or REJECTED")]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;

    /// Reads a status; upper or lower case, and `pending` and `running` for short.
    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        match text.to_ascii_uppercase().as_str() {
            "PENDING_DFT" | "PENDING" => Ok(Self::PendingDft),
            "RUNNING_DFT" | "RUNNING" => Ok(Self::RunningDft),
            "DONE" => Ok(Self::Done),
            "FAILED" => Ok(Self::Failed),
            "REJECTED" => Ok(Self::Rejected),
            _ => Err(UnknownStatus(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("DONE ".parse::<Status>().is_err());
    }

    #[test]
    fn only_a_claimed_candidate_can_be_done() {
        for from in Status::ALL {
            assert_eq!(from.may_become(Status::Done), from == Status::RunningDft);
            assert!(!from.may_become(from));
        }
    }
}
