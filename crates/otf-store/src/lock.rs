// SPDX-License-Identifier: GPL-2.0-or-later
//! The lock file that ASE keeps beside a database.
//!
//! `ase.db` changes a row in two steps: it reads the row, then writes it back in a transaction. Between the two only
//! its lock file (`NAME.db.lock`, created exclusively, empty) keeps others away; SQLite's own locks do not. So whoever
//! changes an existing row must hold that file too, or ASE would write old values over the change.
//!
//! It is always taken *inside* a write transaction, and never waited for inside one: ASE may hold the file and wait
//! for the transaction. Since every lammps-otf process has the database's write lock when it takes the file, a stale
//! file can be removed by one process only.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The lock file of one database.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    /// The content of our file: it tells other processes whether this one still lives.
    owner: String,
}

/// Held while it lives; dropping it removes the file.
#[derive(Debug)]
pub struct Guard<'a>(&'a LockFile);

/// What was last seen of someone else's lock file, and since when.
#[derive(Debug, Default)]
pub struct Watch {
    seen: Option<(Seen, Instant)>,
}

#[derive(Debug, PartialEq)]
struct Seen {
    modified: Option<SystemTime>,
    content: Vec<u8>,
}

impl LockFile {
    /// The lock file of the database at `path`.
    pub fn beside(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        Self { path: name.into(), owner: format!("lammps-otf {}\n", Process::own()) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock if it is free, or if its owner is gone. The caller holds the database's write lock.
    ///
    /// `stale_after` is how long a file of an owner that cannot be asked (ASE, or a process on another machine) must
    /// have been seen unchanged, by this process and without a break, before it counts as left behind.
    pub fn try_take(&self, watch: &mut Watch, stale_after: Duration) -> io::Result<Option<Guard<'_>>> {
        if !self.path.try_exists()? && self.create()? {
            return Ok(Some(Guard(self)));
        }
        let Some(seen) = self.look()? else { return Ok(None) };
        let gone = Process::parse(&seen.content).is_some_and(|process| process.is_gone());
        let since = match &watch.seen {
            Some((before, since)) if *before == seen => *since,
            _ => watch.seen.insert((seen, Instant::now())).1,
        };
        if gone || since.elapsed() >= stale_after {
            fs::remove_file(&self.path)
                .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
            watch.seen = None;
        }
        // Taken at the next try: ASE may be faster, which is fair.
        Ok(None)
    }

    /// Makes the file, with its content from the first moment: a process that is killed in between must not leave an
    /// empty one, which would pass for ASE's. `false` if somebody else was faster.
    fn create(&self) -> io::Result<bool> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".lock-");
        // Another user of the group must be able to see whose it is.
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

    /// Who holds the file, for an error message.
    pub fn owner(&self) -> String {
        match self.look() {
            Ok(Some(seen)) if seen.content.is_empty() => "another program (probably ASE)".into(),
            Ok(Some(seen)) => String::from_utf8_lossy(&seen.content).trim().chars().take(200).collect(),
            _ => "another program".into(),
        }
    }

    fn look(&self) -> io::Result<Option<Seen>> {
        let look = || -> io::Result<Seen> {
            let modified = fs::metadata(&self.path)?.modified().ok();
            let content = match fs::read(&self.path) {
                // Another user's: it says nothing to us, like ASE's.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Vec::new(),
                other => other?,
            };
            Ok(Seen { modified, content })
        };
        match look() {
            Ok(seen) => Ok(Some(seen)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // If the file was taken from us as stale, it is another's now.
        if fs::read(&self.0.path).is_ok_and(|content| content == self.0.owner.as_bytes()) {
            let _ = fs::remove_file(&self.0.path);
        }
    }
}

/// A process, named so that another one can tell whether it still runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    /// Its start time in the kernel's clock ticks: process numbers are used again.
    start: String,
    /// The machine since it was booted, and the process namespace: only in there the number means something.
    place: String,
}

impl Process {
    fn own() -> Self {
        let read = |path: &str| fs::read_to_string(path).map(|s| s.trim().to_owned()).unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid").map(|p| p.to_string_lossy().into_owned());
        let place = format!(
            "{}/{}/{}",
            read("/proc/sys/kernel/hostname"),
            read("/proc/sys/kernel/random/boot_id"),
            namespace.unwrap_or_default()
        );
        let pid = std::process::id();
        Self { pid, start: start_time(pid).unwrap_or_default(), place: place.replace(char::is_whitespace, "_") }
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?;
        let mut words = text.strip_prefix("lammps-otf pid=")?.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        let start = words.next()?.strip_prefix("start=")?.to_owned();
        let place = words.next()?.strip_prefix("on=")?.to_owned();
        Some(Self { pid, start, place })
    }

    /// Whether it certainly no longer runs; `false` where that cannot be told.
    fn is_gone(&self) -> bool {
        let own = Self::own();
        self.place == own.place && !own.start.is_empty() && start_time(self.pid).as_deref() != Some(&self.start)
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pid={} start={} on={}", self.pid, self.start, self.place)
    }
}

/// The start time of a process that runs, on Linux; a zombie runs no more.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything, also spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18).map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_can_be_told_to_be_gone() {
        let own = Process::own();
        assert_eq!(Process::parse(format!("lammps-otf {own}\n").as_bytes()), Some(own.clone()));
        assert!(!own.is_gone());
        if own.start.is_empty() {
            return;
        }
        assert!(Process { start: "1".into(), ..own.clone() }.is_gone());
        assert!(!Process { start: "1".into(), place: "elsewhere".into(), ..own }.is_gone());
    }

    #[test]
    fn a_lock_left_by_a_killed_process_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let lock = LockFile::beside(&folder.path().join("a.db"));
        let forever = Duration::from_secs(1_000_000);
        let mut watch = Watch::default();
        let gone = Process { pid: u32::MAX, ..Process::own() };
        fs::write(lock.path(), format!("lammps-otf {gone}\n")).unwrap();
        assert!(lock.try_take(&mut watch, forever).unwrap().is_none());
        let guard = lock.try_take(&mut watch, forever).unwrap().unwrap();
        assert!(lock.try_take(&mut watch, forever).unwrap().is_none(), "held");
        drop(guard);
        assert!(!lock.path().exists());
    }

    #[test]
    fn an_empty_lock_of_ase_is_left_alone_until_it_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let lock = LockFile::beside(&folder.path().join("a.db"));
        fs::write(lock.path(), "").unwrap();
        let mut watch = Watch::default();
        for _ in 0..3 {
            assert!(lock.try_take(&mut watch, Duration::from_secs(1000)).unwrap().is_none());
        }
        assert!(lock.path().exists());
        assert!(lock.try_take(&mut watch, Duration::ZERO).unwrap().is_none());
        assert!(lock.try_take(&mut watch, Duration::ZERO).unwrap().is_some());
    }
}
