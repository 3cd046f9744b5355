// SPDX-License-Identifier: GPL-2.0-or-later
//! The trajectory of a run as a `dump` of LAMMPS, which sorts and writes atoms of all ranks without collecting them on one.

use std::path::{Path, PathBuf};

use crate::config::{TrajectoryConfig, TrajectoryFormat};
use crate::lammps::{self, Lammps, quote_path};
use crate::script::GAMMA_COLUMN;
use crate::structure::Element;

/// Id of the dump.
const DUMP: &str = "otf_trajectory";

/// The dump of a run.
#[derive(Debug, Clone)]
pub(super) struct Trajectory {
    settings: TrajectoryConfig,
    path: PathBuf,
    /// Symbols of the atom types.
    symbols: String,
    /// Whether γ is known.
    has_gamma: bool,
}

impl Trajectory {
    /// The trajectory of a run in a folder.
    pub(super) fn new(settings: &TrajectoryConfig, folder: &Path, elements: &[Element], has_gamma: bool) -> Self {
        let symbols = elements.iter().map(|element| element.symbol()).collect::<Vec<_>>().join(" ");
        Self { settings: settings.clone(), path: folder.join(settings.format.file()), symbols, has_gamma }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The same trajectory in another folder.
    pub(super) fn set_folder(&mut self, folder: &Path) {
        self.path = folder.join(self.settings.format.file());
    }

    /// Starts the dump. With `append`, frames are added to the file.
    ///
    /// # Errors
    /// LAMMPS's own text; if LAMMPS lacks the style.
    ///
    /// # MPI
    /// Collective.
    pub(super) fn start(&self, lammps: &mut Lammps, append: bool) -> Result<(), lammps::Error> {
        if self.settings.format == TrajectoryFormat::Extxyz && !lammps.has_style("dump", "extxyz") {
            return Err(lammps::Error::Preflight(
                "this LAMMPS has no `dump extxyz`: build it with the package EXTRA-DUMP, or set `format = \"dump\"` in [trajectory]"
                    .into(),
            ));
        }
        let path = self.path.display().to_string();
        if path.contains(['*', '%']) {
            return Err(lammps::Error::Preflight(format!(
                "LAMMPS expands `*` and `%` in the name of a trajectory, which is {path}: choose another folder, or remove \
                 [trajectory]"
            )));
        }
        if lammps.has_id("dump", DUMP) {
            lammps.command(&format!("undump {DUMP}"))?;
        }
        let mut commands = self.commands(&quote_path(&self.path)?);
        if append {
            commands += &format!("dump_modify {DUMP} append yes\n");
        }
        lammps.command(&commands)
    }

    /// The commands, with the quoted path of a file.
    pub(super) fn commands(&self, file: &str) -> String {
        let TrajectoryConfig { interval, format, velocities, forces } = self.settings;
        let Self { symbols, .. } = self;
        let yes = |set: bool| if set { "yes" } else { "no" };
        // More digits than LAMMPS's default of six, so that energies and γ of a frame can be computed again.
        match format {
            TrajectoryFormat::Dump => {
                let mut columns = "id type element x y z ix iy iz".to_owned();
                for (set, more) in [(velocities, " vx vy vz"), (forces, " fx fy fz")] {
                    columns += if set { more } else { "" };
                }
                if self.has_gamma {
                    columns += &format!(" {GAMMA_COLUMN}");
                }
                format!(
                    "dump {DUMP} all custom {interval} {file} {columns}\n\
                     dump_modify {DUMP} sort id element {symbols} format float %.10g\n"
                )
            }
            TrajectoryFormat::Extxyz => {
                let numbers = 3 * (1 + usize::from(velocities) + usize::from(forces));
                format!(
                    "dump {DUMP} all extxyz {interval} {file}\n\
                     dump_modify {DUMP} sort id element {symbols} vel {} forces {} mass no format line \"%s{}\"\n",
                    yes(velocities),
                    yes(forces),
                    " %.10g".repeat(numbers)
                )
            }
        }
    }
}
