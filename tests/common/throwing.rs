// SPDX-License-Identifier: GPL-2.0-or-later
//! A LAMMPS plugin that throws exceptions.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `tests/throwing`, a LAMMPS plugin with a fix that throws the requested exception at the requested place.
pub fn plugin(folder: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // LAMMPS loads files with this name in the folders of LAMMPS_PLUGIN_PATH at its start.
    let file = folder.join("throwingplugin.so");
    let mut compiler = Command::new(root.join(".deps/bin/mpicxx"));
    compiler.args(["-shared", "-fPIC", "-std=c++17", "-DLAMMPS_SMALLBIG"]);
    for include in [".deps/include", ".deps/include/lammps", "plugins/common"] {
        compiler.arg("-I").arg(root.join(include));
    }
    compiler.arg(root.join("tests/throwing/throwing.cpp")).arg("-o").arg(&file);
    let output = compiler.output().unwrap_or_else(|e| panic!("{compiler:?}: {e}: run ci/setup"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    file
}
