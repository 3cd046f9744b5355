#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Time ace-jax's calculator on a potential and a structure: peer_jax.py POTENTIAL.yace STRUCTURE.extxyz REPEATS

Prints the median time of a call for energy and forces in µs per atom, and the energy in eV. Positions change slightly from
call to call; the first calls, which compile, are excluded. Runs in a separate Python environment with newer ASE and numpy.
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
