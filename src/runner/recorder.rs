// SPDX-License-Identifier: GPL-2.0-or-later
//! What rank 0 writes while the run goes on.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Error, SimulationResult, files};
use crate::candidates::{Candidate, CandidateKeys, Store, Trigger};
use crate::config::InferenceConfig;
use crate::embedding::{Environment, Novelty};
use crate::io::extxyz;
use crate::potential;
use crate::simulation::{CutOut, Poll};
use crate::verify::Verification;

/// What rank 0 writes while the run goes on.
pub(super) struct Recorder {
    pub(super) folder: PathBuf,
    polls: File,
    store: Store,
    potential_hash: String,
    source: String,
    run_id: Option<String>,
    novelty: Novelty,
    /// The last row of the store that `novelty` knows.
    known_to: i64,
}

/// Where a run stores its candidates, if not in its own folder.
#[derive(Debug, Clone)]
pub(super) struct SharedStore {
    pub(super) path: PathBuf,
    pub(super) run_id: String,
}

impl Recorder {
    pub(super) fn new(folder: &Path, config: &InferenceConfig, shared: Option<&SharedStore>) -> Result<Self, Error> {
        let extxyz = folder.join(files::EXTXYZ);
        std::fs::create_dir_all(&extxyz).map_err(|source| Error::Write { path: extxyz, source })?;
        Self::again(folder, config, shared)
    }

    /// In a folder that another process began.
    pub(super) fn again(folder: &Path, config: &InferenceConfig, shared: Option<&SharedStore>) -> Result<Self, Error> {
        let path = folder.join(files::POLLS);
        let polls = File::options().create(true).append(true).open(&path);
        let polls = polls.map_err(|source| Error::Write { path, source })?;
        Ok(Self {
            polls,
            store: Store::open(&shared.map_or_else(|| folder.join(files::CANDIDATES), |s| s.path.clone()))?,
            run_id: shared.map(|s| s.run_id.clone()),
            known_to: 0,
            potential_hash: potential::fingerprint(&config.potential).map_err(Error::Potential)?,
            source: config.structure.file_name().map_or("created".into(), |n| n.to_string_lossy().into_owned()),
            novelty: Novelty::new(config.novelty),
            folder: folder.to_owned(),
        })
    }

    pub(super) fn poll(&mut self, poll: &Poll) -> Result<(), Error> {
        let mut line = serde_json::to_vec(poll).expect("numbers and names");
        line.push(b'\n');
        // One write for each line, so that who reads along never sees half of one.
        self.polls.write_all(&line).map_err(|source| Error::Write { path: self.folder.join(files::POLLS), source })
    }

    /// Stores a cut-out; `None` if its like is stored already.
    pub(super) fn candidate(
        &mut self,
        cut_out: &CutOut,
        checked: Verification,
        gamma: Option<f64>,
        step: i64,
        trigger: Trigger,
    ) -> Result<Option<i64>, Error> {
        let cluster = &cut_out.cluster;
        let environment = Environment::of(cluster, cluster.center, cluster.cutoff);
        let candidate = Candidate {
            structure: cluster.structure.clone(),
            force_mask: cluster.force_mask.clone(),
            source_ids: cluster.source_ids.clone(),
            source_images: cluster.source_images.clone(),
            atom_gamma: cut_out.gamma.clone(),
            keys: CandidateKeys {
                gamma,
                step: Some(step),
                center: Some(cluster.center),
                center_id: Some(cluster.source_ids[cluster.center]),
                radius: Some(cluster.radius),
                buffer: Some(cluster.buffer),
                shape: Some(cluster.shape.to_string()),
                source: Some(self.source.clone()),
                potential_hash: Some(self.potential_hash.clone()),
                trigger: Some(trigger),
                run_id: self.run_id.clone(),
                gamma_parent: checked.gamma_parent,
                gamma_cluster: checked.gamma_cluster,
                max_force_difference: checked.max_force_difference,
                ..CandidateKeys::default()
            },
            labels: None,
        };
        let (novelty, known_to) = (&mut self.novelty, &mut self.known_to);
        // With what other runs have put into the same store meanwhile.
        let added = self.store.add_unless(&candidate, *known_to, |newer| {
            for row in newer {
                let structure = &row.candidate.structure;
                let center = row.keys().center.filter(|center| *center < structure.len());
                // One that is cut too small does not show what surrounded its centre.
                let reach = row.keys().radius.unwrap_or(0.0) + row.keys().buffer.unwrap_or(0.0);
                if let Some(center) = center.filter(|_| reach >= cluster.cutoff) {
                    novelty.insert(row.id, Environment::within(structure, center, cluster.cutoff));
                }
                *known_to = row.id;
            }
            novelty.seen(&environment).is_some()
        })?;
        let Some(id) = added else { return Ok(None) };
        novelty.insert(id, environment);
        *known_to = id;
        let path = self.folder.join(files::EXTXYZ).join(format!("candidate-{id:06}.extxyz"));
        let mut text = Vec::new();
        let columns = [
            extxyz::Column::real("force_mask", &candidate.force_mask),
            extxyz::Column::integer("source_id", &candidate.source_ids),
        ];
        let mut info = vec![("candidate", extxyz::Value::Integer(id)), ("step", extxyz::Value::Integer(step))];
        info.extend(gamma.map(|g| ("gamma", extxyz::Value::Real(g))));
        info.push(("center", extxyz::Value::Integer(cluster.center as i64)));
        extxyz::write(&mut text, &candidate.structure, &columns, &info)?;
        write_aside(&path, &text)?;
        Ok(Some(id))
    }

    pub(super) fn result(&self, result: &SimulationResult) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(result).expect("numbers and names");
        write_aside(&self.folder.join(files::RESULT), &text)
    }
}

/// Writes a whole file, or nothing: beside its place first, then renamed.
fn write_aside(path: &Path, content: &[u8]) -> Result<(), Error> {
    let writing = |source| Error::Write { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder).map_err(writing)?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(writing)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(writing)?;
    file.persist(path).map_err(|e| writing(e.error))?;
    Ok(())
}
