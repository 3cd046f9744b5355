# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares gamma, energy and forces of a frame with python-ace's own calculator: compare_pace.py FRAME.json"""
import json
import sys

import numpy as np
from ase import Atoms
from pyace import PyACECalculator

frame = json.load(open(sys.argv[1]))
potential = frame["potential"]
atoms = Atoms("Al" * len(frame["gamma"]), positions=frame["positions"], cell=frame["cell"], pbc=True)
calculator = PyACECalculator(potential)
calculator.set_active_set(potential.replace(".yaml", ".asi"))
atoms.calc = calculator
energy = atoms.get_potential_energy()
forces = atoms.get_forces()
gamma = np.asarray(calculator.results["gamma"])

ours = np.array(frame["gamma"])
d_gamma = np.max(np.abs(ours - gamma) / np.abs(gamma))
d_energy = abs(energy - frame["energy"])
d_forces = np.max(np.abs(forces - np.array(frame["forces"])))
print(f"{len(atoms)} atoms: gamma_max {ours.max():.4f}, relative difference of gamma {d_gamma:.1e}, "
      f"of energy {d_energy:.1e} eV, of forces {d_forces:.1e} eV/A")
assert d_gamma < 1e-9, d_gamma
assert d_energy < 1e-8, d_energy
assert d_forces < 1e-8, d_forces
