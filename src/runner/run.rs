// SPDX-License-Identifier: GPL-2.0-or-later
//! The run itself: from event to event, until one ends it.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::checkpoint::{Progress, restart_name};
use super::recorder::{Recorder, SharedStore, extxyz_of};
use super::{Announcer, Error, Observer, SimulationResult, Status, Stored, files};
use crate::candidates::Trigger;
use crate::comm::{CollectiveError as _, Comm, Elsewhere};
use crate::config::{InferenceConfig, Mode};
use crate::embedding::EmbeddingExtractor;
use crate::simulation::{self, Crash, CrashKind, CutOut, Event, Neighbourhood, Poll, Simulation};
use crate::uncertainty::Verdict;
use crate::verify::{Verification, relax, verify};

/// One run on its way.
pub(super) struct Run<'r, 'o> {
    pub(super) comm: Comm,
    pub(super) config: &'r InferenceConfig,
    pub(super) simulation: Simulation,
    pub(super) extractor: Option<EmbeddingExtractor>,
    /// On rank 0.
    pub(super) recorder: Option<Recorder>,
    pub(super) observer: Option<&'r mut Observer<'o>>,
    pub(super) announcer: Option<&'r mut Announcer<'o>>,
    pub(super) interrupt: &'r AtomicBool,
    pub(super) result: SimulationResult,
    pub(super) last_flag: Option<i64>,
    /// On several ranks: what a rank stores that fails alone.
    pub(super) insurance: Option<Insurance>,
    /// Steps between two checkpoints.
    pub(super) checkpoints: Option<u64>,
    /// The step of the last one.
    pub(super) checkpointed: Option<i64>,
    /// The step that the run goes on from, whose poll has been noted by an earlier process.
    pub(super) resumed: Option<i64>,
    /// Whether a region of the last poll could not be cut out.
    pub(super) missed: bool,
    /// A file could not be written, which every rank knows.
    pub(super) unwritable: bool,
    /// Where all ranks find the run's files; absolute.
    pub(super) folder: PathBuf,
    /// Where the candidates go, if not there.
    pub(super) store: Option<&'r SharedStore>,
}

/// A region that every rank knows, for a rank that fails alone to store: around the atom that a crash right after its poll would
/// be blamed on.
pub(super) struct Insurance {
    region: Neighbourhood,
    step: i64,
    center: i32,
    gamma: Option<f64>,
}

/// So many steps an [`Insurance`] is good for while nothing is wrong, so that most polls share nothing: a tenth of a picosecond
/// at a femtosecond each, about one vibration.
const CALM: i64 = 100;
/// So many times the γ of its centre the largest γ may become meanwhile.
const RISE: f64 = 1.25;

impl Insurance {
    /// Whether this region does for a calm poll at a step, with that largest γ.
    fn still_does(&self, step: i64, gamma: f64) -> bool {
        step - self.step < CALM && self.gamma.is_some_and(|then| gamma <= RISE * then)
    }
}

/// Most warnings that a result lists.
const WARNINGS: usize = 100;

impl Run<'_, '_> {
    pub(super) fn finish(mut self) -> Result<SimulationResult, Error> {
        let (started, before) = (Instant::now(), self.result.seconds);
        self.result.atoms = self.simulation.lammps().total_atoms();
        let status = loop {
            let (begun, sent, known) = (Instant::now(), self.comm.bytes_sent(), self.result.candidates.len());
            let event = match self.simulation.advance() {
                Err(error) if error.is_rank_failure() => return Err(self.alone(error)),
                other => other?,
            };
            match event {
                Event::Finished => break Status::Completed,
                Event::Crashed(crash) => {
                    self.crashed(crash)?;
                    break Status::Crashed;
                }
                Event::Polled(poll) => {
                    let regions = self.result.cost;
                    let outcome = self.polled(&poll, started);
                    let cost = &mut self.result.cost;
                    cost.polls += 1;
                    let for_regions = cost.region_seconds - regions.region_seconds;
                    cost.poll_seconds += begun.elapsed().as_secs_f64() - poll.seconds - for_regions;
                    cost.poll_bytes += self.comm.bytes_sent() - sent - (cost.region_bytes - regions.region_bytes);
                    if self.result.candidates.len() > known {
                        self.result.event_seconds = Some(begun.elapsed().as_secs_f64() - poll.seconds);
                        self.result.commit_seconds = self.recorder.as_mut().map(Recorder::take_commit_seconds);
                    }
                    self.result.seconds = before + started.elapsed().as_secs_f64();
                    match outcome.and_then(|status| self.kept(status)) {
                        Ok(None) => {}
                        Ok(Some(status)) => break status,
                        Err(Error::Simulation(error)) if error.is_rank_failure() => return Err(self.alone(error)),
                        Err(error) if self.unwritable => {
                            self.gave_way(error, poll.step)?;
                            break Status::Crashed;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        };
        self.result.status = status;
        self.result.seconds = before + started.elapsed().as_secs_f64();
        self.result.cost.collect(&self.comm);
        let left_over = self.recorder.as_ref().map(Recorder::left_over).unwrap_or_default();
        let left_over = self.comm.broadcast(0, left_over.iter().flat_map(|id| id.to_le_bytes()).collect());
        self.result.candidates.extend(left_over.as_chunks().0.iter().map(|id| i64::from_le_bytes(*id)));
        let (recorder, result) = (&self.recorder, &self.result);
        self.comm.on_root(|| recorder.as_ref().map_or(Ok(()), |r| r.result(result)))?;
        Ok(self.result)
    }

    /// Writes on rank 0, and remembers on all ranks if that went wrong.
    fn write<T>(&mut self, work: impl FnOnce(&mut Recorder) -> Result<T, Error>) -> Result<Option<T>, Error> {
        let recorder = &mut self.recorder;
        let outcome = self.comm.on_root(|| recorder.as_mut().map(work).transpose());
        self.unwritable |= outcome.is_err();
        outcome.map(Option::flatten)
    }

    /// Writes a checkpoint where one is due: every so many steps, and where a run ends in good order.
    fn kept(&mut self, status: Option<Status>) -> Result<Option<Status>, Error> {
        let step = self.simulation.lammps().step();
        let last = step == self.simulation.last_step();
        let due = |every: u64| status.is_some() || last || step % every as i64 == 0;
        let begun = self.checkpointed.unwrap_or(self.simulation.first_step());
        if self.checkpoints.is_some_and(due) && (step > begun || status.is_some()) {
            self.checkpoint(step)?;
        }
        Ok(status)
    }

    fn checkpoint(&mut self, step: i64) -> Result<(), Error> {
        // The one that is there is not touched: the state below changes in one go.
        if self.checkpointed != Some(step) {
            let path = self.folder.join(restart_name(step));
            match self.simulation.checkpoint(&path) {
                Ok(()) => {}
                Err(error) if error.is_rank_failure() => return Err(error.into()),
                Err(error) => {
                    self.unwritable = true;
                    let _ = self.comm.on_root(|| Ok::<_, Error>(std::fs::remove_file(&path).ok()));
                    return Err(Error::Write { path, source: std::io::Error::other(error) });
                }
            }
        }
        let result = &self.result;
        let progress = Progress {
            trigger_step: result.trigger_step,
            gamma_max: result.gamma_max.map(|gamma| gamma.to_string()),
            atom_id: result.atom_id,
            candidates: result.candidates.clone(),
            flagged: result.flagged,
            known: result.known,
            warnings: result.warnings.clone(),
            more_warnings: result.more_warnings,
            seconds: result.seconds,
            last: result.last.clone(),
            missed: self.missed,
        };
        let (first, ranks, last_flag) = (self.simulation.first_step(), self.comm.size(), self.last_flag);
        let files = if self.comm.is_root() { self.simulation.file_lengths() } else { BTreeMap::new() };
        self.write(|r| r.checkpoint(step, first, ranks, last_flag, files, progress))?;
        self.checkpointed = Some(step);
        Ok(())
    }

    /// Ends a run whose files cannot be written: with the room that was kept for this, its last valid frame gives a
    /// candidate as that of any other crash.
    fn gave_way(&mut self, error: Error, step: i64) -> Result<(), Error> {
        if let Some(recorder) = &self.recorder {
            recorder.release_reserve();
        }
        self.crashed(Crash { step, kind: CrashKind::Unwritable, reason: error.to_string() }).map_err(|_| error)
    }

    /// Notes a poll and acts on it; gives the status with which the run ends, if it does.
    fn polled(&mut self, poll: &Poll, started: Instant) -> Result<Option<Status>, Error> {
        let missed = std::mem::take(&mut self.missed);
        if self.resumed.take() == Some(poll.step) {
            if missed {
                // The settings may be others now.
                self.store_regions(poll)?;
            }
            self.insure(poll)?;
            return Ok(None);
        }
        self.result.steps = poll.steps;
        if poll.steps == 0
            && let Some(doubt) = self.config.doubt_velocities(poll.temperature)
        {
            self.result.warnings.push(doubt.remark.to_string());
        }
        self.result.last = Some(poll.clone());
        let written = self.recorder.as_mut().map_or(Ok(()), |r| r.poll(poll));
        if let Some(gamma) = &poll.gamma {
            self.result.gamma_max = Some(self.result.gamma_max.map_or(gamma.max, |g| g.max(gamma.max)));
        }
        let seen = match &mut self.observer {
            Some(observer) => catch_unwind(AssertUnwindSafe(|| observer(poll))),
            None => Ok(()),
        };
        let over = self.config.wall_time.is_some_and(|limit| started.elapsed().as_secs_f64() > limit);
        let stop = self.told(written, seen, over || self.interrupt.load(Ordering::Relaxed))?;
        match (poll.verdict, &poll.gamma) {
            (Verdict::Extrapolating, Some(gamma)) => {
                self.result.trigger_step.get_or_insert(poll.step);
                self.result.atom_id = Some(gamma.worst_id);
                self.store_regions(poll)?;
                if self.config.mode == Mode::Stop {
                    return Ok(Some(Status::Uncertain));
                }
            }
            (Verdict::Flagged, Some(_)) => {
                self.result.flagged += 1;
                let every = self.config.flag_interval as i64;
                if every > 0 && self.last_flag.is_none_or(|last| poll.step - last >= every) {
                    self.last_flag = Some(poll.step);
                    self.store_regions(poll)?;
                }
            }
            _ => {}
        }
        // What is wrong with a region is often wrong with the next thousand.
        let more = self.result.warnings.len().saturating_sub(WARNINGS);
        self.result.warnings.truncate(WARNINGS);
        self.result.more_warnings += more as u64;
        self.insure(poll)?;
        Ok(stop.then_some(Status::Interrupted))
    }

    /// Stores the regions of a poll above a threshold.
    fn store_regions(&mut self, poll: &Poll) -> Result<(), Error> {
        let Some(gamma) = &poll.gamma else { return Ok(()) };
        if poll.verdict == Verdict::Flagged {
            return self.store(gamma.worst_id, Some(gamma.max), poll.step, Trigger::Flag, false);
        }
        let separation = self.extractor.as_ref().map_or(0.0, EmbeddingExtractor::radius);
        for (center, gamma) in self.simulation.centers(gamma, separation, self.config.regions_per_event)? {
            self.store(center, Some(gamma), poll.step, Trigger::Gamma, false)?;
        }
        Ok(())
    }

    /// Tells all ranks what became of a poll or an event, in one communication: whether its line was written, whether an
    /// observer panicked, which ends the run on all of them instead of leaving the others in a communication that never comes, and
    /// whether any wants to stop, which this returns.
    fn told(&mut self, written: Result<(), Error>, seen: std::thread::Result<()>, stop: bool) -> Result<bool, Error> {
        let rank = self.comm.rank() as i64;
        let mut first = [written.is_err(), seen.is_err(), stop].map(|here| if here { rank } else { i64::MAX });
        self.comm.min_each_i64(&mut first);
        let [unwritten, panicked, stop] = first.map(|rank| (rank != i64::MAX).then_some(rank as usize));
        self.unwritable |= unwritten.is_some();
        let written = if unwritten.is_some() { self.comm.agree(written) } else { Ok(()) };
        if panicked.is_some() {
            // While all are here to do it: the one that unwinds will not come back.
            let _ = self.simulation.end_run();
        }
        if let Err(panic) = seen {
            resume_unwind(panic);
        }
        if let Some(rank) = panicked {
            return Err(Elsewhere { rank, message: "its observer panicked".to_owned() }.into());
        }
        written.map(|()| stop.is_some())
    }

    /// Stores the region of the last valid frame that is to blame: around its worst γ, else around its fastest atom.
    fn crashed(&mut self, crash: Crash) -> Result<(), Error> {
        self.result.trigger_step.get_or_insert(crash.step);
        self.result.crash = Some(crash);
        self.simulation.keep();
        let frame = self.simulation.last_valid();
        if frame.cell().is_none() {
            self.result
                .warnings
                .push("the run broke before its first poll: there is no valid frame to cut from".into());
            return Ok(());
        }
        let step = frame.step();
        let (id, gamma) = self.to_blame(self.result.last.as_ref());
        self.result.atom_id = Some(id);
        self.store(id, gamma, step, Trigger::Crash, true)
    }

    /// The atom of the last valid frame that a crash is blamed on, and its γ; `last` is its poll.
    fn to_blame(&self, last: Option<&Poll>) -> (i32, Option<f64>) {
        match last.and_then(|poll| poll.gamma.as_ref()) {
            Some(g) => (g.worst_id, Some(g.max)),
            None => (self.simulation.last_valid().fastest_atom(&self.comm), None),
        }
    }

    /// Tells all ranks what to store if one of them fails alone from here on, where what they know is too old.
    ///
    /// As long as γ is below both limits and not much above what it was, no atom is suspected more than another, and a region
    /// that is some steps old does.
    fn insure(&mut self, poll: &Poll) -> Result<(), Error> {
        let Some(extractor) = self.extractor.as_ref().filter(|_| self.comm.size() > 1) else { return Ok(()) };
        let calm = poll.gamma.as_ref().filter(|_| poll.verdict == Verdict::Reliable);
        if calm.zip(self.insurance.as_ref()).is_some_and(|(gamma, known)| known.still_does(poll.step, gamma.max)) {
            return Ok(());
        }
        let (begun, sent) = (Instant::now(), self.comm.bytes_sent());
        self.simulation.keep();
        let (center, gamma) = self.to_blame(Some(poll));
        let region = match self.simulation.share_last_valid(center, extractor) {
            Ok(region) => region,
            // As at an event, no reason to end the run.
            Err(simulation::Error::Embedding(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let step = self.simulation.last_valid().step();
        self.result.cost.shares += 1;
        self.result.cost.shared_seconds += begun.elapsed().as_secs_f64();
        self.result.cost.shared_bytes += self.comm.bytes_sent() - sent;
        self.insurance = Some(Insurance { region, step, center, gamma });
        Ok(())
    }

    /// Writes down what this rank knows, while the others wait for it in a communication that will never end.
    ///
    /// Nothing here may be collective. Of several ranks that fail at once, the first does it.
    fn alone(mut self, error: simulation::Error) -> Error {
        let Some(crash) = error.rank_failure().map(|alone| self.simulation.crash_of(alone)) else {
            return error.into();
        };
        let folder = self.folder.clone();
        let claimed = File::options().write(true).create_new(true).open(folder.join(files::RESULT));
        if claimed.is_err() {
            // Whoever came first aborts this process too, once all is written.
            std::thread::sleep(std::time::Duration::from_secs(10));
            return error.into();
        }
        self.result.status = Status::Crashed;
        self.result.trigger_step.get_or_insert(crash.step);
        self.result.crash = Some(crash);
        match self.store_alone(&folder) {
            Ok(()) => Error::Alone(error),
            Err(other) => {
                eprintln!("error: {other}");
                error.into()
            }
        }
    }

    fn store_alone(&mut self, folder: &Path) -> Result<(), Error> {
        let mut recorder = match self.recorder.take() {
            Some(recorder) => recorder,
            None => {
                let cutoff = self.extractor.as_ref().map(EmbeddingExtractor::cutoff);
                Recorder::again(folder, self.config, cutoff, self.store)?
            }
        };
        let room = self.room();
        if let (Some(insurance), Some(extractor), true) = (&self.insurance, &self.extractor, room(0)) {
            self.result.atom_id = Some(insurance.center);
            match self.simulation.build(&insurance.region, extractor) {
                Ok(cut_out) => {
                    // Not asked of the potential, which has just failed.
                    let checked = Verification::default();
                    let id =
                        recorder.candidate(&cut_out, checked, insurance.gamma, insurance.step, Trigger::Crash, room)?;
                    self.result.candidates.extend(id);
                }
                Err(error) => self.result.warnings.push(format!("step {}: {error}", insurance.step)),
            }
        }
        recorder.result(&self.result)
    }

    /// Cuts a region out and stores it, if there is room for one more, and notes what that cost.
    fn store(
        &mut self,
        center: i32,
        gamma: Option<f64>,
        step: i64,
        trigger: Trigger,
        from_last_valid: bool,
    ) -> Result<(), Error> {
        if self.extractor.is_none() {
            return Ok(());
        }
        let most = self.config.max_candidates;
        if self.result.candidates.len() >= most {
            let full = format!("no more is stored than max_candidates = {most}");
            if !self.result.warnings.contains(&full) {
                // First, so that others do not crowd it out.
                self.result.warnings.insert(0, full);
            }
            return Ok(());
        }
        let (begun, sent) = (Instant::now(), self.comm.bytes_sent());
        self.cut_and_store(center, gamma, step, trigger, from_last_valid)?;
        let cost = &mut self.result.cost;
        cost.regions += 1;
        cost.region_seconds += begun.elapsed().as_secs_f64();
        cost.region_bytes += self.comm.bytes_sent() - sent;
        Ok(())
    }

    /// Cuts a region out and stores it. A region that makes no valid cell is a warning: the run's end says why it ended.
    fn cut_and_store(
        &mut self,
        center: i32,
        gamma: Option<f64>,
        step: i64,
        trigger: Trigger,
        from_last_valid: bool,
    ) -> Result<(), Error> {
        let Some(extractor) = &self.extractor else { return Ok(()) };
        let cut = if from_last_valid {
            self.simulation.cut_out_of_last_valid(center, extractor)
        } else {
            self.simulation.cut_out(center, extractor)
        };
        let cut_out = match cut {
            Ok(cut_out) => cut_out,
            Err(error @ (simulation::Error::Embedding(_) | simulation::Error::Elsewhere(_))) => {
                self.result.warnings.push(format!("step {step}, atom {center}: {error}"));
                self.missed = true;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let (simulation, config, warnings) = (&self.simulation, self.config, &mut self.result.warnings);
        let checked = self.comm.on_root(|| {
            Ok::<_, Error>(cut_out.map(|mut cut_out| {
                let checked = relax_and_check(&mut cut_out, config, simulation, step, warnings);
                (cut_out, checked)
            }))
        })?;
        let room = self.room();
        let id = self.write(|recorder| match checked.flatten() {
            Some((cut_out, checked)) => recorder.candidate(&cut_out, checked, gamma, step, trigger.clone(), room),
            None => Ok(None),
        })?;
        // -1 for a region whose like is stored already.
        let id = id.flatten().unwrap_or(-1);
        let id = self.comm.broadcast(0, id.to_le_bytes().to_vec());
        let id = i64::from_le_bytes(id.try_into().expect("eight bytes"));
        if id < 0 {
            self.result.known += 1;
            return Ok(());
        }
        self.result.candidates.push(id);
        let stored = Stored {
            candidate: id,
            step,
            center_id: center,
            gamma: gamma.filter(|g| g.is_finite()),
            trigger: trigger.as_str().to_owned(),
            file: self.result.output.join(extxyz_of(id)),
        };
        let told = match &mut self.announcer {
            Some(announcer) => catch_unwind(AssertUnwindSafe(|| announcer(&stored))),
            None => Ok(()),
        };
        self.told(Ok(()), told, false).map(|_| ())
    }

    /// Whether there may be one more candidate, those of an earlier process apart.
    fn room(&self) -> impl Fn(usize) -> bool + use<> {
        let (stored, most) = (self.result.candidates.len(), self.config.max_candidates);
        move |earlier| stored + earlier < most
    }
}

/// What a configuration wants done with a cut-out before it is stored. Where the potential fails at it, which is not to be
/// trusted there, that is a warning, and the cut-out stays as it is.
pub(crate) fn relax_and_check(
    cut_out: &mut CutOut,
    config: &InferenceConfig,
    simulation: &Simulation,
    step: i64,
    warnings: &mut Vec<String>,
) -> Verification {
    note_size(cut_out, config, step, warnings);
    if config.relax
        && let Err(error) = relax(cut_out, simulation.script())
    {
        let center = cut_out.cluster.source_ids[cut_out.cluster.center];
        warnings.push(format!("step {step}, atom {center}: the buffer is stored as it was, not relaxed: {error}"));
    }
    if config.verify { check(cut_out, config.relax, simulation, step, warnings) } else { Verification::default() }
}

/// Warns of a cut-out that is not as large as the configuration asks, or larger.
fn note_size(cut_out: &CutOut, config: &InferenceConfig, step: i64, warnings: &mut Vec<String>) {
    let cluster = &cut_out.cluster;
    let (center, atoms, most) = (cluster.source_ids[cluster.center], cluster.structure.len(), cluster.max_atoms);
    let (radius, wanted) = (cluster.radius, config.embedding.radius);
    if cluster.is_oversized() {
        warnings.push(format!(
            "step {step}, atom {center}: the cut-out has {atoms} atoms, more than max_atoms = {most}, because the buffer alone \
             has; it is stored with the key `oversized`"
        ));
    } else if radius < wanted {
        warnings.push(format!(
            "step {step}, atom {center}: the core has a radius of {radius} Å instead of {wanted} Å, so that the cut-out has no \
             more atoms than max_atoms = {most}"
        ));
    }
}

/// Neighbours, γ and forces of the core in the cut-out against the parent; what should agree and does not is a warning.
/// `relaxed`: the buffer has been moved, but for what the centre sees.
fn check(
    cut_out: &CutOut,
    relaxed: bool,
    simulation: &Simulation,
    step: i64,
    warnings: &mut Vec<String>,
) -> Verification {
    let cluster = &cut_out.cluster;
    let center = cluster.source_ids[cluster.center];
    let mut warn = |text: String| warnings.push(format!("step {step}, atom {center}: {text}"));
    let found = match verify(cut_out, simulation.script()) {
        Ok(found) => found,
        Err(error) => {
            warn(format!("the cut-out could not be checked by the potential: {error}"));
            return Verification::default();
        }
    };
    let (buffer, cutoff) = (cluster.buffer, cluster.cutoff);
    if !cluster.is_complete() {
        let forces =
            found.max_force_difference.map_or(String::new(), |d| format!(" and forces differ by up to {d:.1e} eV/Å"));
        warn(format!(
            "the buffer of {buffer} Å is thinner than the cutoff of {cutoff} Å, so that the core does not see all its \
             neighbours{forces}; give `buffer = {cutoff}` in [embedding]"
        ));
        return found;
    }
    let core = (0..cluster.structure.len()).filter(|&i| cluster.force_mask[i] == 1.0);
    let changed = core
        .filter(|&i| i == cluster.center || !relaxed)
        .map(|i| (i, cluster.changed_neighbours(i, &cut_out.surroundings)))
        .find(|(_, changed)| *changed > 0);
    // The first difference explains those that follow from it.
    if let Some((at, changed)) = changed {
        warn(format!(
            "{changed} neighbours of atom {} differ between the cut-out and the frame, although the buffer is not thinner \
             than the cutoff; do not use this candidate, and report this as a fault of lammps-otf",
            cluster.source_ids[at]
        ));
    } else if let (false, Some(parent), Some(here)) = (found.same_gamma(), found.gamma_parent, found.gamma_cluster) {
        warn(format!(
            "γ of the centre is {here:.10} in the cut-out and {parent:.10} in the frame, where it has the same neighbours; \
             rounding accounts for {:.1e}. Do not use this candidate, and report this as a fault of lammps-otf",
            found.gamma_rounding.unwrap_or(0.0)
        ));
    } else if let (true, false, false, Some(difference)) =
        (buffer >= 2.0 * cutoff, relaxed, found.same_forces(), found.max_force_difference)
    {
        warn(format!(
            "forces in the core differ by {difference:.1e} eV/Å from those in the frame, although the buffer is twice the \
             cutoff"
        ));
    }
    found
}
