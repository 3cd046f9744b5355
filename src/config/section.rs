// SPDX-License-Identifier: GPL-2.0-or-later
//! Sections of a configuration, and what each of them determines.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Error, InferenceConfig};

/// What the settings of a section determine, and therefore whether they may change when a run or a loop is continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Determines {
    /// Neither the trajectory nor the candidates. The settings may always change.
    Nothing,
    /// The candidates, but not the trajectory. The settings may change when a run is continued, but not when a loop is,
    /// because its potentials depend on the candidates.
    Candidates,
    /// The trajectory. The settings may not change.
    Trajectory,
}

/// A group of settings.
pub trait Section {
    /// What the settings determine.
    const DETERMINES: Determines;
}

impl InferenceConfig {
    /// The settings of all sections that determine at least `what`, by their keys. Keys without a value are absent.
    #[must_use]
    pub fn settings_that_determine(&self, what: Determines) -> Map<String, Value> {
        fn of<S: Section + Serialize>(section: &S) -> (Determines, Value) {
            (S::DETERMINES, serde_json::to_value(section).expect("a table with texts as keys"))
        }
        // A full pattern, so that a new section does not compile until it is listed.
        let Self {
            system,
            md,
            watch,
            candidates,
            limits,
            lammps,
            job,
            explore,
            replicas: _,
            active_learning: _,
            outputs: _,
        } = self;
        // A table, not flat keys.
        let explore = serde_json::json!({ "explore": explore });
        let explore = (Determines::Trajectory, explore);
        let all = [explore, of(system), of(md), of(watch), of(candidates), of(limits), of(lammps), of(job)];
        let chosen = all.into_iter().filter(|(determines, _)| *determines >= what);
        let settings =
            chosen.filter_map(|(_, value)| if let Value::Object(table) = value { Some(table) } else { None });
        settings.flatten().filter(|(_, value)| !value.is_null()).collect()
    }
}

/// Returns [`Error::Range`] unless `ok`.
pub(super) fn check(
    ok: bool,
    field: &'static str,
    value: &dyn std::fmt::Debug,
    allowed: &'static str,
) -> Result<(), Error> {
    if ok { Ok(()) } else { Err(Error::Range { field, value: format!("{value:?}"), allowed }) }
}

/// Whether `x` is above 0 and finite.
pub(super) fn positive(x: f64) -> bool {
    x > 0.0 && x.is_finite()
}
