# SPDX-License-Identifier: GPL-2.0-or-later
"""The ASE calculator."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Union

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

from ._errors import StructureError
from ._native import Evaluator

StrPath = Union[str, "os.PathLike[str]"]
Array = NDArray[np.float64]

# ASE's order of the components xx, yy, zz, xy, xz, yz.
_VOIGT = [0, 1, 2, 5, 4, 3]


@dataclass(frozen=True)
class Prediction:
    """Results for a structure of n atoms. Units are Å and eV."""

    energy: float
    """Total energy, eV."""
    energies: Array
    """Energy of each atom, eV; shape (n)."""
    forces: Array
    """Forces, eV/Å; shape (n, 3)."""
    stress: Array | None
    """Stress in ASE's sign and order (xx, yy, zz, yz, xz, xy), eV/Å³; `None` if the three cell vectors do not span a volume."""
    gamma: Array | None
    """Extrapolation grade γ of each atom; `None` if there is no active set. Shape (n)."""
    core_share: Array
    """Fraction of the many-body energy of each atom that the core repulsion has switched off, 0 to 1; shape (n)."""


class ACE(Calculator):  # type: ignore[misc]  # ASE has no types
    """An ACE potential as an ASE calculator.

    `potential` is a file of pacemaker or of LAMMPS's ML-PACE: `.yaml`, `.yace` or `.ace`. `active_set` is the `.asi` file from
    which γ is computed. By default it is the file beside the potential with the same name and the extension `.asi`, if
    the potential is a `.yaml` file and there is one. With `gamma=False` no active set is read, which saves the time of γ.

    An evaluation uses `threads` threads. Within a run of molecular dynamics the neighbour list is made again only when an atom
    has moved by half of `skin` (Å) or when the cell has changed. With `skin=0` it is made for each evaluation, and the
    result does not depend on the evaluations before; otherwise it does by rounding.

    The results are `energy`, `free_energy` (the same), `energies`, `forces`, `stress`, `core_share` and, with an active set,
    `gamma`, as in `Prediction`.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "gamma",
        "core_share",
    ]

    def __init__(
        self,
        potential: StrPath,
        active_set: StrPath | None = None,
        *,
        gamma: bool = True,
        threads: int = 1,
        skin: float = 0.5,
        **kwargs: Any,
    ) -> None:
        file = Path(potential)
        if gamma and active_set is None and file.suffix in (".yaml", ".yml") and file.with_suffix(".asi").exists():
            active_set = file.with_suffix(".asi")
        if not gamma:
            active_set = None
        self._arguments = (os.fspath(file), None if active_set is None else os.fspath(active_set))
        self._options: dict[str, Any] = {"threads": threads, "skin": skin}
        self._evaluator = Evaluator(*self._arguments, **self._options)
        super().__init__(**kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self._arguments, self._options, self.__class__), {"atoms": self.atoms, "results": self.results}

    def __repr__(self) -> str:
        file, active_set = self._arguments
        return f"ACE({file!r}, {active_set!r}, {', '.join(f'{k}={v!r}' for k, v in self._options.items())})"

    @property
    def elements(self) -> list[str]:
        """Chemical symbols of the potential."""
        return self._evaluator.elements

    @property
    def cutoff(self) -> float:
        """Largest cutoff, Å."""
        return self._evaluator.cutoff

    @property
    def has_gamma(self) -> bool:
        """Whether an active set was read, so that `gamma` is in the results."""
        return self._evaluator.has_gamma

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate the atoms. All results are computed together."""
        # The method of the base class also makes a folder for files.
        if atoms is not None:
            self.atoms = atoms.copy()
        self.results = {}
        found = _prediction(self._evaluator.evaluate(_frame(self.atoms)), self.atoms)
        results = {"energy": found.energy, "free_energy": found.energy}
        for name in ("energies", "forces", "stress", "gamma", "core_share"):
            value = getattr(found, name)
            if value is not None:
                results[name] = value
        self.results = results

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last calculation.

        The comparison is exact and only of what the results depend on. That of the base class takes longer than the evaluation of a hundred
        atoms.
        """
        old = self.atoms
        if old is None:
            return [*all_changes]
        pairs = {
            "positions": (old.positions, atoms.positions),
            "numbers": (old.numbers, atoms.numbers),
            "cell": (old.cell.array, atoms.cell.array),
            "pbc": (old.pbc, atoms.pbc),
        }
        return [name for name, (a, b) in pairs.items() if not np.array_equal(a, b)]

    def evaluate(self, frames: Iterable[Atoms]) -> list[Prediction]:
        """Evaluate structures, distributed over the threads of the calculator.

        Raises the error of the first structure that cannot be evaluated, with its index.
        """
        frames = list(frames)
        found = self._evaluator.evaluate_all(_frames(frames))
        return [_prediction(one, atoms) for one, atoms in zip(found, frames)]

    def select(self, frames: Iterable[Atoms], n: int) -> list[int]:
        """Return the indices of at most `n` structures that extend the active set most, the most informative first.

        The selection is D-optimal, by MaxVol on the projections of all atoms; it requires an active set. Fewer than `n` are
        returned if the others are spanned by them and by the active set.
        """
        if n < 0:
            raise ValueError(f"n is {n}; required is 0 or more")
        return self._evaluator.select(_frames(list(frames)), n)


def _remake(arguments: tuple[str, str | None], options: dict[str, Any], cls: type[ACE]) -> ACE:
    file, active_set = arguments
    return cls(file, active_set, gamma=active_set is not None, **options)


def _frame(atoms: Atoms) -> tuple[Any, ...]:
    """Return the arrays of which the compiled part makes a structure."""
    cell, pbc = atoms.cell.array, [bool(p) for p in atoms.pbc]
    if not cell.any(axis=1).all():
        if any(p and not v.any() for p, v in zip(pbc, cell)):
            raise StructureError(f"the cell has no vector in a periodic direction: cell {cell.tolist()}, pbc {pbc}")
        # In a direction that is not periodic, any vector will do that completes the cell.
        cell = atoms.cell.complete().array
    return (
        np.ascontiguousarray(atoms.positions, dtype=np.float64),
        np.ascontiguousarray(cell, dtype=np.float64),
        tuple(pbc),
        np.ascontiguousarray(atoms.numbers, dtype=np.int64),
    )


def _frames(frames: list[Atoms]) -> list[Any]:
    made = []
    for index, atoms in enumerate(frames):
        try:
            made.append(_frame(atoms))
        except StructureError as error:
            raise StructureError(f"frame {index}: {error}") from None
    return made


def _prediction(found: tuple[Any, ...], atoms: Atoms) -> Prediction:
    energy, energies, forces, virial, gamma, core_share = found
    cell = atoms.cell
    stress = -virial[_VOIGT] / cell.volume if cell.array.any(axis=1).all() and cell.rank == 3 else None
    return Prediction(energy, energies, forces, stress, gamma, core_share)
