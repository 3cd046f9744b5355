// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf watch`: γ and T of a run while it goes on.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lammps_otf::active_learning::{self, round_folders};
use lammps_otf::runner::{files, poll_files};
use lammps_otf::simulation::Poll;
use lammps_otf::uncertainty::Verdict;

use super::{say, style, warn};

#[derive(Debug, clap::Args)]
pub(super) struct WatchArguments {
    /// The folder of a run or a loop, a file of polls, or - for lines on standard input, such as those of `run --json`
    #[arg(value_name = "FILE|DIR|-")]
    from: PathBuf,
    /// Show what is in the newest file, and do not wait for more
    #[arg(long)]
    once: bool,
    /// Wait for more, also where no process seems to write: for file systems whose locks other machines do not see
    #[arg(long, conflicts_with = "once")]
    forever: bool,
}

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} has no polls yet: there is neither polls.jsonl nor round-001/polls.jsonl in it", .0.display())]
    Nothing(PathBuf),
}

/// How long to wait before looking for more.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of a line. What is longer was not written by this program.
const LONGEST: u64 = 1 << 20;
/// Polls in the little plots.
const HISTORY: usize = 60;
/// The process that writes has one of these locked.
const LOCKS: [&str; 2] = [files::LOCK, active_learning::files::LOCK];

pub(super) fn run(arguments: &WatchArguments) -> Result<(), WatchError> {
    let mut screen = Screen::new();
    let outcome = if arguments.from.as_os_str() == "-" {
        let mut lines = Lines::default();
        lines.read(&mut io::stdin().lock(), Path::new("standard input"), &mut screen).map(|_| ())
    } else {
        follow(arguments, &mut screen)
    };
    screen.end();
    outcome
}

/// Reads the newest file of polls to its end, again and again, until nobody writes any more.
fn follow(arguments: &WatchArguments, screen: &mut Screen) -> Result<(), WatchError> {
    let from = &arguments.from;
    let (mut path, folder) = if from.is_dir() {
        (newest(from).ok_or_else(|| WatchError::Nothing(from.clone()))?, from.clone())
    } else {
        (from.clone(), from.parent().unwrap_or(Path::new("")).to_owned())
    };
    loop {
        let reading = |source| WatchError::Read { path: path.clone(), source };
        let mut file = BufReader::new(File::open(&path).map_err(reading)?);
        let own = file.get_ref().metadata().map_err(reading)?.ino();
        let mut lines = Lines::default();
        loop {
            // Asked before reading: what was written until then is read below.
            let over = arguments.once || !arguments.forever && is_over(&folder);
            let next = after(&path, own, from);
            let read = lines.read(&mut file, &path, screen)?;
            if let Some(next) = next {
                if next.parent() != path.parent() {
                    screen.tell(&format!("now {}", next.display()));
                }
                path = next;
                break;
            }
            if over && read == 0 {
                return Ok(());
            }
            if read == 0 {
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// The file that goes on where the one at `path` ends, which has this inode; `None` while that is being written.
///
/// A full file is renamed, perhaps more than once since the last look, and a loop goes on in the folder of its next round.
fn after(path: &Path, inode: u64, from: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let of_run = poll_files(folder).unwrap_or_default();
    let is_own = |file: &PathBuf| std::fs::metadata(file).is_ok_and(|now| now.ino() == inode);
    let next = match of_run.iter().position(is_own) {
        Some(own) => of_run.get(own + 1),
        // Another name that the user gave, or one of the oldest, which are removed.
        None if is_own(&path.to_owned()) => None,
        None => of_run.first(),
    };
    let later_round = || Some(newest(from)?).filter(|newest| from.is_dir() && newest.parent() != path.parent());
    next.cloned().or_else(later_round)
}

/// The file that a run writes, or that of the last round of a loop.
fn newest(folder: &Path) -> Option<PathBuf> {
    let rounds: Vec<PathBuf> = round_folders(folder).collect();
    let folders = rounds.iter().rev().map(PathBuf::as_path).chain([folder]);
    folders.map(|folder| folder.join(files::POLLS)).find(|file| file.is_file())
}

/// Whether the run has left its result, or the process that wrote has gone.
fn is_over(folder: &Path) -> bool {
    if folder.join(files::RESULT).is_file() {
        return true;
    }
    let mut locks = LOCKS.iter().filter_map(|name| File::open(folder.join(name)).ok()).peekable();
    // A lock that can be had is one that nobody has; where there are no locks one does not know.
    locks.peek().is_some() && locks.all(|lock| lock.try_lock_shared().is_ok())
}

/// Lines as they come in, in pieces.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    complained: bool,
}

impl Lines {
    /// Reads to the present end; gives the number of bytes.
    fn read(&mut self, from: &mut impl BufRead, path: &Path, screen: &mut Screen) -> Result<usize, WatchError> {
        let mut bytes = 0;
        loop {
            let read = from.by_ref().take(LONGEST).read_until(b'\n', &mut self.rest);
            let n = read.map_err(|source| WatchError::Read { path: path.to_owned(), source })?;
            bytes += n;
            if n == 0 {
                // The end, for now, perhaps in the middle of a line.
                return Ok(bytes);
            }
            if self.rest.last() != Some(&b'\n') && (self.rest.len() as u64) < LONGEST {
                continue;
            }
            let line = std::mem::take(&mut self.rest);
            match serde_json::from_slice::<Poll>(&line) {
                Ok(poll) => screen.show(&poll),
                // `run --json` says more than polls.
                Err(_) if is_other_event(&line) => {}
                Err(error) if !self.complained => {
                    self.complained = true;
                    warn(&format!("{}: a line is not of a poll: {error}", path.display()));
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

/// Three lines that change, on a terminal; a line for each poll elsewhere.
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
        let text = gamma.map_or("γ not looked at".to_owned(), |g| {
            format!("γ_max {:.3} at atom {}, {} above the threshold", g.max, g.worst_id, g.above_high)
        });
        self.last = format!(
            "step {}  {:.3} ps  T {:.0} K  {text}  {colour}{verdict}{colour:#}",
            poll.step, poll.time, poll.temperature
        );
        let Some(bar) = &self.bar else {
            say(&self.last);
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

    fn tell(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => say(text),
        }
    }

    /// Leaves the last line where it is.
    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            say(&self.last);
        }
    }
}

/// Eight heights from the lowest to the highest, which stand beside it.
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
    fn graphs_go_from_the_lowest_to_the_highest() {
        let graph = |values: &[f64]| graph("γ", &values.iter().copied().collect());
        assert_eq!(graph(&[1.0, 2.0, 8.0]), "γ ▁▂█  1.0000 to 8.0000");
        assert_eq!(graph(&[1.0, f64::NAN, 1.0, f64::INFINITY]), "γ ▁ ▁█  1.0000 to 1.0000");
        assert_eq!(graph(&[f64::NAN]), "γ  ");
    }
}
