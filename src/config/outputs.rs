// SPDX-License-Identifier: GPL-2.0-or-later
//! Files written by the commands of a set-up.

use std::path::PathBuf;

/// Location of the files that the commands of a set-up write, and how existing files are treated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outputs {
    /// Prefix of each file name, for replicas; empty for none.
    pub prefix: String,
    /// Folder for all files of a trial run; `None` leaves the paths unchanged.
    pub folder: Option<PathBuf>,
    /// Whether the files exist already.
    pub earlier: Earlier,
}

/// State of the files that a set-up writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Earlier {
    /// The set-up creates them.
    #[default]
    None,
    /// The run is resumed at this step. Output up to this step is kept.
    Resumed(i64),
    /// An earlier run of the same set-up wrote them. All output is kept.
    Repeated,
}
