# SPDX-License-Identifier: GPL-2.0-or-later
"""Exceptions of this package."""


class Error(Exception):
    """Base class of the exceptions of this package. A file that cannot be read raises `OSError` instead."""


class PotentialError(Error, ValueError):
    """A potential or an active set is malformed, or lacks what is requested."""


class StructureError(Error, ValueError):
    """A structure cannot be evaluated: an unknown element, overlapping atoms, a degenerate cell, or a number that is not finite."""


class InternalError(Error, RuntimeError):
    """A fault of this package. Please report it with the message."""
