#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fit a first linear ACE potential, with its active set, to labelled structures.

    .deps/bin/python3 examples/trainers/first_potential.py --data training.extxyz --functions 100 --cutoff 6 --output Al

`--data` is any file that ASE can read, with energy and forces in each frame. Writes `potential.yaml`, `potential.asi`
(both for lammps-otf) and `potential.yace` (for plain `pair_style pace`) to `--output`, and prints the errors on the training frames and
on frames that were not used for fitting: `--test`, or every tenth frame of the data. The same input gives identical files on
the same machine.

The basis has the same number of functions for each element, selected by python-ace from orders up to four (five bodies).
Below the shortest distance in the data, a repulsion replaces the fit, unless `--no-core-repulsion` is given. Weights of frames and atoms are
those of `potentials/pacefit.py`.

`pace_linear.py` refits the potential in a learning loop. `--reference-energy auto` subtracts an energy for each element, fitted to the
data, and stores it in `potential.yaml`, where the trainers of this folder read it. It is required for energies of codes that count
all electrons.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "potentials"))

import pacefit  # first: it sets the number of BLAS threads
import json

import numpy as np
from ase.data import chemical_symbols
from ase.neighborlist import neighbor_list
from protocol import POTENTIAL, ACTIVE_SET, fail, frames_of, write_atomic

LARGEST_ENERGY = 20.0  # eV/atom; above it, python-ace also subtracts energies of atoms


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="labelled frames")
    parser.add_argument("--test", type=Path, help="frames to test the potential on")
    parser.add_argument("--output", type=Path, required=True, help="folder for the potential")
    parser.add_argument("--elements", nargs="+", metavar="EL", help="elements (default: those of the data)")
    parser.add_argument("--functions", type=int, default=100, metavar="N", help="functions for each element (default 100)")
    parser.add_argument("--cutoff", type=float, default=6.0, metavar="R", help="cutoff in A (default 6)")
    parser.add_argument("--no-core-repulsion", action="store_true", help="no repulsion below the shortest distance of the data")
    parser.add_argument("--reference-energy", default="none", metavar="WHICH",
                        help="none, auto, or energies of single atoms in eV, such as Al=-0.2,Cu=-0.3 (default none)")
    parser.add_argument("--energy-factor", type=float, default=30.0, metavar="W",
                        help="factor on the energy equations (eV/atom) relative to the force equations (eV/A) (default 30)")
    parser.add_argument("--ridge", type=float, default=1e-6, help="regularisation in units of the mean eigenvalue (default 1e-6)")
    return parser.parse_args()


def reference(text, elements, frames):
    """The energies of single atoms to subtract."""
    if text == "none":
        largest = max(abs(a.get_potential_energy() / len(a)) for a in frames)
        if largest > LARGEST_ENERGY:
            fail(f"energies up to {largest:.0f} eV/atom cannot be fitted accurately: use --reference-energy auto")
        return {}
    if text == "auto":
        numbers = np.array([[a.get_chemical_symbols().count(e) for e in elements] for a in frames], float)
        energies = np.array([a.get_potential_energy() for a in frames])
        sizes = np.array([len(a) for a in frames])
        return dict(zip(elements, np.linalg.lstsq(numbers / sizes[:, None], energies / sizes, rcond=None)[0].tolist()))
    try:
        energies = {name: float(value) for name, value in (part.split("=") for part in text.split(","))}
    except ValueError:
        fail(f"--reference-energy {text}: must be none, auto, or energies such as Al=-0.2,Cu=-0.3")
    if set(energies) != set(elements):
        fail(f"--reference-energy {text}: the elements are {' '.join(elements)}")
    return energies


def shortest_distance(frames):
    """The shortest distance between two atoms, A."""
    for reach in (3.0, 6.0):
        distances = [d.min() for d in (neighbor_list("d", a, reach) for a in frames) if len(d)]
        if distances:
            return float(min(distances))
    fail("no two atoms of the data are closer than 6 A")


def make_basis(elements, functions, cutoff, core_distance):
    """A linear basis with this number of functions for each element."""
    bonds = {"radbase": "SBessel", "radparameters": [2.0], "rcut": cutoff, "dcut": 0.01, "NameOfCutoffFunction": "cos"}
    if core_distance:
        bonds.update({"core-repulsion": [130.0, 1.0], "r_in": core_distance, "delta_in": 0.3})
    largest = {"number_of_functions_per_element": functions,
               "ALL": {"nradmax_by_orders": [15, 6, 4, 3], "lmax_by_orders": [0, 4, 3, 2]}}
    return pacefit.make_basis(elements, bonds, largest)


def main():
    chosen = arguments()
    train = frames_of(chosen.data, "the data")
    if chosen.test:
        test = frames_of(chosen.test, "the test frames")
    else:
        test, train = train[9::10], [a for k, a in enumerate(train) if k % 10 != 9]
    if not (train and test):
        fail(f"{chosen.data} has too few frames: at least 10 are required without --test")
    present = {s for a in train + test for s in a.get_chemical_symbols()}
    elements = sorted(chosen.elements or present)
    if unknown := [e for e in elements if e not in chemical_symbols]:
        fail(f"--elements {' '.join(unknown)}: not a chemical symbol")
    if present - set(elements) or set(elements) - {s for a in train for s in a.get_chemical_symbols()}:
        fail(f"the elements are {' '.join(elements)}, but the data contain {' '.join(sorted(present))}")
    atoms_of = {e: sum(a.get_chemical_symbols().count(e) for a in train) for e in elements}
    for element, number in atoms_of.items():
        if number < chosen.functions:
            fail(f"the active set requires at least {chosen.functions} training atoms of {element}, and there are {number}: use fewer --functions")
    energies = reference(chosen.reference_energy, elements, train)
    for atoms in train + test:
        pacefit.subtract_reference(atoms, energies)
    train, test = ([pacefit.with_vacuum(a, chosen.cutoff) for a in frames] for frames in (train, test))

    # The switch to the repulsion ends at the shortest distance, below which no data constrain the fit.
    core = None if chosen.no_core_repulsion else round(shortest_distance(train) - 0.05, 2)
    basis = make_basis(elements, chosen.functions, chosen.cutoff, core)
    sizes = dict(zip(basis.elements_name, pacefit.size(basis)))
    if set(sizes.values()) != {chosen.functions}:
        print(f"python-ace made {sizes} functions", file=sys.stderr)
    result = pacefit.fit(basis, train, chosen.energy_factor, chosen.ridge)
    chosen.output.mkdir(parents=True, exist_ok=True)
    path = chosen.output / POTENTIAL
    if energies:
        configuration = basis.to_BBasisConfiguration()
        configuration.metadata["reference_energy"] = json.dumps(energies)
        write_atomic(path, configuration.save)
    else:
        write_atomic(path, basis.save)
    saved = pacefit.load(path)
    inverse = None

    def save_active_set(temporary):
        nonlocal inverse
        inverse = pacefit.save_active_set(temporary, saved, pacefit.projections(saved, train))

    write_atomic(chosen.output / ACTIVE_SET, save_active_set)
    write_atomic(chosen.output / "potential.yace", lambda temporary: saved.to_ACECTildeBasisSet().save_yaml(temporary))
    energy, force = pacefit.errors(saved, test)
    highest = max(g.max() for g in pacefit.grades(pacefit.projections(saved, test), inverse).values())
    if energies:
        print("reference energies: " + ", ".join(f"{e} {v:.6f} eV" for e, v in energies.items()))
    print(f"functions: {sizes}; cutoff {chosen.cutoff:g} A; " + (f"repulsion below {core:g} A" if core else "no core repulsion"))
    print(f"{len(train)} training frames: {result.energy_rmse:.2f} meV/atom, {result.force_rmse:.1f} meV/A")
    print(f"{len(test)} test frames: {energy:.2f} meV/atom, {force:.1f} meV/A, largest grade {highest:.2f}")


if __name__ == "__main__":
    main()
