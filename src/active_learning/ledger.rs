// SPDX-License-Identifier: GPL-2.0-or-later
//! What rank 0 knows and writes down: the store, and the files beside it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::oracle::{Oracle, OracleError};
use super::trainer::{Trainer, TrainerError, TrainingJob};
use super::trial::trial;
use super::{Error, LoopConfig, Outcome, Projector, Step, files, round_folder, round_folders, select};
use crate::candidates::export::{self, Format};
use crate::candidates::{
    Candidate, KeyValue, Phase, PotentialRecord, Round, Status, Store, StoreError, StoredCandidate,
};
use crate::config::{Determines, InferenceConfig, Potential};
use crate::event::KnownEnvironments;
use crate::lammps::Lammps;
use crate::potential::fingerprint;
use crate::runner::{Error as RunError, data_file, refuse_links};
use crate::script::Script;
use crate::simulation::Poll;
use crate::structure::{Element, Structure};

/// What every name of a worker of ours begins with: a claim of that name is of a process that is gone, because the folder is
/// locked.
const WORKER: &str = "lammps-otf loop";

/// The key of a candidate that tells its round.
const ROUND: &str = "round";

/// Folder of a round in which candidates are labelled.
const LABELS: &str = "labels";

/// The entry of the store that tells what the loop was begun with.
const IDENTITY: &str = "loop";

/// The store and the folder of a loop, on rank 0.
pub(super) struct Ledger {
    /// Absolute.
    pub(super) folder: PathBuf,
    pub(super) round: Round,
    pub(super) potential: Potential,
    store: Store,
    known: KnownEnvironments,
    /// With the present potential.
    projector: Projector,
    /// Holds the new potential from its trial until the run has it.
    tried: Option<Lammps>,
    /// Of the atom types, in their order.
    elements: Vec<Element>,
    polls: Option<File>,
    worker: String,
    /// Up to when the time of the round is accounted for.
    accounted: Instant,
    /// Held as long as this process lives.
    _lock: File,
}

impl Ledger {
    /// Opens the folder of a loop, or begins it.
    pub(super) fn open(output: &Path, config: &InferenceConfig, structure: &Structure) -> Result<Self, Error> {
        let folder = std::path::absolute(output).map_err(RunError::writing(output))?;
        if !crate::lammps::quote_path(&folder).is_ok_and(|path| !path.contains(['*', '%'])) {
            return Err(Error::Name(folder));
        }
        let data = data_file(structure, config)?;
        let cutoff =
            crate::potential::cutoff(&config.system.potential).map_err(RunError::Potential)?.ok_or(RunError::Cutoff)?;
        let database = folder.join(files::CANDIDATES);
        // Of a run, which may be on its way.
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
        let (first, last) = (folder.join(files::START), folder.join(files::FINAL));
        let written = rounds.chain([first.clone(), last.clone(), folder.clone()]);
        refuse_links(written)?;
        let lock = crate::runner::lock(&folder.join(files::LOCK))?;
        let mut store = Store::open(&database)?;
        let identity = identity(config, &data)?;
        match store.meta(IDENTITY)? {
            Some(begun) => same(&begun, &identity, output)?,
            None => store.set_meta(IDENTITY, &identity.to_string())?,
        }
        write(&folder.join(files::DATA), &data)?;
        // It is not final any more.
        if last.exists() {
            std::fs::remove_dir_all(&last).map_err(RunError::writing(&last))?;
        }
        let hash = fingerprint(&config.system.potential).map_err(RunError::Potential)?;
        if store.rounds()?.is_empty() {
            let own = adopt(&config.system.potential, &first)?;
            let (file, active_set) = own.pace_files().expect("ML-PACE has files");
            let first = PotentialRecord { hash: hash.clone(), parent: None, round: 0, file, active_set };
            store.record(&[&Round::begin(1, &hash, None, 0)], Some(&first), &[])?;
        }
        let round = store.rounds()?.pop().expect("recorded above");
        std::fs::create_dir_all(round_folder(&folder, round.number)).map_err(RunError::writing(&folder))?;
        std::fs::create_dir_all(round_folder(&folder, round.number + 1)).map_err(RunError::writing(&folder))?;
        let known = store.potential(&round.potential)?.ok_or_else(|| changed(output, "potential"))?;
        let potential =
            Potential { file: Some(known.file), active_set: Some(known.active_set), ..config.system.potential.clone() };
        if fingerprint(&potential).map_err(RunError::Potential)? != round.potential {
            return Err(changed(output, "potential, whose files have changed since"));
        }
        let mut environments = KnownEnvironments::new(config.candidates.novelty, Some(cutoff));
        for row in store.iter(None)? {
            environments.read(&row?);
        }
        let worker = format!("{WORKER} {}", std::process::id());
        let mut ledger = Self {
            folder,
            round,
            projector: Projector::new(&potential)?,
            tried: None,
            potential,
            store,
            known: environments,
            elements: structure.elements.clone(),
            polls: None,
            worker,
            accounted: Instant::now(),
            _lock: lock,
        };
        ledger.release_own()?;
        Ok(ledger)
    }

    pub(super) fn rounds(&self) -> Result<Vec<Round>, Error> {
        Ok(self.store.rounds()?)
    }

    /// Copies the present potential to where the loop's last one is; gives its B-basis there.
    pub(super) fn write_final(&self) -> Result<PathBuf, Error> {
        Ok(adopt(&self.potential, &self.folder.join(files::FINAL))?.file.unwrap_or_default())
    }

    /// Number of labelled candidates.
    pub(super) fn labels(&self) -> Result<usize, Error> {
        Ok(self.store.ids(Some(Status::Done))?.len())
    }

    /// Gives back what a process of this loop had claimed that was killed.
    fn release_own(&mut self) -> Result<(), Error> {
        for id in self.store.ids(Some(Status::RunningDft))? {
            if self.store.get(id)?.worker.is_some_and(|worker| worker.starts_with(WORKER)) {
                self.store.set_status(id, Status::PendingDft)?;
            }
        }
        Ok(())
    }

    /// Seconds since this was asked last.
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.accounted, now)).as_secs_f64()
    }

    /// Notes that the run stands with its potential.
    pub(super) fn set_up(&mut self) {
        self.tried = None;
        self.round.seconds.setup += self.lap();
    }

    /// Begins the list of polls anew.
    pub(super) fn begin_run(&mut self) -> Result<(), Error> {
        let path = self.here().join(files::POLLS);
        self.polls = Some(File::create(&path).map_err(RunError::writing(path))?);
        Ok(())
    }

    pub(super) fn poll(&mut self, poll: &Poll) -> Result<(), Error> {
        let mut line = serde_json::to_vec(poll).expect("numbers and names");
        line.push(b'\n');
        let path = self.here().join(files::POLLS);
        let written = self.polls.as_mut().map_or(Ok(()), |file| file.write_all(&line));
        Ok(written.map_err(RunError::writing(path))?)
    }

    /// The environments of all candidates, those of this round included.
    pub(super) fn known(&mut self) -> &mut KnownEnvironments {
        &mut self.known
    }

    /// Stores what a run has seen, of which so many seconds were LAMMPS's steps.
    pub(super) fn explored(
        &mut self,
        mut round: Round,
        mut candidates: Vec<Candidate>,
        running: f64,
    ) -> Result<Round, Error> {
        if let Some(restart) = &round.next_restart {
            let path = self.folder.join(restart);
            // On the disk before the store says that it is there.
            File::open(&path).and_then(|file| file.sync_all()).map_err(RunError::writing(path))?;
        }
        round.stored = candidates.len();
        for candidate in &mut candidates {
            candidate.keys.extra.insert(ROUND.into(), KeyValue::Int(i64::from(round.number)));
        }
        round.seconds = self.round.seconds;
        round.seconds.run += running;
        round.seconds.watch += self.lap() - running;
        self.store.record(&[&round], None, &candidates)?;
        Ok(self.now(round))
    }

    /// The candidates that wait for a label and can get one.
    fn waiting(&self) -> Result<impl Iterator<Item = Result<StoredCandidate, StoreError>>, Error> {
        let rows = self.store.iter(Some(Status::PendingDft))?;
        Ok(rows.filter(|row| !row.as_ref().is_ok_and(|row| row.mismatch.is_some())))
    }

    /// Chooses of all that waits for a label.
    pub(super) fn select(&mut self, settings: &LoopConfig) -> Result<Step<Round>, Error> {
        let round = &self.round;
        let room = settings.max_labels.saturating_sub(self.labels()?).min(settings.select);
        if room == 0 {
            return Ok(Step::End(Outcome::Labels));
        }
        let mut pool = Vec::new();
        let mut of_this_round = Vec::new();
        for row in self.waiting()? {
            let StoredCandidate { id, candidate, .. } = row?;
            // Where atoms overlap there is no γ; nothing but the oracle can say more.
            if let Ok(rows) = self.projector.rows(id, &candidate.structure, &candidate.force_mask) {
                pool.push(rows);
            }
            if candidate.keys.extra.get(ROUND).and_then(KeyValue::as_i64) == Some(i64::from(round.number)) {
                of_this_round.push(id);
            }
        }
        let size = pool.len();
        let mut selected = select(pool, room);
        if selected.is_empty() {
            // A crash need not have been foreseen by γ.
            selected = of_this_round.into_iter().take(room).collect();
        }
        if selected.is_empty() {
            return Ok(Step::End(Outcome::Nothing));
        }
        let mut round = Round { phase: Phase::Label, pool: round.pool.max(size), selected, ..round.clone() };
        round.seconds.select += self.lap();
        self.store.record(&[&round], None, &[])?;
        Ok(Step::Done(self.now(round)))
    }

    /// Has the selected candidates labelled. One that fails does not stop the others.
    pub(super) fn label(&mut self, oracle: &mut dyn Oracle, interrupt: &AtomicBool) -> Result<Step<Round>, Error> {
        let round = self.round.clone();
        let folder = self.here().join(LABELS);
        std::fs::create_dir_all(&folder).map_err(RunError::writing(&folder))?;
        for &id in &round.selected {
            let mut told = false;
            while !self.settled(id)? {
                if interrupt.load(Ordering::Relaxed) {
                    return Ok(Step::End(Outcome::Interrupted));
                }
                let Some(claimed) = self.store.claim_id(id, &self.worker)? else {
                    // Another worker has it. One that died with it has to be told apart by people.
                    if !std::mem::replace(&mut told, true) {
                        let worker = self.store.get(id)?.worker.unwrap_or_else(|| "another worker".into());
                        eprintln!(
                            "waiting for candidate {id}, which {worker} is labelling; should that be dead, give its rows back by \
                             `lammps-otf candidates release --older-than HOURS {}`",
                            self.folder.join(files::CANDIDATES).display()
                        );
                    }
                    std::thread::sleep(Duration::from_millis(200));
                    continue;
                };
                let (put_down, interrupted) = match oracle.label(&claimed, &folder) {
                    Ok(labels) => match self.store.finish(id, &self.worker, &labels) {
                        Err(error @ StoreError::InvalidLabels { .. }) => {
                            (self.store.fail(id, &self.worker, &error.to_string()), false)
                        }
                        other => (other, false),
                    },
                    Err(OracleError::Failed { message, log }) => {
                        (self.store.fail(id, &self.worker, &format!("{message}\n{log}")), false)
                    }
                    Err(OracleError::Interrupted) => (self.store.release(id, &self.worker), true),
                };
                match put_down {
                    // Somebody has given the row back, or decided about it, meanwhile: it is looked at again.
                    Err(StoreError::ClaimLost { .. } | StoreError::NoSuchCandidate { .. }) => {}
                    other => other?,
                }
                if interrupted {
                    return Ok(Step::End(Outcome::Interrupted));
                }
            }
        }
        let mut done = 0;
        for &id in &round.selected {
            done += usize::from(self.row(id)?.is_some_and(|row| row.status == Some(Status::Done) && row.is_labelled()));
        }
        let (labelled, failed) = (done, round.failed + round.selected.len() - done);
        // With nothing new there is nothing to train: others of the pool may be luckier.
        let phase = if labelled > 0 { Phase::Train } else { Phase::Select };
        let mut round = Round { phase, labelled, failed, ..round };
        round.seconds.label += self.lap();
        self.store.record(&[&round], None, &[])?;
        Ok(Step::Done(self.now(round)))
    }

    /// A candidate, if nobody has deleted it.
    fn row(&self, id: i64) -> Result<Option<StoredCandidate>, Error> {
        match self.store.get(id) {
            Ok(row) => Ok(Some(row)),
            Err(StoreError::NoSuchCandidate { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a candidate waits no more.
    fn settled(&self, id: i64) -> Result<bool, Error> {
        let status = self.row(id)?.and_then(|row| row.status);
        Ok(!matches!(status, Some(Status::PendingDft | Status::RunningDft)))
    }

    /// Has a potential made of all that is labelled, and tries it. Gives it, the round that ends, and the next one.
    pub(super) fn train(
        &mut self,
        trainer: &mut dyn Trainer,
        script: &Script,
        threshold: f64,
    ) -> Result<Step<(Potential, Round, Round)>, Error> {
        let (mut round, parent) = (self.round.clone(), self.potential.clone());
        let here = self.here();
        let mut rows: Vec<StoredCandidate> = self.store.iter(Some(Status::Done))?.collect::<Result<_, _>>()?;
        rows.retain(StoredCandidate::is_labelled);
        let labelled = here.join(files::LABELLED);
        export::export(Format::Extxyz, &rows, &labelled)?;
        let place = here.join(files::POTENTIAL);
        // Of a process that was killed before it could write down that it was done.
        if place.exists() {
            std::fs::remove_dir_all(&place).map_err(RunError::writing(&place))?;
        }
        let output =
            tempfile::Builder::new().prefix("training-").tempdir_in(&here).map_err(RunError::writing(&here))?;
        let job = TrainingJob {
            labelled: &labelled,
            parent: &parent,
            output: output.path(),
            round: round.number,
            log: &here.join(files::TRAINING_LOG),
        };
        let report = match trainer.train(&job) {
            Ok(report) => report,
            Err(TrainerError::Refused(why)) => return Ok(Step::End(Outcome::Refused(why))),
            Err(TrainerError::Interrupted) => return Ok(Step::End(Outcome::Interrupted)),
            Err(error) => return Err(error.into()),
        };
        round.seconds.train += self.lap();
        let made = Potential {
            file: Some(output.path().join(files::BASIS)),
            active_set: Some(output.path().join(files::ACTIVE_SET)),
            ..parent.clone()
        };
        if let Some(missing) = [&made.file, &made.active_set].into_iter().flatten().find(|path| !path.is_file()) {
            let message = format!("it left no {}", missing.file_name().unwrap_or_default().display());
            return Err(TrainerError::Failed { message, log: job.log.to_owned() }.into());
        }
        let reach = |potential| crate::potential::reach(potential).map_err(|e| format!("its file cannot be read: {e}"));
        match (reach(&made), reach(&parent)) {
            (Ok(Some(new)), Ok(Some(old))) if new > old => {
                let why = format!("it reaches {new} Å, and its parent {old} Å, for which regions are cut out");
                return Ok(Step::End(Outcome::Refused(why)));
            }
            (Err(why), _) => return Ok(Step::End(Outcome::Refused(why))),
            _ => {}
        }
        let elements = &self.elements;
        let tried = script.with_potential(&made, elements).map_err(|e| e.to_string());
        self.tried = match tried.and_then(|script| trial(&script, elements, &rows, threshold)) {
            Ok(instance) => Some(instance),
            Err(why) => return Ok(Step::End(Outcome::Refused(why))),
        };
        let hash = fingerprint(&made).map_err(RunError::Potential)?;
        std::fs::rename(output.keep(), &place).map_err(RunError::writing(&place))?;
        crate::runner::inherit_permissions(&place);
        let (file, active_set) = (place.join(files::BASIS), place.join(files::ACTIVE_SET));
        for file in [&file, &active_set, &here] {
            File::open(file).and_then(|file| file.sync_all()).map_err(RunError::writing(file))?;
        }
        let potential = Potential { file: Some(file.clone()), active_set: Some(active_set.clone()), ..parent };
        let record = PotentialRecord {
            hash: hash.clone(),
            parent: Some(round.potential.clone()),
            round: round.number,
            file,
            active_set,
        };
        let report = serde_json::to_value(&report).expect("numbers and names");
        let mut next = Round::begin(round.number + 1, &hash, round.next_restart.clone(), round.next_from);
        let projector = Projector::new(&potential)?;
        if self.left_unknown(&projector, threshold)? {
            // What was cut out and not labelled is still unknown: to run would be to meet it again.
            (next.phase, next.next_restart, next.next_from) = (Phase::Select, next.restart.clone(), next.from);
        }
        let after = round_folder(&self.folder, next.number + 1);
        std::fs::create_dir_all(&after).map_err(RunError::writing(&after))?;
        round.seconds.trial += self.lap();
        let done = Round { phase: Phase::Done, report, ..round };
        self.store.record(&[&done, &next], Some(&record), &[])?;
        (self.potential, self.projector) = (potential.clone(), projector);
        Ok(Step::Done((potential, done, self.now(next))))
    }

    /// Whether γ of a candidate that waits for a label is above the threshold with this potential.
    fn left_unknown(&self, projector: &Projector, threshold: f64) -> Result<bool, Error> {
        for row in self.waiting()? {
            let StoredCandidate { id, candidate, .. } = row?;
            let rows = projector.rows(id, &candidate.structure, &candidate.force_mask);
            if rows.is_ok_and(|rows| rows.gamma() > threshold) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn now(&mut self, round: Round) -> Round {
        self.round = round;
        self.round.clone()
    }

    /// The folder of the round.
    fn here(&self) -> PathBuf {
        round_folder(&self.folder, self.round.number)
    }
}

/// What determines the loop, but for its limits and who does the work.
fn identity(config: &InferenceConfig, data: &[u8]) -> Result<serde_json::Value, Error> {
    use sha2::{Digest, Sha256};
    let digits: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut settings = config.settings_that_determine(Determines::Candidates);
    // By their content.
    settings.retain(|key, _| !["structure", "potential"].contains(&key.as_str()));
    let potential = fingerprint(&config.system.potential).map_err(RunError::Potential)?;
    Ok(serde_json::json!({ "structure": digits, "potential": potential, "settings": settings }))
}

fn same(begun: &str, now: &serde_json::Value, output: &Path) -> Result<(), Error> {
    let begun: serde_json::Value = serde_json::from_str(begun).unwrap_or_default();
    for what in ["structure", "potential"] {
        if begun[what] != now[what] {
            return Err(changed(output, what));
        }
    }
    let keys = now["settings"].as_object().into_iter().flatten();
    match keys.into_iter().find(|(key, value)| begun["settings"][key.as_str()] != **value) {
        Some((key, _)) => Err(changed(output, &format!("`{key}`"))),
        None => Ok(()),
    }
}

fn changed(folder: &Path, what: &str) -> Error {
    Error::Changed { folder: folder.to_owned(), what: what.to_owned() }
}

/// Copies the files of a potential into a folder of the loop, so that it does not depend on what becomes of them.
fn adopt(potential: &Potential, folder: &Path) -> Result<Potential, Error> {
    let (file, active_set) = potential.pace_files().ok_or(super::ProjectionError::Kind)?;
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
