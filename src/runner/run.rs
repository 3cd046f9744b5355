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
use crate::comm::{CollectiveError as _, Comm, Elsewhere};
use crate::config::{InferenceConfig, Mode};
use crate::embedding::EmbeddingExtractor;
use crate::event::{self, Outcome, Pipeline, Region, Sink as _, environment_of};
use crate::simulation::{self, Crash, CrashKind, Event, Neighbourhood, Poll, Simulation};
use crate::uncertainty::Verdict;
use crate::verify::Verification;

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
    pub(super) fallback: Option<FallbackRegion>,
    /// SHA-256 of the potential's files.
    pub(super) potential_hash: String,
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

/// A region that every rank knows, and stores if it fails alone: the one that a crash right after its poll would be ascribed to.
pub(super) struct FallbackRegion {
    region: Region,
    atoms: Neighbourhood,
}

/// Number of steps for which a [`FallbackRegion`] stays valid while γ is low, so that most polls share nothing: a tenth of a
/// picosecond at a femtosecond each, about one vibration.
const MAX_AGE: i64 = 100;
/// Ratio by which the largest γ may exceed the γ of its centre before it is renewed.
const REFRESH_RATIO: f64 = 1.25;

impl FallbackRegion {
    /// Whether it is still valid at a step with this largest γ, below both thresholds.
    fn is_valid(&self, step: i64, gamma: f64) -> bool {
        step - self.region.step < MAX_AGE && self.region.gamma.is_some_and(|then| gamma <= REFRESH_RATIO * then)
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
            self.share_fallback(poll)?;
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
        let over = self.config.job.wall_time.is_some_and(|limit| started.elapsed().as_secs_f64() > limit);
        let stop = self.told(written, seen, over || self.interrupt.load(Ordering::Relaxed))?;
        match (poll.verdict, &poll.gamma) {
            (Verdict::Extrapolating, Some(gamma)) => {
                self.result.trigger_step.get_or_insert(poll.step);
                self.result.atom_id = Some(gamma.worst_id);
                self.store_regions(poll)?;
                if self.config.watch.mode == Mode::Stop {
                    return Ok(Some(Status::Uncertain));
                }
            }
            (Verdict::Flagged, Some(_)) => {
                self.result.flagged += 1;
                let every = self.config.watch.flag_interval as i64;
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
        self.share_fallback(poll)?;
        Ok(stop.then_some(Status::Interrupted))
    }

    /// Stores the regions of a poll above a threshold.
    fn store_regions(&mut self, poll: &Poll) -> Result<(), Error> {
        let Some(extractor) = &self.extractor else { return Ok(()) };
        let regions = event::regions(&self.simulation, poll, extractor, self.config.candidates.regions_per_event)?;
        regions.iter().try_for_each(|region| self.store(region))
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

    /// Stores the region of the last valid frame that the crash is ascribed to.
    fn crashed(&mut self, crash: Crash) -> Result<(), Error> {
        self.result.trigger_step.get_or_insert(crash.step);
        self.result.crash = Some(crash);
        self.simulation.keep();
        match event::region_of_crash(&self.simulation, self.result.last.as_ref()) {
            Some(region) => {
                self.result.atom_id = Some(region.center);
                self.store(&region)
            }
            None => {
                self.result
                    .warnings
                    .push("the run broke before its first poll: there is no valid frame to cut from".into());
                Ok(())
            }
        }
    }

    /// Renews the region that each rank stores if it fails alone, where the present one is too old.
    ///
    /// While γ is below both thresholds and has not risen much, no atom is more suspect than another, and a region that is some
    /// steps old will do.
    fn share_fallback(&mut self, poll: &Poll) -> Result<(), Error> {
        let Some(extractor) = self.extractor.as_ref().filter(|_| self.comm.size() > 1) else { return Ok(()) };
        let calm = poll.gamma.as_ref().filter(|_| poll.verdict == Verdict::Reliable);
        if calm.zip(self.fallback.as_ref()).is_some_and(|(gamma, fallback)| fallback.is_valid(poll.step, gamma.max)) {
            return Ok(());
        }
        let (begun, sent) = (Instant::now(), self.comm.bytes_sent());
        self.simulation.keep();
        let Some(region) = event::region_of_crash(&self.simulation, Some(poll)) else { return Ok(()) };
        let atoms = match self.simulation.share_last_valid(region.center, extractor) {
            Ok(atoms) => atoms,
            // As at an event, no reason to end the run.
            Err(simulation::Error::Embedding(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.result.cost.shares += 1;
        self.result.cost.shared_seconds += begun.elapsed().as_secs_f64();
        self.result.cost.shared_bytes += self.comm.bytes_sent() - sent;
        self.fallback = Some(FallbackRegion { region, atoms });
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
                Recorder::reopen(folder, self.config, cutoff, self.store, self.result.candidates.len())?
            }
        };
        if let (Some(FallbackRegion { region, atoms }), Some(extractor)) = (&self.fallback, &self.extractor) {
            self.result.atom_id = Some(region.center);
            match self.simulation.build(atoms, extractor) {
                Ok(cut_out) => {
                    let environment = environment_of(&cut_out);
                    if recorder.accepts(region, &environment) {
                        let (comm, config, potential_hash) = (&self.comm, self.config, self.potential_hash.as_str());
                        let pipeline = Pipeline { comm, config, extractor, potential_hash };
                        // Not verified with the potential, which has just failed.
                        let candidate = pipeline.candidate(&cut_out, Verification::default(), region);
                        self.result.candidates.extend(recorder.store(candidate, environment)?);
                    }
                }
                Err(error) => self.result.warnings.push(format!("step {}: {error}", region.step)),
            }
        }
        recorder.result(&self.result)
    }

    /// Stores a region, if there may be one more candidate, and adds up what that costs.
    fn store(&mut self, region: &Region) -> Result<(), Error> {
        let Some(extractor) = &self.extractor else { return Ok(()) };
        let most = self.config.candidates.max_candidates;
        if self.result.candidates.len() >= most {
            let full = format!("no more is stored than max_candidates = {most}");
            if !self.result.warnings.contains(&full) {
                // First, so that others do not crowd it out.
                self.result.warnings.insert(0, full);
            }
            return Ok(());
        }
        let (begun, sent) = (Instant::now(), self.comm.bytes_sent());
        let (comm, config, potential_hash) = (&self.comm, self.config, self.potential_hash.as_str());
        let pipeline = Pipeline { comm, config, extractor, potential_hash };
        let outcome = pipeline.process(&self.simulation, region, self.recorder.as_mut(), &mut self.result.warnings);
        // What is not of the simulation is of the files.
        self.unwritable |= matches!(&outcome, Err(error) if !matches!(error, Error::Simulation(_)));
        match outcome? {
            Outcome::Stored(id) => self.announce(id, region)?,
            Outcome::Known => self.result.known += 1,
            Outcome::Invalid => self.missed = true,
        }
        let cost = &mut self.result.cost;
        cost.regions += 1;
        cost.region_seconds += begun.elapsed().as_secs_f64();
        cost.region_bytes += self.comm.bytes_sent() - sent;
        Ok(())
    }

    fn announce(&mut self, id: i64, region: &Region) -> Result<(), Error> {
        self.result.candidates.push(id);
        let stored = Stored {
            candidate: id,
            step: region.step,
            center_id: region.center,
            gamma: region.gamma.filter(|gamma| gamma.is_finite()),
            trigger: region.trigger.as_str().to_owned(),
            file: self.result.output.join(extxyz_of(id)),
        };
        let announced = match &mut self.announcer {
            Some(announcer) => catch_unwind(AssertUnwindSafe(|| announcer(&stored))),
            None => Ok(()),
        };
        self.told(Ok(()), announced, false).map(|_| ())
    }
}
