// SPDX-License-Identifier: GPL-2.0-or-later
//! Shared parts of the tests: the programs, the test potential, and new folders.
#![allow(dead_code)]

pub mod breaking;
pub mod throwing;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Time in seconds after which a process is considered to hang. It is far longer than any process requires on a slow
/// and busy machine, and not a measure of speed.
pub const HANG: u64 = 900;

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file of `.deps/`. If it is missing, the test fails with the command that creates it.
pub fn dependency(name: &str) -> PathBuf {
    let path = root().join(".deps").join(name);
    assert!(path.exists(), "{} is missing: run ci/setup", path.display());
    path
}

pub fn python() -> Command {
    let mut command =
        Command::new(std::env::var_os("LAMMPS_OTF_PYTHON").map_or_else(|| dependency("bin/python3"), PathBuf::from));
    command.env("OMP_NUM_THREADS", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

pub fn script(name: &str) -> PathBuf {
    root().join("tests/python").join(name)
}

pub fn lammps_otf() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lammps-otf"))
}

/// Plain `lmp` with the same plugins.
pub fn lmp() -> Command {
    let mut command = Command::new(dependency("bin/lmp"));
    command.env("LAMMPS_PLUGIN_PATH", dependency("lib/lammps/plugins"));
    command
}

/// Runs plain `lmp` on `in.lammps` in `folder`; exit code 124 if it hangs.
pub fn run_lmp(folder: &Path) -> Output {
    limited(dependency("bin/lmp"))
        .args(["-in", "in.lammps", "-log", "none", "-nocite"])
        .env("LAMMPS_PLUGIN_PATH", dependency("lib/lammps/plugins"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// MPI allows calls from one thread at a time, but the tests of a file run on several threads.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    assert!(output.status.success(), "{command:?}\n{}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// An fcc crystal of Al as extended XYZ with `n` cubic cells along each edge.
pub fn aluminium(n: usize) -> String {
    let a = 4.045;
    let edge = a * n as f64;
    let mut text = format!(
        "{}\nLattice=\"{edge} 0 0 0 {edge} 0 0 0 {edge}\" Properties=species:S:1:pos:R:3 pbc=\"T T T\"\n",
        4 * n * n * n
    );
    for i in 0..n {
        for j in 0..n {
            for k in 0..n {
                for [x, y, z] in [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]] {
                    let at = [i as f64 + x, j as f64 + y, k as f64 + z].map(|c| c * a);
                    text += &format!("Al {} {} {}\n", at[0], at[1], at[2]);
                }
            }
        }
    }
    text
}

pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Number of files whose name is that of `path` followed by `more`.
pub fn files_with(path: &Path, more: &str) -> usize {
    let start = format!("{}{more}", path.file_name().unwrap().to_str().unwrap());
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_str().unwrap().starts_with(&start)).count()
}

/// A configuration for 500 atoms of Al with the test potential. `more` is inserted before its tables.
pub fn al_config(folder: &Path, more: &str) -> PathBuf {
    write(folder, "al.extxyz", &aluminium(5));
    let potential = root().join("potentials/al/Al.yaml");
    let text = format!(
        "structure = \"al.extxyz\"\n{more}\n[potential]\nfile = {:?}\n[embedding]\nradius = 4.0\n",
        potential.display().to_string()
    );
    write(folder, "run.toml", &text)
}

/// The EAM potential for Al distributed with LAMMPS: fast, and stable at any temperature.
pub fn eam_file() -> PathBuf {
    dependency("share/lammps/potentials/Al_mm.eam.fs")
}

/// The tables `[loop.oracle]`, with that potential, and `[loop.trainer]`, the trainer of the examples with the training data of the potential
/// for Al, which are written to `data` unless they are there.
pub fn eam_loop(data: &Path) -> String {
    format!(
        "[loop.oracle]\ntype = \"lammps\"\npair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]\n[loop.trainer]\n{}\n",
        eam_file().display(),
        linear_trainer(data)
    )
}

/// The command of that trainer.
pub fn linear_trainer(data: &Path) -> String {
    if !data.exists() {
        succeed(python().arg(root().join("potentials/al/fit.py")).arg("--data").arg(data));
    }
    let (python, program) = (dependency("bin/python3"), root().join("examples/trainers/pace_linear.py"));
    let (base, test) = (data.join("training.extxyz"), data.join("testing.extxyz"));
    format!(
        "command = [{python:?}, {program:?}, \"--base\", {base:?}, \"--test\", {test:?}, \"--labelled\", \"{{labelled}}\", \
         \"--potential\", \"{{potential}}\", \"--active-set\", \"{{active_set}}\", \"--output\", \"{{output}}\"]"
    )
}

/// A configuration for Al with EAM and `cells` cubic cells along each edge. `more` is inserted before its tables.
pub fn eam_config(folder: &Path, cells: usize, more: &str) -> PathBuf {
    write(folder, "al.extxyz", &aluminium(cells));
    // The cutoff of the potential is 6.5 Å, and a sphere of 7.5 Å gives a valid cut-out.
    let text = format!(
        "structure = \"al.extxyz\"\n{more}\n[potential]\npair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]\n\
         cutoff = 6.5\n[embedding]\nradius = 4.0\nbuffer = 3.5\n",
        eam_file().display()
    );
    write(folder, "run.toml", &text)
}

pub fn json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

pub fn lines(path: &Path) -> Vec<serde_json::Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Sets the wall times of a poll to zero, so that polls can be compared.
pub fn without_times(poll: &mut serde_json::Value) {
    (poll["seconds"], poll["ns_per_day"]) = (0.into(), 0.into());
}

/// `mpiexec -n ranks`, to be followed by a program. A hang ends with code 124.
pub fn mpiexec(ranks: usize) -> Command {
    let mut command = limited(dependency("bin/mpiexec"));
    command.args(["-n", &ranks.to_string()]);
    command
}

/// Runs `run.toml` in `folder` on so many ranks.
pub fn run_toml(folder: &Path, ranks: usize, more: &[&str]) -> Output {
    let mut command = match ranks {
        1 => lammps_otf(),
        _ => {
            let mut command = mpiexec(ranks);
            command.arg(env!("CARGO_BIN_EXE_lammps-otf"));
            command
        }
    };
    command.current_dir(folder).args(["run", "run.toml", "-q"]).args(more).output().unwrap()
}

/// Runs `run.toml` in `folder` on one rank, and kills it as soon as `ready` returns `true`.
pub fn kill_when(folder: &Path, more: &[&str], mut ready: impl FnMut() -> bool) {
    let mut child = lammps_otf().current_dir(folder).args(["run", "run.toml", "-q"]).args(more).spawn().unwrap();
    wait_for("the state to be killed in", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        ready()
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A command that is stopped with code 124 if it hangs.
pub fn limited(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", &HANG.to_string()]).arg(program);
    command
}

/// Waits until `ready` returns `true`; fails after the time limit.
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < Duration::from_secs(HANG), "waited {HANG} s for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The process id of this rank of the job that runs in `folder`.
pub fn process(folder: &Path, rank: usize) -> Option<u32> {
    let place = folder.canonicalize().unwrap();
    let wanted = format!("PMI_RANK={rank}");
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let here = std::fs::read_link(entry.path().join("cwd")).ok()? == place;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        let ranked = environment.split(|b| *b == 0).any(|variable| variable == wanted.as_bytes());
        (here && ranked && name.trim() == "lammps-otf").then_some(pid)
    })
}
