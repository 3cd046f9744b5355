// SPDX-License-Identifier: GPL-2.0-or-later
//! Properties of a potential: its fingerprint, its cutoff, and whether ML-PACE's evaluator can be used.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::{Engine, Potential};

/// The SHA-256 hash of the contents of all files of a potential, as `sha256:` and hexadecimal digits. For a potential given by
/// LAMMPS commands, the hash covers the commands and all files that they name by a path.
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
                // Every second piece is in quotation marks, and is one word.
                for (at, piece) in line.split(['"', '\'']).enumerate() {
                    let words: Vec<&str> = if at % 2 == 1 { vec![piece] } else { piece.split_whitespace().collect() };
                    for word in words.into_iter().filter(|word| Path::new(word).is_file()) {
                        hash.update(std::fs::read(word)?);
                    }
                }
            }
        }
    }
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{digits}"))
}

/// The cutoff in Å from the configuration, or else the largest cutoff in the ML-PACE file; `None` if unknown.
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

/// Describes why ML-PACE's own evaluator computes wrong energies and forces with a potential: it confuses the coefficients of
/// elements that differ in their number of densities. `None` if the potential is not affected.
#[must_use]
pub fn ml_pace_fault(model: &pace_opt::Model) -> Option<String> {
    let densities = || model.embeddings.iter().map(|e| e.ndensity);
    if densities().min() == densities().max() {
        return None;
    }
    let each: Vec<String> = model.elements.iter().zip(densities()).map(|(e, n)| format!("{e} {n}")).collect();
    Some(format!(
        "its elements differ in their number of densities ({}), for which ML-PACE's evaluator computes wrong energies and \
         forces",
        each.join(", ")
    ))
}

/// What to do about [`ml_pace_fault`].
pub const ML_PACE_REMEDY: &str =
    "Set `engine = \"opt\"` in [potential], or use the pair style with the suffix /opt, which computes them correctly.";

/// Checks that ML-PACE's own evaluator is not used with a potential for which it computes wrong energies and forces, whether the
/// configuration chooses it with `engine` or with `pair_style`. LAMMPS reports files that cannot be read.
///
/// # Errors
/// The message, with the file and the remedy.
pub(crate) fn check_engine(potential: &Potential) -> Result<(), String> {
    let plain = potential.pair_style.as_deref().and_then(|style| style.split_whitespace().next());
    let uses_ml_pace = match potential.file {
        Some(_) => potential.engine == Engine::MlPace,
        None => matches!(plain, Some("pace" | "pace/extrapolation")),
    };
    for file in model_files(potential).into_iter().filter(|_| uses_ml_pace) {
        if let Some(fault) = pace_opt::Model::read(&file).ok().and_then(|model| ml_pace_fault(&model)) {
            return Err(format!("{}: {fault}. {ML_PACE_REMEDY}", file.display()));
        }
    }
    Ok(())
}

/// The PACE files with basis functions that the configuration names, also as words of `pair_coeff`.
fn model_files(potential: &Potential) -> Vec<PathBuf> {
    let mut files = match potential.pace_files() {
        Some((file, _)) => vec![file],
        None => {
            let words = potential.pair_coeff.iter().flat_map(|line| line.split_whitespace());
            words.map(|word| PathBuf::from(word.trim_matches(['"', '\'']))).filter(|file| file.is_file()).collect()
        }
    };
    files.retain(|file| pace_opt::Format::of(file).is_ok());
    files
}

/// The sizes of a PACE basis on which the arrays of ML-PACE's KOKKOS styles depend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BasisSize([usize; 8]);

impl BasisSize {
    /// What each number counts.
    const NAMES: [&str; 8] = [
        "elements",
        "values of l",
        "radial functions of one neighbour",
        "radial functions of several neighbours",
        "neighbours in one function",
        "densities",
        "functions of one element",
        "terms of the functions of one element",
    ];

    /// The sizes of the basis that the configuration names; `None` if its file cannot be read.
    pub(crate) fn of(potential: &Potential) -> Option<Self> {
        model_files(potential)
            .iter()
            .find_map(|file| pace_opt::Model::read(file).ok())
            .map(|model| Self::of_model(&model))
    }

    fn of_model(model: &pace_opt::Model) -> Self {
        let bonds = |size: fn(&pace_opt::Bond) -> usize| model.bonds.iter().map(size).max().unwrap_or(0);
        let functions = || model.functions.iter().flatten();
        let terms = |list: &Vec<pace_opt::BasisFunction>| list.iter().map(|f| f.ms.len() / f.rank().max(1)).sum();
        Self([
            model.elements.len(),
            bonds(|b| b.lmax + 1),
            bonds(|b| b.nradbase),
            bonds(|b| b.nradmax),
            functions().map(pace_opt::BasisFunction::rank).max().unwrap_or(0),
            model.embeddings.iter().map(|e| e.ndensity).max().unwrap_or(0),
            model.functions.iter().map(Vec::len).max().unwrap_or(0),
            model.functions.iter().map(terms).max().unwrap_or(0),
        ])
    }

    /// The first size in which this basis is larger than `running`, as text.
    pub(crate) fn larger_than(&self, running: &Self) -> Option<String> {
        let sizes = Self::NAMES.iter().zip(self.0.iter().zip(&running.0));
        let mut larger = sizes.filter(|(_, (new, old))| new > old);
        larger.next().map(|(name, (new, old))| format!("{new} {name}, the running one {old}"))
    }
}

/// The cutoff in Å from the ML-PACE file, regardless of `cutoff` in the configuration; that `cutoff` if there is no file.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn reach(potential: &Potential) -> io::Result<Option<f64>> {
    Ok(cutoff(&Potential { cutoff: None, ..potential.clone() })?.or(potential.cutoff))
}

/// The largest cutoff in an ML-PACE file. Searches the text for both forms that occur in these files, `rcut: 5.5` on a separate
/// line and `{..., rcut: 5.5, ...}`. The pair style parses the complete file.
fn largest_rcut(file: &Path) -> io::Result<Option<f64>> {
    let text = std::fs::read_to_string(file)?;
    let values = text.match_indices("rcut").filter_map(|(at, key)| {
        let starts = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        // `rcutij` in the B-basis, `rcut` in the C-tilde basis.
        let after = &text[at + key.len()..];
        let after =
            after.strip_prefix("ij").unwrap_or(after).trim_start_matches(['"', '\'']).trim_start().strip_prefix(':')?;
        let number: String =
            after.trim_start().chars().take_while(|c| c.is_ascii_digit() || "+-.eE".contains(*c)).collect();
        number.parse::<f64>().ok().filter(|_| starts)
    });
    Ok(values.fold(None, |longest, value| Some(longest.map_or(value, |l: f64| l.max(value)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_basis_is_larger_if_any_of_its_sizes_is() {
        let of = |file: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("potentials").join(file);
            BasisSize::of_model(&pace_opt::Model::read(&path).unwrap())
        };
        let (one, two) = (of("al/Al.yaml"), of("alcu/AlCu.yaml"));
        assert_eq!(one.larger_than(&one), None);
        assert_eq!(two.larger_than(&one).unwrap(), "2 elements, the running one 1");
        for size in 0..8 {
            let mut smaller = one;
            smaller.0[size] -= 1;
            assert_eq!(smaller.larger_than(&one), None);
            assert!(one.larger_than(&smaller).unwrap().contains(BasisSize::NAMES[size]));
        }
    }

    #[test]
    fn the_fingerprint_covers_files_whose_paths_have_spaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("with a space.eam");
        for quote in ["\"", "'"] {
            let potential = Potential {
                file: None,
                active_set: None,
                engine: Engine::default(),
                pair_style: Some("eam/fs".into()),
                pair_coeff: vec![format!("* * {quote}{}{quote} Al", path.display())],
                cutoff: None,
            };
            let of = |content: &str| {
                std::fs::write(&path, content).unwrap();
                fingerprint(&potential).unwrap()
            };
            assert_ne!(of("one"), of("another"));
        }
    }
}
