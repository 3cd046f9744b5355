// SPDX-License-Identifier: GPL-2.0-or-later
//! A progress counter, from which [`crate::interrupt`] detects that this process is stuck.

use std::sync::atomic::{AtomicU64, Ordering};

/// Number of completed calls of LAMMPS and started communications.
static MARKS: AtomicU64 = AtomicU64::new(0);

/// Records progress.
pub(crate) fn mark() {
    MARKS.fetch_add(1, Ordering::Relaxed);
}

/// Number of recorded marks.
pub(crate) fn marks() -> u64 {
    MARKS.load(Ordering::Relaxed)
}
