#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fit the Al test potential against an EAM potential (about 10 s).

    .deps/bin/python3 potentials/al/fit.py                        write Al.yaml, Al.yace, Al.asi here
    .deps/bin/python3 potentials/al/fit.py --no-core-repulsion    the same without repulsion, into ../al-soft
    .deps/bin/python3 potentials/al/fit.py --check                refit in a temporary folder and compare
"""
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import fitting  # first: it sets the number of BLAS threads
import eamdata
import numpy as np
import pacefit

LATTICE = 4.045  # A, equilibrium of the reference


class Aluminium:
    stem = "Al"
    reference = ("eam/fs", "Al_mm.eam.fs", ["Al"])

    def __init__(self, core_repulsion=True):
        self.core_repulsion = core_repulsion

    def training(self, eam):
        """Strained and rattled 32-atom cells, and 72-atom dynamics at 100-600 K, three volumes."""
        rng = np.random.default_rng(20240501)
        frames = []
        for factor in (0.97, 0.985, 1.0, 1.015, 1.03):
            for amplitude in (0.03, 0.08):
                for _ in range(3):
                    cell = eamdata.strained(eamdata.fcc(LATTICE * factor, (2, 2, 2)), rng)
                    frames.append(eam.label(eamdata.rattled(cell, rng, amplitude)))
        for k, temperature in enumerate((100, 200, 300, 400, 500, 600)):
            for j, factor in enumerate((0.97, 1.0, 1.03)):
                block = eamdata.fcc(LATTICE * factor, (3, 3, 2))
                frames += eam.dynamics(block, temperature, seed=1000 + 10 * k + j)
        return frames

    def testing(self, eam):
        """Other dynamics, at temperatures and volumes between those of the training."""
        frames = []
        for k, temperature in enumerate((150, 350, 550)):
            for j, factor in enumerate((0.995, 1.005)):
                block = eamdata.fcc(LATTICE * factor, (3, 3, 3))
                frames += eam.dynamics(block, temperature, seed=5000 + 10 * k + j, samples=2)
        return frames

    def basis(self):
        """74 functions up to four-body, cut off at 5.5 A."""
        bonds = {"radbase": "SBessel", "radparameters": [2.0], "rcut": 5.5, "dcut": 0.01,
                 "NameOfCutoffFunction": "cos"}
        if self.core_repulsion:
            bonds.update({"core-repulsion": [130.0, 1.0], "r_in": 2.3, "delta_in": 0.3})
        return pacefit.make_basis(["Al"], bonds, {"ALL": {"nradmax_by_orders": [8, 4, 2], "lmax_by_orders": [0, 3, 2]}})


if __name__ == "__main__":
    parser = fitting.arguments(__doc__.splitlines()[0])
    parser.add_argument("--no-core-repulsion", action="store_true", help="a potential that explodes when heated")
    chosen = parser.parse_args()
    home = HERE.parent / "al-soft" if chosen.no_core_repulsion else HERE
    fitting.main(Aluminium(not chosen.no_core_repulsion), home, chosen)
