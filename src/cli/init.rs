// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf init`: a commented configuration for a structure and a potential that it has looked at.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::files::{WriteError, write_atomically};
use super::{Verbosity, say, survey, warn};
use lammps_otf::config::{self, InferenceConfig, Ramp, Velocities, VelocityDoubt};
use lammps_otf::embedding::{self, EmbeddingConfig, EmbeddingExtractor};
use lammps_otf::io;
use lammps_otf::structure::{Element, Structure, StructureError, element_from_symbol};
use pace_opt::{ActiveSet, Model};

/// Atoms of a cut-out that a run may meet, in those of the structure that it begins with. The perfect crystal of Al has 249 within
/// 10.5 Å, and at 300 K there are up to 269.
const HEADROOM: f64 = 1.2;

/// The smallest core that still holds the nearest neighbours, Å.
const SMALLEST_RADIUS: f64 = 3.0;

#[derive(Debug, clap::Args)]
pub(super) struct InitArguments {
    /// The structure: extended XYZ, LAMMPS data, or LAMMPS dump
    structure: PathBuf,
    /// The potential's B-basis, .yaml; its active set, .asi, stands beside it
    potential: PathBuf,
    /// The configuration to write
    #[arg(short, long, value_name = "FILE", default_value = "config.toml")]
    output: PathBuf,
    /// The active set, if it has another name than the potential
    #[arg(long, value_name = "FILE")]
    active_set: Option<PathBuf>,
    /// Elements of the atom types in their order, such as Al,Cu, for files that do not name them
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_element)]
    elements: Vec<Element>,
    /// Temperature in K, or START,END for a ramp [default: that of the structure's velocities, else 300]
    #[arg(long, value_name = "K", value_parser = parse_ramp, allow_negative_numbers = true)]
    temperature: Option<Ramp>,
    /// Number of time steps
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    steps: u64,
    /// Replace the configuration if it exists
    #[arg(long)]
    force: bool,
    /// Print what was found and written as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// Why no configuration was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum InitError {
    #[error(transparent)]
    Structure(#[from] io::Error),
    #[error("{}: {source}", path.display())]
    Unsound { path: PathBuf, source: StructureError },
    #[error(transparent)]
    Potential(#[from] pace_opt::Error),
    #[error(
        "{} holds the C-tilde basis, from which the extrapolation grade γ cannot be computed: give the .yaml file of the \
         same fit (pacemaker writes it as output_potential.yaml)", .0.display()
    )]
    CTilde(PathBuf),
    #[error(
        "there is no active set {}: make it with `pace_activeset -d <fitting data> {}`, or name it with --active-set",
        active_set.display(), potential.display()
    )]
    NoActiveSet { active_set: PathBuf, potential: PathBuf },
    #[error(
        "{source}: the active set does not belong to {}; make it from this potential with `pace_activeset -d <fitting data> \
         {}`", potential.display(), potential.display()
    )]
    ActiveSet { source: pace_opt::Error, potential: PathBuf },
    #[error("{} has {elements}, which {} does not know: it is for {known}", structure.display(), potential.display())]
    Elements { structure: PathBuf, elements: String, potential: PathBuf, known: String },
    #[error("{} exists: choose another name with --output, or replace it with --force", .0.display())]
    Exists(PathBuf),
    #[error(transparent)]
    Embedding(#[from] embedding::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
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
        _ => Err("give one temperature, or two with a comma between them".to_owned()),
    }
}

/// What was found, and follows from it.
struct Plan {
    structure: Structure,
    model: Model,
    temperature: Ramp,
    from_velocities: bool,
    timestep: f64,
    radius: f64,
    max_atoms: usize,
    trial: survey::Trial,
    warnings: Vec<String>,
}

/// Looks at both, and writes.
pub(super) fn run(arguments: &InitArguments, verbosity: Verbosity) -> Result<(), InitError> {
    if arguments.output.exists() && !arguments.force {
        return Err(InitError::Exists(arguments.output.clone()));
    }
    let plan = look(arguments)?;
    let text = render(arguments, &plan);
    // What is written must be what `run` takes.
    InferenceConfig::parse(&text, &arguments.output)?;
    write_atomically(&arguments.output, |out| out.write_all(text.as_bytes()))?;
    let output = arguments.output.display();
    if arguments.json {
        let report = serde_json::json!({
            "output": arguments.output,
            "atoms": plan.structure.len(),
            "elements": survey::symbols(&plan.structure),
            "potential_elements": plan.model.elements,
            "cutoff": plan.model.cutoff(),
            "temperature": plan.temperature,
            "timestep": plan.timestep,
            "radius": plan.radius,
            "max_atoms": plan.max_atoms,
            "cut_out_atoms": [plan.trial.atoms.0, plan.trial.atoms.1],
            "warnings": plan.warnings,
        });
        say(&format!("{report:#}"));
    } else if verbosity != Verbosity::Quiet {
        let composition = survey::composition(&plan.structure);
        say(&format!("structure   {} atoms: {composition}", plan.structure.len()));
        say(&format!("potential   {}", survey::describe_model(&plan.model)));
        say(&format!("cut-outs    {} atoms", plan.trial.range()));
        say(&format!(
            "written     {output}\n\nCheck it:  lammps-otf doctor {output}\nRun it:    lammps-otf run {output}"
        ));
    }
    plan.warnings.iter().for_each(|warning| warn(warning));
    Ok(())
}

fn look(arguments: &InitArguments) -> Result<Plan, InitError> {
    let hint = (!arguments.elements.is_empty()).then_some(&arguments.elements[..]);
    let (structure, mut warnings) = io::read_noting(&arguments.structure, hint, io::Frame::Last)?;
    let path = &arguments.structure;
    structure.validate(0.5).map_err(|source| InitError::Unsound { path: path.clone(), source })?;

    let file = &arguments.potential;
    if survey::is_c_tilde(file) {
        return Err(InitError::CTilde(file.clone()));
    }
    let model = Model::read(file)?;
    let active_set = arguments.active_set.clone().unwrap_or_else(|| file.with_extension("asi"));
    if !active_set.is_file() {
        return Err(InitError::NoActiveSet { active_set, potential: file.clone() });
    }
    ActiveSet::read(&active_set, &model).map_err(|source| InitError::ActiveSet { source, potential: file.clone() })?;
    let unknown = survey::unknown_elements(&structure, &model);
    if !unknown.is_empty() {
        return Err(InitError::Elements {
            structure: path.clone(),
            elements: unknown.join(", "),
            potential: file.clone(),
            known: model.elements.join(", "),
        });
    }

    let cutoff = model.cutoff();
    let n = survey::repeats(&structure, 2.0 * cutoff);
    if n != [1; 3] {
        warnings.push(format!(
            "the cell is thinner than twice the cutoff of {cutoff} Å, so that atoms see their own images: repeat the \
             structure {} times",
            survey::times(n)
        ));
    }
    let (radius, max_atoms, trial) = choose_radius(&structure, cutoff, &mut warnings)?;
    if trial.repeated {
        let n = survey::repeats(&structure, trial.edge);
        warnings.push(format!(
            "the structure is smaller than a cut-out, which then holds some atoms more than once: repeat the structure {} \
             times",
            survey::times(n)
        ));
    }
    let measured = velocity_temperature(&structure);
    let from_velocities = arguments.temperature.is_none() && measured.is_some();
    let temperature = arguments.temperature.unwrap_or(Ramp::Constant(measured.unwrap_or(300.0)));
    let doubt = structure.velocity_temperature();
    let doubt = doubt.and_then(|kelvin| VelocityDoubt::of(kelvin, temperature.start(), Velocities::Auto));
    // Without the full stop, which is added to a comment.
    warnings.extend(doubt.map(|doubt| doubt.remark.to_string().trim_end_matches('.').to_owned()));
    let timestep = timestep(&survey::symbols(&structure));
    Ok(Plan { structure, model, temperature, from_velocities, timestep, radius, max_atoms, trial, warnings })
}

/// ps; half of what is usual with hydrogen, whose vibrations are the fastest.
fn timestep(symbols: &[&str]) -> f64 {
    if symbols.contains(&"H") { 0.0005 } else { 0.001 }
}

/// The usual radius, a smaller one where that gives too many atoms, or more atoms where the buffer alone has too many.
fn choose_radius(
    structure: &Structure,
    cutoff: f64,
    warnings: &mut Vec<String>,
) -> Result<(f64, usize, survey::Trial), InitError> {
    let mut config = EmbeddingConfig::default();
    let usual = config.max_atoms;
    loop {
        match EmbeddingExtractor::new(&config, cutoff).and_then(|e| survey::try_cuts(structure, &e)) {
            Ok(trial) => {
                if config.max_atoms > usual {
                    warnings.push(format!(
                        "a cut-out with a complete environment has up to {} atoms, which is much for DFT: a smaller \
                         `buffer` makes it cheaper and less true",
                        trial.atoms.1
                    ));
                }
                // Where atoms are hot or dense more of them are within the same distance.
                let crowded = (HEADROOM * trial.atoms.1 as f64).ceil() as usize;
                return Ok((config.radius, config.max_atoms.max(crowded.div_ceil(50) * 50), trial));
            }
            // Rounded down to a number that looks chosen.
            Err(embedding::Error::TooMany { fits, .. }) if config.radius > SMALLEST_RADIUS => {
                let smaller = fits.map(|fits| (fits * 10.0).floor() / 10.0).filter(|fits| *fits < config.radius);
                config.radius = smaller.unwrap_or(SMALLEST_RADIUS).max(SMALLEST_RADIUS);
            }
            Err(embedding::Error::TooMany { found, .. }) if found > config.max_atoms => {
                config.max_atoms = found.div_ceil(50) * 50;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The temperature of the velocities in the structure, rounded to 1 K, if it is one that a run may have.
fn velocity_temperature(structure: &Structure) -> Option<f64> {
    structure.velocity_temperature().map(f64::round).filter(|temperature| (1.0..=1e6).contains(temperature))
}

/// A path as it is to stand in the configuration: from its folder where it lies below it, else absolute.
fn relative_to(config: &Path, path: &Path) -> PathBuf {
    let absolute = |p: &Path| std::path::absolute(p).unwrap_or_else(|_| p.to_owned());
    let (config, path) = (absolute(config), absolute(path));
    let below = config.parent().and_then(|folder| path.strip_prefix(folder).ok()).map(Path::to_owned);
    below.unwrap_or(path)
}

fn render(arguments: &InitArguments, plan: &Plan) -> String {
    let quoted = |path: &Path| toml::Value::String(relative_to(&arguments.output, path).display().to_string());
    let cutoff = plan.model.cutoff();
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(words);
        text.push('\n');
    };
    line(format_args!("# Written by lammps-otf {} for", env!("CARGO_PKG_VERSION")));
    line(format_args!("#   {} atoms: {}", plan.structure.len(), survey::composition(&plan.structure)));
    line(format_args!("#   {}", survey::describe_model(&plan.model)));
    line(format_args!(
        "# Check it with `lammps-otf doctor`, run it with `lammps-otf run`. Å, ps, eV, K, bar throughout."
    ));
    for warning in &plan.warnings {
        line(format_args!("# WARNING: {warning}."));
    }
    line(format_args!("\nstructure = {}", quoted(&arguments.structure)));
    if !arguments.elements.is_empty() {
        let symbols: Vec<&str> = arguments.elements.iter().map(|e| e.symbol()).collect();
        line(format_args!("elements = {symbols:?}             # of the atom types, in their order"));
    }
    match plan.temperature {
        Ramp::Linear([start, end]) => {
            line(format_args!("temperature = [{start:?}, {end:?}]      # K, a linear ramp over the run"))
        }
        Ramp::Constant(value) => {
            let why = if plan.from_velocities { "that of the velocities in the structure" } else { "or [start, end]" };
            line(format_args!("temperature = {:?}             # K; {why}", value));
        }
    }
    let why = if plan.timestep < 0.001 { "half of what is usual, because hydrogen is light" } else { "usual" };
    let length = arguments.steps as f64 * plan.timestep;
    line(format_args!("steps = {}                   # {length} ps", arguments.steps));
    line(format_args!("timestep = {}                # ps; {why}", plan.timestep));
    line(format_args!("ensemble = \"nvt\"                # or \"npt\" with `pressure = 0.0` (bar), or \"nve\""));
    line(format_args!("# thermostat = \"langevin\"       # default \"nose-hoover\""));
    line(format_args!("# seed = 1                      # another one for another trajectory"));
    line(format_args!("# minimize = true               # relax first: for a structure built by hand"));
    line(format_args!(
        "\n# γ ≤ 1: as in the training data. γ above the threshold stops the run and stores the region."
    ));
    line(format_args!("uncertainty_threshold = 5.0     # 2 stores early and often, 10 late"));
    line(format_args!("uncertainty_low = 2.0           # γ above this is counted as flagged"));
    line(format_args!("sampling_interval = 10          # steps between two looks at γ"));
    line(format_args!("# mode = \"flag\"                 # store and go on, instead of stopping"));
    line(format_args!("\n[potential]"));
    line(format_args!("file = {}", quoted(&arguments.potential)));
    match &arguments.active_set {
        Some(path) => line(format_args!("active_set = {}", quoted(path))),
        None => line(format_args!("# active_set = \"….asi\"         # default: the name of `file`, ending in .asi")),
    }
    line(format_args!("# engine = \"ml-pace\"            # ML-PACE's own evaluator, slower, the same numbers"));
    line(format_args!("\n[embedding]"));
    line(format_args!("radius = {:?}                    # Å, the core whose forces are learnt", plan.radius));
    line(format_args!("# buffer = {cutoff:?}                  # Å around it; default: the potential's cutoff"));
    line(format_args!(
        "max_atoms = {}                 # here cut-outs have {}; where atoms are hot or dense, more",
        plan.max_atoms,
        plan.trial.range()
    ));
    line(format_args!("# shape = \"cube\"                # full of atoms, not a sphere in vacuum: raise max_atoms"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hydrogen_halves_the_time_step() {
        assert_eq!(timestep(&["O", "H"]), 0.0005);
        assert_eq!(timestep(&["Ho", "Hf"]), 0.001);
    }
}
