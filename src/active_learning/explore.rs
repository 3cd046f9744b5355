// SPDX-License-Identifier: GPL-2.0-or-later
//! The runs of one round: molecular dynamics until enough events have occurred.
//!
//! A run needs the simulation and the environments that are known, and no store: its candidates are stored when it is over. Several
//! runs can therefore be done side by side, each by a team of ranks.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::{Error, Learning, Outcome, ResumeFrom, files, round_folder, run_folder};
use crate::candidates::{Candidate, Phase, RoundOutcome, RunState, Store, Trigger};
use crate::comm::Comm;
use crate::embedding::Environment;
use crate::event::{self, KnownEnvironments, Pipeline, Region, Sink};
use crate::frame::Frame;
use crate::runner::{Error as RunError, provenance};
use crate::simulation::{Event, Poll, Simulation};
use crate::uncertainty::Verdict;

/// Name of the file with the candidates of a run, in its folder, until they are stored.
const FOUND: &str = "found.db";

/// Name of a file in the loop's folder by which a team tells the others to end their runs, because its own has failed or is interrupted.
const STOP: &str = "stop";

/// State of a run. All fields except `polls`, `known` and `candidates` are the same on all ranks of its team.
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
    /// `polls.jsonl`, on rank 0 of the team.
    polls: Option<(PathBuf, File)>,
    /// The environments of all candidates, including those of this run, on rank 0 of the team.
    known: Option<KnownEnvironments>,
    /// Extracted candidates, on rank 0 of the team.
    candidates: Vec<Candidate>,
    /// Warnings about cut-outs, on rank 0 of the team.
    warnings: Vec<String>,
}

/// What a run has found.
#[derive(Serialize, Deserialize)]
pub(super) struct Explored {
    pub(super) state: RunState,
    /// Seconds in time steps of LAMMPS.
    pub(super) running: f64,
    /// On rank 0 of the team. Those of other teams go through a file, in the format in which all candidates are stored.
    #[serde(skip)]
    pub(super) candidates: Vec<Candidate>,
    /// On rank 0 of the team.
    pub(super) warnings: Vec<String>,
}

impl Explored {
    /// Writes the candidates for rank 0 of the loop, which reads them with [`Explored::read`].
    fn write(&self, path: &Path) -> Result<(), Error> {
        remove(path)?;
        Store::open(path)?.add(&self.candidates)?;
        Ok(())
    }

    /// Reads the candidates from a file, and removes it.
    fn read(&mut self, path: &Path) -> Result<(), Error> {
        for row in Store::open_existing(path)?.iter(None)? {
            self.candidates.push(row?.candidate);
        }
        remove(path)
    }
}

/// Removes a file, if it exists.
fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(RunError::Write { path: path.to_owned(), source })?,
        _ => Ok(()),
    }
}

impl Exploration {
    /// The state at the start of a run, with an empty `polls.jsonl` in `folder`.
    fn begin(run: usize, known: Option<KnownEnvironments>, folder: &Path, comm: &Comm) -> Result<Self, Error> {
        let path = folder.join(files::POLLS);
        let polls = comm.on_root(|| {
            let file = File::create(&path).map_err(RunError::writing(&path))?;
            Ok::<_, Error>((path, file))
        })?;
        Ok(Self { run, known, polls, ..Self::default() })
    }

    /// Appends a poll to `polls.jsonl`.
    fn record(&mut self, poll: &Poll) -> Result<(), Error> {
        let mut line = serde_json::to_vec(poll).expect("numbers and names");
        line.push(b'\n');
        if let Some((path, file)) = &mut self.polls {
            file.write_all(&line).map_err(RunError::writing(&*path))?;
        }
        Ok(())
    }
}

/// Collects the candidates of a run, which are stored at its end in one transaction.
struct RunCandidates<'e> {
    known: &'e mut KnownEnvironments,
    candidates: &'e mut Vec<Candidate>,
}

impl Sink for RunCandidates<'_> {
    type Error = Error;

    fn accepts(&mut self, region: &Region, environment: &Environment) -> bool {
        region.trigger == Trigger::Audit || !self.known.contains(environment)
    }

    /// Returns id 0, because ids are assigned when the candidates are stored.
    fn store(&mut self, candidate: Candidate, environment: Environment) -> Result<Option<i64>, Error> {
        if candidate.keys.trigger != Some(Trigger::Audit) {
            self.known.insert(0, environment);
        }
        self.candidates.push(candidate);
        Ok(Some(0))
    }
}

impl Learning<'_, '_> {
    /// Does the runs that are next, one in each team, and stores what they have found.
    pub(super) fn explore(&mut self) -> Result<Option<Outcome>, Error> {
        let mut next = self.round.next_runs();
        if self.round.runs.is_empty() {
            next.push(0);
        }
        next.truncate(self.team.count);
        self.label_meanwhile()?;
        // Before the others get what is known, and can end.
        self.comm.on_root(|| remove(&self.folder.join(STOP)))?;
        let known = self.known_environments()?;
        let own = match next.get(self.team.index) {
            Some(&index) => self.explore_run(index, known).map(|run| run.map(|explored| (index, explored))),
            None => Ok(None),
        };
        let is_interrupted = own.as_ref().is_ok_and(Option::is_none) && self.team.index < next.len();
        if self.team.count > 1 && self.team.comm.is_root() && (is_interrupted || own.is_err()) {
            // Without it, the others would only know at the end of their runs.
            let _ = File::create(self.folder.join(STOP));
        }
        let own = self.comm.agree_asleep(own);
        if self.comm.is_root() {
            let _ = std::fs::remove_file(self.folder.join(STOP));
        }
        let own = own?;
        if self.comm.any(is_interrupted) {
            return Ok(Some(Outcome::Interrupted));
        }
        let explored = self.gather(own)?;
        self.warnings.extend(explored.iter().flat_map(|(_, run)| run.warnings.iter().cloned()));
        let is_audited = self.is_audited();
        self.round = self.on_ledger(|ledger| ledger.explored(explored, is_audited))?;
        if self.round.phase == Phase::Done && !self.has_unused_checks() {
            self.notify_observer(&self.round.clone())?;
        }
        Ok(None)
    }

    /// Selects candidates of the runs that are over, and has them labelled while the next runs are done.
    fn label_meanwhile(&mut self) -> Result<(), Error> {
        let settings = self.settings;
        if !settings.overlap {
            return Ok(());
        }
        let selected = self.on_ledger(|ledger| ledger.select_during_runs(settings))?;
        // Those that an earlier process has selected are not in the queue of this one.
        let queued = if self.background.is_some() { self.round.selected.len() } else { 0 };
        self.round = selected;
        let ids = self.round.selected[queued..].to_vec();
        let (ledger, oracle, background) = (&self.ledger, &self.oracle, &mut self.background);
        self.comm.on_root(|| {
            let Some((ledger, oracle)) = ledger.as_ref().zip(oracle.as_deref()).filter(|_| !ids.is_empty()) else {
                return Ok(());
            };
            if background.is_none() {
                *background = ledger.label_in_background(oracle)?;
            }
            background.iter().for_each(|background| background.label(ids.clone()));
            Ok::<_, Error>(())
        })?;
        Ok(())
    }

    /// The environments of all candidates, on rank 0 of each team.
    fn known_environments(&self) -> Result<Option<KnownEnvironments>, Error> {
        let known = self.ledger.as_ref().map(|ledger| ledger.known().clone());
        if self.team.count == 1 {
            return Ok(known);
        }
        let known = self.comm.share(known);
        Ok(self.team.comm.is_root().then_some(known))
    }

    /// What the runs of all teams have found, in the order of the runs, on rank 0; empty on the others.
    fn gather(&self, own: Option<(usize, Explored)>) -> Result<Vec<(usize, Explored)>, Error> {
        if self.team.count == 1 {
            return Ok(own.filter(|_| self.comm.is_root()).into_iter().collect());
        }
        let found = |index: usize| {
            let folder = round_folder(&self.folder, self.round.number);
            run_folder(folder, &self.runs[index].name).join(FOUND)
        };
        let is_sender = self.team.comm.is_root() && !self.comm.is_root();
        let mut message = Vec::new();
        let mut written = Ok(());
        if let Some((index, explored)) = own.as_ref().filter(|_| is_sender) {
            written = explored.write(&found(*index));
            message = serde_json::to_vec(&(index, explored)).expect("numbers and names");
            message.push(b'\n');
        }
        self.comm.agree(written)?;
        let messages = self.comm.gather(&message);
        let all = self.comm.on_root(|| {
            let mut all: Vec<(usize, Explored)> = own.into_iter().collect();
            for line in messages.iter().flat_map(|bytes| bytes.split(|byte| *byte == b'\n')).filter(|l| !l.is_empty()) {
                let (index, mut explored): (usize, Explored) =
                    serde_json::from_slice(line).expect("as a team wrote it");
                explored.read(&found(index))?;
                all.push((index, explored));
            }
            Ok::<_, Error>(all)
        })?;
        Ok(all.unwrap_or_default())
    }

    /// Runs until enough events have occurred, or until the run is quiet. Returns `None` if it was interrupted.
    ///
    /// `known` are the environments of all candidates, on rank 0 of the team.
    ///
    /// # MPI
    /// Collective over the team.
    fn explore_run(&mut self, index: usize, known: Option<KnownEnvironments>) -> Result<Option<Explored>, Error> {
        let setup_start = Instant::now();
        let mut simulation = self.simulation(index)?;
        simulation.set_threshold(self.limits.threshold, self.limits.error_bound());
        if self.round.number > 1 {
            self.swapping += setup_start.elapsed();
        }
        self.ledger.iter_mut().for_each(Ledger::record_setup);
        let run_start = Instant::now();
        let name = self.runs[index].name.clone();
        let folder = run_folder(round_folder(&self.folder, self.round.number), &name);
        let mut exploration = Exploration::begin(index, known, &folder, &self.team.comm)?;
        let (folder, config, ranks) = (&self.folder, &self.config, self.comm.size());
        self.team.comm.on_root(|| match self.team.index {
            0 => Ok::<_, Error>(provenance::write(folder, config, None, simulation.lammps(), ranks)?),
            _ => Ok(()),
        })?;
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
                        self.extract(&simulation, &region, &mut exploration)?;
                    }
                    break RoundOutcome::Crash;
                }
                Event::Polled(poll) => {
                    if let Some(seen) = self.handle_poll(&mut simulation, poll, &mut exploration)? {
                        break seen;
                    }
                }
            }
            if self.team.comm.any(self.is_stopped()) {
                return Ok(None);
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
        let Exploration { running, candidates, warnings, .. } = exploration;
        Ok(Some(Explored { state, running, candidates, warnings }))
    }

    /// Whether this rank is interrupted, or another team has ended with an error or an interrupt.
    fn is_stopped(&self) -> bool {
        let is_told = || self.team.count > 1 && self.team.comm.is_root() && self.folder.join(STOP).exists();
        self.interrupt.load(Ordering::Relaxed) || is_told()
    }

    /// Records a poll, and stores its regions if it is an event. Returns `Some` if the run ends.
    fn handle_poll(
        &mut self,
        simulation: &mut Simulation,
        poll: Poll,
        exploration: &mut Exploration,
    ) -> Result<Option<RoundOutcome>, Error> {
        self.team.comm.on_root(|| exploration.record(&poll))?;
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
                    self.extract(simulation, &region, exploration)?;
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
            self.extract(simulation, &region, exploration)?;
        }
        if let Some(guard) = guard {
            // The region is learned as after a crash.
            let why = format!("{}, round {}, step {step}: {guard}", self.runs[exploration.run].name, self.round.number);
            exploration.warnings.push(why);
            if exploration.events == 0
                && let Some(region) = event::region_of_crash(simulation, exploration.last.as_ref())
            {
                self.extract(simulation, &region, exploration)?;
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

    /// Extracts a region as a candidate. A region that has no valid cell is skipped with a warning.
    fn extract(&self, simulation: &Simulation, region: &Region, exploration: &mut Exploration) -> Result<(), Error> {
        let Exploration { run, known, candidates, warnings, .. } = exploration;
        let (comm, config, extractor) = (&self.team.comm, &self.runs[*run].config, &self.extractor);
        let pipeline = Pipeline { comm, config, extractor, potential_hash: &self.round.potential };
        let mut sink = known.as_mut().map(|known| RunCandidates { known, candidates });
        pipeline.process(simulation, region, sink.as_mut(), warnings)?;
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
