// SPDX-License-Identifier: GPL-2.0-or-later
//! Renders a template to the LAMMPS commands of a configuration.
//!
//! The built-in template is `templates/md.in.j2`. A custom template gets the same variables, which are the fields of [`Script`].
//! It must define a fix `otf_gamma` (`fix otf_gamma all pair {{ interval }} {{ pair_style }} gamma 1`) if the uncertainty is
//! that of ML-PACE. For runs that can be resumed it must read `restart` instead of `data` if `restart` is set. Paths are quoted
//! as one LAMMPS word before they are passed to the template. The template language has no access to files.

mod commands;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{
    Barostat, Engine, Ensemble, InferenceConfig, Potential, Ramp, Thermostat, Uncertainty, Units, Velocities,
};
pub use crate::config::{Earlier, Outputs};
use crate::lammps::{self, Lammps, PACE_EXTRAPOLATION, quote_path};
use crate::structure::{Cell, Element, FixedAtoms, Structure};

/// Id of the fix that holds γ.
pub const GAMMA_FIX: &str = "otf_gamma";
/// Name of the column of γ in a dump.
pub(crate) const GAMMA_COLUMN: &str = "f_otf_gamma";

/// The fix style of the pause plugin that evaluates γ.
pub const GAMMA_STYLE: &str = "otf/gamma";

/// The commands of a set-up that act only at the start of a run, because a restart file contains their effect.
pub(crate) fn commands_that_act_once(setup: &[String]) -> Vec<String> {
    let commands = commands::commands(&setup.join("\n")).into_iter();
    commands.filter(commands::acts_once).map(|command| command.text).collect()
}

const BUILT_IN: &str = include_str!("../templates/md.in.j2");

/// Why the commands cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the template {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The template has an error.
    #[error("the template {name}: {message}")]
    Template {
        /// Path of the template, or `templates/md.in.j2 (built-in)`.
        name: String,
        /// The error and its position.
        message: String,
    },
    /// The template does not define the fix for γ.
    #[error(
        "the template {name} defines no fix `{GAMMA_FIX}`, from which γ is read: add `fix {GAMMA_FIX} all pair \
         {{{{ interval }}}} {{{{ pair_style }}}} gamma 1`, or set `uncertainty` to another source"
    )]
    NoGamma {
        /// The file.
        name: String,
    },
    /// The template reads γ from another pair style than that of the run.
    #[error(
        "the template {name} reads γ from `{asked}`, but the pair style is `{pair_style}`: write `{{{{ pair_style }}}}` \
         in both places, or choose the evaluator with `engine` in [potential]"
    )]
    OtherGamma {
        /// The file.
        name: String,
        /// The style in the line of the fix.
        asked: String,
        /// The pair style of the configuration.
        pair_style: String,
    },
    /// The template cannot read a restart file.
    #[error(
        "the template {name} has no `read_restart`, which is required to resume a run: replace its `read_data` by `{{% if \
         restart %}}read_restart {{{{ restart }}}}{{% else %}}read_data {{{{ data }}}}{{% endif %}}`"
    )]
    NoRestart {
        /// The file.
        name: String,
    },
    /// A template without the temperature at which velocities are drawn.
    #[error(
        "the template {name} does not use `velocity_temperature`, the temperature at which `velocities = \"equipartition\"` draws \
         velocities: write `velocity all create {{{{ velocity_temperature }}}} {{{{ seed }}}}`"
    )]
    NoVelocities {
        /// The file.
        name: String,
    },
    /// A barostat along a direction that is not periodic.
    #[error(
        "`ensemble = \"npt\"` changes the cell along all three vectors, but the structure is not periodic along the {which}: \
         use \"nvt\", or set pbc=\"T T T\" in the structure if it is periodic. To control the pressure along the other \
         vectors only, use a `template` with its own `fix npt`"
    )]
    Barostat {
        /// `third`, or `first and second`.
        which: String,
    },
    /// The template does not fix the atoms that the structure fixes.
    #[error(
        "the structure fixes {atoms} atoms (`move_mask`), but the template {name} has no `fix setforce` for them: copy the \
         lines with `fixed` from templates/md.in.j2, or remove the column from the structure"
    )]
    NotFixed {
        /// The file.
        name: String,
        /// Number of fixed atoms.
        atoms: usize,
    },
    /// A command that removes quantities that are read at each poll.
    #[error("`{line}` removes quantities that each poll reads from the thermo output: {remedy}")]
    Thermo {
        /// The command.
        line: String,
        /// The remedy.
        remedy: String,
    },
    /// A command that ends or replaces the commands around it.
    #[error("{place} contains the command `{command}`, which {why}")]
    Forbidden {
        /// The key of the configuration, or the file, that contains the command.
        place: String,
        /// The command.
        command: String,
        /// Its effect, and the remedy.
        why: &'static str,
    },
    /// A command whose file would be overwritten, or written by several simulations.
    #[error("the file of `{command}` would be overwritten: {why}")]
    Unprotected {
        /// The command.
        command: String,
        /// The reason, and the remedy.
        why: &'static str,
    },
    /// The folder of a file does not exist.
    #[error("the folder {} for the file of `{command}` does not exist: create it, or use another name", folder.display())]
    NoFolder {
        /// The command.
        command: String,
        /// The folder.
        folder: PathBuf,
    },
    /// Text that cannot be passed to LAMMPS.
    #[error(transparent)]
    Quote(#[from] lammps::Error),
}

/// The variables of a template. Numbers are in the units of the set-up.
#[derive(Debug, Clone, Serialize)]
pub struct Script {
    /// File name of the structure.
    pub name: String,
    /// Version of lammps-otf.
    pub version: &'static str,
    /// `metal` or `real`.
    pub units: Units,
    /// Arguments of `boundary`, such as `p p p`.
    pub boundary: String,
    /// Commands that create box and atoms; empty if these are read from `data`.
    pub create: Vec<String>,
    /// Path of the data file, quoted.
    pub data: String,
    /// Arguments of `pair_style`.
    pub pair_style: String,
    /// The bias of an exploration, if there is one.
    pub bias: Option<ScriptBias>,
    /// Arguments of each `pair_coeff`.
    pub pair_coeff: Vec<String>,
    /// Time step.
    pub timestep: f64,
    /// Whether to minimise first.
    pub minimize: bool,
    /// Whether to create random velocities.
    pub create_velocities: bool,
    /// The temperature at which they are created, K.
    pub velocity_temperature: f64,
    /// Whether to create them only if all atoms are at rest, because atoms that `create` reads may have velocities.
    pub unless_moving: bool,
    /// The atoms that are fixed along some axes.
    pub fixed: Vec<Fixed>,
    /// Number of degrees of freedom of fixed atoms, which are not counted for the temperature.
    pub lost_degrees_of_freedom: usize,
    /// `nve`, `nvt` or `npt`.
    pub ensemble: Ensemble,
    /// `nose-hoover` or `langevin`.
    pub thermostat: Thermostat,
    /// `iso`, `aniso` or `tri`.
    pub barostat: Barostat,
    /// `start`, `end` and `damping` of the thermostat.
    pub temperature: Target,
    /// `start`, `end` and `damping` of the barostat.
    pub pressure: Target,
    /// Seed of the random numbers.
    pub seed: u32,
    /// Steps between two polls.
    pub interval: u64,
    /// The initial step: 0, or the step of the frame to which the simulation is rewound. Must be set with `reset_timestep` before
    /// fixes that depend on the step, because LAMMPS does not allow it afterwards.
    pub step: i64,
    /// Path of the restart file that the run continues from, quoted; absent for a new run.
    pub restart: Option<String>,
    /// Whether γ of ML-PACE is computed.
    pub gamma: bool,
    /// The commands of `setup`.
    pub setup: Vec<String>,
    /// Where the commands write their files.
    #[serde(skip)]
    pub outputs: Outputs,
    #[serde(skip)]
    template: Option<PathBuf>,
}

/// The bias of an exploration in a set-up. lammps-otf itself sets it in the memory of the pair style.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScriptBias {
    /// Arguments of the option `bias` of the pair style, if the bias does not change during the run.
    pub constant: Option<String>,
}

impl ScriptBias {
    fn of(config: &InferenceConfig) -> Option<Self> {
        let explore =
            config.explore.as_ref().filter(|explore| explore.fixed_strength.unwrap_or(explore.strength) > 0.0)?;
        let limit = explore.limit(config.watch.uncertainty_threshold.initial());
        let constant = explore.fixed_strength.zip(explore.onset);
        let constant = constant.map(|(strength, onset)| format!("{strength} {onset} {limit} {}", explore.shortest));
        Some(Self { constant })
    }
}

/// The fix from which γ of ML-PACE is read, with the id [`GAMMA_FIX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GammaFix {
    /// The pair style.
    pub pair_style: String,
    /// Steps between two evaluations.
    pub interval: i64,
}

impl GammaFix {
    /// Defines the fix, or replaces one that `fix pair` has defined under this id: as `otf/gamma` of the pause plugin
    /// ([`Lammps::load_pause_fix`]) if that is available on all ranks, otherwise as `pair`. Both give the same values, but a step
    /// that is set up again gets new ones from `otf/gamma` only, and `pair` makes KOKKOS copy all arrays of the atoms on every step.
    ///
    /// # Errors
    /// LAMMPS's own text, e.g. if the pair style is not in use.
    ///
    /// # MPI
    /// Collective.
    pub fn define(&self, lammps: &mut Lammps) -> Result<(), lammps::Error> {
        let Self { pair_style, interval } = self;
        if lammps.comm().any(!lammps.has_style("fix", GAMMA_STYLE)) {
            return lammps.command(&format!("fix {GAMMA_FIX} all pair {interval} {pair_style} gamma 1"));
        }
        // LAMMPS replaces a fix only by one of the same style.
        if lammps.has_id("fix", GAMMA_FIX) {
            lammps.command(&format!("unfix {GAMMA_FIX}"))?;
        }
        lammps.command(&format!("fix {GAMMA_FIX} all {GAMMA_STYLE} {interval}"))
    }
}

/// Start, end and relaxation time of a thermostat or barostat.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Target {
    /// Value at the start.
    pub start: f64,
    /// Value at the end.
    pub end: f64,
    /// Relaxation time.
    pub damping: f64,
}

/// A group of atoms that are fixed along the same axes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// Name of the group and of the fix that sets their forces to zero, such as `otf_fixed_xyz`.
    pub group: String,
    /// The ids as arguments of `group … id`, in chunks of limited length.
    pub ids: Vec<String>,
    /// Arguments of `setforce` and `velocity set`: 0.0 along the fixed axes, `NULL` along the others.
    pub held: String,
    #[serde(skip)]
    atoms: usize,
}

impl Fixed {
    fn new(fixed: &FixedAtoms) -> Self {
        let ranges = fixed.ranges();
        Self {
            group: format!("otf_fixed_{}", fixed.axes()),
            ids: ranges.chunks(20).map(|some| some.join(" ")).collect(),
            held: fixed.axes.map(|fixed| if fixed { "0.0" } else { "NULL" }).join(" "),
            atoms: fixed.ids.len(),
        }
    }
}

impl Script {
    /// The commands for `structure` and `config`. The structure must be in the frame of LAMMPS, and is read from the file `data`.
    ///
    /// # Errors
    /// [`Error::Quote`] for a path that cannot be quoted; [`Error::Barostat`].
    pub fn new(config: &InferenceConfig, structure: &Structure, data: &Path) -> Result<Self, Error> {
        let factor = UnitFactors::of(config.system.units);
        let target = |ramp: Ramp, unit: f64, damping: f64| Target {
            start: ramp.start() / unit,
            end: ramp.end() / unit,
            damping: damping / factor.time,
        };
        // The outline of a structure has no atoms, and its cell encloses the atoms already.
        let cell = structure.cell.enclosing(structure.positions.view());
        if config.md.ensemble == Ensemble::Npt && config.system.template.is_none() && cell.pbc != [true; 3] {
            let open = ["first", "second", "third"].into_iter().zip(cell.pbc).filter(|(_, periodic)| !periodic);
            return Err(Error::Barostat { which: open.map(|(name, _)| name).collect::<Vec<_>>().join(" and ") });
        }
        let at_rest = !structure.is_empty() && structure.velocity_temperature().is_none();
        let gamma = config.watch.uncertainty == Uncertainty::Pace;
        let (pair_style, pair_coeff) = pair_commands(&config.system.potential, &structure.elements, gamma)?;
        Ok(Self {
            name: config
                .system
                .structure
                .file_name()
                // Used in a comment: a newline would end it, and three quotes would include the following lines.
                .map(|n| n.to_string_lossy().replace(|c: char| c.is_control() || c == '"' || !c.is_ascii(), "_"))
                .unwrap_or_else(|| "atoms that LAMMPS creates".into()),
            version: env!("CARGO_PKG_VERSION"),
            units: config.system.units,
            // Open directions are shrink-wrapped, because atoms that leave a fixed box are lost. If the cell is very thin, its
            // height is the minimum (`m`).
            boundary: std::array::from_fn::<_, 3, _>(|k| match (cell.pbc[k], cell.heights()[k] < Cell::MIN_HEIGHT) {
                (true, _) => "p",
                (false, false) => "s",
                (false, true) => "m",
            })
            .join(" "),
            create: config.system.create.clone(),
            data: quote_path(data)?,
            pair_style,
            bias: ScriptBias::of(config),
            pair_coeff,
            timestep: config.md.timestep / factor.time,
            minimize: config.md.minimize,
            create_velocities: match config.md.velocities {
                Velocities::Create | Velocities::Equipartition => true,
                Velocities::Keep => false,
                Velocities::Auto => structure.velocities.is_none() || at_rest,
            },
            velocity_temperature: config.md.velocities.drawn_at(config.md.temperature.start()),
            unless_moving: config.md.velocities == Velocities::Auto && !config.system.create.is_empty(),
            fixed: structure.fixed.iter().map(Fixed::new).collect(),
            lost_degrees_of_freedom: structure.lost_degrees_of_freedom(),
            ensemble: config.md.ensemble,
            thermostat: config.md.thermostat,
            barostat: config.md.barostat,
            temperature: target(
                config.md.temperature,
                1.0,
                config.md.temperature_damping.unwrap_or(100.0 * config.md.timestep),
            ),
            pressure: target(
                config.md.pressure,
                factor.pressure,
                config.md.pressure_damping.unwrap_or(1000.0 * config.md.timestep),
            ),
            seed: config.md.seed,
            interval: config.watch.sampling_interval,
            step: 0,
            restart: None,
            gamma,
            setup: config.system.setup.clone(),
            outputs: config.outputs.clone(),
            template: config.system.template.clone(),
        })
    }

    /// The same set-up for atoms that have been simulated until `step`: without minimisation and without new velocities.
    #[must_use]
    pub fn continued(&self, step: i64) -> Self {
        let outputs = Outputs { earlier: Earlier::Repeated, ..self.outputs.clone() };
        Self { minimize: false, create_velocities: false, step, restart: None, outputs, ..self.clone() }
    }

    /// The same set-up for a run that continues from a restart file.
    ///
    /// Lines of `setup` that change the atoms are omitted, because the restart file contains their effect.
    ///
    /// A Langevin thermostat gets another seed. The restart file does not contain its random numbers, and with the same seed
    /// those of the first steps would be repeated.
    ///
    /// # Errors
    /// [`Error::Quote`] for a path that cannot be quoted.
    pub fn resumed(&self, restart: &Path, step: i64) -> Result<Self, Error> {
        let seed = (i64::from(self.seed) + step).rem_euclid(900_000_000).max(1) as u32;
        let setup = commands::commands(&self.setup.join("\n"));
        let setup =
            setup.into_iter().filter(|command| !commands::acts_once(command)).map(|command| command.text).collect();
        let earlier = match self.outputs.earlier {
            Earlier::Repeated => Earlier::Repeated,
            _ => Earlier::Resumed(step),
        };
        let outputs = Outputs { earlier, ..self.outputs.clone() };
        Ok(Self { restart: Some(quote_path(restart)?), seed, setup, outputs, ..self.continued(0) })
    }

    /// The same set-up with another potential for the same elements.
    ///
    /// # Errors
    /// [`Error::Quote`] for a path that cannot be quoted.
    pub fn with_potential(&self, potential: &Potential, elements: &[Element]) -> Result<Self, Error> {
        let (pair_style, pair_coeff) = pair_commands(potential, elements, self.gamma)?;
        Ok(Self { pair_style, pair_coeff, ..self.clone() })
    }

    /// The same set-up with any pair style and without γ.
    pub(crate) fn without_gamma(&self, pair_style: &str, pair_coeff: &[String]) -> Self {
        Self { pair_style: pair_style.to_owned(), pair_coeff: pair_coeff.to_vec(), gamma: false, ..self.clone() }
    }

    /// The commands as text.
    ///
    /// # Errors
    /// [`Error`] if the template cannot be used, or if a command is not allowed.
    pub fn render(&self) -> Result<String, Error> {
        let (name, text) = match &self.template {
            None => ("templates/md.in.j2 (built-in)".to_owned(), BUILT_IN.to_owned()),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.clone(), source })?;
                (path.display().to_string(), text)
            }
        };
        let fail = |e: &tera::Error| {
            let mut message = e.to_string();
            let mut cause = std::error::Error::source(e);
            while let Some(inner) = cause {
                message += &format!(": {inner}");
                cause = inner.source();
            }
            // Remove the internal name that the template engine uses.
            for noise in [
                "Failed to render '__tera_one_off': ",
                "Failed to parse '__tera_one_off': ",
                " while rendering '__tera_one_off'",
            ] {
                message = message.replace(noise, "");
            }
            if message.contains("not found in context") {
                let variables = serde_json::to_value(self).unwrap_or_default();
                let names = variables.as_object().into_iter().flat_map(|o| o.keys().map(String::as_str));
                message += &format!("; the variables are {}", names.collect::<Vec<_>>().join(", "));
            }
            Error::Template { name: name.clone(), message }
        };
        let context = tera::Context::from_serialize(self).map_err(|e| fail(&e))?;
        let rendered = tera::Tera::one_off(&text, &context, false).map_err(|e| fail(&e))?;
        self.check_commands(&name, &rendered)?;
        if self.gamma {
            self.check_gamma(&name, &rendered)?;
        }
        self.check_thermo()?;
        let holds = |line: &str| line.trim_start().starts_with("fix") && line.contains(" setforce ");
        if !self.fixed.is_empty() && !rendered.lines().any(holds) {
            return Err(Error::NotFixed { name, atoms: self.fixed.iter().map(|fixed| fixed.atoms).sum() });
        }
        let ordinary = self.velocity_temperature == self.temperature.start;
        if self.create_velocities && !ordinary && !text.contains("velocity_temperature") {
            return Err(Error::NoVelocities { name });
        }
        if self.restart.is_some() && !rendered.lines().any(|l| l.trim_start().starts_with("read_restart")) {
            return Err(Error::NoRestart { name });
        }
        let unprotected = |e: commands::Unprotected| Error::Unprotected { command: e.command, why: e.why };
        self.outputs.protect(&rendered).map_err(unprotected)
    }

    /// Checks that no command ends or replaces the input, which would skip later commands or end the process.
    fn check_commands(&self, name: &str, rendered: &str) -> Result<(), Error> {
        let parts = [("`setup`", self.setup.join("\n")), ("`create`", self.create.join("\n"))];
        let template = format!("the template {name}");
        let parts = parts.iter().map(|(key, text)| (*key, text.as_str())).chain([(template.as_str(), rendered)]);
        for (place, text) in parts {
            if let Some(found) = commands::forbidden(text) {
                let place = match found.file {
                    Some(file) => format!("the file {}, which {place} includes,", file.display()),
                    None => place.to_owned(),
                };
                return Err(Error::Forbidden { place, command: found.command, why: found.why });
            }
        }
        Ok(())
    }

    /// Checks that the lines of `setup` keep the quantities in the thermo output that each poll reads, not normalised by the number
    /// of atoms.
    fn check_thermo(&self) -> Result<(), Error> {
        let refuse = |line: &str, remedy: String| Err(Error::Thermo { line: line.to_owned(), remedy });
        for line in &self.setup {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["thermo_modify", ..]
                    if words.windows(2).any(|pair| matches!(pair, ["norm", "yes" | "on" | "true"])) =>
                {
                    return refuse(line, "remove `norm yes`, which divides energies by the number of atoms".into());
                }
                ["thermo_style", "custom", ..] => {
                    let missing = ["temp", "press", "pe", "etotal"].into_iter().filter(|name| !words.contains(name));
                    let missing = missing.collect::<Vec<_>>().join(" ");
                    if !missing.is_empty() {
                        return refuse(line, format!("add `{missing}` to it"));
                    }
                }
                ["thermo_style", ..] => {
                    return refuse(line, "use `thermo_style custom` with temp press pe etotal".into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The fix for γ that `commands`, the rendered ones, define with `fix pair`; `None` if another fix provides γ, or more than γ.
    #[must_use]
    pub fn gamma_fix(&self, commands: &str) -> Option<GammaFix> {
        let lines: Vec<Vec<&str>> = commands.lines().map(|line| line.split_whitespace().collect()).collect();
        let fix = lines.iter().rfind(|words| words.starts_with(&["fix", GAMMA_FIX]))?;
        match fix[2..] {
            ["all", "pair", interval, style, "gamma", "1"] if style == self.pair_style => {
                let interval = interval.parse().ok().filter(|n| *n > 0)?;
                Some(GammaFix { pair_style: style.to_owned(), interval })
            }
            _ => None,
        }
    }

    /// Checks that the commands of the template `name` define the fix for γ, and that it refers to the pair style of this set-up.
    fn check_gamma(&self, name: &str, commands: &str) -> Result<(), Error> {
        let mut lines = commands.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
        let fix = lines.find(|words| words.starts_with(&["fix", GAMMA_FIX]));
        let fix = fix.ok_or_else(|| Error::NoGamma { name: name.to_owned() })?;
        // A fix of another style than `pair` may also provide γ.
        match (fix.get(3), fix.get(5)) {
            (Some(&"pair"), Some(&asked)) if asked != self.pair_style => Err(Error::OtherGamma {
                name: name.to_owned(),
                asked: asked.to_owned(),
                pair_style: self.pair_style.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// Checks that the folders of all written files exist. In LAMMPS, a missing folder is an error on one rank only, while the others
/// wait.
pub(crate) fn check_folders(commands: &str) -> Result<(), Error> {
    let missing = commands::without_folder(commands);
    missing.map_or(Ok(()), |(command, folder)| Err(Error::NoFolder { command, folder }))
}

/// Absolute paths of the files that the commands append to during a run, if their names contain no variables.
pub(crate) fn growing_files(commands: &str) -> Vec<PathBuf> {
    commands::growing(commands)
}

/// Arguments of `pair_style`, with or without γ of ML-PACE.
#[must_use]
pub fn pair_style(potential: &Potential, gamma: bool) -> String {
    if potential.pace_files().is_none() {
        return potential.pair_style.clone().unwrap_or_else(|| "none".into());
    }
    let style = if gamma { PACE_EXTRAPOLATION } else { "pace" };
    let suffix = if potential.engine == Engine::Opt { "/opt" } else { "" };
    format!("{style}{suffix}")
}

/// Arguments of `pair_style` and of each `pair_coeff`.
fn pair_commands(
    potential: &Potential,
    elements: &[Element],
    gamma: bool,
) -> Result<(String, Vec<String>), lammps::Error> {
    crate::potential::check_engine(potential).map_err(lammps::Error::Preflight)?;
    let style = pair_style(potential, gamma);
    let Some((file, active_set)) = potential.pace_files() else { return Ok((style, potential.pair_coeff.clone())) };
    let mut coeff = format!("* * {}", quote_path(&file)?);
    if gamma {
        coeff += &format!(" {}", quote_path(&active_set)?);
    }
    for element in elements {
        coeff += &format!(" {}", element.symbol());
    }
    Ok((style, vec![coeff]))
}

/// Factors from the units of the set-up to those of this program (Å, ps, eV, bar), as LAMMPS defines its units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnitFactors {
    /// ps in one unit of time.
    pub time: f64,
    /// eV in one unit of energy.
    pub energy: f64,
    /// bar in one unit of pressure.
    pub pressure: f64,
}

impl UnitFactors {
    /// The factors of a unit system.
    #[must_use]
    pub fn of(units: Units) -> Self {
        match units {
            Units::Metal => Self { time: 1.0, energy: 1.0, pressure: 1.0 },
            // 1 kcal = 4184 J and 1 mol = 6.02214076e23 (exact); 1 eV = 1.602176634e-19 J (exact); 1 atm = 1.01325 bar.
            Units::Real => {
                Self { time: 1e-3, energy: 4184.0 / (6.022_140_76e23 * 1.602_176_634e-19), pressure: 1.013_25 }
            }
        }
    }

    /// Å/ps in one unit of velocity.
    #[must_use]
    pub fn velocity(&self) -> f64 {
        1.0 / self.time
    }
}
