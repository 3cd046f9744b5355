# SPDX-License-Identifier: GPL-2.0-or-later
"""ACE potentials for ASE: energies, forces, stress and the extrapolation grade γ of every atom.

>>> from ase.build import bulk
>>> from lammps_otf import ACE
>>> atoms = bulk("Al", cubic=True)
>>> atoms.calc = ACE("Al.yaml")  # doctest: +SKIP
>>> atoms.get_potential_energy(), atoms.calc.results["gamma"].max()  # doctest: +SKIP
"""

from ._ace import ACE, Prediction
from ._errors import Error, InternalError, PotentialError, StructureError
from ._native import __version__

__all__ = ["ACE", "Error", "InternalError", "PotentialError", "Prediction", "StructureError", "__version__"]
