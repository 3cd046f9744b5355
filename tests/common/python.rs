// SPDX-License-Identifier: GPL-2.0-or-later
//! Runs Python libraries that read the output of the program.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Python with ASE: `LAMMPS_OTF_PYTHON`, or the one made by `ci/setup`.
///
/// # Panics
/// If it is missing, because the tests require it.
pub fn python() -> PathBuf {
    let path = std::env::var_os("LAMMPS_OTF_PYTHON")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/bin/python3"), PathBuf::from);
    assert!(
        path.exists(),
        "there is no {}: run ci/setup, or set LAMMPS_OTF_PYTHON to a Python with ASE",
        path.display()
    );
    path
}

/// A command that runs the script with these arguments (`sys.argv[1:]`).
pub fn script(text: &str, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(python());
    command.arg("-c").arg(text).args(arguments).stdin(Stdio::null());
    command
}

/// Runs the script and returns its output.
///
/// # Panics
/// If the script fails.
pub fn run(text: &str, arguments: &[impl AsRef<OsStr>]) -> String {
    let output = script(text, arguments).output().expect("python starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "python failed:\n{error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}
