// SPDX-License-Identifier: GPL-2.0-or-later
//! The scripts of `ci/`: their output if the machine lacks a requirement, and if checks fail.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use common::one_at_a_time;

// One test at a time: a process that another test starts while a program is written keeps it open for writing for a moment, and it
// cannot be run ("Text file busy").

/// Runs a script of `ci/` in a folder with the files that it reads. `programs` are first in PATH.
fn run(folder: &Path, script: &str, programs: &[(&str, &str)]) -> (Option<i32>, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (ci, bin) = (folder.join("ci"), folder.join("bin"));
    std::fs::create_dir_all(&ci).unwrap();
    std::fs::create_dir_all(&bin).unwrap();
    for file in ["Cargo.toml", script] {
        std::fs::copy(root.join(file), folder.join(file)).unwrap();
    }
    for (name, text) in programs {
        let path = if name.contains('/') { folder.join(name) } else { bin.join(name) };
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let search = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let Output { status, stdout, stderr } = Command::new(folder.join(script))
        .env("PATH", search)
        .env_remove("CXX")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn setup_checks_its_requirements_before_it_begins() {
    let _guard = one_at_a_time();
    let rustup = "echo error: no default toolchain is configured >&2; exit 1";
    let no_linker = "case \"$*\" in *--version*) echo 1;; *) exit 1;; esac";
    for (programs, words) in [
        (&[("rustc", rustup)][..], "rustc, which is installed but does not work:\n      error: no default toolchain"),
        (&[("rustc", "echo rustc 1.42.0 'of long ago'")], "or newer (rustc is 1.42.0)"),
        (&[("c++", no_linker), ("g++", no_linker), ("clang++", no_linker)], "a C++17 compiler that compiles and links"),
        (&[("cc", no_linker)], "a C compiler named cc that compiles and links"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (code, said) = run(folder.path(), "ci/setup", programs);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("missing on this machine:") && said.contains(words), "{said}");
        assert!(!folder.path().join(".deps").exists(), "{said}");
    }
}

#[test]
fn failing_check_does_not_stop_the_others() {
    let _guard = one_at_a_time();
    let cargo = r#"
case "$*" in
  test*)
    echo "     Running unittests src/lib.rs (target/debug/deps/a-1)"
    echo "test good ... ok"
    echo "     Running tests/one.rs (target/debug/deps/one-2)"
    echo "test bad ... FAILED"
    echo "     Running tests/two.rs (target/debug/deps/two-3)"
    echo "  process didn't exit successfully: \`two-3\` (signal: 6, SIGABRT: process abort signal)"
    exit 101;;
  clippy*) exit 101;;
esac"#;
    let folder = tempfile::tempdir().unwrap();
    let well = |failing: &str| {
        let script = |name: &'static str| (name, if name == failing { "exit 3" } else { "echo ran $0" });
        let names = [
            "ci/setup",
            "ci/cycles",
            "ci/instructions",
            "ci/valgrind",
            "ci/python",
            "ci/newcomer",
            "ci/browser",
            "target/debug/reader",
        ];
        std::fs::create_dir_all(folder.path().join("fuzz/corpus/reader")).unwrap();
        names.map(script)
    };
    let (code, said) = run(folder.path(), "ci/test", &[&[("cargo", cargo)][..], &well("ci/valgrind")].concat());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("ran ci/browser") && said.contains("== without MPI"), "{said}");
    let (_, end) = said.split_once("\nFailed, after ").unwrap();
    let lines: Vec<&str> = end.lines().skip(1).map(str::trim).collect();
    let killed = "tests/two.rs: process didn't exit successfully: `two-3` (signal: 6, SIGABRT: process abort signal)";
    let valgrind = "- C++ interface under valgrind: exit code 3";
    assert_eq!(lines, ["- lints: exit code 101", "- tests: exit code 101", "tests/one.rs: bad", killed, valgrind]);

    let (code, said) = run(folder.path(), "ci/test", &[&[("cargo", "exit 0")][..], &well("")].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("All checks passed"), "{said}");
    // If the set-up fails, no check can run.
    let (code, said) = run(folder.path(), "ci/test", &[&[("cargo", "exit 0")][..], &well("ci/setup")].concat());
    assert_eq!((code, said.contains("==")), (Some(3), false), "{said}");
}

#[test]
fn import_cycles_of_modules_are_reported() {
    let _guard = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("src");
    std::fs::create_dir_all(source.join("c")).unwrap();
    std::fs::write(source.join("lib.rs"), "mod a;\nmod b;\nmod c;\n").unwrap();
    std::fs::write(source.join("a.rs"), "use crate::{b::B, c};\n").unwrap();
    std::fs::write(source.join("b.rs"), "// use crate::a::A;\npub struct B;\n").unwrap();
    std::fs::write(source.join("c/mod.rs"), "mod d;\n").unwrap();
    std::fs::write(source.join("c/d.rs"), "use super::super::b;\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}\n")
        .unwrap();
    let (code, said) = run(folder.path(), "ci/cycles", &[]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    std::fs::write(source.join("b.rs"), "use crate::c::d::D;\nuse super::a;\n").unwrap();
    let (code, said) = run(folder.path(), "ci/cycles", &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a, b, c import each other in a cycle") && said.contains("b -> c (src/b.rs)"), "{said}");
}

#[test]
fn install_lists_all_that_it_tried() {
    let _guard = one_at_a_time();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir_all(folder.path().join("lib")).unwrap();
    std::fs::create_dir_all(&bin).unwrap();
    // A wrapper script, as of a container, and a library that is none.
    std::fs::write(bin.join("lmp"), "#!/bin/sh\nexec true\n").unwrap();
    std::fs::set_permissions(bin.join("lmp"), PermissionsExt::from_mode(0o755)).unwrap();
    let (deps, text) = (root.join(".deps"), folder.path().join("text/liblammps.so"));
    std::fs::create_dir_all(folder.path().join("text")).unwrap();
    std::fs::write(&text, "INPUT(elsewhere.so)\n").unwrap();
    let search = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for (arguments, words) in [
        (
            vec!["--lammps", "/nowhere"],
            &["no shared liblammps was found", "yes: C++17 compiler", "no:  a shared liblammps in /nowhere"][..],
        ),
        (
            vec![],
            &["no shared liblammps was found", "(lmp in PATH)", "no:  lmp_mpi in PATH", "no:  pkg-config liblammps"],
        ),
        (vec!["--lammps", text.to_str().unwrap()], &["cannot be loaded on this machine"]),
        (
            vec!["--lammps", deps.to_str().unwrap(), "--headers", "/nowhere"],
            &["there is no library.h", "no:  library.h in /nowhere"],
        ),
        (
            vec!["--lammps", deps.to_str().unwrap(), "--mpicc", "cc"],
            &["no mpicc of the MPI that LAMMPS uses", "cc does not compile"],
        ),
    ] {
        let Output { status, stdout, stderr } = Command::new(root.join("ci/install"))
            .args(&arguments)
            .arg("--to")
            .arg(folder.path().join("installed"))
            .env("PATH", &search)
            .env_remove("CXX")
            .env_remove("MPICC")
            .output()
            .unwrap();
        let printed = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert_eq!(status.code(), Some(1), "{arguments:?}: {printed}");
        assert!(words.iter().all(|words| printed.contains(words)), "{arguments:?}: {words:?}\n{printed}");
    }
}
