// SPDX-License-Identifier: GPL-2.0-or-later
//! What becomes of the files that commands of a set-up write.

use std::path::PathBuf;

/// Where the files of a set-up go that its commands write, and whether they are there already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outputs {
    /// Put before each file's name, for simulations that run side by side; empty for none.
    pub prefix: String,
    /// The folder of all of them, for a trial.
    pub folder: Option<PathBuf>,
    /// What of them is there.
    pub earlier: Earlier,
}

/// Whether the files that a set-up writes are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Earlier {
    /// The set-up begins them.
    #[default]
    None,
    /// The run goes on from this step: what it wrote up to there stays.
    Resumed(i64),
    /// Another run of the same set-up has written them, and all of it stays.
    Repeated,
}
