// SPDX-License-Identifier: GPL-2.0-or-later
//! Whether this process is getting anywhere, for the thread that ends one that is stuck ([`crate::interrupt`]).

use std::sync::atomic::{AtomicU64, Ordering};

/// Calls into LAMMPS that have returned, and communications that have begun.
static MARKS: AtomicU64 = AtomicU64::new(0);

/// Notes that this process is not stuck.
pub(crate) fn mark() {
    MARKS.fetch_add(1, Ordering::Relaxed);
}

/// How often that was noted.
pub(crate) fn marks() -> u64 {
    MARKS.load(Ordering::Relaxed)
}
