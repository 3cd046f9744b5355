# SPDX-License-Identifier: GPL-2.0-or-later
"""Linear ACE potentials from labelled structures, through python-ace, without TensorFlow.

The whole of it, for structures whose ASE calculators hold energies and forces:

    import pacefit
    basis = pacefit.make_basis(["Al"], {...}, {...})
    model = pacefit.fit(basis, frames)
    pacefit.save(basis, "Al.yaml", "Al.yace")
    rows = pacefit.projections(pacefit.load("Al.yaml"), frames)
    pacefit.save_active_set("Al.asi", pacefit.load("Al.yaml"), rows)

Weights travel with the structures:
    atoms.info["energy_weight"]     factor on its energy equation (default 1; 0 for a cut-out)
    atoms.arrays["force_mask"]      factor per atom on its three force equations (default 1)
The mask also chooses the atoms whose environments may enter the active set: atoms with weight 0
are the damaged rim of a cut-out, and would teach the extrapolation grade that damage is normal.

Import this module before NumPy: results are reproducible bit by bit only with one BLAS thread.
"""
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

_level = logging.getLogger().level
import pyace.activelearning as active
from ase.calculators.singlepoint import SinglePointCalculator
from pyace import ACEBBasisSet, create_multispecies_basis_config
from pyace.linearacefit import LinearACEDataset

logging.getLogger().setLevel(_level)  # python-ace raises it to INFO for the whole process


def make_basis(elements, bonds, functions, delta_spline=0.001):
    """A B-basis that is linear in its coefficients: energy = sum of functions, one density.

    `bonds` and `functions` are python-ace's dictionaries (radial functions and cut-offs; numbers
    of functions by order, keyed ALL, UNARY, BINARY, ...).
    """
    config = create_multispecies_basis_config({
        "deltaSplineBins": delta_spline,
        "elements": sorted(elements),
        "embeddings": {"ALL": {"npot": "FinnisSinclair", "fs_parameters": [1, 1], "ndensity": 1}},
        "bonds": {"ALL": bonds},
        "functions": functions,
    })
    return ACEBBasisSet(config)


def load(path):
    """The B-basis of a .yaml file."""
    return ACEBBasisSet(str(path))


def size(basis):
    """Number of functions of each element, in the order of basis.elements_name."""
    return [len(one) + len(more) for one, more in zip(basis.basis_rank1, basis.basis)]


def is_linear(basis):
    """Whether the energy is linear in the coefficients of the functions."""
    return all(e.npoti.startswith("FinnisSinclair") and e.ndensity == 1 and list(e.FS_parameters) == [1, 1]
               for e in basis.map_embedding_specifications.values())


def reference_energies(basis):
    """Energies of single atoms (eV) that were subtracted before the fit, from the metadata that pacemaker also writes."""
    text = basis.metadata["reference_energy"] if "reference_energy" in basis.metadata.keys() else "{}"
    return json.loads(text)


def subtract_reference(atoms, reference):
    """Make the energy of the atoms relative to the reference energies; `shift` is for each atom."""
    if not reference:
        return
    symbols = atoms.get_chemical_symbols()
    missing = set(symbols) - set(reference)
    if missing:
        raise ValueError(f"the potential has no reference energy of {', '.join(sorted(missing))}")
    results = dict(atoms.calc.results)
    results["energy"] -= sum(reference[s] for s in symbols) + len(symbols) * reference.get("shift", 0.0)
    results.pop("free_energy", None)
    atoms.calc = SinglePointCalculator(atoms, **results)


def masks(frames):
    """Force weights of all atoms of all frames, in one vector."""
    return np.concatenate([np.asarray(a.arrays.get("force_mask", np.ones(len(a))), float) for a in frames])


def energy_weights(frames):
    """Energy weight of each frame."""
    return np.array([float(a.info.get("energy_weight", 1.0)) for a in frames])


def design_matrix(basis, frames, workers=None):
    """Energy rows per atom (frames x functions) and force rows (3 atoms x functions)."""
    sizes = size(basis)
    if len(set(sizes)) > 1:
        # python-ace 0.4.0rc1 shifts the force columns of an element by that element's own number
        # of functions, not by those of the elements before it.
        raise ValueError("all elements must have the same number of functions, not "
                         f"{dict(zip(basis.elements_name, sizes))}")
    dataset = LinearACEDataset(basis, pd.DataFrame({"ase_atoms": [bare(a) for a in frames]}))
    matrix = dataset.get_design_matrix(max_workers=workers or len(os.sched_getaffinity(0)))
    return matrix[: len(frames)], matrix[len(frames):]


def stress_matrix(basis, frames, step=1e-4):
    """Rows of the stress, times the volume per atom (eV/atom): 6 rows per frame in ASE's order (xx, yy, zz, yz, xz, xy).

    python-ace has no derivatives of the virial with respect to the coefficients. These rows are central differences of the
    energy rows under strain. With the coefficients of `al` and `alcu` they agree with the stress of its calculator to 3e-7.
    """
    pairs = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    strained = []
    for atoms in frames:
        for i, j in pairs:
            for sign in (1, -1):
                strain = np.eye(3)
                strain[i, j] += sign * step / 2
                strain[j, i] += sign * step / 2
                copy = bare(atoms)
                copy.set_cell(atoms.cell.array @ strain, scale_atoms=True)
                strained.append(copy)
    sizes = size(basis)
    rows = {mu: iter(r) for mu, r in active.compute_B_projections(basis, strained).items()}
    energies = np.zeros((len(strained), sum(sizes)))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    for atoms, energy in zip(strained, energies):
        for symbol in atoms.get_chemical_symbols():
            mu = basis.elements_to_index_map[symbol]
            energy[starts[mu]:starts[mu + 1]] += next(rows[mu]) / len(atoms)
    return (energies[0::2] - energies[1::2]) / (2 * step)


def with_vacuum(atoms, cutoff):
    """The atoms, with vacuum along the directions without periodicity if there are others. python-ace rejects cells with
    mixed periodicity."""
    if atoms.pbc.all() or not atoms.pbc.any():
        return atoms
    copy = atoms.copy()
    copy.center(vacuum=cutoff, axis=tuple(np.flatnonzero(~atoms.pbc).tolist()))
    copy.pbc = True
    copy.calc = SinglePointCalculator(copy, **{k: v for k, v in atoms.calc.results.items() if k in ("energy", "forces")})
    return copy


def bare(atoms):
    """The atoms without their calculator, which need not survive a copy to another process."""
    copy = atoms.copy()
    copy.calc = None
    return copy


@dataclass
class Fit:
    """Coefficients, and how well the equations are solved on the training frames."""

    coefficients: np.ndarray
    energy_rmse: float  # meV/atom
    force_rmse: float  # meV/A


def fit(basis, frames, energy_factor=30.0, ridge=1e-6, workers=None):
    """Least squares on energies per atom and forces; sets the basis coefficients.

    `energy_factor` multiplies the energy equations (eV/atom) against the force equations (eV/A).
    Columns are scaled to unit length, then `ridge` times the mean eigenvalue is added to the
    normal equations.
    """
    rows_e, rows_f = design_matrix(basis, frames, workers)
    target_e = np.array([a.get_potential_energy() / len(a) for a in frames])
    target_f = np.concatenate([a.get_forces().ravel() for a in frames])
    weight_e = energy_factor * energy_weights(frames)
    weight_f = np.repeat(masks(frames), 3)

    matrix = np.concatenate([weight_e[:, None] * rows_e, weight_f[:, None] * rows_f])
    target = np.concatenate([weight_e * target_e, weight_f * target_f])
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0  # a function that no frame reaches: its coefficient stays 0
    matrix /= scale
    normal = matrix.T @ matrix
    normal += ridge * np.trace(normal) / len(normal) * np.eye(len(normal))
    coefficients = np.linalg.solve(normal, matrix.T @ target) / scale
    basis.basis_coeffs = coefficients
    return Fit(coefficients, 1e3 * _rms((rows_e @ coefficients - target_e)[weight_e > 0]),
               1e3 * _rms((rows_f @ coefficients - target_f)[weight_f > 0]))


def _rms(x):
    return float(np.sqrt(np.mean(np.square(x)))) if len(x) else 0.0


def save(basis, yaml_path, yace_path=None):
    """Write the B-basis (.yaml), and what plain `pair_style pace` reads (.yace)."""
    basis.save(str(yaml_path))
    if yace_path:
        load(yaml_path).to_ACECTildeBasisSet().save_yaml(str(yace_path))


def projections(basis, frames):
    """Rows for an active set, {species index: (atoms x functions)}, of atoms with a force mask > 0.

    Give it the basis as read back from its file, so that the rows are those of the saved numbers.
    """
    rows = active.compute_B_projections(basis, [bare(a) for a in frames])
    species = np.concatenate([[basis.elements_to_index_map[s] for s in a.get_chemical_symbols()] for a in frames])
    keep = masks(frames) > 0
    return {mu: np.ascontiguousarray(r[keep[species == mu]]) for mu, r in rows.items()}


def join(*row_sets):
    """Rows of several calls of projections, together."""
    return {mu: np.concatenate([r[mu] for r in row_sets]) for mu in row_sets[0]}


def save_active_set(path, basis, rows, tolerance=1.001):
    """Choose the rows of largest volume (MaxVol), and write the inverse matrices (.asi)."""
    chosen = active.compute_active_set({mu: r.copy() for mu, r in rows.items()}, tol=tolerance)
    inverse = active.compute_A_active_inverse(chosen)
    # In C order: a Fortran-ordered matrix would be read as its transpose.
    inverse = {mu: np.ascontiguousarray(m) for mu, m in inverse.items()}
    active.save_active_inverse_set(str(path), inverse, elements_name=list(basis.elements_name))
    return inverse


def grades(rows, inverse):
    """Extrapolation grade of every row, {species index: vector}."""
    return {mu: np.abs(r @ inverse[mu]).max(axis=1) for mu, r in rows.items()}


def calculator(basis):
    """An ASE calculator of a potential."""
    from pyace import PyACECalculator

    return PyACECalculator(basis)


def errors(basis, frames):
    """Root-mean-square errors on labelled frames: (meV/atom, meV/A), weights 0 left out."""
    from pyace import PyACECalculator

    calculator = PyACECalculator(basis)
    energy, force = [], []
    for atoms, weight in zip(frames, energy_weights(frames)):
        copy = bare(atoms)
        copy.calc = calculator
        if weight > 0:
            energy.append((copy.get_potential_energy() - atoms.get_potential_energy()) / len(atoms))
        force.append((copy.get_forces() - atoms.get_forces())[masks([atoms]) > 0].ravel())
    return 1e3 * _rms(np.array(energy)), 1e3 * _rms(np.concatenate(force))
