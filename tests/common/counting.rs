// SPDX-License-Identifier: GPL-2.0-or-later
//! An allocator that counts the bytes that a thread holds: exact, whatever the machine and the system's allocator do.
//!
//! Rust's allocations only: not those of LAMMPS, MPI and SQLite.
#![allow(dead_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
}

pub struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(change: i64) {
    // The last values of a thread are dropped when its own are gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        MOST.with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// Bytes that this thread holds.
pub fn held() -> i64 {
    HELD.get()
}

/// The most bytes that this thread holds at once during `work`, above those that it holds before.
pub fn most_during<T>(work: impl FnOnce() -> T) -> (i64, T) {
    let before = held();
    MOST.set(before);
    let result = work();
    (MOST.get() - before, result)
}
