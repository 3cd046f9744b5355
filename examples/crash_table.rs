// SPDX-License-Identifier: GPL-2.0-or-later
//! Results of runs that crash: `cargo run --release --example crash_table` writes docs/crashes.md.
//!
//! Runs the command `lammps-otf`, which it builds first, on one rank and on two.

#[path = "../tests/common/breaking.rs"]
mod breaking;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lammps_otf::candidates::Store;

type Failure = Box<dyn std::error::Error>;

/// One row of the table.
struct Row {
    what: String,
    codes: Vec<Option<i32>>,
    noticed: String,
    reason: String,
    stored: String,
}

fn main() -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--bin", "lammps-otf", "--profile", profile])
        .current_dir(root)
        .status()?;
    if !built.success() {
        return Err("the command cannot be built".into());
    }
    let program = std::env::current_exe()?.with_file_name("../lammps-otf").canonicalize()?;
    let mut rows = Vec::new();
    for way in &breaking::WAYS {
        let text = format!("structure = \"al.extxyz\"\n{}{}", way.keys(), eam(root));
        rows.push(row(root, &program, way.name, |_| text.clone(), "exec \"$@\"")?);
    }
    let table = |folder: &Path| {
        let file = folder.join("morse.table");
        std::fs::write(&file, breaking::morse_table(2.3)).expect("a temporary folder takes a file");
        breaking::table_config(&file)
    };
    rows.push(row(root, &program, "an exception in the pair style", table, "exec \"$@\"")?);
    let soft = format!(
        "structure = {:?}\ntemperature = [300, 2500]\nsteps = 6000\nseed = 12345\nsampling_interval = 10\n\
         uncertainty_threshold = 5.0\nmode = \"flag\"\nmax_candidates = 4\n[potential]\nfile = {:?}\n[embedding]\nradius = 4.0\n",
        root.join("examples/al-500.extxyz"),
        root.join("potentials/al-soft/Al.yaml"),
    );
    let what = "an exploding potential (no core repulsion, heated from 300 to 2500 K, γ above 5 only flagged)";
    rows.push(row(root, &program, what, |_| soft.clone(), "exec \"$@\"")?);
    let small = format!(
        "structure = \"al.extxyz\"\n{}{}",
        breaking::COMMON
            .replace("steps = 100\n", "steps = 1000000\n")
            .replace("sampling_interval = 10", "sampling_interval = 1")
            + "setup = [\"compute u all ke/atom\"]\n",
        eam(root)
    );
    // A file system of 3 MB, mounted in a user namespace.
    let mount = "exec unshare --user --map-root-user --mount bash -c 'mkdir disk kept && \
                 mount -t tmpfs -o size=3m none disk && cp al.extxyz run.toml disk/ && cd disk && \"$@\"; code=$?; \
                 cp -r out ..; exit $code' bash \"$@\"";
    rows.push(row(root, &program, "a full disk (a file system of 3 MB)", |_| small.clone(), mount)?);

    let text = document(&rows);
    print!("{text}");
    std::fs::write(root.join("docs/crashes.md"), text)?;
    Ok(())
}

fn eam(root: &Path) -> String {
    format!(
        "[potential]\npair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]\ncutoff = 6.5\n\
         [embedding]\nradius = 4.0\nbuffer = 3.5\n",
        root.join(".deps/share/lammps/potentials/Al_mm.eam.fs").display()
    )
}

/// 108 atoms of fcc aluminium.
fn crystal() -> String {
    let edge = 3.0 * 4.045;
    let mut text = format!("108\nLattice=\"{edge} 0 0 0 {edge} 0 0 0 {edge}\" Properties=species:S:1:pos:R:3\n");
    for n in 0..27 {
        let corner = [n / 9, n / 3 % 3, n % 3].map(f64::from);
        for basis in [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]] {
            let [x, y, z] = [0, 1, 2].map(|k| 4.045 * (corner[k] + basis[k]));
            let _ = writeln!(text, "Al {x} {y} {z}");
        }
    }
    text
}

/// Runs a simulation that crashes in a new folder, on one rank and on two, and checks its files. `shell` is the command that starts
/// `"$@"`.
fn row(root: &Path, program: &Path, what: &str, config: impl Fn(&Path) -> String, shell: &str) -> Result<Row, Failure> {
    let mut row = Row { what: what.into(), codes: vec![], noticed: "".into(), reason: "".into(), stored: "".into() };
    for ranks in [1, 2] {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("al.extxyz"), crystal())?;
        std::fs::write(folder.path().join("run.toml"), config(folder.path()))?;
        let mut command = Command::new("timeout");
        command.args(["300", "bash", "-c", shell, "bash"]);
        if ranks > 1 {
            command.arg(root.join(".deps/bin/mpiexec")).args(["-n", &ranks.to_string()]);
        }
        command.arg(program).args(["run", "run.toml", "-o", "out", "-q"]).current_dir(folder.path());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        row.codes.push(command.status()?.code());
        let (noticed, reason, stored) =
            inspect(&folder.path().join("out")).map_err(|e| format!("{what}, {ranks} ranks: {e}"))?;
        if ranks == 1 {
            (row.noticed, row.reason) = (noticed, reason);
        }
        if row.stored != stored {
            row.stored += if row.stored.is_empty() { "" } else { "; on two ranks " };
            row.stored += &stored;
        }
    }
    Ok(row)
}

/// The step and the reason of the crash, and whether the candidates are valid.
fn inspect(out: &Path) -> Result<(String, String, String), Failure> {
    let file = out.join("result.json");
    let text = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let result: serde_json::Value = serde_json::from_slice(&text)?;
    // Remove the temporary folder of this run from the text.
    let reason = result["crash"]["reason"].as_str().unwrap_or("none");
    let parent: PathBuf = out.parent().unwrap_or(out).canonicalize()?;
    let reason = reason.replace(&format!("{}/", parent.display()), "");
    let noticed = result["trigger_step"].to_string();
    let store = Store::open_existing(&out.join("candidates.db"))?;
    store.check()?;
    let ids = store.ids(None)?;
    let mut all = Vec::new();
    for id in ids {
        let stored = store.get(id)?;
        let (structure, keys) = (&stored.candidate.structure, stored.keys());
        let valid = structure.positions.iter().all(|x| x.is_finite()) && structure.validate(1.5).is_ok();
        all.push(format!(
            "{} atoms of step {} around atom {}: {}",
            structure.len(),
            keys.step.unwrap_or(-1),
            keys.center_id.unwrap_or(-1),
            if valid { "valid" } else { "NOT VALID" }
        ));
    }
    let stored = if all.is_empty() { "NOTHING".to_owned() } else { all.join("; ") };
    Ok((noticed, reason, stored))
}

fn document(rows: &[Row]) -> String {
    let mut text = String::from(
        "# Behaviour of broken runs\n\n\
         Made by `cargo run --release --example crash_table`: each run on one rank and on two. `tests/crashes.rs` repeats the\n\
         short runs. In every case the database was opened and checked afterwards. The candidate is the suspect region of the\n\
         last valid frame. If one rank fails alone, it is the region that was last sent to all ranks. If γ is monitored, regions\n\
         that were flagged before are listed too. Valid: finite coordinates, and no two atoms nearer than 1.5 Å.\n\n\
         | what breaks | exit code on 1, 2 ranks | noticed at step | what was found | stored |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let codes: Vec<String> = row.codes.iter().map(|c| c.map_or("none".into(), |c| c.to_string())).collect();
        let reason = row.reason.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        let _ = writeln!(text, "| {} | {} | {} | {reason} | {} |", row.what, codes.join(", "), row.noticed, row.stored);
    }
    text += "\nA run reserves 1 MB of disk space. When a file cannot be written, the reserve is released, and the last\n\
             candidate and `result.json` are written in its place. If this also fails, because other programs fill the disk\n\
             at the same time, the exit code is 1, the message names the file, and earlier results are intact: the\n\
             database makes each change completely or not at all, and every other file is written under a temporary name first.\n";
    text
}
