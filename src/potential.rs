// SPDX-License-Identifier: GPL-2.0-or-later
//! What must be known of a potential besides its name: which version of it, and how far it reaches.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::{Engine, Potential};

/// `sha256:` and the digits, over the contents of all files of a potential; for one that is given by LAMMPS commands, over
/// these and every file that they name by a path.
///
/// # Errors
/// If a file cannot be read.
pub fn fingerprint(potential: &Potential) -> io::Result<String> {
    let mut hash = Sha256::new();
    match potential.pace_files() {
        Some((file, active_set)) => {
            hash.update(std::fs::read(file)?);
            if active_set.is_file() {
                hash.update(std::fs::read(active_set)?);
            }
        }
        None => {
            for line in potential.pair_style.iter().chain(&potential.pair_coeff) {
                hash.update(line.as_bytes());
                // A path with spaces in it is not found; its name counts all the same.
                for word in line.split_whitespace().map(|w| w.trim_matches(['"', '\''])) {
                    if Path::new(word).is_file() {
                        hash.update(std::fs::read(word)?);
                    }
                }
            }
        }
    }
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{digits}"))
}

/// The longest cutoff in Å: from the configuration, else the largest one that an ML-PACE file names; `None` if unknown.
///
/// # Errors
/// If the file cannot be read.
pub fn cutoff(potential: &Potential) -> io::Result<Option<f64>> {
    if potential.cutoff.is_some() {
        return Ok(potential.cutoff);
    }
    let Some((file, _)) = potential.pace_files() else { return Ok(None) };
    largest_rcut(&file)
}

/// Why ML-PACE's own evaluator computes wrong numbers with a potential, if it does: it mixes up the coefficients of elements
/// that differ in their number of densities.
#[must_use]
pub fn ml_pace_fault(model: &pace_opt::Model) -> Option<String> {
    let densities = || model.embeddings.iter().map(|e| e.ndensity);
    if densities().min() == densities().max() {
        return None;
    }
    let each: Vec<String> = model.elements.iter().zip(densities()).map(|(e, n)| format!("{e} {n}")).collect();
    Some(format!(
        "its elements differ in their number of densities ({}), with which ML-PACE's evaluator computes wrong energies \
         and forces",
        each.join(", ")
    ))
}

/// What to do about [`ml_pace_fault`].
pub const ML_PACE_REMEDY: &str =
    "Set `engine = \"opt\"` in [potential], or use the pair style with /opt: it computes them right.";

/// Refuses to give ML-PACE's own evaluator a potential that it computes wrong numbers with, whether the configuration
/// chooses it with `engine` or with `pair_style`. A file that cannot be read is left to LAMMPS.
///
/// # Errors
/// The file, what is wrong, and what to do.
pub(crate) fn check_engine(potential: &Potential) -> Result<(), String> {
    let plain = potential.pair_style.as_deref().and_then(|style| style.split_whitespace().next());
    let files: Vec<PathBuf> = match potential.pace_files() {
        Some((file, _)) if potential.engine == Engine::MlPace => vec![file],
        None if matches!(plain, Some("pace" | "pace/extrapolation")) => {
            let words = potential.pair_coeff.iter().flat_map(|line| line.split_whitespace());
            words.map(|word| PathBuf::from(word.trim_matches(['"', '\'']))).filter(|file| file.is_file()).collect()
        }
        _ => return Ok(()),
    };
    for file in files.iter().filter(|file| pace_opt::Format::of(file).is_ok()) {
        if let Some(fault) = pace_opt::Model::read(file).ok().and_then(|model| ml_pace_fault(&model)) {
            return Err(format!("{}: {fault}. {ML_PACE_REMEDY}", file.display()));
        }
    }
    Ok(())
}

/// How far a potential sees, in Å: what its file says, whatever the configuration gives as `cutoff`; that where there is no file.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn reach(potential: &Potential) -> io::Result<Option<f64>> {
    Ok(cutoff(&Potential { cutoff: None, ..potential.clone() })?.or(potential.cutoff))
}

/// Both forms that YAML allows stand in these files: `rcut: 5.5` on a line of its own and `{..., rcut: 5.5, ...}`. The
/// pair style has read the whole file before; this looks for one number.
fn largest_rcut(file: &Path) -> io::Result<Option<f64>> {
    let text = std::fs::read_to_string(file)?;
    let values = text.match_indices("rcut").filter_map(|(at, key)| {
        let starts = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        // `rcutij` in the B-basis, `rcut` in what is made of it.
        let after = &text[at + key.len()..];
        let after =
            after.strip_prefix("ij").unwrap_or(after).trim_start_matches(['"', '\'']).trim_start().strip_prefix(':')?;
        let number: String =
            after.trim_start().chars().take_while(|c| c.is_ascii_digit() || "+-.eE".contains(*c)).collect();
        number.parse::<f64>().ok().filter(|_| starts)
    });
    Ok(values.fold(None, |longest, value| Some(longest.map_or(value, |l: f64| l.max(value)))))
}
