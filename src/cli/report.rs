// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf report`: an HTML page about a run or a loop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lammps_otf::report::{self, Activity, Content, Report};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::files::{WriteError, write_atomically};
use super::{Exit, Verbosity, print_line, print_warning};

/// Interval at which a waiting command looks for a signal.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);
/// With `--follow`, a page is made again after at least this multiple of the time that it took.
const PAUSE_FACTOR: u32 = 10;

#[derive(Debug, clap::Args)]
pub(super) struct ReportArguments {
    /// Output folder of a run, a loop, or replicas, finished or in progress
    folder: PathBuf,
    /// HTML file to write [default: report.html in FOLDER]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write the main plots to this folder as SVG and PNG; created if missing
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Print the names of the written files as JSON
    #[arg(long)]
    json: bool,
    /// Make the page again while the run or loop is under way; the open page reloads itself. Ends with the run, or with Ctrl-C.
    /// Plots are written at the end
    #[arg(long)]
    follow: bool,
    /// Seconds between two looks at the folder, and between two reloads of the page
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, requires = "follow", value_parser = seconds)]
    interval: f64,
    /// Follow until there is a result, or Ctrl-C, even if no process is seen to run; for file systems without locks across machines
    #[arg(long, requires = "follow")]
    forever: bool,
}

/// A time between two reloads.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a time between 0.1 and 86400 seconds".into()),
    }
}

/// The page cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReportError {
    #[error(transparent)]
    Report(#[from] report::Error),
    #[error(transparent)]
    Plot(#[from] report::PlotError),
    #[error("cannot create the folder {}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Write(#[from] WriteError),
}

pub(super) fn run(arguments: &ReportArguments, verbosity: Verbosity) -> Result<Exit, ReportError> {
    let page = arguments.output.clone().unwrap_or_else(|| arguments.folder.join("report.html"));
    let (report, exit) = if arguments.follow {
        follow(arguments, &page, verbosity)?
    } else {
        let report = Report::read(&arguments.folder)?;
        write_page(&page, &report.html())?;
        (Some(report), Exit::Completed)
    };
    // Stopped before there were polls.
    let Some(report) = report else { return Ok(exit) };
    report.notes.iter().for_each(|note| print_warning(note));
    let mut written = vec![page];
    if let Some(folder) = &arguments.plots {
        std::fs::create_dir_all(folder).map_err(|source| ReportError::Folder { path: folder.clone(), source })?;
        for (name, content) in report.plots()? {
            let path = folder.join(name);
            write_atomically(&path, |out| out.write_all(&content))?;
            written.push(path);
        }
    }
    if arguments.json {
        print_line(&format!("{:#}", json!({ "written": written })));
    } else if verbosity != Verbosity::Quiet {
        written.iter().for_each(|path| print_line(&path.display().to_string()));
    }
    Ok(exit)
}

fn write_page(path: &Path, html: &str) -> Result<(), WriteError> {
    write_atomically(path, |out| out.write_all(html.as_bytes()))
}

/// Makes the page again whenever there is new content, until the run or loop has ended, or a signal arrives. Then writes a page that
/// does not reload itself. Returns its report, or `None` if a signal arrived before there were polls.
fn follow(
    arguments: &ReportArguments,
    page: &Path,
    verbosity: Verbosity,
) -> Result<(Option<Report>, Exit), ReportError> {
    let folder = &arguments.folder;
    let interval = Duration::from_secs_f64(arguments.interval);
    let stop = stop_on_signals();
    let say = |text: &str| {
        if verbosity != Verbosity::Quiet {
            anstream::eprintln!("{text}");
        }
    };
    let (mut shown, mut warned) = (None, String::new());
    loop {
        let started = Instant::now();
        // Both are determined before the files are read, so that the last page has everything that was written until then.
        let stopped = stop.load(Ordering::Relaxed);
        let ended = stopped || has_ended(folder, arguments.forever);
        let content = Content::of(folder);
        if ended || shown.as_ref() != Some(&content) {
            match Report::read(folder) {
                Ok(report) if ended => {
                    write_page(page, &report.html())?;
                    say(&ending(&report, stopped));
                    return Ok((Some(report), if stopped { Exit::Interrupted } else { Exit::Completed }));
                }
                Ok(report) => {
                    write_page(page, &report.live_html(interval))?;
                    if shown.is_none() {
                        say(&format!(
                            "{}: made again while the run is under way. Open it in a browser; Ctrl-C stops.",
                            page.display()
                        ));
                    }
                    shown = Some(content);
                }
                Err(report::Error::NoRun(_)) if stopped => return Ok((None, Exit::Interrupted)),
                Err(error) if ended || !folder.is_dir() => return Err(error.into()),
                // The run is about to begin.
                Err(report::Error::NoRun(_)) => {}
                // Files appear and are renamed while they are read.
                Err(error) => {
                    let text = error.to_string();
                    if text != warned {
                        print_warning(&format!("{text}. The page is made again later"));
                        warned = text;
                    }
                }
            }
        }
        let until = started + interval.max(PAUSE_FACTOR * started.elapsed());
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(SIGNAL_INTERVAL.min(until.saturating_duration_since(Instant::now())));
        }
    }
}

/// Whether the run or loop has ended. With `forever`, only a result counts, and not that no process holds the lock.
fn has_ended(folder: &Path, forever: bool) -> bool {
    match Activity::of(folder) {
        Activity::Running => false,
        // A folder without files is that of replicas that are being set up.
        Activity::Unknown if folder.read_dir().is_ok_and(|mut entries| entries.next().is_none()) => false,
        Activity::Ended | Activity::Unknown => !forever || report::has_result(folder),
    }
}

/// How the run or loop ended, in a line.
fn ending(report: &Report, stopped: bool) -> String {
    let stopped = if stopped && report.activity == Activity::Running { "Stopped following. " } else { "" };
    format!("{stopped}{}: {}. {}", report.name, report.status, report.ending).trim_end().to_owned()
}

/// A flag that SIGINT and SIGTERM set. A second signal ends the process at once.
fn stop_on_signals() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the first signal sets the flag, and the second finds it set.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&flag));
        let _ = signal_hook::flag::register(signal, Arc::clone(&flag));
    }
    flag
}
