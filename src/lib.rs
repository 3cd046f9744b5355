// SPDX-License-Identifier: GPL-2.0-or-later
//! Molecular dynamics that knows when its potential is wrong.
pub mod candidates;
pub mod structure;
