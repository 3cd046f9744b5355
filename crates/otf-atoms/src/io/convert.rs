// SPDX-License-Identifier: GPL-2.0-or-later
//! Files in formats of other programs (POSCAR, CIF, PDB, ASE's databases and trajectories, …), read by ASE.
use super::Error;
use std::path::Path;
use std::process::{Command, Stdio};

/// The variable that names the Python interpreter.
const PYTHON: &str = "LAMMPS_OTF_PYTHON";

/// Writes all frames as extended XYZ. ASE's own writer rounds to eight decimals.
const PROGRAM: &str = r#"
import sys
import ase.io
import numpy as np
from ase.constraints import FixAtoms, FixCartesian, FixScaled
from ase.db import connect

path = sys.argv[1]
with open(path, "rb") as file:
    database = file.read(15) == b"SQLite format 3"
frames = (row.toatoms() for row in connect(path, type="db").select()) if database else ase.io.iread(path, index=":")
for atoms in frames:
    columns = ["species:S:1", "pos:R:3"]
    rows = [[symbol] + [repr(float(x)) for x in r] for symbol, r in zip(atoms.get_chemical_symbols(), atoms.positions)]
    def add(kind, values):
        columns.append(kind)
        for row, value in zip(rows, values):
            row.extend(value)
    number = lambda values: [repr(float(x)) for x in values]
    if atoms.has("masses"):
        add("masses:R:1", ([repr(float(m))] for m in atoms.get_masses()))
    if atoms.has("momenta"):
        add("momenta:R:3", map(number, atoms.get_momenta()))
    results = getattr(atoms.calc, "results", {})
    if "forces" in results:
        add("forces:R:3", map(number, results["forces"]))
    moves = np.ones((len(atoms), 3), bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            moves[constraint.index] = False
        elif isinstance(constraint, FixCartesian) or isinstance(constraint, FixScaled) and atoms.cell.orthorhombic:
            moves[constraint.index] &= ~np.broadcast_to(constraint.mask, (len(np.atleast_1d(constraint.index)), 3))
        else:
            sys.exit(f"the constraint {type(constraint).__name__} cannot be kept: remove it, or fix whole atoms")
    if not moves.all():
        add("move_mask:L:3", (["FT"[int(m)] for m in row] for row in moves))
    header = "Properties=" + ":".join(columns) + ' pbc="' + " ".join("FT"[bool(p)] for p in atoms.pbc) + '"'
    if atoms.cell.rank > 0:
        header = 'Lattice="' + " ".join(number(atoms.cell.complete().ravel())) + '" ' + header
    if "energy" in results:
        header += " energy=" + repr(float(results["energy"]))
    print(len(atoms), header, *(" ".join(row) for row in rows), sep="\n")
"#;

/// All frames of a file as extended XYZ.
///
/// # Errors
/// [`Error::UnknownFormat`] with the reason if there is no ASE, or if ASE cannot read the file.
pub(super) fn by_ase(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |reason: String| Error::UnknownFormat { path: path.to_owned(), reason };
    let python = std::env::var_os(PYTHON).unwrap_or_else(|| "python3".into());
    // A relative path that starts with a hyphen, or contains a colon or an at sign, has a meaning for ASE.
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut command = Command::new(&python);
    command.args(["-c", PROGRAM]).arg(place).stdin(Stdio::null());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return Err(failed(format!("{} cannot be started: {error}", python.display()))),
    };
    if output.status.success() && output.stdout.is_empty() {
        return Err(failed("it found no structure".to_owned()));
    }
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    Err(failed(last.trim().to_owned()))
}
