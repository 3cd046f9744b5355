#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fit the Al-Cu test potential against an EAM potential (about a minute).

    .deps/bin/python3 potentials/alcu/fit.py            write AlCu.yaml, AlCu.yace, AlCu.asi here
    .deps/bin/python3 potentials/alcu/fit.py --check    refit in a temporary folder and compare
"""
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import fitting  # first: it sets the number of BLAS threads
import eamdata
import numpy as np
import pacefit


def solution(share, factor, repeat, rng):
    """A random fcc solid solution with a share of Cu, at its Vegard lattice constant times factor."""
    atoms = eamdata.fcc(((1 - share) * 4.05 + share * 3.615) * factor, repeat)
    copper = rng.permutation(len(atoms))[: round(share * len(atoms))]
    symbols = np.array(atoms.get_chemical_symbols())
    symbols[copper] = "Cu"
    atoms.set_chemical_symbols(symbols.tolist())
    return atoms


class AluminiumCopper:
    stem = "AlCu"
    reference = ("eam/alloy", "AlCu.eam.alloy", ["Al", "Cu"])

    def training(self, eam):
        """Random solutions of all compositions: strained and rattled cells, and dynamics."""
        rng = np.random.default_rng(20240502)
        frames = []
        for share in (0.0, 0.125, 0.25, 0.5, 0.75, 0.875, 1.0):
            for factor in (0.97, 1.0, 1.03):
                for amplitude in (0.03, 0.08):
                    cell = eamdata.strained(solution(share, factor, (2, 2, 2), rng), rng)
                    frames.append(eam.label(eamdata.rattled(cell, rng, amplitude)))
        for k, temperature in enumerate((200, 400, 600)):
            for j, share in enumerate((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)):
                for i, factor in enumerate((0.975, 1.02)):
                    block = solution(share, factor, (3, 3, 2), rng)
                    frames += eam.dynamics(block, temperature, seed=2000 + 100 * k + 10 * j + i, samples=2)
        return frames

    def testing(self, eam):
        """Other compositions, at temperatures between those of the training."""
        rng = np.random.default_rng(20240503)
        return [frame for k, temperature in enumerate((300, 500)) for j, share in enumerate((0.05, 0.2, 0.4, 0.6, 0.95))
                for frame in eam.dynamics(solution(share, 1.0, (3, 3, 2), rng), temperature, seed=6000 + 10 * k + j, samples=1)]

    def basis(self):
        """The same number of functions for either element, up to four-body, cut off at 5.5 A."""
        return pacefit.make_basis(
            ["Al", "Cu"],
            {"radbase": "SBessel", "radparameters": [2.0], "rcut": 5.5, "dcut": 0.01, "NameOfCutoffFunction": "cos",
             "core-repulsion": [130.0, 1.0], "r_in": 1.9, "delta_in": 0.3},
            {"UNARY": {"nradmax_by_orders": [7, 3, 1], "lmax_by_orders": [0, 2, 1]},
             "BINARY": {"nradmax_by_orders": [6, 2, 1], "lmax_by_orders": [0, 2, 1]}})


if __name__ == "__main__":
    fitting.main(AluminiumCopper(), HERE, fitting.arguments(__doc__.splitlines()[0]).parse_args())
