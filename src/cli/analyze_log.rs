// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf analyze-log`: whether γ passed a threshold in a run of plain `lmp`.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use lammps_otf::thermo_log::{self, GAMMA_COLUMN, STEP_COLUMN, UncertaintyChecker, UqResult};

use super::{Exit, Verbosity, print_line, print_warning};

/// Find the first step above a threshold in the log of plain `lmp`.
///
/// Exit code 0: γ never exceeded the threshold. 4: it did. 2: the log cannot be evaluated.
#[derive(Debug, Clone, Args)]
pub struct AnalyzeLogArgs {
    /// Log file of any thermo style, optionally compressed with gzip; - for standard input
    pub file: PathBuf,
    /// Column of γ, as in the table header
    #[arg(long, value_name = "NAME", default_value = GAMMA_COLUMN)]
    pub column: String,
    /// Threshold of γ; NaN and infinity always count as above
    #[arg(long, value_name = "G", value_parser = parse_threshold, allow_negative_numbers = true)]
    pub threshold: f64,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Column of the step, if it has another name
    #[arg(long, value_name = "NAME", default_value = STEP_COLUMN)]
    pub step_column: String,
    /// Write run, step and γ of each line to this new CSV file
    #[arg(long, value_name = "OUT.csv")]
    pub table: Option<PathBuf>,
}

/// The log could not be analysed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnalyzeLogError {
    /// The log cannot be evaluated.
    #[error(transparent)]
    Log(#[from] thermo_log::Error),
    /// The table cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl AnalyzeLogError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Log(_) => Exit::BadInput,
            Self::Write { .. } => Exit::Failed,
        }
    }
}

fn parse_threshold(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("give a finite number".to_owned()),
    }
}

/// Analyses the log and prints the result.
///
/// # Errors
/// [`AnalyzeLogError`]. A partially written table is kept.
pub fn run(args: &AnalyzeLogArgs, verbosity: Verbosity) -> Result<Exit, AnalyzeLogError> {
    let checker = UncertaintyChecker::new(args.threshold).column(&args.column).step_column(&args.step_column);
    let (name, reader): (String, Box<dyn Read>) = if args.file == Path::new("-") {
        ("standard input".into(), Box::new(std::io::stdin()))
    } else {
        let name = args.file.display().to_string();
        match File::open(&args.file) {
            Ok(file) => (name, Box::new(file)),
            Err(source) => return Err(thermo_log::Error::Open { name, source }.into()),
        }
    };
    let result = match &args.table {
        None => checker.analyze_reader(name, reader, |_| ())?,
        Some(path) => {
            let wrap = |source| AnalyzeLogError::Write { path: path.clone(), source };
            // Only a new file, so that a mistyped command cannot overwrite the log.
            let mut out = BufWriter::new(File::create_new(path).map_err(wrap)?);
            let mut written = writeln!(out, "run,step,gamma");
            let result = checker.analyze_reader(name, reader, |sample| {
                if written.is_ok() {
                    written = writeln!(out, "{},{},{}", sample.run, sample.step, sample.gamma);
                }
            })?;
            written.and_then(|()| out.flush()).map_err(wrap)?;
            result
        }
    };
    report(args, &result, verbosity);
    Ok(if result.trigger_step.is_some() { Exit::Uncertain } else { Exit::Completed })
}

fn report(args: &AnalyzeLogArgs, result: &UqResult, verbosity: Verbosity) {
    let text = if args.json {
        serde_json::to_string_pretty(result).expect("numbers")
    } else {
        let passed = result.trigger_step.zip(result.trigger_line).map_or_else(
            || format!("γ was never above {}", args.threshold),
            |(step, line)| format!("γ passed {} first at step {step} (line {line})", args.threshold),
        );
        format!(
            "{passed}; largest {} at step {}; {} steps in {} run{}{}.",
            result.gamma_max,
            result.gamma_max_step,
            result.steps_read,
            result.runs,
            if result.runs == 1 { "" } else { "s" },
            if result.truncated { "; the log is truncated" } else { "" }
        )
    };
    if args.json || verbosity != Verbosity::Quiet {
        print_line(&text);
    }
    if result.runs_without_column > 0 {
        print_warning(&format!(
            "{} of {} runs have no column {:?}, so their γ was not checked",
            result.runs_without_column, result.runs, args.column
        ));
    }
    if result.skipped_lines > 0 {
        print_warning(&format!("skipped {} malformed line(s) within the tables", result.skipped_lines));
    }
}
