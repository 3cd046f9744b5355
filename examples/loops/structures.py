# SPDX-License-Identifier: GPL-2.0-or-later
"""Structures of aluminium for examples/loops/al-checks.toml: start structures of the runs, and checks.

    .deps/bin/python3 examples/loops/structures.py FOLDER

EAM moves the atoms of the frames that are not ideal, as a trajectory of density-functional theory would. None of the checks is
trained on, except for slab-frames.
"""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "potentials"))

import eamdata
from ase.build import bulk, fcc100
from ase.io import write

LATTICE = 4.045


def slab(repeat, vacuum):
    atoms = fcc100("Al", repeat, a=LATTICE, vacuum=vacuum, periodic=True)
    atoms.pbc = True
    return atoms


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    eam = eamdata.Eam("eam/fs", ROOT / ".deps/share/lammps/potentials/Al_mm.eam.fs", ["Al"])
    crystal = bulk("Al", a=LATTICE, cubic=True).repeat(3)
    vacancy = crystal.copy()
    del vacancy[0]
    last = lambda atoms, temperature, seed: eam.dynamics(atoms, temperature, seed=seed, samples=1, equilibrate=2000)[-1]
    structures = {
        # Checks. The first is the reference of energy differences: an ideal crystal.
        "crystal": [crystal],
        "crystal-hot": [last(crystal, 600, 11)],
        "melt": [last(bulk("Al", a=1.05 * LATTICE, cubic=True).repeat(3), 2500, 12)],
        "vacancy": [vacancy],
        "vacancy-hot": [last(vacancy, 600, 13)],
        "slab": [slab((4, 4, 6), 8)],
        "slab-hot": [last(slab((4, 4, 6), 8), 500, 14)],
        # Small slabs, whose energies are trained on.
        "slab-frames": [slab((3, 3, 5), 6)] + eam.dynamics(slab((3, 3, 5), 6), 400, seed=15, samples=3),
        # The start of the run of a slab.
        "slab-run": [slab((4, 4, 8), 8)],
    }
    for name, frames in structures.items():
        # Without labels: the oracle of the loop makes them.
        bare = [atoms.copy() for atoms in frames]
        for atoms in bare:
            atoms.calc = None
        write(folder / f"{name}.extxyz", bare)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
