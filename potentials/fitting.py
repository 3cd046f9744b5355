# SPDX-License-Identifier: GPL-2.0-or-later
"""What the fit scripts of this folder share: fit, save, report, compare, and the command line."""
import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import pacefit  # first: it sets the number of BLAS threads
import eamdata
import numpy as np

POTENTIALS = Path(__file__).resolve().parent.parent / ".deps/share/lammps/potentials"

# What --check allows between the committed potential and a refit, on the test frames. On one
# machine the files are byte-identical; other processors round differently.
ENERGY_TOLERANCE = 0.05  # meV/atom, largest
FORCE_TOLERANCE = 1.0  # meV/A, root mean square
GRADE_TOLERANCE = 0.05  # relative, of the largest grade of a frame


def run(recipe, folder):
    """Fit and write the three files; returns the labelled test frames.

    A recipe has: stem, reference (style, file, elements), training(eam), testing(eam), and basis() of a linear potential or
    fit(frames), which returns any fitted potential (a BBasisConfiguration).
    """
    begun = time.monotonic()
    style, file, elements = recipe.reference
    eam = eamdata.Eam(style, POTENTIALS / file, elements)
    train, test = recipe.training(eam), recipe.testing(eam)
    print(f"{len(train)} training frames, {sum(map(len, train))} atoms; {len(test)} test frames "
          f"({time.monotonic() - begun:.1f} s)", flush=True)
    if hasattr(recipe, "fit"):
        model = recipe.fit(train)
        result = None
    else:
        model = recipe.basis()
        result = pacefit.fit(model, train)
    yaml, yace, asi = (folder / f"{recipe.stem}.{kind}" for kind in ("yaml", "yace", "asi"))
    pacefit.save(model, yaml, yace)
    saved = pacefit.load(yaml)
    inverse = pacefit.save_active_set(asi, saved, pacefit.projections(saved, train))
    energy, force = pacefit.errors(saved, test)
    train_energy, train_force = (result.energy_rmse, result.force_rmse) if result else pacefit.errors(saved, train)
    highest = max(g.max() for g in pacefit.grades(pacefit.projections(saved, test), inverse).values())
    sizes = dict(zip(saved.elements_name, pacefit.size(saved)))
    print(f"functions: {sizes}; training {train_energy:.2f} meV/atom, {train_force:.1f} meV/A; "
          f"test {energy:.2f} meV/atom, {force:.1f} meV/A; largest grade in the test {highest:.2f} "
          f"({time.monotonic() - begun:.1f} s)")
    return test


def compare(stem, folder, other, test):
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


def main(recipe, home, arguments):
    """Carry out what the command line asks for."""
    if not POTENTIALS.is_dir():
        sys.exit(f"fit.py: {POTENTIALS} is missing; run ci/setup first")
    if arguments.data:
        from ase.io import write

        style, file, elements = recipe.reference
        eam = eamdata.Eam(style, POTENTIALS / file, elements)
        arguments.data.mkdir(parents=True, exist_ok=True)
        for name, frames in (("training", recipe.training(eam)), ("testing", recipe.testing(eam))):
            path = arguments.data / f"{name}.extxyz"
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            write(aside, frames, format="extxyz")
            aside.replace(path)
        return
    if arguments.check:
        with tempfile.TemporaryDirectory() as folder:
            test = run(recipe, Path(folder))
            if not compare(recipe.stem, home, Path(folder), test):
                sys.exit(f"fit.py: the refit differs from the potential in {home} by more than the tolerance")
        return
    folder = arguments.output or home
    folder.mkdir(parents=True, exist_ok=True)
    run(recipe, folder)


def arguments(description):
    """The options that all fit scripts have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="refit in a temporary folder and compare")
    parser.add_argument("--data", type=Path, metavar="DIR",
                        help="fit nothing: write the labelled frames to DIR/training.extxyz and DIR/testing.extxyz")
    parser.add_argument("--output", type=Path, help="folder to write to (default: the committed one)")
    return parser
