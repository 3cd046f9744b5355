# SPDX-License-Identifier: GPL-2.0-or-later
"""A simulation, poll by poll."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from ._errors import ConfigError, SimulationError, ViewError
from ._mpi import communicator, lammps
from ._run import Config, StrPath, _plain, _structures


class View(NDArrayOperatorsMixin):
    """Values of the atoms in LAMMPS's memory, without a copy, until the simulation moves on.

    A view can be used like a read-only array. After the simulation has moved on, every use raises `ViewError`. Arrays that were
    made of a view without a copy, such as `view[:10]`, prevent the simulation from moving on: delete them before, or copy them.
    """

    __slots__ = ("_generation", "_name", "_simulation")

    def __init__(self, simulation: Simulation, name: str) -> None:
        self._simulation, self._name, self._generation = simulation, name, simulation._generation

    @property
    def array(self) -> NDArray[Any]:
        """The array."""
        simulation = self._simulation
        simulation._check_thread()
        if self._generation != simulation._generation:
            raise ViewError(f"the simulation has moved on since these {self._name} were taken: take them again, or keep a copy")
        return simulation._native.array(self._name)  # type: ignore[no-any-return]

    def copy(self) -> NDArray[Any]:
        """Return a copy, which can be kept."""
        copy: NDArray[Any] = self.array.copy()
        return copy

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of atoms of this rank, and 3 for vectors."""
        return self.array.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = self.array
        return array.copy() if copy else array if dtype is None or array.dtype == dtype else array.astype(dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return getattr(ufunc, method)(*(x.array if isinstance(x, View) else x for x in inputs), **options)

    def __getitem__(self, index: Any) -> Any:
        return self.array[index]

    def __len__(self) -> int:
        return len(self.array)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.array, name)

    def __repr__(self) -> str:
        state = "" if self._generation == self._simulation._generation else ", the simulation has moved on"
        return f"<View of {self._name}{state}>"


@dataclass(frozen=True)
class CutOut:
    """A small periodic cell around an atom. n is its number of atoms."""

    atoms: Atoms
    """The atoms, ordered by distance from the centre."""
    force_mask: NDArray[np.float64]
    """1 for the atoms whose forces are learned, 0 in the buffer; shape (n)."""
    source_ids: NDArray[np.int64]
    """Id of each atom in the simulation; shape (n)."""
    gamma: NDArray[np.float64] | None
    """γ of each atom in the simulation; shape (n)."""
    center: int
    """Index of the centre."""


class Simulation:
    """Molecular dynamics that pauses at each poll of γ: an iterator of polls.

        with Simulation("al.toml") as simulation:
            for poll in simulation:
                if poll["gamma"]["max"] > 5:
                    cell = simulation.cut_out(poll["gamma"]["worst_id"])
                    break

    The configuration is given as for `run`. Polls are dictionaries, as `on_poll` of `run` gets. Nothing is stored; the files of the
    set-up are written to the folder `output`, by default a temporary one. `positions`, `velocities`, `forces`, `gamma`, `ids` and
    `types` are views of LAMMPS's memory (see `View`), in the order of LAMMPS, with the atoms of this rank. A crash raises
    `SimulationError`; after `restore`, the simulation continues from the last valid frame.

    Under MPI, all ranks must call all methods, or all ranks of `comm`, a communicator of mpi4py. A simulation is used by the thread
    that has made it.
    """

    def __init__(self, config: Config = None, *, output: StrPath | None = None, comm: Any = None, **values: Any) -> None:
        handle, self._rank, self._size = communicator(comm)
        file = None
        if isinstance(config, dict):
            values = {**config, **values}
        elif config is not None:
            file = os.fspath(config)
        self._folder = None
        if output is None:
            if self._size > 1:
                raise ConfigError("output is required on several ranks: a folder that all ranks see")
            self._folder = tempfile.TemporaryDirectory(prefix="lammps-otf-")
            output = Path(self._folder.name) / "simulation"
        self._thread = threading.get_ident()
        self._generation = 0
        with _structures(values, self._rank) as values:
            self._native = lammps().Simulation(file, json.dumps(values, default=_plain), os.fspath(output), handle)

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("a simulation must be used by the thread that has made it")

    def _change(self, name: str, *arguments: str) -> Any:
        """Call a method of the compiled part that changes the simulation. Views become invalid, unless it refuses."""
        self._check_thread()
        moved = True
        try:
            return getattr(self._native, name)(*arguments)
        except ViewError:
            moved = False
            raise
        finally:
            self._generation += moved

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        kind, text = self._change("advance")
        if kind == "finished":
            raise StopIteration
        values: dict[str, Any] = json.loads(text)
        if kind == "crashed":
            raise SimulationError(f"the run crashed at step {values['step']}: {values['reason']}", self._rank)
        return values

    @property
    def step(self) -> int:
        """Time step."""
        self._check_thread()
        return int(self._native.step)

    @property
    def elements(self) -> list[str]:
        """Chemical symbol of each type."""
        self._check_thread()
        return list(self._native.elements)

    @property
    def positions(self) -> View:
        """Positions, Å; shape (n, 3)."""
        return View(self, "positions")

    @property
    def velocities(self) -> View:
        """Velocities, Å/ps; shape (n, 3)."""
        return View(self, "velocities")

    @property
    def forces(self) -> View:
        """Forces, eV/Å; shape (n, 3)."""
        return View(self, "forces")

    @property
    def gamma(self) -> View:
        """γ at the last poll; shape (n). Only with the default `uncertainty`."""
        return View(self, "gamma")

    @property
    def ids(self) -> View:
        """Ids; shape (n)."""
        return View(self, "ids")

    @property
    def types(self) -> View:
        """Type of each atom, from 1; shape (n)."""
        return View(self, "types")

    def atoms(self) -> Atoms:
        """Return a copy of the atoms of this rank, sorted by id, with their velocities."""
        self._check_thread()
        origin, vectors, pbc = self._native.cell
        order = np.argsort(self.ids.array)
        numbers = np.array([atomic_numbers[symbol] for symbol in self.elements])[self.types.array[order] - 1]
        atoms = Atoms(numbers=numbers, positions=self.positions.array[order] - origin, cell=vectors, pbc=pbc)
        # ASE's unit of time is Å √(u/eV), of which 98.2… make a ps.
        from ase import units

        atoms.set_velocities(self.velocities.array[order] / (1000 * units.fs))
        return atoms

    def cut_out(self, center_id: int) -> CutOut | None:
        """Cut out the neighbourhood of an atom, as the configuration's `embedding` says. Rank 0 gets it, the others `None`."""
        self._check_thread()
        found = self._native.cut_out(center_id)
        if found is None:
            return None
        atoms = Atoms(numbers=found["numbers"], positions=found["positions"], cell=found["cell"], pbc=True)
        return CutOut(atoms, found["force_mask"], found["source_ids"], found["gamma"], found["center"])

    def command(self, text: str) -> None:
        """Run lines of LAMMPS's language. The next poll is of the present step."""
        self._change("command", text)

    def swap(self, potential: StrPath, active_set: StrPath | None = None) -> None:
        """Continue with another potential. The next poll is of the present step."""
        self._change("swap", os.fspath(potential), *([] if active_set is None else [os.fspath(active_set)]))

    def checkpoint(self, file: StrPath) -> None:
        """Write a restart file of LAMMPS."""
        self._change("checkpoint", os.fspath(file))

    def restore(self) -> None:
        """Go back to the last valid frame, that of the poll before the last one or before a crash."""
        self._change("restore")

    def close(self) -> None:
        """End the simulation. Also done by a `with` block."""
        self._change("close")
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Simulation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and self._size > 1:
            # Ending the run is collective, and the other ranks may not have the exception. If it is not caught, the job is aborted.
            return
        try:
            self.close()
        except ViewError:
            # With an exception, its traceback can hold arrays. The simulation then ends with the last of them.
            if kind is None:
                raise
