// SPDX-License-Identifier: GPL-2.0-or-later
//! The run of one round: on until the potential does not know what it sees.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::ledger::Ledger;
use super::{Error, Learning, Outcome, ResumeFrom, files, round_folder};
use crate::candidates::{Candidate, Phase, Round, Seen};
use crate::embedding::Environment;
use crate::event::{self, Pipeline, Region, Sink};
use crate::frame::Frame;
use crate::runner::provenance;
use crate::simulation::{Event, Poll, Simulation};
use crate::uncertainty::Verdict;

/// What a run has seen so far. Everything but the candidates is the same on all ranks.
#[derive(Default)]
struct Sight {
    events: u32,
    first_event: Option<i64>,
    last_event: Option<i64>,
    /// Simulated time in ps of the first poll, and then of the last event.
    quiet_since: Option<f64>,
    gamma_max: f64,
    /// The last frame before the first event that was reliable.
    reliable: Option<Frame>,
    last: Option<Poll>,
    /// Seconds of LAMMPS's steps.
    running: f64,
    /// On rank 0.
    candidates: Vec<Candidate>,
}

/// Candidates of a round, which the store gets at its end, in one transaction.
struct RoundCandidates<'l> {
    ledger: &'l mut Ledger,
    kept: &'l mut Vec<Candidate>,
}

impl Sink for RoundCandidates<'_> {
    type Error = Error;

    fn accepts(&mut self, _: &Region, environment: &Environment) -> bool {
        !self.ledger.known().contains(environment)
    }

    /// Their ids are given at the end of the round.
    fn store(&mut self, candidate: Candidate, environment: Environment) -> Result<Option<i64>, Error> {
        self.ledger.known().insert(0, environment);
        self.kept.push(candidate);
        Ok(Some(0))
    }
}

impl Learning<'_, '_> {
    /// Runs until there are enough events, and stores their regions; or until it is quiet.
    pub(super) fn explore(&mut self) -> Result<Option<Outcome>, Error> {
        let begun = Instant::now();
        let mut simulation = self.simulation()?;
        if self.round.number > 1 {
            self.swapping += begun.elapsed();
        }
        self.set_up();
        let begun = Instant::now();
        let mut sight = Sight::default();
        self.on_ledger(|ledger| ledger.begin_run())?;
        let (folder, config, comm) = (&self.folder, &self.config, &self.comm);
        comm.on_root(|| Ok::<_, Error>(provenance::write(folder, config, simulation.lammps(), comm)?))?;
        let seen = loop {
            let stepped = Instant::now();
            let event = simulation.advance()?;
            sight.running += match &event {
                Event::Polled(poll) => poll.seconds,
                _ => stepped.elapsed().as_secs_f64(),
            };
            match event {
                Event::Finished => break Seen::Quiet,
                Event::Crashed(_) => {
                    if let Some(region) = event::region_of_crash(&simulation, sight.last.as_ref()) {
                        self.store(&simulation, &region, &mut sight)?;
                    }
                    break Seen::Crash;
                }
                Event::Polled(poll) => {
                    if let Some(seen) = self.polled(&mut simulation, poll, &mut sight)? {
                        break seen;
                    }
                }
            }
            if self.comm.any(self.interrupt.load(Ordering::Relaxed)) {
                return Ok(Some(Outcome::Interrupted));
            }
        };
        // A run that ends on its own with events behind it has seen what it does not know.
        let seen = if seen == Seen::Quiet && sight.events > 0 { Seen::Events } else { seen };
        self.running += begun.elapsed();
        let reached = sight.last.as_ref().map_or(self.round.from, |poll| poll.step);
        let mut round = Round {
            phase: if seen == Seen::Quiet { Phase::Done } else { Phase::Select },
            seen: Some(seen),
            reached,
            first_event: sight.first_event,
            events: sight.events,
            gamma_max: Some(sight.gamma_max).filter(|gamma| gamma.is_finite()),
            ..self.round.clone()
        };
        if seen != Seen::Quiet {
            (round.next_restart, round.next_from) = self.turn_back(simulation, &mut sight)?;
        }
        let (candidates, running) = (sight.candidates, sight.running);
        self.round = self.on_ledger(|ledger| ledger.explored(round, candidates, running))?;
        if self.round.phase == Phase::Done {
            self.observed(&self.round.clone())?;
        }
        Ok(None)
    }

    /// Notes a poll, and what of it is worth learning.
    fn polled(&mut self, simulation: &mut Simulation, poll: Poll, sight: &mut Sight) -> Result<Option<Seen>, Error> {
        let ledger = &mut self.ledger;
        self.comm.on_root(|| ledger.as_mut().map_or(Ok(()), |l| l.poll(&poll)))?;
        let Some(gamma) = poll.gamma.clone() else {
            sight.last = Some(poll);
            return Ok(None);
        };
        let (step, time, verdict) = (poll.step, poll.time, poll.verdict);
        sight.gamma_max = sight.gamma_max.max(gamma.max);
        sight.last = Some(poll.clone());
        let interval = self.config.watch.sampling_interval;
        let spacing = self.settings.event_spacing.unwrap_or(10 * interval) as i64;
        match verdict {
            Verdict::Extrapolating if sight.last_event.is_none_or(|last| step - last >= spacing) => {
                let first = sight.first_event.is_none();
                sight.first_event.get_or_insert(step);
                sight.events += 1;
                (sight.last_event, sight.quiet_since) = (Some(step), Some(time));
                let limit = self.config.candidates.regions_per_event;
                for region in event::regions(simulation, &poll, &self.extractor, limit)? {
                    self.store(simulation, &region, sight)?;
                }
                // Not before: LAMMPS deals the atoms out anew for it, and leaves their forces where they were.
                if first && self.settings.resume_from == ResumeFrom::Pause {
                    simulation.checkpoint(&self.folder.join(self.next_restart()))?;
                }
            }
            Verdict::Reliable if sight.first_event.is_none() && self.settings.resume_from != ResumeFrom::Start => {
                sight.reliable = Some(simulation.last_valid().clone());
            }
            _ => {}
        }
        let far = gamma.max > self.settings.halt;
        if sight.events >= self.settings.batch || (sight.events > 0 && far) {
            return Ok(Some(Seen::Events));
        }
        let quiet = time - *sight.quiet_since.get_or_insert(time);
        Ok(self.settings.quiet_time.is_some_and(|enough| quiet >= enough - 1e-9).then_some(Seen::Quiet))
    }

    /// Keeps a region for the end of the run. One that makes no valid cell is left out: there will be others.
    fn store(&mut self, simulation: &Simulation, region: &Region, sight: &mut Sight) -> Result<(), Error> {
        let (comm, config, extractor) = (&self.comm, &self.config, &self.extractor);
        let pipeline = Pipeline { comm, config, extractor, potential_hash: &self.round.potential };
        let mut sink = self.ledger.as_mut().map(|ledger| RoundCandidates { ledger, kept: &mut sight.candidates });
        pipeline.process(simulation, region, sink.as_mut(), &mut self.warnings)?;
        Ok(())
    }

    /// The restart file that the next round begins from, in the loop's folder.
    fn next_restart(&self) -> String {
        let folder = round_folder(std::path::Path::new(""), self.round.number + 1);
        folder.join(files::RESTART).display().to_string()
    }

    /// Brings the simulation back to where it was trusted, and writes that down; gives the file and the step.
    fn turn_back(&mut self, mut simulation: Simulation, sight: &mut Sight) -> Result<(Option<String>, i64), Error> {
        let name = self.next_restart();
        let path = self.folder.join(&name);
        match (self.settings.resume_from, sight.first_event, sight.reliable.take()) {
            (ResumeFrom::Start, ..) => Ok((None, 0)),
            (ResumeFrom::Pause, Some(step), _) => {
                // Only where it still stands there it can go on as it is.
                if simulation.lammps().step() == step {
                    self.simulation = Some(simulation);
                }
                Ok((Some(name), step))
            }
            (_, _, Some(frame)) => {
                let step = frame.step();
                simulation.go_back(frame)?;
                simulation.checkpoint(&path)?;
                self.simulation = Some(simulation);
                Ok((Some(name), step))
            }
            // Not even its first look was reliable: the next round begins where this one did.
            (_, _, None) => Ok((self.round.restart.clone(), self.round.from)),
        }
    }
}
