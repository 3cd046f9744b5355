#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Make a potential with thousands of functions and a real active set, to measure extrapolation grades.

    .deps/bin/python3 crates/pace-opt/bench/large_set.py FOLDER     writes Al.yaml, Al.yace, Al.asi

The functions are those of the largest potential of `tests/reference/bases.py`: order four, 3,140 functions. The active set is chosen with
pacemaker's tools (MaxVol) from environments of aluminium: dynamics of crystals and melts with an EAM potential of LAMMPS, strained and
rattled crystals, surfaces and clusters. Energies are not fitted: the coefficients are random, and grades do not depend on them. Dynamics
need another potential (`speed.py` uses the same EAM).
"""
import logging
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
for folder in (ROOT / "potentials", HERE, HERE.parent / "tests/reference"):
    sys.path.insert(0, str(folder))

EAM = ROOT / ".deps/share/lammps/potentials/Al_mm.eam.fs"


def structures(seed=1):
    """Some 14,000 environments."""
    import numpy as np
    from ase import Atoms
    from ase.build import bulk, fcc100, fcc111

    import cu_pbe
    import eamdata

    rng = np.random.default_rng(seed)
    eam = eamdata.Eam("eam/fs", EAM, ["Al"])
    out = []
    for a in (3.9, 4.05, 4.2):
        for kelvin in (100, 300, 600, 900):
            out += eam.dynamics(eamdata.fcc(a, 3), kelvin, 4928 + kelvin, samples=2, equilibrate=300, every=200)
    for a in (4.1, 4.25, 4.4):
        for kelvin in (2000, 3000):
            out += eam.dynamics(eamdata.rattled(eamdata.fcc(a, 3), rng, 0.5), kelvin, 77 + kelvin, samples=5, equilibrate=1000, every=300)
    for lattice, a, n in (("fcc", 4.05, 3), ("bcc", 3.23, 3), ("sc", 2.7, 3), ("diamond", 6.0, 2), ("hcp", 2.86, 3)):
        for scale in (0.9, 1.0, 1.1, 1.25):
            for rattle in (0.05, 0.2, 0.4):
                atoms = bulk("Al", lattice, a=a * scale).repeat((n, n, n))
                atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * rng.standard_normal((3, 3))), scale_atoms=True)
                atoms.positions += rattle * rng.standard_normal(atoms.positions.shape)
                out.append(atoms)
    for build in (fcc100, fcc111):
        for rattle in (0.05, 0.15, 0.3):
            atoms = build("Al", (3, 3, 4), a=4.05, vacuum=8.0, periodic=True)
            atoms.positions += rattle * rng.standard_normal(atoms.positions.shape)
            out.append(atoms)
    for size in (3, 6, 13, 32):
        out += [cu_pbe.random_packing(Atoms, rng, size, 3.2 * size ** (1 / 3) + 6.0, open_box=True, least=2.2) for _ in range(12)]
    for atoms in out:
        atoms.symbols[:] = "Al"
    return out


def make(folder, tolerance=1.05):
    """Writes the files; returns the number of functions."""
    logging.disable(logging.INFO)
    import bases
    import pacefit

    _, embeddings, bonds, functions = bases.BIG["big"]
    bases.make(folder, "Al", (["Al"], embeddings, bonds, functions), 1)
    basis = pacefit.load(f"{folder}/Al.yaml")
    rows = pacefit.projections(basis, structures())
    print(*(r.shape for r in rows.values()), flush=True)
    pacefit.save_active_set(f"{folder}/Al.asi", basis, rows, tolerance=tolerance)
    return pacefit.size(basis)[0]


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    print(make(folder), "functions")


if __name__ == "__main__":
    main()
