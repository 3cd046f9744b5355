// SPDX-License-Identifier: GPL-2.0-or-later
//! The command line. Each command has its own module.

mod analyze_log;
mod calibrate;
mod candidates;
mod doctor;
mod extract;
mod files;
mod generate;
mod grade;
mod init;
mod inspect;
mod learn;
mod potential;
mod replicas;
mod report;
mod run;
mod table;
mod watch;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use lammps_otf::comm::{Comm, Session};
use lammps_otf::config::InferenceConfig;

/// Exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success; a run completed all steps.
    Completed = 0,
    /// A failure that the input did not cause, such as a full disk.
    Failed = 1,
    /// Invalid input; nothing was written.
    BadInput = 2,
    /// The simulation crashed; the suspect region was extracted from the last valid frame.
    Crashed = 3,
    /// The run stopped at an event: γ above the threshold, or another limit; or at a guard of an exploration.
    Uncertain = 4,
    /// Rank failure in a loop, or where nothing could be stored; the job was aborted.
    Aborted = 5,
    /// A signal, or the wall-time limit.
    Interrupted = 6,
    /// A loop ended before external workers had labelled all selected candidates.
    Waiting = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The exit codes, printed at the end of the help.
const EXIT_CODES: &str = "\
Exit codes:
  0  success: all steps completed; a log never exceeded the threshold
  1  a failure that the input did not cause, such as a full disk
  2  invalid input or command line, nothing was written; `doctor` found a failure
  3  the run crashed (lost atoms, NaN, an error on one MPI rank only); the suspect region was extracted from the last \
valid frame
  4  the run stopped at an event, such as γ above the threshold; a loop ended before its run completed without an event
  5  one MPI rank failed alone, in a loop or where nothing could be stored; the job was aborted
  6  interrupted by a signal or the wall-time limit
  7  a loop waits for labels of external workers: continue it with the same command

Colours and progress bars are shown only on a terminal. NO_COLOR=1 disables colours.";

/// Molecular dynamics with LAMMPS and on-the-fly active learning of ACE potentials.
///
/// Runs LAMMPS with an ML-PACE potential in this process and monitors the extrapolation grade γ of every atom. When γ
/// passes a threshold, the region around the atom with the largest γ is extracted and stored as a candidate for
/// labelling.
#[derive(Debug, Parser)]
#[command(name = "lammps-otf", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print only errors, warnings, and requested output
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more: one line per poll in `run`, the LAMMPS packages in `doctor`
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented configuration for a structure and a potential
    Init(init::InitArguments),
    /// Check the installation and a configuration, with a remedy for each problem
    Doctor(doctor::DoctorArguments),
    /// Run molecular dynamics and store candidates at events
    Run(run::RunArguments),
    /// Run active learning: simulate, label, train, and continue with the new potential, until no event occurs
    Loop(learn::LoopArguments),
    /// Extract the neighbourhood of an atom from a structure file
    Extract(extract::ExtractArgs),
    /// List and export the candidates of a run, and change their status
    Candidates(candidates::CandidatesArgs),
    /// Convert γ to a force error in eV/Å with labelled structures, and recommend a threshold
    Calibrate(calibrate::CalibrateArguments),
    /// Evaluate given structures with an ACE potential: γ, energy, forces
    Grade(grade::GradeArguments),
    /// Show elements, cutoffs, sizes, active set and hash of an ACE potential
    Potential(potential::PotentialArguments),
    /// Write an HTML report of a run or a loop: plots, candidates in 3D, settings
    Report(report::ReportArguments),
    /// Display γ and temperature of a run in progress
    Watch(watch::WatchArguments),
    /// Find the first step above a threshold in the log of plain `lmp`
    AnalyzeLog(analyze_log::AnalyzeLogArgs),
    /// Generate shell completions, manual pages, or the reference documentation
    Generate(generate::GenerateArguments),
}

/// Amount of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Errors, warnings and requested output.
    Quiet,
    /// The default.
    Normal,
    /// Additional details.
    Verbose,
}

/// Colours of level names such as `warning:`. `anstream` removes them where colours are off.
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
        Command::Calibrate(arguments) => finish(calibrate::run(&arguments, verbosity)),
        Command::Grade(arguments) => finish(grade::run(&arguments, verbosity)),
        Command::Potential(arguments) => finish(potential::run(&arguments)),
        Command::Report(arguments) => {
            report::run(&arguments, verbosity).map_or_else(|error| finish(Err(error)), ExitCode::from)
        }
        Command::Watch(arguments) => finish(watch::run(&arguments)),
        Command::AnalyzeLog(arguments) => match analyze_log::run(&arguments, verbosity) {
            Ok(exit) => exit.into(),
            Err(error) => {
                print_error(&error);
                error.exit().into()
            }
        },
        Command::Generate(arguments) => finish(generate::run(&arguments)),
    }
}

/// Runs `work` on all ranks of the job. A panic on one of several ranks aborts the job, because the others would wait
/// forever.
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

/// Prints the error of a command that only processes files, and returns the exit code. Every such error is an input error.
fn finish<E: std::fmt::Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => Exit::Completed.into(),
        Err(error) => {
            print_error(&error);
            Exit::BadInput.into()
        }
    }
}

/// Returns the configuration and the output folder: `output`, or the name of the configuration without its extension.
/// Prints an error of the configuration.
///
/// # MPI
/// Collective.
fn load_config(config: &Path, output: Option<&Path>, comm: &Comm) -> Result<(InferenceConfig, PathBuf), Exit> {
    let output = output.map_or_else(|| PathBuf::from(config.file_stem().unwrap_or_default()), Path::to_path_buf);
    match run::read_config(config, comm) {
        Ok(config) => Ok((config, output)),
        Err(error) => {
            if comm.is_root() {
                print_error(&error);
            }
            Err(Exit::BadInput)
        }
    }
}

/// Agrees on one exit code after an error, because mpiexec combines the codes of the ranks. The ranks on which the error
/// occurred determine it.
///
/// # MPI
/// Collective.
fn agree_exit(is_input: bool, is_elsewhere: bool, comm: &Comm) -> Exit {
    let own = if is_input { Exit::BadInput } else { Exit::Failed };
    let code = comm.min_i64(if is_elsewhere { i64::MAX } else { own as i64 });
    if code == Exit::Failed as i64 { Exit::Failed } else { Exit::BadInput }
}

/// Prints an error to standard error.
fn print_error(error: &dyn std::fmt::Display) {
    let red = style::ERROR;
    // One write, so that messages of several ranks do not interleave.
    let text = format!("{red}error:{red:#} {error}");
    anstream::eprintln!("{text}");
}

/// Prints a non-fatal warning to standard error.
fn print_warning(warning: &dyn std::fmt::Display) {
    let yellow = style::WARNING;
    anstream::eprintln!("{yellow}warning:{yellow:#} {warning}");
}

/// Prints a line to standard output. Unlike `println!`, it does not panic on a closed pipe (`| head`).
fn print_line(text: &str) {
    let _ = writeln!(anstream::stdout().lock(), "{text}");
}
