# SPDX-License-Identifier: GPL-2.0-or-later
"""Communicators of mpi4py, and LAMMPS in another folder."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, job

from lammps_otf import Simulation, run

if importlib.util.find_spec("lammps_otf._lammps") is None:
    pytest.skip("built without LAMMPS", allow_module_level=True)
pytest.importorskip("mpi4py")

MELT = ROOT / "examples/al-melt.toml"


def library(name: str) -> Path:
    """Return a shared library of a wheel that is installed."""
    for folder in {Path(path).parents[2] for path in sys.path if path.endswith("site-packages")}:
        if (folder / "lib" / name).exists():
            return folder / "lib" / name
    raise FileNotFoundError(name)


@pytest.fixture(autouse=True)
def mpich(monkeypatch: pytest.MonkeyPatch) -> None:
    # mpi4py works with any of several libraries, and two are installed here.
    monkeypatch.setenv("MPI4PY_LIBMPI", str(library("libmpi.so.12")))


WORLD = """
import sys
from mpi4py import MPI
from lammps_otf import run
comm = {"world": MPI.COMM_WORLD, "none": None}[sys.argv[2]]
result = run(sys.argv[1], output=sys.argv[3], comm=comm)
results = MPI.COMM_WORLD.gather((result.status, result.trigger_step, result.candidates))
if MPI.COMM_WORLD.rank == 0:
    assert all(one == results[0] for one in results)
    print(len(results), *results[0][:2], len(results[0][2]))
"""


@pytest.mark.parametrize(("ranks", "comm"), [(1, "world"), (2, "world"), (2, "none"), (3, "world")])
def test_the_event_is_the_same_with_a_communicator(tmp_path: Path, ranks: int, comm: str) -> None:
    done = job(ranks, WORLD, MELT, comm, tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    size, status, step, candidates = done.stdout.split()
    assert (size, status, candidates) == (str(ranks), "UNCERTAIN", "1")
    # Rounding differs with the number of ranks; the trajectories separate, but the event stays near.
    alone = run(MELT, output=tmp_path / "alone")
    assert alone.trigger_step is not None
    assert abs(int(step) - alone.trigger_step) <= 50


PARTS = """
import sys
from mpi4py import MPI
from lammps_otf import Simulation, run
world = MPI.COMM_WORLD
half = world.Split(world.rank // 2)
# Each half has a run of its own, and a communicator that is freed.
for seed in (1, 2):
    part = half.Dup()
    result = run(sys.argv[1], output=f"{sys.argv[2]}-{world.rank // 2}-{seed}", comm=part, steps=40, seed=seed)
    part.Free()
# Messages on the communicator do not disturb those of LAMMPS.
request = half.isend("text", 1 - half.rank, tag=7)
with Simulation(sys.argv[1], output=f"{sys.argv[2]}-{world.rank // 2}", comm=half, steps=40) as simulation:
    atoms = half.allreduce(len(next(simulation.positions for _ in simulation)))
assert half.recv(source=1 - half.rank, tag=7) == "text"
request.wait()
last = world.gather((result.steps, result.gamma_max, atoms))
if world.rank == 0:
    assert last[0] == last[1] == last[2] == last[3], last
    print(*last[0])
"""


def test_parts_of_a_job_have_simulations_of_their_own(tmp_path: Path) -> None:
    done = job(4, PARTS, MELT, tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    steps, gamma, atoms = done.stdout.split()
    assert (steps, atoms) == ("40", "500")
    alone = run(MELT, output=tmp_path / "alone", steps=40, seed=2)
    assert float(gamma) == pytest.approx(alone.gamma_max, rel=1e-4)


FARM = """
import sys
from mpi4py import MPI
from lammps_otf import run
world = MPI.COMM_WORLD
# Each rank has tasks of its own, one of them more than the other.
for task in range(2 - world.rank):
    run(sys.argv[1], output=f"{sys.argv[2]}-{world.rank}-{task}", comm=MPI.COMM_SELF, steps=20)
print(run(sys.argv[1], output=sys.argv[2], comm=world, steps=20).steps, flush=True)
"""


def test_ranks_with_different_numbers_of_runs_do_not_wait_for_each_other(tmp_path: Path) -> None:
    done = job(2, FARM, MELT, tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["20", "20"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-0-0", "run-0-1", "run-1-0"]


FAIL = """
import sys
from mpi4py import MPI
from lammps_otf import Simulation
with Simulation(sys.argv[1], output=sys.argv[2], comm=MPI.COMM_WORLD) as simulation:
    for poll in simulation:
        if poll["step"] == 50 and MPI.COMM_WORLD.rank == 1:
            print("raises", flush=True)
            raise ValueError("on one rank")
"""


def test_an_exception_on_one_rank_ends_all(tmp_path: Path) -> None:
    done = job(2, FAIL, MELT, tmp_path / "run", timeout=120)
    assert done.returncode != 0
    assert "ValueError: on one rank" in done.stderr


def python(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, **environment})


OTHER = f"""
from mpi4py import MPI
from lammps_otf import ConfigError, Simulation
assert "Open MPI" in MPI.Get_library_version()
try:
    Simulation({str(MELT)!r}, comm=MPI.COMM_WORLD)
except ConfigError as error:
    print(error)
"""


def test_a_communicator_of_another_mpi_is_refused() -> None:
    other = library("libmpi.so.40")
    done = python(OTHER, MPI4PY_LIBMPI=str(other), OPAL_PREFIX=str(other.parents[1]))
    assert done.returncode == 0, done.stdout + done.stderr
    # Either both libraries can be loaded, and differ, or they cannot.
    assert "MPI library" in done.stdout
    assert "Open MPI" in done.stdout
    assert "Install an mpi4py for the MPI of LAMMPS" in done.stdout


def test_what_is_not_a_communicator_is_refused() -> None:
    code = f"""
from mpi4py import MPI
from lammps_otf import ConfigError, Simulation
for wrong in (3, MPI.COMM_NULL, MPI.INFO_NULL):
    try:
        Simulation({str(MELT)!r}, comm=wrong)
    except ConfigError as error:
        print(error)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3, done.stdout


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """Return a prefix with a copy of LAMMPS and of what it requires."""
    with Simulation(MELT, steps=10):
        lines = Path("/proc/self/maps").read_text().splitlines()
    files = {Path(line.split(None, 5)[5]) for line in lines if ".so" in line}
    [lammps] = [file for file in files if file.name.startswith("liblammps.so")]
    target = tmp_path / "prefix/lib"
    target.mkdir(parents=True)
    shutil.copy(lammps, target / "liblammps.so.0")
    # Where the wheel has the libraries that its LAMMPS requires.
    (tmp_path / "prefix/lammps.libs").symlink_to(lammps.parents[1] / "lammps.libs")
    return tmp_path / "prefix"


DIRECTORY = f"""
import sys
from lammps_otf import ConfigError, Simulation
try:
    with Simulation({str(MELT)!r}, steps=20) as simulation:
        print(len(list(simulation)))
except ConfigError as error:
    print(error)
print(*sorted({{line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/liblammps.so" in line}}))
"""


def test_lammps_of_another_folder(prefix: Path) -> None:
    paths = str(library("libmpi.so.12").parent)
    done = python(DIRECTORY, LAMMPS_OTF_LAMMPS_DIR=str(prefix), LD_LIBRARY_PATH=paths)
    assert done.stdout.splitlines() == ["3", str(prefix / "lib/liblammps.so.0")], done.stdout + done.stderr
    for folder, message in ((prefix / "missing", "has no lib/liblammps.so.0"), (broken(prefix), "cannot be loaded")):
        done = python(DIRECTORY, LAMMPS_OTF_LAMMPS_DIR=str(folder))
        assert message in done.stdout, done.stdout + done.stderr
    late = f"import os\nfrom lammps_otf import rank\nrank()\nos.environ['LAMMPS_OTF_LAMMPS_DIR'] = {str(prefix)!r}\n" + DIRECTORY
    done = python(late, LD_LIBRARY_PATH=paths)
    assert "is not used, because" in done.stdout, done.stdout + done.stderr


def broken(prefix: Path) -> Path:
    folder = prefix / "broken"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib/liblammps.so.0").write_bytes(b"no library")
    return folder
