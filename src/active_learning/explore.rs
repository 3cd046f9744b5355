// SPDX-License-Identifier: GPL-2.0-or-later
//! The run of one round: molecular dynamics until enough events have occurred.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::ledger::Ledger;
use super::{Error, Learning, Outcome, ResumeFrom, files, round_folder, run_folder};
use crate::candidates::{Candidate, Phase, Round, RoundOutcome, RunState, Trigger};
use crate::embedding::Environment;
use crate::event::{self, Pipeline, Region, Sink};
use crate::frame::Frame;
use crate::runner::provenance;
use crate::simulation::{Event, Poll, Simulation};
use crate::uncertainty::Verdict;

/// State of the run of a round. All fields except `candidates` are the same on all ranks.
#[derive(Default)]
struct Exploration {
    /// Index of the run.
    run: usize,
    /// Number of events.
    events: u32,
    /// Step of the first event.
    first_event: Option<i64>,
    /// Step of the last event.
    last_event: Option<i64>,
    /// Simulated time in ps of the last event, or of the first poll if there was no event.
    quiet_since: Option<f64>,
    /// The largest γ.
    gamma_max: f64,
    /// The last frame before the first event whose poll was reliable.
    reliable: Option<Frame>,
    /// The last poll.
    last: Option<Poll>,
    /// Seconds in time steps of LAMMPS.
    running: f64,
    /// Extracted candidates, on rank 0.
    candidates: Vec<Candidate>,
}

/// Collects the candidates of a round, which are stored at its end in one transaction.
struct RoundCandidates<'l> {
    ledger: &'l mut Ledger,
    candidates: &'l mut Vec<Candidate>,
}

impl Sink for RoundCandidates<'_> {
    type Error = Error;

    fn accepts(&mut self, region: &Region, environment: &Environment) -> bool {
        region.trigger == Trigger::Audit || !self.ledger.known().contains(environment)
    }

    /// Returns id 0, because ids are assigned at the end of the round.
    fn store(&mut self, candidate: Candidate, environment: Environment) -> Result<Option<i64>, Error> {
        if candidate.keys.trigger != Some(Trigger::Audit) {
            self.ledger.known().insert(0, environment);
        }
        self.candidates.push(candidate);
        Ok(Some(0))
    }
}

impl Learning<'_, '_> {
    /// Runs until enough events have occurred, and stores their regions; or until the run is quiet. Of several runs, that which is next.
    pub(super) fn explore(&mut self) -> Result<Option<Outcome>, Error> {
        let index = self.round.next_run().unwrap_or(0);
        let setup_start = Instant::now();
        let mut simulation = self.simulation(index)?;
        simulation.set_threshold(self.limits.threshold, self.limits.error_bound());
        if self.round.number > 1 {
            self.swapping += setup_start.elapsed();
        }
        self.ledger.iter_mut().for_each(Ledger::record_setup);
        let run_start = Instant::now();
        let mut exploration = Exploration { run: index, ..Exploration::default() };
        let name = self.runs[index].name.clone();
        self.on_ledger(|ledger| ledger.start_polls(&name))?;
        let (folder, config, comm) = (&self.folder, &self.config, &self.comm);
        comm.on_root(|| Ok::<_, Error>(provenance::write(folder, config, None, simulation.lammps(), comm)?))?;
        let seen = loop {
            let step_start = Instant::now();
            let event = simulation.advance()?;
            exploration.running += match &event {
                Event::Polled(poll) => poll.seconds,
                _ => step_start.elapsed().as_secs_f64(),
            };
            match event {
                Event::Finished => break RoundOutcome::Quiet,
                Event::Crashed(_) => {
                    if let Some(region) = event::region_of_crash(&simulation, exploration.last.as_ref()) {
                        self.store(&simulation, &region, &mut exploration)?;
                    }
                    break RoundOutcome::Crash;
                }
                Event::Polled(poll) => {
                    if let Some(seen) = self.handle_poll(&mut simulation, poll, &mut exploration)? {
                        break seen;
                    }
                }
            }
            if self.comm.any(self.interrupt.load(Ordering::Relaxed)) {
                return Ok(Some(Outcome::Interrupted));
            }
        };
        // A run that reached its end after events is not quiet.
        let seen = if seen == RoundOutcome::Quiet && exploration.events > 0 { RoundOutcome::Events } else { seen };
        self.running += run_start.elapsed();
        let (restart, from) = self.start_of(index);
        let gamma_max = Some(exploration.gamma_max).filter(|gamma| gamma.is_finite());
        let mut state = RunState {
            outcome: Some(seen),
            reached: exploration.last.as_ref().map_or(from, |poll| poll.step),
            first_event: exploration.first_event,
            events: exploration.events,
            gamma_max,
            restart: restart.clone(),
            from,
            ..RunState::begin(&name)
        };
        if seen != RoundOutcome::Quiet {
            (state.next_restart, state.next_from) = self.rewind(simulation, &mut exploration)?;
        } else if self.runs.len() == 1 {
            // If the audits fail, the run is repeated with the next potential.
            (state.next_restart, state.next_from) = (restart, from);
        }
        let round = self.with_run(index, state);
        let (candidates, running) = (exploration.candidates, exploration.running);
        self.round = self.on_ledger(|ledger| ledger.explored(round, &name, candidates, running))?;
        if self.round.phase == Phase::Done && !self.has_unused_checks() {
            self.notify_observer(&self.round.clone())?;
        }
        Ok(None)
    }

    /// The round with the results of a run.
    fn with_run(&self, index: usize, state: RunState) -> Round {
        let mut round = self.round.clone();
        if round.runs.is_empty() {
            (round.outcome, round.reached, round.first_event) = (state.outcome, state.reached, state.first_event);
            (round.events, round.gamma_max) = (state.events, state.gamma_max);
            (round.next_restart, round.next_from) = (state.next_restart, state.next_from);
        } else {
            round.runs[index] = RunState { is_learned: round.runs[index].is_learned, ..state };
            if round.next_run().is_some() {
                return round;
            }
            round.combine_runs();
        }
        let is_over = round.outcome == Some(RoundOutcome::Quiet) && !self.is_audited();
        round.phase = if is_over { Phase::Done } else { Phase::Select };
        round
    }

    /// Records a poll, and stores its regions if it is an event. Returns `Some` if the run ends.
    fn handle_poll(
        &mut self,
        simulation: &mut Simulation,
        poll: Poll,
        exploration: &mut Exploration,
    ) -> Result<Option<RoundOutcome>, Error> {
        let ledger = &mut self.ledger;
        self.comm.on_root(|| ledger.as_mut().map_or(Ok(()), |l| l.poll(&poll)))?;
        (self.poll_observer)(self.round.number, &self.runs[exploration.run].name, &poll);
        let Some(gamma) = poll.gamma.clone() else {
            exploration.last = Some(poll);
            return Ok(None);
        };
        let (step, time, verdict) = (poll.step, poll.time, poll.verdict);
        exploration.gamma_max = exploration.gamma_max.max(gamma.max);
        exploration.last = Some(poll.clone());
        let interval = self.config.watch.sampling_interval;
        let spacing = self.settings.event_spacing.unwrap_or(10 * interval) as i64;
        // A frame that the guards refuse is not continued.
        let guard = poll.bias.and_then(|bias| bias.guard);
        match verdict {
            Verdict::Extrapolating if exploration.last_event.is_none_or(|last| step - last >= spacing) => {
                let first = exploration.first_event.is_none();
                exploration.first_event.get_or_insert(step);
                exploration.events += 1;
                (exploration.last_event, exploration.quiet_since) = (Some(step), Some(time));
                let limit = self.config.candidates.regions_per_event;
                for region in event::regions(simulation, &poll, &self.extractor, limit)? {
                    self.store(simulation, &region, exploration)?;
                }
                // After the extraction, because writing a restart file redistributes the atoms over the ranks without their forces.
                if first && self.settings.resume_from == ResumeFrom::Pause {
                    simulation.checkpoint(&self.folder.join(self.next_restart(exploration.run)))?;
                }
            }
            Verdict::Reliable
                if exploration.first_event.is_none()
                    && guard.is_none()
                    && self.settings.resume_from != ResumeFrom::Start =>
            {
                exploration.reliable = Some(simulation.last_valid().clone());
            }
            _ => {}
        }
        if let Some(region) = event::audit(simulation, &poll, self.draw(exploration.run))? {
            self.store(simulation, &region, exploration)?;
        }
        if let Some(guard) = guard {
            // The region is learned as after a crash.
            let why = format!("{}, round {}, step {step}: {guard}", self.runs[exploration.run].name, self.round.number);
            self.warnings.push(why);
            if exploration.events == 0
                && let Some(region) = event::region_of_crash(simulation, exploration.last.as_ref())
            {
                self.store(simulation, &region, exploration)?;
            }
            return Ok(Some(if exploration.events > 0 { RoundOutcome::Events } else { RoundOutcome::Crash }));
        }
        let above_halt = gamma.max > self.settings.halt.max(self.limits.threshold);
        if exploration.events >= self.settings.batch || (exploration.events > 0 && above_halt) {
            return Ok(Some(RoundOutcome::Events));
        }
        let quiet = time - *exploration.quiet_since.get_or_insert(time);
        Ok(self.settings.quiet_time.is_some_and(|limit| quiet >= limit - 1e-9).then_some(RoundOutcome::Quiet))
    }

    /// Extracts a region as a candidate of the round. A region that has no valid cell is skipped with a warning.
    fn store(&mut self, simulation: &Simulation, region: &Region, exploration: &mut Exploration) -> Result<(), Error> {
        let (comm, config, extractor) = (&self.comm, &self.config, &self.extractor);
        let pipeline = Pipeline { comm, config, extractor, potential_hash: &self.round.potential };
        let mut sink =
            self.ledger.as_mut().map(|ledger| RoundCandidates { ledger, candidates: &mut exploration.candidates });
        pipeline.process(simulation, region, sink.as_mut(), &mut self.warnings)?;
        Ok(())
    }

    /// Whether audits decide about the end of the loop.
    fn is_audited(&self) -> bool {
        self.config.watch.audits_per_ps > 0.0
    }

    /// The number that distinguishes the audits of this run and round from others.
    fn draw(&self, run: usize) -> u32 {
        self.round.number.wrapping_add(1_000_000 * run as u32)
    }

    /// Path of the restart file of a run for the next round, relative to the folder of the loop.
    fn next_restart(&self, run: usize) -> String {
        let folder = round_folder(std::path::Path::new(""), self.round.number + 1);
        run_folder(folder, &self.runs[run].name).join(files::RESTART).display().to_string()
    }

    /// Rewinds the simulation to the step from which the next round starts, and writes a restart file. Returns the file and the
    /// step.
    fn rewind(
        &mut self,
        mut simulation: Simulation,
        exploration: &mut Exploration,
    ) -> Result<(Option<String>, i64), Error> {
        let name = self.next_restart(exploration.run);
        let path = self.folder.join(&name);
        match (self.settings.resume_from, exploration.first_event, exploration.reliable.take()) {
            (ResumeFrom::Start, ..) => Ok((None, 0)),
            (ResumeFrom::Pause, Some(step), _) => {
                // The running simulation can be continued only if it is still at this step.
                if simulation.lammps().step() == step {
                    self.keep(exploration.run, simulation);
                }
                Ok((Some(name), step))
            }
            (_, _, Some(frame)) => {
                let step = frame.step();
                simulation.restore_frame(frame)?;
                simulation.checkpoint(&path)?;
                self.keep(exploration.run, simulation);
                Ok((Some(name), step))
            }
            // No poll was reliable: the next round starts where this one did.
            (_, _, None) => Ok(self.start_of(exploration.run)),
        }
    }

    /// Keeps a simulation for the next round. Of several runs none is kept, because each has its own memory.
    fn keep(&mut self, run: usize, simulation: Simulation) {
        if self.runs.len() == 1 {
            self.runs[run].simulation = Some(simulation);
        }
    }
}
