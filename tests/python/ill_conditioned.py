#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a variant of the test potential whose active set amplifies rounding, like active sets with a condition number of
1e18.

    ill_conditioned.py AL.yaml AL.asi FOLDER

Two functions without weight in the energy are added, which differ only by a factor and the order of additions. Their
difference, which is rounding only, gets a weight in the inverted active set that affects the seventh digit of the
extrapolation grade. Writes Al.yaml and Al.asi.
"""
import logging
import sys
from pathlib import Path

import numpy as np
from ase.build import bulk

logging.disable(logging.INFO)
from pyace import PyACECalculator

yaml, asi, folder = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
# Four times the same neighbour density of l = 1: only one invariant, however it is coupled.
function = "      - {{type: Al Al Al Al Al, nr: [1, 1, 1, 1], nl: [1, 1, 1, 1], lint: [{0}, {0}], c: [0]}}\n"
text = yaml.read_text().rstrip("\n") + "\n" + function.format(0) + function.format(2)
(folder / "Al.yaml").write_text(text)

atoms = bulk("Al", "fcc", a=4.045, cubic=True).repeat(3)
atoms.positions += np.random.default_rng(1).normal(0, 0.15, atoms.positions.shape)
atoms.calc = PyACECalculator(str(folder / "Al.yaml"))
atoms.get_potential_energy()
one, other = np.array(atoms.calc.projections)[:, -2:].T
factor = float(one @ other / (other @ other))
assert np.abs(one - factor * other).max() < 1e-12 * np.abs(one).max()

old = np.load(asi)["Al"]
n = len(old)
new = np.zeros((n + 2, n + 2))
new[:n, :n] = old
weight = 1e10 / np.abs(one).mean()
new[n] += weight
new[n + 1] -= weight * factor
with open(folder / "Al.asi", "wb") as file:
    np.savez(file, Al=new)
print(f"largest entry {np.abs(new).max():.1e}, {np.abs(old).max():.1e} before")
