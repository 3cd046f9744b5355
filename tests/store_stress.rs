// SPDX-License-Identifier: GPL-2.0-or-later
//! The candidate store under load, under `kill -9`, and with full or read-only disks.
//!
//! The other processes are this test binary, started again with `OTF_CHILD`. They announce completed operations in
//! lines that begin with `@`. `OTF_STRESS_SECONDS` makes the load longer (default 4; at least ten changes by each
//! writer), and `OTF_STRESS_KILLS` sets the number of kills (default 8).

mod common;
#[path = "../crates/otf-store/tests/common/candidate.rs"]
mod common_candidate;
#[path = "common/python.rs"]
mod common_python;

use common_candidate::{candidate, labels};
use common_python::script;
use lammps_otf::candidates::{Labels, Status, Store, StoreError, StoreOptions, StoredCandidate};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("candidates.db");
    (folder, path)
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// A small unpredictable number, so that each run tests something else.
fn random(below: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() % below
}

// ---- child processes ----

fn say(line: std::fmt::Arguments) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{line}").unwrap();
    out.flush().unwrap();
}

fn serial(store: &Store, id: i64) -> i64 {
    store.get(id).unwrap().candidate.keys.extra["serial"].as_i64().unwrap()
}

/// Adds this number of rows with its own serial numbers.
fn writer(path: &Path, index: i64, times: u64) {
    let mut store = Store::open(path).unwrap();
    let mut serial = index * 1_000_000;
    for _ in 0..times {
        let batch: Vec<_> = (0..1 + serial % 3)
            .map(|k| {
                let mut new = candidate(30, (serial + k) as u32);
                new.keys.extra.insert("serial".into(), (serial + k).into());
                new
            })
            .collect();
        let first = serial;
        serial += batch.len() as i64;
        for (k, id) in store.add(&batch).unwrap().into_iter().enumerate() {
            say(format_args!("ADDED {id} {}", first + k as i64));
        }
        // A run adds less often. The test is about many readers and workers at the same time.
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn label_of(serial: i64) -> Labels {
    Labels { energy: serial as f64, ..labels(30) }
}

/// Claims rows and labels them until there are none and the file `….done` exists.
fn claimer(path: &Path, index: i64) {
    let mut store = Store::open(path).unwrap();
    let worker = format!("rust-{index}-{}", std::process::id());
    loop {
        let done = path.with_extension("db.done").exists();
        let Some(claimed) = store.claim(&worker).unwrap() else {
            if done {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        say(format_args!("CLAIMED {}", claimed.id));
        let serial = claimed.candidate.keys.extra["serial"].as_i64().unwrap();
        // A label takes some time. Workers that claim without a pause would prevent ASE from getting its lock file,
        // which it tries after 0.2, 0.4, 0.8, ... seconds only.
        std::thread::sleep(Duration::from_millis(20 + random(40)));
        if serial % 10 == 9 {
            store.fail(claimed.id, &worker, "no luck").unwrap();
        } else {
            store.finish(claimed.id, &worker, &label_of(serial)).unwrap();
        }
        say(format_args!("LABELLED {} {serial}", claimed.id));
    }
}

/// Adds rows until the disk is full, then checks that all rows are present.
fn filler(path: &Path) {
    let mut store = Store::open(path).unwrap();
    let mut ids = Vec::new();
    let error = loop {
        match store.add(&[candidate(200, 1)]) {
            Ok(new) => ids.extend(new),
            Err(error) => break error,
        }
        assert!(ids.len() < 10_000, "the disk is never full");
    };
    say(format_args!("ERROR {error}"));
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(ids.len() > 3, "{ids:?}");
    assert_eq!(store.ids(None).unwrap(), ids);
    drop(store);
    let store = Store::open_read_only(path).unwrap();
    assert_eq!(store.ids(None).unwrap(), ids);
    store.check().unwrap();
    say(format_args!("OK {}", ids.len()));
}

/// The operations that are possible without write permission.
fn reader(path: &Path) {
    assert_eq!(Store::open_read_only(path).unwrap().ids(None).unwrap(), [1]);
    // An up-to-date store can also be opened for writing: the error is reported at the first write.
    let mut store = Store::open(path).unwrap();
    assert_eq!(store.ids(None).unwrap(), [1]);
    for error in [
        store.add(&[candidate(4, 2)]).unwrap_err(),
        store.claim("w").unwrap_err(),
        Store::open(&path.with_file_name("new.db")).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
        assert!(error.to_string().contains("read-only"), "{error}");
        say(format_args!("ERROR {error}"));
    }
    assert_eq!(store.ids(None).unwrap(), [1]);
    say(format_args!("OK"));
}

/// Not a test: the entry of the child processes.
#[test]
#[ignore = "a process of another test"]
fn child() {
    let what = std::env::var("OTF_CHILD").expect("set by the other test");
    let path = PathBuf::from(std::env::var_os("OTF_PATH").unwrap());
    let index = setting("OTF_INDEX", 0) as i64;
    match what.as_str() {
        "writer" => writer(&path, index, setting("OTF_TIMES", 0)),
        "claimer" => claimer(&path, index),
        "filler" => filler(&path),
        "reader" => reader(&path),
        other => panic!("{other}?"),
    }
}

fn child_command(wrapper: &[&str], what: &str, path: &Path, index: i64, times: u64) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(exe),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(exe);
            command
        }
    };
    command
        .args(["child", "--ignored", "--exact", "--nocapture", "--test-threads=1"])
        .env("OTF_CHILD", what)
        .env("OTF_PATH", path)
        .env("OTF_INDEX", index.to_string())
        .env("OTF_TIMES", times.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// The announcements in the output of a child, as words. The harness can write before the first on the same line.
fn announcements(output: impl std::io::Read) -> impl Iterator<Item = Vec<String>> {
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    let words = |line: String| Some(line.split_once('@')?.1.split(' ').map(str::to_owned).collect());
    // The last line of a killed process can be truncated, but a pipe transfers short lines as a whole.
    lines.filter_map(words)
}

fn collect(child: Child) -> std::thread::JoinHandle<(Vec<Vec<String>>, std::process::ExitStatus)> {
    let mut child = child;
    std::thread::spawn(move || {
        let lines = announcements(child.stdout.take().unwrap()).collect();
        (lines, child.wait().unwrap())
    })
}

fn number(word: &str) -> i64 {
    word.parse().unwrap()
}

// ---- tests ----

#[test]
fn concurrent_processes_lose_nothing_and_do_nothing_twice() {
    // In memory if possible, for many more collisions than with the `fsync` of a disk.
    let shm = Path::new("/dev/shm");
    let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
    let path = folder.path().join("candidates.db");
    let times = setting("OTF_STRESS_SECONDS", 4) * 10;
    let text = path.to_str().unwrap();
    Store::open(&path).unwrap();
    let mut running = Vec::new();
    for _ in 0..2 {
        // Plain ASE: the example from the documentation.
        let worker = include_str!("python/ase_worker.py");
        running.push(collect(script(worker, &[text]).stdout(Stdio::piped()).spawn().unwrap()));
    }
    let reader = r#"
import os, sys
from ase.db import connect
db = connect(sys.argv[1])
seen = reads = 0
while not os.path.exists(sys.argv[1] + ".done") or reads == 0:
    n = db.count()
    assert n >= seen, (n, seen)
    seen = n
    for row in db.select(limit=20, offset=max(0, n - 20)):
        assert len(row.data["force_mask"]) == 30 and row.status in ("PENDING_DFT", "RUNNING_DFT", "DONE", "FAILED")
        assert (row.status == "DONE") == (row.get("energy") is not None), (row.id, row.status)
        reads += 1
print("@READ", reads, flush=True)
"#;
    running.push(collect(script(reader, &[text]).stdout(Stdio::piped()).spawn().unwrap()));
    common::wait_for("the Python workers", || common::files_with(&path, ".ready-") == 2);
    let writer = |index| collect(child_command(&[], "writer", &path, index, times).spawn().unwrap());
    let writers: Vec<_> = (0..4).map(writer).collect();
    // Python starts more slowly than the other workers, which would label all rows before.
    let by_python = |row: &StoredCandidate| row.worker.as_ref().is_some_and(|worker| worker.starts_with("python"));
    let store = Store::open_read_only(&path).unwrap();
    common::wait_for("a Python worker", || store.iter(None).unwrap().any(|row| by_python(&row.unwrap())));
    drop(store);
    for index in 0..4 {
        running.push(collect(child_command(&[], "claimer", &path, index, 0).spawn().unwrap()));
    }
    let mut ended: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    std::fs::write(path.with_extension("db.done"), "").unwrap();
    let python = ended.len()..ended.len() + 2;
    ended.extend(running.into_iter().map(|process| process.join().unwrap()));

    let mut added = BTreeMap::new();
    let mut claimed = BTreeMap::<i64, usize>::new();
    let mut labelled = BTreeMap::new();
    let mut by_python = 0;
    for (index, (lines, status)) in ended.into_iter().enumerate() {
        assert!(status.success(), "process {index} failed: {status}");
        for line in lines {
            match line[0].as_str() {
                "ADDED" => assert_eq!(added.insert(number(&line[1]), number(&line[2])), None),
                "CLAIMED" => {
                    *claimed.entry(number(&line[1])).or_default() += 1;
                    by_python += usize::from(python.contains(&index));
                }
                "LABELLED" => assert_eq!(labelled.insert(number(&line[1]), number(&line[2])), None),
                "READ" => assert!(number(&line[1]) > 0),
                other => panic!("{other}"),
            }
        }
    }
    assert!(added.len() > 20, "only {} rows", added.len());
    assert!(by_python > 0, "the Python workers never got a row");
    assert_eq!(claimed.values().filter(|&&n| n != 1).count(), 0, "claimed twice: {claimed:?}");
    assert_eq!(added, labelled);
    let store = Store::open(&path).unwrap();
    store.check().unwrap();
    assert_eq!(store.ids(None).unwrap(), added.keys().copied().collect::<Vec<_>>());
    for row in store.iter(None).unwrap() {
        let row = row.unwrap();
        assert_eq!(row.candidate.keys.extra["serial"].as_i64(), Some(added[&row.id]));
        match row.status {
            Some(Status::Done) => assert_eq!(row.candidate.labels.unwrap().energy, added[&row.id] as f64),
            Some(Status::Failed) => assert_eq!(added[&row.id] % 10, 9),
            other => panic!("row {} is {other:?}", row.id),
        }
    }
    println!("{} rows, {by_python} of them labelled by Python", added.len());
}

#[test]
fn concurrent_creation_gives_one_store() {
    let shm = Path::new("/dev/shm");
    for _ in 0..setting("OTF_STRESS_CREATIONS", 60) {
        let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
        let path = folder.path().join("candidates.db");
        let threads: Vec<_> = (0..6)
            .map(|seed| {
                let path = path.clone();
                std::thread::spawn(move || Store::open(&path)?.add(&[candidate(4, seed)]))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        let store = Store::open(&path).unwrap();
        store.check().unwrap();
        assert_eq!(store.ids(None).unwrap().len(), 6);
    }
}

#[test]
fn killed_process_loses_no_committed_rows() {
    let (_folder, path) = fresh();
    let mut added = BTreeMap::new();
    let mut labelled = BTreeMap::new();
    let kills = setting("OTF_STRESS_KILLS", 8);
    for round in 0..kills as i64 {
        let mut children = Vec::new();
        for index in 0..2 {
            children.push(child_command(&[], "writer", &path, 2 * round + index, u64::MAX).spawn().unwrap());
            children.push(child_command(&[], "claimer", &path, 2 * round + index, 0).spawn().unwrap());
        }
        // The announcements so far, as words.
        let said = Arc::new(Mutex::new(Vec::new()));
        let listen = |child: &mut Child| {
            let (said, output) = (Arc::clone(&said), child.stdout.take().unwrap());
            std::thread::spawn(move || announcements(output).for_each(|line| said.lock().unwrap().push(line)))
        };
        let listening: Vec<_> = children.iter_mut().map(listen).collect();
        let (adds, labels) = (2 + random(6) as usize, random(3) as usize + usize::from(round == 0));
        common::wait_for("announcements", || {
            let said = said.lock().unwrap();
            let count = |what: &str| said.iter().filter(|line: &&Vec<String>| line[0] == what).count();
            count("ADDED") >= adds && count("LABELLED") >= labels
        });
        for child in &mut children {
            std::thread::sleep(Duration::from_millis(random(20)));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        listening.into_iter().for_each(|thread| thread.join().unwrap());
        for line in said.lock().unwrap().iter() {
            match line[0].as_str() {
                "ADDED" => drop(added.insert(number(&line[1]), number(&line[2]))),
                "LABELLED" => drop(labelled.insert(number(&line[1]), number(&line[2]))),
                _ => {}
            }
        }
        // Announced rows are present, and the next process continues without intervention: a lock of a process that
        // no longer exists is removed at any age.
        let options = StoreOptions { stale_lock_after: Duration::from_secs(1_000_000), ..StoreOptions::default() };
        let mut store = Store::open_with(&path, options).unwrap();
        store.check().unwrap();
        let ids: BTreeSet<i64> = store.ids(None).unwrap().into_iter().collect();
        for (&id, &expected) in &added {
            assert!(ids.contains(&id), "row {id} was announced and is lost");
            assert_eq!(serial(&store, id), expected);
        }
        for (&id, &serial) in &labelled {
            let row = store.get(id).unwrap();
            match row.status {
                Some(Status::Done) => assert_eq!(row.candidate.labels.unwrap().energy, serial as f64),
                other => assert_eq!((other, serial % 10), (Some(Status::Failed), 9)),
            }
        }
        store.release_stale(Duration::ZERO).unwrap();
        assert_eq!(store.ids(Some(Status::RunningDft)).unwrap(), [0; 0]);
    }
    assert!(added.len() > 10 && !labelled.is_empty(), "{} added, {} labelled", added.len(), labelled.len());
    println!("{} rows added and {} labelled over {kills} kills of 4 processes", added.len(), labelled.len());
}

/// Whether this process is root, without the C library.
fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim() == "0"
}

/// A command that runs `shell` with private mounts and then the following command; `$1` is the folder.
fn with_mounts<'a>(shell: &'a str, folder: &'a str) -> Vec<&'a str> {
    let unshare: &[&str] = if is_root() { &["unshare", "-m"] } else { &["unshare", "-r", "-m"] };
    [unshare, &["sh", "-c", shell, "sh", folder]].concat()
}

fn expect_ok(mut command: Command) -> Vec<Vec<String>> {
    let output = command.output().unwrap();
    let lines: Vec<_> = announcements(&output.stdout[..]).collect();
    assert!(
        output.status.success() && lines.last().is_some_and(|line| line[0] == "OK"),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    lines
}

#[test]
fn file_size_limit_loses_nothing() {
    let (_folder, path) = fresh();
    // Blocks of 512 bytes in a POSIX shell.
    let wrapper = ["sh", "-c", "trap '' XFSZ; ulimit -f 600; exec \"$@\"", "sh"];
    let lines = expect_ok(child_command(&wrapper, "filler", &path, 0, 0));
    // Without the limit, the work continues.
    let mut store = Store::open(&path).unwrap();
    let before = store.ids(None).unwrap().len();
    assert_eq!(before.to_string(), lines.last().unwrap()[1]);
    store.add(&[candidate(200, 2)]).unwrap();
    assert_eq!(store.ids(None).unwrap().len(), before + 1);
}

#[test]
fn full_disk_loses_nothing() {
    let (folder, path) = fresh();
    let mount = "mount -t tmpfs -o size=512k tmpfs \"$1\" && shift && exec \"$@\"";
    let namespaces =
        || Command::new("unshare").args(["-r", "-m", "true"]).status().is_ok_and(|status| status.success());
    let wrapper = if is_root() || namespaces() {
        with_mounts(mount, folder.path().to_str().unwrap())
    } else {
        // Without user namespaces nothing can be mounted. A limit of the file size gives SQLite another error of the system.
        ["sh", "-c", "trap '' XFSZ; ulimit -f 300; exec \"$@\"", "sh"].to_vec()
    };
    expect_ok(child_command(&wrapper, "filler", &path, 0, 0));
}

#[test]
fn read_only_folder_is_readable_and_reported() {
    let (folder, path) = fresh();
    Store::open(&path).unwrap().add(&[candidate(4, 1)]).unwrap();
    let text = folder.path().to_str().unwrap();
    let mount = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"";
    // Permissions do not apply to root; a read-only mount does.
    let wrapper = if is_root() {
        with_mounts(mount, text)
    } else {
        ["sh", "-c", "chmod a-w \"$1\" \"$1\"/*; shift; exec \"$@\"", "sh", text].to_vec()
    };
    expect_ok(child_command(&wrapper, "reader", &path, 0, 0));
    if !is_root() {
        Command::new("chmod").args(["-R", "u+w", text]).status().unwrap();
    }
}
