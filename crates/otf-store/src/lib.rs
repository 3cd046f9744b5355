// SPDX-License-Identifier: GPL-2.0-or-later
//! The candidate store: cut-outs that wait for a label, in a database that ASE reads.
//!
//! A [`Store`] is an ASE database (SQLite, schema 9): `ase db candidates.db` lists it, `ase.db.connect` reads and
//! writes it, also while a run adds to it. What ASE has no place for stands in `row.data`:
//!
//! | `row.data[...]` | type | meaning |
//! |---|---|---|
//! | `force_mask` | `float64` (n) | 1 for atoms whose forces are to be learned, 0 for the buffer |
//! | `source_id` | `int32` (n) | id of the parent in the frame it was cut from |
//! | `source_image` | `int32` (n, 3) | periodic image of the parent |
//! | `atom_gamma` | `float64` (n) | extrapolation grade in that frame, where known |
//! | `error_log` | text | what the labelling program said when it failed |
//! | `stored_atoms` | dictionary | the atoms to which all of this belongs: `numbers`, `positions`, `cell`, `pbc` |
//!
//! The arrays belong to the atoms of `stored_atoms`, in their order. Whoever writes a label may write the atoms back in
//! another order, or wrapped into the cell: a row is read in the order that was stored, its forces too. Atoms that were
//! moved (by more than 1e-4 Å), other elements, another cell or other periodic directions make the label that of
//! another structure: it is not read, [`StoredCandidate::mismatch`] says why, and nothing uses it. Rows of versions
//! that wrote no `stored_atoms` are checked for what can be told: the elements in their order, and that the core lies
//! within its radius of the centre.
//!
//! The energy and the stress of a cut-out are no bulk values, so the keys `energy_weight` and `stress_weight` are 0,
//! and the exports pass that on in the form that each trainer knows.
//!
//! # Durability and locking
//! - Rollback journal, not WAL: one file beside the database while a change is made, none afterwards; readers need no
//!   write permission and no shared memory, so it works on network file systems whose locks work (NFSv4, Lustre with
//!   `flock`). A database that somebody has switched to WAL is left as it is.
//! - `synchronous = EXTRA`: when [`Store::add`] returns, the candidate has been written to the disk together with the
//!   folder's entry, and survives `kill -9` and power loss. A change costs about five `fsync`s (5 to 50 ms on a disk),
//!   however many candidates [`Store::add`] is given at once.
//! - Whoever changes an existing row holds a write transaction *and* ASE's lock file (`candidates.db.lock`); see
//!   `lock.rs` for why both are needed. Adding rows needs the transaction only, so a run never waits for a worker.
//!   A lock file whose owner was killed is removed at once if it was a lammps-otf process, and after
//!   [`StoreOptions::stale_lock_after`] if it was ASE.
//!
//! # A worker in Python
//! `ase.db` alone is enough. Two workers never take the same row if they select and mark it under ASE's own lock,
//! with a second connection that does not take it again:
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
//! `atoms` holds the same atoms in the same cell; their order does not matter. For who reads such a row with ASE it
//! does: `row.data` is in the order of `row.data["stored_atoms"]["positions"]`.

#![forbid(unsafe_code)]

mod ase_db;
pub mod blob;
mod error;
pub mod export;
mod identity;
pub mod json;
mod keys;
mod lock;
mod status;
mod store;

pub use ase_db::{SCHEMA_VERSION, data_names};
pub use error::StoreError;
pub use identity::order_of;
pub use keys::{KeyValue, Keys};
pub use status::{Status, UnknownStatus};
pub use store::{
    Checked, Phase, PotentialRecord, Round, RoundSeconds, Seen, Store, StoreOptions, StoredCandidate, Summary,
};

use ndarray::Array2;
use otf_atoms::structure::Structure;

/// A cut-out, or any other structure, that is to be labelled.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The atoms and their cell.
    pub structure: Structure,
    /// Weight of each atom's force in training: 1 in the core, 0 in the buffer; length n.
    pub force_mask: Vec<f64>,
    /// Id of each atom's parent in the frame it was cut from; length n.
    pub source_ids: Vec<i32>,
    /// Periodic image of the parent from which the atom was taken; length n.
    pub source_images: Vec<[i32; 3]>,
    /// Extrapolation grade of each atom in the frame it was cut from, where known; length n.
    pub atom_gamma: Option<Vec<f64>>,
    /// Where it comes from and what is known of it.
    pub keys: CandidateKeys,
    /// Energy and forces, once computed.
    pub labels: Option<Labels>,
}

impl Candidate {
    /// A structure of which every force counts, and of which nothing else is known.
    #[must_use]
    pub fn new(structure: Structure) -> Self {
        let n = structure.len();
        let source_ids = structure.ids.to_vec();
        let keys = CandidateKeys::default();
        let source_images = vec![[0; 3]; n];
        Self { structure, force_mask: vec![1.0; n], source_ids, source_images, atom_gamma: None, keys, labels: None }
    }
}

/// The reference values of a candidate, in the units and with the signs of ASE.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// Total energy, eV.
    pub energy: f64,
    /// Free energy (consistent with the forces where electrons are smeared), eV.
    pub free_energy: Option<f64>,
    /// Forces, eV/Å; shape (n, 3).
    pub forces: Array2<f64>,
    /// Stress, eV/Å³, in the order xx, yy, zz, yz, xz, xy; positive under tension.
    pub stress: Option<[f64; 6]>,
    /// What computed them, for instance `gpaw`.
    pub calculator: Option<String>,
}

impl Labels {
    /// Length of the largest force, eV/Å; 0 without atoms.
    #[must_use]
    pub fn largest_force(&self) -> f64 {
        let norm = |force: ndarray::ArrayView1<'_, f64>| force.iter().map(|x| x * x).sum::<f64>().sqrt();
        self.forces.rows().into_iter().map(norm).fold(0.0, f64::max)
    }
}

impl Labels {
    /// Checks that the labels are finite and fit `n` atoms; a text says what is wrong.
    fn check(&self, n: usize) -> Result<(), String> {
        if self.forces.dim() != (n, 3) {
            return Err(format!("there are {n} atoms, but the forces have the shape {:?}", self.forces.dim()));
        }
        if let Some(index) = self.forces.outer_iter().position(|force| !force.iter().all(|x| x.is_finite())) {
            return Err(format!("the force on atom {index} (counted from 0) is not finite"));
        }
        let energies = [self.energy, self.free_energy.unwrap_or(0.0)];
        if !energies.iter().chain(&self.stress.unwrap_or_default()).all(|x| x.is_finite()) {
            return Err("the energy or the stress is not finite".into());
        }
        Ok(())
    }
}

/// What made a run set a structure aside; the text key `trigger`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// The extrapolation grade passed the threshold.
    Gamma,
    /// The run broke down; this is its last valid frame.
    Crash,
    /// The extrapolation grade passed the lower threshold, and the run went on.
    Flag,
    /// Something else.
    Other(String),
}

impl Trigger {
    /// The text in the database.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Gamma => "gamma",
            Self::Crash => "crash",
            Self::Flag => "flag",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for Trigger {
    fn from(text: &str) -> Self {
        match text {
            "gamma" => Self::Gamma,
            "crash" => Self::Crash,
            "flag" => Self::Flag,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// What is known of a candidate; each field is a key of the same name that `ase db` can search.
///
/// Numbers that are not finite (γ of a broken frame) are left out. A text that reads as a number, which ASE refuses,
/// stands in quotation marks in the database: a run called 2024 has `source="2024"`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CandidateKeys {
    /// Extrapolation grade of the centre when it was found.
    pub gamma: Option<f64>,
    /// Timestep of the run.
    pub step: Option<i64>,
    /// Index of the centre atom, from 0.
    pub center: Option<usize>,
    /// Id of the centre atom in the frame it was cut from.
    pub center_id: Option<i32>,
    /// Radius of the core, Å.
    pub radius: Option<f64>,
    /// Width of the buffer around the core, Å.
    pub buffer: Option<f64>,
    /// How it was cut, `sphere` or `cube`.
    pub shape: Option<String>,
    /// The run or the structure it comes from.
    pub source: Option<String>,
    /// SHA-256 of the potential, best as `sha256:` and the digits (bare digits may read as a number).
    pub potential_hash: Option<String>,
    /// What set it aside.
    pub trigger: Option<Trigger>,
    /// The run, if it has a name of its own.
    pub run_id: Option<String>,
    /// γ of the centre by one evaluation of the frame it was cut from.
    pub gamma_parent: Option<f64>,
    /// γ of the centre by one evaluation of the candidate itself.
    pub gamma_cluster: Option<f64>,
    /// What rounding alone changes in that γ; known where it differs from the one of the frame.
    pub gamma_rounding: Option<f64>,
    /// Largest difference of a force component between frame and candidate, over atoms with force mask 1, eV/Å.
    pub max_force_difference: Option<f64>,
    /// Weight of the energy in training. `None` is stored as 0, right for cut-outs.
    pub energy_weight: Option<f64>,
    /// Weight of the stress in training. `None` is stored as 0, right for cut-outs.
    pub stress_weight: Option<f64>,
    /// Any other keys.
    pub extra: Keys,
}

impl CandidateKeys {
    /// The keys as ASE stores them.
    #[must_use]
    pub fn to_pairs(&self) -> Keys {
        let int = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let text = |value: &Option<String>| value.as_deref().map(|text| KeyValue::Text(keys::quote_number(text)));
        let float = |value: Option<f64>| value.filter(|value| value.is_finite()).map(KeyValue::from);
        let known = [
            ("gamma", float(self.gamma)),
            ("step", self.step.map(KeyValue::from)),
            ("center", self.center.map(int).map(KeyValue::from)),
            ("center_id", self.center_id.map(i64::from).map(KeyValue::from)),
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
        let known = known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        self.extra.iter().map(|(key, value)| (key.clone(), value.clone())).chain(known).collect()
    }

    /// The keys of a row; what has another type than expected is among `extra`.
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
            step: take(&mut extra, "step", KeyValue::as_i64),
            center: take(&mut extra, "center", |value| usize::try_from(value.as_i64()?).ok()),
            center_id: take(&mut extra, "center_id", |value| i32::try_from(value.as_i64()?).ok()),
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
