// SPDX-License-Identifier: GPL-2.0-or-later
//! No files are written outside the folder of a run, even if it contains links or names of other folders. Paths given
//! by the user are followed.

mod common;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use common::{aluminium, dependency, eam_config, json, lammps_otf, mpiexec, root, succeed, text, write};
use lammps_otf::candidates::Store;

/// 108 atoms, one of which is flagged every 20 steps.
const FLAGS: &str = "temperature = 600\nsampling_interval = 10\nseed = 5\nsetup = [\"compute u all ke/atom\"]\n\
                     uncertainty = { compute = \"u\" }\nuncertainty_low = 0.1\nuncertainty_threshold = 0.2\n\
                     mode = \"flag\"\nflag_interval = 20\nnovelty = 0\nverify = false\ncheckpoint_interval = 20\n";

fn config(folder: &Path, steps: u32) {
    eam_config(folder, 3, &format!("steps = {steps}\n{FLAGS}"));
}

fn run(folder: &Path, more: &[&str]) -> Output {
    lammps_otf().current_dir(folder).args(["run", "run.toml", "-q"]).args(more).output().unwrap()
}

fn check_exit(output: &Output, code: i32, words: &str) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words) && !said.contains("panicked"), "{words:?} is not in\n{said}");
}

/// All files with their content; links with their target.
fn snapshot(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            all.push((path.clone(), path.read_link().unwrap().into_os_string().into_encoded_bytes()));
        } else if path.is_dir() {
            all.extend(snapshot(&path));
        } else {
            all.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

/// Replaces `name` by a link to the original file, or to a file of the same kind, in `elsewhere`.
fn replace_by_link(out: &Path, name: &str, elsewhere: &Path) {
    let (place, moved) = (out.join(name), elsewhere.join(name.replace('/', "-")));
    if place.exists() {
        std::fs::rename(&place, &moved).unwrap();
    } else {
        std::fs::write(&moved, "precious\n").unwrap();
    }
    symlink(&moved, &place).unwrap();
}

/// The original content of each file, so that it can be restored.
fn restore(out: &Path, name: &str, elsewhere: &Path) {
    let (place, moved) = (out.join(name), elsewhere.join(name.replace('/', "-")));
    std::fs::remove_file(&place).unwrap();
    if std::fs::read(&moved).is_ok_and(|bytes| bytes == b"precious\n") {
        std::fs::remove_file(&moved).unwrap();
    } else {
        std::fs::rename(&moved, &place).unwrap();
    }
}

#[test]
fn links_in_the_folder_of_a_resumed_run() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, elsewhere) = (folder.path(), tempfile::tempdir().unwrap());
    let (out, elsewhere) = (folder.join("out"), elsewhere.path());
    config(folder, 40);
    check_exit(&run(folder, &["-o", "out"]), 0, "");
    let names = [
        "polls.jsonl",
        "polls.1.jsonl",
        "result.json",
        "candidates.db",
        "candidates.db-journal",
        "candidates.db.lock",
        "candidates",
        "candidates/candidate-000001.extxyz",
        "candidates/candidate-000099.extxyz",
        ".reserve",
        ".writing-abc",
        "run.lock",
        "run.json",
        "checkpoint.json",
        "checkpoint-40.restart",
        "checkpoint-60.restart",
        "md.in",
        "data.lammps",
        "log.lammps",
        "report.html",
    ];
    config(folder, 80);
    for name in names {
        replace_by_link(&out, name, elsewhere);
        let before = (snapshot(elsewhere), snapshot(&out));
        let output = run(folder, &["-o", "out", "--resume"]);
        check_exit(&output, 2, "is a symbolic link");
        assert!(text(&output).contains(&format!("out/{name} ")), "{name}: {}", text(&output));
        assert!(before == (snapshot(elsewhere), snapshot(&out)), "{name}: something was written");
        // A new run in the folder is also rejected.
        check_exit(&run(folder, &["-o", "out"]), 2, "already holds a run");
        assert!(before == (snapshot(elsewhere), snapshot(&out)), "{name}: something was written");
        restore(&out, name, elsewhere);
    }
    // A dangling link creates no file.
    symlink(elsewhere.join("new"), out.join("polls.2.jsonl")).unwrap();
    check_exit(&run(folder, &["-o", "out", "--resume"]), 2, "is a symbolic link");
    std::fs::remove_file(out.join("polls.2.jsonl")).unwrap();
    assert!(snapshot(elsewhere).is_empty(), "{:?}", snapshot(elsewhere));
    check_exit(&run(folder, &["-o", "out", "--resume"]), 0, "");
    assert_eq!(json(&out.join("result.json"))["steps"], 80);
    println!("tried {}: links in the folder of a run that goes on: refused, and nothing written", names.len() + 1);
}

#[test]
fn checkpoint_with_a_file_in_another_folder() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let out = folder.join("out");
    config(folder, 40);
    check_exit(&run(folder, &["-o", "out"]), 0, "");
    let good = std::fs::read_to_string(out.join("checkpoint.json")).unwrap();
    assert!(good.contains("\"checkpoint-40.restart\""), "{good}");
    // Each is a valid restart file that would be removed at the next checkpoint.
    let names = [
        "../checkpoint-40.restart",
        "checkpoint-/../../checkpoint-40.restart",
        "candidates/../checkpoint-40.restart",
        &folder.join("checkpoint-40.restart").display().to_string(),
        "polls.jsonl",
        "checkpoint-forty.restart",
    ]
    .map(str::to_owned);
    std::fs::copy(out.join("checkpoint-40.restart"), folder.join("checkpoint-40.restart")).unwrap();
    std::fs::create_dir(out.join("checkpoint-")).unwrap();
    config(folder, 80);
    for name in &names {
        write(&out, "checkpoint.json", &good.replace("checkpoint-40.restart", name));
        let before = snapshot(folder);
        check_exit(&run(folder, &["-o", "out", "--resume"]), 2, "is not the name of a restart file in this folder");
        assert!(before == snapshot(folder), "{name}: something was written");
    }
    write(&out, "checkpoint.json", &good);
    check_exit(&run(folder, &["-o", "out", "--resume"]), 0, "");
    assert!(folder.join("checkpoint-40.restart").is_file());
    println!("tried {}: names in `checkpoint.json` that lead elsewhere: refused, and nothing written", names.len());
}

#[test]
fn output_folder_given_as_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    config(folder, 40);
    std::fs::create_dir_all(folder.join("disk/real")).unwrap();
    symlink("disk/real", folder.join("out")).unwrap();
    symlink("disk/nothing", folder.join("lost")).unwrap();
    check_exit(&run(folder, &["-o", "out"]), 0, "");
    config(folder, 80);
    check_exit(&run(folder, &["-o", "out"]), 2, "already holds a run");
    check_exit(&run(folder, &["-o", "out", "--resume"]), 0, "");
    assert!(folder.join("out").is_symlink());
    assert_eq!(json(&folder.join("disk/real/result.json"))["steps"], 80);
    // No temporary files remain, and no file is created at the target of a dangling link.
    assert_eq!(folder.join("disk").read_dir().unwrap().count(), 1);
    check_exit(&run(folder, &["-o", "lost"]), 1, "cannot write lost");
    assert_eq!(folder.join("disk").read_dir().unwrap().count(), 1);
    // A path that ascends and descends again.
    check_exit(&run(folder, &["-o", "disk/../disk/other"]), 0, "");
    assert!(folder.join("disk/other/result.json").is_file());
}

#[test]
fn links_in_the_folders_of_replicas() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    config(folder, 20);
    let replicas = |out: &str| {
        let mut command = mpiexec(2);
        command.arg(env!("CARGO_BIN_EXE_lammps-otf")).args(["run", "run.toml", "-q", "--replicas", "2", "-o", out]);
        command.current_dir(folder).output().unwrap()
    };
    for name in ["planted", "real", "elsewhere"] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    symlink("../elsewhere", folder.join("planted/replica-00")).unwrap();
    check_exit(&replicas("planted"), 2, "already holds a run");
    assert_eq!(folder.join("elsewhere").read_dir().unwrap().count(), 0);
    symlink("real", folder.join("out")).unwrap();
    check_exit(&replicas("out"), 0, "");
    assert!(folder.join("real/replica-01/result.json").is_file() && folder.join("out").is_symlink());
}

/// A loop of one round on a hot crystal, with this oracle.
fn loop_config(folder: &Path, oracle: &[&str], trainer: &[&str]) {
    write(folder, "al.extxyz", &aluminium(4));
    let potential = root().join("potentials/al/Al.yaml");
    let toml = format!(
        "structure = \"al.extxyz\"\ntemperature = 1500\nsteps = 400\nsampling_interval = 10\nseed = 3\n\
         uncertainty_low = 1.5\nuncertainty_threshold = 2.0\n[potential]\nfile = {potential:?}\n\
         [embedding]\nradius = 3.0\n[loop]\nbatch = 2\nselect = 2\nmax_rounds = 1\noracle_difference = 0\n[loop.oracle]\ntype = \"command\"\n\
         command = {oracle:?}\n[loop.trainer]\ncommand = {trainer:?}\n"
    );
    write(folder, "loop.toml", &toml);
}

fn learn(folder: &Path) -> Output {
    lammps_otf().current_dir(folder).args(["loop", "loop.toml", "-o", "out", "-q"]).output().unwrap()
}

#[test]
fn links_in_the_folder_of_a_resumed_loop() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, elsewhere) = (folder.path(), tempfile::tempdir().unwrap());
    let (out, elsewhere) = (folder.join("out"), elsewhere.path());
    loop_config(folder, &["false", "{input}", "{output}"], &["false", "{labelled}", "{output}"]);
    let first = learn(folder);
    assert!(out.join("round-001/labels").is_dir(), "{}", text(&first));
    let names = [
        "candidates.db",
        "loop.lock",
        "data.lammps",
        "run.json",
        "start",
        "start/potential.yaml",
        "final",
        "final/potential.asi",
        "round-001",
        "round-001/polls.jsonl",
        "round-001/log.lammps",
        "round-001/labels",
        "round-001/labels/candidate-000001.log",
        "round-001/labelled.extxyz",
        "round-001/training.log",
        "round-002",
        "round-002/restart",
        "report.html",
    ];
    for name in names {
        replace_by_link(&out, name, elsewhere);
        let before = (snapshot(elsewhere), snapshot(&out));
        let output = learn(folder);
        check_exit(&output, 2, "is a symbolic link");
        assert!(text(&output).contains(&format!("out/{name} ")), "{name}: {}", text(&output));
        assert!(before == (snapshot(elsewhere), snapshot(&out)), "{name}: something was written");
        restore(&out, name, elsewhere);
    }
    let again = learn(folder);
    assert_eq!(again.status.code(), first.status.code(), "{}", text(&again));
    println!("tried {}: links in the folder of a loop that goes on: refused, and nothing written", names.len());
}

#[test]
fn programs_get_their_arguments_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let told = |name: &str| format!("import json, sys; json.dump(sys.argv[1:], open({name:?}, 'w')); sys.exit(1)");
    let python = dependency("bin/python3").display().to_string();
    let words = [
        "$(touch PWNED)",
        "`touch PWNED`",
        "; touch PWNED",
        "| touch PWNED",
        "&& touch PWNED",
        "> PWNED",
        "*.toml",
        "~",
        "$HOME",
        "two  words",
        "'",
        "\"",
        "\\",
        "",
        "-c",
        "{none}",
        "a\nb",
        "{input}{output};touch PWNED",
    ];
    let oracle = told("oracle.json");
    let oracle: Vec<&str> = [&python, "-c", &oracle, "{input}", "{output}"].into_iter().chain(words).collect();
    loop_config(folder, &oracle, &["false", "{labelled}", "{output}"]);
    let output = learn(folder);
    assert_ne!(output.status.code(), Some(2), "{}", text(&output));
    let got: Vec<String> = serde_json::from_value(json(&folder.join("oracle.json"))).unwrap();
    let (names, got) = got.split_at(2);
    assert!(names.iter().all(|name| Path::new(name).is_absolute()), "{names:?}");
    let mut wanted = words.map(str::to_owned);
    wanted[words.len() - 1] = format!("{}{};touch PWNED", names[0], names[1]);
    assert_eq!(got, wanted);
    assert!(!snapshot(folder).iter().any(|(path, _)| path.file_name().is_some_and(|n| n == "PWNED")));
    println!("tried {}: words of an oracle's command that a shell would take apart: given as they stand", words.len());
}

#[test]
fn links_given_by_the_user_are_followed_and_only_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["inputs", "runs", "cwd"] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    for ending in ["yaml", "asi"] {
        let name = format!("Al.{ending}");
        std::fs::copy(root().join("potentials/al").join(&name), folder.join("inputs").join(&name)).unwrap();
    }
    write(&folder.join("inputs"), "al.extxyz", &aluminium(3));
    let built_in = std::fs::read_to_string(root().join("templates/md.in.j2")).unwrap();
    write(&folder.join("inputs"), "md.j2", &format!("# mine\n{built_in}"));
    let plugin = common::throwing::plugin(&folder.join("inputs"));
    let name = Path::new("../inputs").join(plugin.file_name().unwrap());
    symlink("../inputs/al.extxyz", folder.join("runs/al.extxyz")).unwrap();
    let toml = format!(
        "structure = \"al.extxyz\"\ntemplate = \"../inputs/md.j2\"\nplugins = [{name:?}]\ntemperature = 300\nsteps = 10\n\
         setup = [\"fix mine all otf/throw nowhere number 0\"]\n[potential]\nfile = \"../inputs/Al.yaml\"\n"
    );
    write(&folder.join("runs"), "run.toml", &toml);
    let before = snapshot(&folder.join("inputs"));
    // They are beside the configuration, independent of the working folder.
    let mut command = lammps_otf();
    command.current_dir(folder.join("cwd")).args(["run", "../runs/run.toml", "-q", "-o", "../runs/out"]);
    succeed(&mut command);
    assert!(std::fs::read_to_string(folder.join("runs/out/md.in")).unwrap().starts_with("# mine"));
    assert!(before == snapshot(&folder.join("inputs")), "an input was changed");
    assert_eq!(folder.join("cwd").read_dir().unwrap().count(), 0);
    // Without its name in the configuration, no plugin is loaded from its folder.
    let without = toml.replace(&format!("plugins = [{name:?}]\n"), "");
    write(&folder.join("runs"), "run.toml", &without);
    std::fs::copy(&plugin, folder.join("runs/throwingplugin.so")).unwrap();
    std::fs::copy(&plugin, folder.join("cwd/throwingplugin.so")).unwrap();
    let output = command.output().unwrap();
    check_exit(&output, 2, "already holds a run");
    let mut command = lammps_otf();
    command.current_dir(folder.join("cwd")).args(["run", "../runs/run.toml", "-q", "-o", "../runs/without"]);
    check_exit(&command.output().unwrap(), 2, "Unrecognized fix style 'otf/throw'");
}

#[test]
fn requested_output_files_replace_links() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    config(folder, 40);
    check_exit(&run(folder, &["-o", "out"]), 0, "");
    assert!(!Store::open_existing(&folder.join("out/candidates.db")).unwrap().ids(None).unwrap().is_empty());
    std::fs::create_dir_all(folder.join("elsewhere/folder")).unwrap();
    symlink("elsewhere/folder", folder.join("there")).unwrap();
    #[rustfmt::skip]
    let commands: [(&str, &str); 7] = [
        ("cut.extxyz", "extract al.extxyz --center 1 --radius 3 --buffer 2.5 -o"),
        ("there/cut.extxyz", "extract al.extxyz --center 1 --radius 3 --buffer 2.5 -o"),
        ("all.extxyz", "candidates export out/candidates.db extxyz -o"),
        ("there/all.xyz", "candidates export out/candidates.db extxyz -o"),
        ("out/report.html", "report out -o"),
        ("init.toml", "init al.extxyz Al.yaml --force -o"),
        ("copy.db", "candidates backup out/candidates.db"),
    ];
    for ending in ["yaml", "asi"] {
        let name = format!("Al.{ending}");
        std::fs::copy(root().join("potentials/al").join(&name), folder.join(&name)).unwrap();
    }
    for (name, arguments) in commands {
        let precious = write(&folder.join("elsewhere"), "precious", "precious\n");
        symlink(&precious, folder.join(name)).unwrap();
        let mut command = lammps_otf();
        let output = command.current_dir(folder).args(arguments.split(' ')).arg(name).output().unwrap();
        // A copy of a store is a new file.
        check_exit(&output, if name == "copy.db" { 2 } else { 0 }, "");
        assert_eq!(folder.join(name).is_symlink(), name == "copy.db", "{name}");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious\n", "{name} was written through a link");
    }
    assert!(folder.join("elsewhere/folder/cut.extxyz").is_file());
    println!("tried {}: files asked for where a link is: in its place, never through it", commands.len());
}
