// SPDX-License-Identifier: GPL-2.0-or-later
//! What rank 0 writes while the run goes on.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::checkpoint::{Checkpoint, Progress, is_restart_name, restart_name};
use super::polls::Polls;
use super::{Error, SimulationResult, files};
use crate::candidates::{Candidate, CandidateKeys, KeyValue, Store, StoredCandidate, Trigger};
use crate::config::InferenceConfig;
use crate::embedding::{Environment, Novelty};
use crate::io::extxyz;
use crate::potential;
use crate::simulation::{CutOut, Poll};
use crate::verify::Verification;

/// A file that stands for the room that the last candidate and the result need when the disk is full.
const RESERVE: &str = ".reserve";
/// Its size in bytes.
const RESERVED: usize = 1 << 20;
/// The key of candidates with more atoms than `max_atoms`.
const OVERSIZED: &str = "oversized";
/// How the names of files begin that are written aside.
const WRITING: &str = ".writing-";

/// Where a candidate stands as extended XYZ, in the run's folder.
pub(super) fn extxyz_of(id: i64) -> PathBuf {
    Path::new(files::EXTXYZ).join(format!("candidate-{id:06}.extxyz"))
}

/// What rank 0 writes while the run goes on.
pub(super) struct Recorder {
    folder: PathBuf,
    polls: Polls,
    /// That of the last poll.
    line: Vec<u8>,
    /// Locked, on rank 0, as long as the run goes on.
    _lock: Option<File>,
    store: Store,
    commit_seconds: f64,
    potential_hash: String,
    source: String,
    run_id: Option<String>,
    novelty: Novelty,
    /// The last row of the store that `novelty` knows.
    known_to: i64,
    /// Candidates of an earlier process, by step, centre and trigger: what comes again is not stored again.
    earlier: BTreeMap<(i64, i32, String), i64>,
    state: Checkpoint,
}

/// Where a run stores its candidates, if not in its own folder.
#[derive(Debug, Clone)]
pub(super) struct SharedStore {
    pub(super) path: PathBuf,
    pub(super) run_id: String,
}

/// Takes the folder for this process. The lock ends with the file that is given back.
pub(super) fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(files::LOCK);
    let lock = File::options().create(true).append(true).open(&path);
    let lock = lock.map_err(|source| Error::Write { path, source })?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::Running(folder.to_owned())),
        // Some file systems know no locks.
        _ => Ok(lock),
    }
}

impl Recorder {
    /// On rank 0, at the beginning of a run or where it goes on from `state`.
    pub(super) fn begin(
        folder: &Path,
        config: &InferenceConfig,
        lock: Option<File>,
        cutoff: Option<f64>,
        state: Checkpoint,
        shared: Option<&SharedStore>,
    ) -> Result<Self, Error> {
        let extxyz = folder.join(files::EXTXYZ);
        std::fs::create_dir_all(&extxyz).map_err(|source| Error::Write { path: extxyz, source })?;
        let lock = match lock {
            Some(lock) => lock,
            None => self::lock(folder)?,
        };
        // What comes after the checkpoint comes again.
        let polls = Polls::at(folder, state.polls, config)?;
        // A result says that nobody runs.
        let _ = std::fs::remove_file(folder.join(files::RESULT));
        let recorder = Self { _lock: Some(lock), ..Self::open(folder, config, polls, cutoff, state, shared)? };
        recorder.tidy();
        let reserve = folder.join(RESERVE);
        std::fs::write(&reserve, vec![0_u8; RESERVED]).map_err(|source| Error::Write { path: reserve, source })?;
        Ok(recorder)
    }

    /// On another rank, which goes on writing where rank 0 cannot any more.
    pub(super) fn again(
        folder: &Path,
        config: &InferenceConfig,
        cutoff: Option<f64>,
        shared: Option<&SharedStore>,
    ) -> Result<Self, Error> {
        let polls = Polls::at_end(folder, config)?;
        Self::open(folder, config, polls, cutoff, Checkpoint::elsewhere(1), shared)
    }

    fn open(
        folder: &Path,
        config: &InferenceConfig,
        polls: Polls,
        cutoff: Option<f64>,
        state: Checkpoint,
        shared: Option<&SharedStore>,
    ) -> Result<Self, Error> {
        let store = Store::open(&shared.map_or_else(|| folder.join(files::CANDIDATES), |s| s.path.clone()))?;
        let run_id = shared.map(|s| s.run_id.clone());
        let (mut novelty, mut earlier) = (Novelty::new(config.novelty), BTreeMap::new());
        let mut known_to = 0;
        for id in store.ids(None)? {
            let StoredCandidate { candidate, mismatch, .. } = store.get(id)?;
            known_to = id;
            let keys = &candidate.keys;
            let (Some(step), Some(center), Some(center_id), Some(trigger)) =
                (keys.step, keys.center, keys.center_id, &keys.trigger)
            else {
                continue;
            };
            if let Some(cutoff) = cutoff.filter(|_| mismatch.is_none() && center < candidate.structure.len()) {
                novelty.insert(id, Environment::in_structure(&candidate.structure, center, cutoff));
            }
            if keys.run_id == run_id && !state.progress.candidates.contains(&id) {
                earlier.insert((step, center_id, trigger.as_str().to_owned()), id);
            }
        }
        Ok(Self {
            polls,
            line: Vec::new(),
            _lock: None,
            store,
            commit_seconds: 0.0,
            potential_hash: potential::fingerprint(&config.potential).map_err(Error::Potential)?,
            source: config.structure.file_name().map_or("created".into(), |n| n.to_string_lossy().into_owned()),
            run_id,
            novelty,
            known_to,
            earlier,
            state,
            folder: folder.to_owned(),
        })
    }

    /// Removes what a process left behind which was killed: restart files, and files that were not yet in their place.
    fn tidy(&self) {
        let here = self.folder.read_dir().into_iter().flatten();
        let below = self.folder.join(files::EXTXYZ).read_dir().into_iter().flatten();
        for entry in here.chain(below).flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let stale = is_restart_name(&name) && self.state.restart.as_ref() != Some(&name);
            if stale || name.starts_with(WRITING) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Notes that the restart file of `step` is written, and removes the one before.
    pub(super) fn checkpoint(
        &mut self,
        step: i64,
        first: i64,
        ranks: usize,
        last_flag: Option<i64>,
        files: BTreeMap<PathBuf, u64>,
        progress: Progress,
    ) -> Result<(), Error> {
        let name = restart_name(step);
        let path = self.folder.join(&name);
        let on_disk = |path: &Path| File::open(path).and_then(|file| file.sync_all());
        on_disk(&path)
            .and_then(|()| self.polls.sync())
            .and_then(|()| on_disk(&self.folder))
            .map_err(|source| Error::Write { path, source })?;
        let polls = self.polls.position();
        let before = self.state.restart.replace(name);
        let state = &mut self.state;
        (state.step, state.first, state.ranks, state.polls) = (step, first, ranks, polls);
        (state.last_flag, state.files, state.progress) = (last_flag, files, progress);
        let text = serde_json::to_vec_pretty(&self.state).expect("numbers and names");
        write_aside(&self.folder.join(files::CHECKPOINT), &text)?;
        if let Some(before) = before.filter(|before| Some(before) != self.state.restart.as_ref()) {
            let _ = std::fs::remove_file(self.folder.join(before));
        }
        Ok(())
    }

    /// Candidates of an earlier process that this one has not come across.
    pub(super) fn left_over(&self) -> Vec<i64> {
        self.earlier.values().copied().collect()
    }

    /// Makes room on a full disk for a last candidate and the result.
    pub(super) fn release_reserve(&self) {
        let _ = std::fs::remove_file(self.folder.join(RESERVE));
    }

    /// Seconds in commits since this was asked last.
    pub(super) fn take_commit_seconds(&mut self) -> f64 {
        std::mem::take(&mut self.commit_seconds)
    }

    // A name for `ci/bench profile` to count.
    #[inline(never)]
    pub(super) fn poll(&mut self, poll: &Poll) -> Result<(), Error> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, poll).expect("numbers and names");
        self.line.push(b'\n');
        self.polls.write(&self.line)
    }

    /// Stores a cut-out; `None` if its like is stored already. `room` tells whether there may be more candidates, so many
    /// of an earlier process apart.
    pub(super) fn candidate(
        &mut self,
        cut_out: &CutOut,
        checked: Verification,
        gamma: Option<f64>,
        step: i64,
        trigger: Trigger,
        room: impl Fn(usize) -> bool,
    ) -> Result<Option<i64>, Error> {
        let cluster = &cut_out.cluster;
        let center_id = cluster.source_ids[cluster.center];
        let earlier = self.earlier.remove(&(step, center_id, trigger.as_str().to_owned()));
        let environment = Environment::of(cluster, cluster.center, cluster.cutoff);
        if earlier.is_none() && !room(self.earlier.len()) {
            return Ok(None);
        }
        let mut candidate = candidate_of(cut_out, checked, gamma, step, trigger, &self.source, &self.potential_hash);
        let id = match earlier {
            Some(id) => id,
            None => {
                let started = Instant::now();
                candidate.keys.run_id.clone_from(&self.run_id);
                let (novelty, known_to) = (&mut self.novelty, &mut self.known_to);
                // With what other runs have put into the same store meanwhile.
                let added = self.store.add_unless(&candidate, *known_to, |newer| {
                    for row in newer {
                        let structure = &row.candidate.structure;
                        let center = row.keys().center.filter(|center| *center < structure.len());
                        if let Some(center) = center.filter(|_| row.mismatch.is_none()) {
                            novelty.insert(row.id, Environment::in_structure(structure, center, cluster.cutoff));
                        }
                        *known_to = row.id;
                    }
                    novelty.seen(&environment).is_some()
                })?;
                let Some(id) = added else { return Ok(None) };
                novelty.insert(id, environment);
                *known_to = id;
                self.commit_seconds += started.elapsed().as_secs_f64();
                id
            }
        };
        let path = self.folder.join(extxyz_of(id));
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
        write_aside(&self.folder.join(files::RESULT), &text)?;
        self.release_reserve();
        Ok(())
    }
}

/// A cut-out as it is stored: what is known of it besides its atoms.
pub(crate) fn candidate_of(
    cut_out: &CutOut,
    checked: Verification,
    gamma: Option<f64>,
    step: i64,
    trigger: Trigger,
    source: &str,
    potential_hash: &str,
) -> Candidate {
    let cluster = &cut_out.cluster;
    let oversized = cluster.is_oversized().then(|| (OVERSIZED.to_owned(), KeyValue::Bool(true)));
    Candidate {
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
            source: Some(source.to_owned()),
            potential_hash: Some(potential_hash.to_owned()),
            trigger: Some(trigger),
            gamma_parent: checked.gamma_parent,
            gamma_cluster: checked.gamma_cluster,
            gamma_rounding: checked.gamma_rounding,
            max_force_difference: checked.max_force_difference,
            extra: oversized.into_iter().collect(),
            ..CandidateKeys::default()
        },
        labels: None,
    }
}

/// Writes a whole file, or nothing: beside its place first, then renamed.
pub(crate) fn write_aside(path: &Path, content: &[u8]) -> Result<(), Error> {
    let writing = |source| Error::Write { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(WRITING).tempfile_in(folder).map_err(writing)?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(writing)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(writing)?;
    file.persist(path).map_err(|e| writing(e.error))?;
    Ok(())
}
