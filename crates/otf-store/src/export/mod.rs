// SPDX-License-Identifier: GPL-2.0-or-later
//! Candidates in the form that each trainer reads.
//!
//! What must reach the trainer is that only the core's forces count: the forces of buffer atoms see a surface that is
//! not there in reality, and the total energy and the stress are those of a cut-out, not of the bulk. How that is said
//! differs:
//!
//! | format | forces of the buffer | energy and stress of a cut-out |
//! |---|---|---|
//! | [`Format::Extxyz`] | `force_mask:R:1` (1 in the core) | `energy_weight=0 stress_weight=0` |
//! | [`Format::Pacemaker`] | `w_forces` (per atom) | `w_energy` 0; there is no stress |
//! | [`Format::Deepmd`] | `atom_pref.npy` | no `energy.npy`, no `virial.npy` |
//! | [`Format::Gap`] | `force_mask:L:1` (**T where left out**) | no `energy`, no `virial` |
//! | [`Format::Mace`] | `REF_forces_atomic_weights:R:1` | `config_energy_weight=0`, `config_stress_weight=0`, `config_virials_weight=0` |
//!
//! Traps, one for each trainer:
//! - **pacemaker** divides `w_energy` by its sum over the data set. With cut-outs alone that sum is 0 and the fit stops:
//!   list the file together with bulk data that has `w_energy` and `w_forces` columns of its own. Both columns must be
//!   in every file of the list. It refuses cells that are periodic along some directions only. `reference_energy: auto` fits all energies, also those of cut-outs: give numbers.
//! - **DeePMD-kit** uses `atom_pref.npy` only in the loss terms `start_pref_pf` and `limit_pref_pf`: set these, and
//!   `start_pref_f` and `limit_pref_f` to 0.
//! - **GAP** knows no weights between 0 and 1: an atom with any weight above 0 counts fully.
//! - **MACE** releases (as of 0.3.14) ignore per-atom weights; without a version that reads
//!   `REF_forces_atomic_weights`, the buffer's forces are learned too.

mod deepmd;
mod pacemaker;
mod pickle;
mod xyz;

use super::{Status, StoreError, StoredCandidate};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Extended XYZ with everything that is known; also for candidates without labels.
    Extxyz,
    /// A pandas data frame, pickled and compressed (`*.pckl.gzip`), as pacemaker and python-ace read it.
    ///
    /// The pickle calls public constructors only (`pandas.DataFrame`, `ase.atoms.Atoms.fromdict`, `numpy.array`), so
    /// that, unlike a frame that pandas itself has pickled, it does not depend on the versions of these libraries.
    Pacemaker,
    /// A folder of DeePMD-kit systems (`type.raw`, `type_map.raw`, `set.000/*.npy`), one for each composition.
    Deepmd,
    /// Extended XYZ for QUIP's `gap_fit`.
    Gap,
    /// Extended XYZ for MACE.
    Mace,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Extxyz, Self::Pacemaker, Self::Deepmd, Self::Gap, Self::Mace];

    /// Its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Extxyz => "extxyz",
            Self::Pacemaker => "pacemaker",
            Self::Deepmd => "deepmd",
            Self::Gap => "gap",
            Self::Mace => "mace",
        }
    }

    /// Whether candidates without energy and forces make no sense in it.
    #[must_use]
    pub fn needs_labels(self) -> bool {
        self != Self::Extxyz
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no export format: use one of {}", known()))
    }
}

/// What an export has done.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Candidates written.
    pub written: usize,
    /// Candidates left out because they have no energy and forces, or none of the atoms that were stored.
    pub without_labels: Vec<i64>,
    /// The file, or the folder.
    pub path: PathBuf,
    /// What the user should know before training with it.
    pub warnings: Vec<String>,
}

/// Writes the candidates to `target`, a file, or a new folder for [`Format::Deepmd`]. Nobody ever sees half an export:
/// it is written aside and renamed.
///
/// # Errors
/// If there is nothing to write, if the folder exists, or if it cannot be written.
pub fn export(format: Format, rows: &[StoredCandidate], target: &Path) -> Result<Report, StoreError> {
    let fits = |row: &&StoredCandidate| {
        let bare = row.candidate.labels.is_none() && row.status != Some(Status::Done) && row.mismatch.is_none();
        row.is_labelled() || (bare && !format.needs_labels())
    };
    let (rows, left): (Vec<_>, Vec<_>) = rows.iter().partition(fits);
    let mismatches = left.iter().filter_map(|row| Some((row.id, row.mismatch.as_ref()?)));
    let mut warnings: Vec<String> = mismatches
        .map(|(id, why)| {
            format!(
                "candidate {id} is left out, because it does not hold the atoms that were stored, in their order: {why}"
            )
        })
        .collect();
    if rows.is_empty() {
        let reason = match (&left[..], warnings.into_iter().next()) {
            ([], _) => "no candidate was selected".into(),
            (_, Some(mismatch)) => mismatch,
            _ => "no candidate has energy and forces".into(),
        };
        return Err(StoreError::Export(reason));
    }
    let cut_outs_only = rows.iter().all(|row| energy_weight(row) == 0.0);
    match format {
        Format::Extxyz => write_file(target, |out| rows.iter().try_for_each(|row| xyz::plain(out, row)))?,
        Format::Gap => write_file(target, |out| rows.iter().try_for_each(|row| xyz::gap(out, row)))?,
        Format::Mace => {
            warnings.push("MACE releases ignore REF_forces_atomic_weights: use a version that reads it".into());
            write_file(target, |out| rows.iter().try_for_each(|row| xyz::mace(out, row)))?;
        }
        Format::Pacemaker => {
            if !target.to_string_lossy().ends_with(".gzip") {
                warnings.push("pacemaker expects a name that ends with .pckl.gzip".into());
            }
            let mixed = |row: &&&StoredCandidate| {
                let pbc = row.candidate.structure.cell.pbc;
                pbc.contains(&true) && pbc.contains(&false)
            };
            if let Some(row) = rows.iter().find(mixed) {
                warnings.push(format!(
                    "candidate {} is periodic along some directions only, which pacemaker refuses: put vacuum \
                     around it and make it periodic along all",
                    row.id
                ));
            }
            if cut_outs_only {
                warnings.push(
                    "every w_energy is 0, and pacemaker divides by their sum: list this file together with bulk \
                     data that has w_energy and w_forces"
                        .into(),
                );
            }
            write_file(target, |out| pacemaker::write(out, &rows))?;
        }
        Format::Deepmd => {
            warnings.push(
                "set start_pref_pf and limit_pref_pf (and start_pref_f and limit_pref_f to 0): only they use \
                 atom_pref.npy"
                    .into(),
            );
            deepmd::write(target, &rows)?;
        }
    }
    let without_labels = left.iter().map(|row| row.id).collect();
    Ok(Report { written: rows.len(), without_labels, path: target.to_owned(), warnings })
}

/// The weight of the energy; a row that says nothing of it is no cut-out of ours.
fn energy_weight(row: &StoredCandidate) -> f64 {
    row.candidate.keys.energy_weight.unwrap_or(1.0)
}

/// The weight of the stress.
fn stress_weight(row: &StoredCandidate) -> f64 {
    row.candidate.keys.stress_weight.unwrap_or(1.0)
}

/// The virial, eV, of a stress in ASE's order; rows of the symmetric matrix.
fn virial(stress: [f64; 6], volume: f64) -> [f64; 9] {
    full(stress.map(|s| -s * volume))
}

/// The symmetric matrix of six numbers in the order xx, yy, zz, yz, xz, xy, row by row.
fn full([xx, yy, zz, yz, xz, xy]: [f64; 6]) -> [f64; 9] {
    [xx, xy, xz, xy, yy, yz, xz, yz, zz]
}

/// Positions with the corner of the cell at the origin, for formats that have no place for it.
fn positions(row: &StoredCandidate) -> ndarray::Array2<f64> {
    let structure = &row.candidate.structure;
    &structure.positions - &ndarray::arr1(&structure.cell.origin)
}

fn failed(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io { path: path.to_owned(), doing, source }
}

fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write_file(target: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), StoreError> {
    let err = failed(target, "write");
    let mut builder = tempfile::Builder::new();
    // As any new file, not for the owner alone: what the umask allows is still taken off.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder_of(target)).map_err(&err)?;
    let mut out = BufWriter::new(file.as_file_mut());
    write(&mut out).and_then(|()| out.flush()).map_err(&err)?;
    drop(out);
    file.as_file().sync_all().map_err(&err)?;
    file.persist(target).map_err(|error| err(error.error))?;
    Ok(())
}
