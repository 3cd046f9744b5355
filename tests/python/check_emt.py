# SPDX-License-Identifier: GPL-2.0-or-later
"""Every labelled row of the database has the energy, the forces and the stress that EMT gives for its atoms."""
import sys

import numpy as np
from ase.calculators.emt import EMT
from ase.db import connect

rows = list(connect(sys.argv[1]).select(status="DONE"))
assert rows
for row in rows:
    atoms = row.toatoms()
    labelled = atoms.get_potential_energy(), atoms.get_forces(), row.stress
    atoms.calc = EMT()
    for found, computed in zip(labelled, (atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress())):
        # extxyz keeps eight digits after the point.
        assert np.allclose(found, computed, rtol=0, atol=1e-6), (row.id, found, computed)
