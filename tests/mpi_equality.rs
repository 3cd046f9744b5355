// SPDX-License-Identifier: GPL-2.0-or-later
//! The event, the cut-out and the rows are the same on any number of ranks, for any location of the event and any
//! decomposition of the box.

mod common;

use std::path::Path;

use common::{eam_file, json, lmp, mpiexec, python, script, succeed, text, write};
use serde_json::Value;

/// A set-up of a run.
struct Case {
    name: &'static str,
    /// LAMMPS commands that make the atoms.
    create: &'static str,
    /// The decomposition of the box and other settings.
    setup: &'static str,
    /// The source of γ, and the command that defines it.
    watched: [&'static str; 2],
    /// Id of the atom that is pushed until its kinetic energy exceeds the threshold, if known in advance.
    pushed: i64,
    ranks: &'static [usize],
}

const KINETIC: [&str; 2] = ["compute = \"u\"", "compute u all ke/atom"];

const BULK: &str = "lattice fcc 4.045|region box block 0 6 0 6 0 6|create_box 1 box|create_atoms 1 box|mass 1 26.982";
/// A drop of some 10 Å in a box of 73 Å: with four ranks in a row, the outer ones have no atoms.
const DROP: &str = "lattice fcc 4.045|region box block 0 18 0 6 0 6|create_box 1 box|region drop sphere 6.5 3 3 2.4|\
                    create_atoms 1 region drop|mass 1 26.982";
/// Half of the box is empty, and atoms move to other ranks during the run.
const SLAB: &str = "lattice fcc 4.045|region box block 0 12 0 5 0 5|create_box 1 box|region slab block 0 4.9 INF INF INF INF|\
                    create_atoms 1 region slab|mass 1 26.982";
const TILTED: &str = "box tilt large|lattice fcc 4.045|region box prism 0 6 0 6 0 6 2 1 1|create_box 1 box|create_atoms 1 box|\
                      mass 1 26.982";

const CASES: [Case; 6] = [
    // Atom 1 is in the corner of the box, at 0 0 0, and leaves it through three faces.
    Case {
        name: "periodic corner",
        create: BULK,
        setup: "set atom 1 x 0.01 y 0.01 z 0.01",
        watched: KINETIC,
        pushed: 1,
        ranks: &[1, 2, 3, 4],
    },
    // 12.135 Å is half of the edge: on the boundary of 2 and of 4 ranks, in any direction.
    Case { name: "rank boundary", create: BULK, setup: "", watched: KINETIC, pushed: 475, ranks: &[1, 2, 3, 4] },
    Case { name: "ranks without atoms", create: DROP, setup: "", watched: KINETIC, pushed: 30, ranks: &[1, 2, 3, 4] },
    Case {
        name: "balanced",
        create: SLAB,
        setup: "fix deal all balance 3 1.05 shift xyz 10 1.02",
        watched: KINETIC,
        pushed: 200,
        ranks: &[1, 2, 3, 4],
    },
    Case { name: "tilted", create: TILTED, setup: "", watched: KINETIC, pushed: 40, ranks: &[1, 2, 4] },
    // Nearly all atoms have the largest value, some on every rank.
    Case {
        name: "several worst",
        create: BULK,
        setup: "",
        watched: ["variable = \"u\"", "variable u atom 3.0*(id>=40)*(step>=100)"],
        pushed: 40,
        ranks: &[1, 2, 3, 4],
    },
];

fn config(folder: &Path, case: &Case, processors: &str) {
    let quoted = |lines: &str| lines.split('|').map(|l| format!("{l:?}")).collect::<Vec<_>>().join(", ");
    // Created once on one rank, because the ids assigned by `create_atoms` depend on the decomposition.
    let data = folder.join("made.data");
    if !data.exists() {
        let commands = case.create.replace('|', "\n");
        let commands = format!("units metal\natom_style atomic\n{commands}\nwrite_data {}\n", data.display());
        succeed(lmp().arg("-in").arg(write(folder, "make.in", &commands)).args(["-log", "none"]));
    }
    let before = if processors.is_empty() { String::new() } else { format!("\"processors {processors}\", ") };
    let setup = if case.setup.is_empty() { String::new() } else { format!("{}, ", quoted(case.setup)) };
    let [source, define] = case.watched;
    // Pushed by a force along (-1, -1, -1): through faces, edges and corners.
    let text = format!(
        "create = [{before}\"box tilt large\", \"read_data {}\"]\nelements = [\"Al\"]\ntemperature = 300\nsteps = 300\nsampling_interval = 5\nseed = 8\n\
         ensemble = \"nve\"\nuncertainty = {{ {source} }}\nuncertainty_threshold = 2.0\nuncertainty_low = 2.0\n\
         regions_per_event = 2\n\
         setup = [{setup}\"{define}\", \"group one id {}\", \"fix push one addforce -3 -3 -3\"]\n\
         [potential]\npair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]\ncutoff = 6.5\n\
         [embedding]\nradius = 4.0\nbuffer = 6.5\nmax_atoms = 1000\n",
        data.display(),
        case.pushed,
        eam_file().display()
    );
    write(folder, "run.toml", &text);
}

fn run(folder: &Path, ranks: usize, out: &str) -> Value {
    let output = mpiexec(ranks)
        .arg(env!("CARGO_BIN_EXE_lammps-otf"))
        .args(["run", "run.toml", "-q", "-o", out])
        .current_dir(folder)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{ranks} ranks: {}", text(&output));
    let result = json(&folder.join(out).join("result.json"));
    assert_eq!(result["ranks"], ranks);
    result
}

/// The number of ranks along each direction reported by LAMMPS.
fn grid(folder: &Path, out: &str) -> String {
    let log = std::fs::read_to_string(folder.join(out).join("log.lammps")).unwrap();
    let line = log.lines().find(|l| l.contains("MPI processor grid")).expect("LAMMPS says its grid");
    line.trim().split(" MPI").next().unwrap().to_owned()
}

fn assert_same_event(case: &Case, grids: &[(usize, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut first: Option<Value> = None;
    for (at, (ranks, processors)) in grids.iter().enumerate() {
        config(folder, case, processors);
        let out = format!("out-{at}");
        let seen = run(folder, *ranks, &out);
        println!(
            "{}: {ranks} ranks, grid {}, step {}, atom {}",
            case.name,
            grid(folder, &out),
            seen["trigger_step"],
            seen["atom_id"]
        );
        if !processors.is_empty() {
            assert_eq!(grid(folder, &out), processors.replace(' ', " by "));
        }
        let one = first.get_or_insert_with(|| seen.clone());
        assert!(one["trigger_step"].as_i64().unwrap() > 0, "not at the start: {one}");
        assert_eq!(one["atom_id"].as_i64(), Some(case.pushed), "the pushed atom is the worst");
        for key in ["trigger_step", "atom_id", "candidates", "known"] {
            assert_eq!(one[key], seen[key], "{}: {key} on {ranks} ranks", case.name);
        }
        if at > 0 {
            succeed(python().arg(script("same_candidate.py")).arg(folder.join("out-0")).arg(folder.join(&out)));
        }
    }
}

#[test]
fn event_is_the_same_on_any_rank() {
    for case in &CASES {
        let grids: Vec<(usize, &str)> = case.ranks.iter().map(|ranks| (*ranks, "")).collect();
        assert_same_event(case, &grids);
    }
}

#[test]
fn event_is_the_same_on_non_cubic_processor_grids() {
    let grids = [(1, ""), (2, "1 2 1"), (3, "1 1 3"), (4, "4 1 1"), (4, "1 4 1"), (4, "1 1 4"), (4, "2 1 2")];
    assert_same_event(&CASES[0], &grids);
    // The drop in the middle leaves the outer ranks of a row without atoms.
    assert_same_event(&CASES[2], &[(1, ""), (4, "4 1 1")]);
}

#[test]
fn event_is_the_same_when_balancing_moves_atoms() {
    // Without it, the test of a balanced run would not test the balancing.
    let folder = tempfile::tempdir().unwrap();
    let case = CASES.iter().find(|case| case.name == "balanced").unwrap();
    config(folder.path(), case, "4 1 1");
    let path = folder.path().join("run.toml");
    let with_output = std::fs::read_to_string(&path).unwrap().replace(
        "\"compute u all ke/atom\"",
        "\"compute u all ke/atom\", \"variable b equal f_deal[3]\", \"fix tell all print 5 'imbalance ${b}'\"",
    );
    std::fs::write(&path, with_output).unwrap();
    run(folder.path(), 4, "out");
    let log = std::fs::read_to_string(folder.path().join("out/log.lammps")).unwrap();
    let said: Vec<f64> = log.lines().filter_map(|l| l.strip_prefix("imbalance ")?.parse().ok()).collect();
    assert!(said.iter().any(|before| *before > 1.5), "it was needed: {said:?}");
    let last = log.lines().rev().find(|l| l.starts_with("imbalance")).unwrap();
    println!("{last}");
}
