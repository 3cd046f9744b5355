# SPDX-License-Identifier: GPL-2.0-or-later
"""Structures for tests/grade.rs: grade_structures.py FOLDER.

Frames of Al with vacancies and displaced atoms in several formats, 2048 displaced atoms, and the results of python-ace for them.
"""
import sys
from pathlib import Path

import numpy as np
from ase import units
from ase.build import bulk
from ase.constraints import FixAtoms, FixScaled
from ase.db import connect
from ase.io import write
from pyace import PyACECalculator

folder, potential = Path(sys.argv[1]), sys.argv[2]
frames = []
for k in range(4):
    atoms = bulk("Al", cubic=True) * (3, 3, 3)
    del atoms[: k]
    atoms.rattle(0.02 + 0.04 * k, seed=k)
    frames.append(atoms)
write(folder / "frames.traj", frames)
write(folder / "XDATCAR", [frames[0], frames[0]], format="vasp-xdatcar")
with connect(folder / "frames.db") as db:
    for atoms in frames:
        db.write(atoms)
fixed = frames[2].copy()
fixed.set_constraint(FixAtoms([1, 5]))
fixed.set_velocities(np.full((len(fixed), 3), 0.001 / units.fs))  # 1 Å/ps
write(folder / "fixed.traj", fixed)
held = frames[1].copy()
held.set_constraint([FixScaled(3, [False, False, True]), FixAtoms([7])])
write(folder / "POSCAR", held, format="vasp", direct=False)

large = bulk("Al", cubic=True) * (8, 8, 8)
large.rattle(0.1, seed=9)
write(folder / "large.traj", large)
for name, atoms in [("large", large), *((f"frame-{k}", atoms) for k, atoms in enumerate(frames))]:
    calculator = PyACECalculator(potential)
    calculator.set_active_set(potential.replace(".yaml", ".asi"))
    atoms.calc = calculator
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    gamma = np.asarray(calculator.results["gamma"])
    np.savetxt(folder / f"{name}.txt", np.column_stack([forces, gamma]), header=repr(float(energy)))
