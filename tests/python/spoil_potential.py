# SPDX-License-Identifier: GPL-2.0-or-later
"""A trainer that makes a potential worse, with an active set for which γ is small: spoil_potential.py POTENTIAL ACTIVE-SET OUTPUT"""
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "potentials"))

import pacefit
import pyace.activelearning as active

potential, active_set, output = sys.argv[1], sys.argv[2], Path(sys.argv[3])
basis = pacefit.load(potential)
basis.basis_coeffs = [1.3 * c for c in basis.basis_coeffs]
basis.save(str(output / "potential.yaml"))
inverse = {mu: 1e-3 * m for mu, m in active.load_active_inverse_set(active_set).items()}
active.save_active_inverse_set(str(output / "potential.asi"), inverse, elements_name=list(basis.elements_name))
(output / "report.json").write_text(json.dumps({"accepted": True}))
