#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Refit a linear ACE potential to its original data and labelled cut-outs.

This is the trainer of a loop. It can also be run by hand:

    .deps/bin/python3 examples/trainers/pace_linear.py --base base.extxyz --test test.extxyz \\
        --labelled labelled.extxyz --potential Al.yaml --active-set Al.asi --output refit

The new potential has the functions of the old one (`--potential`), which must be linear in their
coefficients: Finnis-Sinclair embedding with one density and parameters [1, 1]. `pacemaker.py` is for others.

- `--base`: any file that ASE can read, with energy and forces in each frame.
- `--test`: frames that are not used for fitting, on which the old and the new potential are compared.
  Without this option every tenth frame of the base is used.
- `--labelled`: the cut-outs, with `force_mask`. Only forces of atoms with mask 1 are fitted, because
  energy and stress of a cut-out are not those of the bulk, and atoms near its boundary have
  environments that do not occur in simulations. For the same reason, only rows of core atoms may
  enter the active set. Otherwise γ of such environments would be low. Energy and stress of a periodic frame that was
  labelled as a whole are fitted if its keys `energy_weight` and `stress_weight` are above 0.

Writes `potential.yaml`, `potential.asi` and finally `report.json` to `--output`. The same input gives
identical files on the same machine. Exit codes: 0 fitted; 3 fitted, but rejected, because the errors
exceed those of the old potential by more than `--worse-energy` or `--worse-force`; other codes are
errors.

The equations of the base (design matrix, rows for the active set) do not change between rounds. They
are cached in the folder of the base, in BASE.<hash of data and functions>.npz.
"""
import protocol  # first: it sets the number of BLAS threads
import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import pacefit
import pyace.activelearning as active
from protocol import evaluate, fail, write_atomic


def arguments():
    parser = protocol.options(__doc__.splitlines()[0])
    parser.add_argument("--stress-factor", type=float, default=10.0, metavar="W",
                        help="factor on the equations of stress times volume per atom (eV/atom) (default 10)")
    parser.add_argument("--ridge", type=float, default=1e-6, help="regularisation in units of the mean eigenvalue (default 1e-6)")
    return parser.parse_args()


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


def stress_equations(basis, frames):
    """Rows and values of the stress times the volume per atom (eV/atom), 6 for each frame."""
    volumes = np.array([a.get_volume() / len(a) for a in frames])
    try:
        labels = np.array([a.get_stress() for a in frames])
    except Exception:  # ASE raises different exceptions for missing results
        fail("a labelled frame has stress_weight above 0, but no stress")
    calculator = pacefit.calculator(with_coefficients(basis, 0.0))
    offset = []
    for atoms in map(pacefit.bare, frames):
        atoms.calc = calculator
        offset.append(atoms.get_stress())
    return pacefit.stress_matrix(basis, frames), (volumes[:, None] * (labels - np.array(offset))).ravel()


def solve(blocks, ridge):
    """Solve the weighted least-squares problem with scaled columns and ridge regularisation. A block has weights, rows
    and values."""
    blocks = [(w[w > 0], rows[w > 0], values[w > 0]) for w, rows, values in blocks]
    matrix = np.concatenate([w[:, None] * rows for w, rows, _ in blocks])
    target = np.concatenate([w * values for w, _, values in blocks])
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0  # a function that does not contribute in any frame: its coefficient stays 0
    matrix /= scale
    normal = matrix.T @ matrix
    normal += ridge * np.trace(normal) / len(normal) * np.eye(len(normal))
    return np.linalg.solve(normal, matrix.T @ target) / scale


def main():
    chosen = arguments()
    basis = pacefit.load(chosen.potential)
    if not pacefit.is_linear(basis):
        fail(f"{chosen.potential} is not linear in its coefficients: use pacemaker.py")
    data = protocol.Data(chosen, basis)
    known = base_equations(basis, chosen.base, data.base)
    new = Equations(basis, data.labelled)
    # The base may have its own masks and energy weights.
    weight = chosen.cutout_weight
    blocks = [
        (chosen.energy_factor * pacefit.energy_weights(data.base), known.energy_rows, known.energies),
        (chosen.energy_factor * weight * data.label_weights("energy_weight"), new.energy_rows, new.energies),
        (np.repeat(pacefit.masks(data.base), 3), known.force_rows, known.forces),
        (np.repeat(weight * data.mask, 3), new.force_rows, new.forces),
    ]
    stress = data.label_weights("stress_weight")
    stressed = [a for a, w in zip(data.labelled, stress) if w > 0]
    if stressed:
        blocks.append((np.repeat(chosen.stress_factor * weight * stress[stress > 0], 6), *stress_equations(basis, stressed)))
    parent = pacefit.load(chosen.potential)
    basis.basis_coeffs = solve(blocks, chosen.ridge)
    chosen.output.mkdir(parents=True, exist_ok=True)
    write_atomic(chosen.output / protocol.POTENTIAL, lambda temporary: basis.save(temporary))
    inverse = {mu: np.array(m) for mu, m in active.load_active_inverse_set(str(chosen.active_set)).items()}
    exchanges = protocol.enlarge_and_save(
        chosen.output / protocol.ACTIVE_SET, basis, inverse, new.rows, data, chosen.tolerance)
    protocol.finish(chosen, data, parent, exchanges,
                    whole_frames=int((data.label_weights("energy_weight") > 0).sum()), stresses=len(stressed))


if __name__ == "__main__":
    main()
