// SPDX-License-Identifier: GPL-2.0-or-later
//! The main loop of a run: advances the simulation, and handles polls, events and crashes.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::averages::Sums;
use super::checkpoint::{Progress, restart_name};
use super::recorder::{Recorder, SharedStore, extxyz_of};
use super::{Announcer, Error, Observer, SimulationResult, Status, Stored, files};
use crate::candidates::Trigger;
use crate::comm::{CollectiveError as _, Comm, RemoteError};
use crate::config::{InferenceConfig, Mode};
use crate::embedding::EmbeddingExtractor;
use crate::event::{self, Outcome, Pipeline, Region, Sink as _, environment_of};
use crate::simulation::{self, Crash, CrashKind, Event, Neighbourhood, Poll, Simulation};
use crate::uncertainty::Verdict;
use crate::verify::Verification;

/// A run in progress.
pub(super) struct Run<'r, 'o> {
    pub(super) comm: Comm,
    pub(super) config: &'r InferenceConfig,
    pub(super) simulation: Simulation,
    pub(super) extractor: Option<EmbeddingExtractor>,
    /// On rank 0 only.
    pub(super) recorder: Option<Recorder>,
    pub(super) observer: Option<&'r mut Observer<'o>>,
    pub(super) announcer: Option<&'r mut Announcer<'o>>,
    pub(super) interrupt: &'r AtomicBool,
    pub(super) result: SimulationResult,
    /// The last step at which the region of a flagged poll was stored.
    pub(super) last_flag: Option<i64>,
    /// On several ranks, the region that a rank stores if it fails alone.
    pub(super) fallback: Option<FallbackRegion>,
    /// SHA-256 of the potential's files.
    pub(super) potential_hash: String,
    /// Steps between two checkpoints.
    pub(super) checkpoints: Option<u64>,
    /// Step of the last checkpoint.
    pub(super) checkpointed: Option<i64>,
    /// The step that the run continues from, whose poll an earlier process has recorded.
    pub(super) resumed: Option<i64>,
    /// Whether a region of the last poll could not be extracted.
    pub(super) extraction_failed: bool,
    /// Sums for the averages in the result.
    pub(super) sums: Sums,
    /// Whether a file could not be written; the same on all ranks.
    pub(super) unwritable: bool,
    /// Absolute path of the folder of the run, on all ranks.
    pub(super) folder: PathBuf,
    /// The store of the candidates, if it is not in that folder.
    pub(super) store: Option<&'r SharedStore>,
}

/// A region that every rank has, and stores if it fails alone. It is the region that a crash right after its poll would be
/// attributed to.
pub(super) struct FallbackRegion {
    region: Region,
    atoms: Neighbourhood,
}

/// Number of steps for which a [`FallbackRegion`] stays valid while γ is low, so that most polls need no communication for it.
/// With a time step of 1 fs it is 0.1 ps, about one vibration period.
const MAX_AGE: i64 = 100;
/// A [`FallbackRegion`] is replaced if the largest γ exceeds the γ of its centre by this factor.
const REFRESH_RATIO: f64 = 1.25;

impl FallbackRegion {
    /// Whether the region is still valid at a step whose largest γ is below both thresholds.
    fn is_valid(&self, step: i64, gamma: f64) -> bool {
        step - self.region.step < MAX_AGE
            && self.region.gamma.is_some_and(|at_centre| gamma <= REFRESH_RATIO * at_centre)
    }
}

/// Maximum number of warnings in a result.
const MAX_WARNINGS: usize = 100;

impl Run<'_, '_> {
    /// Runs to the end and writes the result.
    ///
    /// # MPI
    /// Collective.
    pub(super) fn run(mut self) -> Result<SimulationResult, Error> {
        let (started, earlier_seconds) = (Instant::now(), self.result.seconds);
        self.result.atoms = self.simulation.lammps().total_atoms();
        let status = loop {
            let (poll_start, sent, stored) = (Instant::now(), self.comm.bytes_sent(), self.result.candidates.len());
            let event = match self.simulation.advance() {
                Err(error) if error.is_rank_failure() => return Err(self.handle_rank_failure(error)),
                other => other?,
            };
            match event {
                Event::Finished => break Status::Completed,
                Event::Crashed(crash) => {
                    self.store_crash(crash)?;
                    break Status::Crashed;
                }
                Event::Polled(poll) => {
                    let regions = self.result.cost;
                    let outcome = self.handle_poll(&poll, started);
                    let cost = &mut self.result.cost;
                    cost.polls += 1;
                    let for_regions = cost.region_seconds - regions.region_seconds;
                    cost.poll_seconds += poll_start.elapsed().as_secs_f64() - poll.seconds - for_regions;
                    cost.poll_bytes += self.comm.bytes_sent() - sent - (cost.region_bytes - regions.region_bytes);
                    if self.result.candidates.len() > stored {
                        self.result.event_seconds = Some(poll_start.elapsed().as_secs_f64() - poll.seconds);
                        self.result.commit_seconds = self.recorder.as_mut().map(Recorder::take_commit_seconds);
                    }
                    self.result.seconds = earlier_seconds + started.elapsed().as_secs_f64();
                    match outcome.and_then(|status| self.checkpoint_if_due(status)) {
                        Ok(None) => {}
                        Ok(Some(status)) => break status,
                        Err(Error::Simulation(error)) if error.is_rank_failure() => {
                            return Err(self.handle_rank_failure(error));
                        }
                        Err(error) if self.unwritable => {
                            self.abort_on_io_error(error, poll.step)?;
                            break Status::Crashed;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        };
        self.result.status = status;
        self.result.seconds = earlier_seconds + started.elapsed().as_secs_f64();
        self.result.cost.reduce(&self.comm);
        self.result.averages = self.sums.averages();
        let remaining = self.recorder.as_ref().map(Recorder::remaining_earlier).unwrap_or_default();
        self.result.candidates.extend(self.comm.broadcast(0, remaining));
        let (recorder, result) = (&self.recorder, &self.result);
        self.comm.on_root(|| recorder.as_ref().map_or(Ok(()), |r| r.result(result)))?;
        Ok(self.result)
    }

    /// Writes on rank 0. Sets `unwritable` on all ranks if that fails.
    fn write<T>(&mut self, work: impl FnOnce(&mut Recorder) -> Result<T, Error>) -> Result<Option<T>, Error> {
        let recorder = &mut self.recorder;
        let outcome = self.comm.on_root(|| recorder.as_mut().map(work).transpose());
        self.unwritable |= outcome.is_err();
        outcome.map(Option::flatten)
    }

    /// Writes a checkpoint if one is due: at the configured interval, and when the run ends normally.
    fn checkpoint_if_due(&mut self, status: Option<Status>) -> Result<Option<Status>, Error> {
        let step = self.simulation.lammps().step();
        let last = step == self.simulation.last_step();
        let due = |every: u64| status.is_some() || last || step % every as i64 == 0;
        let previous = self.checkpointed.unwrap_or(self.simulation.first_step());
        if self.checkpoints.is_some_and(due) && (step > previous || status.is_some()) {
            self.checkpoint(step)?;
        }
        Ok(status)
    }

    fn checkpoint(&mut self, step: i64) -> Result<(), Error> {
        // The restart file of this step exists already. It is kept, and only `checkpoint.json` is replaced.
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
            audits: result.audits.clone(),
            flagged: result.flagged,
            known: result.known,
            warnings: result.warnings.clone(),
            more_warnings: result.more_warnings,
            seconds: result.seconds,
            last: result.last.clone(),
            sums: self.sums.clone(),
            bias: self.simulation.bias_state(),
            extraction_failed: self.extraction_failed,
        };
        let (first, ranks, last_flag) = (self.simulation.first_step(), self.comm.size(), self.last_flag);
        let files = if self.comm.is_root() { self.simulation.file_lengths() } else { BTreeMap::new() };
        self.write(|r| r.checkpoint(step, first, ranks, last_flag, files, progress))?;
        self.checkpointed = Some(step);
        Ok(())
    }

    /// Ends a run whose files cannot be written. Releases the reserved disk space and stores the candidate of the last valid
    /// frame, as for any other crash.
    fn abort_on_io_error(&mut self, error: Error, step: i64) -> Result<(), Error> {
        if let Some(recorder) = &self.recorder {
            recorder.release_reserve();
        }
        self.store_crash(Crash { step, kind: CrashKind::Unwritable, reason: error.to_string() }).map_err(|_| error)
    }

    /// Records a poll and stores regions if γ is above a threshold. Returns the status if the run ends.
    fn handle_poll(&mut self, poll: &Poll, started: Instant) -> Result<Option<Status>, Error> {
        let extraction_failed = std::mem::take(&mut self.extraction_failed);
        if self.resumed.take() == Some(poll.step) {
            if extraction_failed {
                // The settings may have changed, so that extraction may succeed now.
                self.store_regions(poll)?;
            }
            self.share_fallback(poll)?;
            return Ok(None);
        }
        self.result.steps = poll.steps;
        if poll.steps == 0
            && let Some(mismatch) = self.config.check_velocities(poll.temperature)
        {
            self.result.warnings.push(mismatch.remark.to_string());
        }
        self.result.last = Some(poll.clone());
        self.sums.add(poll, self.config.md.steps);
        let written = self.recorder.as_mut().map_or(Ok(()), |r| r.poll(poll));
        if let Some(gamma) = &poll.gamma {
            self.result.gamma_max = Some(self.result.gamma_max.map_or(gamma.max, |g| g.max(gamma.max)));
        }
        let observed = match &mut self.observer {
            Some(observer) => catch_unwind(AssertUnwindSafe(|| observer(poll))),
            None => Ok(()),
        };
        let time_is_up = self.config.job.wall_time.is_some_and(|limit| started.elapsed().as_secs_f64() > limit);
        let stop = self.agree_or_unwind(written, observed, time_is_up || self.interrupt.load(Ordering::Relaxed))?;
        match (poll.verdict, &poll.gamma) {
            (Verdict::Extrapolating, Some(_)) => {
                self.result.trigger_step.get_or_insert(poll.step);
                self.result.atom_id = poll.suspect();
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
        if let Some(region) = event::audit(&self.simulation, poll, 0)? {
            self.store(&region)?;
        }
        // A warning often repeats at thousands of polls.
        let more = self.result.warnings.len().saturating_sub(MAX_WARNINGS);
        self.result.warnings.truncate(MAX_WARNINGS);
        self.result.more_warnings += more as u64;
        self.share_fallback(poll)?;
        if poll.bias.as_ref().is_some_and(|bias| bias.guard.is_some()) {
            return Ok(Some(Status::Guarded));
        }
        Ok(stop.then_some(Status::Interrupted))
    }

    /// Stores the regions of a poll above a threshold.
    fn store_regions(&mut self, poll: &Poll) -> Result<(), Error> {
        let Some(extractor) = &self.extractor else { return Ok(()) };
        let regions = event::regions(&self.simulation, poll, extractor, self.config.candidates.regions_per_event)?;
        regions.iter().try_for_each(|region| self.store(region))
    }

    /// Combines the outcomes of a poll or an event of all ranks in one communication: whether its line was written, whether an
    /// observer panicked, and whether any rank requests a stop, which is returned.
    ///
    /// A panic ends the run on all ranks, so that no rank waits for the one that unwinds.
    fn agree_or_unwind(
        &mut self,
        written: Result<(), Error>,
        observed: std::thread::Result<()>,
        stop: bool,
    ) -> Result<bool, Error> {
        let rank = self.comm.rank() as i64;
        let mut first = [written.is_err(), observed.is_err(), stop].map(|set| if set { rank } else { i64::MAX });
        self.comm.min_each_i64(&mut first);
        let [unwritten, panicked, stop] = first.map(|rank| (rank != i64::MAX).then_some(rank as usize));
        self.unwritable |= unwritten.is_some();
        let written = if unwritten.is_some() { self.comm.agree(written) } else { Ok(()) };
        if panicked.is_some() {
            // Collective, so it must precede the unwinding.
            let _ = self.simulation.end_run();
        }
        if let Err(panic) = observed {
            resume_unwind(panic);
        }
        if let Some(rank) = panicked {
            return Err(RemoteError { rank, message: "its observer panicked".to_owned() }.into());
        }
        written.map(|()| stop.is_some())
    }

    /// Records a crash, and stores the region of the last valid frame that it is attributed to.
    fn store_crash(&mut self, crash: Crash) -> Result<(), Error> {
        self.result.trigger_step.get_or_insert(crash.step);
        self.result.crash = Some(crash);
        self.simulation.commit_frame();
        match event::region_of_crash(&self.simulation, self.result.last.as_ref()) {
            Some(region) => {
                self.result.atom_id = Some(region.center);
                self.store(&region)
            }
            None => {
                self.result
                    .warnings
                    .push("no candidate was stored, because the run crashed before its first poll and there is no valid frame".into());
                Ok(())
            }
        }
    }

    /// Replaces the fallback region if it is no longer valid.
    ///
    /// While γ is below both thresholds and has not increased much, no atom is more suspect than any other, and a region of an
    /// earlier step is sufficient.
    fn share_fallback(&mut self, poll: &Poll) -> Result<(), Error> {
        let Some(extractor) = self.extractor.as_ref().filter(|_| self.comm.size() > 1) else { return Ok(()) };
        let calm = poll.gamma.as_ref().filter(|_| poll.verdict == Verdict::Reliable);
        if calm.zip(self.fallback.as_ref()).is_some_and(|(gamma, fallback)| fallback.is_valid(poll.step, gamma.max)) {
            return Ok(());
        }
        let (share_start, sent) = (Instant::now(), self.comm.bytes_sent());
        self.simulation.commit_frame();
        let Some(region) = event::region_of_crash(&self.simulation, Some(poll)) else { return Ok(()) };
        let atoms = match self.simulation.share_last_valid(region.center, extractor) {
            Ok(atoms) => atoms,
            // As at an event, this does not end the run.
            Err(simulation::Error::Embedding(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.result.cost.shares += 1;
        self.result.cost.shared_seconds += share_start.elapsed().as_secs_f64();
        self.result.cost.shared_bytes += self.comm.bytes_sent() - sent;
        self.fallback = Some(FallbackRegion { region, atoms });
        Ok(())
    }

    /// Writes the result and the candidate of the fallback region after a rank failure, while the other ranks wait in a
    /// communication that never completes.
    ///
    /// No call in here may be collective. If several ranks fail at the same time, the first one writes.
    fn handle_rank_failure(mut self, error: simulation::Error) -> Error {
        let Some(crash) = error.rank_failure().map(|failure| self.simulation.crash_of(failure)) else {
            return error.into();
        };
        let folder = self.folder.clone();
        let claimed = File::options().write(true).create_new(true).open(folder.join(files::RESULT));
        if claimed.is_err() {
            // Another rank is writing, and will abort the job.
            std::thread::sleep(std::time::Duration::from_secs(10));
            return error.into();
        }
        self.result.status = Status::Crashed;
        self.result.trigger_step.get_or_insert(crash.step);
        self.result.crash = Some(crash);
        match self.store_fallback(&folder) {
            Ok(()) => Error::RankFailure(error),
            Err(other) => {
                eprintln!("error: {other}");
                error.into()
            }
        }
    }

    /// Stores the fallback region, if there is one, and writes the result, without communication.
    fn store_fallback(&mut self, folder: &Path) -> Result<(), Error> {
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
                        // Not verified with the potential, because its evaluation may have caused the failure.
                        let candidate = pipeline.candidate(&cut_out, Verification::default(), region);
                        self.result.candidates.extend(recorder.store(candidate, environment)?);
                    }
                }
                Err(error) => self.result.warnings.push(format!("step {}: {error}", region.step)),
            }
        }
        recorder.result(&self.result)
    }

    /// Stores a region unless it is an event and `max_candidates` is reached, and accumulates the cost.
    fn store(&mut self, region: &Region) -> Result<(), Error> {
        let Some(extractor) = &self.extractor else { return Ok(()) };
        let limit = self.config.candidates.max_candidates;
        if region.trigger != Trigger::Audit && self.result.candidates.len() >= limit {
            let full = format!("no more candidates are stored: max_candidates = {limit} is reached");
            if !self.result.warnings.contains(&full) {
                // First, so that it is not removed when the list is truncated.
                self.result.warnings.insert(0, full);
            }
            return Ok(());
        }
        let (start, sent) = (Instant::now(), self.comm.bytes_sent());
        let (comm, config, potential_hash) = (&self.comm, self.config, self.potential_hash.as_str());
        let pipeline = Pipeline { comm, config, extractor, potential_hash };
        let outcome = pipeline.process(&self.simulation, region, self.recorder.as_mut(), &mut self.result.warnings);
        // All errors other than those of the simulation are I/O errors.
        self.unwritable |= matches!(&outcome, Err(error) if !matches!(error, Error::Simulation(_)));
        match outcome? {
            Outcome::Stored(id) => self.announce(id, region)?,
            Outcome::Known => self.result.known += 1,
            Outcome::Invalid => self.extraction_failed = true,
        }
        let cost = &mut self.result.cost;
        cost.regions += 1;
        cost.region_seconds += start.elapsed().as_secs_f64();
        cost.region_bytes += self.comm.bytes_sent() - sent;
        Ok(())
    }

    /// Adds a stored candidate to the result, and calls the announcer.
    fn announce(&mut self, id: i64, region: &Region) -> Result<(), Error> {
        match region.trigger {
            Trigger::Audit => self.result.audits.push(id),
            _ => self.result.candidates.push(id),
        }
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
        self.agree_or_unwind(Ok(()), announced, false).map(|_| ())
    }
}
