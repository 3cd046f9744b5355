# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs with LAMMPS in this process, and by the command of the package."""

import importlib.util
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ase.io
import pytest
from conftest import ROOT, job

from lammps_otf import ACE, ConfigError, Store, _command, run

if importlib.util.find_spec("lammps_otf._lammps") is None:
    pytest.skip("built without LAMMPS", allow_module_level=True)

MELT = ROOT / "examples/al-melt.toml"


def test_a_run_reports_its_polls(settings: dict[str, Any], tmp_path: Path) -> None:
    polls: list[dict[str, Any]] = []
    result = run(settings, output=tmp_path / "run", on_poll=polls.append)
    assert (result.status, result.steps, result.trigger_step, result.candidates) == ("COMPLETED", 100, None, [])
    assert [poll["step"] for poll in polls] == list(range(0, 101, 10))
    assert result.polls == polls
    assert result.data == json.loads((tmp_path / "run/result.json").read_text())
    assert result.gamma_max == max(poll["gamma"]["max"] for poll in polls)


def test_an_event_stores_candidates(tmp_path: Path) -> None:
    stored: list[dict[str, Any]] = []
    result = run(MELT, output=tmp_path / "melt", on_candidate=stored.append)
    assert result.status == "UNCERTAIN"
    assert result.gamma_max > 5
    assert [one["candidate"] for one in stored] == result.candidates
    [candidate] = Store(result.store)
    assert candidate.keys["step"] == result.trigger_step
    # The calculator has the same γ for the centre of the cut-out.
    found = ACE(ROOT / "potentials/al/Al.yaml").evaluate([candidate.atoms])[0]
    assert found.gamma[candidate.keys["center"]] == pytest.approx(candidate.keys["gamma_cluster"], rel=1e-8)


def test_values_replace_those_of_the_file(tmp_path: Path) -> None:
    result = run(MELT, output=tmp_path / "melt", steps=20, sampling_interval=5, embedding={"radius": 3.5})
    assert (result.status, len(result.polls)) == ("COMPLETED", 5)
    settings = json.loads((tmp_path / "melt/run.json").read_text())
    assert "3.5" in json.dumps(settings)


def test_another_potential_does_not_get_the_active_set_of_the_file(tmp_path: Path) -> None:
    text = MELT.read_text().replace("../potentials", str(ROOT / "potentials")).replace('"al-500', f'"{ROOT}/examples/al-500')
    text = text.replace("[potential]", f'[potential]\nactive_set = "{ROOT}/potentials/al/Al.asi"')
    (tmp_path / "melt.toml").write_text(text)
    other = str(ROOT / "potentials/al-soft/Al.yaml")
    result = run(tmp_path / "melt.toml", output=tmp_path / "melt", steps=10, potential={"file": other})
    settings = json.loads((tmp_path / "melt/run.json").read_text())["config"]["potential"]
    assert (settings["file"], settings.get("active_set")) == (other, None)
    expected = ACE(other).evaluate([ase.io.read(ROOT / "examples/al-500.extxyz")])[0]
    assert result.polls[0]["gamma"]["max"] == pytest.approx(expected.gamma.max(), rel=1e-6)


def test_an_exception_of_a_callback_ends_the_run_which_can_be_resumed(settings: dict[str, Any], tmp_path: Path) -> None:
    class OwnError(Exception):
        pass

    def fail(poll: dict[str, Any]) -> None:
        if poll["step"] == 50:
            raise OwnError("seen enough")

    structure = settings.pop("structure")
    structure.write(tmp_path / "al.extxyz")
    settings["structure"] = tmp_path / "al.extxyz"
    with pytest.raises(OwnError, match="seen enough"):
        run(settings, output=tmp_path / "run", on_poll=fail)
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "INTERRUPTED"
    result = run(settings, output=tmp_path / "run", resume=True)
    assert (result.status, result.steps) == ("COMPLETED", 100)


def test_ctrl_c_ends_the_run_at_the_next_poll(settings: dict[str, Any], tmp_path: Path) -> None:
    steps: list[int] = []

    def interrupt(poll: dict[str, Any]) -> None:
        steps.append(poll["step"])
        if poll["step"] == 30:
            signal.raise_signal(signal.SIGINT)

    # A process that a shell has put into the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(settings, output=tmp_path / "run", on_poll=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps[-1] <= 40
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "INTERRUPTED"


def test_other_threads_run_while_lammps_does(settings: dict[str, Any], tmp_path: Path) -> None:
    count, running = 0, True

    def work() -> None:
        nonlocal count
        while running:
            count += 1
            time.sleep(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    settings["sampling_interval"] = 100
    run(settings, output=tmp_path / "run", steps=300)
    running = False
    thread.join()
    assert count > 10


def test_bad_input_is_an_error_and_writes_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "run"
    for change, message in (
        ({"temperatur": 300}, "temperatur"),
        ({"potential": {"file": "missing.yaml"}}, r"missing\.yaml"),
        ({"temperature": -5}, "temperature"),
        ({"structure": tmp_path / "missing.xyz"}, r"missing\.xyz"),
        ({"steps": object()}, "cannot hold"),
    ):
        with pytest.raises(ConfigError, match=message):
            run({**settings, **change}, output=output)
        assert not output.exists()
    with pytest.raises(ConfigError, match="output is required"):
        run(settings)
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        run(tmp_path / "missing.toml", output=output)
    run(settings, output=output, steps=1)
    with pytest.raises(ConfigError, match="already holds a run"):
        run(settings, output=output)


SCRIPT = """
import sys
from pathlib import Path
from lammps_otf import rank, run
def fail(poll):
    if sys.argv[2] == "fail" and rank() == 1 and poll["step"] == 50:
        raise ValueError("on one rank")
result = run(sys.argv[3], output=sys.argv[1], steps=4000 if sys.argv[2] == "event" else 100, on_poll=fail)
if rank() == 0:
    print(result.status, result.trigger_step, len(result.candidates))
"""


@pytest.mark.parametrize("ranks", [1, 2, pytest.param(3, marks=pytest.mark.long)])
def test_the_event_is_the_same_on_any_number_of_ranks(tmp_path: Path, ranks: int) -> None:
    done = job(ranks, SCRIPT, tmp_path / "run", "event", MELT)
    assert done.returncode == 0, done.stderr
    status, step, candidates = done.stdout.split()
    assert (status, candidates) == ("UNCERTAIN", "1")
    # Rounding differs with the number of ranks; the trajectories separate, but the event stays near.
    alone = run(MELT, output=tmp_path / "alone")
    assert abs(int(step) - alone.trigger_step) <= 50


def test_an_exception_on_one_rank_ends_all(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = job(2, SCRIPT, tmp_path / "run", "fail", MELT)
    assert time.monotonic() - begun < 30
    assert done.returncode != 0
    assert "ValueError: on one rank" in done.stderr


def test_the_command(tmp_path: Path) -> None:
    if not (_command.FOLDER / "bin/lammps-otf").exists():
        done = subprocess.run([sys.executable, "-m", "lammps_otf._command"], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "built without LAMMPS" in done.stderr
        return
    command = [sys.executable, "-m", "lammps_otf._command", "-q", "run", MELT, "--output", tmp_path / "command"]
    assert subprocess.run(command, check=False).returncode == 4
    run(MELT, output=tmp_path / "python")
    polls = [
        [{**json.loads(line), "seconds": 0, "ns_per_day": 0} for line in (tmp_path / way / "polls.jsonl").read_text().splitlines()]
        for way in ("command", "python")
    ]
    assert polls[0] == polls[1]
