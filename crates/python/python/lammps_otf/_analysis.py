# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables and plots of a loop."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable
from typing import Any, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._errors import Error
from ._mpi import lammps

StrPath = Union[str, "os.PathLike[str]"]


class LearningCurve(list["dict[str, Any]"]):
    """A table with a row (a dictionary) for each round of a loop, for example for `pandas.DataFrame`.

    | column | value |
    | --- | --- |
    | `round` | its number |
    | `from`, `reached` | first and last step of its run |
    | `events` | number of events |
    | `gamma_max` | largest γ of the run; `None` if it is not finite |
    | `threshold` | threshold of γ |
    | `labelled`, `labels` | candidates labelled in this round, and up to it |
    | `error_before`, `error_after` | force error (RMS, eV/Å) on the labels of the round: of the potential that ran, of the new one |
    | `error_of_audits` | force error of the potential that ran, on the audits on which no potential was trained |
    | `check NAME` | force error of the potential that ran, on a check |
    """

    def __init__(self, rounds: Iterable[dict[str, Any]]) -> None:
        super().__init__()
        labels = 0
        for one in rounds:
            labels += one["labelled"]
            audit = one["audit"] or {}
            row = {key: one[key] for key in ("from", "reached", "events", "gamma_max", "threshold", "labelled")}
            checks = {f"check {check['name']}": check["force_rmse"] for check in one["checks"]}
            errors = {
                "error_before": one["force_rmse_before"],
                "error_after": one["force_rmse_after"],
                "error_of_audits": audit.get("force_rmse"),
            }
            self.append({"round": one["number"], **row, "labels": labels, **errors, **checks})

    def _cells(self) -> list[list[str]]:
        return [list(self[0]), *([_text(value) for value in row.values()] for row in self)] if self else []

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells)]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in cells)

    def _repr_html_(self) -> str:
        rows = [[html.escape(cell) for cell in row] for row in self._cells()]
        lines = [
            "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in row) + "</tr>" for row, tag in zip(rows, ["th"] + ["td"] * len(rows))
        ]
        return "<table>" + "".join(lines) + "</table>"

    def plot(self, ax: Any = None) -> Any:
        """Draw the force errors against the number of labels. Returns the axes of matplotlib."""
        ax = _axes(ax)
        names = {"error_before": "labels of the round, before", "error_after": "labels of the round, after", "error_of_audits": "audits"}
        for row in self:
            names.update({name: name for name in row if name.startswith("check ")})
        for name, label in names.items():
            points = [(row["labels"], row[name]) for row in self if row.get(name) is not None]
            if points:
                ax.plot(*zip(*points), "o-", label=label)
        ax.set(xlabel="labels", ylabel="force error, eV/Å", yscale="log")
        if ax.lines:
            ax.legend()
        return ax


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def progress_line(values: dict[str, Any]) -> str:
    """Return a line about a completed round."""
    parts = [f"round {values['number']}: step {values['reached']}, {values['events']} events"]
    if values["gamma_max"] is not None:
        parts.append(f"γ up to {values['gamma_max']:.2f}")
    parts.append(f"{values['labelled']} labels")
    if values["force_rmse_before"] is not None and values["force_rmse_after"] is not None:
        parts.append(f"force error on them {1e3 * values['force_rmse_before']:.0f} → {1e3 * values['force_rmse_after']:.0f} meV/Å")
    if values["audit"]:
        parts.append(f"audits {1e3 * values['audit']['force_rmse']:.0f} meV/Å")
    return ", ".join(parts)


class Calibration:
    """Converts γ to a force error, by the labelled candidates of a store.

    A bound holds for an atom of a region like those that were labelled, with the coverage as its probability.
    """

    def __init__(self, store: StrPath, potential: StrPath, active_set: StrPath, *, held_out: bool = True) -> None:
        self._native = lammps().Calibration(os.fspath(store), os.fspath(potential), os.fspath(active_set), held_out)

    def __repr__(self) -> str:
        return f"<Calibration of {self.regions} regions with {len(self.gamma)} atoms>"

    @property
    def regions(self) -> int:
        """Number of labelled regions."""
        return int(self._native.regions)

    @property
    def gamma(self) -> NDArray[np.float64]:
        """γ of each atom; shape (n)."""
        gamma: NDArray[np.float64] = self._native.gamma
        return gamma

    @property
    def error(self) -> NDArray[np.float64]:
        """Force error of each atom, eV/Å; shape (n)."""
        error: NDArray[np.float64] = self._native.error
        return error

    def bound(self, gamma: ArrayLike, coverage: float = 0.9) -> Any:
        """Return the force error (eV/Å) that an atom with this γ does not exceed with this coverage. An array gives an array."""
        values = [self._native.bound(float(value), coverage) for value in np.ravel(gamma)]
        if None in values:
            raise Error(
                f"{self.regions} labelled regions are too few for a bound with coverage {coverage}: required are "
                f"{lammps().least_regions(coverage)}"
            )
        return values[0] if np.ndim(gamma) == 0 else np.reshape(values, np.shape(gamma))

    def threshold(self, force_error: float, coverage: float = 0.9) -> float | None:
        """Return the largest γ at which the bound is at most `force_error` (eV/Å); `None` if no γ is low enough."""
        self.bound(0.0, coverage)
        found: float | None = self._native.threshold(force_error, coverage)
        return found

    def plot(self, ax: Any = None, coverage: float = 0.9) -> Any:
        """Draw the force errors against γ, with the bound if there are enough regions. Returns the axes of matplotlib."""
        ax = _axes(ax)
        ax.plot(self.gamma, self.error, ".", label="labelled atoms")
        if self.regions >= lammps().least_regions(coverage):
            gamma = np.linspace(0, self.gamma.max(), 100)
            ax.plot(gamma, self.bound(gamma, coverage), label=f"bound with coverage {coverage:g}")
        ax.set(xlabel="γ", ylabel="force error, eV/Å", yscale="log")
        ax.legend()
        return ax


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise Error("plots require matplotlib: pip install 'lammps-otf[plot]'") from error
    return pyplot.subplots()[1]
