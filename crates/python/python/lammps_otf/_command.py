# SPDX-License-Identifier: GPL-2.0-or-later
"""The command `lammps-otf` of the wheel."""

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PLUGINS = FOLDER / "plugins"


def main() -> None:
    """Replace this process by the program in the package, so that signals and `mpiexec` reach it directly."""
    program = FOLDER / "bin" / "lammps-otf"
    if not program.exists():
        sys.exit(
            "lammps-otf: this installation of the Python package was built without LAMMPS and has only the calculator. Install a wheel, "
            "or build the command with ci/install."
        )
    if PLUGINS.is_dir():
        os.environ.setdefault("LAMMPS_OTF_PLUGINS", str(PLUGINS))
    os.execv(program, ["lammps-otf", *sys.argv[1:]])


if __name__ == "__main__":
    main()
