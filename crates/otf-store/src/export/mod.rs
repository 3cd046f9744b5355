// SPDX-License-Identifier: GPL-2.0-or-later
//! Export of candidates in the formats of trainers.
//!
//! Only the forces on core atoms are valid for training: the forces on buffer atoms are affected by the artificial surface,
//! and the total energy and the stress are those of a cut-out, not of the bulk. The formats represent this as follows:
//!
//! | format | forces of the buffer | energy and stress of a cut-out |
//! |---|---|---|
//! | [`Format::Extxyz`] | `force_mask:R:1` (1 in the core) | `energy_weight=0 stress_weight=0` |
//! | [`Format::Pacemaker`] | `w_forces` (per atom) | `w_energy` 0; no stress |
//! | [`Format::Gracemaker`] | `force_weight` (per atom) | `energy_weight` 0, `virial_weight` 0 |
//! | [`Format::Deepmd`] | `atom_pref.npy` | no `energy.npy`, no `virial.npy` |
//! | [`Format::Gap`] | `force_mask:L:1` (**T for excluded atoms**) | no `energy`, no `virial` |
//! | [`Format::Poscar`], [`Format::LammpsData`] | no labels and no mask: input of a calculation | – |
//! | [`Format::Mace`] | `REF_forces_atomic_weights:R:1` | `config_energy_weight=0`, `config_stress_weight=0`, `config_virials_weight=0` |
//!
//! Restrictions of the trainers:
//! - **pacemaker** divides `w_energy` by its sum over the data set. With cut-outs alone the sum is 0 and the fit stops: list
//!   the file together with bulk data. Every file in the list must have the columns `w_energy` and `w_forces`. pacemaker
//!   rejects cells that are periodic along some directions only. `reference_energy: auto` fits all energies, including
//!   those of cut-outs: specify numbers.
//! - **gracemaker** divides each weight by its sum over the data set, so that cut-outs alone give 0/0 for energies, and files that are
//!   read together must all have the columns of weights.
//! - **DeePMD-kit** uses `atom_pref.npy` only in the loss terms `start_pref_pf` and `limit_pref_pf`: set these, and set
//!   `start_pref_f` and `limit_pref_f` to 0.
//! - **GAP** has no weights between 0 and 1: an atom with any weight above 0 has full weight.
//! - **MACE** releases (as of 0.3.14) ignore per-atom weights. Without a version that reads
//!   `REF_forces_atomic_weights`, the forces on buffer atoms are also fitted.

mod deepmd;
mod pacemaker;
mod pickle;
mod xyz;

use pacemaker::Reader;

use super::{Status, StoreError, StoredCandidate};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use otf_atoms::io::{lammps_data, poscar};
use otf_atoms::structure::{AtomId, FixedAtoms, Structure};

/// An export format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Extended XYZ with all data, also for candidates without labels.
    Extxyz,
    /// A pickled and compressed pandas data frame (`*.pckl.gzip`) for pacemaker and python-ace.
    ///
    /// The pickle calls public constructors only (`pandas.DataFrame`, `ase.atoms.Atoms.fromdict`, `numpy.array`), so,
    /// unlike a frame pickled by pandas, it does not depend on the versions of these libraries.
    Pacemaker,
    /// The same for gracemaker, with its names of the weights, and with stresses.
    Gracemaker,
    /// A folder of DeePMD-kit systems (`type.raw`, `type_map.raw`, `set.000/*.npy`), one for each composition.
    Deepmd,
    /// Extended XYZ for QUIP's `gap_fit`.
    Gap,
    /// Extended XYZ for MACE.
    Mace,
    /// A folder with a POSCAR file for each candidate, `candidate-000012/POSCAR`, for VASP.
    Poscar,
    /// A folder with a LAMMPS data file for each candidate, `candidate-000012.data`, in which the atoms have the ids 1, 2, ….
    LammpsData,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 8] = [
        Self::Extxyz,
        Self::Pacemaker,
        Self::Gracemaker,
        Self::Deepmd,
        Self::Gap,
        Self::Mace,
        Self::Poscar,
        Self::LammpsData,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Extxyz => "extxyz",
            Self::Pacemaker => "pacemaker",
            Self::Gracemaker => "gracemaker",
            Self::Deepmd => "deepmd",
            Self::Gap => "gap",
            Self::Mace => "mace",
            Self::Poscar => "poscar",
            Self::LammpsData => "lammps-data",
        }
    }

    /// Whether candidates without energy and forces cannot be exported in this format.
    #[must_use]
    pub fn needs_labels(self) -> bool {
        !matches!(self, Self::Extxyz | Self::Poscar | Self::LammpsData)
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not an export format: use one of {}", names()))
    }
}

/// The result of an export.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Number of candidates written.
    pub written: usize,
    /// Row ids of candidates that were skipped because they have no labels, or none that belong to the stored atoms.
    pub without_labels: Vec<i64>,
    /// The file or folder.
    pub path: PathBuf,
    /// Warnings about the use of the export for training.
    pub warnings: Vec<String>,
}

/// Writes the candidates to `target`: a file, or a new folder for [`Format::Deepmd`], [`Format::Poscar`] and [`Format::LammpsData`]. It is written under a
/// temporary name and renamed, so it is never incomplete.
///
/// # Errors
/// If there are no candidates to write, if the folder exists, or if the target cannot be written.
pub fn export(format: Format, rows: &[StoredCandidate], target: &Path) -> Result<Report, StoreError> {
    let fits = |row: &&StoredCandidate| {
        let bare = row.candidate.labels.is_none() && row.status != Some(Status::Done) && row.mismatch.is_none();
        row.is_labelled() || (bare && !format.needs_labels())
    };
    let (rows, skipped): (Vec<_>, Vec<_>) = rows.iter().partition(fits);
    let mismatches = skipped.iter().filter_map(|row| Some((row.id, row.mismatch.as_ref()?)));
    let mut warnings: Vec<String> = mismatches
        .map(|(id, why)| format!("candidate {id} was skipped, because its atoms differ from the stored atoms: {why}"))
        .collect();
    if rows.is_empty() {
        let reason = match (&skipped[..], warnings.into_iter().next()) {
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
            warnings
                .push("MACE releases ignore REF_forces_atomic_weights: use a version that reads this column".into());
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
                    "candidate {} is periodic along some directions only, which pacemaker rejects: add vacuum and make it \
                     periodic along all directions",
                    row.id
                ));
            }
            if cut_outs_only {
                warnings.push(
                    "w_energy is 0 for all candidates, and pacemaker divides by the sum: list this file together with bulk \
                     data that has w_energy and w_forces"
                        .into(),
                );
            }
            write_file(target, |out| pacemaker::write(out, &rows, Reader::Pacemaker))?;
        }
        Format::Gracemaker => {
            if cut_outs_only {
                warnings.push(
                    "energy_weight is 0 for all candidates, and gracemaker divides by the sum: read this file together with bulk data \
                     that has energy_weight, force_weight and virial_weight"
                        .into(),
                );
            }
            write_file(target, |out| pacemaker::write(out, &rows, Reader::Gracemaker))?;
        }
        Format::Deepmd => {
            warnings.push(
                "atom_pref.npy is used by start_pref_pf and limit_pref_pf only: set these, and set start_pref_f and \
                 limit_pref_f to 0"
                    .into(),
            );
            deepmd::write(target, &rows)?;
        }
        Format::Poscar => write_folder(target, |folder| {
            rows.iter().try_for_each(|row| {
                let folder = folder.join(format!("candidate-{:06}", row.id));
                std::fs::create_dir(&folder)?;
                let comment = format!("candidate {}", row.id);
                structure_file(&folder.join("POSCAR"), |out| poscar::write(&row.candidate.structure, &comment, out))
            })
        })?,
        Format::LammpsData => write_folder(target, |folder| {
            rows.iter().try_for_each(|row| {
                let path = folder.join(format!("candidate-{:06}.data", row.id));
                structure_file(&path, |out| lammps_data::write(&numbered(&row.candidate.structure), out))
            })
        })?,
    }
    let without_labels = skipped.iter().map(|row| row.id).collect();
    Ok(Report { written: rows.len(), without_labels, path: target.to_owned(), warnings })
}

/// The weight of the energy; 1 for rows without the key, which were not stored by lammps-otf.
fn energy_weight(row: &StoredCandidate) -> f64 {
    row.candidate.keys.energy_weight.unwrap_or(1.0)
}

/// The weight of the stress; 1 for rows without the key.
fn stress_weight(row: &StoredCandidate) -> f64 {
    row.candidate.keys.stress_weight.unwrap_or(1.0)
}

/// The virial (eV) of a stress (eV/Å³) in ASE's order, as the rows of the symmetric matrix. `volume` is in Å³.
fn virial(stress: [f64; 6], volume: f64) -> [f64; 9] {
    full(stress.map(|s| -s * volume))
}

/// The rows of the symmetric matrix with the components xx, yy, zz, yz, xz, xy.
fn full([xx, yy, zz, yz, xz, xy]: [f64; 6]) -> [f64; 9] {
    [xx, xy, xz, xy, yy, yz, xz, yz, zz]
}

/// Positions relative to the origin of the cell, for formats without an origin; shape (n, 3).
fn positions(row: &StoredCandidate) -> ndarray::Array2<f64> {
    let structure = &row.candidate.structure;
    &structure.positions - &ndarray::arr1(&structure.cell.origin)
}

/// Converts an I/O error; `doing` is the operation for the message.
fn io_error(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io { path: path.to_owned(), doing, source }
}

fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A structure with the ids 1, 2, …, so that programs that know no ids have the same order.
fn numbered(structure: &Structure) -> Structure {
    let id = |old: &AtomId| structure.ids.iter().position(|id| id == old).map_or(0, |at| at as AtomId + 1);
    let of_fixed = |fixed: &FixedAtoms| FixedAtoms { ids: fixed.ids.iter().map(id).collect(), ..*fixed };
    Structure {
        ids: (1..).take(structure.len()).collect(),
        fixed: structure.fixed.iter().map(of_fixed).collect(),
        ..structure.clone()
    }
}

/// Writes a structure to a new file.
fn structure_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), otf_atoms::io::Error>,
) -> io::Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    write(&mut out).map_err(io::Error::other)?;
    out.flush()
}

/// Has `fill` write the content of the new folder `target`, which exists when it is complete.
fn write_folder(target: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), StoreError> {
    if target.exists() {
        let reason = format!("{} exists already: choose another folder, or remove it", target.display());
        return Err(StoreError::Export(reason));
    }
    let err = io_error(target, "write");
    let temporary = tempfile::Builder::new().prefix(".export").tempdir_in(folder_of(target)).map_err(&err)?;
    fill(temporary.path()).map_err(&err)?;
    #[cfg(unix)]
    {
        // A temporary folder is accessible by its owner only: set the permissions of a normal new folder.
        let plain = temporary.path().join(".mode");
        std::fs::create_dir(&plain).map_err(&err)?;
        let permissions = std::fs::metadata(&plain).map_err(&err)?.permissions();
        std::fs::remove_dir(&plain)
            .and_then(|()| std::fs::set_permissions(temporary.path(), permissions))
            .map_err(&err)?;
    }
    std::fs::rename(temporary.path(), target).map_err(&err)?;
    // The folder was renamed, so the guard must not remove it.
    let _ = temporary.keep();
    Ok(())
}

fn write_file(target: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), StoreError> {
    let err = io_error(target, "write");
    let mut builder = tempfile::Builder::new();
    // Permissions of a normal new file, subject to the umask, not those of a temporary file.
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
