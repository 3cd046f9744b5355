// SPDX-License-Identifier: GPL-2.0-or-later
//! The generated bindings.
#![allow(missing_docs, non_camel_case_types, non_upper_case_globals, non_snake_case, dead_code)]
#![allow(clippy::all, clippy::pedantic)]
include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
