// SPDX-License-Identifier: GPL-2.0-or-later
//! The evaluator `pace-opt` compared with python-ace, and with ML-PACE in LAMMPS.
//!
//! Compares six potentials in about a minute; with `PACE_OPT_QUICK=`, all of them in some minutes.

mod common;

use std::path::PathBuf;

use common::{dependency, python, root};

/// The C library that Cargo built beside this test.
fn library() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let deps = exe.parent()?;
    [deps.join("libpace_opt.so"), deps.parent()?.join("libpace_opt.so")].into_iter().find(|p| p.exists())
}

#[test]
fn python_ace_and_ml_pace_agree() {
    let library = library().expect("Cargo builds libpace_opt.so beside this test");
    let mut command = python();
    command.arg(root().join("crates/pace-opt/tests/reference/compare.py")).env("PACE_OPT_LIB", library);
    if std::env::var_os("PACE_OPT_QUICK").is_none() {
        command.env("PACE_OPT_QUICK", "1");
    }
    for plugin in ["paceplugin.so", "paceoptplugin.so"] {
        dependency(&format!("lib/lammps/plugins/{plugin}"));
    }
    command.env("PACE_OPT_PLUGINS", dependency("lib/lammps/plugins"));
    assert!(command.status().unwrap().success(), "see the differences above");
}
