// SPDX-License-Identifier: GPL-2.0-or-later
//! What γ does not show: two atoms within the core repulsion, and an atom without neighbours, with both evaluators and on several
//! ranks.

mod common;

use std::path::{Path, PathBuf};

use common::{
    al_config, aluminium, dependency, eam_config, eam_file, json, lammps_otf, lines, mpiexec, python, root, succeed,
    text, write,
};
use lammps_otf::candidates::{RoundOutcome, Store, Trigger};
use serde_json::Value;

/// 500 atoms of Al, the second of which (of the line, from 1) is moved towards the first, to this distance in Å.
fn with_close_pair(distance: f64) -> String {
    let along = distance / 2.0_f64.sqrt();
    let crystal = aluminium(5);
    let mut atoms: Vec<String> = crystal.lines().map(str::to_owned).collect();
    // The comment comes first, and the second atom is at (0, a/2, a/2).
    atoms[3] = format!("Al 0 {along} {along}");
    atoms.join("\n") + "\n"
}

/// 500 atoms of Al under a vacuum, and one more atom in it.
fn with_evaporated_atom() -> String {
    let (crystal, edge) = (aluminium(5), 4.045 * 5.0);
    let old = format!("Lattice=\"{edge} 0 0 0 {edge} 0 0 0 {edge}\"");
    let text =
        crystal.replacen("500\n", "501\n", 1).replacen(&old, &format!("Lattice=\"{edge} 0 0 0 {edge} 0 0 0 60\""), 1);
    assert!(text.contains(" 60\""), "the cell was replaced");
    // 6.8 Å above the last layer, beyond the cutoff of 5.5 Å.
    text + "Al 10 10 25\n"
}

/// A configuration with this structure and settings before its tables.
fn config(folder: &Path, structure: &str, more: &str) -> PathBuf {
    let path = al_config(folder, more);
    write(folder, "al.extxyz", structure);
    path
}

fn with_engine(config: &Path, engine: &str) {
    let toml = std::fs::read_to_string(config).unwrap();
    std::fs::write(config, toml.replace("[potential]", &format!("[potential]\nengine = \"{engine}\""))).unwrap();
}

/// Runs `run.toml` and returns the exit code, the result and the polls.
fn run(folder: &Path, ranks: usize, out: &str) -> (Option<i32>, Value, Vec<Value>) {
    let mut command = if ranks == 1 { lammps_otf() } else { mpiexec(ranks) };
    if ranks > 1 {
        command.arg(env!("CARGO_BIN_EXE_lammps-otf"));
    }
    let output = command.current_dir(folder).args(["run", "run.toml", "-q", "-o", out]).output().unwrap();
    let folder = folder.join(out);
    assert!(folder.join("result.json").is_file(), "{}", text(&output));
    (output.status.code(), json(&folder.join("result.json")), lines(&folder.join("polls.jsonl")))
}

const STILL: &str = "temperature = 0\nensemble = \"nve\"\nsteps = 10\nsampling_interval = 10\n";

#[test]
fn core_repulsion_is_an_event_below_the_threshold_of_gamma() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut polls = Vec::new();
    for engine in ["opt", "ml-pace"] {
        for ranks in [1, 2] {
            let out = format!("{engine}-{ranks}");
            let path = config(folder, &with_close_pair(2.1), &format!("{STILL}uncertainty_threshold = 20\n"));
            with_engine(&path, engine);
            let (code, result, lines) = run(folder, ranks, &out);
            assert_eq!((code, &result["status"], lines.len()), (Some(4), &"UNCERTAIN".into(), 1), "{result}");
            let poll = &lines[0];
            assert_eq!((&poll["verdict"], &poll["trigger"]), (&"extrapolating".into(), &"core".into()));
            assert!(poll["gamma"]["max"].as_f64().unwrap() < 20.0, "{poll}");
            assert_eq!(poll["core"]["above"], 2);
            // Both atoms of the pair have the same share.
            assert_eq!((&poll["core"]["worst_id"], &result["atom_id"]), (&1.into(), &1.into()), "{poll}");
            polls.push(poll.clone());

            let store = Store::open_existing(&folder.join(&out).join("candidates.db")).unwrap();
            let row = store.get(1).unwrap();
            let (keys, share) = (row.keys(), poll["core"]["max"].as_f64().unwrap());
            assert_eq!((&keys.trigger, keys.center_id, keys.core_share), (&Some(Trigger::Core), Some(1), Some(share)));
            assert!(keys.gamma.is_some_and(|gamma| gamma < 20.0), "{keys:?}");
            let shares = row.candidate.atom_core_share.as_ref().unwrap();
            assert_eq!(shares.iter().filter(|share| **share > 0.0).count(), 2);
        }
    }
    // The share at 2.1 Å of an inner cutoff from 2.0 to 2.3 Å, as the potential's file states it.
    let x = 1.0 - 2.0 * (2.1 - 2.0) / 0.3_f64;
    let expected = 0.5 + 3.75 * (x / 4.0 - x.powi(3) / 6.0 + x.powi(5) / 20.0);
    for poll in &polls {
        let share = poll["core"]["max"].as_f64().unwrap();
        assert!((share - expected).abs() < 1e-12, "{share} instead of {expected}");
    }
    // On two ranks the atoms are in another order.
    for pair in polls.chunks(2) {
        assert_eq!(pair[0]["core"]["worst_id"], pair[1]["core"]["worst_id"]);
        assert_eq!(pair[0]["sparse"], pair[1]["sparse"]);
    }
}

#[test]
fn both_evaluators_have_the_same_core_shares_for_every_kind_of_inner_cutoff() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let original = std::fs::read_to_string(root().join("potentials/al/Al.yaml")).unwrap();
    std::fs::copy(root().join("potentials/al/Al.asi"), folder.join("Al.asi")).unwrap();
    // By the repulsion of all neighbours in eV, and by the distance of the nearest neighbour.
    let by_energy =
        original.replace("rho_core_cut: 100000", "rho_core_cut: 2").replace("drho_core_cut: 250", "drho_core_cut: 1.9");
    for (kind, text) in [
        ("distance", original.clone()),
        ("distance and energy", by_energy.clone()),
        ("density", by_energy.replace("inner_cutoff_type: distance", "inner_cutoff_type: density")),
        ("zbl", original.replace("inner_cutoff_type: distance", "inner_cutoff_type: zbl")),
    ] {
        write(folder, "Al.yaml", &text);
        let shares = ["opt", "ml-pace"].map(|engine| {
            let path = config(
                folder,
                &with_close_pair(2.13),
                &format!("{STILL}uncertainty_threshold = 1e6\nmode = \"flag\"\n"),
            );
            let toml = std::fs::read_to_string(&path).unwrap();
            let file = toml.lines().find(|line| line.starts_with("file")).unwrap().to_owned();
            std::fs::write(&path, toml.replace(&file, "file = \"Al.yaml\"")).unwrap();
            with_engine(&path, engine);
            let (_, _, polls) = run(folder, 1, &format!("{kind}-{engine}"));
            assert_eq!(polls[0]["core"]["above"], 2, "{kind}, {engine}: {}", polls[0]);
            polls[0]["core"]["max"].as_f64().unwrap()
        });
        assert!((shares[0] - shares[1]).abs() < 1e-9 && shares[0] > 0.01 && shares[0] < 1.0, "{kind}: {shares:?}");
    }
}

#[test]
fn a_share_at_the_limit_or_a_limit_of_one_is_no_event() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    config(
        folder,
        &with_close_pair(2.1),
        &format!("{STILL}uncertainty_threshold = 20\ncore_share = 0.9\nmode = \"flag\"\n"),
    );
    let (code, _, polls) = run(folder, 1, "below");
    assert_eq!((code, &polls[0]["trigger"], &polls[0]["core"]["above"]), (Some(0), &Value::Null, &0.into()));
    config(folder, &with_close_pair(1.4), &format!("{STILL}uncertainty_threshold = 20\ncore_share = 1\n"));
    let (_, _, polls) = run(folder, 1, "off");
    assert!(polls[0]["core"].is_null() && polls[0]["trigger"].is_null(), "{}", polls[0]);
}

#[test]
fn gamma_and_core_together_give_several_regions() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // The pair is the only atom with a core share, and a variable is γ of another atom.
    config(
        folder,
        &with_close_pair(2.1),
        &format!(
            "{STILL}regions_per_event = 3\nnovelty = 0.0\nuncertainty = {{ variable = \"u\" }}\nsetup = [\"variable u atom 9*(id==260)\"]\n"
        ),
    );
    let (code, result, polls) = run(folder, 2, "out");
    assert_eq!((code, &polls[0]["trigger"], &result["atom_id"]), (Some(4), &"gamma".into(), &260.into()));
    let store = Store::open_existing(&folder.join("out/candidates.db")).unwrap();
    let rows: Vec<_> = store.iter(None).unwrap().map(Result::unwrap).collect();
    let of = |row: &lammps_otf::candidates::StoredCandidate| {
        let keys = row.keys();
        (keys.center_id.unwrap(), keys.trigger.clone().unwrap(), keys.gamma.unwrap())
    };
    let stored: Vec<_> = rows.iter().map(of).collect();
    // The other atom of the pair is within the radius of the first.
    assert_eq!(stored, [(260, Trigger::Gamma, 9.0), (1, Trigger::Core, 0.0)]);
}

#[test]
fn an_evaporated_atom_is_counted_and_can_be_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for ranks in [1, 2] {
        config(folder, &with_evaporated_atom(), &format!("{STILL}uncertainty_threshold = 1e6\n"));
        let (code, _, polls) = run(folder, ranks, &format!("counted-{ranks}"));
        assert_eq!(code, Some(0));
        for poll in &polls {
            assert_eq!(poll["sparse"], serde_json::json!({ "atoms": 1, "fewest": 0, "fewest_id": 501 }));
            assert!(poll["trigger"].is_null());
        }
        config(
            folder,
            &with_evaporated_atom(),
            &format!("{STILL}uncertainty_threshold = 1e6\nsparse_trigger = true\n"),
        );
        let (code, result, polls) = run(folder, ranks, &format!("event-{ranks}"));
        assert_eq!(
            (code, &result["atom_id"], &polls[0]["trigger"]),
            (Some(4), &501.into(), &"sparse".into()),
            "{result}"
        );
        let store = Store::open_existing(&folder.join(format!("event-{ranks}/candidates.db"))).unwrap();
        assert_eq!(store.get(1).unwrap().keys().trigger, Some(Trigger::Sparse), "{result}");
    }
}

#[test]
fn potentials_without_core_repulsion_work() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = config(folder, &with_close_pair(2.4), &format!("{STILL}uncertainty_threshold = 1e6\n"));
    let soft = std::fs::read_to_string(&path).unwrap().replace("potentials/al/", "potentials/al-soft/");
    std::fs::write(&path, soft).unwrap();
    let (code, _, polls) = run(folder, 1, "soft");
    assert_eq!((code, &polls[0]["core"]), (Some(0), &serde_json::json!({ "max": 0.0, "worst_id": null, "above": 0 })));

    // A pair style that knows no core share; neighbours are counted if the user asks for it.
    let watched =
        "uncertainty = { compute = \"u\" }\nsetup = [\"compute u all ke/atom\"]\nuncertainty_threshold = 1e6\n";
    eam_config(folder, 4, &format!("{STILL}{watched}"));
    let (code, _, polls) = run(folder, 2, "eam");
    assert!(
        code == Some(0) && polls.iter().all(|poll| poll["core"].is_null() && poll["sparse"].is_null()),
        "{polls:?}"
    );
    eam_config(folder, 4, &format!("{STILL}{watched}sparse_neighbours = 79\n"));
    let (code, _, polls) = run(folder, 2, "eam-counted");
    // 78 neighbours within 6.5 Å.
    assert!(
        code == Some(0) && polls.iter().all(|poll| poll["sparse"]["atoms"] == 256 && poll["sparse"]["fewest"] == 78),
        "{polls:?}"
    );
}

#[test]
fn a_collision_cascade_is_an_event_before_it_crashes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // 100 eV at atom 260 in an arbitrary direction.
    let speed = (2.0 * 100.0 * 9648.533 / 26.982_f64).sqrt();
    let [x, y, z] = [0.8, 0.5, (1.0_f64 - 0.89).sqrt()].map(|part| part * speed);
    let cascade = format!(
        "temperature = 300\nensemble = \"nve\"\ntimestep = 0.0001\nsteps = 500\nsampling_interval = 5\nuncertainty_threshold = 1e6\n\
         uncertainty_low = 1e6\nsetup = [\"group hit id 260\", \"velocity hit set {x} {y} {z}\"]\n"
    );
    al_config(folder, &cascade);
    let (code, result, polls) = run(folder, 2, "out");
    assert_eq!((code, &result["status"]), (Some(4), &"UNCERTAIN".into()), "{result}");
    let last = polls.last().unwrap();
    assert_eq!((&last["trigger"], last["core"]["above"].as_i64().unwrap() >= 1), (&"core".into(), true), "{last}");
    assert!(polls.len() > 2, "the crystal is no event");
    assert_eq!(result["candidates"], serde_json::json!([1]));
}

/// Labels come from EAM, and python-ace fits the new potential.
#[test]
fn a_loop_labels_regions_of_core_repulsion_first() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(python().arg(root().join("potentials/al/fit.py")).arg("--data").arg(folder));
    write(folder, "al.extxyz", &with_close_pair(2.24));
    let (potential, eam) = (root().join("potentials/al/Al.yaml"), eam_file());
    let (python, trainer) = (dependency("bin/python3"), root().join("examples/trainers/pace_linear.py"));
    let (base, test) = (folder.join("training.extxyz"), folder.join("testing.extxyz"));
    // γ of the pair is below 5.
    let toml = format!(
        "structure = \"al.extxyz\"\n{STILL}seed = 3\nuncertainty_threshold = 20\nuncertainty_low = 20\n\
         [potential]\nfile = {potential:?}\n[embedding]\nradius = 4.0\n\
         [loop]\nbatch = 1\nselect = 1\nmax_rounds = 4\nresume_from = \"start\"\n\
         [loop.oracle]\ntype = \"lammps\"\npair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]\n\
         [loop.trainer]\ncommand = [{python:?}, {trainer:?}, \"--base\", {base:?}, \"--test\", {test:?}, \"--labelled\", \
         \"{{labelled}}\", \"--potential\", \"{{potential}}\", \"--active-set\", \"{{active_set}}\", \"--output\", \
         \"{{output}}\"]\ntimeout = 3000\n",
        eam.display()
    );
    write(folder, "loop.toml", &toml);
    let mut command = lammps_otf();
    command.current_dir(folder).args(["loop", "loop.toml", "-o", "out"]).env("OMP_NUM_THREADS", "1");
    let output = command.output().unwrap();
    let store =
        Store::open_existing(&folder.join("out/candidates.db")).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    let rounds = store.rounds().unwrap();
    assert_eq!((rounds[0].outcome, &rounds[0].selected), (Some(RoundOutcome::Events), &vec![2]), "{}", text(&output));
    // The first row is the initial structure, on which oracle and potential are compared.
    let first = store.get(2).unwrap();
    assert!(first.keys().trigger == Some(Trigger::Core) && first.is_labelled(), "{:?}", first.keys());
    // Core repulsion is not trained, so that the next round has the same event, whose region is known.
    assert!(output.status.code() == Some(4) && rounds.len() == 2, "{}{rounds:?}", text(&output));
}
