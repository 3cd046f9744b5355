// SPDX-License-Identifier: GPL-2.0-or-later
//! Checks of the table `[loop]`: programs, files, the reference potential, and space on the disk.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Findings;
use lammps_otf::active_learning::check_oracle_potential;
use lammps_otf::candidates::Store;
use lammps_otf::config::{InferenceConfig, LoopConfig, OracleConfig};
use lammps_otf::io;
use pace_opt::Model;

/// Time limit of a trial start. Python programs with large packages take many seconds from a cold disk.
const START_LIMIT: Duration = Duration::from_secs(300);

/// Free space below which the disk is reported, in bytes, in addition to the files of the rounds.
const MIN_FREE: u64 = 100 << 20;

/// Checks the table `[loop]`, if there is one.
pub(super) fn check(findings: &mut Findings, config: &InferenceConfig, model: Option<&Model>) {
    let Some(settings) = &config.active_learning else { return };
    potential(findings, config);
    let missing = |findings: &mut Findings, what| {
        findings.fail(what, format!("the table [loop] has no {what}"), format!("Add the table [loop.{what}]."));
    };
    match &settings.oracle {
        None => missing(findings, "oracle"),
        Some(OracleConfig::Lammps { pair_style, .. }) => match check_oracle_potential(config) {
            Ok(()) => findings.ok("oracle", format!("pair_style {pair_style}, evaluated by LAMMPS"), Value::Null),
            Err(error) => findings.fail("oracle", error, "Correct `pair_style` and `pair_coeff` in [loop.oracle]."),
        },
        Some(OracleConfig::External { .. }) => {
            findings.ok("oracle", "external workers label the candidates", Value::Null);
        }
        Some(OracleConfig::Command { command, .. }) => program(findings, "oracle", command, settings),
    }
    match &settings.trainer {
        None => missing(findings, "trainer"),
        Some(trainer) => program(findings, "trainer", &trainer.command, settings),
    }
    files(findings, settings, model);
    disk(findings, config, settings);
}

/// A loop requires an ACE potential with an active set.
fn potential(findings: &mut Findings, config: &InferenceConfig) {
    match config.system.potential.pace_files() {
        None => findings.fail(
            "loop",
            "a loop requires an ACE potential, which the trainer replaces",
            "Set `file` in [potential] to a B-basis (.yaml) with an active set (.asi).",
        ),
        Some((_, active_set)) if !active_set.is_file() => findings.fail(
            "loop",
            format!("the active set {} does not exist", active_set.display()),
            "Make it with pace_activeset.",
        ),
        Some(_) => {}
    }
}

/// Checks that a command can be started, that the files in its arguments exist, and that a Python program finds its packages.
fn program(findings: &mut Findings, what: &'static str, command: &[String], settings: &LoopConfig) {
    let folder = settings.folder();
    let Some((first, arguments)) = command.split_first() else { return };
    let Some(path) = executable(first, folder) else {
        return findings.fail(
            what,
            format!("the program {first:?} is neither a file that can be executed nor in PATH"),
            format!("Correct `command` in [loop.{what}]. It is started in {}.", folder.display()),
        );
    };
    let is_file = |word: &&String| word.contains('/') && !word.contains(['{', '=', ' ', '$']);
    for word in arguments.iter().filter(is_file) {
        if !folder.join(word).exists() {
            let remedy = format!("Paths are relative to {}. If the program creates it, ignore this.", folder.display());
            let add = if word.ends_with(".py") || word.ends_with(".sh") { Findings::fail } else { Findings::warn };
            return add(findings, what, format!("{word} in its arguments does not exist"), remedy);
        }
    }
    let script = std::iter::once(first).chain(arguments).position(|word| word.ends_with(".py"));
    // Another program could do anything with `--help`.
    let text = script.and_then(|at| std::fs::read_to_string(folder.join(&command[at])).ok());
    let (Some(at), true) = (script, text.is_some_and(|text| text.contains("parse_args"))) else {
        return findings.ok(
            what,
            format!("{} was found; it was not started", path.display()),
            json!({ "program": path }),
        );
    };
    match start(&path, &command[1..=at], folder) {
        Ok(()) => findings.ok(what, format!("{} starts", command[at]), json!({ "program": path })),
        Err(why) => findings.fail(
            what,
            format!("{} does not start: {why}", command[at]),
            format!("Install what it imports for {}, or name another Python in [loop.{what}].", path.display()),
        ),
    }
}

/// The file of a program: `name` in the folder if it contains a slash, else in PATH.
fn executable(name: &str, folder: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let can_run = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if name.contains('/') {
        return Some(folder.join(name)).filter(can_run);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(can_run)
}

/// Starts a Python program with `--help`.
///
/// # Errors
/// The last line of its output, or why it was not started.
fn start(program: &Path, arguments: &[String], folder: &Path) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).arg("--help").current_dir(folder);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut errors = child.stderr.take();
    // In a thread, so that a full pipe does not stop the program.
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = errors.as_mut().map(|errors| errors.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let started = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if started.elapsed() > START_LIMIT => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("`--help` took more than {} s", START_LIMIT.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    if status.success() {
        return Ok(());
    }
    let text = reader.join().unwrap_or_default();
    Err(text.lines().rev().find(|line| !line.trim().is_empty()).map_or_else(|| status.to_string(), str::to_owned))
}

/// Checks the structures of `[[loop.check]]` and the stores in `labels`.
fn files(findings: &mut Findings, settings: &LoopConfig, model: Option<&Model>) {
    for check in &settings.checks {
        let structure = match io::read(&check.structure, None) {
            Ok(structure) => structure,
            Err(error) => {
                let message = format!("the check {:?} cannot be read: {error}", check.name);
                findings.fail("check", message, "Correct `structure` in [[loop.check]].");
                continue;
            }
        };
        let unknown = model.map_or(Vec::new(), |model| super::inspect::unknown_elements(&structure, model));
        if unknown.is_empty() {
            let message = format!("{}: {} atoms", check.name, structure.len());
            findings.ok("check", message, json!({ "name": check.name, "atoms": structure.len() }));
        } else {
            findings.fail(
                "check",
                format!("the check {:?} has {}, which the potential does not cover", check.name, unknown.join(", ")),
                "Remove the check, or use another potential.",
            );
        }
    }
    for run in &settings.runs {
        let Some(path) = &run.structure else { continue };
        if let Err(error) = io::read(path, None) {
            findings.fail("run", format!("the run {:?}: {error}", run.name), "Correct `structure` in [[loop.run]].");
        }
    }
    for path in settings.labels.iter().flatten() {
        match Store::open_read_only(path) {
            Ok(_) => findings.ok("labels", path.display().to_string(), Value::Null),
            Err(error) => findings.error("labels", &error),
        }
    }
}

/// Compares the free space in the folder of the configuration with the size of the files of all rounds.
fn disk(findings: &mut Findings, config: &InferenceConfig, settings: &LoopConfig) {
    let size = |path: &Path| path.metadata().map_or(0, |m| m.len());
    let potential = config.system.potential.pace_files().map_or(0, |(file, set)| size(&file) + size(&set));
    // A restart file has about 130 bytes for each atom; a structure file has about as many.
    let restart = 2 * size(&config.system.structure);
    let needed = u64::from(settings.max_rounds) * (potential + restart) + MIN_FREE;
    let Ok(found) = rustix::fs::statvfs(settings.folder()) else { return };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let mebibytes = |bytes: u64| bytes >> 20;
    if free < needed {
        findings.warn(
            "disk",
            format!(
                "{} MiB are free, and {} rounds may need {} MiB",
                mebibytes(free),
                settings.max_rounds,
                mebibytes(needed)
            ),
            "Choose another folder with --output.",
        );
    } else {
        findings.ok("disk", format!("{} MiB are free", mebibytes(free)), json!({ "free": free, "needed": needed }));
    }
}
