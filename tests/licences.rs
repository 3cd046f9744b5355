// SPDX-License-Identifier: GPL-2.0-or-later
//! All linked crates have licences compatible with LAMMPS, which is GPL-2.0 only. The complete check is `cargo deny
//! check` in `ci/stress supply`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Accepted licences, of which one is sufficient. Apache-2.0 alone is not accepted.
const COMPATIBLE: [&str; 11] = [
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "Unicode-3.0",
    "BSL-1.0",
    "CC0-1.0",
    "GPL-2.0-or-later",
];

#[test]
fn licences_of_linked_crates_are_compatible_with_lammps() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let command = |arguments: &[&str]| {
        let output =
            Command::new(&cargo).current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output().expect("cargo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let metadata = command(&["metadata", "--format-version", "1", "--locked"]);
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).expect("JSON");
    let mut licences = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        licences.insert((text("name"), text("version")), text("license"));
    }
    // Crates used only during the build (procedural macros, build scripts) are not included.
    let packages = [
        "--package",
        "lammps-otf",
        "--package",
        "pace-opt",
        "--package",
        "lammps-otf-python-lammps",
        "--package",
        "lammps-otf-python",
    ];
    let tree = [&["tree", "--locked", "--prefix", "none"][..], &packages].concat();
    let tree = command(&[&tree[..], &["--edges", "normal,no-proc-macro", "--format", "{p}"]].concat());
    let mut linked = BTreeSet::new();
    for line in String::from_utf8(tree).expect("text").lines() {
        if let Some((name, rest)) = line.split_once(" v") {
            linked.insert((name.to_owned(), rest.split_whitespace().next().unwrap_or_default().to_owned()));
        }
    }
    assert!(linked.len() > 30, "{linked:?}");
    for package in &linked {
        let licence = licences.get(package).unwrap_or_else(|| panic!("{package:?} is unknown"));
        // Each part joined by AND must offer an accepted licence.
        let fits = licence.split(" AND ").all(|part| {
            let choices = part.trim_matches(['(', ')']).split(" OR ").flat_map(|choice| choice.split('/'));
            choices.map(|choice| choice.trim().trim_matches(['(', ')'])).any(|choice| COMPATIBLE.contains(&choice))
        });
        assert!(fits, "{package:?} is licensed under {licence:?}");
    }
}
