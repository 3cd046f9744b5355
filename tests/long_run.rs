// SPDX-License-Identifier: GPL-2.0-or-later
//! A run of many polls: memory stays flat, files bounded, polls as quick at the end as at the beginning.
//!
//! `OTF_POLLS=1000000` makes it long (`ci/stress`).

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{eam_config, json, lammps_otf};
use lammps_otf::candidates::Store;
use lammps_otf::runner::poll_files;

/// Resident memory of a process in kB, while it lives.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}

/// The step of the last whole line.
fn step(folder: &Path) -> i64 {
    let last = |file: &Path| {
        let text = std::fs::read_to_string(file).ok()?;
        let line = text[..text.rfind('\n')?].lines().last()?.to_owned();
        serde_json::from_str::<serde_json::Value>(&line).ok()?["step"].as_i64()
    };
    poll_files(folder).unwrap_or_default().iter().rev().find_map(|file| last(file)).unwrap_or(0)
}

#[test]
fn memory_files_and_times_stay_as_they_are() {
    let polls: i64 = std::env::var("OTF_POLLS").map_or(20_000, |n| n.parse().expect("a number"));
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "temperature = 300\nsteps = {polls}\nsampling_interval = 1\nseed = 5\nsetup = [\"compute u all ke/atom\"]\n\
         uncertainty = {{ compute = \"u\" }}\nuncertainty_low = 0.1\nuncertainty_threshold = 0.2\nmode = \"flag\"\n\
         flag_interval = 10\nmax_candidates = 20\npolls_file_size = 1\npolls_files = 4\ncheckpoint_interval = 1000\n"
    );
    eam_config(folder.path(), 1, &config);
    let out = folder.path().join("out");
    let mut child = lammps_otf()
        .current_dir(&folder)
        .args(["run", "run.toml", "-q", "-o", "out"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    // (seconds, step, kB)
    let mut seen: Vec<(f64, i64, u64)> = Vec::new();
    while child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(if polls > 100_000 { 500 } else { 20 }));
        if let (Some(kb), at @ 1..) = (resident(child.id()), step(&out)) {
            seen.push((started.elapsed().as_secs_f64(), at, kb));
        }
        let bytes: u64 =
            poll_files(&out).unwrap_or_default().iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
        assert!(bytes <= 4_000_000, "{bytes} bytes of polls");
    }
    let output = child.wait_with_output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", common::text(&output));
    assert_eq!(step(&out), polls);
    let result = json(&out.join("result.json"));
    let flagged = result["flagged"].as_u64().unwrap();
    let store = Store::open_existing(&out.join("candidates.db")).unwrap();
    store.check().unwrap();
    let stored = store.ids(None).unwrap().len();
    assert!(flagged > 0 && stored > 0 && stored <= 20, "{flagged} flagged, {stored} stored");

    // Behind the first tenth everything that is allocated once has been.
    let steady: Vec<_> = seen.iter().filter(|(_, at, _)| *at > polls / 10).collect();
    assert!(steady.len() > 5, "{seen:?}");
    let most = |part: &[&(f64, i64, u64)]| part.iter().map(|s| s.2).max().unwrap();
    let (half, all) = (most(&steady[..steady.len() / 2]), most(&steady));
    let rate = |part: &[&(f64, i64, u64)]| {
        let (a, b) = (part[0], part[part.len() - 1]);
        (b.0 - a.0) / (b.1 - a.1) as f64 * 1e6
    };
    let third = (steady.len() / 3).max(2);
    let (early, late) = (rate(&steady[..third]), rate(&steady[steady.len() - third..]));
    let files = poll_files(&out).unwrap().len();
    println!(
        "{polls} polls, {flagged} flagged, {stored} candidates: memory at most {half} kB in the first half, {all} kB in all; \
         {early:.0} µs for each in the first third, {late:.0} µs in the last; {files} files of polls"
    );
    // LAMMPS's log too, which is closed after 100,000 chunks.
    let logged = out.join("log.lammps").metadata().unwrap().len();
    assert!(logged < 60_000_000, "the log has {logged} bytes");
    assert!(result["warnings"].as_array().unwrap().len() <= 100);
    // A byte for each of a million polls would be seen.
    assert!(all <= half + 1024, "memory grows from {half} kB to {all} kB");
    assert_eq!(files, if polls > 10_000 { 4 } else { files });
}
