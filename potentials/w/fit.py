#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fit a small W potential against an EAM potential (about 10 s). It is not committed: what needs it makes it.

    .deps/bin/python3 potentials/w/fit.py --output FOLDER    write W.yaml, W.yace, W.asi
"""
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import fitting  # first: it sets the number of BLAS threads
import eamdata
import numpy as np
import pacefit
from ase.build import bulk


def tungsten(factor=1.0, repeat=(3, 3, 3)):
    """A block of cubic bcc cells."""
    return bulk("W", "bcc", a=3.165 * factor, cubic=True).repeat(repeat)


class Tungsten:
    """A small potential for crystalline W."""

    stem = "W"
    reference = ("eam/alloy", "W_zhou.eam.alloy", ["W"])

    def training(self, eam):
        rng = np.random.default_rng(20261101)
        frames = [eam.label(eamdata.rattled(eamdata.strained(tungsten(factor), rng), rng, amplitude))
                  for factor in (0.97, 1.0, 1.03) for amplitude in (0.03, 0.08, 0.12)]
        for k, temperature in enumerate((300, 800, 1500)):
            for i, factor in enumerate((0.98, 1.01)):
                frames += eam.dynamics(tungsten(factor), temperature, seed=3000 + 10 * k + i, samples=2)
        return frames

    def testing(self, eam):
        return eam.dynamics(tungsten(), 1000, seed=3900, samples=4)

    def basis(self):
        return pacefit.make_basis(
            ["W"],
            {"radbase": "SBessel", "radparameters": [2.0], "rcut": 5.5, "dcut": 0.01, "NameOfCutoffFunction": "cos",
             "core-repulsion": [130.0, 1.0], "r_in": 1.9, "delta_in": 0.3},
            {"UNARY": {"nradmax_by_orders": [8, 4, 2], "lmax_by_orders": [0, 3, 2]}})


if __name__ == "__main__":
    fitting.main(Tungsten(), HERE, fitting.arguments(__doc__.splitlines()[0]).parse_args())
