# SPDX-License-Identifier: GPL-2.0-or-later
"""A GPAW calculator for cut-outs of aluminium, for ../ase_oracle.py.

LCAO with a double-zeta basis, PBE, the Gamma point, and 0.2 eV of smearing. These coarse settings label a cut-out in minutes on
one core. For production, use plane waves (`mode=PW(400)`) and k-points, and converge both.
"""
from gpaw import GPAW, FermiDirac


def make(h=0.3, basis="dzp", txt="-"):
    return GPAW(mode="lcao", basis=basis, h=h, xc="PBE", occupations=FermiDirac(0.2), kpts=(1, 1, 1), txt=txt,
                symmetry="off")
