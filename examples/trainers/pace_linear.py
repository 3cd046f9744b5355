#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Refit a linear ACE potential to its original data and labelled cut-outs.

This is the trainer of a loop. It can also be run by hand:

    .deps/bin/python3 examples/trainers/pace_linear.py --base base.extxyz --test test.extxyz \\
        --labelled labelled.extxyz --potential Al.yaml --active-set Al.asi --output refit

The new potential has the functions of the old one (`--potential`), which must be linear in their
coefficients: Finnis-Sinclair embedding with one density and parameters [1, 1].

- `--base`: any file that ASE can read, with energy and forces in each frame.
- `--test`: frames that are not used for fitting, on which the old and the new potential are compared.
  Without this option every tenth frame of the base is used.
- `--labelled`: the cut-outs, with `force_mask`. Only forces of atoms with mask 1 are fitted, because
  energy and stress of a cut-out are not those of the bulk, and atoms near its boundary have
  environments that do not occur in simulations. For the same reason, only rows of core atoms may
  enter the active set. Otherwise γ of such environments would be low.

Writes `potential.yaml`, `potential.asi` and finally `report.json` to `--output`. The same input gives
identical files on the same machine. Exit codes: 0 fitted; 3 fitted, but rejected, because the errors
exceed those of the old potential by more than `--worse-energy` or `--worse-force`; other codes are
errors.

The equations of the base (design matrix, rows for the active set) do not change between rounds. They
are cached in the folder of the base, in BASE.<hash of data and functions>.npz.
"""
import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "potentials"))

import pacefit  # first: it sets the number of BLAS threads
import numpy as np
import pyace.activelearning as active
from ase.io import read
from pyace import PyACECalculator

REFUSED = 3


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labelled", type=Path, required=True, help="all labelled cut-outs so far (extended XYZ)")
    parser.add_argument("--potential", type=Path, required=True, help="the potential to replace (.yaml)")
    parser.add_argument("--active-set", type=Path, required=True, help="its active set (.asi)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the new potential")
    parser.add_argument("--base", type=Path, required=True, help="the data that the original potential was fitted to")
    parser.add_argument("--test", type=Path, help="frames to compare the potentials on")
    parser.add_argument("--cutout-weight", type=float, default=1.0, metavar="W",
                        help="factor on the force equations of cut-outs (default 1)")
    parser.add_argument("--energy-factor", type=float, default=30.0, metavar="W",
                        help="factor on the energy equations (eV/atom) relative to the force equations (eV/A) (default 30)")
    parser.add_argument("--tolerance", type=float, default=1.001, metavar="GRADE",
                        help="rows of core atoms enter the active set above this grade (default 1.001)")
    parser.add_argument("--ridge", type=float, default=1e-6, help="regularisation in units of the mean eigenvalue (default 1e-6)")
    parser.add_argument("--worse-energy", type=float, default=1.0, metavar="MEV",
                        help="allowed increase of the energy error, meV/atom (default 1)")
    parser.add_argument("--worse-force", type=float, default=10.0, metavar="MEV",
                        help="allowed increase of the force error, meV/A (default 10)")
    return parser.parse_args()


def fail(message):
    sys.exit(f"pace_linear.py: {message}")


def write_atomic(path, write):
    """Replace a file atomically: write a temporary file in the same folder, then rename it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def frames_of(path, what):
    """Read all frames of a file and check their labels."""
    try:
        frames = read(path, index=":")
    except (OSError, ValueError, KeyError, StopIteration) as error:
        fail(f"cannot read {what} {path}: {error}")
    for number, atoms in enumerate(frames):
        try:
            energy, forces = atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
        except Exception:  # ASE raises different exceptions for missing results
            fail(f"frame {number} of {path} has no energy or no forces")
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            fail(f"the energy or a force of frame {number} of {path} is not finite")
    return frames


class Equations:
    """The equations of some frames: energies per atom and forces = matrix x coefficients + offset."""

    def __init__(self, basis, frames):
        self.energy_rows, self.force_rows = pacefit.design_matrix(basis, frames)
        # Contributions that do not depend on the coefficients, such as a core repulsion.
        zero = with_coefficients(basis, 0.0)
        energy, forces = evaluate(zero, frames)
        self.energies = np.array([a.get_potential_energy() / len(a) for a in frames]) - energy
        self.forces = np.concatenate([a.get_forces(apply_constraint=False).ravel() for a in frames]) - forces
        rows = active.compute_B_projections(basis, [pacefit.bare(a) for a in frames])
        self.rows = {int(mu): np.ascontiguousarray(r) for mu, r in rows.items()}

    def save(self, file):
        with open(file, "wb") as out:
            np.savez(out, energy_rows=self.energy_rows, force_rows=self.force_rows, energies=self.energies,
                     forces=self.forces, **{f"rows{mu}": r for mu, r in self.rows.items()})

    @classmethod
    def load(cls, file):
        self = cls.__new__(cls)
        with np.load(file) as data:
            self.energy_rows, self.force_rows = data["energy_rows"], data["force_rows"]
            self.energies, self.forces = data["energies"], data["forces"]
            self.rows = {int(k[4:]): data[k] for k in data.files if k.startswith("rows")}
        return self


def evaluate(basis, frames):
    """Energies per atom (eV) and forces (eV/A) of a potential."""
    calculator = PyACECalculator(basis)
    energies, forces = [], []
    for atoms in map(pacefit.bare, frames):
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy() / len(atoms))
        forces.append(atoms.get_forces(apply_constraint=False).ravel())
    return np.array(energies), np.concatenate(forces)


def with_coefficients(basis, value):
    """A copy of the basis with all coefficients the same."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy.yaml"
        basis.save(str(path))
        copy = pacefit.load(path)
    copy.basis_coeffs = np.full(len(copy.basis_coeffs), value)
    return copy


def base_equations(basis, path, frames):
    """The equations of the base, from the cached file if it exists."""
    with tempfile.TemporaryDirectory() as folder:
        functions = Path(folder) / "functions.yaml"
        with_coefficients(basis, 1.0).save(str(functions))
        digest = hashlib.sha256(functions.read_bytes())
    for atoms in frames:
        for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_forces()):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(np.float64(atoms.get_potential_energy()).tobytes())
    cached = path.with_name(f"{path.name}.{digest.hexdigest()[:16]}.npz")
    if cached.exists():
        return Equations.load(cached)
    equations = Equations(basis, frames)
    try:
        write_atomic(cached, equations.save)
    except OSError as error:
        print(f"pace_linear.py: the equations of the base cannot be cached: {error}", file=sys.stderr)
    return equations


def solve(energy_rows, energies, force_rows, forces, ridge):
    """Solve the weighted least-squares problem with scaled columns and ridge regularisation."""
    matrix = np.concatenate([energy_rows, force_rows])
    target = np.concatenate([energies, forces])
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0  # a function that does not contribute in any frame: its coefficient stays 0
    matrix /= scale
    normal = matrix.T @ matrix
    normal += ridge * np.trace(normal) / len(normal) * np.eye(len(normal))
    return np.linalg.solve(normal, matrix.T @ target) / scale


def enlarge(inverse, rows, tolerance):
    """Exchange rows of an active set, given by its inverse, for new ones, until no new row has a grade above the
    tolerance. Changes `inverse` in place and returns the number of exchanges.

    Each exchange multiplies the volume of the active set by the grade of the new row (MaxVol).
    """
    exchanges = 0
    grades = rows @ inverse
    while grades.size:
        row, column = np.unravel_index(np.argmax(np.abs(grades)), grades.shape)
        if not abs(grades[row, column]) > tolerance:
            break
        change = grades[row].copy()
        change[column] -= 1.0
        change /= grades[row, column]
        inverse -= np.outer(inverse[:, column], change)
        grades -= np.outer(grades[:, column], change)
        exchanges += 1
    return exchanges


def main():
    begun = time.monotonic()
    chosen = arguments()
    basis = pacefit.load(chosen.potential)
    base = frames_of(chosen.base, "the base")
    if chosen.test:
        test = frames_of(chosen.test, "the test frames")
    else:
        test, base = base[9::10], [a for k, a in enumerate(base) if k % 10 != 9]
    labelled = frames_of(chosen.labelled, "the labelled cut-outs")
    for number, atoms in enumerate(labelled):
        if "force_mask" not in atoms.arrays:
            fail(f"frame {number} of {chosen.labelled} has no force_mask")

    known = base_equations(basis, chosen.base, base)
    new = Equations(basis, labelled)
    mask = pacefit.masks(labelled)
    weight = np.repeat(mask * chosen.cutout_weight, 3)
    used = weight > 0
    # The base may have its own masks and energy weights.
    base_energy = chosen.energy_factor * pacefit.energy_weights(base)
    base_force = np.repeat(pacefit.masks(base), 3)
    coefficients = solve(
        base_energy[:, None] * known.energy_rows, base_energy * known.energies,
        np.concatenate([base_force[:, None] * known.force_rows, weight[used, None] * new.force_rows[used]]),
        np.concatenate([base_force * known.forces, weight[used] * new.forces[used]]), chosen.ridge)

    old_coefficients = np.array(basis.basis_coeffs)
    parent = pacefit.load(chosen.potential)
    basis.basis_coeffs = coefficients
    chosen.output.mkdir(parents=True, exist_ok=True)
    potential, active_set = chosen.output / "potential.yaml", chosen.output / "potential.asi"
    write_atomic(potential, lambda temporary: basis.save(temporary))

    species = np.concatenate([[basis.elements_to_index_map[s] for s in a.get_chemical_symbols()] for a in labelled])
    inverse = {mu: np.array(m) for mu, m in active.load_active_inverse_set(str(chosen.active_set)).items()}
    entered = {mu: enlarge(inverse[mu], new.rows[mu][mask[species == mu] > 0], chosen.tolerance)
               for mu in inverse if mu in new.rows}
    names = list(basis.elements_name)
    write_atomic(active_set, lambda temporary: active.save_active_inverse_set(temporary, inverse, elements_name=names))

    energy, force = pacefit.errors(pacefit.load(potential), test)
    parent_energy, parent_force = pacefit.errors(parent, test)
    rms = lambda c: 1e3 * float(np.sqrt(np.mean((new.force_rows[used] @ c - new.forces[used]) ** 2))) if used.any() else 0.0
    reasons = []
    if not (np.isfinite(coefficients).all() and energy <= parent_energy + chosen.worse_energy):
        reasons.append(f"energy error {parent_energy:.2f} -> {energy:.2f} meV/atom, allowed +{chosen.worse_energy:g}")
    if not force <= parent_force + chosen.worse_force:
        reasons.append(f"force error {parent_force:.1f} -> {force:.1f} meV/A, allowed +{chosen.worse_force:g}")
    report = {
        "energy_rmse_mev_per_atom": energy, "force_rmse_mev_per_angstrom": force,
        "parent_energy_rmse_mev_per_atom": parent_energy, "parent_force_rmse_mev_per_angstrom": parent_force,
        "accepted": not reasons, "reason": "; ".join(reasons) or None, "functions": sum(pacefit.size(basis)),
        "cutouts": len(labelled), "core_atoms": int((mask > 0).sum()),
        "cutout_force_rmse_mev_per_angstrom": rms(coefficients),
        "parent_cutout_force_rmse_mev_per_angstrom": rms(old_coefficients),
        "test_frames": len(test), "active_set_exchanges": sum(entered.values()),
    }
    write_atomic(chosen.output / "report.json", lambda temporary: Path(temporary).write_text(json.dumps(report, indent=1) + "\n"))
    print(f"{len(base)} frames, {len(labelled)} cut-outs ({report['core_atoms']} core atoms): test "
          f"{parent_energy:.2f} -> {energy:.2f} meV/atom, {parent_force:.1f} -> {force:.1f} meV/A; cut-outs "
          f"{report['parent_cutout_force_rmse_mev_per_angstrom']:.0f} -> "
          f"{report['cutout_force_rmse_mev_per_angstrom']:.0f} meV/A ({time.monotonic() - begun:.1f} s)")
    if reasons:
        print(f"pace_linear.py: rejected: {report['reason']}", file=sys.stderr)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
