// SPDX-License-Identifier: GPL-2.0-or-later
//! Communicators that another library of this process has made.

use mpi::ffi;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, FromRaw as _};

use crate::comm::{Comm, Session};

/// A group of the ranks of an MPI communicator of another library, given by its Fortran handle (`MPI_Comm_c2f`, in mpi4py
/// `comm.py2f()`); `None` for the null communicator. The group has a communicator of its own, so that messages are separate. Both libraries
/// must use the same libmpi.
///
/// # MPI
/// Collective over the communicator, which must not be an intercommunicator. MPI aborts the job if there is no such communicator.
#[must_use]
pub fn communicator(_session: &Session, handle: i32) -> Option<Comm> {
    // SAFETY: MPI is initialised, as long as there is a session. A Fortran handle is a number that MPI looks up.
    let raw = unsafe { ffi::MPI_Comm_f2c(handle) };
    // SAFETY: constants of the MPI library.
    let (null, world, own) = unsafe { (ffi::RSMPI_COMM_NULL, ffi::RSMPI_COMM_WORLD, ffi::RSMPI_COMM_SELF) };
    if raw == null {
        return None;
    }
    let duplicate = if raw == world {
        SimpleCommunicator::world().duplicate()
    } else if raw == own {
        SimpleCommunicator::self_comm().duplicate()
    } else {
        // SAFETY: none of the predefined communicators.
        let theirs = unsafe { SimpleCommunicator::from_raw(raw) };
        let duplicate = theirs.duplicate();
        // Dropped, it would free the communicator of the other library.
        std::mem::forget(theirs);
        duplicate
    };
    Some(Comm::of_communicator(duplicate))
}
