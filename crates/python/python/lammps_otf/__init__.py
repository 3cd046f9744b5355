# SPDX-License-Identifier: GPL-2.0-or-later
"""ACE potentials for ASE, and molecular dynamics with LAMMPS that stores what the potential does not know.

>>> from ase.build import bulk
>>> from lammps_otf import ACE
>>> atoms = bulk("Al", cubic=True)
>>> atoms.calc = ACE("Al.yaml")  # doctest: +SKIP
>>> atoms.get_potential_energy(), atoms.calc.results["gamma"].max()  # doctest: +SKIP

`ACE` needs neither LAMMPS nor MPI. `run`, `Simulation` and `Loop` load both at their first use.
"""

from ._ace import ACE, Prediction
from ._analysis import Calibration, LearningCurve
from ._errors import (
    ConfigError,
    Error,
    InternalError,
    LabelError,
    PotentialError,
    SimulationError,
    StoreError,
    StructureError,
    ViewError,
)
from ._loop import Loop, LoopResult, TrainingJob
from ._native import __version__
from ._run import RunResult, rank, run, size
from ._simulation import CutOut, Simulation, View
from ._store import Candidate, Store

__all__ = [
    "ACE",
    "Calibration",
    "Candidate",
    "ConfigError",
    "CutOut",
    "Error",
    "InternalError",
    "LabelError",
    "LearningCurve",
    "Loop",
    "LoopResult",
    "PotentialError",
    "Prediction",
    "RunResult",
    "Simulation",
    "SimulationError",
    "Store",
    "StoreError",
    "StructureError",
    "TrainingJob",
    "View",
    "ViewError",
    "__version__",
    "rank",
    "run",
    "size",
]
