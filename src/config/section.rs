// SPDX-License-Identifier: GPL-2.0-or-later
//! Sections of a configuration, and what each of them determines.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Error, InferenceConfig};

/// What the settings of a section determine, and so whether they may change when a run or a loop is continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Determines {
    /// Neither the trajectory nor the candidates. May always change.
    Nothing,
    /// What is stored, but not the trajectory. May change when a run is continued, but not a loop, which learns from it.
    Candidates,
    /// The trajectory. May not change.
    Trajectory,
}

/// A group of settings.
pub trait Section {
    /// What they determine.
    const DETERMINES: Determines;
}

impl InferenceConfig {
    /// The settings of all sections that determine at least `what`, by their keys. Keys without a value are absent.
    #[must_use]
    pub fn settings_that_determine(&self, what: Determines) -> Map<String, Value> {
        fn of<S: Section + Serialize>(section: &S) -> (Determines, Value) {
            (S::DETERMINES, serde_json::to_value(section).expect("a table with texts as keys"))
        }
        // By name, so that a new section cannot be forgotten.
        let Self { system, md, watch, candidates, limits, lammps, job, replicas: _, active_learning: _, outputs: _ } =
            self;
        let all = [of(system), of(md), of(watch), of(candidates), of(limits), of(lammps), of(job)];
        let chosen = all.into_iter().filter(|(determines, _)| *determines >= what);
        let settings =
            chosen.filter_map(|(_, value)| if let Value::Object(table) = value { Some(table) } else { None });
        settings.flatten().filter(|(_, value)| !value.is_null()).collect()
    }
}

/// An [`Error::Range`] unless `ok`.
pub(super) fn check(
    ok: bool,
    field: &'static str,
    value: &dyn std::fmt::Debug,
    allowed: &'static str,
) -> Result<(), Error> {
    if ok { Ok(()) } else { Err(Error::Range { field, value: format!("{value:?}"), allowed }) }
}

/// Above 0 and finite.
pub(super) fn positive(x: f64) -> bool {
    x > 0.0 && x.is_finite()
}
