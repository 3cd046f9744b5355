# SPDX-License-Identifier: GPL-2.0-or-later
"""Evaluate a potential on structures that it was not trained on: a (100) slab and a vacancy.

    .deps/bin/python3 examples/loops/probe.py POTENTIAL.yaml ...

For each potential, with its active set (.asi) in the same folder, prints the largest γ of each structure, and the rms error of
the forces in meV/A after Gaussian displacements of 0.05 A.
"""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "potentials"))

import pacefit  # first: it sets the number of BLAS threads
import eamdata
import numpy as np
import pyace.activelearning as active
from ase.build import bulk, fcc100
from pyace import PyACECalculator

LATTICE = 4.045


def probes():
    slab = fcc100("Al", (4, 4, 6), a=LATTICE, vacuum=8, periodic=True)
    slab.pbc = True
    vacancy = bulk("Al", a=LATTICE, cubic=True).repeat(4)
    del vacancy[0]
    return {"slab": slab, "vacancy": vacancy}


def main(paths):
    eam = eamdata.Eam("eam/fs", ROOT / ".deps/share/lammps/potentials/Al_mm.eam.fs", ["Al"])
    for path in map(Path, paths):
        basis = pacefit.load(path)
        inverse = active.load_active_inverse_set(str(path.with_suffix(".asi")))
        for name, atoms in probes().items():
            grade = lambda a: max(g.max() for g in pacefit.grades(active.compute_B_projections(basis, [a]), inverse).values())
            moved = atoms.copy()
            moved.positions += np.random.default_rng(1).normal(0, 0.05, moved.positions.shape)
            truth = eam.label(moved)
            copy = pacefit.bare(moved)
            copy.calc = PyACECalculator(basis)
            error = 1e3 * np.sqrt(np.mean((copy.get_forces() - truth.get_forces()) ** 2))
            print(f"{path}: {name:8} grade {grade(atoms):6.1f}, displaced {grade(moved):6.1f}; force error {error:6.1f} meV/A")


if __name__ == "__main__":
    main(sys.argv[1:])
