// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf loop`.

use std::path::PathBuf;

use super::run::{abort, print_json};
use super::{Exit, Verbosity, agree_exit, load_config, print_error, print_line, print_warning};
use lammps_otf::active_learning::{ActiveLearning, LearningResult, Outcome};
use lammps_otf::candidates::{CheckResult, Round, RunState};
use lammps_otf::comm::{CollectiveError as _, Comm};
use lammps_otf::interrupt::on_signals;

#[derive(Debug, clap::Args)]
pub(super) struct LoopArguments {
    /// Configuration file with a table [loop], TOML
    config: PathBuf,
    /// Output folder; an existing loop in it is continued [default: the name of CONFIG without its extension]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Do the runs of a round ([[loop.run]]) side by side, each on an equal share of the MPI ranks
    #[arg(long, value_name = "R", default_value_t = 1, hide_default_value = true)]
    replicas: usize,
    /// Print each round and the result as one line of JSON, and nothing else to standard output
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &LoopArguments, comm: &Comm, verbosity: Verbosity) -> Exit {
    let (config, output) = match load_config(&arguments.config, arguments.output.as_deref(), comm) {
        Ok(ready) => ready,
        Err(exit) => return exit,
    };
    let show_text = comm.is_root() && !arguments.json && verbosity != Verbosity::Quiet;
    let mut has_header = false;
    // Printed after the first round, so that an error of the set-up is printed alone.
    let mut remarks = config.remarks();
    let outcome = ActiveLearning::new(comm, &output)
        .replicas(arguments.replicas)
        .interrupt_by(on_signals(Exit::Interrupted as i32))
        .observe(|round| {
            remarks.drain(..).for_each(|remark| print_warning(&remark));
            if arguments.json {
                print_json("round", round);
            } else if show_text {
                if !std::mem::replace(&mut has_header, true) {
                    print_line(HEADER);
                }
                print_line(&row(round));
                run_rows(round).iter().for_each(|line| print_line(line));
                check_rows(round).iter().for_each(|line| print_line(line));
                suspect_row(round).iter().for_each(|line| print_line(line));
            }
        })
        .run(&config);
    match outcome {
        Ok(result) => {
            for warning in result.warnings.iter().take(MAX_WARNINGS).filter(|_| comm.is_root()) {
                print_warning(warning);
            }
            if let Some(more @ 1..) = result.warnings.len().checked_sub(MAX_WARNINGS).filter(|_| comm.is_root()) {
                print_warning(&format!("{more} more warnings; --json lists all"));
            }
            if comm.is_root() && arguments.json {
                print_json("result", &result);
            } else if show_text {
                print_line(&summary(&result));
            }
            match result.outcome {
                Outcome::Learned => Exit::Completed,
                Outcome::Interrupted => Exit::Interrupted,
                Outcome::Waiting => Exit::Waiting,
                _ => Exit::Uncertain,
            }
        }
        Err(error) if error.is_rank_failure() => {
            print_error(&error);
            eprintln!("Earlier output is in {}. The job is aborted.", output.display());
            abort(comm, Exit::Aborted)
        }
        Err(error) => {
            if comm.is_root() {
                print_error(&error);
            }
            agree_exit(error.is_input(), error.is_elsewhere(), comm)
        }
    }
}

/// Maximum number of warnings printed.
const MAX_WARNINGS: usize = 1;

const HEADER: &str = "\
round                                                                           force error, meV/Å: of labels        of
         from  reached  events    γ_max  threshold  waiting  labelled  failed       before    after   audits  test set  ended";

fn row(round: &Round) -> String {
    let milli = |error: Option<f64>| error.map_or("-".into(), |error| format!("{:.1}", 1e3 * error));
    let test = round.report.get("force_rmse_mev_per_angstrom").and_then(serde_json::Value::as_f64);
    let gamma = match (round.outcome, round.gamma_max) {
        (None, _) => "-".into(),
        (_, Some(gamma)) => format!("{gamma:.2}"),
        (_, None) => "inf".into(),
    };
    let threshold = round.threshold.map_or("-".into(), |gamma| format!("{gamma:.2}"));
    let ended = round.ending();
    format!(
        "{:>5}  {:>7}  {:>7}  {:>6}  {gamma:>7}  {threshold:>9}  {:>7}  {:>8}  {:>6}  {:>11}  {:>7}  {:>7}  {:>8}  {ended}",
        round.number,
        round.from,
        round.reached,
        round.events,
        round.pool,
        round.labelled,
        round.failed,
        milli(round.force_rmse_before),
        milli(round.force_rmse_after),
        milli(round.audit.map(|audit| audit.force_rmse)),
        milli(test.map(|error| 1e-3 * error)),
    )
}

/// One line for each of several runs.
fn run_rows(round: &Round) -> Vec<String> {
    let line = |run: &RunState| {
        let outcome = run.outcome.map_or_else(|| "not repeated".into(), |outcome| outcome.to_string());
        let gamma = match (run.outcome, run.gamma_max) {
            (None, _) => "-".into(),
            (_, Some(gamma)) => format!("{gamma:.2}"),
            (_, None) => "inf".into(),
        };
        format!(
            "       run {:<18} from {:>7} to {:>7}  {:>4} events  γ {gamma:>7}  {outcome}",
            run.name, run.from, run.reached, run.events
        )
    };
    round.runs.iter().map(line).collect()
}

/// A line with the labels that were not trained on, if there are any.
fn suspect_row(round: &Round) -> Option<String> {
    let ids: Vec<String> = round.suspects.iter().map(i64::to_string).collect();
    (!ids.is_empty()).then(|| {
        format!(
            "       not trained on: the labels of candidates {} do not fit the others (`lammps-otf candidates list --suspect`)",
            ids.join(", ")
        )
    })
}

/// One line for each check: the errors of the potential that ran.
fn check_rows(round: &Round) -> Vec<String> {
    let line = |check: &CheckResult| {
        let energy = match (check.difference, check.energy_error) {
            (Some(difference), _) => format!(
                "energy difference {:.4} eV instead of {:.4} eV ({:.1} %)",
                difference.prediction,
                difference.label,
                100.0 * difference.relative_error()
            ),
            (None, Some(error)) => format!("energy {:+.2} meV/atom", -1e3 * error),
            (None, None) => "cut-out".into(),
        };
        let verdict = if check.is_passed() { "" } else { "  above its limit" };
        let gamma = check.gamma_max.map_or("inf".into(), |gamma| format!("{gamma:.2}"));
        format!(
            "       check {:<16} force error {:>8.1} meV/Å  γ {gamma:>7}  {energy}{verdict}",
            check.name,
            1e3 * check.force_rmse
        )
    };
    round.checks.iter().map(line).collect()
}

fn summary(result: &LearningResult) -> String {
    let why = match &result.outcome {
        Outcome::Learned => "Learned: the run completed without an event.".to_owned(),
        Outcome::Inaccurate => {
            "Stopped: the run completed without an event, but the errors of the potential are not within their limits."
                .into()
        }
        Outcome::Rounds => "Stopped: the maximum number of rounds was reached (loop.max_rounds).".into(),
        Outcome::Labels => "Stopped: the maximum number of labels was reached (loop.max_labels).".into(),
        Outcome::Time => "Stopped: the wall-time limit was reached (loop.max_time).".into(),
        Outcome::Nothing => "Stopped: events occurred, but no candidate could be labelled.".into(),
        Outcome::Refused(why) => format!("Stopped: the new potential was rejected: {why}"),
        Outcome::Waiting => {
            "Waiting for the labels of external workers (loop.oracle.wait). Continue with the same command.".into()
        }
        Outcome::Interrupted => "Interrupted. Continue with the same command.".into(),
    };
    let stored: usize = result.rounds.iter().map(|round| round.stored).sum();
    let swaps = match result.run_seconds {
        0.0 => String::new(),
        run => format!(
            "\n  {run:.1} s of molecular dynamics, {:.2} % of that to switch to new potentials",
            100.0 * result.swap_seconds / run
        ),
    };
    let unmet: String = result.unmet.iter().map(|what| format!("\n  Open: {what}.")).collect();
    let imported: String = result
        .imported
        .iter()
        .map(|(path, labels)| format!("\n  {labels} labels of {} were trained on as well.", path.display()))
        .collect();
    format!(
        "{why}{unmet}{imported}\n  {} of {stored} stored candidates were labelled; potential: {}{swaps}",
        result.labels,
        result.potential.display()
    )
}
