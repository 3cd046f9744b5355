// SPDX-License-Identifier: GPL-2.0-or-later
//! Plugins of this project: one that was compiled for another LAMMPS is refused with the reason, before a class of another layout is
//! used; styles are known to every later instance, and after `clear`.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{dependency, lammps_otf, one_at_a_time, root, succeed, text, write};
use lammps_otf::comm::Comm;
use lammps_otf::lammps::Lammps;

/// The pause plugin, compiled for a LAMMPS of this version and with this macro for the width of ids.
fn pause_plugin(folder: &Path, version: &str, macro_of_ids: &str) -> PathBuf {
    let file = folder.join("elsewhereplugin.so");
    let mut compiler = Command::new(dependency("bin/mpicxx"));
    compiler
        .args(["-shared", "-fPIC", "-std=c++17", macro_of_ids])
        .arg(format!("-DPLUGIN_LAMMPS_VERSION=\"{version}\""));
    for include in [".deps/include", ".deps/include/lammps", "plugins/common"] {
        compiler.arg("-I").arg(root().join(include));
    }
    for source in [
        "pause/fix_pause.cpp",
        "pause/fix_pair_field.cpp",
        "pause/fix_neighbours.cpp",
        "pause/plugin.cpp",
        "common/styles.cpp",
    ] {
        compiler.arg(root().join("plugins").join(source));
    }
    succeed(compiler.arg("-o").arg(&file));
    file
}

#[test]
fn a_plugin_for_another_lammps_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    for (version, ids, reason) in [
        (
            "29 Aug 2024",
            "-DLAMMPS_SMALLBIG",
            "it was compiled for LAMMPS 29 Aug 2024, and this is another version: run ci/install",
        ),
        ("22 Jul 2025", "-DLAMMPS_BIGBIG", "It was compiled for another LAMMPS: run ci/install"),
    ] {
        let plugin = pause_plugin(folder.path(), version, ids);
        common::al_config(folder.path(), "temperature = 300\nsteps = 1\n");
        let config = std::fs::read_to_string(folder.path().join("run.toml")).unwrap();
        write(folder.path(), "run.toml", &format!("plugins = [{:?}]\n{config}", plugin.display().to_string()));
        for ranks in [1, 2] {
            let mut command = if ranks == 1 { lammps_otf() } else { common::mpiexec(ranks) };
            if ranks > 1 {
                command.arg(env!("CARGO_BIN_EXE_lammps-otf"));
            }
            let output =
                command.current_dir(folder.path()).args(["run", "run.toml", "-q", "-o", "out"]).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{}", text(&output));
            assert!(text(&output).contains(reason), "{}", text(&output));
        }
    }
}

#[test]
fn styles_are_known_to_later_instances_and_after_clear() {
    let _guard = one_at_a_time();
    let comm = Comm::single();
    let open = || Lammps::open(&["-screen", "none", "-log", "none"], &comm).unwrap();
    let mut first = open();
    first.load_plugin(&dependency("lib/lammps/plugins/paceoptplugin.so")).unwrap();
    let knows = |lammps: &Lammps| lammps.has_style("pair", "pace/opt");
    let second = open();
    assert!(knows(&first) && knows(&second));
    // With the closing of one instance, LAMMPS before 22 Jul 2025 would unload a plugin that it had loaded itself.
    drop(second);
    first.command("clear").unwrap();
    assert!(knows(&first));
    first.command("region box block 0 4 0 4 0 4\ncreate_box 1 box\npair_style pace/opt").unwrap();
}
