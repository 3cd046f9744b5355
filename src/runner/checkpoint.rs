// SPDX-License-Identifier: GPL-2.0-or-later
//! What a later process needs to go on with a run.
//!
//! Two files: what LAMMPS knows (`checkpoint-STEP.restart`) and what the watch knows (`checkpoint.json`, which names the
//! first). The restart file is complete on the disk before `checkpoint.json` is replaced, by renaming, and the old one
//! goes afterwards: whenever the process is killed, there is a `checkpoint.json` whose restart file is whole. The first
//! one is in the folder from its beginning on, with no restart file, and means: begin at the beginning.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::polls::Position;
use super::{Error, files};
use crate::config::{Determines, InferenceConfig, Ramp};
use crate::potential;
use crate::simulation::Poll;

/// Of this form of `checkpoint.json`.
const FORMAT: u32 = 2;

/// The content of `checkpoint.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    format: u32,
    /// What wrote it.
    version: String,
    /// The LAMMPS restart file, in the same folder; none before the first.
    pub(super) restart: Option<String>,
    pub(super) step: i64,
    /// The step at which the run began.
    pub(super) first: i64,
    pub(super) ranks: usize,
    /// What determines the trajectory.
    identity: BTreeMap<String, Value>,
    /// Where `polls.jsonl` ends.
    pub(super) polls: Position,
    pub(super) last_flag: Option<i64>,
    /// Lengths of the files that the set-up writes.
    #[serde(default)]
    pub(super) files: BTreeMap<PathBuf, u64>,
    pub(super) progress: Progress,
}

/// The part of the result that adds up over the run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) trigger_step: Option<i64>,
    /// As text, because JSON has no infinity.
    pub(super) gamma_max: Option<String>,
    pub(super) atom_id: Option<i32>,
    pub(super) candidates: Vec<i64>,
    pub(super) flagged: u64,
    pub(super) known: u64,
    pub(super) warnings: Vec<String>,
    #[serde(default)]
    pub(super) more_warnings: u64,
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    pub(super) seconds: f64,
    pub(super) last: Option<Poll>,
    /// Whether a region of the last poll could not be cut out.
    #[serde(default)]
    pub(super) missed: bool,
}

impl Checkpoint {
    /// Of a run that has not made a step.
    pub(super) fn at_start(config: &InferenceConfig, data: &[u8], ranks: usize) -> Result<Self, Error> {
        let (version, identity) = (env!("CARGO_PKG_VERSION").into(), identity(config, data)?);
        Ok(Self { version, identity, ..Self::elsewhere(ranks) })
    }

    /// What ranks other than 0 have, which write nothing.
    pub(super) fn elsewhere(ranks: usize) -> Self {
        let progress = Progress::default();
        let (version, identity) = (String::new(), BTreeMap::new());
        Self {
            format: FORMAT,
            version,
            restart: None,
            step: 0,
            first: 0,
            ranks,
            identity,
            polls: Position::default(),
            last_flag: None,
            files: BTreeMap::new(),
            progress,
        }
    }

    /// Reads that of a folder; `None` if there is no such folder, or nothing in it.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(files::CHECKPOINT);
        let unusable = |message: String| Error::Checkpoint { path: path.clone(), message };
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let empty = folder.read_dir().map_or(!folder.exists(), |mut entries| entries.next().is_none());
                return if empty { Ok(None) } else { Err(Error::NoCheckpoint(folder.to_owned())) };
            }
            Err(e) => return Err(unusable(e.to_string())),
        };
        let found: Value = serde_json::from_slice(&text).map_err(|e| unusable(e.to_string()))?;
        if found["format"] != FORMAT {
            let (format, version) = (&found["format"], &found["version"]);
            return Err(unusable(format!("format {format} of version {version}, and this version reads {FORMAT}")));
        }
        let found: Self = serde_json::from_value(found).map_err(|e| unusable(e.to_string()))?;
        if let Some(name) = &found.restart {
            if !is_restart_name(name) {
                return Err(unusable(format!("{name:?} is no name of a restart file of this folder")));
            }
            if !folder.join(name).is_file() {
                return Err(unusable(format!("its restart file {name} is missing")));
            }
        }
        Ok(Some(found))
    }

    /// Refuses to go on with another run than the one that was begun.
    pub(super) fn check(&self, config: &InferenceConfig, data: &[u8], folder: &Path) -> Result<(), Error> {
        let now = identity(config, data)?;
        // The table of a loop was part of it in earlier versions.
        let begun = self.identity.keys().filter(|key| *key != "loop");
        let keys: std::collections::BTreeSet<&String> = begun.chain(now.keys()).collect();
        let show = |value: Option<&Value>| value.map_or("absent".to_owned(), ToString::to_string);
        let what: Vec<String> = keys
            .into_iter()
            .filter(|key| self.identity.get(*key) != now.get(*key))
            .map(|key| match key.as_str() {
                "structure" | "potential" => format!("the content of `{key}` is not the same"),
                "template" => "the text of `template` is not the same".into(),
                _ => format!("`{key}` was {} and is {} now", show(self.identity.get(key)), show(now.get(key))),
            })
            .collect();
        if what.is_empty() { Ok(()) } else { Err(Error::Changed { folder: folder.to_owned(), what }) }
    }
}

/// What determines the trajectory. `data` is the structure as LAMMPS reads it.
fn identity(config: &InferenceConfig, data: &[u8]) -> Result<BTreeMap<String, Value>, Error> {
    let mut identity: BTreeMap<String, Value> =
        config.settings_that_determine(Determines::Trajectory).into_iter().collect();
    let constant = |ramp: Ramp| ramp.start() == ramp.end();
    if constant(config.md.temperature) && constant(config.md.pressure) {
        // Only a ramp knows where the end is.
        identity.remove("steps");
    }
    identity.insert("structure".into(), digest(data).into());
    identity
        .insert("potential".into(), potential::fingerprint(&config.system.potential).map_err(Error::Potential)?.into());
    if let Some(template) = &config.system.template {
        // One that cannot be read has been complained of when it was rendered.
        identity.insert("template".into(), digest(&std::fs::read(template).unwrap_or_default()).into());
    }
    Ok(identity)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of the restart file of a step.
pub(super) fn restart_name(step: i64) -> String {
    format!("checkpoint-{step}.restart")
}

/// Whether a name is one of those.
pub(super) fn is_restart_name(name: &str) -> bool {
    let step = name.strip_prefix("checkpoint-").and_then(|rest| rest.strip_suffix(".restart"));
    step.is_some_and(|step| step.parse::<i64>().is_ok())
}

/// Whether LAMMPS can write a restart file in this folder: it takes `*` and `%` in the name for patterns.
pub(super) fn is_possible_in(folder: &Path) -> bool {
    crate::lammps::quote_path(folder).is_ok_and(|path| !path.contains(['*', '%']))
}

#[cfg(test)]
#[path = "../../crates/otf-store/tests/common/reads_back.rs"]
mod reads_back;

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::comm::Comm;
    use crate::simulation::PollFormat;
    use crate::structure::AtomsView;
    use crate::uncertainty::{GammaHere, Thresholds, Verdict};

    /// γ of three atoms.
    fn summary(values: [f64; 3]) -> crate::uncertainty::GammaSummary {
        let (ids, types, positions) = (ndarray::arr1(&[1, 2, 3]), ndarray::arr1(&[1, 1, 1]), Array2::zeros((3, 3)));
        let atoms = AtomsView { positions: positions.view(), ids: ids.view(), types: types.view() };
        let here = GammaHere::of(ndarray::arr1(&values).view(), atoms, Thresholds { low: 2.0, high: 5.0 });
        let extremes = here.extremes();
        here.together(extremes, &Comm::single()).0
    }

    #[test]
    fn a_checkpoint_is_read_back_whichever_of_its_numbers_is_not_finite() {
        let last = Poll {
            format: PollFormat,
            step: 40,
            steps: 40,
            time: 0.04,
            temperature: 300.5,
            pressure: 1.5,
            potential_energy: -2.5,
            total_energy: -1.5,
            gamma: Some(summary([0.25, 1.5, 3.75])),
            verdict: Verdict::Flagged,
            seconds: 0.125,
        };
        let progress = Progress { seconds: 1.5, last: Some(last.clone()), ..Progress::default() };
        super::reads_back::reads_back(&Checkpoint { progress, ..Checkpoint::elsewhere(1) });
        // All atoms but one: the quantiles are those of an atom whose value is not finite.
        let gamma = Some(summary([1.0, f64::NAN, f64::INFINITY]));
        let text = serde_json::to_string(&Poll { gamma: gamma.clone(), ..last }).unwrap();
        assert!(text.contains("\"max\":null") && text.contains("\"q99\":null"), "{text}");
        assert_eq!(serde_json::from_str::<Poll>(&text).unwrap().gamma, gamma);
    }
}
