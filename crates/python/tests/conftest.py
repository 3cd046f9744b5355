# SPDX-License-Identifier: GPL-2.0-or-later
"""Potentials and structures of the tests."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111

ROOT = Path(__file__).resolve().parents[3]
POTENTIALS = {
    name: ROOT / "potentials" / name / f"{stem}.yaml"
    for name, stem in (("al", "Al"), ("al-nonlinear", "Al"), ("al-soft", "Al"), ("alcu", "AlCu"))
}

# Where mpiexec is: the environment of the wheel `mpich`, or .deps. The wheel of Open MPI can have replaced `mpiexec`, but not this name.
MPIEXEC = shutil.which("mpiexec.hydra", path=str(Path(sys.executable).parent)) or ROOT / ".deps/bin/mpiexec"


def job(ranks: int, script: str, *arguments: object, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
    """Run a script on several MPI ranks, and kill them all if they hang."""
    command = [str(word) for word in (MPIEXEC, "-n", ranks, sys.executable, "-c", script, *arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes minutes; selected by LONG=1")
    # Tests of a module that is missing are skipped, unless the caller says that it must be there.
    for module in os.environ.get("REQUIRED", "").split():
        importlib.import_module(module)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("LONG"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="LONG is not set"))


@pytest.fixture(scope="session")
def al() -> Path:
    return POTENTIALS["al"]


@pytest.fixture
def settings(al: Path) -> dict[str, Any]:
    """Return a short run of 108 atoms."""
    return {
        "structure": bulk("Al", "fcc", a=4.05, cubic=True).repeat(3),
        "potential": {"file": al},
        "temperature": np.float64(300),
        "ensemble": "nvt",
        "steps": 100,
        "sampling_interval": 10,
        "uncertainty_threshold": 5.0,
        "core_share": 1,
        "seed": 1,
    }


def crystal(repeat: int = 3, rattle: float = 0.1, scale: float = 1.0, element: str = "Al") -> Atoms:
    """Return a strained fcc crystal with displaced atoms."""
    atoms = bulk(element, "fcc", a=4.05 * scale, cubic=True).repeat(repeat)
    strain = np.array([[1, 0, 0], [0.05, 1.02, 0], [-0.03, 0.04, 0.98]])
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.rattle(rattle, seed=repeat)
    return atoms


def structures(elements: list[str]) -> dict[str, Atoms]:
    """Return structures with every kind of periodicity, painted with the elements."""
    rng = np.random.default_rng(11)
    cluster = crystal(2, 0.05)
    cluster.set_cell(None)
    cluster.pbc = False
    wire = crystal(2, 0.05)
    wire.pbc = (False, False, True)
    slab = fcc111("Al", (3, 3, 4), vacuum=8.0)
    slab.rattle(0.05, seed=2)
    outside = crystal(2, 0.05)
    outside.positions += 30 * outside.cell.array[0] - 7.3 * outside.cell.array[2]
    found = {
        "thermal": crystal(),
        "hot": crystal(3, 0.3, 1.08),
        "compressed": crystal(3, 0.05, 0.8),
        "primitive cell": bulk("Al", "fcc", a=4.1),
        "flat cell": bulk("Al", "fcc", a=4.1).repeat((1, 5, 2)),
        "slab": slab,
        "wire": wire,
        "cluster": cluster,
        "outside of the cell": outside,
        "dimer": Atoms("Al2", positions=[[0, 0, 0], [2.6, 0.3, 0]]),
        "atom": Atoms("Al", positions=[[1, 2, 3]]),
    }
    for atoms in found.values():
        atoms.set_chemical_symbols(list(rng.choice(elements, len(atoms))))
    return found
