# SPDX-License-Identifier: GPL-2.0-or-later
"""Exceptions of this package."""

from __future__ import annotations


class Error(Exception):
    """Base class of the exceptions of this package. A file that cannot be read raises `OSError` instead."""


class PotentialError(Error, ValueError):
    """A potential or an active set is malformed, or lacks what is requested."""


class StructureError(Error, ValueError):
    """A structure cannot be evaluated: an unknown element, overlapping atoms, a degenerate cell, or a number that is not finite."""


class ConfigError(Error, ValueError):
    """A configuration, or what it names, cannot be used; nothing was written."""


class SimulationError(Error, RuntimeError):
    """A simulation has failed. `rank` is the MPI rank."""

    def __init__(self, message: str, rank: int = 0) -> None:
        super().__init__(message)
        self.rank = rank

    def __reduce__(self) -> tuple[type[SimulationError], tuple[str, int]]:
        return type(self), (str(self), self.rank)


class ViewError(Error, BufferError):
    """Values of a simulation are used that has moved on, or a simulation that moves on is used by an array."""


class LabelError(Error, RuntimeError):
    """Raised by an oracle for a structure that it cannot label. The candidate gets the status `FAILED`, and the loop continues."""


class StoreError(Error, RuntimeError):
    """The candidate store cannot be used."""


class InternalError(Error, RuntimeError):
    """A fault of this package. Please report it with the message."""
