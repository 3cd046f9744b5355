// SPDX-License-Identifier: GPL-2.0-or-later
//! Files that would exhaust the memory: each reader stops with a message, in a process limited to 1.5 GB.

mod common;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use common::{HANG, root, text, write};

/// Runs the command with a limit on its memory. It must end by itself with the exit code of bad input.
fn assert_rejected(folder: &Path, name: &str, arguments: &[&str], words: &str) {
    let output = Command::new("prlimit")
        .args(["--data=1500000000", "timeout", &HANG.to_string()])
        .arg(env!("CARGO_BIN_EXE_lammps-otf"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = text(&output);
    let said: String = said.chars().filter(|c| *c != '\0').take(600).collect();
    assert_eq!(output.status.code(), Some(2), "{name}: {said}");
    assert!(said.contains(words), "{name}: {said}");
    assert!(!said.contains("panicked") && !said.contains("memory allocation"), "{name}: {said}");
    println!("tried 1: {name}, with 1.5 GB of memory: refused");
}

/// A sparse file of 3 GB without a line break.
fn sparse_file(folder: &Path, name: &str) {
    std::fs::File::create(folder.join(name)).unwrap().set_len(3 << 30).unwrap();
}

/// A compressed file of a few megabytes that decompresses to 3 GB of repeated `piece`.
fn bomb(folder: &Path, name: &str, head: &[u8], piece: &[u8]) {
    let packed = |text: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, text).unwrap();
        encoder.finish().unwrap()
    };
    let times = (3 << 30) / piece.len();
    std::fs::write(folder.join(name), [packed(head), packed(piece).repeat(times)].concat()).unwrap();
}

#[test]
fn hostile_structures_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let extract = |name: &str, words: &str| {
        let rest = ["--center", "1", "--radius", "3", "--buffer", "2", "--output", "cut.extxyz"];
        assert_rejected(folder, name, &[&["extract", name][..], &rest].concat(), words);
    };
    for name in ["endless.extxyz", "endless.data", "endless.dump"] {
        sparse_file(folder, name);
        extract(name, "longer than 2^20 bytes");
    }
    for name in ["endless.extxyz.gz", "endless.data.gz", "endless.dump.gz"] {
        bomb(folder, name, b"", &[0; 1 << 20]);
        extract(name, "longer than 2^20 bytes");
    }
    let atoms = "Al 0.000000 0.000000 0.000000\n".repeat(1 << 15);
    let head = "1000000000000\nLattice=\"10 0 0 0 10 0 0 0 10\"\n";
    bomb(folder, "bomb.extxyz.gz", head.as_bytes(), atoms.as_bytes());
    extract("bomb.extxyz.gz", "decompress to more than 100 times as many");
    let (many, atom) = (1_000_000_000_000_u64, "1 1 0 0 0\n");
    let lattice = "Lattice=\"10 0 0 0 10 0 0 0 10\" Properties=species:S:1:pos:R:3";
    write(folder, "many.extxyz", &format!("{many}\n{lattice}\nAl 0 0 0\n"));
    extract("many.extxyz", "ends after 1 of 1000000000000 atoms");
    let sides = "0 10 xlo xhi\n0 10 ylo yhi\n0 10 zlo zhi";
    write(folder, "many.data", &format!("data\n\n{many} atoms\n1 atom types\n{sides}\n\nAtoms # atomic\n\n{atom}"));
    extract("many.data", "ends after 1 of 1000000000000 atoms");
    let head = "ITEM: BOX BOUNDS pp pp pp\n0 10\n0 10\n0 10\nITEM: ATOMS id type x y z";
    write(folder, "many.dump", &format!("ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{many}\n{head}\n{atom}"));
    extract("many.dump", "ends after 1 of 1000000000000 atoms");
}

#[test]
fn hostile_labelled_structures_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let potential = root().join("potentials/al/Al.yaml");
    let calibrate = |name: &str, words: &str| {
        let rest = ["--potential", potential.to_str().unwrap()];
        assert_rejected(folder, name, &[&["calibrate", name][..], &rest].concat(), words);
    };
    sparse_file(folder, "endless.extxyz");
    calibrate("endless.extxyz", "longer than 2^20 bytes");
    let frame = |edge: f64, atoms: usize| {
        let properties = "Properties=species:S:1:pos:R:3:forces:R:3";
        format!(
            "{atoms}\nLattice=\"{edge} 0 0 0 {edge} 0 0 0 {edge}\" {properties}\n{}",
            "Al 0 0 0 0 0 0\n".repeat(atoms)
        )
    };
    write(folder, "tiny.extxyz", &frame(1e-3, 1));
    calibrate("tiny.extxyz", "periodic images within");
    write(folder, "dense.extxyz", &frame(100.0, 200_000));
    calibrate("dense.extxyz", "neighbours within");
}

#[test]
fn hostile_configurations_logs_and_stores_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    sparse_file(folder, "endless.toml");
    assert_rejected(folder, "a configuration without end", &["run", "endless.toml"], "is larger than 16 MB");
    write(folder, "deep.toml", &format!("a = {}", "[".repeat(200_000)));
    assert_rejected(folder, "a configuration of brackets", &["run", "deep.toml"], "deep.toml");
    // The memory is constant, so the whole file is read.
    std::fs::File::create(folder.join("endless.log")).unwrap().set_len(1 << 31).unwrap();
    assert_rejected(
        folder,
        "a log of one line",
        &["analyze-log", "endless.log", "--threshold", "5"],
        "no thermo output",
    );
    bomb(folder, "bomb.log.gz", b"LAMMPS (22 Jul 2025)\n", &[b'x'; 1 << 20]);
    assert_rejected(
        folder,
        "a compressed log",
        &["analyze-log", "bomb.log.gz", "--threshold", "5"],
        "no thermo output",
    );
    sparse_file(folder, "endless.db");
    assert_rejected(folder, "a store of nothing", &["candidates", "list", "endless.db"], "not an SQLite database");
}

#[test]
fn hostile_potentials_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    sparse_file(folder, "endless.yaml");
    sparse_file(folder, "endless.asi");
    write(folder, "deep.yaml", &"[".repeat(200_000));
    // Each line expands to nine times the line before: more than a billion words.
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for line in 1..12 {
        let _ = writeln!(bomb, "a{line}: &a{line} [{}]", vec![format!("*a{}", line - 1); 9].join(", "));
    }
    write(folder, "bomb.yaml", &bomb);
    let al = root().join("potentials/al/Al");
    let (yaml, asi) = (format!("{}.yaml", al.display()), format!("{}.asi", al.display()));
    let structure = root().join("examples/al-500.extxyz");
    for engine in ["ml-pace", "opt"] {
        for (file, set) in
            [("endless.yaml", &asi[..]), ("deep.yaml", &asi), ("bomb.yaml", &asi), (&yaml, "endless.asi")]
        {
            let config = format!(
                "structure = {structure:?}\ntemperature = 300\nsteps = 10\n[potential]\nfile = {file:?}\n\
                 active_set = {set:?}\nengine = \"{engine}\"\n"
            );
            write(folder, "run.toml", &config);
            let names = [file, set].map(|file| Path::new(file).file_name().unwrap().display().to_string());
            let [file, set] = &names;
            assert_rejected(
                folder,
                &format!("{engine} reads {file} and {set}"),
                &["run", "run.toml"],
                "cannot use potential",
            );
        }
    }
}

#[test]
fn hostile_trajectories_are_left_out_of_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let report = |name: &str, words: &str| {
        let output = Command::new("prlimit")
            .args(["--data=1500000000", "timeout", &HANG.to_string()])
            .args([env!("CARGO_BIN_EXE_lammps-otf"), "report", name])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output));
        assert!(text(&output).contains(words), "{name}: {}", text(&output));
        assert!(folder.path().join(name).join("report.html").is_file());
    };
    let run = |name: &str| {
        let out = folder.path().join(name);
        std::fs::create_dir(&out).unwrap();
        write(&out, "polls.jsonl", "");
        out
    };
    sparse_file(&run("endless"), "trajectory.dump");
    report("endless", "the trajectory is not shown");
    let frame = |count: u64, rows: &str| {
        format!(
            "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{count}\nITEM: BOX BOUNDS pp pp pp\n0 10\n0 10\n0 10\n\
             ITEM: ATOMS id type element x y z\n{rows}"
        )
    };
    // Its first frame is not complete, and never will be.
    write(&run("many"), "trajectory.dump", &frame(u64::MAX, "1 1 Al 0 0 0\n"));
    report("many", "report.html");
    write(&run("wrong"), "trajectory.dump", &frame(1, "1 1 Al 0 0 zero\n"));
    report("wrong", "z must be a number");
    // A good frame, and 3 GB without a line break.
    let out = run("endless-later");
    write(&out, "trajectory.dump", &frame(1, "1 1 Al 0 0 0\n"));
    std::fs::File::options().write(true).open(out.join("trajectory.dump")).unwrap().set_len(3 << 30).unwrap();
    report("endless-later", "the trajectory is not shown");
    // A cell so small that its images within the range would fill the memory.
    write(&run("small"), "trajectory.dump", &frame(1, "1 1 Al 0 0 0\n").replace("0 10", "0 1e-4"));
    report("small", "report.html");
}
