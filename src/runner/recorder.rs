// SPDX-License-Identifier: GPL-2.0-or-later
//! Writes the files of a run on rank 0.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::checkpoint::{Checkpoint, Progress, is_restart_name, restart_name};
use super::polls::Polls;
use super::{Error, SimulationResult, files};
use crate::candidates::{Candidate, Store, Trigger};
use crate::config::InferenceConfig;
use crate::embedding::Environment;
use crate::event::{KnownEnvironments, Region, Sink};
use crate::io::extxyz;
use crate::simulation::Poll;
use crate::structure::AtomId;

/// A file that reserves disk space. It is removed when the disk is full, to make room for the last candidate and the result.
const RESERVE: &str = ".reserve";
/// Size of the reserve in bytes.
const RESERVED: usize = 1 << 20;
/// Prefix of the temporary files of [`write_atomic`].
const TEMPORARY: &str = ".writing-";

/// Path of a candidate as extended XYZ, relative to the folder of the run.
pub(super) fn extxyz_of(id: i64) -> PathBuf {
    Path::new(files::EXTXYZ).join(format!("candidate-{id:06}.extxyz"))
}

/// Writes polls, candidates, checkpoints and the result of a run. Exists on rank 0 only.
pub(super) struct Recorder {
    folder: PathBuf,
    polls: Polls,
    /// The line of the last poll; reused to avoid allocations.
    line: Vec<u8>,
    /// The lock of the folder, held during the run.
    _lock: Option<File>,
    store: Store,
    /// Seconds in commits since [`Recorder::take_commit_seconds`].
    commit_seconds: f64,
    run_id: Option<String>,
    known: KnownEnvironments,
    /// Number of candidates of this run.
    stored: usize,
    /// Maximum number of candidates.
    max_candidates: usize,
    /// Candidates that an earlier process stored after the checkpoint, by step, centre and trigger. They are not stored twice.
    earlier: BTreeMap<(i64, AtomId, String), i64>,
    /// The last checkpoint.
    state: Checkpoint,
}

/// A candidate store outside the folder of the run.
#[derive(Debug, Clone)]
pub(super) struct SharedStore {
    pub(super) path: PathBuf,
    /// Value of the key `run_id` of the candidates of this run.
    pub(super) run_id: String,
}

/// Attempts to lock a folder, and the time between two of them.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_DELAY: std::time::Duration = std::time::Duration::from_millis(20);

/// Locks a folder for this process through the lock file `path` in it, until the returned file is closed.
///
/// # Errors
/// [`Error::Running`] if another process holds the lock.
pub(crate) fn lock(path: &Path) -> Result<File, Error> {
    let file = File::options().create(true).append(true).open(path).map_err(Error::writing(path))?;
    acquire(file, path)
}

/// As [`lock`], without creating the file; `None` if it is missing or cannot be opened.
///
/// # Errors
/// [`Error::Running`] if another process holds the lock.
pub(super) fn lock_existing(path: &Path) -> Result<Option<File>, Error> {
    File::open(path).ok().map(|file| acquire(file, path)).transpose()
}

fn acquire(file: File, path: &Path) -> Result<File, Error> {
    // `report --follow` and `watch` hold a shared lock for an instant, to see whether a run is under way.
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_DELAY),
            // Any other error means that the file system does not support locks.
            _ => return Ok(file),
        }
    }
    Err(Error::Running(path.parent().unwrap_or(path).to_owned()))
}

impl Recorder {
    /// Opens the files of a run that starts or continues at `state`. Called on rank 0 only.
    pub(super) fn start(
        folder: &Path,
        config: &InferenceConfig,
        lock: Option<File>,
        cutoff: Option<f64>,
        state: Checkpoint,
        shared: Option<&SharedStore>,
    ) -> Result<Self, Error> {
        let extxyz = folder.join(files::EXTXYZ);
        std::fs::create_dir_all(&extxyz).map_err(Error::writing(extxyz))?;
        let lock = match lock {
            Some(lock) => lock,
            None => self::lock(&folder.join(files::LOCK))?,
        };
        // Removes the polls after the checkpoint, which will be written again.
        let polls = Polls::open_at(folder, state.polls, config)?;
        // A result would indicate that the run has ended.
        let _ = std::fs::remove_file(folder.join(files::RESULT));
        let recorder = Self { _lock: Some(lock), ..Self::open(folder, config, polls, cutoff, state, shared)? };
        recorder.remove_stale_files();
        let reserve = folder.join(RESERVE);
        std::fs::write(&reserve, vec![0_u8; RESERVED]).map_err(Error::writing(reserve))?;
        Ok(recorder)
    }

    /// Opens the files on another rank after a rank failure, when rank 0 cannot write.
    pub(super) fn reopen(
        folder: &Path,
        config: &InferenceConfig,
        cutoff: Option<f64>,
        shared: Option<&SharedStore>,
        stored: usize,
    ) -> Result<Self, Error> {
        let polls = Polls::at_end(folder, config)?;
        Ok(Self { stored, ..Self::open(folder, config, polls, cutoff, Checkpoint::empty(1), shared)? })
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
        let (mut known, mut earlier) = (KnownEnvironments::new(config.candidates.novelty, cutoff), BTreeMap::new());
        for row in store.iter(None)? {
            let row = row?;
            known.read(&row);
            let keys = row.keys();
            if let (Some(step), Some(center), Some(trigger)) = (keys.step, keys.center_id, &keys.trigger)
                && keys.run_id == run_id
                && !state.progress.candidates.contains(&row.id)
                && !state.progress.audits.contains(&row.id)
            {
                earlier.insert((step, center, trigger.as_str().to_owned()), row.id);
            }
        }
        Ok(Self {
            polls,
            line: Vec::new(),
            _lock: None,
            store,
            commit_seconds: 0.0,
            run_id,
            known,
            stored: state.progress.candidates.len(),
            max_candidates: config.candidates.max_candidates,
            earlier,
            state,
            folder: folder.to_owned(),
        })
    }

    /// Removes restart files and temporary files of a process that was killed.
    fn remove_stale_files(&self) {
        let in_folder = self.folder.read_dir().into_iter().flatten();
        let in_extxyz = self.folder.join(files::EXTXYZ).read_dir().into_iter().flatten();
        for entry in in_folder.chain(in_extxyz).flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let stale = is_restart_name(&name) && self.state.restart.as_ref() != Some(&name);
            if stale || name.starts_with(TEMPORARY) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Writes `checkpoint.json` for the restart file of `step`, and removes the previous restart file.
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
        let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
        sync(&path).and_then(|()| self.polls.sync()).and_then(|()| sync(&self.folder)).map_err(Error::writing(path))?;
        let polls = self.polls.position();
        let previous = self.state.restart.replace(name);
        let state = &mut self.state;
        (state.step, state.first, state.ranks, state.polls) = (step, first, ranks, polls);
        (state.last_flag, state.files, state.progress) = (last_flag, files, progress);
        let text = serde_json::to_vec_pretty(&self.state).expect("numbers and names");
        write_atomic(&self.folder.join(files::CHECKPOINT), &text)?;
        if let Some(previous) = previous.filter(|previous| Some(previous) != self.state.restart.as_ref()) {
            let _ = std::fs::remove_file(self.folder.join(previous));
        }
        Ok(())
    }

    /// Candidates of an earlier process that this process has not found again.
    pub(super) fn remaining_earlier(&self) -> Vec<i64> {
        let events = self.earlier.iter().filter(|((.., trigger), _)| trigger != Trigger::Audit.as_str());
        events.map(|(_, id)| *id).collect()
    }

    /// Releases the reserved disk space for a last candidate and the result.
    pub(super) fn release_reserve(&self) {
        let _ = std::fs::remove_file(self.folder.join(RESERVE));
    }

    /// Seconds in commits since the last call.
    pub(super) fn take_commit_seconds(&mut self) -> f64 {
        std::mem::take(&mut self.commit_seconds)
    }

    /// Appends a poll to `polls.jsonl`.
    // Not inlined, so that `ci/bench profile` can count its instructions.
    #[inline(never)]
    pub(super) fn poll(&mut self, poll: &Poll) -> Result<(), Error> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, poll).expect("numbers and names");
        self.line.push(b'\n');
        self.polls.write(&self.line)
    }

    /// Writes a candidate as extended XYZ to the folder of the run.
    fn write_extxyz(&self, id: i64, candidate: &Candidate) -> Result<(), Error> {
        let (mut text, keys) = (Vec::new(), &candidate.keys);
        let columns = [
            extxyz::Column::real("force_mask", &candidate.force_mask),
            extxyz::Column::integer("source_id", &candidate.source_ids),
        ];
        let mut info = vec![("candidate", extxyz::Value::Integer(id))];
        info.extend(keys.step.map(|step| ("step", extxyz::Value::Integer(step))));
        info.extend(keys.gamma.map(|gamma| ("gamma", extxyz::Value::Real(gamma))));
        info.extend(keys.center.map(|center| ("center", extxyz::Value::Integer(center as i64))));
        extxyz::write(&mut text, &candidate.structure, &columns, &info)?;
        write_atomic(&self.folder.join(extxyz_of(id)), &text)
    }

    /// Writes `result.json`.
    pub(super) fn result(&self, result: &SimulationResult) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(result).expect("numbers and names");
        write_atomic(&self.folder.join(files::RESULT), &text)?;
        self.release_reserve();
        Ok(())
    }
}

impl Sink for Recorder {
    type Error = Error;

    fn accepts(&mut self, region: &Region, environment: &Environment) -> bool {
        let key = (region.step, region.center, region.trigger.as_str().to_owned());
        let audits = self.earlier.keys().filter(|(.., trigger)| trigger == Trigger::Audit.as_str()).count();
        let room = self.stored + self.earlier.len() - audits < self.max_candidates;
        self.earlier.contains_key(&key)
            || region.trigger == Trigger::Audit
            || (room && !self.known.contains(environment))
    }

    fn store(&mut self, mut candidate: Candidate, environment: Environment) -> Result<Option<i64>, Error> {
        let keys = &candidate.keys;
        let key = keys.step.zip(keys.center_id).zip(keys.trigger.as_ref());
        let earlier =
            key.and_then(|((step, center), trigger)| self.earlier.remove(&(step, center, trigger.as_str().to_owned())));
        let is_audit = keys.trigger == Some(Trigger::Audit);
        let id = match earlier {
            Some(id) => id,
            None => {
                let started = Instant::now();
                candidate.keys.run_id.clone_from(&self.run_id);
                let known = &mut self.known;
                // Includes candidates that other runs have added to the same store in the meantime.
                let added = self.store.add_if_new(&candidate, known.last(), |newer| {
                    newer.iter().for_each(|row| known.read(row));
                    !is_audit && known.contains(&environment)
                })?;
                let Some(id) = added else { return Ok(None) };
                if !is_audit {
                    self.known.insert(id, environment);
                }
                self.commit_seconds += started.elapsed().as_secs_f64();
                id
            }
        };
        self.stored += usize::from(!is_audit);
        self.write_extxyz(id, &candidate)?;
        Ok(Some(id))
    }
}

/// Replaces a file atomically: writes a temporary file in the same folder, syncs it, and renames it.
pub(crate) fn write_atomic(path: &Path, content: &[u8]) -> Result<(), Error> {
    let writing = |source| Error::Write { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder).map_err(writing)?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(writing)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(writing)?;
    file.persist(path).map_err(|e| writing(e.error))?;
    Ok(())
}
