// SPDX-License-Identifier: GPL-2.0-or-later
//! Checkpoints, from which a later process continues a run.
//!
//! A checkpoint has two files: the LAMMPS restart file `checkpoint-STEP.restart`, and `checkpoint.json`, which names the
//! restart file and holds the state of the runner. The restart file is complete on the disk before `checkpoint.json` is
//! replaced atomically, and the previous restart file is removed afterwards. A process that is killed at any time therefore
//! leaves a `checkpoint.json` with a complete restart file. The first `checkpoint.json` is written when the folder is
//! created. It names no restart file, and a run that is resumed from it begins at its first step; that of a run that continues
//! another one names a copy of the other's restart file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::averages::Sums;
use super::polls::Position;
use super::{Error, files};
use crate::config::{Determines, InferenceConfig, Ramp};
use crate::potential;
use crate::script;
use crate::simulation::{BiasState, Poll};
use crate::structure::AtomId;

/// Version of the format of `checkpoint.json`.
const FORMAT: u32 = 2;

/// The content of `checkpoint.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    format: u32,
    /// Version of lammps-otf that wrote the checkpoint.
    version: String,
    /// Name of the LAMMPS restart file in the same folder; `None` before the first checkpoint.
    pub(super) restart: Option<String>,
    /// Step of the checkpoint.
    pub(super) step: i64,
    /// The first step of the run.
    pub(super) first: i64,
    /// Number of MPI ranks.
    pub(super) ranks: usize,
    /// The settings and the hashes of files that determine the trajectory.
    identity: BTreeMap<String, Value>,
    /// End of `polls.jsonl` at the checkpoint.
    pub(super) polls: Position,
    /// The last step at which the region of a flagged poll was stored.
    pub(super) last_flag: Option<i64>,
    /// Lengths in bytes of the files that the commands of the set-up append to.
    #[serde(default)]
    pub(super) files: BTreeMap<PathBuf, u64>,
    pub(super) progress: Progress,
    /// The run that this one continues.
    #[serde(default)]
    pub(super) parent: Option<Parent>,
}

/// The run that another one continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Absolute path of its folder.
    pub folder: PathBuf,
    /// The step at which it was left: that of its last checkpoint.
    pub step: i64,
    /// Number of steps that it had done.
    pub steps: i64,
    /// SHA-256 of the files of its potential.
    pub potential_hash: String,
}

/// The part of the result that accumulates over the run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) trigger_step: Option<i64>,
    /// As text, because JSON cannot represent infinity.
    pub(super) gamma_max: Option<String>,
    pub(super) atom_id: Option<AtomId>,
    pub(super) candidates: Vec<i64>,
    #[serde(default)]
    pub(super) audits: Vec<i64>,
    pub(super) flagged: u64,
    pub(super) known: u64,
    pub(super) warnings: Vec<String>,
    #[serde(default)]
    pub(super) more_warnings: u64,
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    pub(super) seconds: f64,
    pub(super) last: Option<Poll>,
    /// Sums for the averages.
    #[serde(default)]
    pub(super) sums: Sums,
    /// The state of the bias of an exploration.
    #[serde(default)]
    pub(super) bias: Option<BiasState>,
    /// Whether a region of the last poll could not be extracted.
    #[serde(default, rename = "missed")]
    pub(super) extraction_failed: bool,
}

impl Checkpoint {
    /// The checkpoint of a run that has done no step.
    pub(super) fn at_start(config: &InferenceConfig, data: &[u8], ranks: usize) -> Result<Self, Error> {
        let (version, identity) = (env!("CARGO_PKG_VERSION").into(), identity(config, data)?);
        Ok(Self { version, identity, ..Self::empty(ranks) })
    }

    /// A checkpoint without identity, for ranks other than 0, which write no checkpoints.
    pub(super) fn empty(ranks: usize) -> Self {
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
            parent: None,
        }
    }

    /// Reads the checkpoint of a folder. Returns `None` if the folder does not exist or is empty.
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
            return Err(unusable(format!(
                "the checkpoint has format {format}, written by version {version}, but this version reads format {FORMAT}"
            )));
        }
        let found: Self = serde_json::from_value(found).map_err(|e| unusable(e.to_string()))?;
        if let Some(name) = &found.restart {
            if !is_restart_name(name) {
                return Err(unusable(format!("{name:?} is not the name of a restart file in this folder")));
            }
            if !folder.join(name).is_file() {
                return Err(unusable(format!("its restart file {name} is missing")));
            }
        }
        Ok(Some(found))
    }

    /// Reads the checkpoint of another run, from which a new run continues with `config`.
    ///
    /// # Errors
    /// [`Error::NoState`] if there is no checkpoint with a restart file; [`Error::OtherAtoms`] if the settings that determine
    /// the atoms are different; [`Error::NoStepsLeft`]; [`Error::ActsOnce`].
    pub(super) fn of_parent(folder: &Path, config: &InferenceConfig, data: &[u8]) -> Result<Self, Error> {
        let no_state = || Error::NoState(folder.to_owned());
        let found = match Self::read(folder) {
            Ok(found) => found.filter(|found| found.restart.is_some()).ok_or_else(no_state)?,
            Err(Error::NoCheckpoint(_)) => return Err(no_state()),
            Err(error) => return Err(error),
        };
        let now = settings(config, data);
        let is_different = |key: &&str| found.identity.get(*key) != now.get(*key);
        let what: Vec<&str> = ["structure", "elements", "units", "create"].into_iter().filter(is_different).collect();
        if !what.is_empty() {
            return Err(Error::OtherAtoms { folder: folder.to_owned(), what });
        }
        let (done, steps) = (found.step - found.first, config.md.steps);
        if steps as i64 <= done {
            return Err(Error::NoStepsLeft { folder: folder.to_owned(), done, steps });
        }
        // What acts at the start of a run is part of the state that is continued.
        let earlier: Vec<String> =
            found.identity.get("setup").and_then(|lines| Vec::deserialize(lines).ok()).unwrap_or_default();
        let earlier = script::commands_that_act_once(&earlier);
        let commands = script::commands_that_act_once(&config.system.setup).into_iter();
        let commands = commands.filter(|command| !earlier.contains(command)).map(|command| format!("`{command}`"));
        let settings = ["minimize", "velocities"].into_iter().filter(is_different).map(|key| format!("`{key}`"));
        let what: Vec<String> = settings.chain(commands).collect();
        if what.is_empty() { Ok(found) } else { Err(Error::ActsOnce { folder: folder.to_owned(), what }) }
    }

    /// This checkpoint as that of the run in `folder` that another one continues.
    pub(super) fn as_parent(&self, folder: &Path) -> Parent {
        let potential = self.identity.get("potential").and_then(Value::as_str).unwrap_or_default();
        Parent {
            folder: absolute(folder),
            step: self.step,
            steps: self.step - self.first,
            potential_hash: potential.to_owned(),
        }
    }

    /// This checkpoint, the first of a run, for a run that continues `parent`.
    pub(super) fn continuing(self, parent: Parent) -> Self {
        let (restart, step, first) = (Some(restart_name(parent.step)), parent.step, parent.step - parent.steps);
        Self { restart, step, first, parent: Some(parent), ..self }
    }

    /// Checks that this is the checkpoint of a run in `folder` that continues the one in `parent`.
    ///
    /// # Errors
    /// [`Error::OtherParent`].
    pub(super) fn check_parent(&self, folder: &Path, parent: &Path) -> Result<(), Error> {
        let own = self.parent.as_ref().map(|own| &own.folder);
        if own == Some(&absolute(parent)) {
            return Ok(());
        }
        Err(Error::OtherParent { folder: folder.to_owned(), parent: parent.to_owned() })
    }

    /// Compares the configuration with that of the run that wrote the checkpoint.
    ///
    /// # Errors
    /// [`Error::Changed`] if a setting or a file that determines the trajectory is different.
    pub(super) fn check(&self, config: &InferenceConfig, data: &[u8], folder: &Path) -> Result<(), Error> {
        let now = identity(config, data)?;
        // Earlier versions included the table [loop].
        let stored = self.identity.keys().filter(|key| *key != "loop");
        let keys: std::collections::BTreeSet<&String> = stored.chain(now.keys()).collect();
        let show = |value: Option<&Value>| value.map_or("absent".to_owned(), ToString::to_string);
        let what: Vec<String> = keys
            .into_iter()
            .filter(|key| self.identity.get(*key) != now.get(*key))
            .map(|key| match key.as_str() {
                "structure" | "potential" => format!("the content of `{key}` is different"),
                "template" => "the text of `template` is different".into(),
                _ => format!("`{key}` was {} and is now {}", show(self.identity.get(key)), show(now.get(key))),
            })
            .collect();
        if what.is_empty() { Ok(()) } else { Err(Error::Changed { folder: folder.to_owned(), what }) }
    }
}

/// The settings and the hashes of files that determine the trajectory. `data` is the text of the data file that LAMMPS reads.
fn identity(config: &InferenceConfig, data: &[u8]) -> Result<BTreeMap<String, Value>, Error> {
    let mut identity = settings(config, data);
    let constant = |ramp: Ramp| ramp.start() == ramp.end();
    if constant(config.md.temperature) && constant(config.md.pressure) {
        // The number of steps changes the trajectory only through a ramp.
        identity.remove("steps");
    }
    identity
        .insert("potential".into(), potential::fingerprint(&config.system.potential).map_err(Error::Potential)?.into());
    if let Some(template) = &config.system.template {
        // A template that cannot be read was reported when it was rendered.
        identity.insert("template".into(), digest(&std::fs::read(template).unwrap_or_default()).into());
    }
    Ok(identity)
}

/// The settings that determine the trajectory, with the content of the structure instead of its path.
fn settings(config: &InferenceConfig, data: &[u8]) -> BTreeMap<String, Value> {
    let mut settings: BTreeMap<String, Value> =
        config.settings_that_determine(Determines::Trajectory).into_iter().collect();
    settings.insert("structure".into(), digest(data).into());
    settings
}

fn absolute(folder: &Path) -> PathBuf {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Name of the restart file of a step.
pub(super) fn restart_name(step: i64) -> String {
    format!("checkpoint-{step}.restart")
}

/// Whether a name has the form that [`restart_name`] returns.
pub(super) fn is_restart_name(name: &str) -> bool {
    let step = name.strip_prefix("checkpoint-").and_then(|rest| rest.strip_suffix(".restart"));
    step.is_some_and(|step| step.parse::<i64>().is_ok())
}

/// Whether LAMMPS can write a restart file in this folder. LAMMPS expands `*` and `%` in the name.
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
    use crate::uncertainty::{CoreSummary, LocalGamma, SparseSummary, Thresholds, Verdict};

    /// γ of three atoms.
    fn summary(values: [f64; 3]) -> crate::uncertainty::GammaSummary {
        let (ids, types, positions) = (ndarray::arr1(&[1_i64, 2, 3]), ndarray::arr1(&[1, 1, 1]), Array2::zeros((3, 3)));
        let atoms = AtomsView { positions: positions.view(), ids: ids.view().into(), types: types.view() };
        let here = LocalGamma::of(ndarray::arr1(&values).view(), atoms, Thresholds { low: 2.0, high: 5.0 });
        let extremes = here.extremes();
        here.reduce(extremes, &Comm::single()).0
    }

    #[test]
    fn a_checkpoint_with_values_that_are_not_finite_is_read_back() {
        let last = Poll {
            force_error: None,
            format: PollFormat,
            step: 40,
            steps: 40,
            time: 0.04,
            temperature: 300.5,
            pressure: 1.5,
            potential_energy: -2.5,
            volume: 100.0,
            density: 2.7,
            cell: [[4.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]],
            pressure_tensor: Some([1.5; 6]),
            gamma_by_element: [("Al".to_owned(), 3.75)].into(),
            ns_per_day: Some(1.25),
            total_energy: -1.5,
            gamma: Some(summary([0.25, 1.5, 3.75])),
            core: Some(CoreSummary { max: 0.25, worst_id: Some(2), above: 1 }),
            sparse: Some(SparseSummary { atoms: 0, fewest: None, fewest_id: None }),
            verdict: Verdict::Flagged,
            bias: None,
            trigger: None,
            seconds: 0.125,
        };
        let progress = Progress { seconds: 1.5, last: Some(last.clone()), ..Progress::default() };
        super::reads_back::reads_back(&Checkpoint { progress, ..Checkpoint::empty(1) });
        // Two of the three values are not finite, so the quantiles are not finite either.
        let gamma = Some(summary([1.0, f64::NAN, f64::INFINITY]));
        let text = serde_json::to_string(&Poll { gamma: gamma.clone(), ..last }).unwrap();
        assert!(text.contains("\"max\":null") && text.contains("\"q99\":null"), "{text}");
        assert_eq!(serde_json::from_str::<Poll>(&text).unwrap().gamma, gamma);
    }
}
