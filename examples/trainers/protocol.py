# SPDX-License-Identifier: GPL-2.0-or-later
"""What the trainers of this folder share: their options, reading of labelled frames, active sets, and the output files.

Weights of labelled frames:
    atoms.arrays["force_mask"]      weight of the forces per atom, required
    atoms.info["energy_weight"]     weight of the energy (default 0). Only for a periodic frame that was labelled as a whole: the
                                    energy of a cut-out is not that of the bulk
    atoms.info["stress_weight"]     weight of the stress (default 0), for the same frames
Frames of the base and of the test have the weights of `pacefit`.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "potentials"))

import pacefit  # first: it sets the number of BLAS threads
import argparse
import json
import os
import tempfile
import time

import numpy as np
import pyace.activelearning as active
from ase.io import read
from pyace import PyACECalculator

REJECTED = 3
POTENTIAL, ACTIVE_SET, REPORT = "potential.yaml", "potential.asi", "report.json"
STARTED = time.monotonic()


def fail(message):
    """Stop with a message and exit code 1."""
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def options(description):
    """The command line that all trainers of this folder have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--labelled", type=Path, required=True, help="all labelled cut-outs so far (extended XYZ)")
    parser.add_argument("--potential", type=Path, required=True, help="the potential to replace (.yaml)")
    parser.add_argument("--active-set", type=Path, required=True, help="its active set (.asi)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the new potential")
    parser.add_argument("--base", type=Path, required=True, help="the data that the original potential was fitted to")
    parser.add_argument("--test", type=Path, help="frames to compare the potentials on")
    parser.add_argument("--cutout-weight", type=float, default=1.0, metavar="W",
                        help="factor on the equations of labelled frames (default 1)")
    parser.add_argument("--energy-factor", type=float, default=30.0, metavar="W",
                        help="factor on the energy equations (eV/atom) relative to the force equations (eV/A) (default 30)")
    parser.add_argument("--tolerance", type=float, default=1.001, metavar="GRADE",
                        help="rows of core atoms enter the active set above this grade (default 1.001)")
    parser.add_argument("--worse-energy", type=float, default=1.0, metavar="MEV",
                        help="allowed increase of the energy error, meV/atom (default 1)")
    parser.add_argument("--worse-force", type=float, default=10.0, metavar="MEV",
                        help="allowed increase of the force error, meV/A (default 10)")
    return parser


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


class Data:
    """The frames of a training. Energies are relative to the reference energies of the potential, if it has any."""

    def __init__(self, chosen, basis):
        self.base = frames_of(chosen.base, "the base")
        if chosen.test:
            self.test = frames_of(chosen.test, "the test frames")
        else:
            self.test, self.base = self.base[9::10], [a for k, a in enumerate(self.base) if k % 10 != 9]
        self.labelled = frames_of(chosen.labelled, "the labelled cut-outs")
        for number, atoms in enumerate(self.labelled):
            if "force_mask" not in atoms.arrays:
                fail(f"frame {number} of {chosen.labelled} has no force_mask")
        self._weights = {key: self._label_weights(key) for key in ("energy_weight", "stress_weight")}
        reference = pacefit.reference_energies(basis)
        for atoms in self.base + self.test + self.labelled:
            pacefit.subtract_reference(atoms, reference)
        self.base, self.test, self.labelled = (
            [pacefit.with_vacuum(a, basis.cutoffmax) for a in frames] for frames in (self.base, self.test, self.labelled))
        self.mask = pacefit.masks(self.labelled)
        self.species = np.concatenate(
            [[basis.elements_to_index_map[s] for s in a.get_chemical_symbols()] for a in self.labelled])

    def _label_weights(self, key):
        weights = np.array([float(a.info.get(key, 0.0)) for a in self.labelled])
        for number, (atoms, weight) in enumerate(zip(self.labelled, weights)):
            if weight > 0 and not atoms.pbc.all():
                fail(f"labelled frame {number} has {key} {weight:g}, but is not periodic along all directions")
        return weights

    def label_weights(self, key):
        """A weight of each labelled frame, `energy_weight` or `stress_weight`."""
        return self._weights[key]


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


def enlarge_and_save(path, basis, inverse, rows, data, tolerance):
    """Enter the rows of core atoms into an active set and write it. `rows` has all atoms of the labelled frames."""
    entered = {mu: enlarge(inverse[mu], rows[mu][data.mask[data.species == mu] > 0], tolerance) for mu in inverse if mu in rows}
    names = list(basis.elements_name)
    write_atomic(path, lambda temporary: active.save_active_inverse_set(temporary, inverse, elements_name=names))
    return sum(entered.values())


def evaluate(basis, frames):
    """Energies per atom (eV) and forces (eV/A) of a potential."""
    calculator = PyACECalculator(basis)
    energies, forces = [], []
    for atoms in map(pacefit.bare, frames):
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy() / len(atoms))
        forces.append(atoms.get_forces(apply_constraint=False).ravel())
    return np.array(energies), np.concatenate(forces)


def core_error(basis, data):
    """Error of the force components of core atoms, meV/A."""
    used = np.repeat(data.mask, 3) > 0
    if not used.any():
        return 0.0
    forces = np.concatenate([a.get_forces(apply_constraint=False).ravel() for a in data.labelled])
    return 1e3 * float(np.sqrt(np.mean((evaluate(basis, data.labelled)[1] - forces)[used] ** 2)))


def finish(chosen, data, parent, exchanges, **more):
    """Compare the new potential with its parent, write the report, and exit with code 0 or 3."""
    new = pacefit.load(chosen.output / POTENTIAL)
    energy, force = pacefit.errors(new, data.test)
    parent_energy, parent_force = pacefit.errors(parent, data.test)
    reasons = []
    if not (np.isfinite(np.array(new.all_coeffs)).all() and energy <= parent_energy + chosen.worse_energy):
        reasons.append(f"energy error {parent_energy:.2f} -> {energy:.2f} meV/atom, allowed +{chosen.worse_energy:g}")
    if not force <= parent_force + chosen.worse_force:
        reasons.append(f"force error {parent_force:.1f} -> {force:.1f} meV/A, allowed +{chosen.worse_force:g}")
    report = {
        "energy_rmse_mev_per_atom": energy, "force_rmse_mev_per_angstrom": force,
        "parent_energy_rmse_mev_per_atom": parent_energy, "parent_force_rmse_mev_per_angstrom": parent_force,
        "accepted": not reasons, "reason": "; ".join(reasons) or None, "functions": sum(pacefit.size(new)),
        "cutouts": len(data.labelled), "core_atoms": int((data.mask > 0).sum()),
        "cutout_force_rmse_mev_per_angstrom": core_error(new, data),
        "parent_cutout_force_rmse_mev_per_angstrom": core_error(parent, data),
        "test_frames": len(data.test), "active_set_exchanges": exchanges, **more,
    }
    write_atomic(chosen.output / REPORT, lambda temporary: Path(temporary).write_text(json.dumps(report, indent=1) + "\n"))
    print(f"{len(data.base)} frames, {len(data.labelled)} cut-outs ({report['core_atoms']} core atoms): test "
          f"{parent_energy:.2f} -> {energy:.2f} meV/atom, {parent_force:.1f} -> {force:.1f} meV/A; cut-outs "
          f"{report['parent_cutout_force_rmse_mev_per_angstrom']:.0f} -> "
          f"{report['cutout_force_rmse_mev_per_angstrom']:.0f} meV/A ({time.monotonic() - STARTED:.1f} s)")
    if reasons:
        print(f"{Path(sys.argv[0]).name}: rejected: {report['reason']}", file=sys.stderr)
        sys.exit(REJECTED)
