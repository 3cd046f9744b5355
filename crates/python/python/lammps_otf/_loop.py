# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop of active learning."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, SCFError
from ase.geometry import find_mic

from ._analysis import Calibration, LearningCurve, progress_line
from ._errors import ConfigError, Error, LabelError
from ._mpi import communicator, lammps
from ._run import StrPath, _plain, _structures
from ._store import Label, _label

Oracle = Union[Callable[[Atoms], Any], "dict[str, Any]", Any, None]
Trainer = Union["Callable[[TrainingJob], dict[str, Any] | None]", "dict[str, Any]", None]

# Å; positions in the files of other programs are rounded.
_SAME = 1e-3
_LOOP_KEYS = frozenset(
    (
        *("batch", "event_spacing", "halt", "select", "max_rounds", "max_labels", "max_time", "quiet_time", "resume_from"),
        *("worsening", "labels", "oracle_difference", "overlap", "exclude_suspects"),
    )
)


@dataclass(frozen=True)
class TrainingJob:
    """What a function that trains gets. It writes `new_potential` and `new_active_set`."""

    round: int
    """Number of the round, from 1."""
    potential: Path
    """The current potential, `.yaml`."""
    active_set: Path
    """Its active set, `.asi`."""
    output: Path
    """An empty folder. Only what is written there is kept."""
    labelled_file: Path
    """All labelled structures, extended XYZ. See `frames`."""
    log: Path
    """A file for messages."""

    @property
    def frames(self) -> list[Atoms]:
        """All labelled structures, including those of earlier rounds.

        Energy and forces are the results of their calculators. `arrays["force_mask"]` is 0 for the atoms whose forces are not to be
        fitted. `info["energy_weight"]` and `info["stress_weight"]` are 0 for cut-outs, whose energy and stress are not those of the
        bulk.
        """
        frames: list[Atoms] = ase.io.read(self.labelled_file, ":")
        return frames

    @property
    def new_potential(self) -> Path:
        """Where to write the new potential."""
        return self.output / "potential.yaml"

    @property
    def new_active_set(self) -> Path:
        """Where to write the active set of the new potential."""
        return self.output / "potential.asi"


@dataclass(frozen=True)
class LoopResult:
    """Result of a loop."""

    outcome: str
    """`learned` if the loop has reached its end. Otherwise the limit that ended it: `rounds`, `labels`, `time`, `inaccurate`, `nothing`,
    `refused`, `waiting` or `interrupted`."""
    reason: str | None
    """Why the new potential was refused."""
    potential: Path
    """The final potential, `.yaml`; its active set is beside it."""
    labels: int
    """Number of labelled candidates."""
    unmet: list[str]
    """What the last runs have not shown. Empty if the loop has learned."""
    warnings: list[str]
    """Warnings about cut-outs."""
    output: Path
    """Folder of the loop."""
    rounds: list[dict[str, Any]] = field(repr=False)
    """All values of each round."""
    data: dict[str, Any] = field(repr=False)
    """All values that `lammps-otf loop --json` prints."""

    @property
    def learned(self) -> bool:
        """Whether the loop has reached its end."""
        return self.outcome == "learned"

    @property
    def active_set(self) -> Path:
        """Active set of the final potential, `.asi`."""
        return self.potential.with_suffix(".asi")

    @property
    def store(self) -> Path:
        """The candidate store of the loop."""
        return self.output / "candidates.db"

    def learning_curve(self) -> LearningCurve:
        """Return a table of the rounds: events, labels and errors."""
        return LearningCurve(self.rounds)

    def calibration(self, *, held_out: bool = True) -> Calibration:
        """Return the force error as a function of γ, for the final potential.

        By default only labels are used on which the potential was not trained, such as those of audits (`audits_per_ps`). With
        `held_out=False` all are; errors of the others are too small.
        """
        return Calibration(self.store, self.potential, self.active_set, held_out=held_out)


class Loop:
    """Active learning: runs molecular dynamics, labels what the potential does not know, trains, and continues with the new potential.

        loop = Loop(atoms, "Al.yaml", oracle=EMT(), trainer=train, output="learned", temperature=[300, 1500], steps=5000)
        result = loop.run()
        print(result.learning_curve())

    `runs` is a TOML file, a dictionary of the same keys, ASE `Atoms`, or a list of structures or dictionaries, one for each of several runs
    (`[[loop.run]]`; without `name` they are `run-1`, `run-2`, …). A `structure` can be ASE `Atoms`. `potential` is the `.yaml`
    file, with its active set beside it. Keyword arguments have the names and defaults of the configuration, both of `[loop]`
    (`max_rounds`, `batch`, …) and of the top level (`steps`, `sampling_interval`, …), and replace values of the file.

    `oracle` is an ASE calculator; a function that gets `Atoms` and returns `Atoms` with results, or a dictionary with `energy`
    (eV), `forces` (eV/Å) and optionally `stress` (eV/Å³, ASE's sign and order); or the table `[loop.oracle]` as a dictionary.
    `trainer` is a function that gets a `TrainingJob`, writes the potential, and returns `None` or a dictionary with its report; or
    the table `[loop.trainer]` as a dictionary. A report `{"accepted": False, "reason": "…"}` refuses the new potential. By default
    both are those of the file.

    `checks` maps names to structures (`Atoms`, a list of them, or a file), or to dictionaries with `structure` and the keys of
    `[[loop.check]]`.

    Oracle and trainer are called on rank 0. A calculation that has failed (ASE's `CalculationFailed` and `SCFError`, or
    `LabelError`) is recorded for its candidate. Any other exception in them, in `on_round` or in `on_poll`, and Ctrl-C, end the
    loop on all ranks: rank 0 raises the exception, the others `SimulationError`. The same loop, run again, continues.

    `on_round` is called on rank 0 with the values of each completed round, those of earlier processes included, and `on_poll` on each
    rank with those of each poll and with `round` and `run`. With `progress`, a line is printed for each round.

    `replicas` divides the ranks into teams with an equal number of consecutive ranks, which do the runs of a round side by side.

    All ranks of an MPI job must call the methods, or all ranks of `comm`, a communicator of mpi4py.
    """

    def __init__(
        self,
        runs: StrPath | Mapping[str, Any] | Atoms | Sequence[Mapping[str, Any] | StrPath | Atoms],
        potential: StrPath | Mapping[str, Any] | None = None,
        *,
        oracle: Oracle = None,
        trainer: Trainer = None,
        checks: Mapping[str, Any] | None = None,
        output: StrPath | None = None,
        on_round: Callable[[dict[str, Any]], object] | None = None,
        on_poll: Callable[[dict[str, Any]], object] | None = None,
        progress: bool = True,
        replicas: int = 1,
        comm: Any = None,
        **values: Any,
    ) -> None:
        self._file: Path | None = None
        table: dict[str, Any] = {}
        config: dict[str, Any] = {}
        if isinstance(runs, Atoms):
            config = {"structure": runs}
        elif isinstance(runs, Mapping):
            config = dict(runs)
            table = dict(config.pop("loop", {}))
        elif isinstance(runs, (str, os.PathLike)):
            self._file = Path(runs)
        elif not isinstance(runs, Sequence):
            raise ConfigError(f"runs must be a file, a dictionary, Atoms or a list, not {runs!r}")
        else:
            tables = [run if isinstance(run, Mapping) else {"structure": run} for run in runs]
            table["run"] = [{"name": f"run-{k}", **run} for k, run in enumerate(tables, 1)]
            # Required at the top level, although each run may replace them.
            for key in ("structure", "temperature"):
                first = next((run[key] for run in table["run"] if key in run), None)
                if first is not None:
                    config[key] = first
        if potential is not None:
            config["potential"] = dict(potential) if isinstance(potential, Mapping) else {"file": os.fspath(potential)}
        if checks is not None:
            table["check"] = [_check(name, check) for name, check in checks.items()]
        for key, value in values.items():
            (table if key in _LOOP_KEYS else config)[key] = value
        self._oracle = self._trainer = None
        if isinstance(oracle, Mapping):
            table["oracle"] = dict(oracle)
        elif oracle is not None:
            self._oracle = _oracle(oracle)
        if isinstance(trainer, Mapping):
            table["trainer"] = dict(trainer)
        elif trainer is not None:
            self._trainer = _trainer(trainer)
        if output is None:
            if self._file is None:
                raise ConfigError("output is required: the folder of the loop")
            output = self._file.stem
        self.output = Path(output)
        """Folder of the loop."""
        self._values = {**config, "loop": table}
        self._on_round, self._on_poll, self._progress = on_round, on_poll, progress
        self._replicas, self._comm = replicas, comm

    def __repr__(self) -> str:
        return f"Loop(output={os.fspath(self.output)!r})"

    @property
    def store(self) -> Path:
        """The candidate store of the loop, which exists once the loop has been started."""
        return self.output / "candidates.db"

    def run(self) -> LoopResult:
        """Run the loop until a run has no event, or until a limit is reached. A loop that has been started before is continued."""
        handle, rank, _ = communicator(self._comm)
        module = lammps()
        stop = module.Stop()

        def round_is_done(text: str) -> None:
            values = json.loads(text)
            if self._progress:
                print(progress_line(values), flush=True)
            if self._on_round is not None:
                self._on_round(values)

        def is_polled(number: int, run: str, text: str) -> None:
            if self._on_poll is not None:
                self._on_poll({"round": number, "run": run, **json.loads(text)})

        with _structures(self._values, rank) as values, _interrupts(stop):
            text = module.learn(
                None if self._file is None else os.fspath(self._file),
                json.dumps(values, default=_plain),
                os.fspath(self.output),
                stop,
                oracle=self._oracle,
                trainer=self._trainer,
                on_round=round_is_done if self._progress or self._on_round is not None else None,
                on_poll=None if self._on_poll is None else is_polled,
                replicas=self._replicas,
                comm=handle,
            )
        data = json.loads(text)
        outcome = data["outcome"]
        [(name, reason)] = outcome.items() if isinstance(outcome, dict) else [(outcome, None)]
        return LoopResult(
            outcome=name,
            reason=reason,
            potential=Path(data["potential"]),
            output=Path(data["output"]),
            data=data,
            **{key: data[key] for key in ("labels", "unmet", "warnings", "rounds")},
        )


def _check(name: str, check: Any) -> dict[str, Any]:
    return {"name": name, **(check if isinstance(check, Mapping) else {"structure": check})}


def _oracle(oracle: Any) -> Callable[[dict[str, Any], str], Label]:
    """Return the function that the compiled part calls."""
    is_calculator = hasattr(oracle, "get_property") and hasattr(oracle, "results")
    if not is_calculator and not callable(oracle):
        raise ConfigError(f"the oracle must be an ASE calculator, a function or a dictionary, not {oracle!r}")

    def label(found: dict[str, Any], _folder: str) -> Label:
        atoms = Atoms(numbers=found["numbers"], positions=found["positions"], cell=found["cell"], pbc=found["pbc"])
        try:
            if is_calculator:
                atoms.calc = oracle
                return _label(atoms)
            given = atoms.copy()
            labels = oracle(given)
            if isinstance(labels, Mapping):
                _check_same(given, atoms)
                stress = labels.get("stress")
                forces = np.ascontiguousarray(labels["forces"], dtype=np.float64)
                return (
                    float(labels["energy"]),
                    forces,
                    None if stress is None else tuple(float(x) for x in stress),
                    labels.get("calculator", getattr(oracle, "__name__", None)),
                )
            if not isinstance(labels, Atoms):
                raise TypeError(f"the oracle must return Atoms with results, or a dictionary, not {labels!r}")
            _check_same(labels, atoms)
            return _label(labels)
        except (CalculationFailed, SCFError) as error:
            raise LabelError(f"{type(error).__name__}: {error}") from error

    return label


def _check_same(found: Atoms, atoms: Atoms) -> None:
    """Check that an oracle has labelled the structure that it was given. Atoms can be moved by vectors of the cell."""
    if len(found) != len(atoms) or (found.numbers != atoms.numbers).any():
        raise ValueError("the oracle must label the atoms that it was given, in the same order")
    moved = find_mic(found.positions - atoms.positions, atoms.cell, atoms.pbc)[1].max()
    if moved > _SAME or not np.allclose(found.cell.array, atoms.cell.array, rtol=0, atol=_SAME):
        raise ValueError(
            f"the oracle must label the structure that it was given, but has moved an atom by {moved:.3g} Å or changed the cell"
        )


def _trainer(trainer: Any) -> Callable[[dict[str, Any]], str]:
    """Return the function that the compiled part calls."""
    if not callable(trainer):
        raise ConfigError(f"the trainer must be a function or a dictionary, not {trainer!r}")

    def train(found: dict[str, Any]) -> str:
        job = TrainingJob(round=found.pop("round"), **{name: Path(path) for name, path in found.items()})
        report = trainer(job)
        if report is not None and not isinstance(report, Mapping):
            raise TypeError(f"the trainer must return None or a dictionary with its report, not {report!r}")
        report = {"accepted": True, **(report or {})}
        if report["accepted"]:
            for file in (job.new_potential, job.new_active_set):
                if not file.is_file():
                    raise Error(f"the trainer did not write {file.name} to {file.parent}")
        return json.dumps(report, default=_plain)

    return train


@contextmanager
def _interrupts(stop: Any) -> Iterator[None]:
    """Stop a loop at Ctrl-C also while this thread is not in Python, which handles signals only there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        # Empty after the other end is closed.
        while numbers := receiver.recv(64):
            if signal.SIGINT in numbers:
                stop.set()
            if before >= 0:
                with suppress(OSError):
                    os.write(before, numbers)

    thread = threading.Thread(target=watch, name="lammps-otf signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        sender.close()
        thread.join()
        receiver.close()
