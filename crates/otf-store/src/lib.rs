// SPDX-License-Identifier: GPL-2.0-or-later
//! The candidate store: a database of cut-outs and their labels that is readable by ASE.
//!
//! A [`Store`] is an ASE database (SQLite, schema 9): `ase db candidates.db` lists it, and `ase.db.connect` reads and
//! writes it, also while a run adds candidates. Data without a column in ASE's schema are in `row.data`:
//!
//! | `row.data[...]` | type | meaning |
//! |---|---|---|
//! | `force_mask` | `float64` (n) | 1 for core atoms, whose forces are used for training, 0 for the buffer |
//! | `source_id` | `int32` (n), or `int64` if an id needs it | id of the atom in the parent frame |
//! | `source_image` | `int32` (n, 3) | periodic image of the atom in the parent frame |
//! | `atom_gamma` | `float64` (n) | extrapolation grade in the parent frame, if available |
//! | `force_error` | `float64` (n) | norm of label minus prediction, eV/Å, of the potential that ran; NaN in the buffer |
//! | `force_error_newest` | `float64` (n) | the same of the newest potential |
//! | `atom_core_share` | `float64` (n) | core share in the parent frame; only if that of an atom is above 0 |
//! | `error_log` | text | output of the oracle if it failed |
//! | `stored_atoms` | dictionary | the atoms to which these data belong: `numbers`, `positions`, `cell`, `pbc` |
//!
//! The arrays are in the order of `stored_atoms`. A program that writes a label can write the atoms in another order or
//! wrapped into the cell: when a row is read, the atoms and forces are returned in the stored order. If an atom has moved
//! by more than 1e-4 Å, or if elements, cell or periodic directions differ, the label belongs to another structure. It is
//! then not read, and [`StoredCandidate::mismatch`] gives the reason. Rows of older versions have no `stored_atoms`. For
//! them, the elements in their order are compared, and the core atoms must lie within the radius of the core.
//!
//! The energy and the stress of a cut-out are not bulk values, so the keys `energy_weight` and `stress_weight` are 0.
//! Each export format represents these weights in the form of its trainer.
//!
//! # Durability and locking
//! - The database uses a rollback journal, not WAL: there is one additional file during a change, and none afterwards.
//!   Readers require neither write permission nor shared memory, so network file systems with working locks (NFSv4, Lustre
//!   with `flock`) are supported. A database that was switched to WAL is not changed back.
//! - `synchronous = EXTRA`: when [`Store::add`] returns, the candidates and the directory entry have been written to the
//!   disk and survive `kill -9` and power loss. A change costs about five `fsync`s (5 to 50 ms on a disk), independent of
//!   the number of candidates in one call of [`Store::add`].
//! - A change of an existing row holds a write transaction *and* ASE's lock file (`candidates.db.lock`); `lock.rs`
//!   explains why both are required. Adding rows requires the transaction only, so a run never waits for a worker. A lock
//!   file whose owner was killed is removed immediately if the owner was a lammps-otf process, and after
//!   [`StoreOptions::stale_lock_after`] if it was ASE.
//!
//! # A worker in Python
//! A worker requires `ase.db` only. Two workers never claim the same row if they select and mark it while they hold ASE's
//! lock, with a second connection that does not take the lock again:
//! ```python
//! from ase.db import connect
//! db, plain = connect("candidates.db"), connect("candidates.db", use_lock_file=False)
//! with db.lock:
//!     row = next(plain.select(status="PENDING_DFT", limit=1, sort="id"), None)
//!     if row is not None:
//!         plain.update(row.id, status="RUNNING_DFT", worker="me-1")
//! # ... atoms = row.toatoms(); atoms.calc = ...; atoms.get_forces() ...
//! db.update(row.id, atoms=atoms, status="DONE")      # or status="FAILED", message="..."
//! ```
//! `atoms` must be the same atoms in the same cell, in any order. Programs that read such a row with ASE must note that
//! `row.data` is in the order of `row.data["stored_atoms"]["positions"]`.

#![forbid(unsafe_code)]

mod ase_db;
pub mod blob;
mod error;
mod errors;
pub mod export;
mod identity;
pub mod json;
mod keys;
mod lock;
mod status;
mod store;

pub use ase_db::{SCHEMA_VERSION, data_names};
pub use error::StoreError;
pub use errors::{ErrorOf, LabelErrors, outliers, suspects};
pub use identity::recover_order;
pub use keys::{KeyValue, Keys};
pub use status::{Status, UnknownStatus};
pub use store::{
    AUDIT_TRAINED, AuditResult, CheckResult, CheckSummary, EnergyDifference, Phase, PotentialRecord, Round,
    RoundOutcome, RoundSeconds, RunState, Store, StoreOptions, StoredCandidate, Summary,
};

use ndarray::Array2;
use otf_atoms::structure::{AtomId, Structure};

/// A cut-out or another structure to be labelled.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The atoms and their cell.
    pub structure: Structure,
    /// Weight of the force on each atom in training: 1 in the core, 0 in the buffer; shape (n).
    pub force_mask: Vec<f64>,
    /// Id of each atom in the parent frame; shape (n).
    pub source_ids: Vec<AtomId>,
    /// Periodic image of each atom in the parent frame; shape (n, 3).
    pub source_images: Vec<[i32; 3]>,
    /// Extrapolation grade of each atom in the parent frame, if available; shape (n).
    pub atom_gamma: Option<Vec<f64>>,
    /// Share of each atom's terms that core repulsion switched off in the parent frame, if that of an atom was above 0; shape (n).
    pub atom_core_share: Option<Vec<f64>>,
    /// Origin and properties.
    pub keys: CandidateKeys,
    /// The label (energy and forces), if computed.
    pub labels: Option<Labels>,
}

impl Candidate {
    /// A candidate with force mask 1 for all atoms and without keys and labels.
    #[must_use]
    pub fn new(structure: Structure) -> Self {
        let n = structure.len();
        let source_ids = structure.ids.to_vec();
        let keys = CandidateKeys::default();
        let source_images = vec![[0; 3]; n];
        Self {
            structure,
            force_mask: vec![1.0; n],
            source_ids,
            source_images,
            atom_gamma: None,
            atom_core_share: None,
            keys,
            labels: None,
        }
    }
}

/// The label of a candidate, with the units and signs of ASE.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// Total energy, eV.
    pub energy: f64,
    /// Free energy (consistent with the forces for smeared occupations), eV.
    pub free_energy: Option<f64>,
    /// Forces, eV/Å; shape (n, 3).
    pub forces: Array2<f64>,
    /// Stress, eV/Å³, in the order xx, yy, zz, yz, xz, xy; positive under tension.
    pub stress: Option<[f64; 6]>,
    /// Name of the calculator, for example `gpaw`.
    pub calculator: Option<String>,
}

impl Labels {
    /// Norm of the largest force, eV/Å; 0 without atoms.
    #[must_use]
    pub fn largest_force(&self) -> f64 {
        let norm = |force: ndarray::ArrayView1<'_, f64>| force.iter().map(|x| x * x).sum::<f64>().sqrt();
        self.forces.rows().into_iter().map(norm).fold(0.0, f64::max)
    }
}

impl Labels {
    /// Checks that the labels are finite and have forces for `n` atoms.
    ///
    /// # Errors
    /// A message with the first problem.
    fn check(&self, n: usize) -> Result<(), String> {
        if self.forces.dim() != (n, 3) {
            return Err(format!("the forces have the shape {:?} for {n} atoms", self.forces.dim()));
        }
        if let Some(index) = self.forces.outer_iter().position(|force| !force.iter().all(|x| x.is_finite())) {
            return Err(format!("the force on atom {index} (from 0) is not finite"));
        }
        let energies = [self.energy, self.free_energy.unwrap_or(0.0)];
        if !energies.iter().chain(&self.stress.unwrap_or_default()).all(|x| x.is_finite()) {
            return Err("the energy or the stress is not finite".into());
        }
        Ok(())
    }
}

/// The reason for which a run stored a structure; the text key `trigger`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// An event: the extrapolation grade exceeded the threshold.
    Gamma,
    /// An event: core repulsion switched off more of the terms of an atom than the limit.
    Core,
    /// An event: an atom had fewer neighbours than the limit.
    Sparse,
    /// A crash of the run; the structure is from the last valid frame.
    Crash,
    /// The extrapolation grade exceeded the lower threshold, and the run continued.
    Flag,
    /// An audit: a region below the threshold, drawn at random. Its label measures the error of the potential and is not trained on.
    Audit,
    /// A check structure of a loop. Its label measures the errors of each potential.
    Check,
    /// Another reason.
    Other(String),
}

impl Trigger {
    /// The text in the database.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Gamma => "gamma",
            Self::Core => "core",
            Self::Sparse => "sparse",
            Self::Crash => "crash",
            Self::Flag => "flag",
            Self::Audit => "audit",
            Self::Check => "check",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for Trigger {
    fn from(text: &str) -> Self {
        match text {
            "gamma" => Self::Gamma,
            "core" => Self::Core,
            "sparse" => Self::Sparse,
            "crash" => Self::Crash,
            "flag" => Self::Flag,
            "audit" => Self::Audit,
            "check" => Self::Check,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// Properties of a candidate. Each field is a key of the same name that `ase db` can search.
///
/// Numbers that are not finite, such as γ of an invalid frame, are not stored. A text that can be parsed as a number is
/// rejected by ASE and therefore stored in quotation marks: a run called 2024 has `source="2024"`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CandidateKeys {
    /// Extrapolation grade of the centre at the event.
    pub gamma: Option<f64>,
    /// Share of the terms of the centre that core repulsion switched off at the event, 0 to 1.
    pub core_share: Option<f64>,
    /// Timestep of the run.
    pub step: Option<i64>,
    /// Index of the centre atom, from 0.
    pub center: Option<usize>,
    /// Id of the centre atom in the parent frame. It is exact when a row is read; a search by ASE compares it as a `float64`,
    /// which rounds ids above 2⁵³.
    pub center_id: Option<AtomId>,
    /// Radius of the core, Å.
    pub radius: Option<f64>,
    /// Width of the buffer around the core, Å.
    pub buffer: Option<f64>,
    /// Shape of the cut-out, `sphere` or `cube`.
    pub shape: Option<String>,
    /// The run or the structure from which it was extracted.
    pub source: Option<String>,
    /// SHA-256 of the potential, with the prefix `sha256:` (bare digits can be parsed as a number).
    pub potential_hash: Option<String>,
    /// The reason for which it was stored.
    pub trigger: Option<Trigger>,
    /// Identifier of the run.
    pub run_id: Option<String>,
    /// γ of the centre from a single evaluation of the parent frame.
    pub gamma_parent: Option<f64>,
    /// γ of the centre from a single evaluation of the candidate.
    pub gamma_cluster: Option<f64>,
    /// Change of `gamma_cluster` by rounding alone; available if it differs from `gamma_parent`.
    pub gamma_rounding: Option<f64>,
    /// Largest difference of a force component between parent frame and candidate over core atoms, eV/Å.
    pub max_force_difference: Option<f64>,
    /// Weight of the energy in training. `None` is stored as 0, as required for cut-outs.
    pub energy_weight: Option<f64>,
    /// Weight of the stress in training. `None` is stored as 0, as required for cut-outs.
    pub stress_weight: Option<f64>,
    /// Any other keys.
    pub extra: Keys,
}

impl CandidateKeys {
    /// The keys of a structure that is labelled as a whole: its energy is learned, and its stress too if it is periodic in all
    /// directions.
    #[must_use]
    pub fn of_whole(structure: &Structure) -> Self {
        let stress_weight = (structure.cell.pbc == [true; 3]).then_some(1.0);
        Self { energy_weight: Some(1.0), stress_weight, ..Self::default() }
    }

    /// The keys as ASE stores them.
    #[must_use]
    pub fn to_pairs(&self) -> Keys {
        let int = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let text = |value: &Option<String>| value.as_deref().map(|text| KeyValue::Text(keys::quote_number(text)));
        let float = |value: Option<f64>| value.filter(|value| value.is_finite()).map(KeyValue::from);
        let fields = [
            ("gamma", float(self.gamma)),
            ("core_share", float(self.core_share)),
            ("step", self.step.map(KeyValue::from)),
            ("center", self.center.map(int).map(KeyValue::from)),
            ("center_id", self.center_id.map(KeyValue::from)),
            ("radius", float(self.radius)),
            ("buffer", float(self.buffer)),
            ("shape", text(&self.shape)),
            ("source", text(&self.source)),
            ("potential_hash", text(&self.potential_hash)),
            ("trigger", self.trigger.as_ref().map(|trigger| KeyValue::Text(keys::quote_number(trigger.as_str())))),
            ("run_id", text(&self.run_id)),
            ("gamma_parent", float(self.gamma_parent)),
            ("gamma_cluster", float(self.gamma_cluster)),
            ("gamma_rounding", float(self.gamma_rounding)),
            ("max_force_difference", float(self.max_force_difference)),
            ("energy_weight", float(self.energy_weight.or(Some(0.0)))),
            ("stress_weight", float(self.stress_weight.or(Some(0.0)))),
        ];
        let fields = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        self.extra.iter().map(|(key, value)| (key.clone(), value.clone())).chain(fields).collect()
    }

    /// The keys of a row. Keys with an unexpected type are in `extra`.
    #[must_use]
    pub fn from_pairs(pairs: &Keys) -> Self {
        let mut extra = pairs.clone();
        for own in store::WORKFLOW_KEYS {
            extra.remove(own);
        }
        fn take<T>(extra: &mut Keys, key: &str, read: impl FnOnce(&KeyValue) -> Option<T>) -> Option<T> {
            let value = extra.get(key).and_then(read)?;
            extra.remove(key);
            Some(value)
        }
        let text = |value: &KeyValue| value.as_text().map(|text| keys::unquote_number(text).to_owned());
        Self {
            gamma: take(&mut extra, "gamma", KeyValue::as_f64),
            core_share: take(&mut extra, "core_share", KeyValue::as_f64),
            step: take(&mut extra, "step", KeyValue::as_i64),
            center: take(&mut extra, "center", |value| usize::try_from(value.as_i64()?).ok()),
            center_id: take(&mut extra, "center_id", KeyValue::as_i64),
            radius: take(&mut extra, "radius", KeyValue::as_f64),
            buffer: take(&mut extra, "buffer", KeyValue::as_f64),
            shape: take(&mut extra, "shape", text),
            source: take(&mut extra, "source", text),
            potential_hash: take(&mut extra, "potential_hash", text),
            trigger: take(&mut extra, "trigger", |value| value.as_text().map(Trigger::from)),
            run_id: take(&mut extra, "run_id", text),
            gamma_parent: take(&mut extra, "gamma_parent", KeyValue::as_f64),
            gamma_cluster: take(&mut extra, "gamma_cluster", KeyValue::as_f64),
            gamma_rounding: take(&mut extra, "gamma_rounding", KeyValue::as_f64),
            max_force_difference: take(&mut extra, "max_force_difference", KeyValue::as_f64),
            energy_weight: take(&mut extra, "energy_weight", KeyValue::as_f64),
            stress_weight: take(&mut extra, "stress_weight", KeyValue::as_f64),
            extra,
        }
    }
}
