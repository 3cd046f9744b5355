// SPDX-License-Identifier: GPL-2.0-or-later
//! Labels of other loops, which are trained on together with those of this loop, so that nothing is forgotten.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ledger::Ledger;
use super::{Error, LoopConfig, files};
use crate::candidates::{AUDIT_TRAINED, Candidate, KeyValue, Phase, Status, Store, StoredCandidate, Trigger};
use crate::config::Potential;
use crate::potential::fingerprint;

/// The key of an imported row: the store that its label was computed in, and its id there.
pub(super) const IMPORTED: &str = "imported_from";

/// The keys of a row that another loop has written and that have no meaning in this one.
const KEYS_OF_LOOP: [&str; 8] = [
    super::ledger::ROUND,
    super::ledger::RUN,
    "force_rmse_core",
    "force_max_core",
    "energy_error",
    "force_rmse_newest",
    "force_max_newest",
    "energy_error_newest",
];

impl Ledger {
    /// Copies the labelled candidates of other stores, if the loop has just been started. Returns how many of which store.
    ///
    /// # Errors
    /// If a store cannot be read.
    pub(super) fn import_labels(
        &mut self,
        settings: &LoopConfig,
        initial: &Potential,
    ) -> Result<Vec<(PathBuf, usize)>, Error> {
        let is_new = self.round.number == 1 && self.round.phase == Phase::Explore;
        if !is_new || self.store.summaries(None)?.iter().any(|row| row.keys.contains_key(IMPORTED)) {
            return Ok(Vec::new());
        }
        let stores = match &settings.labels {
            Some(paths) => paths.clone(),
            None => store_of(initial, &self.folder).into_iter().collect(),
        };
        let (mut imported, mut all) = (Vec::new(), Vec::new());
        let mut origins = BTreeSet::new();
        for path in stores {
            let mut rows = labelled(&path)?;
            // A store may contain labels that were imported from another one of these.
            rows.retain(|row| origins.insert(row.keys.extra.get(IMPORTED).map(ToString::to_string)));
            imported.push((path, rows.len()));
            all.extend(rows);
        }
        // One transaction, so that a killed process has imported all of them or none.
        self.store.add(&all)?;
        Ok(imported)
    }
}

/// The store of the loop that has made a potential: that of one of the three folders around its file.
fn store_of(potential: &Potential, own: &Path) -> Option<PathBuf> {
    let (file, _) = potential.pace_files()?;
    let hash = fingerprint(potential).ok()?;
    let stores =
        file.ancestors().skip(1).take(3).filter(|folder| *folder != own).map(|folder| folder.join(files::CANDIDATES));
    stores.filter(|path| path.is_file()).find(|path| {
        // A file of another program with this name is not a store.
        Store::open_read_only(path).is_ok_and(|store| store.potential(&hash).is_ok_and(|found| found.is_some()))
    })
}

/// The labelled candidates of a store, without checks.
fn labelled(path: &Path) -> Result<Vec<Candidate>, Error> {
    let store = Store::open_read_only(path)?;
    let mut found = Vec::new();
    for row in store.iter(Some(Status::Done))? {
        let row = row?;
        if row.is_labelled() && !row.is_check() {
            found.push(imported(row, path));
        }
    }
    Ok(found)
}

fn imported(row: StoredCandidate, path: &Path) -> Candidate {
    let mut keys = row.candidate.keys;
    keys.extra.retain(|key, _| !KEYS_OF_LOOP.contains(&key.as_str()));
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let origin = || KeyValue::from(format!("{}#{}", path.display(), row.id));
    keys.extra.entry(IMPORTED.into()).or_insert_with(origin);
    // Audits of another loop are of other structures, and do not measure errors in this one.
    if keys.trigger == Some(Trigger::Audit) {
        keys.extra.insert(AUDIT_TRAINED.into(), KeyValue::Int(1));
    }
    Candidate { keys, ..row.candidate }
}
