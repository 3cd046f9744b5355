// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf watch`: γ and T of a run in progress.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lammps_otf::active_learning::{round_folders, run_folders};
use lammps_otf::io::{LineEnd, read_line};
use lammps_otf::report::Activity;
use lammps_otf::runner::{files, poll_files};
use lammps_otf::simulation::Poll;
use lammps_otf::uncertainty::Verdict;

use super::{print_line, print_warning, style};

#[derive(Debug, clap::Args)]
pub(super) struct WatchArguments {
    /// Folder of a run or a loop, a file polls.jsonl, or - for standard input, e.g. from `run --json`
    #[arg(value_name = "FILE|DIR|-")]
    from: PathBuf,
    /// Display the polls of the newest file and exit
    #[arg(long)]
    once: bool,
    /// Keep waiting even if no process is seen to run; for file systems without locks across machines
    #[arg(long, conflicts_with = "once")]
    forever: bool,
}

/// No polls can be displayed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} has no polls yet: it contains neither polls.jsonl nor round-001/polls.jsonl", .0.display())]
    Nothing(PathBuf),
}

/// Interval between two reads of a file.
const READ_INTERVAL: Duration = Duration::from_millis(200);
/// Listings of the folder after which a file that is in none of them has been removed.
const LISTINGS: u32 = 10;
/// Number of polls in the plots.
const HISTORY: usize = 60;

pub(super) fn run(arguments: &WatchArguments) -> Result<(), WatchError> {
    let mut screen = Screen::new();
    let outcome = if arguments.from.as_os_str() == "-" {
        let mut lines = Lines::default();
        lines.read(&mut io::stdin().lock(), Path::new("standard input"), &mut screen).map(|_| ())
    } else {
        follow(arguments, &mut screen)
    };
    screen.finish();
    outcome
}

/// Reads the newest file of polls, and those that follow it, until the writing process has ended.
fn follow(arguments: &WatchArguments, screen: &mut Screen) -> Result<(), WatchError> {
    let from = &arguments.from;
    let (mut path, folder) = if from.is_dir() {
        (newest(from).ok_or_else(|| WatchError::Nothing(from.clone()))?, from.clone())
    } else {
        (from.clone(), from.parent().unwrap_or(Path::new("")).to_owned())
    };
    loop {
        let read_error = |source| WatchError::Read { path: path.clone(), source };
        let mut file = BufReader::new(File::open(&path).map_err(read_error)?);
        let inode = file.get_ref().metadata().map_err(read_error)?.ino();
        let mut lines = Lines::default();
        loop {
            // Determined before reading, so that everything written until then is read below.
            let finished = arguments.once || !arguments.forever && is_finished(&folder);
            let next = next_file(&path, inode, from);
            let read = lines.read(&mut file, &path, screen)?;
            if let Some(next) = next {
                if next.parent() != path.parent() {
                    screen.print(&format!("reading {}", next.display()));
                }
                path = next;
                break;
            }
            if finished && read == 0 {
                return Ok(());
            }
            if read == 0 {
                std::thread::sleep(READ_INTERVAL);
            }
        }
    }
}

/// Returns the file that continues the one opened at `path` with this inode; `None` if that is still being written.
///
/// A full file is renamed, possibly several times since the last call, and a loop continues in the folder of its next round.
fn next_file(path: &Path, inode: u64, from: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_own = |file: &PathBuf| std::fs::metadata(file).is_ok_and(|now| now.ino() == inode);
    let mut next = None;
    for attempt in 1..=LISTINGS {
        let of_run = poll_files(folder).unwrap_or_default();
        next = match of_run.iter().position(is_own) {
            Some(index) => of_run.get(index + 1).cloned(),
            // A file with another name that the user has given.
            None if is_own(&path.to_owned()) => None,
            // Renamed after it was listed.
            None if attempt < LISTINGS => {
                std::thread::sleep(READ_INTERVAL / 20);
                continue;
            }
            // An old one that was removed.
            None => of_run.first().cloned(),
        };
        break;
    }
    let later_round = || Some(newest(from)?).filter(|newest| from.is_dir() && newest.parent() != path.parent());
    next.or_else(later_round)
}

/// The current file of polls of a run, or of the last round of a loop.
fn newest(folder: &Path) -> Option<PathBuf> {
    let rounds: Vec<PathBuf> = round_folders(folder).flat_map(|round| run_folders(&round)).collect();
    let folders = rounds.iter().rev().map(PathBuf::as_path).chain([folder]);
    folders.map(|folder| folder.join(files::POLLS)).find(|file| file.is_file())
}

/// Whether the run has written its result, or the writing process has ended.
fn is_finished(folder: &Path) -> bool {
    folder.join(files::RESULT).is_file() || Activity::of(folder) == Activity::Ended
}

/// Splits input into lines; a line may arrive in pieces.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    warned: bool,
}

impl Lines {
    /// Reads to the current end. Returns the number of bytes.
    fn read(&mut self, from: &mut impl BufRead, path: &Path, screen: &mut Screen) -> Result<usize, WatchError> {
        let mut bytes = 0;
        loop {
            let before = self.rest.len();
            let end = read_line(from, &mut self.rest);
            let end = end.map_err(|source| WatchError::Read { path: path.to_owned(), source })?;
            bytes += self.rest.len() - before;
            if end == LineEnd::EndOfInput {
                // The current end, possibly within a line.
                return Ok(bytes);
            }
            let line = std::mem::take(&mut self.rest);
            match serde_json::from_slice::<Poll>(&line) {
                Ok(poll) => screen.show(&poll),
                // `run --json` also prints other events.
                Err(_) if is_other_event(&line) => {}
                Err(error) if !self.warned => {
                    self.warned = true;
                    print_warning(&format!("{}: skipped a line that is not a poll: {error}", path.display()));
                }
                Err(_) => {}
            }
        }
    }
}

fn is_other_event(line: &[u8]) -> bool {
    let value: Result<serde_json::Value, _> = serde_json::from_slice(line);
    value.is_ok_and(|value| value["event"].as_str().is_some_and(|event| event != "poll"))
}

/// Display: three lines that are updated on a terminal, else one line per poll.
struct Screen {
    bar: Option<ProgressBar>,
    gamma: VecDeque<f64>,
    temperature: VecDeque<f64>,
    last: String,
}

impl Screen {
    fn new() -> Self {
        let bar = io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_draw_target(indicatif::ProgressDrawTarget::stdout());
            bar.set_style(ProgressStyle::with_template("{msg}").expect("a valid template"));
            bar
        });
        Self { bar, gamma: VecDeque::new(), temperature: VecDeque::new(), last: String::new() }
    }

    fn show(&mut self, poll: &Poll) {
        let gamma = poll.gamma.as_ref();
        let colour = match poll.verdict {
            Verdict::Reliable => style::GOOD,
            Verdict::Flagged => style::WARNING,
            Verdict::Extrapolating => style::ERROR,
            Verdict::Unwatched => style::PLAIN,
        };
        let verdict = format!("{:?}", poll.verdict).to_lowercase();
        let text = gamma.map_or("γ not polled".to_owned(), |g| {
            format!("γ_max {:.3} at atom {}, {} above the threshold", g.max, g.worst_id, g.above_high)
        });
        let core = poll.core.as_ref().filter(|core| core.above > 0);
        let core = core.map_or(String::new(), |c| format!(", core share {:.3}, {} above its limit", c.max, c.above));
        let sparse = poll.sparse.as_ref().filter(|sparse| sparse.atoms > 0);
        let sparse = sparse.map_or(String::new(), |s| format!(", {} with few neighbours", s.atoms));
        self.last = format!(
            "step {}  {:.3} ps  T {:.0} K  {text}{core}{sparse}  {colour}{verdict}{colour:#}",
            poll.step, poll.time, poll.temperature
        );
        let Some(bar) = &self.bar else {
            print_line(&self.last);
            return;
        };
        for (history, value) in
            [(&mut self.gamma, gamma.map_or(f64::NAN, |g| g.max)), (&mut self.temperature, poll.temperature)]
        {
            history.push_back(value);
            if history.len() > HISTORY {
                history.pop_front();
            }
        }
        bar.set_message(format!("{}\n{}\n{}", self.last, graph("γ", &self.gamma), graph("T", &self.temperature)));
        bar.tick();
    }

    fn print(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => print_line(text),
        }
    }

    /// Replaces the display by its last line.
    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            print_line(&self.last);
        }
    }
}

/// Plots values as bars of eight heights, followed by their range.
fn graph(name: &str, values: &VecDeque<f64>) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let bars = values.iter().map(|v| match ((v - low) / (high - low) * 7.0).round() {
        _ if v.is_nan() => ' ',
        height if height.is_finite() => HEIGHTS[height as usize],
        _ if *v == f64::INFINITY => '█',
        _ => '▁',
    });
    let bars: String = bars.collect();
    if low > high { format!("{name} {bars}") } else { format!("{name} {bars}  {low:.4} to {high:.4}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graph_spans_minimum_to_maximum() {
        let graph = |values: &[f64]| graph("γ", &values.iter().copied().collect());
        assert_eq!(graph(&[1.0, 2.0, 8.0]), "γ ▁▂█  1.0000 to 8.0000");
        assert_eq!(graph(&[1.0, f64::NAN, 1.0, f64::INFINITY]), "γ ▁ ▁█  1.0000 to 1.0000");
        assert_eq!(graph(&[f64::NAN]), "γ  ");
    }
}
