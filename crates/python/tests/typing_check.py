# SPDX-License-Identifier: GPL-2.0-or-later
"""Checked by mypy --strict, not run: the types that users see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lammps_otf
from lammps_otf import ACE, Error, Loop, LoopResult, PotentialError, Prediction, StructureError, TrainingJob


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


def learn(atoms: Any) -> None:
    def train(job: TrainingJob) -> None:
        frames: list[Any] = job.frames
        path: Path = job.new_potential
        del frames, path

    def refuse(job: TrainingJob) -> dict[str, Any]:
        return {"accepted": False, "reason": str(job.round)}

    loop = Loop(atoms, "Al.yaml", oracle=lambda atoms: atoms, trainer=train, output="out", max_rounds=3, temperature=300)
    result: LoopResult = loop.run()
    rows: list[dict[str, Any]] = result.learning_curve()
    gamma: float | None = result.calibration(held_out=False).threshold(0.2)
    Loop([{"structure": atoms}], trainer=refuse, oracle={"type": "external"}, checks={"crystal": atoms}, output=Path("out"))
    del rows, gamma


def errors(error: Error) -> ValueError | None:
    return error if isinstance(error, (PotentialError, StructureError)) else None


def wrong() -> None:
    ACE("Al.yaml", thread=2.5, threads="2")  # type: ignore[arg-type]
    ACE()  # type: ignore[call-arg]
    Loop("al.toml", trainer=lambda: None)  # type: ignore[misc, arg-type]
