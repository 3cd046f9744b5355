// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf run`.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Exit, Verbosity, agree_exit, load_config, print_error, print_line, print_warning, replicas};
use lammps_otf::comm::{CollectiveError, Comm, RemoteError};
use lammps_otf::config::{self, InferenceConfig, Potential, Remark};
use lammps_otf::interrupt::on_signals;
use lammps_otf::runner::{self, LammpsRunner, SimulationResult, Status, files};
use lammps_otf::simulation::Poll;

#[derive(Debug, clap::Args)]
pub(super) struct RunArguments {
    /// Configuration file, TOML
    config: PathBuf,
    /// Output folder [default: the name of CONFIG without its extension]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Resume the run in the output folder from its last checkpoint; without one, start the run
    #[arg(short, long)]
    resume: bool,
    /// Continue the run in the folder DIR in a new folder, from its last checkpoint, with this configuration
    #[arg(long, value_name = "DIR", requires = "output")]
    from: Option<PathBuf>,
    /// Potential (.yaml) instead of that of the configuration; its active set has the same name with .asi
    #[arg(long, value_name = "FILE", requires = "from")]
    potential: Option<PathBuf>,
    /// Print each poll, each candidate and the result as one line of JSON, and nothing else to standard output
    #[arg(long)]
    json: bool,
    /// Split the MPI ranks into R simulations with one store; seeds differ, as do settings in [replicas]
    #[arg(long, value_name = "R", conflicts_with_all = ["resume", "from"])]
    replicas: Option<usize>,
}

pub(super) fn run(arguments: &RunArguments, comm: &Comm, verbosity: Verbosity) -> Exit {
    let (mut config, output) = match load_config(&arguments.config, arguments.output.as_deref(), comm) {
        Ok(ready) => ready,
        Err(exit) => return exit,
    };
    if let Some(file) = &arguments.potential {
        let engine = config.system.potential.engine;
        let potential = Potential { engine, ..Potential::ace(file.clone(), None) };
        config = config.with_potential(potential);
    }
    if let Some(count) = arguments.replicas {
        return replicas::run(&config, &output, count, arguments.json, comm, verbosity);
    }
    let show_text = comm.is_root() && verbosity != Verbosity::Quiet;
    let every_poll = verbosity == Verbosity::Verbose;
    let progress = show_text.then(|| RefCell::new(Progress::new(config.md.steps, every_poll)));
    let json = comm.is_root() && arguments.json;
    // Printed at the first poll, so that an error of the set-up is printed alone.
    let mut remarks = if comm.is_root() { config.remarks() } else { Vec::new() };
    if comm.is_root() && arguments.resume && runner::restarts_from_beginning(&output) {
        remarks.push(Remark {
            message: format!("{} has no checkpoint; the run starts again at its first step.", output.display()),
            remedy: "Reduce `checkpoint_interval` to write checkpoints earlier.",
        });
    }
    let mut runner = LammpsRunner::new(comm, &output)
        .resume(arguments.resume)
        .continue_from(arguments.from.as_deref())
        .interrupt_by(on_signals(Exit::Interrupted as i32))
        .observe(|poll| {
            remarks.drain(..).for_each(|remark| print_warning(&remark));
            if let Some(progress) = &progress {
                progress.borrow_mut().show(poll);
            }
            if json {
                print_json("poll", poll);
            }
        })
        .announce(|stored| {
            if json {
                print_json("candidate", stored);
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
                print_json("result", result);
            } else if show_text {
                print_line(&summary(result, &config, &output.join(files::CANDIDATES)));
            }
            result.warnings.iter().for_each(|warning| print_warning(warning));
            if result.more_warnings > 0 {
                print_warning(&format!("{} more warnings", result.more_warnings));
            }
        }
        Err(error) if comm.is_root() && !error.is_rank_failure() => {
            print_error(error);
            // The error names the command that LAMMPS rejected, not the cause.
            use lammps_otf::{lammps, simulation};
            if let runner::Error::Simulation(simulation::Error::Lammps(lammps::Error::Failure(_))) = error {
                eprintln!("To check each part separately, run `lammps-otf doctor {}`.", arguments.config.display());
            }
        }
        _ => {}
    }
    exit_of_run(&outcome, comm, comm, &output)
}

/// Returns the exit code of a run, the same on all ranks of `comm`. After a rank failure, it aborts all ranks of `job` and
/// does not return.
pub(super) fn exit_of_run(
    outcome: &Result<SimulationResult, runner::Error>,
    comm: &Comm,
    job: &Comm,
    output: &Path,
) -> Exit {
    match outcome {
        Ok(result) => match result.status {
            Status::Completed => Exit::Completed,
            Status::Uncertain | Status::Guarded => Exit::Uncertain,
            Status::Crashed => Exit::Crashed,
            Status::Interrupted => Exit::Interrupted,
        },
        Err(error) if error.is_rank_failure() => {
            let stored =
                if output.exists() { format!("Earlier output is in {}. ", output.display()) } else { String::new() };
            print_error(&format!("{error}\n{stored}The job is aborted."));
            abort(job, if error.is_recorded_crash() { Exit::Crashed } else { Exit::Aborted })
        }
        Err(error) => agree_exit(error.is_input(), error.is_elsewhere(), comm),
    }
}

/// Aborts all processes of the job. Waits first, because mpiexec discards output that it has not yet forwarded.
pub(super) fn abort(job: &Comm, exit: Exit) -> ! {
    std::thread::sleep(Duration::from_millis(500));
    job.abort(exit as i32)
}

/// Prints one line of JSON to standard output and flushes it. Write errors are ignored: a closed pipe does not stop the run.
pub(super) fn print_json(event: &str, content: &impl serde::Serialize) {
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

/// An error before a run begins, on this rank or another.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Lammps(#[from] lammps_otf::lammps::Error),
    #[error("cannot create a temporary folder: {0}")]
    Folder(#[from] std::io::Error),
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl CollectiveError for SetupError {
    fn is_rank_failure(&self) -> bool {
        matches!(self, Self::Lammps(error) if error.is_rank_failure())
    }
}

/// Reads the configuration on rank 0 and broadcasts it, so that the ranks do not all open the same file.
pub(super) fn read_config(path: &Path, comm: &Comm) -> Result<InferenceConfig, SetupError> {
    let text = comm.on_root(|| InferenceConfig::text(path).map_err(SetupError::from))?;
    let text = comm.broadcast(0, text.unwrap_or_default().into_bytes());
    let text = String::from_utf8_lossy(&text);
    comm.agree(InferenceConfig::parse(&text, path).map_err(SetupError::from))
}

/// Progress: a bar on a terminal, else a line every 5 s; or a line per poll.
struct Progress {
    bar: ProgressBar,
    on_terminal: bool,
    every_poll: bool,
    /// Wall time and simulated time (ps) of the first poll of this process.
    first: Option<(Instant, f64)>,
    last_line: Instant,
    steps: u64,
}

impl Progress {
    fn new(steps: u64, every_poll: bool) -> Self {
        let on_terminal = std::io::stderr().is_terminal() && !every_poll;
        let bar = if on_terminal { ProgressBar::new(steps) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} steps  {msg}  [{eta}]");
        bar.set_style(style.expect("a valid template").progress_chars("=> "));
        let now = Instant::now();
        Self { bar, on_terminal, every_poll, first: None, last_line: now, steps }
    }

    fn show(&mut self, poll: &Poll) {
        let (started, start_time) = *self.first.get_or_insert_with(|| (Instant::now(), poll.time));
        let days = started.elapsed().as_secs_f64() / 86_400.0;
        let gamma = poll.gamma.as_ref().map_or("γ not monitored".to_owned(), |g| format!("γ_max {:.2}", g.max));
        let mut message = format!("T {:.0} K  {gamma}", poll.temperature);
        if poll.time > start_time {
            let speed = (poll.time - start_time) * 1e-3 / days;
            message += &format!("  {speed:.2} ns/day");
        }
        if self.on_terminal {
            self.bar.set_position(poll.steps.max(0) as u64);
            self.bar.set_message(message);
        } else if self.every_poll || self.last_line.elapsed() > Duration::from_secs(5) {
            self.last_line = Instant::now();
            eprintln!("step {}/{}  {message}", poll.steps, self.steps);
        }
    }
}

/// A threshold with at most three digits after the point.
fn shown(threshold: f64) -> f64 {
    (threshold * 1e3).round() / 1e3
}

/// The result of a run as text.
pub(super) fn summary(result: &SimulationResult, config: &InferenceConfig, store: &Path) -> String {
    let threshold = shown(result.threshold);
    let gamma = result.gamma_max.map_or("not monitored".to_owned(), |g| format!("{g:.2}"));
    let steps = result.steps - result.continues.as_ref().map_or(0, |parent| parent.steps);
    let rate = result.seconds * 1e6 / (steps.max(1) as f64 * result.atoms.max(1) as f64);
    let mut text = match result.status {
        Status::Completed => format!("Completed: {} steps, γ_max {gamma} (threshold {threshold}).", result.steps),
        // The event at which the run stopped. A resumed run may have had earlier ones.
        Status::Uncertain => match result.last.as_ref().and_then(|poll| Some((poll, poll.event(&config.watch)?))) {
            Some((Poll { step, temperature, .. }, event)) => {
                format!("Stopped at step {step} at {temperature:.0} K: {event}.")
            }
            None => "Stopped at an event.".to_owned(),
        },
        Status::Guarded => {
            let guard = result.last.as_ref().and_then(|poll| Some((poll.step, poll.bias?.guard?)));
            let (step, reason) = guard.map_or((0, String::new()), |(step, guard)| (step, guard.to_string()));
            format!(
                "Stopped at step {step} by a guard of the exploration: {reason}. γ_max {gamma} (threshold {threshold})."
            )
        }
        Status::Crashed => {
            let reason = result.crash.as_ref().map_or("", |c| c.reason.as_str());
            format!("Crashed at step {}: {reason}", result.trigger_step.unwrap_or(0))
        }
        Status::Interrupted => {
            let resume = if config.checkpoint_steps().is_some() { " Continue with --resume." } else { "" };
            format!("Interrupted after {} steps, γ_max {gamma}.{resume}", result.steps)
        }
    };
    text += &format!(
        "\n  {} atoms, {} steps in {:.1} s ({rate:.1} µs/atom/step) on {} rank{}",
        result.atoms,
        steps,
        result.seconds,
        result.ranks,
        if result.ranks == 1 { "" } else { "s" }
    );
    let output = result.output.display();
    if result.candidates.is_empty() && matches!(result.status, Status::Uncertain | Status::Crashed) {
        text += "\n  no candidate was stored";
    }
    for id in &result.candidates {
        text +=
            &format!("\n  candidate {id} stored as PENDING_DFT: {output}/{}/candidate-{id:06}.extxyz", files::EXTXYZ);
    }
    if !result.candidates.is_empty() {
        let (store, folder) = (store.display(), files::EXTXYZ);
        text += &format!("\nView with:  ase db {store} -L 0   or   ase gui {output}/{folder}/*.extxyz");
    }
    text
}
