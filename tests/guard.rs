// SPDX-License-Identifier: GPL-2.0-or-later
//! The C++ interface: no exception crosses it, and the instance remains usable after an error.

mod common;
#[path = "common/counting.rs"]
mod counting;

use lammps_otf::comm::Comm;
use lammps_otf::lammps::{Build, Error, Lammps, Severity, throw};
use lammps_otf::structure::{AtomId, Cell};

const QUIET: [&str; 4] = ["-screen", "none", "-log", "none"];

#[test]
fn exceptions_of_every_kind_become_errors() {
    // These calls also clear a pending error of LAMMPS without an instance, for example of an `open` in another
    // thread.
    let _one = common::one_at_a_time();
    assert!(throw(0).unwrap_err().message.contains("a value that cannot be"));
    assert!(throw(1).unwrap_err().message.contains("out of memory"));
    assert!(throw(2).unwrap_err().message.contains("not a std::exception"));
    assert_eq!(throw(0).unwrap_err().severity, Severity::Foreign);
    throw(3).unwrap();
}

#[test]
fn unknown_command_is_an_error_and_the_instance_remains_usable() {
    let _one = common::one_at_a_time();
    let mut lammps = Lammps::open(&QUIET, &Comm::single()).unwrap();
    let error = lammps.command("no_such_command 1 2").unwrap_err();
    assert_eq!(error.severity(), Some(Severity::AllRanks));
    assert!(error.to_string().contains("no_such_command"), "{error}");
    lammps.command("units metal\nregion box block 0 4 0 4 0 4\ncreate_box 1 box\ncreate_atoms 1 single 1 2 3").unwrap();
    assert_eq!(lammps.total_atoms(), 1);
    let x = lammps.positions();
    assert_eq!((x.dim(), x[[0, 0]], x[[0, 2]]), ((1, 3), 1.0, 3.0));
}

/// A box of 4 Å with one atom type and no atoms.
const BOX: &str = "units metal\natom_modify map array\nregion box block 0 4 0 4 0 4\ncreate_box 1 box\nmass 1 1.0\n\
                   pair_style zero 2.0\npair_coeff * *";

fn with_box() -> Lammps {
    let mut lammps = Lammps::open(&QUIET, &Comm::single()).unwrap();
    lammps.command(BOX).unwrap();
    lammps
}

/// Checks that the instance still accepts atoms and runs steps.
fn assert_usable(lammps: &mut Lammps) {
    let (atoms, step) = (lammps.total_atoms(), lammps.step());
    lammps.command("create_atoms 1 single 3 2 1\nrun 2 post no").unwrap();
    assert_eq!((lammps.total_atoms(), lammps.step()), (atoms + 1, step + 2));
}

#[test]
fn bad_arguments_are_rejected_and_good_ones_accepted() {
    let _one = common::one_at_a_time();
    let error = Lammps::open(&["-screen", "none", "-sufix", "omp"], &Comm::single()).unwrap_err();
    assert_eq!(error.severity(), Some(Severity::AllRanks));
    assert!(error.to_string().contains("Invalid command-line argument"), "{error}");
    assert!(error.to_string().contains("-screen none -sufix omp"), "{error}");
    // The error is not attributed to the next instance.
    assert_usable(&mut with_box());
    println!("tried 1: `lammps_open` with bad arguments: text, and the next one opens");
}

/// The exceptions thrown by the fix of the plugin, and the resulting errors.
const KINDS: [(&str, Severity, &str); 4] = [
    ("lammps", Severity::AllRanks, "LAMMPS itself refuses at"),
    ("standard", Severity::Foreign, "thrown at"),
    ("memory", Severity::Foreign, "out of memory"),
    ("number", Severity::Foreign, "not a std::exception"),
];

#[test]
fn plugin_that_throws_gives_an_error() {
    let _one = common::one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let plugin = common::throwing::plugin(folder.path());
    let mut tries = 0;
    for (kind, severity, words) in KINDS {
        for place in ["constructor", "init", "end_of_step", "grow"] {
            let mut lammps = with_box();
            lammps.load_plugin(&plugin).unwrap();
            let fix = format!("fix t all otf/throw {place} {kind} 0");
            let error = if place == "grow" {
                lammps.command(&fix).unwrap();
                let n = 20_000;
                let ids: Vec<AtomId> = (1..=n).collect();
                let (types, images, places) = (vec![1; n as usize], vec![1; n as usize], vec![1.0; 3 * n as usize]);
                lammps.create_atoms(&ids, &types, &places, &places, &images).unwrap_err()
            } else if place == "end_of_step" {
                // A single line uses another call than several lines.
                lammps.command(&fix).unwrap();
                lammps.command("run 2").unwrap_err()
            } else {
                lammps.command(&format!("{fix}\nrun 2")).unwrap_err()
            };
            assert_eq!(error.severity(), Some(severity), "{place} {kind}: {error}");
            assert!(error.to_string().contains(words), "{place} {kind}: {error}");
            match place {
                "constructor" => {}
                // LAMMPS has created atoms that it has not counted.
                "grow" => lammps.command(&format!("clear\n{BOX}")).unwrap(),
                _ => lammps.command("unfix t").unwrap(),
            }
            assert_usable(&mut lammps);
            tries += 1;
        }
    }
    println!(
        "tried {tries}: exceptions of a plugin, through commands and `lammps_create_atoms`: text, and the instance stays usable"
    );
}

/// Not an independent test: run as a child process with a plugin that throws while it is loaded.
#[test]
#[ignore = "a process of another test"]
fn child_that_loads_the_plugin_as_it_opens() {
    for _ in 0..2 {
        let error = Lammps::open(&QUIET, &Comm::single()).unwrap_err();
        assert_eq!(error.severity(), Some(Severity::Foreign));
        assert!(error.to_string().contains("thrown while the plugin is loaded"), "{error}");
    }
    println!("it was opened in vain");
}

#[test]
fn plugin_that_throws_while_lammps_opens_gives_an_error() {
    let folder = tempfile::tempdir().unwrap();
    common::throwing::plugin(folder.path());
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "child_that_loads_the_plugin_as_it_opens", "--nocapture"]);
    let said = common::succeed(child.env("LAMMPS_PLUGIN_PATH", folder.path()).env("OTF_THROW_AT_LOAD", "1"));
    assert!(said.contains("it was opened in vain"), "{said}");
    println!("tried 2: `lammps_open` with a plugin that throws while it is loaded: text");
}

#[test]
fn plugin_that_throws_in_a_run_is_a_crash_with_a_last_valid_frame() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let plugin = common::throwing::plugin(folder);
    let settings = "temperature = 300\nsteps = 100\nsampling_interval = 10\nuncertainty = { compute = \"u\" }\n\
                    uncertainty_threshold = 1e9\n";
    for kind in ["standard", "number"] {
        let setup = format!(
            "plugins = [{plugin:?}]\nsetup = [\"compute u all ke/atom\", \"fix t all otf/throw end_of_step {kind} 25\"]"
        );
        common::eam_config(folder, 3, &format!("{settings}{setup}\n"));
        let mut command = common::lammps_otf();
        let output = command.current_dir(folder).args(["run", "run.toml", "-q", "-o", kind]).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", common::text(&output));
        let result = common::json(&folder.join(kind).join("result.json"));
        assert_eq!((&result["status"], &result["candidates"][0]), (&"CRASHED".into(), &1.into()), "{result}");
        let words = if kind == "number" { "not a std::exception" } else { "thrown at end_of_step" };
        assert!(result["crash"]["reason"].as_str().unwrap().contains(words), "{result}");
    }
    println!("tried 2: a run in which a plugin throws: CRASHED, with a candidate of the last valid frame");
}

#[test]
fn invalid_atoms_and_boxes_are_rejected() {
    let _one = common::one_at_a_time();
    let one = |lammps: &mut Lammps| lammps.create_atoms(&[1], &[1], &[1.0; 3], &[0.0; 3], &[0]);
    let cell = |lo: f64, hi: f64, tilt: f64| Cell::from_lammps([lo; 3], [hi; 3], [tilt, 0.0, 0.0], [true; 3]);

    let mut lammps = Lammps::open(&QUIET, &Comm::single()).unwrap();
    let error = one(&mut lammps).unwrap_err();
    assert_eq!(error.severity(), Some(Severity::AllRanks));
    assert!(error.to_string().contains("before simulation box is defined"), "{error}");
    assert!(lammps.reset_box(&cell(0.0, 5.0, 0.0)).unwrap_err().to_string().contains("no simulation box"));

    lammps.command(BOX).unwrap();
    for bad in [cell(5.0, 0.0, 0.0), cell(0.0, 0.0, 0.0), cell(0.0, f64::NAN, 0.0), cell(0.0, f64::INFINITY, 0.0)] {
        assert!(lammps.reset_box(&bad).unwrap_err().to_string().contains("from a lower to a higher"), "{bad:?}");
    }
    for tilt in [1.0, f64::NAN] {
        let error = lammps.reset_box(&cell(0.0, 5.0, tilt)).unwrap_err();
        assert!(error.to_string().contains("tilt"), "{error}");
    }
    assert_eq!(lammps.cell(), cell(0.0, 4.0, 0.0));
    lammps.reset_box(&cell(0.0, 5.0, 0.0)).unwrap();
    assert_eq!(lammps.cell(), cell(0.0, 5.0, 0.0));
    assert_eq!(one(&mut lammps).unwrap(), 1);
    let error = lammps.reset_box(&cell(0.0, 6.0, 0.0)).unwrap_err();
    assert_eq!(error.severity(), Some(Severity::AllRanks));
    assert!(error.to_string().contains("when atoms exist"), "{error}");
    assert_eq!(lammps.cell(), cell(0.0, 5.0, 0.0));
    assert_usable(&mut lammps);
    println!("tried 9: `lammps_create_atoms`, `lammps_reset_box` with what they cannot do: refused, the box as it was");
}

#[test]
fn views_without_atoms_are_empty() {
    let _one = common::one_at_a_time();
    let mut lammps = Lammps::open(&QUIET, &Comm::single()).unwrap();
    assert_eq!(lammps.positions().dim(), (0, 3));
    lammps.command("region box block 0 4 0 4 0 4\ncreate_box 1 box").unwrap();
    assert_eq!((lammps.positions().dim(), lammps.ids().len(), lammps.local_atoms()), ((0, 3), 0, 0));
    assert!(lammps.fix_vector("nothing").unwrap_err().to_string().contains("nothing"));
}

#[test]
fn text_that_contains_a_command_remains_one_word() {
    let _one = common::one_at_a_time();
    let mut lammps = Lammps::open(&QUIET, &Comm::single()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["two words", "dollar $x ${HOME} $(1+1)", "and &", "hash # here", "it's", "5\" wide"] {
        let file = folder.path().join(name);
        let quoted = lammps_otf::lammps::quote_path(&file).unwrap();
        lammps.command(&format!("print hello file {quoted} screen no")).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), "hello", "{name}");
    }
    assert!(lammps_otf::lammps::quote("a\nshell touch x").is_err());
}

#[test]
fn preflight_accepts_this_liblammps() {
    let _one = common::one_at_a_time();
    let build = Build::of(&Lammps::open(&QUIET, &Comm::single()).unwrap());
    assert!(build.exceptions && [32, 64].contains(&build.id_bits) && build.image_bits == build.id_bits, "{build:?}");
    assert!(build.packages.iter().any(|p| p == "PLUGIN"), "{build:?}");
    for bits in [32, 64] {
        Build { id_bits: bits, image_bits: bits, ..build.clone() }.check(&Comm::single()).unwrap();
    }
}

#[test]
fn preflight_rejects_an_incompatible_liblammps() {
    let _one = common::one_at_a_time();
    let comm = Comm::single();
    let build = Build::of(&Lammps::open(&QUIET, &comm).unwrap());
    for (other, words) in [
        (Build { id_bits: 64, image_bits: 32, ..build.clone() }, "64-bit atom ids and 32-bit image flags"),
        (Build { id_bits: 32, image_bits: 64, ..build.clone() }, "32-bit atom ids and 64-bit image flags"),
        (Build { step_bits: 32, ..build.clone() }, "32-bit step numbers (SMALLSMALL)"),
        (Build { exceptions: false, ..build.clone() }, "without exceptions"),
        (Build { version: 20_230_801, ..build.clone() }, "20230802 or newer"),
    ] {
        let Err(Error::Preflight(message)) = other.check(&comm) else { panic!("{other:?}") };
        assert!(message.contains(words) && message.contains("LAMMPS"), "{message}");
    }
    println!(
        "tried 5: a liblammps that would be misread (ids and image flags of different widths, 32-bit steps) or end the process: refused"
    );
}

#[test]
fn instance_frees_its_resources() {
    let _one = common::one_at_a_time();
    let comm = Comm::single();
    let cycle = || {
        let mut lammps = Lammps::open(&QUIET, &comm).unwrap();
        lammps.command("region box block 0 4 0 4 0 4\ncreate_box 1 box\ncreate_atoms 1 single 1 2 3").unwrap();
    };
    // Data that are kept for all instances.
    cycle();
    let before = counting::held();
    (0..10).for_each(|_| cycle());
    // The memory of LAMMPS is checked by ci/valgrind.
    assert_eq!(counting::held(), before);
}

#[test]
#[ignore = "measures the memory of the process: ci/stress memory"]
fn a_thousand_instances_do_not_leak_memory() {
    let _one = common::one_at_a_time();
    let comm = Comm::single();
    let resident = || {
        let pages: u64 =
            std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    };
    let cycle = || {
        let mut lammps = Lammps::open(&QUIET, &comm).unwrap();
        lammps.command("region box block 0 4 0 4 0 4\ncreate_box 1 box\ncreate_atoms 1 single 1 2 3").unwrap();
    };
    for _ in 0..100 {
        cycle();
    }
    let before = resident();
    for _ in 0..1000 {
        cycle();
    }
    let grown = resident().saturating_sub(before);
    // A leak of one instance would be megabytes per instance. The variation of the allocator is far less than one
    // instance.
    assert!(grown < 4 << 20, "{grown} bytes more after 1000 instances");
}
