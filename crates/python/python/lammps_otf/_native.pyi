# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiled part of the package."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__version__: str

# Positions (n, 3) in Å, cell vectors (3, 3) in Å, periodic directions, atomic numbers (n).
_Frame = tuple[NDArray[np.float64], NDArray[np.float64], tuple[bool, bool, bool], NDArray[np.int64]]
# Energy, energies (n), forces (n, 3), virial (xx, yy, zz, xy, xz, yz), γ (n) or None, core shares (n); eV and Å.
_Result = tuple[
    float,
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64] | None,
    NDArray[np.float64],
]

class Evaluator:
    """Evaluates structures with an ACE potential."""

    def __new__(cls, file: str, active_set: str | None = None, *, threads: int = 1, skin: float = 0.0) -> Evaluator: ...
    @property
    def elements(self) -> list[str]: ...
    @property
    def cutoff(self) -> float: ...
    @property
    def functions(self) -> int: ...
    @property
    def has_gamma(self) -> bool: ...
    def evaluate(self, frame: _Frame) -> _Result: ...
    def evaluate_all(self, frames: Sequence[_Frame]) -> list[_Result]: ...
    def select(self, frames: Sequence[_Frame], n: int) -> list[int]: ...
