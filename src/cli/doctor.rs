// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf doctor`: checks of the installation and of a configuration, with remedies.

mod learning;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;
use serde_json::{Value, json};

use super::run::{abort, read_config};
use super::{Exit, Verbosity, inspect, style};
use lammps_otf::comm::{CollectiveError, Comm, Session};
use lammps_otf::config::{Engine, InferenceConfig, Mode, Ramp, Uncertainty};
use lammps_otf::embedding::EmbeddingExtractor;
use lammps_otf::lammps::{Build, Kokkos, Lammps, PairDevice, loaded_libraries, mpi_libraries};
use lammps_otf::runner::{self, LammpsRunner, SimulationResult};
use lammps_otf::script::{self, Outputs};
use lammps_otf::simulation::Poll;
use lammps_otf::structure::{Structure, element_from_symbol};
use lammps_otf::{io, potential, simulation};
use pace_opt::{ActiveSet, Model};

#[derive(Debug, clap::Args)]
pub(super) struct DoctorArguments {
    /// Configuration to check too: its structure, its potential, and a few steps of its run, with their speed
    config: Option<PathBuf>,
    /// Print the findings as JSON on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Failure,
}

/// Result of one check.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    /// The subject of the check.
    what: &'static str,
    message: String,
    /// The remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// Machine-readable details.
    #[serde(skip_serializing_if = "Value::is_null")]
    details: Value,
}

/// The findings of this rank. Rank 0 prints its own.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, what: &'static str, message: impl Into<String>, details: Value) {
        self.0.push(Finding { level: Level::Ok, what, message: message.into(), remedy: None, details });
    }

    fn warn(&mut self, what: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        let (level, details) = (Level::Warning, Value::Null);
        self.0.push(Finding { level, what, message: message.into(), remedy: Some(remedy.into()), details });
    }

    fn fail(&mut self, what: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        let (level, details) = (Level::Failure, Value::Null);
        self.0.push(Finding { level, what, message: message.into(), remedy: Some(remedy.into()), details });
    }

    /// Adds an error whose message includes the remedy.
    fn error(&mut self, what: &'static str, error: &dyn std::fmt::Display) {
        let (level, details) = (Level::Failure, Value::Null);
        self.0.push(Finding { level, what, message: error.to_string(), remedy: None, details });
    }

    fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|f| f.level == level).count()
    }
}

/// Runs all checks and prints the findings.
///
/// # MPI
/// Collective over the job.
pub(super) fn run(arguments: &DoctorArguments, session: &Session, verbosity: Verbosity) -> Exit {
    let comm = session.world();
    let mut findings = Findings::default();
    let program = std::env::current_exe().map(|p| p.display().to_string()).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    findings.ok(
        "program",
        format!("lammps-otf {version} at {program}"),
        json!({ "version": version, "path": program }),
    );
    mpi(&mut findings, session);

    let config = arguments.config.as_deref().map(|path| (path, read_config(path, &comm)));
    let config = match config {
        Some((path, Ok(config))) => {
            findings.ok("config", summary(path, &config), json!(config));
            config.remarks().into_iter().for_each(|remark| findings.warn("settings", remark.message, remark.remedy));
            Some(config)
        }
        Some((_, Err(error))) => {
            findings.error("config", &error);
            None
        }
        None => None,
    };
    let (usable, device) = lammps(&mut findings, config.as_ref(), &comm);
    if let Some(config) = &config {
        let mut atoms = 0;
        if comm.is_root() {
            let model = potential_files(&mut findings, config, device);
            atoms = structure(&mut findings, config, model.as_ref());
            learning::check(&mut findings, config, model.as_ref());
        }
        // The ranks must agree, because the trial run is collective and only rank 0 has checked the files.
        if !comm.any(!usable || findings.count(Level::Failure) > 0) {
            // 0 on the other ranks, which have not read the structure.
            let mut atoms = [atoms as i64];
            comm.sum_i64(&mut atoms);
            trial_run(&mut findings, config, atoms[0] as u64, &comm);
        }
    }
    if comm.is_root() {
        python(&mut findings);
        print_findings(&findings, arguments.json, verbosity);
    }
    if comm.any(findings.count(Level::Failure) > 0) { Exit::BadInput } else { Exit::Completed }
}

fn summary(path: &Path, config: &InferenceConfig) -> String {
    let watched = match config.watch.uncertainty {
        Uncertainty::None => "γ not monitored".to_owned(),
        _ => format!(
            "γ every {} steps, threshold {}",
            config.watch.sampling_interval, config.watch.uncertainty_threshold
        ),
    };
    let (start, end) = (config.md.temperature.start(), config.md.temperature.end());
    let ramp = if start == end { format!("{start} K") } else { format!("{start} to {end} K") };
    format!("{}: {} steps of {} ps, {ramp}, {watched}", path.display(), config.md.steps, config.md.timestep)
}

fn mpi(findings: &mut Findings, session: &Session) {
    let comm = session.world();
    let Some(library) = lammps_otf::comm::library() else {
        findings.ok("mpi", "none: this program was built without MPI", Value::Null);
        return;
    };
    let (files, ranks) = (mpi_libraries(), comm.size());
    let message = format!("{library}, {}, {}", files.join(", "), counted(ranks as u64, "rank"));
    // Set by the launchers of MPICH, Open MPI and Slurm.
    let launched = ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok()?.parse::<usize>().ok().map(|n| (name, n)))
        .find(|(_, n)| *n > 1);
    match launched {
        Some((name, n)) if ranks == 1 => findings.fail(
            "mpi",
            format!("{message}, but {n} processes were started ({name}): each of them runs alone"),
            "Use the mpiexec of this MPI library, or under Slurm the matching `srun --mpi=…` (`srun --mpi=list` lists them).",
        ),
        _ => findings.ok("mpi", message, json!({ "library": library, "files": files, "ranks": ranks })),
    }
}

/// Opens LAMMPS and checks it. Returns whether a run can start, and where the pair style of the configuration runs, if known.
fn lammps(findings: &mut Findings, config: Option<&InferenceConfig>, comm: &Comm) -> (bool, Option<PairDevice>) {
    let mut arguments: Vec<&str> = vec!["-screen", "none", "-log", "none", "-nocite"];
    let more = config.map(InferenceConfig::lammps_arguments).unwrap_or_default();
    arguments.extend(more.iter().map(String::as_str));
    let mut lammps = match comm.agree(Lammps::open(&arguments, comm).map_err(super::run::SetupError::from)) {
        Ok(lammps) => lammps,
        Err(error) => {
            abort_on_rank_failure(&error, comm);
            findings.error("liblammps", &error);
            return (false, None);
        }
    };
    let build = Build::of(&lammps);
    let files = loaded_libraries(|name| name.starts_with("liblammps"));
    let with = |has: bool| if has { "with" } else { "without" };
    let openmp = build.openmp.map_or(String::new(), |has| format!("{} OpenMP, ", with(has)));
    findings.ok(
        "liblammps",
        format!(
            "version {}, {}, {} packages, {} MPI, {openmp}exceptions on, {}-bit atom ids, {}-bit image flags",
            build.version,
            files.join(", "),
            build.packages.len(),
            with(build.mpi),
            build.id_bits,
            build.image_bits
        ),
        json!({ "files": files, "build": build }),
    );

    let uses_pace = config.is_none_or(|c| c.system.potential.file.is_some());
    let uses_engine =
        |engine| config.is_some_and(|c| c.system.potential.file.is_some() && c.system.potential.engine == engine);
    let plugins = config.map_or(&[][..], |c| &c.lammps.plugins);
    // `pace` is provided together with `pace/extrapolation`.
    let found =
        comm.agree(lammps.require_pair_style("pace/extrapolation", plugins).map_err(super::run::SetupError::from));
    let loaded = loaded_libraries(|name| name.ends_with("plugin.so"));
    let _ = found.as_ref().inspect_err(|error| abort_on_rank_failure(*error, comm));
    let opt =
        comm.agree(lammps.require_pair_style("pace/extrapolation/opt", &[]).map_err(super::run::SetupError::from));
    let _ = opt.as_ref().inspect_err(|error| abort_on_rank_failure(*error, comm));
    let built_in = build.packages.iter().any(|p| p == "ML-PACE");
    match &found {
        Ok(()) if built_in => findings.ok("ml-pace", "built into liblammps", json!({ "built_in": true })),
        Ok(()) => {
            let message = format!("from a plugin; loaded: {}", loaded.join(", "));
            findings.ok("ml-pace", message, json!({ "built_in": false, "plugins": loaded }));
        }
        Err(error) if uses_engine(Engine::MlPace) || config.is_none() && opt.is_err() => {
            findings.error("ml-pace", error)
        }
        Err(_) if config.is_none() => {
            findings.ok("ml-pace", "not found; required only by `engine = \"ml-pace\"`", Value::Null);
        }
        Err(_) => findings.ok("ml-pace", "not found; not required by this configuration", Value::Null),
    }
    let styles: Vec<&str> = ["pace", "pace/opt", "pace/extrapolation", "pace/extrapolation/opt"]
        .into_iter()
        .filter(|style| lammps.has_style("pair", style))
        .collect();
    let with_gamma: Vec<&str> = styles.iter().copied().filter(|s| s.starts_with("pace/extrapolation")).collect();
    match opt {
        Err(error) if uses_engine(Engine::Opt) => findings.error("pair styles", &error),
        Err(_) if uses_pace && found.is_ok() => findings.warn(
            "pair styles",
            format!("with γ: {}; the faster `pace/extrapolation/opt` was not found", with_gamma.join(", ")),
            "It is required by `engine = \"opt\"`, the default. `ci/install` and `ci/setup` build it.",
        ),
        _ => findings.ok("pair styles", format!("with γ: {}", with_gamma.join(", ")), json!(styles)),
    }
    match lammps.load_pause_fix() {
        Ok(true) => findings.ok("pauses", "within a LAMMPS run, with `fix otf/pause`", json!(true)),
        Ok(false) => findings.warn(
            "pauses",
            "every poll ends the LAMMPS run and starts a new one: the plugin with `fix otf/pause` was not found or was \
             built for another LAMMPS version",
            "The plugin saves time for small systems. `ci/install` and `ci/setup` build it.",
        ),
        Err(error) => findings.error("pauses", &error),
    }
    let device = match config {
        // The ranks must agree, because the commands below are collective.
        Some(config) if !comm.any(findings.count(Level::Failure) > 0) => {
            device(findings, config, &mut lammps, &build, comm)
        }
        _ => {
            if let Some(Kokkos { gpu, precision }) = build.kokkos {
                let gpu = gpu.map_or_else(|| "for CPUs".to_owned(), |api| format!("for GPUs ({api})"));
                findings.ok(
                    "device",
                    format!("KOKKOS {gpu}, {precision} precision"),
                    json!({ "kokkos": build.kokkos }),
                );
            }
            None
        }
    };
    (findings.count(Level::Failure) == 0, device)
}

/// The oldest LAMMPS whose library copies arrays of the atoms from a GPU when they are read (LAMMPS pull request 5014).
const COPIES_WHEN_READ: i32 = 20_260_704;

/// Determines where the pair style of `config` runs, with a trial of the command `pair_style`, and checks the settings that a GPU
/// requires. `None` if the trial fails; the trial run then reports why.
fn device(
    findings: &mut Findings,
    config: &InferenceConfig,
    lammps: &mut Lammps,
    build: &Build,
    comm: &Comm,
) -> Option<PairDevice> {
    let potential = &config.system.potential;
    let pace = potential.file.is_some();
    let pair_style = script::pair_style(potential, config.watch.uncertainty == Uncertainty::Pace);
    let style = pair_style.split_whitespace().next().unwrap_or("none");
    let units = config.system.units.name();
    let tried = lammps
        .command(&format!("units {units}\natom_style atomic\nnewton on\npair_style {pair_style}"))
        .and_then(|()| lammps.pair_device(style));
    let device = match comm.agree(tried.map_err(super::run::SetupError::from)) {
        Ok(device) => device,
        Err(error) => {
            abort_on_rank_failure(&error, comm);
            return None;
        }
    };
    let arguments = config.lammps_arguments();
    let has = |pair: [&str; 2]| arguments.windows(2).any(|words| words == pair);
    let asked = arguments.windows(2).any(|w| matches!(w[0].as_str(), "-suffix" | "-sf") && w[1].starts_with("kk"))
        || config.lammps.suffix.iter().flat_map(|s| s.split_whitespace()).any(|word| word.starts_with("kk"));
    let gpu = build.kokkos.and_then(|kokkos| kokkos.gpu);
    let on_gpu = gpu.map_or_else(String::new, |_| format!(", and for a GPU {GPU_PACKAGE}"));
    match device {
        PairDevice::Cpu if asked && pace && potential.engine == Engine::Opt => findings.warn(
            "device",
            format!("`{style}` runs on the CPU: it has no KOKKOS variant, so that `suffix = \"kk\"` affects other styles only"),
            format!("Set `engine = \"ml-pace\"` in [potential], whose pair style has one{on_gpu}. Or remove the suffix."),
        ),
        PairDevice::Cpu if asked => findings.warn(
            "device",
            format!("`{style}` runs on the CPU: this liblammps has no `{style}/kk`"),
            if pace {
                "Build LAMMPS with both -DPKG_KOKKOS=on and -DPKG_ML-PACE=on: a plugin has no variant for KOKKOS."
            } else {
                "Remove the suffix, or use a pair style that has a variant for KOKKOS."
            },
        ),
        PairDevice::Cpu => {
            let hint = match gpu.filter(|_| pace) {
                Some(api) => format!(
                    "; this liblammps can use a GPU (KOKKOS, {api}) with `engine = \"ml-pace\"` in [potential], \
                     `suffix = \"kk\"`, `lammps_args = [\"-kokkos\", \"on\", \"gpus\", \"1\"]` and {GPU_PACKAGE}"
                ),
                None => String::new(),
            };
            findings.ok("device", format!("`{style}` runs on the CPU{hint}"), json!({ "pair_style": device }));
        }
        PairDevice::KokkosCpu => {
            findings.ok("device", format!("`{style}/kk` runs on the CPU, with KOKKOS"), json!({ "pair_style": device }))
        }
        PairDevice::KokkosGpu => {
            let api = gpu.unwrap_or("unknown");
            let details = json!({ "pair_style": device, "gpus": lammps.setting("kokkos_ngpus"), "api": api });
            findings.ok("device", format!("`{style}/kk` runs on a GPU, with KOKKOS ({api})"), details);
            if pace && !has(["neigh", "half"]) {
                findings.warn(
                    "device",
                    "on a GPU the pair style of ML-PACE refuses the full neighbour list, which is KOKKOS's default there",
                    format!("Set {GPU_PACKAGE}."),
                );
            }
            if pace && let Err(error) = device.check_precision() {
                findings.error("device", &error);
            }
        }
    }
    if device == PairDevice::KokkosGpu && !lammps.has_style("fix", script::GAMMA_STYLE) {
        let old = if build.version < COPIES_WHEN_READ {
            format!(
                ". This LAMMPS, of the version {}, also copies them at the end of each run only, so that γ and positions that \
                 a fix or a library call reads at any other time can be out of date",
                build.version
            )
        } else {
            String::new()
        };
        findings.warn(
            "device",
            format!("without the plugin of the pauses, `fix pair` makes KOKKOS copy all atoms from and to the GPU on each step{old}"),
            "`ci/install` and `ci/setup` build the plugin for this LAMMPS.",
        );
    }
    Some(device)
}

/// The setting that ML-PACE's pair style requires on a GPU.
const GPU_PACKAGE: &str = "`package = [\"kokkos newton on neigh half\"]`";

/// Checks the files of an ML-PACE potential. Returns the model if this program can read it.
fn potential_files(findings: &mut Findings, config: &InferenceConfig, device: Option<PairDevice>) -> Option<Model> {
    let Some((file, active_set)) = config.system.potential.pace_files() else {
        let style = config.system.potential.pair_style.as_deref().unwrap_or("none");
        findings.ok("potential", format!("pair_style {style}, evaluated by LAMMPS"), Value::Null);
        return None;
    };
    let model = match Model::read(&file) {
        Ok(model) => model,
        Err(pace_opt::Error::Unsupported(what)) if config.system.potential.engine == Engine::Opt => {
            let remedy = "Set `engine = \"ml-pace\"` in [potential], which supports it.";
            findings.fail("potential", format!("not supported by the default engine: {what}"), remedy);
            return None;
        }
        Err(pace_opt::Error::Unsupported(what)) => {
            let message = format!("{what}; this program cannot check it, but ML-PACE reads it");
            findings.ok("potential", message, Value::Null);
            return None;
        }
        Err(error) => {
            findings.fail("potential", error.to_string(), "Copy the file again from its source.");
            return None;
        }
    };
    if config.system.potential.engine == Engine::MlPace
        && let Some(fault) = potential::ml_pace_fault(&model)
    {
        findings.fail("potential", format!("{}: {fault}", file.display()), potential::ML_PACE_REMEDY);
        return None;
    }
    let cutoff = model.cutoff();
    findings.ok(
        "potential",
        format!("{}: {}", file.display(), inspect::describe_model(&model)),
        json!({ "file": file, "elements": model.elements, "cutoff": cutoff,
                "functions": model.functions.iter().map(Vec::len).collect::<Vec<_>>() }),
    );
    if config.watch.uncertainty == Uncertainty::Pace {
        match ActiveSet::read(&active_set, &model) {
            // Its variant for KOKKOS refuses others also on the CPU.
            Ok(set) if !set.linear && device.is_some_and(|device| device != PairDevice::Cpu) => findings.fail(
                "active set",
                format!("{}: the pair style of ML-PACE for KOKKOS requires a linear active set", active_set.display()),
                "Make a linear one with pace_activeset, or remove `suffix = \"kk\"`.",
            ),
            Ok(set) => findings.ok(
                "active set",
                format!("{}: {}", active_set.display(), inspect::describe_active_set(&set, &model)),
                json!({ "file": active_set, "linear": set.linear, "rows": set.size }),
            ),
            Err(error) => findings.fail(
                "active set",
                error.to_string(),
                format!("Make it from this potential: pace_activeset -d <fitting data> {}", file.display()),
            ),
        }
    }
    Some(model)
}

/// Checks the structure. Returns the number of its atoms; 0 if it is not known.
fn structure(findings: &mut Findings, config: &InferenceConfig, model: Option<&Model>) -> u64 {
    if !config.system.create.is_empty() {
        findings.ok("structure", "created by `create`; checked by the trial run below", Value::Null);
        return 0;
    }
    let hint: Option<Vec<_>> = config.system.elements.iter().map(|s| element_from_symbol(s)).collect();
    let hint = hint.filter(|list| !list.is_empty());
    let structure = match io::read_with_warnings(&config.system.structure, hint.as_deref(), io::Frame::Last) {
        Ok((structure, notes)) => {
            notes
                .into_iter()
                .for_each(|note| findings.warn("structure", note, "Correct the file if this is not intended."));
            structure
        }
        Err(error) => {
            findings.error("structure", &error);
            return 0;
        }
    };
    let atoms = structure.len() as u64;
    let name = config.system.structure.display();
    if let Some(mismatch) = structure.velocity_temperature().and_then(|kelvin| config.check_velocities(kelvin)) {
        let add = if mismatch.is_error { Findings::fail } else { Findings::warn };
        add(findings, "velocities", format!("{name}: {}", mismatch.remark.message), mismatch.remark.remedy);
    }
    if let Err(error) = structure.validate(config.limits.min_distance) {
        findings.fail("structure", format!("{name}: {error}"), "Relax the structure, or correct the file.");
        return atoms;
    }
    if let Some(model) = model {
        let unknown = inspect::unknown_elements(&structure, model);
        if !unknown.is_empty() {
            findings.fail(
                "structure",
                format!("{name} has {}, which the potential does not cover", unknown.join(", ")),
                format!(
                    "The potential covers {}. Correct the structure, or use another potential.",
                    model.elements.join(", ")
                ),
            );
            return atoms;
        }
    }
    let heights = structure.cell.heights();
    let fixed: usize = structure.fixed.iter().map(|fixed| fixed.ids.len()).sum();
    let distance = structure.closest_pair().map_or(f64::INFINITY, |pair| pair.distance);
    findings.ok(
        "structure",
        format!(
            "{name}: {} atoms ({}){}, cell {} Å thick, smallest distance {distance:.2} Å",
            structure.len(),
            inspect::composition(&structure),
            if fixed > 0 { format!(", {fixed} of them fixed by `move_mask`") } else { String::new() },
            heights.map(|h| format!("{h:.2}")).join(" × ")
        ),
        json!({ "atoms": structure.len(), "elements": inspect::symbols(&structure), "heights": heights,
                "fixed": fixed, "pbc": structure.cell.pbc, "smallest_distance": distance }),
    );
    let cutoff = model.map(Model::cutoff).or_else(|| potential::cutoff(&config.system.potential).ok().flatten());
    match cutoff {
        Some(cutoff) => cut_outs(findings, config, &structure, cutoff),
        None if config.watch.uncertainty != Uncertainty::None => findings.warn(
            "cut-out",
            "the cutoff of the potential is unknown, so cut-outs were not checked",
            "Set `cutoff` in [potential], in Å.",
        ),
        None => {}
    }
    atoms
}

fn cut_outs(findings: &mut Findings, config: &InferenceConfig, structure: &Structure, cutoff: f64) {
    let n = inspect::repeats(structure, 2.0 * cutoff);
    if n != [1; 3] {
        findings.warn(
            "cell",
            format!("the cell is thinner than twice the cutoff ({cutoff} Å), so atoms interact with their own images"),
            format!("Repeat the structure {} times to reduce correlated motion.", inspect::format_repeats(n)),
        );
    }
    if config.watch.uncertainty == Uncertainty::None {
        return;
    }
    if config.candidates.embedding.buffer.is_some_and(|buffer| buffer < cutoff) {
        findings.warn(
            "buffer",
            format!("`buffer` is less than the cutoff ({cutoff} Å): some core atoms have an incomplete environment"),
            "Remove `buffer`. docs/verification.md lists the errors of thin buffers.",
        );
    }
    let (atoms, limit) = (structure.len(), config.candidates.embedding.whole_frames_below);
    if atoms <= limit {
        findings.ok(
            "cut-out",
            format!("none: frames of {atoms} atoms are stored whole"),
            json!({ "atoms": [atoms, atoms] }),
        );
        return;
    }
    let trial = EmbeddingExtractor::new(&config.candidates.embedding, cutoff)
        .and_then(|e| inspect::extract_trials(structure, &e));
    match trial {
        Ok(trial) if trial.repeated => findings.warn(
            "cut-out",
            format!("{} atoms, but the structure is too small: some atoms are included more than once", trial.atoms.1),
            format!(
                "Repeat the structure {} times, or store whole frames: `whole_frames_below = {atoms}` in [embedding].",
                inspect::format_repeats(inspect::repeats(structure, trial.edge))
            ),
        ),
        Ok(trial) => findings.ok(
            "cut-out",
            format!("{} atoms in a cell of up to {:.2} Å", trial.range(), trial.edge),
            json!({ "atoms": [trial.atoms.0, trial.atoms.1], "edge": trial.edge }),
        ),
        Err(error) => findings.fail(
            "cut-out",
            error.to_string(),
            "Change `radius`, `buffer` or `max_atoms` in [embedding]; with these values no candidate could be stored.",
        ),
    }
}

/// Polls of the trial run, and atoms times steps for each rank, some seconds, whichever is less. The number of steps does not depend
/// on the speed of the machine, so that two trials are the same.
const TRIAL_POLLS: u64 = 10;
const TRIAL_WORK: u64 = 1_000_000;

/// Wall time in seconds after which a trial run of an unknown number of atoms ends at the next poll.
const TRIAL_SECONDS: f64 = 1.0;

/// The trial run: `config` with few steps, which stores one region even if nothing is unusual.
fn trial(config: &InferenceConfig, folder: PathBuf, atoms: u64, ranks: usize) -> InferenceConfig {
    // Files written by `setup` go there too, so that output of earlier runs is not overwritten.
    let outputs = Outputs { folder: Some(folder), ..config.outputs.clone() };
    let mut trial = InferenceConfig { outputs, ..config.clone() };
    let possible = (TRIAL_WORK * ranks as u64 / atoms.max(1)).max(1);
    let interval = config.watch.sampling_interval.min(possible);
    trial.watch.sampling_interval = interval;
    // Without the minimisation, which can take long, a structure may not endure more than one step.
    let steps = if config.md.minimize { 1 } else { possible.min(TRIAL_POLLS * interval) };
    trial.md.steps = steps.min(config.md.steps);
    trial.md.minimize = false;
    // A ramp of the run would be that of these few steps.
    trial.md.temperature = Ramp::Constant(config.md.temperature.start());
    trial.md.pressure = Ramp::Constant(config.md.pressure.start());
    trial.job.wall_time = (atoms == 0).then_some(TRIAL_SECONDS);
    (trial.job.checkpoint_interval, trial.job.trajectory) = (0, None);
    (trial.watch.mode, trial.watch.flag_interval) = (Mode::Flag, u64::MAX >> 2);
    // Below any value, also one that is 0 in a lattice.
    trial.watch.uncertainty_low = -1.0;
    trial.candidates.max_candidates = 1;
    trial
}

/// Runs a few steps in a temporary folder, and measures them. `atoms` is 0 if it is not known.
fn trial_run(findings: &mut Findings, config: &InferenceConfig, atoms: u64, comm: &Comm) {
    let folder = comm.on_root(|| tempfile::tempdir().map_err(super::run::SetupError::from));
    let folder = match folder {
        Ok(folder) => folder,
        Err(error) => return findings.error("trial run", &error),
    };
    // The path is used on rank 0 only.
    let output = folder.as_ref().map_or_else(PathBuf::new, |f| f.path().join("run"));
    let base = folder.as_ref().map_or_else(Vec::new, |f| f.path().as_os_str().as_bytes().to_vec());
    let base = PathBuf::from(OsString::from_vec(comm.broadcast(0, base)));
    let trial = trial(config, base, atoms, comm.size());
    let mut polls: Vec<Poll> = Vec::new();
    let outcome = LammpsRunner::new(comm, output).observe(|poll| polls.push(poll.clone())).run(&trial);
    match outcome {
        Ok(result) if result.crash.is_some() => {
            let reason = result.crash.map(|c| c.reason).unwrap_or_default();
            findings.fail("trial run", reason, "Check the structure: relax it, or set `minimize = true`.");
        }
        Ok(result) => {
            let first = polls.first();
            let gamma = first.and_then(|poll| poll.gamma.as_ref()).map(|gamma| gamma.max);
            let gamma_text = gamma.map_or("γ not monitored".to_owned(), |g| format!("γ_max {g:.3}"));
            let steps = counted(result.steps as u64, "step");
            let message = format!("set-up and {steps} succeeded; at the start {gamma_text}");
            match gamma {
                Some(g) if g > result.threshold => findings.warn(
                    "trial run",
                    format!("{message}, above the threshold of {}", result.threshold),
                    "The run would stop at its first poll: check whether the training data contain similar structures.",
                ),
                _ if first.is_some_and(|poll| poll.trigger.is_some()) => findings.warn(
                    "trial run",
                    format!("{message}; core repulsion acts on an atom, or an atom has too few neighbours"),
                    "The run would stop at its first poll: check the distances between atoms, `core_share` and `sparse_trigger`.",
                ),
                _ => findings.ok("trial run", message, json!({ "gamma_max": gamma, "atoms": result.atoms })),
            }
            if gamma.is_some() {
                event(findings, &trial, &result);
            }
            speed(findings, config, &trial, &polls, comm);
        }
        Err(runner::Error::Simulation(simulation::Error::Script(error @ script::Error::Unprotected { .. }))) => {
            findings.warn("trial run", format!("skipped, because {error}"), "`lammps-otf run` checks the rest.")
        }
        Err(error) => {
            abort_on_rank_failure(&error, comm);
            findings.error("trial run", &error);
        }
    }
}

/// Reports whether the region that the trial run was to store is in its store.
fn event(findings: &mut Findings, trial: &InferenceConfig, result: &SimulationResult) {
    if result.candidates.is_empty() {
        // Other warnings are about the structure file.
        let of_region = result.warnings.iter().find(|warning| warning.starts_with("step "));
        let why = of_region.map_or("no region was stored", String::as_str);
        return findings.fail(
            "event",
            format!("no candidate could be stored in the trial run: {why}"),
            "Change `radius`, `buffer` or `max_atoms` in [embedding].",
        );
    }
    let verified = if trial.candidates.verify { ", compared with its frame" } else { "" };
    findings.ok("event", format!("a candidate was extracted{verified} and stored in the trial run"), Value::Null);
}

/// Reports the speed and the memory of the trial run, and the time that the run will take.
///
/// # MPI
/// Collective.
fn speed(findings: &mut Findings, config: &InferenceConfig, trial: &InferenceConfig, polls: &[Poll], comm: &Comm) {
    let (ranks, peak) = (comm.size(), peak_memory());
    let mut memory = [peak.unwrap_or(0.0)];
    comm.max(&mut memory);
    // The mean time of a step, not the mean of speeds.
    let speeds: Vec<f64> = polls.iter().filter_map(|poll| poll.ns_per_day).collect();
    if speeds.is_empty() {
        return;
    }
    let speed = speeds.len() as f64 / speeds.iter().map(|speed| speed.recip()).sum::<f64>();
    let length = config.md.steps as f64 * config.md.timestep * 1e-3;
    let seconds = length / speed * 86400.0;
    let mut message = format!(
        "{} ns/day on {}: {} steps take {}",
        significant(speed),
        counted(ranks as u64, "rank"),
        config.md.steps,
        duration(seconds)
    );
    if trial.watch.sampling_interval != config.watch.sampling_interval && !config.md.minimize {
        message += &format!(" (measured with a poll every {} steps)", trial.watch.sampling_interval);
    } else if config.md.minimize {
        message += " (measured in one step, without the minimisation)";
    }
    if memory[0] > 0.0 {
        message += &format!("; up to {:.0} MB of memory per rank", memory[0]);
    }
    let details = json!({ "ns_per_day": speed, "seconds": seconds, "memory_mb": memory[0], "ranks": ranks });
    findings.ok("speed", message, details);
}

/// A number of things.
fn counted(n: u64, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

/// A number with two significant digits or, above 10, without a fraction.
fn significant(value: f64) -> String {
    let digits = if value >= 10.0 { 0 } else { (1.0 - value.log10().floor()).clamp(0.0, 12.0) as usize };
    format!("{value:.digits$}")
}

/// A time with one unit.
fn duration(seconds: f64) -> String {
    let units = [(86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")];
    let unit = units.into_iter().find(|(length, _)| seconds >= 2.0 * length);
    let (length, name) = unit.unwrap_or((1.0, "seconds"));
    format!("{} {name}", significant(seconds / length))
}

/// The largest memory that this process has had, in MB; `None` where `/proc` is missing.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0 / 1e6)
}

/// Aborts the job after a rank failure: the other ranks wait in LAMMPS and cannot be recovered.
fn abort_on_rank_failure(error: &impl CollectiveError, comm: &Comm) {
    if error.is_rank_failure() {
        super::print_error(error);
        abort(comm, Exit::BadInput)
    }
}

/// Checks Python and the packages that read the store.
fn python(findings: &mut Findings) {
    const SCRIPT: &str = "import sys, importlib.metadata as m\n\
        def version(name):\n    try: return m.version(name)\n    except m.PackageNotFoundError: return '-'\n\
        print(sys.executable, sys.version.split()[0], version('ase'), version('python-ace'))";
    let run = |program: &Path| {
        let output = Command::new(program).args(["-c", SCRIPT]).stdin(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let named = std::env::var_os("LAMMPS_OTF_PYTHON").map(PathBuf::from);
    let program = named.clone().unwrap_or_else(|| "python3".into());
    let mut text = run(&program);
    // `ci/setup` installs one next to the LAMMPS that this program was built with.
    let bundled = Path::new(env!("LAMMPS_OTF_PLUGINS")).join("../../../bin/python3");
    if named.is_none() && text.as_deref().is_none_or(|t| t.contains(" - ")) && bundled.is_file() {
        text = run(&bundled).or(text);
    }
    let words: Vec<&str> = text.as_deref().unwrap_or("").split_whitespace().collect();
    let remedy = "To show candidates with `ase db` and `ase gui`: pip install ase. Runs do not require it. \
                  LAMMPS_OTF_PYTHON selects another Python.";
    match words[..] {
        [path, version, "-", _] => findings.warn("python", format!("Python {version} at {path}, without ASE"), remedy),
        [path, version, ase, pace] => {
            let pace = if pace == "-" { "no python-ace".to_owned() } else { format!("python-ace {pace}") };
            let message = format!("Python {version} at {path}, ASE {ase}, {pace}");
            findings.ok("python", message, json!({ "path": path, "version": version, "ase": ase }));
        }
        _ => findings.warn("python", format!("cannot run {}", program.display()), remedy),
    }
}

fn print_findings(findings: &Findings, json: bool, verbosity: Verbosity) {
    let (failures, warnings) = (findings.count(Level::Failure), findings.count(Level::Warning));
    let mut out = anstream::stdout().lock();
    // Write errors are ignored: a closed pipe is not a failure, and the exit code has the result.
    if json {
        let report = json!({ "ok": failures == 0, "failures": failures, "warnings": warnings, "findings": findings.0 });
        let _ = writeln!(out, "{report:#}");
        return;
    }
    for finding in &findings.0 {
        let (word, colour) = match finding.level {
            Level::Ok if verbosity == Verbosity::Quiet => continue,
            Level::Ok => ("ok", style::GOOD),
            Level::Warning => ("warning", style::WARNING),
            Level::Failure => ("failure", style::ERROR),
        };
        let _ = writeln!(out, "{colour}{word:8}{colour:#} {:12} {}", finding.what, finding.message);
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(out, "{:21} → {remedy}", "");
        }
        if verbosity == Verbosity::Verbose
            && let Some(packages) = finding.details.pointer("/build/packages").and_then(Value::as_array)
        {
            let names: Vec<&str> = packages.iter().filter_map(Value::as_str).collect();
            let _ = writeln!(out, "{:21} packages: {}", "", names.join(" "));
        }
    }
    if verbosity != Verbosity::Quiet {
        let _ = writeln!(out, "{}, {}", counted(failures as u64, "failure"), counted(warnings as u64, "warning"));
    }
}
