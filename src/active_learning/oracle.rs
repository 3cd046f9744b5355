// SPDX-License-Identifier: GPL-2.0-or-later
//! Oracles, which label candidates.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ndarray::{Array2, Axis};

use super::program::{Program, ProgramError, tail};
use crate::candidates::export::{self, Format};
use crate::candidates::{Labels, StoredCandidate, recover_order};
use crate::config::{InferenceConfig, LoopConfig, OracleConfig};
use crate::io::extxyz;
use crate::script::Script;
use crate::structure::{Element, Structure};
use crate::verify::{evaluate, load};

/// Computes energy and forces of a candidate.
pub trait Oracle {
    /// The labels of a candidate: energy in eV, forces in eV/Å, in the order of its atoms.
    ///
    /// `folder` is for files of the oracle, such as logs. Files of an earlier attempt in it may be replaced.
    ///
    /// # Errors
    /// [`OracleError`]. The candidate gets the status `FAILED`, and the loop continues with the others.
    ///
    /// # MPI
    /// Called on rank 0 only, while the other ranks sleep.
    fn label(&mut self, candidate: &StoredCandidate, folder: &Path) -> Result<Labels, OracleError>;
}

/// Why a candidate has no label.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// This candidate cannot be labelled.
    #[error("{message}")]
    Failed {
        /// The reason, in one line.
        message: String,
        /// The output of the program.
        log: String,
    },
    /// This process was interrupted. The candidate is pending again.
    #[error("interrupted")]
    Interrupted,
}

impl OracleError {
    fn new(message: impl std::fmt::Display) -> Self {
        Self::Failed { message: message.to_string(), log: String::new() }
    }
}

/// The oracle of the configuration, for candidates of a run with this set-up and these elements of its atom types.
#[must_use]
pub fn from_config(
    config: &LoopConfig,
    script: &Script,
    elements: &[Element],
    interrupt: &Arc<AtomicBool>,
) -> Box<dyn Oracle> {
    match &config.oracle {
        OracleConfig::Command { command, timeout, retries } => Box::new(CommandOracle {
            program: Program {
                command: command.clone(),
                folder: config.folder.clone(),
                timeout: timeout.map(Duration::from_secs_f64),
                interrupt: Arc::clone(interrupt),
            },
            retries: *retries,
        }),
        OracleConfig::Lammps { pair_style, pair_coeff } => {
            Box::new(LammpsOracle { script: script.without_gamma(pair_style, pair_coeff), elements: elements.to_vec() })
        }
    }
}

/// A program that labels one structure.
///
/// The program is started without a shell, in the folder of the configuration. In its arguments, `{input}` is replaced by the
/// path of an extended XYZ file with the cut-out (`force_mask:R:1`, `source_id:I:1`, and its id in the store as `candidate=`),
/// and `{output}` by the path of the file that the program must write. This file has the same atoms in any order in the same
/// cell (`Lattice=`, `pbc=`), the total energy as `energy=` (eV) in the comment line, and `forces:R:3` (eV/Å) for each atom, as
/// written by ASE. `stress=` (eV/Å³, nine numbers or six in Voigt order) is optional. The exit code must be 0. The output of the
/// program is written to a log file.
#[derive(Debug)]
pub struct CommandOracle {
    program: Program,
    retries: u32,
}

impl Oracle for CommandOracle {
    fn label(&mut self, candidate: &StoredCandidate, folder: &Path) -> Result<Labels, OracleError> {
        let log = folder.join(format!("candidate-{:06}.log", candidate.id));
        let mut attempt = 0;
        loop {
            match self.attempt(candidate, folder, &log) {
                Err(OracleError::Failed { .. }) if attempt < self.retries => attempt += 1,
                Err(OracleError::Failed { message, .. }) => {
                    return Err(OracleError::Failed { message, log: tail(&log) });
                }
                other => return other,
            }
        }
    }
}

impl CommandOracle {
    fn attempt(&self, candidate: &StoredCandidate, folder: &Path, log: &Path) -> Result<Labels, OracleError> {
        // Each attempt has its own folder: a program that outlived a killed loop may still write to the previous one.
        let scratch = tempfile::Builder::new().prefix("label-").tempdir_in(folder).map_err(OracleError::new)?;
        let (input, output) = (scratch.path().join("input.extxyz"), scratch.path().join("output.extxyz"));
        export::export(Format::Extxyz, std::slice::from_ref(candidate), &input).map_err(OracleError::new)?;
        let values = [("input", text(&input)?), ("output", text(&output)?)];
        match self.program.run(&values.each_ref().map(|(name, path)| (*name, path.as_str())), log) {
            Ok(()) => {}
            Err(ProgramError::Interrupted) => return Err(OracleError::Interrupted),
            Err(error) => return Err(OracleError::new(error)),
        }
        read_labels(&output, &candidate.candidate.structure).map_err(|message| {
            // Append the error to the log, after the output of the program.
            let _ = std::fs::File::options().append(true).open(log).and_then(|mut f| writeln!(f, "{message}"));
            OracleError::new(message)
        })
    }
}

fn text(path: &Path) -> Result<String, OracleError> {
    path.to_str().map(str::to_owned).ok_or_else(|| OracleError::new(format!("{} is not UTF-8", path.display())))
}

/// Reads the labels from the last frame of `path`, which must contain the atoms of `structure` in the same cell.
fn read_labels(path: &Path, structure: &Structure) -> Result<Labels, String> {
    let (found, results) = extxyz::read_results(path).map_err(|e| e.to_string())?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let order = recover_order(structure, &found)
        .map_err(|why| format!("{name} does not hold the atoms of the candidate: {why}"))?;
    let energy = results.energy.ok_or_else(|| format!("{name} has no energy= in its comment line"))?;
    let forces = results.forces.ok_or_else(|| format!("{name} has no column forces:R:3"))?;
    let forces = forces.select(Axis(0), &order);
    Ok(Labels { energy, free_energy: None, forces, stress: results.stress, calculator: Some("command".into()) })
}

/// Labels with a potential in LAMMPS, in a separate instance in this process.
#[derive(Debug)]
pub struct LammpsOracle {
    script: Script,
    elements: Vec<Element>,
}

/// Loads the reference potential of `[loop.oracle]` in a LAMMPS instance of its own, if the oracle is one.
///
/// # Errors
/// The reason why it cannot be used.
///
/// # MPI
/// Not collective. Runs on the calling rank only.
pub fn check_oracle_potential(config: &InferenceConfig) -> Result<(), String> {
    let Some(OracleConfig::Lammps { pair_style, pair_coeff }) = config.active_learning.as_ref().map(|l| &l.oracle)
    else {
        return Ok(());
    };
    let structure = crate::io::read(&config.system.structure, None).map_err(|e| e.to_string())?;
    let script = Script::new(config, &structure, Path::new("data")).map_err(|e| e.to_string())?;
    load(&script.without_gamma(pair_style, pair_coeff), &structure.elements).map_err(|e| e.to_string())?;
    Ok(())
}

impl Oracle for LammpsOracle {
    fn label(&mut self, candidate: &StoredCandidate, _folder: &Path) -> Result<Labels, OracleError> {
        // `pair_coeff` determines the order of types. Candidates of another run may have another order.
        let structure = &candidate.candidate.structure.with_elements(&self.elements).map_err(OracleError::new)?;
        let found = evaluate(structure, &self.script).map_err(OracleError::new)?;
        let forces = Array2::from_shape_fn((structure.len(), 3), |(i, k)| found.forces[i][k]);
        let periodic = structure.cell.pbc == [true; 3];
        Ok(Labels {
            energy: found.energy,
            free_energy: None,
            forces,
            stress: periodic.then_some(found.stress),
            calculator: Some("lammps".into()),
        })
    }
}
