// SPDX-License-Identifier: GPL-2.0-or-later
//! The status of a candidate and its transitions.

use std::fmt;
use std::str::FromStr;

/// The status of a candidate. Stored as the text key `status`, so that `ase db candidates.db status=DONE` selects by it.
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
    /// Not yet labelled.
    PendingDft,
    /// Claimed by a worker, which computes its label.
    RunningDft,
    /// Labelled: the row contains energy and forces.
    Done,
    /// The label could not be computed; the row contains the error.
    Failed,
    /// Excluded by the user or by a check; neither labelled nor exported.
    Rejected,
}

impl Status {
    /// Every status, in the usual order.
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

    /// Whether the status of a candidate can change from this one to `to`.
    ///
    /// `DONE` can change to `PENDING_DFT` only through `REJECTED`, which drops the label, so that no label is computed
    /// twice by mistake.
    #[must_use]
    pub fn can_change_to(self, to: Self) -> bool {
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

/// The error for a text that is not a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a status: use PENDING_DFT, RUNNING_DFT, DONE, FAILED or REJECTED")]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;

    /// Parses a status, case-insensitive; `pending` and `running` are accepted as abbreviations.
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
    fn status_text_round_trip() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("DONE ".parse::<Status>().is_err());
    }

    #[test]
    fn done_follows_running_only() {
        for from in Status::ALL {
            assert_eq!(from.can_change_to(Status::Done), from == Status::RunningDft);
            assert!(!from.can_change_to(from));
        }
    }
}
