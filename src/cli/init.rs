// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf init`: writes a commented configuration for a structure and a potential.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::files::{WriteError, write_atomically};
use super::{Verbosity, inspect, print_line, print_warning};
use lammps_otf::config::{self, InferenceConfig, Ramp, Velocities, VelocityMismatch};
use lammps_otf::embedding::{self, EmbeddingConfig, EmbeddingExtractor};
use lammps_otf::io;
use lammps_otf::lammps::Kokkos;
use lammps_otf::prediction::{Prediction, PredictionError, Predictor};
use lammps_otf::structure::{Element, Structure, StructureError, element_from_symbol};
use pace_opt::{ActiveSet, Model};

/// Allowance for larger cut-outs during the run, relative to the initial structure. Perfect crystalline Al has 249 atoms
/// within 10.5 Å; at 300 K there are up to 269.
const HEADROOM: f64 = 1.2;

/// Largest force in eV/Å of a structure that is at a minimum of the energy, for the choice of the initial velocities.
const AT_REST: f64 = 0.05;

/// Largest force in eV/Å without a warning. Forces of thermal motion are smaller.
const STRAINED: f64 = 10.0;

/// γ above which a run with the written settings stops.
const THRESHOLD: f64 = 5.0;

/// Minimum radius of the core, Å: that of the nearest neighbours.
const MIN_RADIUS: f64 = 3.0;

#[derive(Debug, clap::Args)]
pub(super) struct InitArguments {
    /// Structure file: extended XYZ, LAMMPS data, or LAMMPS dump
    structure: PathBuf,
    /// Potential (B-basis, .yaml), with its active set (.asi) in the same folder
    potential: PathBuf,
    /// Configuration file to write
    #[arg(short, long, value_name = "FILE", default_value = "config.toml")]
    output: PathBuf,
    /// Active set, if its name differs from that of the potential
    #[arg(long, value_name = "FILE")]
    active_set: Option<PathBuf>,
    /// Elements of the atom types, in order, e.g. Al,Cu; for files without element symbols
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_element)]
    elements: Vec<Element>,
    /// Temperature in K, or START,END for a ramp [default: that of the velocities in the structure, else 300]
    #[arg(long, value_name = "K", value_parser = parse_ramp, allow_negative_numbers = true)]
    temperature: Option<Ramp>,
    /// Number of time steps
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    steps: u64,
    /// Add the table [loop] for active learning, and a module my_dft.py for your calculator. DATA: the frames that the potential was
    /// fitted to
    #[arg(long = "loop", value_name = "DATA")]
    training_data: Option<PathBuf>,
    /// Overwrite an existing configuration
    #[arg(long)]
    force: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// The module that `--loop` writes, for the calculator of the labels.
const MODULE: &str = "my_dft.py";
const CALCULATOR: &str = r#"# The calculator that labels the candidates of the loop, for examples/oracles/ase_oracle.py.

def make():
    # Return any calculator of ASE, with the settings of your training data, for example
    #     from gpaw import GPAW, PW
    #     return GPAW(mode=PW(400), xc="PBE", kpts={"density": 3.5}, txt=None)
    raise NotImplementedError("return your calculator in my_dft.py")
"#;

/// The folder from which this program was compiled, with the programs of oracles and trainers.
const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// No configuration was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum InitError {
    #[error(transparent)]
    Structure(#[from] io::Error),
    #[error("{}: {source}", path.display())]
    Unsound { path: PathBuf, source: StructureError },
    #[error(transparent)]
    Potential(#[from] pace_opt::Error),
    #[error(
        "{} holds the C-tilde basis, from which the extrapolation grade γ cannot be computed. Use the .yaml file of the \
         same fit (pacemaker writes it as output_potential.yaml)", .0.display()
    )]
    CTilde(PathBuf),
    #[error(
        "the active set {} does not exist: make it with `pace_activeset -d <fitting data> {}`, or specify another file with \
         --active-set",
        active_set.display(), potential.display()
    )]
    NoActiveSet { active_set: PathBuf, potential: PathBuf },
    #[error(
        "{source}. The active set does not belong to {}; make one with `pace_activeset -d <fitting data> {}`",
        potential.display(), potential.display()
    )]
    ActiveSet { source: pace_opt::Error, potential: PathBuf },
    #[error("{} has {elements}, which {} does not cover: its elements are {known}", structure.display(), potential.display())]
    Elements { structure: PathBuf, elements: String, potential: PathBuf, known: String },
    #[error("{} exists: choose another name with --output, or overwrite it with --force", .0.display())]
    Exists(PathBuf),
    #[error("{}: {source}", path.display())]
    Evaluation { path: PathBuf, source: PredictionError },
    #[error(transparent)]
    Embedding(#[from] embedding::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("the training data {} do not exist", .0.display())]
    NoData(PathBuf),
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn parse_element(text: &str) -> Result<Element, String> {
    element_from_symbol(text.trim()).ok_or_else(|| format!("{text:?} is not the symbol of an element"))
}

fn parse_ramp(text: &str) -> Result<Ramp, String> {
    let values: Option<Vec<f64>> = text.split(',').map(|t| t.trim().parse().ok()).collect();
    match values.as_deref() {
        Some([value]) => Ok(Ramp::Constant(*value)),
        Some([start, end]) => Ok(Ramp::Linear([*start, *end])),
        _ => Err("give one temperature, or two separated by a comma".to_owned()),
    }
}

/// Properties of the input, and the settings derived from them.
struct Plan {
    structure: Structure,
    model: Model,
    temperature: Ramp,
    from_velocities: bool,
    timestep: f64,
    sampling_interval: u64,
    /// Whether the structure is at a minimum of the energy and has no velocities.
    at_rest: bool,
    /// Largest γ of the structure.
    gamma_max: f64,
    /// Largest force of the structure, eV/Å.
    force_max: f64,
    radius: f64,
    max_atoms: usize,
    cut_outs: inspect::CutOutSummary,
    /// The KOKKOS variant of ML-PACE's pair style requires it.
    linear_active_set: bool,
    warnings: Vec<String>,
}

/// Checks the structure and the potential, and writes the configuration.
pub(super) fn run(arguments: &InitArguments, verbosity: Verbosity) -> Result<(), InitError> {
    if arguments.output.exists() && !arguments.force {
        return Err(InitError::Exists(arguments.output.clone()));
    }
    if let Some(missing) = arguments.training_data.as_ref().filter(|data| !data.is_file()) {
        return Err(InitError::NoData(missing.clone()));
    }
    let plan = plan(arguments)?;
    let text = render(arguments, &plan);
    // The text must be a valid configuration for `run`.
    InferenceConfig::parse(&text, &arguments.output)?;
    write_atomically(&arguments.output, |out| out.write_all(text.as_bytes()))?;
    let module = arguments.output.with_file_name(MODULE);
    if arguments.training_data.is_some() && !module.exists() {
        write_atomically(&module, |out| out.write_all(CALCULATOR.as_bytes()))?;
    }
    let output = arguments.output.display();
    if arguments.json {
        let report = serde_json::json!({
            "output": arguments.output,
            "atoms": plan.structure.len(),
            "elements": inspect::symbols(&plan.structure),
            "potential_elements": plan.model.elements,
            "cutoff": plan.model.cutoff(),
            "temperature": plan.temperature,
            "timestep": plan.timestep,
            "sampling_interval": plan.sampling_interval,
            "gamma_max": plan.gamma_max,
            "force_max": plan.force_max,
            "radius": plan.radius,
            "max_atoms": plan.max_atoms,
            "cut_out_atoms": [plan.cut_outs.atoms.0, plan.cut_outs.atoms.1],
            "warnings": plan.warnings,
        });
        print_line(&format!("{report:#}"));
    } else if verbosity != Verbosity::Quiet {
        let composition = inspect::composition(&plan.structure);
        print_line(&format!("structure   {} atoms: {composition}", plan.structure.len()));
        print_line(&format!("potential   {}", inspect::describe_model(&plan.model)));
        print_line(&format!(
            "            γ up to {:.2}, forces up to {:.2} eV/Å with this potential",
            plan.gamma_max, plan.force_max
        ));
        print_line(&format!("cut-outs    {} atoms", plan.cut_outs.range()));
        let (also, command) = match arguments.training_data {
            Some(_) => (format!(", {}: return your calculator there", module.display()), "loop"),
            None => (String::new(), "run"),
        };
        print_line(&format!(
            "written     {output}{also}\n\nCheck it:  lammps-otf doctor {output}\nRun it:    lammps-otf {command} {output}"
        ));
    }
    plan.warnings.iter().for_each(|warning| print_warning(warning));
    Ok(())
}

fn plan(arguments: &InitArguments) -> Result<Plan, InitError> {
    let hint = (!arguments.elements.is_empty()).then_some(&arguments.elements[..]);
    let (structure, mut warnings) = io::read_with_warnings(&arguments.structure, hint, io::Frame::Last)?;
    let path = &arguments.structure;
    structure.validate(0.5).map_err(|source| InitError::Unsound { path: path.clone(), source })?;

    let file = &arguments.potential;
    if inspect::is_c_tilde(file) {
        return Err(InitError::CTilde(file.clone()));
    }
    let model = Model::read(file)?;
    let active_set = arguments.active_set.clone().unwrap_or_else(|| file.with_extension("asi"));
    if !active_set.is_file() {
        return Err(InitError::NoActiveSet { active_set, potential: file.clone() });
    }
    let set = ActiveSet::read(&active_set, &model)
        .map_err(|source| InitError::ActiveSet { source, potential: file.clone() })?;
    let unknown = inspect::unknown_elements(&structure, &model);
    if !unknown.is_empty() {
        return Err(InitError::Elements {
            structure: path.clone(),
            elements: unknown.join(", "),
            potential: file.clone(),
            known: model.elements.join(", "),
        });
    }

    let cutoff = model.cutoff();
    let n = inspect::repeats(&structure, 2.0 * cutoff);
    if n != [1; 3] {
        warnings.push(format!(
            "the cell is thinner than twice the cutoff of {cutoff} Å, so atoms interact with their own images: repeat the \
             structure {} times",
            inspect::format_repeats(n)
        ));
    }
    let (radius, max_atoms, cut_outs) = choose_radius(&structure, cutoff, &mut warnings)?;
    if cut_outs.repeated {
        let n = inspect::repeats(&structure, cut_outs.edge);
        warnings.push(format!(
            "the structure is smaller than a cut-out, which includes some atoms more than once: repeat the structure {} \
             times",
            inspect::format_repeats(n)
        ));
    }
    let measured = velocity_temperature(&structure);
    let from_velocities = arguments.temperature.is_none() && measured.is_some();
    let temperature = arguments.temperature.unwrap_or(Ramp::Constant(measured.unwrap_or(300.0)));
    let mismatch = structure
        .velocity_temperature()
        .and_then(|kelvin| VelocityMismatch::of(kelvin, temperature.start(), Velocities::Auto));
    // Without the final full stop: `render` adds one.
    warnings.extend(mismatch.map(|mismatch| mismatch.remark.to_string().trim_end_matches('.').to_owned()));
    let prediction = evaluate(&structure, file, &active_set)?;
    let force_max = prediction.forces.rows().into_iter().map(|f| f.dot(&f).sqrt()).fold(0.0, f64::max);
    let gamma_max = prediction.gamma.iter().flatten().copied().fold(0.0, f64::max);
    if force_max > STRAINED {
        warnings.push(format!(
            "the potential has forces of up to {force_max:.1} eV/Å in this structure: relax it, or set `minimize = true`"
        ));
    }
    if gamma_max > THRESHOLD {
        warnings.push(format!(
            "γ is {gamma_max:.1} in this structure, above the threshold of {THRESHOLD}: a run stops at its first poll"
        ));
    }
    let timestep = timestep(&inspect::symbols(&structure));
    let lightest = (0..structure.len()).map(|i| structure.mass(i)).fold(f64::INFINITY, f64::min);
    let at_rest = force_max < AT_REST && structure.velocity_temperature().is_none() && temperature.start() > 0.0;
    Ok(Plan {
        structure,
        model,
        temperature,
        from_velocities,
        timestep,
        sampling_interval: sampling_interval(lightest, timestep),
        at_rest,
        gamma_max,
        force_max,
        radius,
        max_atoms,
        cut_outs,
        linear_active_set: set.linear,
        warnings,
    })
}

/// Time step in ps. Half the usual value with hydrogen, whose vibrations are the fastest.
fn timestep(symbols: &[&str]) -> f64 {
    if symbols.contains(&"H") { 0.0005 } else { 0.001 }
}

/// Steps between two polls: 10 fs for aluminium, about a tenth of its shortest period of vibration. Periods are proportional to the
/// square root of the mass (u).
fn sampling_interval(mass: f64, timestep: f64) -> u64 {
    let interval = 0.01 * (mass / 26.98).sqrt();
    (interval / timestep).round().clamp(1.0, 100.0) as u64
}

/// Evaluates the structure with the potential.
fn evaluate(structure: &Structure, potential: &Path, active_set: &Path) -> Result<Prediction, InitError> {
    let wrap = |source| InitError::Evaluation { path: potential.to_owned(), source };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut predictor = Predictor::read(potential, Some(active_set)).map_err(wrap)?.with_threads(threads);
    predictor.evaluate(structure).map_err(wrap)
}

/// Chooses the radius and `max_atoms`: the default radius, a smaller one if that gives too many atoms, or a larger
/// `max_atoms` if the buffer alone has too many.
fn choose_radius(
    structure: &Structure,
    cutoff: f64,
    warnings: &mut Vec<String>,
) -> Result<(f64, usize, inspect::CutOutSummary), InitError> {
    let mut config = EmbeddingConfig::default();
    let default_max = config.max_atoms;
    loop {
        match EmbeddingExtractor::new(&config, cutoff).and_then(|e| inspect::extract_trials(structure, &e)) {
            Ok(cut_outs) => {
                if config.max_atoms > default_max {
                    warnings.push(format!(
                        "a cut-out with complete environments has up to {} atoms, which is expensive for DFT: a smaller \
                         `buffer` reduces cost and accuracy",
                        cut_outs.atoms.1
                    ));
                }
                // At higher temperature or density, more atoms are within the same distance.
                let expected = (HEADROOM * cut_outs.atoms.1 as f64).ceil() as usize;
                return Ok((config.radius, config.max_atoms.max(expected.div_ceil(50) * 50), cut_outs));
            }
            // Rounded down to 0.1 Å.
            Err(embedding::Error::TooMany { fits, .. }) if config.radius > MIN_RADIUS => {
                let smaller = fits.map(|fits| (fits * 10.0).floor() / 10.0).filter(|fits| *fits < config.radius);
                config.radius = smaller.unwrap_or(MIN_RADIUS).max(MIN_RADIUS);
            }
            Err(embedding::Error::TooMany { found, .. }) if found > config.max_atoms => {
                config.max_atoms = found.div_ceil(50) * 50;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The temperature of the velocities in the structure, rounded to 1 K, if it is valid for a run.
fn velocity_temperature(structure: &Structure) -> Option<f64> {
    structure.velocity_temperature().map(f64::round).filter(|temperature| (1.0..=1e6).contains(temperature))
}

/// The path for the configuration: relative to its folder if the file is below it, else absolute.
fn relative_to(config: &Path, path: &Path) -> PathBuf {
    let absolute = |p: &Path| std::path::absolute(p).unwrap_or_else(|_| p.to_owned());
    let (config, path) = (absolute(config), absolute(path));
    let below = config.parent().and_then(|folder| path.strip_prefix(folder).ok()).map(Path::to_owned);
    below.unwrap_or(path)
}

/// The settings for a GPU that KOKKOS uses with `api`, as comments if it is not to be used.
fn gpu_settings(api: &str, used: bool) -> String {
    let start = if used { "" } else { "# " };
    let note = if used { "" } else { "; for that, uncomment these lines" };
    format!(
        "\n# LAMMPS can evaluate the potential on a GPU (KOKKOS, {api}), with `engine = \"ml-pace\"` below{note}.\n\
         {start}suffix = \"kk\"\n{start}package = [\"kokkos newton on neigh half\"]\n\
         {start}lammps_args = [\"-kokkos\", \"on\", \"gpus\", \"1\"]  # GPUs per node"
    )
}

fn render(arguments: &InitArguments, plan: &Plan) -> String {
    let quoted = |path: &Path| toml::Value::String(relative_to(&arguments.output, path).display().to_string());
    let cutoff = plan.model.cutoff();
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(line);
        text.push('\n');
    };
    line(format_args!("# Written by lammps-otf {} for", env!("CARGO_PKG_VERSION")));
    line(format_args!("#   {} atoms: {}", plan.structure.len(), inspect::composition(&plan.structure)));
    line(format_args!("#   {}", inspect::describe_model(&plan.model)));
    line(format_args!("# Check with `lammps-otf doctor`, run with `lammps-otf run`. Units: Å, ps, eV, K, bar."));
    for warning in &plan.warnings {
        line(format_args!("# WARNING: {warning}."));
    }
    line(format_args!("\nstructure = {}", quoted(&arguments.structure)));
    if !arguments.elements.is_empty() {
        let symbols: Vec<&str> = arguments.elements.iter().map(|e| e.symbol()).collect();
        line(format_args!("elements = {symbols:?}             # of the atom types, in order"));
    }
    match plan.temperature {
        Ramp::Linear([start, end]) => {
            line(format_args!("temperature = [{start:?}, {end:?}]      # K, a linear ramp over the run"))
        }
        Ramp::Constant(value) => {
            let why = if plan.from_velocities {
                "from the velocities in the structure"
            } else {
                "or [start, end] for a ramp"
            };
            line(format_args!("temperature = {:?}             # K; {why}", value));
        }
    }
    let why = if plan.timestep < 0.001 { "half the usual value, because of hydrogen" } else { "usual" };
    let length = arguments.steps as f64 * plan.timestep;
    line(format_args!("steps = {}                   # {length} ps", arguments.steps));
    line(format_args!("timestep = {}                # ps; {why}", plan.timestep));
    line(format_args!("ensemble = \"nvt\"                # or \"npt\" with `pressure = 0.0` (bar), or \"nve\""));
    if plan.at_rest {
        line(format_args!(
            "velocities = \"equipartition\"    # drawn at twice `temperature`, because the structure is at rest"
        ));
    }
    line(format_args!("# thermostat = \"langevin\"       # default \"nose-hoover\""));
    line(format_args!("# seed = 1                      # another seed gives another trajectory"));
    line(format_args!("# minimize = true               # relax first, for an unrelaxed structure"));
    line(format_args!(
        "\n# γ ≤ 1: within the training data. γ above the threshold stops the run and stores the region."
    ));
    line(format_args!("uncertainty_threshold = {THRESHOLD:?}     # 2 triggers early and often, 10 late"));
    line(format_args!("uncertainty_low = 2.0           # γ above this is counted as flagged"));
    let every = plan.sampling_interval;
    line(format_args!("sampling_interval = {every:<11} # steps between two polls of γ"));
    line(format_args!("# mode = \"flag\"                 # store and continue instead of stopping"));
    let kokkos = Kokkos::of_library().filter(|kokkos| kokkos.gpu.is_some());
    // Nodes on which jobs are prepared often have no GPU.
    let gpu_here = kokkos.is_some_and(Kokkos::has_device) && plan.linear_active_set;
    if let Some(api) = kokkos.and_then(|kokkos| kokkos.gpu) {
        line(format_args!("{}", gpu_settings(api, gpu_here)));
    }
    line(format_args!("\n[potential]"));
    line(format_args!("file = {}", quoted(&arguments.potential)));
    match &arguments.active_set {
        Some(path) => line(format_args!("active_set = {}", quoted(path))),
        None => line(format_args!("# active_set = \"….asi\"         # default: `file` with the extension .asi")),
    }
    if gpu_here {
        line(format_args!("engine = \"ml-pace\"              # the evaluator of ML-PACE, which can use the GPU"));
    } else {
        line(format_args!("# engine = \"ml-pace\"            # the evaluator of ML-PACE: slower, same results"));
    }
    line(format_args!("\n[embedding]"));
    line(format_args!(
        "radius = {:?}                    # Å, the core, whose forces are used for training",
        plan.radius
    ));
    line(format_args!("# buffer = {cutoff:?}                  # Å, thickness of the buffer; default: the cutoff"));
    line(format_args!(
        "max_atoms = {}                 # cut-outs of this structure have {}; more when hot or dense",
        plan.max_atoms,
        plan.cut_outs.range()
    ));
    line(format_args!(
        "# whole_frames_below = 200       # store frames of at most so many atoms whole, with their energy"
    ));
    line(format_args!("# shape = \"cube\"                # filled with atoms, without vacuum: raise max_atoms"));
    if let Some(data) = &arguments.training_data {
        let programs = Path::new(SOURCE).join("examples");
        // Names to be completed by the user, if the source folder is not on this machine.
        let programs = if programs.is_dir() { programs } else { PathBuf::from("examples") };
        let program = |name: &str| toml::Value::String(programs.join(name).display().to_string());
        line(format_args!("\n[loop]"));
        line(format_args!("resume_from = \"start\"           # each round repeats the run, until one has no event"));
        line(format_args!("select = 8                      # candidates to label in each round"));
        line(format_args!("max_rounds = 10"));
        line(format_args!("# [[loop.check]]                # structures with limits for their errors: docs/loops.md"));
        line(format_args!("\n[loop.oracle]"));
        line(format_args!(
            "type = \"command\"              # or \"external\", for workers in other jobs: docs/labelling.md"
        ));
        line(format_args!(
            "command = [\"python3\", {}, \"--calculator\", \"my_dft:make\",\n  \"--input\", \"{{input}}\", \"--output\", \"{{output}}\"]",
            program("oracles/ase_oracle.py")
        ));
        line(format_args!("# parallel = 2                  # labels at the same time"));
        line(format_args!(
            "\n[loop.trainer]                  # a linear refit; for other potentials pacemaker.py: docs/trainers.md"
        ));
        line(format_args!(
            "command = [\"python3\", {}, \"--base\", {},\n  \"--labelled\", \"{{labelled}}\", \"--potential\", \"{{potential}}\", \
             \"--active-set\", \"{{active_set}}\", \"--output\", \"{{output}}\"]",
            program("trainers/pace_linear.py"),
            quoted(data)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_for_a_gpu_reach_lammps_unless_they_are_comments() {
        for (used, arguments) in
            [(true, "-package kokkos newton on neigh half -suffix kk -kokkos on gpus 1"), (false, "")]
        {
            let text = format!(
                "structure = \"examples/al-500.extxyz\"\ntemperature = 300\nsteps = 1{}\n[potential]\nengine = \"ml-pace\"\n\
                 file = \"potentials/al/Al.yaml\"\n",
                gpu_settings("cuda", used)
            );
            let config =
                InferenceConfig::parse(&text, &Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml")).unwrap();
            assert_eq!(config.lammps_arguments().join(" "), arguments, "{text}");
        }
    }

    #[test]
    fn hydrogen_halves_the_time_step() {
        assert_eq!(timestep(&["O", "H"]), 0.0005);
        assert_eq!(timestep(&["Ho", "Hf"]), 0.001);
    }

    #[test]
    fn light_atoms_are_polled_more_often() {
        assert_eq!([26.98, 1.008, 183.84].map(|mass| sampling_interval(mass, 0.001)), [10, 2, 26]);
        assert_eq!(sampling_interval(1.008, 0.0005), 4);
    }
}
