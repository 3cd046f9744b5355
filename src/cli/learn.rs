// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf loop`.

use std::path::PathBuf;

use super::run::{abort, print_line};
use super::{Exit, Verbosity, agreed, begin, complain, say, warn};
use lammps_otf::active_learning::{ActiveLearning, LearningResult, Outcome};
use lammps_otf::candidates::Round;
use lammps_otf::comm::{CollectiveError as _, Comm};
use lammps_otf::interrupt::on_signals;

#[derive(Debug, clap::Args)]
pub(super) struct LoopArguments {
    /// What to run, and in its table [loop] who labels and trains, in TOML
    config: PathBuf,
    /// Folder of the loop; one that was begun goes on [default: the name of CONFIG without its ending]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print each round and the result as one line of JSON on standard output, and nothing else there
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &LoopArguments, comm: &Comm, verbosity: Verbosity) -> Exit {
    let (config, output) = match begin(&arguments.config, arguments.output.as_deref(), comm) {
        Ok(ready) => ready,
        Err(exit) => return exit,
    };
    let talk = comm.is_root() && !arguments.json && verbosity != Verbosity::Quiet;
    let mut headed = false;
    // Once it is under way: an error of the set-up is to stand alone.
    let mut remarks = config.remarks();
    let outcome = ActiveLearning::new(comm, &output)
        .interrupt_by(on_signals(Exit::Interrupted as i32))
        .observe(|round| {
            remarks.drain(..).for_each(|remark| warn(&remark.to_string()));
            if arguments.json {
                print_line("round", round);
            } else if talk {
                if !std::mem::replace(&mut headed, true) {
                    say(HEAD);
                }
                say(&row(round));
            }
        })
        .run(&config);
    match outcome {
        Ok(result) => {
            for warning in result.warnings.iter().take(WARNINGS).filter(|_| comm.is_root()) {
                warn(warning);
            }
            if let Some(more @ 1..) = result.warnings.len().checked_sub(WARNINGS).filter(|_| comm.is_root()) {
                warn(&format!("and {more} more, which --json lists"));
            }
            if comm.is_root() && arguments.json {
                print_line("result", &result);
            } else if talk {
                say(&summary(&result));
            }
            match result.outcome {
                Outcome::Learned => Exit::Completed,
                Outcome::Interrupted => Exit::Interrupted,
                _ => Exit::Uncertain,
            }
        }
        Err(error) if error.is_rank_failure() => {
            complain(&error);
            eprintln!("What was learned before is in {}. The job is aborted.", output.display());
            abort(comm, Exit::Aborted)
        }
        Err(error) => {
            if comm.is_root() {
                complain(&error);
            }
            agreed(error.is_input(), error.is_elsewhere(), comm)
        }
    }
}

/// So many warnings are shown.
const WARNINGS: usize = 1;

const HEAD: &str = "\
round     from  reached  events    γ_max  waiting  labelled  failed  ΔE meV/atom  ΔF meV/Å  ended";

fn row(round: &Round) -> String {
    let number = |name: &str, digits: usize| {
        round.report.get(name).and_then(serde_json::Value::as_f64).map_or("-".into(), |x| format!("{x:.digits$}"))
    };
    let gamma = match (round.seen, round.gamma_max) {
        (None, _) => "-".into(),
        (_, Some(gamma)) => format!("{gamma:.2}"),
        (_, None) => "inf".into(),
    };
    let ended = round.ending();
    format!(
        "{:>5}  {:>7}  {:>7}  {:>6}  {gamma:>7}  {:>7}  {:>8}  {:>6}  {:>11}  {:>8}  {ended}",
        round.number,
        round.from,
        round.reached,
        round.events,
        round.pool,
        round.labelled,
        round.failed,
        number("energy_rmse_mev_per_atom", 2),
        number("force_rmse_mev_per_angstrom", 1),
    )
}

fn summary(result: &LearningResult) -> String {
    let why = match &result.outcome {
        Outcome::Learned => "Learned: the run holds nothing that the potential does not know.".to_owned(),
        Outcome::Rounds => "Stopped: all rounds are used (loop.max_rounds).".into(),
        Outcome::Labels => "Stopped: all labels are used (loop.max_labels).".into(),
        Outcome::Time => "Stopped: the time is over (loop.max_time).".into(),
        Outcome::Nothing => "Stopped: there is something unknown, but no candidate could be labelled.".into(),
        Outcome::Refused(why) => format!("Stopped: the new potential was refused: {why}"),
        Outcome::Interrupted => "Interrupted; the same command goes on.".into(),
    };
    let stored: usize = result.rounds.iter().map(|round| round.stored).sum();
    let swaps = match result.run_seconds {
        0.0 => String::new(),
        run => format!(
            "\n  {run:.1} s of molecular dynamics, {:.2} % of that until the new potentials ran",
            100.0 * result.swap_seconds / run
        ),
    };
    format!(
        "{why}\n  {} of {stored} stored candidates were labelled; the potential: {}{swaps}",
        result.labels,
        result.potential.display()
    )
}
