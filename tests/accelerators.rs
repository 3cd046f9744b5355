// SPDX-License-Identifier: GPL-2.0-or-later
//! Accelerated styles of LAMMPS, if available: the settings reach LAMMPS, the event is the same, and a style without
//! γ is rejected with its name.

mod common;

use common::{al_config, eam_config, json, lammps_otf, text};
use lammps_otf::comm::Comm;
use lammps_otf::lammps::{Build, Kokkos, Lammps, PairDevice};

/// Atom 1 is pushed until γ exceeds the threshold, after some steps under the forces of the potential.
const PUSHED: &str = "temperature = 300\nsteps = 100\nsampling_interval = 10\nseed = 3\n\
                   uncertainty = { compute = \"u\" }\nuncertainty_threshold = 2.0\nuncertainty_low = 2.0\n\
                   setup = [\"compute u all ke/atom\", \"group one id 20\", \"fix push one addforce -3 -3 -3\"]\n";

#[test]
fn suffixes_reach_lammps_and_give_the_same_event() {
    let mut first = None;
    for (arguments, style) in [
        ("lammps_args = []", "pair_style      eam/fs"),
        ("lammps_args = [\"-suffix\", \"opt\"]", "eam/fs/opt"),
        ("suffix = \"opt\"", "eam/fs/opt"),
        ("suffix = \"omp\"\npackage = [\"omp 2\"]", "eam/fs/omp"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        eam_config(folder.path(), 3, &format!("{PUSHED}{arguments}\n"));
        let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-q", "-o", "out"]).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{arguments}: {}", text(&output));
        let log = std::fs::read_to_string(folder.path().join("out/log.lammps")).unwrap();
        assert!(log.contains(style), "{arguments}: the log does not name {style}");
        let result = json(&folder.path().join("out/result.json"));
        let event = (result["trigger_step"].clone(), result["atom_id"].clone());
        assert!(event.0.as_i64().unwrap() > 0 && event.1 == 20, "{event:?}");
        println!("{arguments}: step {}, atom {}", event.0, event.1);
        assert_eq!(&event, first.get_or_insert_with(|| event.clone()), "{arguments}");
    }
}

#[test]
fn name_of_the_pair_style_in_use_includes_the_suffix() {
    let _one = common::one_at_a_time();
    let arguments = ["-screen", "none", "-log", "none", "-suffix", "opt"];
    let mut lammps = Lammps::open(&arguments, &Comm::single()).unwrap();
    lammps.command("units metal\npair_style eam/fs").unwrap();
    for (name, is) in [
        ("eam/fs", true),
        ("eam/fs/opt", true),
        ("eam/fs/kk", false),
        ("eam", false),
        ("", false),
        ("eam/fs) quit (", false),
    ] {
        assert_eq!(lammps.pair_style_is(name).unwrap(), is, "{name}");
    }
    // The LAMMPS of `ci/setup` has no KOKKOS.
    assert_eq!(Kokkos::of_library().is_some(), Build::of(&lammps).packages.iter().any(|name| name == "KOKKOS"));
    assert_eq!(lammps.pair_device("eam/fs").unwrap(), PairDevice::Cpu);
}

#[test]
fn missing_accelerator_is_rejected_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    al_config(folder.path(), "temperature = 300\nsteps = 10\nsuffix = \"kk\"\n");
    let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-o", "out"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("KOKKOS"), "{}", text(&output));
    assert!(!folder.path().join("out").exists());
}

#[test]
fn gamma_is_read_under_a_suffix_without_a_variant_of_the_pair_style() {
    // There is no `pace/extrapolation/omp`: LAMMPS uses the plain style, and γ is available.
    let folder = tempfile::tempdir().unwrap();
    let omp = "suffix = \"omp\"\n";
    al_config(folder.path(), &format!("temperature = 300\nsteps = 10\nsampling_interval = 5\n{omp}"));
    let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-q", "-o", "out"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(json(&folder.path().join("out/result.json"))["gamma_max"].as_f64().unwrap() > 0.0);
}
