// SPDX-License-Identifier: GPL-2.0-or-later
//! A run with many polls: the memory is constant and the size of files is limited.
//!
//! `OTF_POLLS=1000000` and `--ignored` make it long (`ci/stress`). Then the memory of the whole process is measured,
//! and whether polls are as fast at the end as at the beginning.

mod common;
#[path = "common/counting.rs"]
mod counting;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{eam_config, json, lammps_otf};
use counting::held;
use lammps_otf::candidates::Store;
use lammps_otf::comm::Comm;
use lammps_otf::config::InferenceConfig;
use lammps_otf::runner::{LammpsRunner, poll_files};

fn configure(folder: &Path, polls: i64) -> std::path::PathBuf {
    let config = format!(
        "temperature = 300\nsteps = {polls}\nsampling_interval = 1\nseed = 5\nsetup = [\"compute u all ke/atom\"]\n\
         uncertainty = {{ compute = \"u\" }}\nuncertainty_low = 0.1\nuncertainty_threshold = 0.2\nmode = \"flag\"\n\
         flag_interval = 10\nmax_candidates = 20\npolls_file_size = 1\npolls_files = 4\ncheckpoint_interval = 1000\n"
    );
    eam_config(folder, 1, &config)
}

/// The step of the last complete line.
fn step(folder: &Path) -> i64 {
    let last = |file: &Path| {
        let text = std::fs::read_to_string(file).ok()?;
        let line = text[..text.rfind('\n')?].lines().last()?.to_owned();
        serde_json::from_str::<serde_json::Value>(&line).ok()?["step"].as_i64()
    };
    poll_files(folder).unwrap_or_default().iter().rev().find_map(|file| last(file)).unwrap_or(0)
}

/// Total size of the files of polls in bytes.
fn bytes_of_polls(out: &Path) -> u64 {
    poll_files(out).unwrap_or_default().iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum()
}

/// Checks the files of a run with this number of polls and returns a summary.
fn check_output(out: &Path, polls: i64) -> String {
    assert_eq!(step(out), polls);
    let result = json(&out.join("result.json"));
    let flagged = result["flagged"].as_u64().unwrap();
    let store = Store::open_existing(&out.join("candidates.db")).unwrap();
    store.check().unwrap();
    let stored = store.ids(None).unwrap().len();
    assert!(flagged > 0 && stored > 0 && stored <= 20, "{flagged} flagged, {stored} stored");
    // Including LAMMPS's log, which is closed after 100,000 chunks.
    let logged = out.join("log.lammps").metadata().unwrap().len();
    assert!(logged < 60_000_000, "the log has {logged} bytes");
    assert!(result["warnings"].as_array().unwrap().len() <= 100);
    let files = poll_files(out).unwrap().len();
    assert_eq!(files, if polls > 10_000 { 4 } else { files });
    format!("{flagged} flagged, {stored} candidates; {files} files of polls")
}

#[test]
fn memory_and_files_do_not_grow() {
    const POLLS: i64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let config = InferenceConfig::read(configure(folder.path(), POLLS)).unwrap();
    let out = folder.path().join("out");
    let mut seen: Vec<(i64, i64)> = Vec::with_capacity(POLLS as usize + 1);
    let (mut at, mut most) = (0, 0);
    LammpsRunner::new(&Comm::single(), &out)
        .observe(|poll| {
            seen.push((poll.step, held()));
            at += 1;
            if at % 100 == 0 {
                most = most.max(bytes_of_polls(&out));
            }
        })
        .run(&config)
        .unwrap();
    let left = check_output(&out, POLLS);
    assert!(most <= 4_000_000, "{most} bytes of polls");
    // After the first tenth, everything that is allocated once has been allocated.
    let steady: Vec<i64> = seen.iter().filter(|(at, _)| *at > POLLS / 10).map(|(_, held)| *held).collect();
    let (first, last) = steady.split_at(steady.len() / 2);
    let [first, last] = [first, last].map(|part| *part.iter().max().unwrap());
    println!("{POLLS} polls, {left}: at most {first} bytes in the first half, {last} in the second");
    // Longer numbers and another candidate, but no allocation for each of 9,000 polls.
    assert!(last <= first + 4096, "Rust holds {first} bytes in the first half of the polls and {last} in the second");
}

/// Resident memory of a running process in kB.
fn resident_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}

#[test]
#[ignore = "measures memory and time of a long run: ci/stress long"]
fn long_run_needs_no_more_memory_and_time_at_its_end() {
    let polls: i64 = std::env::var("OTF_POLLS").map_or(200_000, |n| n.parse().expect("a number"));
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), polls);
    let out = folder.path().join("out");
    let mut child = lammps_otf()
        .current_dir(folder.path())
        .args(["run", "run.toml", "-q", "-o", "out"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    // (seconds, step, kB)
    let mut seen: Vec<(f64, f64, f64)> = Vec::new();
    while child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(200));
        if let (Some(kb), at @ 1..) = (resident_memory(child.id()), step(&out)) {
            seen.push((started.elapsed().as_secs_f64(), at as f64, kb as f64));
        }
        assert!(bytes_of_polls(&out) <= 4_000_000);
    }
    let output = child.wait_with_output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", common::text(&output));
    let left = check_output(&out, polls);
    // After the first tenth, everything that is allocated once has been allocated.
    let steady: Vec<_> = seen.into_iter().filter(|(_, at, _)| *at > polls as f64 / 10.0).collect();
    assert!(steady.len() > 20, "{steady:?}");
    // Deviations from a straight line through all values, since single pages are allocated and freed.
    let slope = |y: fn(&(f64, f64, f64)) -> f64, part: &[(f64, f64, f64)]| {
        let n = part.len() as f64;
        let mean = |f: &dyn Fn(&(f64, f64, f64)) -> f64| part.iter().map(f).sum::<f64>() / n;
        let (x0, y0) = (mean(&|s| s.1), mean(&y));
        mean(&|s| (s.1 - x0) * (y(s) - y0)) / mean(&|s| (s.1 - x0).powi(2))
    };
    let growth = slope(|s| s.2, &steady) * 1024.0;
    let third = steady.len() / 3;
    let [early, late] = [&steady[..third], &steady[steady.len() - third..]].map(|part| slope(|s| s.0, part) * 1e6);
    println!(
        "{polls} polls, {left}; {growth:.3} bytes more for each poll, {early:.0} µs for each in the first third, \
         {late:.0} µs in the last"
    );
    assert!(growth < 2.0, "memory grows by {growth} bytes with each poll");
    assert!(late < 2.0 * early, "polls take {early} µs in the first third and {late} µs in the last");
}
