// SPDX-License-Identifier: GPL-2.0-or-later
//! The command line: each command in a file of its own.

mod analyze_log;
mod candidates;
mod extract;
mod run;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use lammps_otf::comm::Session;

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
    /// One MPI rank failed alone, and the job was aborted.
    Aborted = 5,
    /// A signal, or the wall-time limit.
    Interrupted = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Molecular dynamics that knows when its potential is wrong.
///
/// Runs LAMMPS with an ML-PACE potential in this process, watches the extrapolation grade of every atom, and stores the
/// neighbourhood of the worst one for labelling when the potential leaves what it was trained on.
#[derive(Debug, Parser)]
#[command(name = "lammps-otf", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run molecular dynamics under watch
    Run(run::RunArguments),
    /// Cut the neighbourhood of an atom out of a structure file
    Extract(extract::ExtractArgs),
    /// Look at the candidates of a run, export them for training, change their status
    Candidates(candidates::CandidatesArgs),
    /// Find the first step above a threshold in the log of plain `lmp`
    AnalyzeLog(analyze_log::AnalyzeLogArgs),
}

/// Runs the command that the process was started with.
///
/// # MPI
/// Collective over the job.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Run(arguments) => {
            let session = Session::initialize();
            let world = session.world();
            match catch_unwind(AssertUnwindSafe(|| run::run(&arguments, &world))) {
                Ok(exit) => exit.into(),
                // The others wait for this rank, and it will not come.
                Err(_) if world.size() > 1 => world.abort(Exit::Aborted as i32),
                Err(panic) => resume_unwind(panic),
            }
        }
        Command::Extract(arguments) => finish(extract::run(&arguments)),
        Command::Candidates(arguments) => finish(candidates::run(&arguments)),
        Command::AnalyzeLog(arguments) => match analyze_log::run(&arguments) {
            Ok(exit) => exit.into(),
            Err(error) => {
                complain(&error);
                error.exit().into()
            }
        },
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

/// Says what went wrong, once, on the rank that talks.
fn complain(error: &dyn std::fmt::Display) {
    eprintln!("error: {error}");
}
