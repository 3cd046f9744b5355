// SPDX-License-Identifier: GPL-2.0-or-later
//! A group of one process, in a build without MPI.

/// Stands for MPI.
pub(super) struct Mpi;

#[allow(clippy::unused_self)]
impl Mpi {
    pub(super) fn initialize() -> Self {
        Self
    }

    pub(super) fn world(&self) -> Group {
        Group
    }

    pub(super) fn rank(&self) -> usize {
        0
    }

    pub(super) fn size(&self) -> usize {
        1
    }

    pub(super) fn abort_if_others_wait(&self) {}
}

/// One process.
pub(super) struct Group;

#[allow(clippy::unused_self)]
impl Group {
    pub(super) fn this_process() -> Self {
        Self
    }

    pub(super) fn split(&self, _color: usize) -> Self {
        Self
    }

    pub(super) fn rank(&self) -> usize {
        0
    }

    pub(super) fn size(&self) -> usize {
        1
    }

    pub(super) fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }

    pub(super) fn mark_rank_failure(&self) {}

    pub(super) fn has_rank_failure(&self) -> bool {
        false
    }

    pub(super) fn bytes_sent(&self) -> u64 {
        0
    }

    pub(super) fn all_ranks_failed(&self) -> bool {
        true
    }

    pub(super) fn sum(&self, _values: &mut [f64], _max_message: usize) {}

    pub(super) fn max(&self, _values: &mut [f64], _max_message: usize) {}

    pub(super) fn min_i64(&self, _values: &mut [i64], _max_message: usize) {}

    pub(super) fn sum_i64(&self, _values: &mut [i64], _max_message: usize) {}

    pub(super) fn broadcast(&self, _from: usize, bytes: Vec<u8>, _max_message: usize) -> Vec<u8> {
        bytes
    }

    pub(super) fn gather(&self, bytes: &[u8], _max_message: usize) -> Option<Vec<u8>> {
        Some(bytes.to_vec())
    }

    pub(super) fn exchange(&self, messages: &[Vec<u8>], _max_message: usize) -> Vec<u8> {
        messages.concat()
    }

    pub(super) fn all_gather(&self, bytes: &[u8], _max_message: usize) -> Vec<u8> {
        bytes.to_vec()
    }

    pub(super) fn sleeping_barrier(&self) {}
}

/// Ends the process.
pub(super) fn abort_world(code: i32) -> ! {
    std::process::exit(code)
}
