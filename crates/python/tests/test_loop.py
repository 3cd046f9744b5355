# SPDX-License-Identifier: GPL-2.0-or-later
"""Loops with calculators and functions of Python as oracle and trainer."""

import importlib.util
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import SCFError
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import ROOT, job

from lammps_otf import ConfigError, Error, LabelError, Loop, LoopResult, Store, TrainingJob, _loop

if importlib.util.find_spec("lammps_otf._lammps") is None:
    pytest.skip("built without LAMMPS", allow_module_level=True)


def keep(job: TrainingJob) -> None:
    """Write the current potential, so that the loop ends at its trial."""
    shutil.copy(job.potential, job.new_potential)
    shutil.copy(job.active_set, job.new_active_set)


@pytest.fixture
def hot(al: Path) -> dict[str, Any]:
    """Return a hot run whose γ soon exceeds a low threshold. EMT differs from the potential, so they are not compared."""
    return {
        "runs": bulk("Al", "fcc", a=4.05, cubic=True).repeat(4),
        "potential": al,
        "temperature": 1500,
        "steps": 400,
        "sampling_interval": 10,
        "seed": 3,
        "uncertainty_low": 1.5,
        "uncertainty_threshold": 2.0,
        "embedding": {"radius": 3.0},
        "batch": 3,
        "select": 3,
        "max_rounds": 2,
        "oracle_difference": 0,
        "trainer": keep,
        "progress": False,
    }


def as_dictionary(atoms: Atoms) -> dict[str, Any]:
    atoms.calc = EMT()
    return {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress(), "calculator": "emt"}


def as_atoms(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    # The same structure.
    copy.wrap()
    copy.calc = EMT()
    copy.get_potential_energy()
    return copy


@pytest.mark.parametrize("oracle", [EMT(), as_dictionary, as_atoms], ids=["calculator", "dictionary", "atoms"])
def test_labels_are_those_of_the_oracle(hot: dict[str, Any], tmp_path: Path, oracle: Any) -> None:
    polls: list[dict[str, Any]] = []
    loop = Loop(**hot, oracle=oracle, output=tmp_path / "loop", on_poll=polls.append)
    result = loop.run()
    # The potential is not improved.
    assert result.outcome == "refused"
    assert result.reason
    assert not result.learned
    assert result.labels == 3
    done = [candidate for candidate in Store(loop.store) if candidate.status == "DONE"]
    assert len(done) == 3
    for candidate in done:
        want = candidate.atoms.copy()
        want.calc = EMT()
        # One of the oracles wraps the atoms, so that sums are rounded differently.
        assert candidate.atoms.get_potential_energy() == pytest.approx(want.get_potential_energy(), rel=1e-12)
        np.testing.assert_allclose(candidate.atoms.get_forces(), want.get_forces(), rtol=0, atol=1e-9)
        np.testing.assert_allclose(candidate.atoms.get_stress(), want.get_stress(), rtol=0, atol=1e-12)
    stored = [json.loads(line) for line in (tmp_path / "loop/round-001/polls.jsonl").read_text().splitlines()]
    assert polls == [{"round": 1, "run": "", **poll} for poll in stored]
    assert result.potential.is_file()
    assert result.active_set.is_file()
    # The errors of labels that nothing was trained on.
    calibration = result.calibration(held_out=False)
    assert calibration.regions == 3
    assert calibration.gamma.shape == calibration.error.shape
    with pytest.raises(Error, match="too few"):
        calibration.bound(1.0)
    assert calibration.bound(1.0, 0.3) > 0
    assert (calibration.bound([[1.0, 2.0]], 0.3)).shape == (1, 2)


def test_an_exception_of_the_oracle_ends_the_loop_which_continues(hot: dict[str, Any], tmp_path: Path) -> None:
    class OwnError(Exception):
        pass

    calls: list[Atoms] = []

    def fail_at_the_second(atoms: Atoms) -> Any:
        calls.append(atoms)
        if len(calls) == 2:
            raise OwnError("no licence")
        return as_dictionary(atoms)

    loop = Loop(**hot, oracle=fail_at_the_second, output=tmp_path / "loop")
    with pytest.raises(OwnError, match="no licence"):
        loop.run()
    counts = Store(loop.store).counts()
    assert (counts.get("DONE", 0), counts.get("RUNNING_DFT", 0), counts.get("FAILED", 0)) == (1, 0, 0)
    result = loop.run()
    assert (result.outcome, result.labels) == ("refused", 3)
    # What was labelled was not labelled again.
    assert len(calls) == 4


@pytest.mark.parametrize("kind", [LabelError, SCFError])
def test_a_structure_without_a_label_is_recorded(hot: dict[str, Any], tmp_path: Path, kind: type[Exception]) -> None:
    calls: list[Atoms] = []

    def fail_at_the_first(atoms: Atoms) -> Any:
        calls.append(atoms)
        if len(calls) == 1:
            raise kind("not converged")
        return as_dictionary(atoms)

    loop = Loop(**hot, oracle=fail_at_the_first, output=tmp_path / "loop")
    result = loop.run()
    assert (result.outcome, result.labels) == ("refused", 2)
    store = Store(loop.store)
    [failed] = store.ids("FAILED")
    assert "not converged" in str(store[failed].message)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_label_that_is_not_finite_is_recorded(hot: dict[str, Any], tmp_path: Path, value: float) -> None:
    def bad(atoms: Atoms) -> Any:
        return {**as_dictionary(atoms), "energy": value}

    loop = Loop(**hot, oracle=bad, output=tmp_path / "loop")
    assert loop.run().outcome == "nothing"
    assert Store(loop.store).counts()["FAILED"] >= 3


def test_wrong_labels_are_errors(hot: dict[str, Any], tmp_path: Path) -> None:
    def reordered(atoms: Atoms) -> Atoms:
        atoms.symbols[0] = "Cu"
        return as_atoms(atoms)

    def relaxed(atoms: Atoms) -> Any:
        atoms.positions[1] += 0.02
        return as_dictionary(atoms)

    def strained(atoms: Atoms) -> Atoms:
        atoms.set_cell(atoms.cell.array * 1.01)
        return as_atoms(atoms)

    def no_calculator(atoms: Atoms) -> Atoms:
        return atoms

    def no_energy(atoms: Atoms) -> Any:
        atoms.calc = SinglePointCalculator(atoms, forces=np.zeros((len(atoms), 3)))
        return atoms

    for number, (oracle, kind) in enumerate(
        [
            (reordered, ValueError),
            (relaxed, ValueError),
            (strained, ValueError),
            (no_calculator, ValueError),
            (no_energy, Exception),
            (lambda _: None, TypeError),
            (lambda _: {"energy": 0.0}, KeyError),
            (lambda atoms: {**as_dictionary(atoms), "forces": np.zeros(3)}, TypeError),
        ]
    ):
        with pytest.raises(kind):
            Loop(**hot, oracle=oracle, output=tmp_path / f"loop-{number}").run()


def test_trainers_that_fail_or_refuse(hot: dict[str, Any], tmp_path: Path) -> None:
    jobs: list[TrainingJob] = []

    def fail(job: TrainingJob) -> None:
        jobs.append(job)
        assert len(job.frames) == 3
        assert all(0 < atoms.arrays["force_mask"].sum() < len(atoms) for atoms in job.frames)
        assert np.isfinite([atoms.get_potential_energy() for atoms in job.frames]).all()
        assert all(path.is_file() for path in (job.potential, job.active_set))
        raise ZeroDivisionError("singular")

    def refuse(job: TrainingJob) -> dict[str, Any]:
        return {"accepted": False, "reason": "the energies are worse"}

    del hot["trainer"]
    start = {**hot, "oracle": EMT(), "output": tmp_path / "loop"}
    with pytest.raises(ZeroDivisionError, match="singular"):
        Loop(**start, trainer=fail).run()
    assert jobs[0].round == 1
    with pytest.raises(Error, match=r"did not write potential\.yaml"):
        Loop(**start, trainer=lambda _: None).run()
    with pytest.raises(TypeError, match="must return None"):
        Loop(**start, trainer=lambda _: 3).run()
    result = Loop(**start, trainer=refuse).run()
    assert (result.outcome, result.reason) == ("refused", "the energies are worse")


def interrupt(action: Any) -> None:
    # A process that a shell has put into the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            action()
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_the_loop_which_continues(hot: dict[str, Any], tmp_path: Path) -> None:
    calls: list[Atoms] = []

    def interrupted(atoms: Atoms) -> Any:
        calls.append(atoms)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return as_dictionary(atoms)

    def at_a_poll(poll: dict[str, Any]) -> None:
        if poll["step"] == 30 and not calls:
            signal.raise_signal(signal.SIGINT)

    loop = Loop(**hot, oracle=interrupted, output=tmp_path / "loop")
    interrupt(Loop(**hot, oracle=interrupted, output=tmp_path / "loop", on_poll=at_a_poll).run)
    assert not calls
    interrupt(loop.run)
    assert Store(loop.store).counts().get("RUNNING_DFT", 0) == 0
    assert loop.run().labels == 3
    assert len(calls) == 4


def test_ctrl_c_ends_a_loop_that_waits_for_a_program(hot: dict[str, Any], tmp_path: Path) -> None:
    started = tmp_path / "started"
    wait = f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(1000)"
    command = [sys.executable, "-c", wait, "{input}", "{output}"]
    before = signal.getsignal(signal.SIGINT)

    def signal_when_started() -> None:
        while not started.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    # It must not keep a failed test from ending.
    thread = threading.Thread(target=signal_when_started, daemon=True)
    thread.start()
    interrupt(Loop(**hot, oracle={"type": "command", "command": command}, output=tmp_path / "loop").run)
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.set_wakeup_fd(-1) == -1


def test_several_runs_and_checks(hot: dict[str, Any], tmp_path: Path) -> None:
    crystal = hot.pop("runs")
    wide = crystal.copy()
    wide.set_cell(wide.cell.array * 1.02, scale_atoms=True)
    runs = [crystal, {"name": "wide", "structure": wide, "temperature": [300, 400], "steps": 20}]
    checks = {"crystal": bulk("Al", cubic=True), "two": {"structure": [bulk("Al", cubic=True), bulk("Al")], "force_error": 1.0}}
    lines: list[dict[str, Any]] = []
    loop = Loop(runs, **hot, checks=checks, oracle=EMT(), output=tmp_path / "loop", on_round=lines.append)
    result = loop.run()
    assert [run["name"] for run in result.rounds[0]["runs"]] == ["run-1", "wide"]
    curve = result.learning_curve()
    assert {"check crystal", "check two"} <= set(curve[0])
    assert curve[0]["labels"] == curve[0]["labelled"] > 0
    assert "check crystal" in str(curve).splitlines()[0]
    assert str(curve).count("\n") == len(curve)
    assert curve._repr_html_().count("<tr>") == len(curve) + 1


def test_progress(hot: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A run without an event.
    quiet = {**hot, "temperature": 50, "progress": True, "uncertainty_threshold": 20.0}
    rounds: list[dict[str, Any]] = []
    result = Loop(**quiet, oracle=EMT(), output=tmp_path / "loop", on_round=rounds.append).run()
    assert (result.outcome, result.learned, result.unmet, result.labels) == ("learned", True, [], 0)
    assert [one["number"] for one in rounds] == [one["number"] for one in result.rounds] == [1]
    assert capsys.readouterr().out.startswith("round 1: step 400, 0 events, γ up to ")
    with pytest.raises(Error, match="no labelled atoms"):
        result.calibration(held_out=False)
    with pytest.raises(Error, match="audits_per_ps"):
        result.calibration()


def test_a_file_and_values(hot: dict[str, Any], al: Path, tmp_path: Path) -> None:
    hot["runs"].write(tmp_path / "al.extxyz")
    (tmp_path / "al.toml").write_text(
        f'structure = "al.extxyz"\ntemperature = 50\nsteps = 100\n[potential]\nfile = "{al}"\n[embedding]\nradius = 3.0\n'
        '[loop]\nbatch = 7\n[loop.oracle]\ntype = "external"\n[loop.trainer]\ncommand = ["true", "{labelled}", "{output}"]\n'
    )
    result = Loop(tmp_path / "al.toml", uncertainty_threshold=20.0, oracle=EMT(), oracle_difference=0, output=tmp_path / "out").run()
    assert (result.outcome, result.rounds[0]["reached"]) == ("learned", 100)


def test_keys_are_those_of_the_configuration() -> None:
    schema = json.loads((ROOT / "docs/config.schema.json").read_text())
    keys = schema["$defs"]["LoopConfig"]["properties"]
    assert set(keys) - {"oracle", "trainer", "run", "check"} == _loop._LOOP_KEYS
    # A keyword argument has one meaning.
    assert not set(keys) & set(schema["properties"])


def test_bad_input_is_an_error_and_writes_nothing(hot: dict[str, Any], tmp_path: Path) -> None:
    start = {**hot, "oracle": EMT(), "output": tmp_path / "loop"}
    for change, message in (
        ({"max_round": 3}, "max_round"),
        ({"max_rounds": 0}, r"loop\.max_rounds"),
        ({"oracle": {"type": "lamps"}}, "lamps"),
        ({"oracle": "emt"}, "must be an ASE calculator"),
        ({"oracle": None}, r"no oracle: add the table \[loop\.oracle\]"),
        ({"trainer": None}, "no trainer"),
        ({"trainer": "train"}, "must be a function"),
        ({"potential": "missing.yaml"}, r"missing\.yaml"),
        ({"checks": {"crystal": "missing.xyz"}}, r"missing\.xyz"),
        ({"output": None}, "output is required"),
        ({"runs": 3}, "runs must be"),
        ({"comm": 3}, "communicator of mpi4py"),
    ):
        with pytest.raises(ConfigError, match=message):
            Loop(**{**start, **change}).run()
        assert not (tmp_path / "loop/candidates.db").exists(), change


def test_the_oracle_is_compared_with_the_potential(hot: dict[str, Any], tmp_path: Path) -> None:
    def wrong_sign(atoms: Atoms) -> Any:
        return {**as_dictionary(atoms), "forces": -as_dictionary(atoms)["forces"]}

    hot["oracle_difference"] = 0.5
    with pytest.raises(ConfigError, match="The sign is wrong"):
        Loop(**hot, oracle=wrong_sign, output=tmp_path / "loop").run()


SCRIPT = """
import shutil, sys
from ase.calculators.emt import EMT
from lammps_otf import Loop, SimulationError, rank
def train(job):
    if sys.argv[2] == "trainer":
        raise ValueError("in the trainer")
    shutil.copy(job.potential, job.new_potential)
    shutil.copy(job.active_set, job.new_active_set)
def label(atoms):
    if sys.argv[2] == "oracle":
        raise ValueError("in the oracle")
    atoms.calc = EMT()
    atoms.get_potential_energy()
    return atoms
def poll(values):
    if sys.argv[2] == "poll" and rank() == 1 and values["step"] == 50:
        raise ValueError("in on_poll")
replicas = int(sys.argv[4])
loop = Loop(sys.argv[3], oracle=label, trainer=train, output=sys.argv[1], on_poll=poll, progress=False, replicas=replicas)
try:
    result = loop.run()
except (ValueError, SimulationError) as error:
    line = f"{rank()} {type(error).__name__} {error}"
else:
    line = f"{rank()} {result.outcome} {result.labels} {result.rounds[0]['events']}"
open(f"{sys.argv[1]}.{rank()}", "w").write(line)
"""


@pytest.fixture
def toml(hot: dict[str, Any], al: Path, tmp_path: Path) -> Path:
    hot["runs"].write(tmp_path / "al.extxyz")
    (tmp_path / "hot.toml").write_text(
        f'structure = "al.extxyz"\ntemperature = 1500\nsteps = 400\nsampling_interval = 10\nseed = 3\nuncertainty_low = 1.5\n'
        f'uncertainty_threshold = 2.0\n[potential]\nfile = "{al}"\n[embedding]\nradius = 3.0\n'
        "[loop]\nbatch = 3\nselect = 3\nmax_rounds = 2\noracle_difference = 0\n"
    )
    return tmp_path / "hot.toml"


@pytest.mark.parametrize(
    ("where", "lines"),
    [
        ("oracle", ["0 ValueError in the oracle", "1 SimulationError rank 0 failed: ValueError: in the oracle"]),
        ("trainer", ["0 ValueError in the trainer", "1 SimulationError rank 0 failed: ValueError: in the trainer"]),
        ("poll", ["0 SimulationError rank 1 failed: ValueError: in on_poll", "1 ValueError in on_poll"]),
        ("nowhere", ["0 refused 3 3", "1 refused 3 3"]),
    ],
)
def test_all_ranks_end_alike(tmp_path: Path, toml: Path, where: str, lines: list[str]) -> None:
    done = job(2, SCRIPT, tmp_path / "out", where, toml, 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(tmp_path / f"out.{rank}").read_text() for rank in (0, 1)] == lines


@pytest.mark.parametrize(
    ("where", "lines"),
    [
        ("poll", ["0 SimulationError rank 1 failed: ValueError: in on_poll", "1 ValueError in on_poll"]),
        ("nowhere", ["0 refused 3 6", "1 refused 3 6"]),
    ],
)
def test_runs_side_by_side_end_alike(tmp_path: Path, toml: Path, where: str, lines: list[str]) -> None:
    with toml.open("a") as file:
        file.write('[[loop.run]]\nname = "a"\n[[loop.run]]\nname = "b"\nseed = 7\n')
    done = job(2, SCRIPT, tmp_path / "out", where, toml, 2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(tmp_path / f"out.{rank}").read_text() for rank in (0, 1)] == lines
    polls = [tmp_path / f"out/round-001/{run}/polls.jsonl" for run in "ab"]
    assert all(path.is_file() for path in polls)


def test_results_can_be_drawn(hot: dict[str, Any], tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    rounds = [
        {"number": k, "from": 0, "reached": 10, "events": 1, "gamma_max": 3.0, "threshold": 2.0, "labelled": 3}
        | {"force_rmse_before": 0.5 / k, "force_rmse_after": 0.2 / k, "audit": {"force_rmse": 0.1}, "checks": []}
        for k in (1, 2)
    ]
    axes = LoopResult("rounds", None, tmp_path, 6, [], [], tmp_path, rounds, {}).learning_curve().plot()
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["labels of the round, before"] == [[3, 0.5], [6, 0.25]]
    assert lines["audits"] == [[3, 0.1], [6, 0.1]]
    result = Loop(**hot, oracle=EMT(), output=tmp_path / "loop").run()
    axes = result.calibration(held_out=False).plot(coverage=0.3)
    assert len(axes.lines) == 2
    axes.figure.savefig(tmp_path / "calibration.png")


def test_a_store_can_be_used_while_its_loop_runs(hot: dict[str, Any], tmp_path: Path) -> None:
    seen: list[dict[str, int]] = []

    def look(atoms: Atoms) -> Any:
        seen.append(Store(tmp_path / "loop/candidates.db").counts())
        return as_dictionary(atoms)

    result = Loop(**hot, oracle=look, output=tmp_path / "loop").run()
    assert [counts.get("DONE", 0) for counts in seen] == [0, 1, 2]
    assert all(counts["RUNNING_DFT"] == 1 for counts in seen)
    assert result.labels == 3
