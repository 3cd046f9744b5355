// SPDX-License-Identifier: GPL-2.0-or-later
//! The command line: each command in a file of its own.

mod analyze_log;
mod candidates;
mod doctor;
mod extract;
mod files;
mod generate;
mod init;
mod learn;
mod replicas;
mod report;
mod run;
mod survey;
mod watch;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use lammps_otf::comm::{Comm, Session};
use lammps_otf::config::InferenceConfig;

/// How a command ends, as the shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well; a run did all its steps.
    Completed = 0,
    /// Something failed that is not the input's fault, e.g. a full disk.
    Failed = 1,
    /// The input cannot be used; nothing was written.
    BadInput = 2,
    /// The simulation broke; its last valid frame was used.
    Crashed = 3,
    /// γ passed the threshold.
    Uncertain = 4,
    /// One MPI rank failed alone, in a loop or so that it could store nothing, and the job was aborted.
    Aborted = 5,
    /// A signal, or the wall-time limit.
    Interrupted = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The exit codes, at the end of the help.
const EXIT_CODES: &str = "\
Exit codes:
  0  done: a run did all its steps, a log stayed below the threshold
  1  something failed that is not the input's fault, such as a full disk
  2  the input or the command line cannot be used, and nothing was written; `doctor` found a failure
  3  the run broke (lost atoms, NaN, an error of one rank alone); the region to blame was cut from the last valid frame
  4  γ passed the threshold; a loop ended with something still unknown
  5  one MPI rank failed alone, in a loop or so that it could store nothing; the job was aborted
  6  a signal, or the wall-time limit

Colours and progress bars appear on a terminal only; NO_COLOR=1 turns colours off.";

/// Molecular dynamics that knows when its potential is wrong.
///
/// Runs LAMMPS with an ML-PACE potential in this process, watches the extrapolation grade of every atom, and stores the
/// neighbourhood of the worst one for labelling when the potential leaves what it was trained on.
#[derive(Debug, Parser)]
#[command(name = "lammps-otf", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print only errors, warnings, and what was asked for
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more: `run` a line for each look at γ, `doctor` the packages of LAMMPS
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented configuration for a structure and a potential
    Init(init::InitArguments),
    /// Say what was found, whether it works together, and what to do about what does not
    Doctor(doctor::DoctorArguments),
    /// Run molecular dynamics under watch
    Run(run::RunArguments),
    /// Run, label what is unknown, train, and go on with the new potential, until nothing is unknown
    Loop(learn::LoopArguments),
    /// Cut the neighbourhood of an atom out of a structure file
    Extract(extract::ExtractArgs),
    /// Look at the candidates of a run, export them for training, change their status
    Candidates(candidates::CandidatesArgs),
    /// Write one page of a run or a loop: plots, the candidates in three dimensions, settings
    Report(report::ReportArguments),
    /// Show γ and the temperature of a run while it goes on
    Watch(watch::WatchArguments),
    /// Find the first step above a threshold in the log of plain `lmp`
    AnalyzeLog(analyze_log::AnalyzeLogArgs),
    /// Write completions for a shell, or manual pages, or the references of the documentation
    Generate(generate::GenerateArguments),
}

/// How much a command says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Errors and warnings, and what was asked for.
    Quiet,
    /// What one wants to know.
    Normal,
    /// All there is.
    Verbose,
}

/// Colours of the words that sort a line; nothing but the words where colours are off.
mod style {
    use clap::builder::styling::{AnsiColor, Style};

    pub(super) const PLAIN: Style = Style::new();
    pub(super) const GOOD: Style = AnsiColor::Green.on_default();
    pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
    pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
}

/// Runs the command that the process was started with.
///
/// # MPI
/// Collective over the job.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let verbosity = match (arguments.quiet, arguments.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    match arguments.command {
        Command::Run(arguments) => with_ranks(|_, world| run::run(&arguments, world, verbosity)),
        Command::Loop(arguments) => with_ranks(|_, world| learn::run(&arguments, world, verbosity)),
        Command::Doctor(arguments) => with_ranks(|session, _| doctor::run(&arguments, session, verbosity)),
        Command::Init(arguments) => finish(init::run(&arguments, verbosity)),
        Command::Extract(arguments) => finish(extract::run(&arguments, verbosity)),
        Command::Candidates(arguments) => finish(candidates::run(&arguments)),
        Command::Report(arguments) => finish(report::run(&arguments, verbosity)),
        Command::Watch(arguments) => finish(watch::run(&arguments)),
        Command::AnalyzeLog(arguments) => match analyze_log::run(&arguments, verbosity) {
            Ok(exit) => exit.into(),
            Err(error) => {
                complain(&error);
                error.exit().into()
            }
        },
        Command::Generate(arguments) => finish(generate::run(&arguments)),
    }
}

/// Does `work` on all ranks of the job. A panic on one of several ends the job, because the others wait for it.
fn with_ranks(work: impl FnOnce(&Session, &Comm) -> Exit) -> ExitCode {
    let session = Session::initialize();
    let world = session.world();
    match catch_unwind(AssertUnwindSafe(|| work(&session, &world))) {
        Ok(exit) => exit.into(),
        Err(_) if world.size() > 1 => {
            eprintln!("error: rank {} panicked. The job is aborted.", world.rank());
            run::abort(&world, Exit::Aborted)
        }
        Err(panic) => resume_unwind(panic),
    }
}

/// The exit code of a command that works on files alone, where every error is one of its input.
fn finish<E: std::fmt::Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => Exit::Completed.into(),
        Err(error) => {
            complain(&error);
            Exit::BadInput.into()
        }
    }
}

/// The configuration, and the folder for what comes of it: `output`, or the name of the configuration without its ending.
/// What is wrong with the configuration has been said.
///
/// # MPI
/// Collective.
fn begin(config: &Path, output: Option<&Path>, comm: &Comm) -> Result<(InferenceConfig, PathBuf), Exit> {
    let output = output.map_or_else(|| PathBuf::from(config.file_stem().unwrap_or_default()), Path::to_path_buf);
    match run::read_config(config, comm) {
        Ok(config) => Ok((config, output)),
        Err(error) => {
            if comm.is_root() {
                complain(&error);
            }
            Err(Exit::BadInput)
        }
    }
}

/// One exit code for all ranks after an error: mpiexec mixes those of the ranks, and the rank that failed knows which.
///
/// # MPI
/// Collective.
fn agreed(is_input: bool, is_elsewhere: bool, comm: &Comm) -> Exit {
    let own = if is_input { Exit::BadInput } else { Exit::Failed };
    let code = comm.min_i64(if is_elsewhere { i64::MAX } else { own as i64 });
    if code == Exit::Failed as i64 { Exit::Failed } else { Exit::BadInput }
}

/// Says what went wrong, once, on the rank that talks.
fn complain(error: &dyn std::fmt::Display) {
    let red = style::ERROR;
    // In one piece, so that ranks that speak at once do not speak between each other's words.
    let text = format!("{red}error:{red:#} {error}");
    anstream::eprintln!("{text}");
}

/// Says what is not as it should be, and did not stop the work.
fn warn(warning: &dyn std::fmt::Display) {
    let yellow = style::WARNING;
    anstream::eprintln!("{yellow}warning:{yellow:#} {warning}");
}

/// Prints a result. Not `println!`, which panics when the reader (`| head`) has had enough; the exit code says it too.
fn say(text: &str) {
    let _ = writeln!(anstream::stdout().lock(), "{text}");
}
