# SPDX-License-Identifier: GPL-2.0-or-later
"""Simulations as iterators, and views of LAMMPS's memory."""

import gc
import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from lammps_otf import ACE, ConfigError, Simulation, SimulationError, ViewError, run

if importlib.util.find_spec("lammps_otf._lammps") is None:
    pytest.skip("built without LAMMPS", allow_module_level=True)

MELT = ROOT / "examples/al-melt.toml"


def test_polls_are_those_of_a_run(settings: dict[str, Any], tmp_path: Path) -> None:
    with Simulation(settings) as simulation:
        polls = list(simulation)
    want = run(settings, output=tmp_path / "run").polls
    for poll in [*polls, *want]:
        # What depends on the clock.
        del poll["seconds"], poll["ns_per_day"]
    assert polls == want


def test_views_show_the_atoms(settings: dict[str, Any], al: Path) -> None:
    calculator = ACE(al)
    with Simulation(settings) as simulation:
        assert simulation.elements == ["Al"]
        for poll in simulation:
            assert simulation.step == poll["step"]
            assert simulation.positions.shape == simulation.velocities.shape == (108, 3)
            order = np.argsort(simulation.ids)
            atoms = simulation.atoms()
            found = calculator.evaluate([atoms])[0]
            np.testing.assert_allclose(simulation.forces[order], found.forces, rtol=0, atol=1e-8)
            np.testing.assert_allclose(simulation.gamma[order], found.gamma, rtol=1e-8)
            assert simulation.gamma.max() == poll["gamma"]["max"]
            assert np.linalg.norm(simulation.velocities) > 0
            np.testing.assert_allclose((simulation.positions + 1.0) - simulation.positions, 1, rtol=1e-12)
            assert atoms.get_temperature() == pytest.approx(poll["temperature"], rel=0.02)
            with pytest.raises(ValueError, match="read-only"):
                simulation.positions.array[0] = 0


def test_views_cannot_be_used_after_the_simulation_has_moved_on(settings: dict[str, Any]) -> None:
    with Simulation(settings) as simulation:
        next(simulation)
        view = simulation.positions
        first = view.copy()
        assert (np.asarray(view) == first).all()
        next(simulation)
        for use in (lambda: view[0], lambda: np.asarray(view), lambda: view + 1, lambda: view.max(), lambda: len(view)):
            with pytest.raises(ViewError, match="moved on"):
                use()
        assert "moved on" in repr(view)
        # An array that is not a copy prevents changes.
        part = simulation.positions[:5].T
        for change in (lambda: next(simulation), lambda: simulation.command("run 0"), simulation.close, simulation.restore):
            with pytest.raises(ViewError, match="in use"):
                change()
        assert np.isfinite(part).all()
        del part
        next(simulation)


def test_arrays_keep_the_memory(settings: dict[str, Any]) -> None:
    simulation = Simulation(settings)
    next(simulation)
    forces = np.asarray(simulation.forces)
    want = forces.copy()
    del simulation
    gc.collect()
    assert (forces == want).all()


def test_an_event_is_cut_out() -> None:
    with Simulation(MELT) as simulation:
        poll = next(poll for poll in simulation if poll["gamma"]["max"] > 5)
        cell = simulation.cut_out(poll["gamma"]["worst_id"])
        assert cell is not None
        assert cell.source_ids[cell.center] == poll["gamma"]["worst_id"]
        assert cell.gamma[cell.center] == poll["gamma"]["max"]
        assert 0 < cell.force_mask.sum() < len(cell.atoms)
        with pytest.raises(SimulationError, match="no atom has the id"):
            simulation.cut_out(10**6)
        simulation.restore()


def test_commands_swaps_and_checkpoints(settings: dict[str, Any], tmp_path: Path) -> None:
    with Simulation(settings) as simulation:
        next(simulation)
        before = next(simulation)
        moved = simulation.positions.copy()
        simulation.command("displace_atoms all move 0 0 0.001 units box\nvelocity all set 0 0 0")
        assert not np.any(simulation.velocities)
        assert not np.allclose(simulation.positions, moved, rtol=0, atol=1e-6)
        after = next(simulation)
        assert after["step"] == before["step"]
        assert after["gamma"]["max"] == pytest.approx(before["gamma"]["max"], rel=1e-8)
        simulation.swap(ROOT / "potentials/al-nonlinear/Al.yaml")
        swapped = next(simulation)
        assert swapped["step"] == before["step"]
        assert swapped["gamma"]["max"] != pytest.approx(before["gamma"]["max"], rel=1e-3)
        simulation.checkpoint(tmp_path / "al.restart")
        assert (tmp_path / "al.restart").stat().st_size > 0
        with pytest.raises(SimulationError, match="no_such_command"):
            simulation.command("no_such_command")
        with pytest.raises(SimulationError):
            simulation.swap(tmp_path / "missing.yaml")
        assert len(list(simulation)) > 0
    with pytest.raises(SimulationError, match="closed"):
        next(simulation)


def test_wrong_use(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="temperatur"):
        Simulation(settings, temperatur=3)
    errors: list[Exception] = []
    with Simulation(settings) as simulation:

        def use() -> None:
            for call in (lambda: next(simulation), lambda: simulation.positions.array):
                try:
                    call()
                except RuntimeError as error:
                    errors.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert len(errors) == 2


@pytest.mark.long
def test_views_do_not_leak(settings: dict[str, Any]) -> None:
    import resource

    with Simulation(settings, steps=10_000, sampling_interval=1) as simulation:
        sizes = []
        for k, _ in enumerate(simulation):
            assert simulation.positions.array.shape == (108, 3)
            if k in (2000, 9999):
                sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    # KiB; a leak of one array of 108 positions at each step would be 20 MiB.
    assert sizes[1] - sizes[0] < 4096
