// SPDX-License-Identifier: GPL-2.0-or-later
//! The folder of a run during the set-up.

use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2};

use super::checkpoint::Checkpoint;
use super::recorder::lock_existing;
use super::{Error, files};
use crate::comm::Comm;
use crate::config::InferenceConfig;
use crate::io;
use crate::lammps;
use crate::simulation::{self, Simulation};
use crate::structure::{Cell, FixedAtoms, Structure};

/// The text of the LAMMPS data file of a structure; empty if LAMMPS creates the atoms.
///
/// # Errors
/// [`Error::InvalidStructure`] if the structure cannot be simulated.
pub(crate) fn data_file(structure: &Structure, config: &InferenceConfig) -> Result<Vec<u8>, Error> {
    if !config.system.create.is_empty() {
        return Ok(Vec::new());
    }
    let invalid =
        |message: String| Error::InvalidStructure { name: config.system.structure.display().to_string(), message };
    structure.validate(config.limits.min_distance).map_err(|e| invalid(e.to_string()))?;
    if let Some(mismatch) = structure.velocity_temperature().and_then(|measured| config.check_velocities(measured))
        && mismatch.is_error
    {
        return Err(invalid(mismatch.remark.to_string()));
    }
    let (highest, limit) = (structure.ids.iter().copied().max().unwrap_or(0), lammps::max_id());
    if highest > limit {
        return Err(invalid(format!(
            "atom id {highest} is above {limit}, the highest id of this liblammps, which has 32-bit atom ids: build LAMMPS \
             with -DLAMMPS_SIZES=bigbig and this program for it (ci/install), or number the atoms from 1"
        )));
    }
    let (mut turned, _) = structure.to_lammps_frame().map_err(|e| invalid(e.to_string()))?;
    turned.cell = turned.cell.enclosing(turned.positions.view());
    let mut text = Vec::new();
    let speed = crate::script::UnitFactors::of(config.system.units).velocity();
    io::lammps_data::write_in(config.system.units.name(), speed, &turned, &mut text)?;
    Ok(text)
}

/// A temporary folder for the set-up, next to the final folder of the run. It is removed on drop unless it is published.
pub(super) struct Stage {
    pub(super) folder: tempfile::TempDir,
    /// The final path. If the user gave a link to an empty folder, the path of that folder.
    destination: PathBuf,
}

impl Stage {
    pub(super) fn new(output: &Path, data: &[u8]) -> Result<Self, Error> {
        if output.read_dir().is_ok_and(|mut entries| entries.next().is_some()) || output.is_file() {
            return Err(Error::Occupied(output.to_owned()));
        }
        let writing = |source| Error::Write { path: output.to_owned(), source };
        let destination = if output.is_symlink() { output.canonicalize().map_err(writing)? } else { output.to_owned() };
        let parent = match destination.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        if parent.is_file() {
            let why = format!("{} is a file, not a folder", parent.display());
            return Err(writing(std::io::Error::other(why)));
        }
        std::fs::create_dir_all(parent).map_err(writing)?;
        let absolute = std::path::absolute(parent).map_err(writing)?;
        let folder = tempfile::Builder::new().prefix(".lammps-otf-").tempdir_in(absolute).map_err(writing)?;
        let path = folder.path().join(files::DATA);
        if !data.is_empty() {
            std::fs::write(&path, data).map_err(Error::writing(path))?;
        }
        Ok(Self { folder, destination })
    }

    /// Copies the state of the run in `parent`, from which a run with `config` continues, and returns the checkpoint of that run.
    ///
    /// The copy has two names: the last checkpoint is replaced by the next one, and the start of the run is kept.
    ///
    /// # Errors
    /// As [`Checkpoint::of_parent`]; [`Error::Running`] if that run is under way.
    pub(super) fn copy_state(&self, parent: &Path, config: &InferenceConfig, data: &[u8]) -> Result<Checkpoint, Error> {
        // Nothing is touched in a folder that is not that of such a run.
        Checkpoint::of_parent(parent, config, data)?;
        // Without the lock, the file could be replaced while it is copied.
        let _lock = lock_existing(&parent.join(files::LOCK))?;
        let found = Checkpoint::of_parent(parent, config, data)?;
        let name = found.restart.as_deref().expect("of_parent requires one");
        let (start, last) = (self.folder.path().join(files::START), self.folder.path().join(name));
        std::fs::copy(parent.join(name), &start).map_err(Error::writing(&start))?;
        // Not all file systems have hard links.
        if std::fs::hard_link(&start, &last).is_err() {
            std::fs::copy(&start, &last).map_err(Error::writing(&last))?;
        }
        for path in [&start, &last] {
            std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(Error::writing(path))?;
        }
        Ok(found)
    }

    /// Writes the commands of the run. A run that continues another one starts from the state at the step `continues`.
    pub(super) fn write_script(
        &self,
        simulation: &Simulation,
        continues: Option<i64>,
        checkpoints: Option<u64>,
    ) -> Result<(), Error> {
        let mut script = simulation.script().clone();
        files::DATA.clone_into(&mut script.data);
        if let Some(step) = continues {
            script = script.resumed(Path::new(files::START), step).map_err(simulation::Error::from)?;
        }
        let commands = script.render().map_err(simulation::Error::from)?;
        let (first, last) = (simulation.first_step(), simulation.last_step());
        let trajectory = simulation.trajectory_commands();
        let runs = run_commands(continues.unwrap_or(first), first..last, checkpoints.map(|every| every as i64));
        let run = format!("{commands}\n{trajectory}{runs}");
        let path = self.folder.path().join(files::SCRIPT);
        std::fs::write(&path, run).map_err(Error::writing(path))
    }

    pub(super) fn write_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(checkpoint).expect("numbers and names");
        let path = self.folder.path().join(files::CHECKPOINT);
        std::fs::write(&path, text).map_err(Error::writing(&path))?;
        let sync = |path: &Path| std::fs::File::open(path).and_then(|file| file.sync_all());
        sync(&path).and_then(|()| sync(self.folder.path())).map_err(Error::writing(path))
    }

    /// Moves the folder to its final path, and returns the absolute path.
    pub(super) fn publish(self, output: &Path) -> Result<PathBuf, Error> {
        let writing = |source| Error::Write { path: output.to_owned(), source };
        let staged = self.folder.keep();
        inherit_permissions(&staged);
        std::fs::rename(&staged, self.destination).map_err(writing)?;
        std::path::absolute(output).map_err(writing)
    }
}

/// The commands that run from the step `from` to the end of `whole`, over which ramps extend.
///
/// Each checkpoint, at a multiple of `every`, sets up the run again. `every` of the command `run`, which counts from its first step, does the
/// same in plain `lmp`, so that both trajectories are identical. Without `start` and `stop`, a ramp would extend over each part of the run.
fn run_commands(from: i64, whole: std::ops::Range<i64>, every: Option<i64>) -> String {
    let steps = whole.end - from;
    let ramp = format!(" start {} stop {}", whole.start, whole.end);
    let Some(every) = every.filter(|every| *every < steps) else {
        return format!("run             {steps}{}\n", if from == whole.start { "" } else { &ramp });
    };
    let until = (every - from.rem_euclid(every)) % every;
    let before = if until == 0 { String::new() } else { format!("run             {until}{ramp}\n") };
    let rest = steps - until;
    let parts = if every < rest { format!(" every {every} NULL") } else { String::new() };
    format!("{before}run             {rest}{ramp}{parts}\n")
}

/// Checks that folders contain no symbolic links, because LAMMPS, SQLite and this program would write to their targets. Folders
/// that do not exist are ignored.
///
/// # Errors
/// [`Error::Link`] for the first symbolic link.
pub(crate) fn refuse_links<P: AsRef<Path>>(folders: impl IntoIterator<Item = P>) -> Result<(), Error> {
    for folder in folders {
        for entry in folder.as_ref().read_dir().into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                return Err(Error::Link(entry.path()));
            }
        }
    }
    Ok(())
}

/// Sets the permissions of a folder to those of its parent. `tempfile` creates folders with access for the owner only.
pub(crate) fn inherit_permissions(folder: &Path) {
    if let Some(model) = folder.parent().and_then(|p| p.metadata().ok()) {
        let _ = std::fs::set_permissions(folder, model.permissions());
    }
}

/// Sends the cell, the elements and the fixed atoms of rank 0's structure to all ranks. Returns a structure without atoms.
///
/// # MPI
/// Collective.
pub(crate) fn outline(comm: &Comm, structure: &Structure) -> Structure {
    let symbols: Vec<&str> = structure.elements.iter().map(|e| e.symbol()).collect();
    let cell = structure.cell.enclosing(structure.positions.view());
    // If all velocities are zero, they are treated as missing.
    let velocities = structure.velocity_temperature().is_some();
    let mine = serde_json::json!([symbols, cell.origin, cell.vectors, cell.pbc, velocities, structure.fixed]);
    let bytes = comm.broadcast(0, mine.to_string().into_bytes());
    type Outline = (Vec<String>, [f64; 3], [[f64; 3]; 3], [bool; 3], bool, Vec<FixedAtoms>);
    let (symbols, origin, vectors, pbc, velocities, fixed): Outline =
        serde_json::from_slice(&bytes).expect("as rank 0 wrote it");
    Structure {
        cell: Cell { origin, vectors, pbc },
        elements: symbols.iter().filter_map(|s| crate::structure::element_from_symbol(s)).collect(),
        fixed,
        velocities: velocities.then(|| Array2::zeros((0, 3))),
        ..no_atoms()
    }
}

/// A structure with a placeholder cell, without elements and atoms, for ranks other than 0.
pub(super) fn no_atoms() -> Structure {
    Structure {
        cell: Cell::orthorhombic([1.0; 3], [true; 3]),
        elements: Vec::new(),
        masses: None,
        types: Array1::zeros(0),
        ids: Array1::zeros(0),
        fixed: Vec::new(),
        positions: Array2::zeros((0, 3)),
        velocities: None,
    }
}

/// Sends a path from rank 0 to all ranks.
///
/// # MPI
/// Collective.
pub(super) fn share_path(comm: &Comm, path: Option<&Path>) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = path.map(|p| p.as_os_str().as_bytes().to_vec()).unwrap_or_default();
    std::ffi::OsString::from_vec(comm.broadcast(0, bytes)).into()
}
