// SPDX-License-Identifier: GPL-2.0-or-later
//! The lock file of ASE beside a database.
//!
//! `ase.db` changes a row in two steps: it reads the row and then writes it back in a transaction. Between the two steps
//! the row is protected only by the lock file (`NAME.db.lock`, created exclusively, empty), not by the locks of SQLite. A
//! process that changes an existing row must therefore also hold the lock file, or ASE would overwrite the change with
//! old values.
//!
//! The lock file is always taken *inside* a write transaction, and never waited for inside one, because ASE may hold the
//! file while it waits for the transaction. Every lammps-otf process holds the write lock of the database when it takes
//! the file, so only one process at a time can remove a stale file.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The lock file of one database.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    /// The content written to the file, by which other processes can check whether this process still exists.
    owner: String,
}

/// A held lock. Dropping it removes the file.
#[derive(Debug)]
pub struct Guard<'a>(&'a LockFile);

/// The last observed state of another process's lock file, and when it was first observed.
#[derive(Debug, Default)]
pub struct LockWatch {
    last: Option<(LockState, Instant)>,
}

#[derive(Debug, PartialEq)]
struct LockState {
    modified: Option<SystemTime>,
    content: Vec<u8>,
}

impl LockFile {
    /// The lock file of the database at `path`.
    pub fn for_database(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        Self { path: name.into(), owner: format!("lammps-otf {}\n", Process::own()) }
    }

    /// The path of the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock if it is free, else removes a stale lock file. The caller must hold the write lock of the database.
    ///
    /// A file is stale if its owner no longer exists. If that cannot be determined (ASE, or a process on another
    /// machine), a file is stale when `watch` has observed it unchanged for `stale_after`.
    pub fn try_take(&self, watch: &mut LockWatch, stale_after: Duration) -> io::Result<Option<Guard<'_>>> {
        if !self.path.try_exists()? && self.create()? {
            return Ok(Some(Guard(self)));
        }
        let Some(state) = self.read_state()? else { return Ok(None) };
        let gone = Process::parse(&state.content).is_some_and(|process| process.is_gone());
        let since = match &watch.last {
            Some((before, since)) if *before == state => *since,
            _ => watch.last.insert((state, Instant::now())).1,
        };
        if gone || since.elapsed() >= stale_after {
            fs::remove_file(&self.path)
                .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
            watch.last = None;
        }
        // The caller takes the lock at the next try, unless ASE takes it first.
        Ok(None)
    }

    /// Creates the file together with its content, so that a process that is killed meanwhile does not leave an empty file
    /// like that of ASE. Returns `false` if another process created it first.
    fn create(&self) -> io::Result<bool> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".lock-");
        // Other users must be able to read the owner.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(self.owner.as_bytes())?;
        match file.persist_noclobber(&self.path) {
            Ok(_) => Ok(true),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error.error),
        }
    }

    /// The owner of the file, for an error message.
    pub fn owner(&self) -> String {
        match self.read_state() {
            Ok(Some(state)) if state.content.is_empty() => "another program (probably ASE)".into(),
            Ok(Some(state)) => String::from_utf8_lossy(&state.content).trim().chars().take(200).collect(),
            _ => "another program".into(),
        }
    }

    fn read_state(&self) -> io::Result<Option<LockState>> {
        let read = || -> io::Result<LockState> {
            let modified = fs::metadata(&self.path)?.modified().ok();
            let content = match fs::read(&self.path) {
                // The file of another user is treated like that of ASE.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Vec::new(),
                other => other?,
            };
            Ok(LockState { modified, content })
        };
        match read() {
            Ok(state) => Ok(Some(state)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // Another process may have removed the file as stale and created its own.
        if fs::read(&self.0.path).is_ok_and(|content| content == self.0.owner.as_bytes()) {
            let _ = fs::remove_file(&self.0.path);
        }
    }
}

/// A unique identifier of a process, by which another process can check whether it still exists.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    /// Start time in clock ticks of the kernel, because process ids are reused.
    start: String,
    /// Host name, boot id and process namespace, in which the process id is valid.
    host: String,
}

impl Process {
    fn own() -> Self {
        let read = |path: &str| fs::read_to_string(path).map(|s| s.trim().to_owned()).unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid").map(|p| p.to_string_lossy().into_owned());
        let host = format!(
            "{}/{}/{}",
            read("/proc/sys/kernel/hostname"),
            read("/proc/sys/kernel/random/boot_id"),
            namespace.unwrap_or_default()
        );
        let pid = std::process::id();
        Self { pid, start: start_time(pid).unwrap_or_default(), host: host.replace(char::is_whitespace, "_") }
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?;
        let mut words = text.strip_prefix("lammps-otf pid=")?.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        let start = words.next()?.strip_prefix("start=")?.to_owned();
        let host = words.next()?.strip_prefix("on=")?.to_owned();
        Some(Self { pid, start, host })
    }

    /// Whether the process no longer exists; `false` if that cannot be determined.
    fn is_gone(&self) -> bool {
        let own = Self::own();
        self.host == own.host && !own.start.is_empty() && start_time(self.pid).as_deref() != Some(&self.start)
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pid={} start={} on={}", self.pid, self.start, self.host)
    }
}

/// The start time of a process that runs, on Linux; a zombie runs no more.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, can contain spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18).map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_gone_detects_a_reused_process_id() {
        let own = Process::own();
        assert_eq!(Process::parse(format!("lammps-otf {own}\n").as_bytes()), Some(own.clone()));
        assert!(!own.is_gone());
        if own.start.is_empty() {
            return;
        }
        assert!(Process { start: "1".into(), ..own.clone() }.is_gone());
        assert!(!Process { start: "1".into(), host: "elsewhere".into(), ..own }.is_gone());
    }

    #[test]
    fn lock_of_a_killed_process_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let lock = LockFile::for_database(&folder.path().join("a.db"));
        let forever = Duration::from_secs(1_000_000);
        let mut watch = LockWatch::default();
        let gone = Process { pid: u32::MAX, ..Process::own() };
        fs::write(lock.path(), format!("lammps-otf {gone}\n")).unwrap();
        assert!(lock.try_take(&mut watch, forever).unwrap().is_none());
        let guard = lock.try_take(&mut watch, forever).unwrap().unwrap();
        assert!(lock.try_take(&mut watch, forever).unwrap().is_none(), "held");
        drop(guard);
        assert!(!lock.path().exists());
    }

    #[test]
    fn empty_lock_of_ase_is_kept_until_it_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let lock = LockFile::for_database(&folder.path().join("a.db"));
        fs::write(lock.path(), "").unwrap();
        let mut watch = LockWatch::default();
        for _ in 0..3 {
            assert!(lock.try_take(&mut watch, Duration::from_secs(1000)).unwrap().is_none());
        }
        assert!(lock.path().exists());
        assert!(lock.try_take(&mut watch, Duration::ZERO).unwrap().is_none());
        assert!(lock.try_take(&mut watch, Duration::ZERO).unwrap().is_some());
    }
}
