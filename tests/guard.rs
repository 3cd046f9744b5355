// SPDX-License-Identifier: GPL-2.0-or-later
//! The border to C++: nothing that is thrown there crosses it, and what is refused leaves a usable instance.

mod common;

use lammps_otf::comm::Comm;
use lammps_otf::lammps::{Build, Lammps, Severity, throw};

const QUIET: [&str; 4] = ["-screen", "none", "-log", "none"];

#[test]
fn every_kind_of_exception_becomes_text() {
    assert!(throw(0).unwrap_err().message.contains("a value that cannot be"));
    assert!(throw(1).unwrap_err().message.contains("out of memory"));
    assert!(throw(2).unwrap_err().message.contains("not a std::exception"));
    assert_eq!(throw(0).unwrap_err().severity, Severity::Foreign);
    throw(3).unwrap();
}

#[test]
fn an_unknown_command_is_an_error_and_the_instance_stays_usable() {
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

#[test]
fn without_atoms_every_view_is_empty() {
    let _one = common::one_at_a_time();
    let mut lammps = Lammps::open(&QUIET, &Comm::single()).unwrap();
    assert_eq!(lammps.positions().dim(), (0, 3));
    lammps.command("region box block 0 4 0 4 0 4\ncreate_box 1 box").unwrap();
    assert_eq!((lammps.positions().dim(), lammps.ids().len(), lammps.local_atoms()), ((0, 3), 0, 0));
    assert!(lammps.fix_vector("nothing").unwrap_err().to_string().contains("nothing"));
}

#[test]
fn text_that_would_be_a_second_command_stays_one_word() {
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
fn this_liblammps_passes_its_own_preflight() {
    let _one = common::one_at_a_time();
    let build = Build::of(&Lammps::open(&QUIET, &Comm::single()).unwrap());
    assert!(build.exceptions && build.id_bits == 32 && build.image_bits == 32, "{build:?}");
    assert!(build.packages.iter().any(|p| p == "PLUGIN"), "{build:?}");
    build.check(&Comm::single()).unwrap();
}

#[test]
fn a_thousand_instances_come_and_go() {
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
    // A leak of one instance would be megabytes each; the allocator's own noise is far less than one instance.
    assert!(grown < 4 << 20, "{grown} bytes more after 1000 instances");
}
