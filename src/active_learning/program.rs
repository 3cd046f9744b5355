// SPDX-License-Identifier: GPL-2.0-or-later
//! Runs external programs, with a time limit.

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

/// Number of bytes at the end of a log that are kept in the store.
const TAIL_BYTES: u64 = 32 * 1024;

/// Interval at which the time limit and the interrupt flag are checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Prefixes of environment variables that MPI launchers set. They are removed for programs that use MPI themselves.
const LAUNCHER_PREFIXES: [&str; 7] = ["PMI_", "PMIX_", "HYDI_", "HYDRA_", "MPIR_", "OMPI_", "MPI_LOCAL"];

/// A program and its arguments. Names in braces in the arguments are replaced at each start.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) command: Vec<String>,
    /// Working directory.
    pub(super) folder: PathBuf,
    /// Time limit.
    pub(super) timeout: Option<Duration>,
    /// Ends the program when set.
    pub(super) interrupt: Arc<AtomicBool>,
}

/// Why a program did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The program could not be started.
    #[error("cannot start {program:?}: {source}")]
    Start {
        /// Name of the program.
        program: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The log of the program cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Log {
        /// Path of the log.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The program exceeded its time limit, and was killed with all its child processes.
    #[error("{program:?} was killed after {seconds} s, its time limit")]
    Timeout {
        /// Name of the program.
        program: String,
        /// The time limit in seconds.
        seconds: f64,
    },
    /// The program failed.
    #[error("{program:?} ended with {status}")]
    Status {
        /// Name of the program.
        program: String,
        /// Its exit status.
        status: ExitStatus,
    },
    /// This process was interrupted.
    #[error("interrupted")]
    Interrupted,
}

impl Program {
    /// Runs the program until it ends, and appends its output to the file `log`.
    pub(super) fn run(&self, values: &[(&str, &str)], log: &Path) -> Result<(), ProgramError> {
        let logging = |source| ProgramError::Log { path: log.to_owned(), source };
        let out = File::options().create(true).append(true).open(log).map_err(logging)?;
        let words: Vec<String> = self.command.iter().map(|word| substitute(word, values)).collect();
        let program = words[0].clone();
        let mut command = Command::new(&program);
        command.args(&words[1..]).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(out.try_clone().map_err(logging)?).stderr(out);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| LAUNCHER_PREFIXES.iter().any(|start| name.starts_with(start))) {
                command.env_remove(name);
            }
        }
        // A separate process group, so that child processes can be killed with it.
        command.process_group(0);
        let child = command.spawn().map_err(|source| ProgramError::Start { program: program.clone(), source })?;
        let status = self.wait(child, &program)?;
        if status.success() { Ok(()) } else { Err(ProgramError::Status { program, status }) }
    }

    fn wait(&self, mut child: Child, program: &str) -> Result<ExitStatus, ProgramError> {
        let started = Instant::now();
        let process = rustix::process::Pid::from_child(&child);
        let (end, ended) = std::sync::mpsc::channel();
        // A thread waits for the end of the process, so that it is noticed without delay. `NOWAIT` leaves the exit status, and with
        // it the process id, for `child.wait` below.
        std::thread::spawn(move || {
            let _ = rustix::io::retry_on_intr(|| {
                rustix::process::waitid(WaitId::Pid(process), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            });
            let _ = end.send(());
        });
        loop {
            if ended.recv_timeout(CHECK_INTERVAL) != Err(RecvTimeoutError::Timeout) {
                return child.wait().map_err(|source| ProgramError::Start { program: program.to_owned(), source });
            }
            let exceeded = self.timeout.filter(|limit| started.elapsed() > *limit);
            let interrupted = self.interrupt.load(Ordering::Relaxed);
            if exceeded.is_some() || interrupted {
                let _ = rustix::process::kill_process_group(process, rustix::process::Signal::KILL);
                let _ = child.wait();
                return Err(match exceeded {
                    Some(limit) => ProgramError::Timeout { program: program.to_owned(), seconds: limit.as_secs_f64() },
                    None => ProgramError::Interrupted,
                });
            }
        }
    }
}

/// Replaces each `{name}` in a word by its value. Other braces are unchanged.
fn substitute(word: &str, values: &[(&str, &str)]) -> String {
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

/// The end of a log as text; empty if the log does not exist.
pub(super) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
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
        assert_eq!(substitute("x={input},{output}{other}{", &values), "x={output},b{other}{");
    }

    #[test]
    fn output_and_exit_status_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        program("echo first $0", None).run(&[("output", "there")], &log).unwrap();
        let error = program("echo second >&2; exit 7", None).run(&[], &log).unwrap_err();
        assert!(matches!(&error, ProgramError::Status { status, .. } if status.code() == Some(7)), "{error}");
        assert_eq!(tail(&log), "first there\nsecond\n");
    }

    #[test]
    fn a_program_beyond_its_time_limit_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let (log, pid) = (folder.path().join("log"), folder.path().join("pid"));
        let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        // On a busy machine the script may not have started before the first limit.
        let mut limit = 0.2;
        let child: i32 = loop {
            let error = program(&script, Some(limit)).run(&[], &log).unwrap_err();
            assert!(matches!(error, ProgramError::Timeout { .. }), "{error}");
            if let Some(child) = std::fs::read_to_string(&pid).ok().and_then(|text| text.trim().parse().ok()) {
                break child;
            }
            limit *= 2.0;
        };
        // A process that has ended stays in the process table until its parent reads its status.
        let runs = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat"));
            stat.is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])))
        };
        let started = Instant::now();
        while runs() {
            assert!(started.elapsed() < Duration::from_secs(500), "its child still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn the_interrupt_flag_ends_a_program() {
        let folder = tempfile::tempdir().unwrap();
        let stopped = program("sleep 1000", None);
        stopped.interrupt.store(true, Ordering::Relaxed);
        let error = stopped.run(&[], &folder.path().join("log")).unwrap_err();
        assert!(matches!(error, ProgramError::Interrupted), "{error}");
    }
}
