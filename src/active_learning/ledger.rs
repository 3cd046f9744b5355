// SPDX-License-Identifier: GPL-2.0-or-later
//! The state of a loop on rank 0: the candidate store and the files of the loop.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::accuracy::Limits;
use super::explore::Explored;
use super::imports::IMPORTED;
use super::{
    Error, LoopConfig, Outcome, PhaseOutcome, Projected, Run, data_path, files, round_folder, round_folders,
    run_folder, select,
};
use crate::candidates::{
    KeyValue, Phase, PotentialRecord, Round, RoundOutcome, RunState, Status, Store, StoreError, StoredCandidate,
    Summary, Trigger,
};
use crate::config::{Determines, InferenceConfig, Potential};
use crate::event::KnownEnvironments;
use crate::lammps::Lammps;
use crate::potential::fingerprint;
use crate::prediction::{PredictionError, Predictor, predictor};
use crate::runner::{Error as RunError, data_file, refuse_links};
use crate::structure::{Element, Structure};

/// Prefix of the worker name of a loop. Because the folder is locked, an existing claim with this prefix belongs to a process that
/// has ended.
const WORKER: &str = "lammps-otf loop";

/// The key of a candidate that holds the number of its round.
pub(super) const ROUND: &str = "round";

/// The key of a candidate that holds the name of its run, if the loop has several.
pub(super) const RUN: &str = "run";

/// Folder in which the candidates of a round are labelled.
pub(super) const LABELS: &str = "labels";

/// Settings that earlier versions did not have.
const ADDED_SETTINGS: [&str; 4] = ["audits_per_ps", "core_share", "sparse_neighbours", "sparse_trigger"];

/// The entry of the store that identifies the settings and files that the loop was started with.
const IDENTITY: &str = "loop";

/// The store and the folder of a loop, on rank 0.
pub(super) struct Ledger {
    /// Absolute path of the folder of the loop.
    pub(super) folder: PathBuf,
    /// The current round.
    pub(super) round: Round,
    /// The current potential.
    pub(super) potential: Potential,
    /// The threshold of γ for it.
    pub(super) limits: Limits,
    pub(super) store: Store,
    /// Environments of all candidates, including those of this round.
    known: KnownEnvironments,
    /// Computes projections with the current potential.
    pub(super) projector: Predictor,
    /// The instance that holds the new potential from its trial until the simulation has it.
    pub(super) trial_instance: Option<Lammps>,
    /// Elements of the atom types, in their order.
    pub(super) elements: Vec<Element>,
    /// Names of the runs.
    pub(super) names: Vec<String>,
    /// Name under which candidates are claimed.
    pub(super) worker: String,
    /// End of the last interval that is included in the times of the round.
    accounted: Instant,
    /// The lock of the folder, held until this process ends.
    _lock: File,
}

/// Candidates to select from.
#[derive(Default)]
struct Pool {
    rows: Vec<Projected>,
    /// Those found by another trigger than γ. Their γ can be small, so that projections would not select them.
    blind_spots: Vec<i64>,
    /// Those found in this round.
    of_this_round: Vec<i64>,
    /// Audits, which are labelled, but not selected by their projections.
    audits: Vec<i64>,
}

impl Ledger {
    /// Opens the folder of a loop, or creates it for a new loop.
    ///
    /// # Errors
    /// If the folder belongs to something else, or if the loop was started with other settings or files.
    pub(super) fn open(
        output: &Path,
        config: &InferenceConfig,
        runs: &[Run],
        structures: &[Structure],
    ) -> Result<Self, Error> {
        let folder = std::path::absolute(output).map_err(RunError::writing(output))?;
        if !crate::lammps::quote_path(&folder).is_ok_and(|path| !path.contains(['*', '%'])) {
            return Err(Error::Name(folder));
        }
        let mut data = Vec::new();
        for (run, structure) in runs.iter().zip(structures) {
            data.push(data_file(structure, &run.config)?);
            if structure.elements != structures[0].elements {
                return Err(Error::Elements { run: run.name.clone(), first: runs[0].name.clone() });
            }
        }
        let cutoff =
            crate::potential::cutoff(&config.system.potential).map_err(RunError::Potential)?.ok_or(RunError::Cutoff)?;
        let database = folder.join(files::CANDIDATES);
        // The folder of a run, which may be in progress.
        if folder.join(crate::runner::files::CHECKPOINT).exists() {
            return Err(Error::Occupied(output.to_owned()));
        }
        if !database.exists()
            && folder.read_dir().is_ok_and(|entries| entries.flatten().any(|e| e.file_name() != files::LOCK))
        {
            return Err(Error::Occupied(output.to_owned()));
        }
        std::fs::create_dir_all(&folder).map_err(RunError::writing(&folder))?;
        let rounds = round_folders(&folder).flat_map(|round| [round.join(LABELS), round]);
        let (start, last) = (folder.join(files::START), folder.join(files::FINAL));
        let written = rounds.chain([start.clone(), last.clone(), folder.clone()]);
        refuse_links(written)?;
        let lock = crate::runner::lock(&folder.join(files::LOCK))?;
        let mut store = Store::open(&database)?;
        let identity = identity(config, runs, &data)?;
        match store.meta(IDENTITY)? {
            Some(started) => check_identity(&started, &identity, output)?,
            None => store.set_meta(IDENTITY, &identity.to_string())?,
        }
        for (run, data) in runs.iter().zip(&data) {
            write(&data_path(&folder, &run.name), data)?;
        }
        // The potential of an earlier process is no longer final.
        if last.exists() {
            std::fs::remove_dir_all(&last).map_err(RunError::writing(&last))?;
        }
        let hash = fingerprint(&config.system.potential).map_err(RunError::Potential)?;
        if store.rounds()?.is_empty() {
            let copy = copy_potential(&config.system.potential, &start)?;
            let (file, active_set) = copy.pace_files().expect("ML-PACE has files");
            let record = PotentialRecord { hash: hash.clone(), parent: None, round: 0, file, active_set };
            let names = runs.iter().filter(|run| !run.name.is_empty());
            let states = names.map(|run| RunState::begin(&run.name)).collect();
            let round = Round { runs: states, ..Round::begin(1, &hash, None, 0) };
            store.record(&[&round], Some(&record), &[])?;
        }
        let round = store.rounds()?.pop().expect("recorded above");
        let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
        if !round.runs.is_empty() && !round.runs.iter().map(|run| &run.name).eq(&names) {
            return Err(changed(output, "order of [[loop.run]]"));
        }
        make_round_folders(&folder, round.number, &names)?;
        make_round_folders(&folder, round.number + 1, &names)?;
        let known = store.potential(&round.potential)?.ok_or_else(|| changed(output, "potential"))?;
        let potential =
            Potential { file: Some(known.file), active_set: Some(known.active_set), ..config.system.potential.clone() };
        if fingerprint(&potential).map_err(RunError::Potential)? != round.potential {
            return Err(changed(output, "potential, whose files have changed since"));
        }
        let mut environments = KnownEnvironments::new(config.candidates.novelty, Some(cutoff));
        for row in store.iter(None)? {
            let row = row?;
            // A region like one of another loop is new in this one.
            if !row.keys().extra.contains_key(IMPORTED) {
                environments.read(&row);
            }
        }
        let worker = format!("{WORKER} {}", std::process::id());
        let mut ledger = Self {
            folder,
            round,
            projector: predictor(&potential).map_err(Error::Selection)?,
            limits: Limits::initial(&config.watch.uncertainty_threshold),
            trial_instance: None,
            potential,
            store,
            known: environments,
            elements: structures[0].elements.clone(),
            names,
            worker,
            accounted: Instant::now(),
            _lock: lock,
        };
        ledger.release_stale_claims()?;
        ledger.limits = ledger.limits(&config.watch.uncertainty_threshold, &ledger.potential)?;
        Ok(ledger)
    }

    /// All rounds, in order.
    pub(super) fn rounds(&self) -> Result<Vec<Round>, Error> {
        Ok(self.store.rounds()?)
    }

    /// Copies the current potential to the folder of the final potential. Returns the path of its B-basis.
    pub(super) fn write_final(&self) -> Result<PathBuf, Error> {
        Ok(copy_potential(&self.potential, &self.folder.join(files::FINAL))?.file.unwrap_or_default())
    }

    /// Number of labelled candidates of this loop, without checks.
    pub(super) fn labels(&self) -> Result<usize, Error> {
        Ok(self.labelled_summaries()?.len())
    }

    /// The labelled candidates of this loop, without checks.
    fn labelled_summaries(&self) -> Result<Vec<Summary>, Error> {
        let mut done = self.store.summaries(Some(Status::Done))?;
        let is_check =
            |row: &Summary| row.keys.get("trigger").and_then(KeyValue::as_text) == Some(Trigger::Check.as_str());
        done.retain(|row| !row.keys.contains_key(IMPORTED) && !is_check(row));
        Ok(done)
    }

    /// Releases candidates that an earlier process of this loop claimed before it was killed.
    fn release_stale_claims(&mut self) -> Result<(), Error> {
        for id in self.store.ids(Some(Status::RunningDft))? {
            if self.store.get(id)?.worker.is_some_and(|worker| worker.starts_with(WORKER)) {
                self.store.set_status(id, Status::PendingDft)?;
            }
        }
        Ok(())
    }

    /// Seconds since the last call.
    pub(super) fn take_elapsed(&mut self) -> f64 {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.accounted, now)).as_secs_f64()
    }

    /// Records that the simulation is set up with its potential.
    pub(super) fn record_setup(&mut self) {
        self.trial_instance = None;
        self.round.seconds.setup += self.take_elapsed();
    }

    /// The environments of all candidates.
    pub(super) fn known(&self) -> &KnownEnvironments {
        &self.known
    }

    /// Stores the results of runs of a round, in one transaction. Of regions that several of them have found, the first is stored.
    pub(super) fn explored(&mut self, explored: Vec<(usize, Explored)>, is_audited: bool) -> Result<Round, Error> {
        let mut round = self.round.clone();
        let mut stored = Vec::new();
        let mut running: f64 = 0.0;
        let several = explored.len() > 1;
        for (index, run) in explored {
            for mut candidate in run.candidates {
                if several && self.known.contains_center(&candidate) {
                    continue;
                }
                candidate.keys.extra.insert(ROUND.into(), KeyValue::Int(i64::from(round.number)));
                if !run.state.name.is_empty() {
                    candidate.keys.extra.insert(RUN.into(), KeyValue::from(run.state.name.as_str()));
                }
                self.known.add(0, &candidate);
                stored.push(candidate);
            }
            add_run(&mut round, index, run.state);
            running = running.max(run.running);
        }
        if round.next_runs().is_empty() {
            if !round.runs.is_empty() {
                round.combine_runs();
            }
            let is_over = round.outcome == Some(RoundOutcome::Quiet) && !is_audited;
            round.phase = if is_over { Phase::Done } else { Phase::Select };
        }
        for restart in round.runs.iter().filter_map(|run| run.next_restart.as_ref()).chain(&round.next_restart) {
            let path = self.folder.join(restart);
            // Must be on the disk before the store refers to it.
            File::open(&path).and_then(|file| file.sync_all()).map_err(RunError::writing(path))?;
        }
        round.stored += stored.len();
        round.threshold = Some(self.limits.threshold);
        round.seconds.run += running;
        round.seconds.watch += self.take_elapsed() - running;
        self.store.record(&[&round], None, &stored)?;
        Ok(self.set_round(round))
    }

    /// The pending candidates whose atoms are unchanged, without checks.
    pub(super) fn pending(&self) -> Result<impl Iterator<Item = Result<StoredCandidate, StoreError>>, Error> {
        let rows = self.store.iter(Some(Status::PendingDft))?;
        Ok(rows.filter(|row| !row.as_ref().is_ok_and(|row| row.mismatch.is_some() || row.is_check())))
    }

    /// Selects pending candidates to label, in addition to those that were selected during the runs.
    pub(super) fn select(&mut self, settings: &LoopConfig) -> Result<PhaseOutcome<Round>, Error> {
        let mut round = self.round.clone();
        let left = self.labels_left(settings)?;
        let room = left.min(settings.select).saturating_sub(round.selected.len());
        let is_quiet = round.outcome == Some(RoundOutcome::Quiet);
        if room == 0 && round.selected.is_empty() && !is_quiet {
            return Ok(PhaseOutcome::Stop(Outcome::Labels));
        }
        let pool = self.pool()?;
        round.pool = round.pool.max(pool.rows.len());
        // A run without an event is followed by its audits only.
        if !is_quiet {
            round.selected.extend(select(pool.rows, &pool.blind_spots, room));
            if round.selected.is_empty() {
                // A crash may occur although γ is below the threshold.
                round.selected = pool.of_this_round.into_iter().take(room).collect();
            }
            if round.selected.is_empty() {
                return Ok(PhaseOutcome::Stop(Outcome::Nothing));
            }
        }
        // After a run with events, the others are labelled later, so that audits do not use up `max_labels`.
        let room = left.saturating_sub(round.selected.len());
        round.selected.extend(pool.audits.into_iter().take(if is_quiet { room } else { room.min(settings.select) }));
        round.phase = Phase::Label;
        round.seconds.select += self.take_elapsed();
        self.store.record(&[&round], None, &[])?;
        Ok(PhaseOutcome::Continue(self.set_round(round)))
    }

    /// Selects candidates of the runs of this round that are over, while others are not, unless this was done: up to an equal share of
    /// the labels of a round for each run.
    pub(super) fn select_during_runs(&mut self, settings: &LoopConfig) -> Result<Round, Error> {
        let mut round = self.round.clone();
        let runs = || round.runs.iter();
        let over = runs().filter(|run| run.outcome.is_some()).count();
        let has_events = runs().any(|run| !matches!(run.outcome, None | Some(RoundOutcome::Quiet)));
        if over <= round.runs_selected_from || !has_events {
            return Ok(round);
        }
        let active = runs().filter(|run| !run.is_learned).count().max(over);
        let share = (settings.select * over).div_ceil(active);
        let room = share.min(self.labels_left(settings)?).saturating_sub(round.selected.len());
        let pool = self.pool()?;
        round.pool = round.pool.max(pool.rows.len());
        round.selected.extend(select(pool.rows, &pool.blind_spots, room));
        round.runs_selected_from = over;
        self.store.record(&[&round], None, &[])?;
        Ok(self.set_round(round))
    }

    /// How many candidates may be selected in this round.
    fn labels_left(&self, settings: &LoopConfig) -> Result<usize, Error> {
        let of_round = &self.round.selected;
        let done = self.labelled_summaries()?.iter().filter(|row| !of_round.contains(&row.id)).count();
        Ok(settings.max_labels.saturating_sub(done))
    }

    /// The pending candidates that are not selected yet.
    fn pool(&self) -> Result<Pool, Error> {
        let round = &self.round;
        let mut pool = Pool::default();
        // `self` is borrowed by the rows.
        let mut projector = Predictor::new(Arc::clone(self.projector.potential()));
        for row in self.pending()? {
            let row = row?;
            if round.selected.contains(&row.id) {
                continue;
            }
            if row.is_held_back() {
                pool.audits.push(row.id);
                continue;
            }
            let StoredCandidate { id, candidate, .. } = row;
            // Overlapping atoms have no projections.
            if let Ok(rows) = projector.rows(id, &candidate.structure, &candidate.force_mask) {
                pool.rows.push(rows);
            }
            if matches!(candidate.keys.trigger, Some(Trigger::Core | Trigger::Sparse)) {
                pool.blind_spots.push(id);
            }
            if candidate.keys.extra.get(ROUND).and_then(KeyValue::as_i64) == Some(i64::from(round.number)) {
                pool.of_this_round.push(id);
            }
        }
        Ok(pool)
    }

    /// Sets the current round, and returns a copy.
    pub(super) fn set_round(&mut self, round: Round) -> Round {
        self.round = round;
        self.round.clone()
    }

    /// The folder of the current round.
    pub(super) fn current_folder(&self) -> PathBuf {
        round_folder(&self.folder, self.round.number)
    }
}

/// Adds the results of a run to its round.
fn add_run(round: &mut Round, index: usize, state: RunState) {
    match round.runs.get_mut(index) {
        Some(run) => *run = RunState { is_learned: run.is_learned, ..state },
        None => {
            (round.outcome, round.reached, round.first_event) = (state.outcome, state.reached, state.first_event);
            (round.events, round.gamma_max) = (state.events, state.gamma_max);
            (round.next_restart, round.next_from) = (state.next_restart, state.next_from);
        }
    }
}

/// The settings and the hashes of files that determine the candidates of a loop, without its limits, oracle and trainer.
fn identity(config: &InferenceConfig, runs: &[Run], data: &[Vec<u8>]) -> Result<serde_json::Value, Error> {
    use sha2::{Digest, Sha256};
    let digest = |data: &[u8]| Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let settings_of = |config: &InferenceConfig| {
        let mut settings = config.settings_that_determine(Determines::Candidates);
        // These are compared by content.
        settings.retain(|key, _| !["structure", "potential"].contains(&key.as_str()));
        settings
    };
    let potential = fingerprint(&config.system.potential).map_err(RunError::Potential)?;
    let mut identity = serde_json::json!({
        "structure": digest(&data[0]), "potential": potential, "settings": settings_of(config)
    });
    if !runs[0].name.is_empty() {
        let of_run = |(run, data): (&Run, &Vec<u8>)| {
            let own = serde_json::json!({ "structure": digest(data), "settings": settings_of(&run.config) });
            (run.name.clone(), own)
        };
        identity["runs"] = runs.iter().zip(data).map(of_run).collect::<serde_json::Map<_, _>>().into();
    }
    Ok(identity)
}

/// Compares the identity of the stored loop with that of the configuration.
///
/// # Errors
/// [`Error::Changed`] for the first difference.
fn check_identity(started: &str, now: &serde_json::Value, output: &Path) -> Result<(), Error> {
    let started: serde_json::Value = serde_json::from_str(started).unwrap_or_default();
    for what in ["structure", "potential"] {
        if started[what] != now[what] {
            return Err(changed(output, what));
        }
    }
    if started["runs"] != now["runs"] {
        return Err(changed(output, "table [[loop.run]], or structure in it"));
    }
    let keys = now["settings"].as_object().into_iter().flatten();
    // Loops of version 0.1 do not have these settings.
    let is_new = |key: &str| started["settings"][key].is_null() && ADDED_SETTINGS.contains(&key);
    match keys.into_iter().find(|(key, value)| started["settings"][key.as_str()] != **value && !is_new(key)) {
        Some((key, _)) => Err(changed(output, &format!("`{key}`"))),
        None => Ok(()),
    }
}

/// Creates the folder of a round, and those of its runs.
pub(super) fn make_round_folders(folder: &Path, number: u32, runs: &[String]) -> Result<(), Error> {
    for run in runs {
        let path = run_folder(round_folder(folder, number), run);
        std::fs::create_dir_all(&path).map_err(RunError::writing(path))?;
    }
    Ok(())
}

fn changed(folder: &Path, what: &str) -> Error {
    Error::Changed { folder: folder.to_owned(), what: what.to_owned() }
}

/// Copies the files of a potential to a folder of the loop, so that later changes of the originals have no effect.
fn copy_potential(potential: &Potential, folder: &Path) -> Result<Potential, Error> {
    let (file, active_set) = potential.pace_files().ok_or(PredictionError::NoActiveSet)?;
    std::fs::create_dir_all(folder).map_err(RunError::writing(folder))?;
    let copy = |from: &Path, name: &str| {
        let to = folder.join(name);
        write(&to, &std::fs::read(from).map_err(RunError::Potential)?)?;
        Ok::<_, Error>(Some(to))
    };
    let (file, active_set) = (copy(&file, files::BASIS)?, copy(&active_set, files::ACTIVE_SET)?);
    Ok(Potential { file, active_set, ..potential.clone() })
}

fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    Ok(crate::runner::write_atomic(path, content)?)
}
