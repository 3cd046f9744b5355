#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Time ace-jax's calculator on a potential and a structure: peer_jax.py POTENTIAL.yace STRUCTURE.extxyz REPEATS

Prints the median of µs per atom of one call for energy and forces of positions that are a little different each time, after
those that compile, and the energy in eV; for another Python than the others', because its ASE and numpy are newer.
"""
import statistics
import sys
import time

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from ace_jax import ACECalculator
from ase.io import read

potential, structure, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3])
atoms = read(structure)
atoms.calc = ACECalculator(potential)
start = atoms.get_positions()
energy = atoms.get_potential_energy()
atoms.get_forces()
random = np.random.default_rng(1)
seconds = []
for k in range(repeats + 2):
    atoms.set_positions(start + random.normal(0, 1e-3, start.shape))
    begun = time.perf_counter()
    atoms.get_potential_energy()
    atoms.get_forces()
    if k >= 2:
        seconds.append(time.perf_counter() - begun)
print(statistics.median(seconds) * 1e6 / len(atoms), repr(float(energy)))
