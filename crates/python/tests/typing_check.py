# SPDX-License-Identifier: GPL-2.0-or-later
"""Checked by mypy --strict, not run: the types that users see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lammps_otf
from lammps_otf import ACE, Error, PotentialError, Prediction, StructureError


def evaluate(frames: list[Any]) -> None:
    calculator = ACE(Path("Al.yaml"), "Al.asi", threads=2, skin=0.5, gamma=True)
    found: list[Prediction] = calculator.evaluate(frames)
    energy: float = found[0].energy
    forces: NDArray[np.float64] = found[0].forces
    gamma: NDArray[np.float64] | None = found[0].gamma
    chosen: list[int] = calculator.select(frames, 3)
    version: str = lammps_otf.__version__
    elements: list[str] = calculator.elements
    del elements, energy, forces, gamma, chosen, version


def errors(error: Error) -> ValueError | None:
    return error if isinstance(error, (PotentialError, StructureError)) else None


def wrong() -> None:
    ACE("Al.yaml", thread=2.5, threads="2")  # type: ignore[arg-type]
    ACE()  # type: ignore[call-arg]
