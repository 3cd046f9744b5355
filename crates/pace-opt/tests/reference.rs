// SPDX-License-Identifier: GPL-2.0-or-later
//! Runs the comparison with python-ace, and with ML-PACE in LAMMPS. Requires `ci/setup`.
//!
//! Compares six potentials in about a minute; with `PACE_OPT_QUICK=`, all of them in some minutes.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The C library that Cargo built beside this test.
fn library() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let deps = exe.parent()?;
    [deps.join("libpace_opt.so"), deps.parent()?.join("libpace_opt.so")].into_iter().find(|p| p.exists())
}

#[test]
fn python_ace_and_ml_pace_agree() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let deps = here.join("../../.deps");
    let python = deps.join("bin/python3");
    assert!(python.exists(), "{} is missing: run ci/setup", python.display());
    let library = library().expect("Cargo builds libpace_opt.so beside this test");
    let mut command = Command::new(python);
    command.arg(here.join("tests/reference/compare.py")).env("PACE_OPT_LIB", library);
    if std::env::var_os("PACE_OPT_QUICK").is_none() {
        command.env("PACE_OPT_QUICK", "1");
    }
    let plugins = deps.join("lib/lammps/plugins");
    for plugin in ["paceplugin.so", "paceoptplugin.so"] {
        assert!(plugins.join(plugin).exists(), "{plugin} is missing in {}: run ci/setup", plugins.display());
    }
    command.env("PACE_OPT_PLUGINS", plugins);
    assert!(command.status().unwrap().success(), "see the differences above");
}
