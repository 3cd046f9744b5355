#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fit the non-linear Al test potential with pacemaker to the data of ../al/fit.py. Requires TensorFlow: run
`ci/pacemaker potentials/al-nonlinear/fit.py`, which installs it.

    ci/pacemaker potentials/al-nonlinear/fit.py            write Al.yaml, Al.yace, Al.asi here
    ci/pacemaker potentials/al-nonlinear/fit.py --check    refit in a temporary folder and compare
"""
import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import fitting  # first: it sets the number of BLAS threads
import pacemakerfit

_spec = importlib.util.spec_from_file_location("aluminium", HERE.parent / "al/fit.py")
aluminium = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(aluminium)


class NonlinearAluminium(aluminium.Aluminium):
    """46 functions up to four-body and two densities, cut off at 4.7 A, without core repulsion. The energy of an atom is
    F(rho_1) + F(rho_2), where F is the shifted and scaled Finnis-Sinclair function with exponents 1 and 1/2."""

    def fit(self, frames):
        potential = {
            "deltaSplineBins": 0.001,
            "elements": ["Al"],
            "embeddings": {"ALL": {"npot": "FinnisSinclairShiftedScaled", "fs_parameters": [1, 1, 1, 0.5], "ndensity": 2}},
            "bonds": {"ALL": {"radbase": "SBessel", "radparameters": [2.0], "rcut": 4.7, "dcut": 0.01, "NameOfCutoffFunction": "cos"}},
            "functions": {"ALL": {"nradmax_by_orders": [6, 4, 2], "lmax_by_orders": [0, 2, 1]}},
        }
        frame = pacemakerfit.data_frame(frames, [], [], 1.0)
        return pacemakerfit.run(potential, frame, energy_factor=30.0, iterations=120)[0]


if __name__ == "__main__":
    fitting.main(NonlinearAluminium(core_repulsion=False), HERE, fitting.arguments(__doc__.splitlines()[0]).parse_args())
