// SPDX-License-Identifier: GPL-2.0-or-later
//! A program of somebody else's, run with limits.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use rustix::process::{WaitId, WaitIdOptions};

/// How much of a log's end is kept in the store.
const TAIL: u64 = 32 * 1024;

/// How often it is asked whether a program has to be ended.
const LOOK: Duration = Duration::from_millis(50);

/// What the launchers of MPI tell their processes: a program that uses MPI itself must not take it for its own.
const LAUNCHERS: [&str; 7] = ["PMI_", "PMIX_", "HYDI_", "HYDRA_", "MPIR_", "OMPI_", "MPI_LOCAL"];

/// A program with its arguments, some of which hold names in braces that are replaced at each start.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) command: Vec<String>,
    /// Where it runs.
    pub(super) folder: PathBuf,
    pub(super) timeout: Option<Duration>,
    /// Ends it when set.
    pub(super) interrupt: Arc<AtomicBool>,
}

/// Why a program gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started.
    #[error("cannot start {program:?}: {source}")]
    Start {
        /// Its name.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Its log cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It took too long, and was ended with all that it had started.
    #[error("{program:?} was ended after {seconds} s, its time limit")]
    TooLong {
        /// Its name.
        program: String,
        /// The limit.
        seconds: f64,
    },
    /// It ended badly.
    #[error("{program:?} ended with {status}")]
    Status {
        /// Its name.
        program: String,
        /// How.
        status: ExitStatus,
    },
    /// This process was told to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Program {
    /// Runs it to its end, with what it says going to the end of the file `log`.
    pub(super) fn run(&self, values: &[(&str, &str)], log: &Path) -> Result<(), ProgramError> {
        let logging = |source| ProgramError::Log { path: log.to_owned(), source };
        let out = File::options().create(true).append(true).open(log).map_err(logging)?;
        let words: Vec<String> = self.command.iter().map(|word| replaced(word, values)).collect();
        let program = words[0].clone();
        let mut command = Command::new(&program);
        command.args(&words[1..]).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(out.try_clone().map_err(logging)?).stderr(out);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| LAUNCHERS.iter().any(|start| name.starts_with(start))) {
                command.env_remove(name);
            }
        }
        // A group of its own, so that all that it starts can be ended with it.
        command.process_group(0);
        let child = command.spawn().map_err(|source| ProgramError::Start { program: program.clone(), source })?;
        let status = self.wait(child, &program)?;
        if status.success() { Ok(()) } else { Err(ProgramError::Status { program, status }) }
    }

    fn wait(&self, mut child: Child, program: &str) -> Result<ExitStatus, ProgramError> {
        let started = Instant::now();
        let process = rustix::process::Pid::from_child(&child);
        let (end, ended) = std::sync::mpsc::channel();
        // A thread that sleeps until it ends: no time is lost between looks. It leaves the status, and with it the number of
        // the process, for the one below.
        std::thread::spawn(move || {
            let _ = rustix::io::retry_on_intr(|| {
                rustix::process::waitid(WaitId::Pid(process), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            });
            let _ = end.send(());
        });
        loop {
            if ended.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                return child.wait().map_err(|source| ProgramError::Start { program: program.to_owned(), source });
            }
            let late = self.timeout.filter(|limit| started.elapsed() > *limit);
            let interrupted = self.interrupt.load(Ordering::Relaxed);
            if late.is_some() || interrupted {
                let _ = rustix::process::kill_process_group(process, rustix::process::Signal::KILL);
                let _ = child.wait();
                return Err(match late {
                    Some(limit) => ProgramError::TooLong { program: program.to_owned(), seconds: limit.as_secs_f64() },
                    None => ProgramError::Interrupted,
                });
            }
        }
    }
}

/// The word with each `{name}` replaced by its value; braces around anything else stay.
fn replaced(word: &str, values: &[(&str, &str)]) -> String {
    let mut result = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('{') {
        let (before, braced) = rest.split_at(at);
        result += before;
        let found = values.iter().find(|(name, _)| braced[1..].strip_prefix(name).is_some_and(|r| r.starts_with('}')));
        match found {
            Some((name, value)) => {
                result += value;
                rest = &braced[name.len() + 2..];
            }
            None => {
                result.push('{');
                rest = &braced[1..];
            }
        }
    }
    result + rest
}

/// The end of a log, as text; empty if there is none.
pub(super) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(script: &str, timeout: Option<f64>) -> Program {
        Program {
            command: ["sh", "-c", script, "{output}"].map(str::to_owned).to_vec(),
            folder: std::env::temp_dir(),
            timeout: timeout.map(Duration::from_secs_f64),
            interrupt: Arc::default(),
        }
    }

    #[test]
    fn names_are_replaced_once() {
        let values = [("input", "{output}"), ("output", "b")];
        assert_eq!(replaced("x={input},{output}{other}{", &values), "x={output},b{other}{");
    }

    #[test]
    fn what_it_says_and_how_it_ends_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        program("echo first $0", None).run(&[("output", "there")], &log).unwrap();
        let error = program("echo second >&2; exit 7", None).run(&[], &log).unwrap_err();
        assert!(matches!(&error, ProgramError::Status { status, .. } if status.code() == Some(7)), "{error}");
        assert_eq!(tail(&log), "first there\nsecond\n");
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let (log, pid) = (folder.path().join("log"), folder.path().join("pid"));
        let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        // On a busy machine it may not have begun before the first limit.
        let mut limit = 0.2;
        let child: i32 = loop {
            let error = program(&script, Some(limit)).run(&[], &log).unwrap_err();
            assert!(matches!(error, ProgramError::TooLong { .. }), "{error}");
            if let Some(child) = std::fs::read_to_string(&pid).ok().and_then(|text| text.trim().parse().ok()) {
                break child;
            }
            limit *= 2.0;
        };
        // A process that has ended stays in the table until somebody asks how.
        let runs = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat"));
            stat.is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])))
        };
        let started = Instant::now();
        while runs() {
            assert!(started.elapsed() < Duration::from_secs(500), "its child went on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_signal_to_this_process_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let stopped = program("sleep 1000", None);
        stopped.interrupt.store(true, Ordering::Relaxed);
        let error = stopped.run(&[], &folder.path().join("log")).unwrap_err();
        assert!(matches!(error, ProgramError::Interrupted), "{error}");
    }
}
