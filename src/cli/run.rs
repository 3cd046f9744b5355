// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf run`.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Exit, Verbosity, agreed, begin, complain, replicas, say, warn};
use lammps_otf::comm::{CollectiveError, Comm, RemoteError};
use lammps_otf::config::{self, InferenceConfig, Remark};
use lammps_otf::interrupt::on_signals;
use lammps_otf::runner::{self, LammpsRunner, SimulationResult, Status, files};
use lammps_otf::simulation::Poll;

#[derive(Debug, clap::Args)]
pub(super) struct RunArguments {
    /// What to run, in TOML
    config: PathBuf,
    /// Folder for everything that the run writes [default: the name of CONFIG without its ending]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Go on with the run in the folder from its last checkpoint; begin it if there is none
    #[arg(short, long)]
    resume: bool,
    /// Print each poll, each candidate and the result as one line of JSON on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// Split the MPI ranks into so many simulations, equal in all but seed and what [replicas] says, with one store
    #[arg(long, value_name = "R", conflicts_with = "resume")]
    replicas: Option<usize>,
}

pub(super) fn run(arguments: &RunArguments, comm: &Comm, verbosity: Verbosity) -> Exit {
    let (config, output) = match begin(&arguments.config, arguments.output.as_deref(), comm) {
        Ok(ready) => ready,
        Err(exit) => return exit,
    };
    if let Some(count) = arguments.replicas {
        return replicas::run(&config, &output, count, arguments.json, comm, verbosity);
    }
    let talk = comm.is_root() && verbosity != Verbosity::Quiet;
    let each = verbosity == Verbosity::Verbose;
    let progress = talk.then(|| RefCell::new(Progress::new(config.md.steps, each)));
    let json = comm.is_root() && arguments.json;
    // Once it is under way: an error of the set-up is to stand alone.
    let mut remarks = if comm.is_root() { config.remarks() } else { Vec::new() };
    if comm.is_root() && arguments.resume && runner::restarts_from_beginning(&output) {
        remarks.push(Remark {
            message: format!("{} holds no checkpoint yet: the run begins at its first step again.", output.display()),
            remedy: "A smaller `checkpoint_interval` writes them earlier.",
        });
    }
    let mut runner = LammpsRunner::new(comm, &output)
        .resume(arguments.resume)
        .interrupt_by(on_signals(Exit::Interrupted as i32))
        .observe(|poll| {
            remarks.drain(..).for_each(|remark| warn(&remark.to_string()));
            if let Some(progress) = &progress {
                progress.borrow_mut().show(poll);
            }
            if json {
                print_line("poll", poll);
            }
        })
        .announce(|stored| {
            if json {
                print_line("candidate", stored);
            }
        });
    let outcome = runner.run(&config);
    drop(runner);
    if let Some(progress) = &progress {
        progress.borrow().bar.finish_and_clear();
    }
    match &outcome {
        Ok(result) if comm.is_root() => {
            if arguments.json {
                print_line("result", result);
            } else if talk {
                say(&summary(result, &config, &output.join(files::CANDIDATES)));
            }
            result.warnings.iter().for_each(|warning| warn(warning));
            if result.more_warnings > 0 {
                warn(&format!("and {} more", result.more_warnings));
            }
        }
        Err(error) if comm.is_root() && !error.is_rank_failure() => {
            complain(error);
            // LAMMPS says which command it refused, not which file is wrong.
            use lammps_otf::{lammps, simulation};
            if let runner::Error::Simulation(simulation::Error::Lammps(lammps::Error::Failure(_))) = error {
                eprintln!("`lammps-otf doctor {}` looks at each part by itself.", arguments.config.display());
            }
        }
        _ => {}
    }
    settle(&outcome, comm, comm, &output)
}

/// How the ranks of a run end, the same on all of them. Does not come back if one of them has to end the
/// job, whose ranks `job` are.
pub(super) fn settle(
    outcome: &Result<SimulationResult, runner::Error>,
    comm: &Comm,
    job: &Comm,
    output: &Path,
) -> Exit {
    match outcome {
        Ok(result) => match result.status {
            Status::Completed => Exit::Completed,
            Status::Uncertain => Exit::Uncertain,
            Status::Crashed => Exit::Crashed,
            Status::Interrupted => Exit::Interrupted,
        },
        Err(error) if error.is_rank_failure() => {
            let stored = if output.exists() {
                format!("What was stored before is in {}. ", output.display())
            } else {
                String::new()
            };
            complain(&format!("{error}\n{stored}The job is aborted."));
            abort(job, if error.is_recorded_crash() { Exit::Crashed } else { Exit::Aborted })
        }
        Err(error) => agreed(error.is_input(), error.is_elsewhere(), comm),
    }
}

/// Ends all processes of the job, after what has been said is through: mpiexec throws away what it has not passed on by then.
pub(super) fn abort(job: &Comm, exit: Exit) -> ! {
    std::thread::sleep(Duration::from_millis(500));
    job.abort(exit as i32)
}

/// One line of JSON on standard output, at once. Whoever has stopped to read does not stop the run.
pub(super) fn print_line(event: &str, content: &impl serde::Serialize) {
    #[derive(serde::Serialize)]
    struct Line<'a, T> {
        event: &'a str,
        #[serde(flatten)]
        content: &'a T,
    }
    let mut line = serde_json::to_vec(&Line { event, content }).expect("numbers and names");
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// What can go wrong before a run begins, on this rank or another.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Lammps(#[from] lammps_otf::lammps::Error),
    #[error("cannot make a temporary folder: {0}")]
    Folder(#[from] std::io::Error),
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl CollectiveError for SetupError {
    fn is_rank_failure(&self) -> bool {
        matches!(self, Self::Lammps(error) if error.is_rank_failure())
    }
}

/// Reads on rank 0, so that a thousand ranks do not open the same file.
pub(super) fn read_config(path: &Path, comm: &Comm) -> Result<InferenceConfig, SetupError> {
    let text = comm.on_root(|| InferenceConfig::text(path).map_err(SetupError::from))?;
    let text = comm.broadcast(0, text.unwrap_or_default().into_bytes());
    let text = String::from_utf8_lossy(&text);
    comm.agree(InferenceConfig::parse(&text, path).map_err(SetupError::from))
}

/// A bar on a terminal, a line every few seconds elsewhere; or a line for each poll.
struct Progress {
    bar: ProgressBar,
    on_terminal: bool,
    each: bool,
    /// When the first poll of this process was, and its simulated time.
    first: Option<(Instant, f64)>,
    last_line: Instant,
    steps: u64,
}

impl Progress {
    fn new(steps: u64, each: bool) -> Self {
        let on_terminal = std::io::stderr().is_terminal() && !each;
        let bar = if on_terminal { ProgressBar::new(steps) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} steps  {msg}  [{eta}]");
        bar.set_style(style.expect("a valid template").progress_chars("=> "));
        let now = Instant::now();
        Self { bar, on_terminal, each, first: None, last_line: now, steps }
    }

    fn show(&mut self, poll: &Poll) {
        let (begun, from) = *self.first.get_or_insert_with(|| (Instant::now(), poll.time));
        let days = begun.elapsed().as_secs_f64() / 86_400.0;
        let gamma = poll.gamma.as_ref().map_or("not watched".to_owned(), |g| format!("γ_max {:.2}", g.max));
        let mut message = format!("T {:.0} K  {gamma}", poll.temperature);
        if poll.time > from {
            let speed = (poll.time - from) * 1e-3 / days;
            message += &format!("  {speed:.2} ns/day");
        }
        if self.on_terminal {
            self.bar.set_position(poll.steps.max(0) as u64);
            self.bar.set_message(message);
        } else if self.each || self.last_line.elapsed() > Duration::from_secs(5) {
            self.last_line = Instant::now();
            eprintln!("step {}/{}  {message}", poll.steps, self.steps);
        }
    }
}

/// What a run gave, for people.
pub(super) fn summary(result: &SimulationResult, config: &InferenceConfig, store: &Path) -> String {
    let threshold = config.watch.uncertainty_threshold;
    let gamma = result.gamma_max.map_or("not watched".to_owned(), |g| format!("{g:.2}"));
    let rate = result.seconds * 1e6 / (result.steps.max(1) as f64 * result.atoms.max(1) as f64);
    let mut text = match result.status {
        Status::Completed => format!("Completed: {} steps, γ_max {gamma} (threshold {threshold}).", result.steps),
        // The event that it stopped at: a run that went on after one has had others.
        Status::Uncertain => match &result.last {
            Some(Poll { step, temperature, gamma: Some(gamma), .. }) => format!(
                "Stopped: γ passed {threshold} at step {step} at {temperature:.0} K: {:.2} at atom {}.",
                gamma.max, gamma.worst_id
            ),
            _ => format!("Stopped: γ passed {threshold}."),
        },
        Status::Crashed => {
            let reason = result.crash.as_ref().map_or("", |c| c.reason.as_str());
            format!("Crashed at step {}: {reason}", result.trigger_step.unwrap_or(0))
        }
        Status::Interrupted => {
            let go_on = if config.checkpoint_steps().is_some() { "; --resume goes on" } else { "" };
            format!("Interrupted after {} steps; γ_max {gamma} so far{go_on}.", result.steps)
        }
    };
    text += &format!(
        "\n  {} atoms, {} steps in {:.1} s ({rate:.1} µs/atom/step) on {} rank{}",
        result.atoms,
        result.steps,
        result.seconds,
        result.ranks,
        if result.ranks == 1 { "" } else { "s" }
    );
    let output = result.output.display();
    if result.candidates.is_empty() && matches!(result.status, Status::Uncertain | Status::Crashed) {
        text += "\n  nothing was stored";
    }
    for id in &result.candidates {
        text +=
            &format!("\n  candidate {id} stored as PENDING_DFT: {output}/{}/candidate-{id:06}.extxyz", files::EXTXYZ);
    }
    if !result.candidates.is_empty() {
        let (store, folder) = (store.display(), files::EXTXYZ);
        text += &format!("\nLook at it:  ase db {store} -L 0   or   ase gui {output}/{folder}/*.extxyz");
    }
    text
}
