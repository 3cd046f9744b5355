# SPDX-License-Identifier: GPL-2.0-or-later
"""The candidate store."""

from __future__ import annotations

import itertools
import os
import socket
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Union

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import ArrayLike, NDArray

from ._ace import _frame
from ._native import Store as _Store

StrPath = Union[str, "os.PathLike[str]"]
# Energy (eV), forces (eV/Å), stress (eV/Å³), and the name of the calculator.
Label = tuple[float, NDArray[np.float64], Union["tuple[float, ...]", None], Union[str, None]]
_counter = itertools.count(1)


@dataclass(frozen=True)
class Candidate:
    """A candidate of n atoms, as it was when it was read."""

    id: int
    """Its id in the store."""
    status: str | None
    """`PENDING_DFT`, `RUNNING_DFT`, `DONE`, `FAILED` or `REJECTED`; `None` for rows that were not stored by lammps-otf."""
    atoms: Atoms
    """The atoms; energy, forces and stress are those of the label, if there is one."""
    force_mask: NDArray[np.float64]
    """Weight of the force on each atom in training: 1 in the core, 0 in the buffer; shape (n)."""
    gamma: NDArray[np.float64] | None
    """γ of each atom in the frame of the event; shape (n)."""
    keys: dict[str, Any]
    """The keys, such as `gamma`, `step` and `trigger`."""
    message: str | None
    """Why it has failed."""
    worker: str | None = field(default=None, repr=False)
    """Who has claimed it."""


class Store:
    """The candidate store of a run, an ASE database that `ase.db.connect` opens as well.

    With `create`, a file that is missing is created. Several processes can use a store at the same time.
    """

    def __init__(self, path: StrPath, *, create: bool = False) -> None:
        self.path = os.fspath(path)
        self._store = _Store(self.path, create)
        # Unique over processes and objects, so that a claim that was released is not mistaken for that of its successor.
        self.worker = f"{socket.gethostname()}-{os.getpid()}-{next(_counter)}"

    def __repr__(self) -> str:
        return f"Store({self.path!r})"

    def __len__(self) -> int:
        return len(self.ids())

    def __getitem__(self, id: int) -> Candidate:  # noqa: A002
        return _candidate(self._store.get(id))

    def __iter__(self) -> Iterator[Candidate]:
        return (self[id] for id in self.ids())  # noqa: A001

    def counts(self) -> dict[str, int]:
        """Return the number of candidates of each status."""
        return self._store.counts()

    def ids(self, status: str | None = None) -> list[int]:
        """Return the ids of all candidates, or of those with this status."""
        return self._store.ids(status)

    def add(self, atoms: Atoms, force_mask: ArrayLike | None = None, *, energy_weight: float = 1.0, stress_weight: float = 0.0) -> int:
        """Add a structure to be labelled, and return its id.

        Without a force mask, the forces on all atoms are used for training. Set `energy_weight` to 0 for a cut-out, whose energy says
        nothing about the environments inside.
        """
        mask = np.ones(len(atoms)) if force_mask is None else np.ascontiguousarray(force_mask, dtype=np.float64)
        return self._store.add(_frame(atoms), mask, (energy_weight, stress_weight))

    def claim(self) -> Candidate | None:
        """Claim the oldest pending candidate for this object; `None` if there is none. No other worker gets it."""
        found = self._store.claim(self.worker)
        return None if found is None else _candidate(found)

    def finish(self, candidate: Candidate | int, labels: Atoms | None = None, *, calculator: str | None = None) -> None:
        """Store the label of a claimed candidate, which is then `DONE`.

        The label is energy, forces and, if there is one, stress of `labels`, by default of `candidate.atoms`, whose calculator is called if
        necessary.
        """
        if labels is None:
            if not isinstance(candidate, Candidate):
                raise TypeError("labels are required if the candidate is given by its id")
            labels = candidate.atoms
        energy, forces, stress, name = _label(labels)
        self._store.finish(_id(candidate), self.worker, energy, forces, stress, calculator or name)

    def fail(self, candidate: Candidate | int, log: str) -> None:
        """Set a claimed candidate to `FAILED`. The first line of the log is its message."""
        self._store.fail(_id(candidate), self.worker, log)

    def release(self, candidate: Candidate | int) -> None:
        """Give a claimed candidate back, without a label."""
        self._store.release(_id(candidate), self.worker)

    def heartbeat(self, candidate: Candidate | int) -> None:
        """Renew a claim, during a long calculation."""
        self._store.heartbeat(_id(candidate), self.worker)

    def release_stale(self, seconds: float) -> list[int]:
        """Give back the candidates whose claim was not renewed for this time, and return their ids."""
        return self._store.release_stale(seconds)

    def set_status(self, candidate: Candidate | int, status: str) -> None:
        """Change the status, for example from `FAILED` to `PENDING_DFT`."""
        self._store.set_status(_id(candidate), status)

    def label(self, calculator: Any, limit: int | None = None) -> list[int]:
        """Label pending candidates with an ASE calculator until there are none, and return the ids of those that are done.

        A candidate for which the calculator raises is set to `FAILED`. Other exceptions, such as Ctrl-C, release it.
        """
        done: list[int] = []
        while limit is None or len(done) < limit:
            claimed = self.claim()
            if claimed is None:
                break
            claimed.atoms.calc = calculator
            try:
                claimed.atoms.get_potential_energy()
                self.finish(claimed)
            except Exception:
                self.fail(claimed, traceback.format_exc(limit=-1))
            except BaseException:
                self.release(claimed)
                raise
            else:
                done.append(claimed.id)
        return done


def _label(labels: Atoms) -> Label:
    """Return the results of the calculator of the atoms, which is called if necessary."""
    if labels.calc is None:
        raise ValueError("the atoms have no calculator, so there is no label")
    stress = None
    if "stress" in getattr(labels.calc, "implemented_properties", ()) or "stress" in labels.calc.results:
        stress = tuple(float(x) for x in labels.get_stress())
    forces = np.ascontiguousarray(labels.get_forces(apply_constraint=False), dtype=np.float64)
    return float(labels.get_potential_energy()), forces, stress, getattr(labels.calc, "name", None)


def _id(candidate: Candidate | int) -> int:
    return candidate.id if isinstance(candidate, Candidate) else candidate


def _candidate(found: dict[str, Any]) -> Candidate:
    atoms = Atoms(numbers=found["numbers"], positions=found["positions"], cell=found["cell"], pbc=found["pbc"])
    if "energy" in found:
        labels = {key: found[key] for key in ("energy", "forces", "stress") if found[key] is not None}
        atoms.calc = SinglePointCalculator(atoms, **labels)
    names = ("id", "status", "force_mask", "gamma", "keys", "message", "worker")
    return Candidate(atoms=atoms, **{name: found[name] for name in names})
