# SPDX-License-Identifier: GPL-2.0-or-later
"""The calculator, lists of structures, selection and errors."""

import copy
import multiprocessing
import multiprocessing.queues
import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read, write
from conftest import POTENTIALS, crystal, structures

import lammps_otf
from lammps_otf import ACE, PotentialError, StructureError


def forces(calculator: ACE, atoms: Atoms) -> np.ndarray:
    atoms = atoms.copy()
    atoms.calc = calculator
    return atoms.get_forces()


def test_the_calculator_describes_its_potential(al: Path) -> None:
    calculator = ACE(al)
    assert calculator.elements == ["Al"]
    assert calculator.cutoff == 5.5
    assert calculator.has_gamma
    assert not ACE(al, gamma=False).has_gamma
    assert not ACE(al.with_suffix(".yace")).has_gamma
    assert "Al.yaml" in repr(calculator)
    assert lammps_otf.__version__


def test_files_of_both_bases_agree(al: Path) -> None:
    atoms = crystal()
    np.testing.assert_allclose(forces(ACE(al), atoms), forces(ACE(al.with_suffix(".yace")), atoms), rtol=0, atol=1e-9)


def test_results_are_kept_until_the_atoms_change(al: Path) -> None:
    atoms = crystal(2)
    atoms.calc = ACE(al)
    first = atoms.get_forces()
    assert atoms.calc.results["gamma"].shape == atoms.calc.results["core_share"].shape == (len(atoms),)
    gamma = atoms.calc.get_property("gamma", atoms)
    assert gamma is not None
    assert atoms.calc.results["forces"] is atoms.calc.results["forces"]
    for change in (
        lambda: atoms.positions.__setitem__((0, 0), atoms.positions[0, 0] + 0.01),
        lambda: atoms.set_cell(atoms.cell.array * 1.01),
        lambda: atoms.set_pbc((True, True, False)),
    ):
        change()
        assert np.abs(atoms.get_forces() - first).max() > 1e-6
        np.testing.assert_allclose(atoms.get_forces(), forces(ACE(al, skin=0), atoms), rtol=0, atol=1e-11)


def test_without_a_volume_there_is_no_stress(al: Path) -> None:
    atoms = structures(["Al"])["cluster"]
    atoms.calc = ACE(al)
    assert atoms.get_forces().shape == (len(atoms), 3)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    assert atoms.calc.evaluate([atoms])[0].stress is None


@pytest.mark.parametrize("skin", [0.3, 1.0])
def test_lists_that_are_kept_give_the_same_results(al: Path, skin: float) -> None:
    atoms = crystal(3)
    kept, fresh = ACE(al, skin=skin), ACE(al, skin=0)
    rng = np.random.default_rng(3)
    for step in range(30):
        atoms.positions += rng.normal(0, 0.03, atoms.positions.shape)
        if step == 10:
            # Through the boundary of the cell, which must not count as a displacement that keeps the lists.
            atoms.wrap()
        if step == 20:
            atoms.set_cell(atoms.cell.array * 1.01, scale_atoms=True)
        for calculator in (kept, fresh):
            calculator.calculate(atoms)
        np.testing.assert_allclose(kept.results["forces"], fresh.results["forces"], rtol=0, atol=1e-11)
        np.testing.assert_allclose(kept.results["gamma"], fresh.results["gamma"], rtol=1e-9)


def test_without_skin_results_do_not_depend_on_the_past(al: Path) -> None:
    calculator = ACE(al, skin=0)
    before = forces(calculator, crystal(2))
    forces(calculator, crystal(3))
    assert (forces(calculator, crystal(2)) == before).all()


@pytest.mark.parametrize("threads", [2, 3, 64])
@pytest.mark.parametrize("name", ["thermal", "slab", "atom", "dimer"])
def test_threads_give_the_same_results(al: Path, threads: int, name: str) -> None:
    atoms = structures(["Al"])[name]
    one, many = ACE(al), ACE(al, threads=threads)
    one.calculate(atoms)
    many.calculate(atoms)
    for key, value in one.results.items():
        np.testing.assert_allclose(many.results[key], value, rtol=1e-10, atol=1e-11, err_msg=key)


@pytest.mark.parametrize("threads", [1, 2])
def test_lists_of_structures(threads: int) -> None:
    calculator = ACE(POTENTIALS["alcu"], threads=threads)
    frames = [*structures(["Al", "Cu"]).values()]
    found = calculator.evaluate(iter(frames))
    assert len(found) == len(frames)
    for one, atoms in zip(found, frames):
        single = ACE(POTENTIALS["alcu"], skin=0)
        single.calculate(atoms)
        for key in single.results.keys() - {"free_energy"}:
            assert np.array_equal(getattr(one, key), single.results[key]), key
    assert calculator.evaluate([]) == []


def test_selection_takes_the_most_informative_structures_and_no_duplicates(al: Path) -> None:
    calculator = ACE(al, threads=2)
    frames = [crystal(2, 0.01), *(crystal(2, 0.1 + 0.1 * k, 1 + 0.02 * k) for k in range(5))]
    frames += [frames[-1].copy()]
    gamma = [one.gamma.max() for one in calculator.evaluate(frames)]
    chosen = calculator.select(frames, 3)
    assert chosen[0] == int(np.argmax(gamma))
    assert len(set(chosen)) == len(chosen) == 3
    assert len(set(chosen) & {5, 6}) == 1
    # A crystal at rest is spanned by the active set.
    assert calculator.select([bulk("Al", "fcc", a=4.05)], 1) == []
    assert calculator.select(frames, 0) == calculator.select([], 3) == []
    with pytest.raises(ValueError, match="n is -1"):
        calculator.select(frames, -1)
    with pytest.raises(PotentialError, match="no active set"):
        ACE(al, gamma=False).select(frames, 1)


def test_files_of_ase_keep_the_results(al: Path, tmp_path: Path) -> None:
    atoms = crystal(2)
    atoms.calc = ACE(al)
    energy = atoms.get_potential_energy()
    for name in ("a.traj", "a.extxyz"):
        write(tmp_path / name, atoms)
        assert read(tmp_path / name).get_potential_energy() == pytest.approx(energy, rel=1e-12)


def test_calculators_can_be_copied_and_pickled(al: Path) -> None:
    atoms = crystal(2)
    atoms.calc = ACE(al, threads=2, skin=0.2)
    want = atoms.get_forces()
    for other in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):
        assert (other.results["forces"] == want).all()
        np.testing.assert_allclose(forces(other, atoms), want, rtol=0, atol=1e-11)
        assert repr(other) == repr(atoms.calc)
    assert not pickle.loads(pickle.dumps(ACE(al, gamma=False))).has_gamma


def child(calculator: ACE, atoms: Atoms, queue: multiprocessing.queues.SimpleQueue) -> None:
    queue.put((forces(calculator, atoms), calculator.evaluate([atoms])[0].forces))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_calculators_can_be_used_after_a_fork(al: Path, threads: int) -> None:
    calculator, atoms = ACE(al, threads=threads), crystal(2)
    want = forces(calculator, atoms)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(calculator, atoms, queue))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    for got in queue.get():
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-11)


def test_other_threads_run_during_an_evaluation(al: Path) -> None:
    calculator, frames = ACE(al), [crystal(6, 0.3)] * 20
    times = []
    worker = threading.Thread(target=calculator.evaluate, args=(frames,))
    worker.start()
    while worker.is_alive():
        times.append(time.perf_counter())
        time.sleep(0.001)
    # Without the GIL released, this thread would not run before the end.
    assert len(times) > 3


def test_bad_potentials(al: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.yaml"):
        ACE(tmp_path / "missing.yaml")
    with pytest.raises(FileNotFoundError, match=r"missing\.asi"):
        ACE(al, tmp_path / "missing.asi")
    bad = tmp_path / "bad.yaml"
    bad.write_text("elements: [Al\n")
    with pytest.raises(PotentialError, match=r"bad\.yaml"):
        ACE(bad)
    with pytest.raises(PotentialError):
        ACE(tmp_path / "a.txt")
    with pytest.raises(PotentialError):
        ACE(al, POTENTIALS["alcu"].with_suffix(".asi"))
    with pytest.raises(ValueError, match="threads is 0"):
        ACE(al, threads=0)
    with pytest.raises((ValueError, OverflowError)):
        ACE(al, threads=-1)
    for skin in (-0.1, float("nan"), 1e9):
        with pytest.raises(ValueError, match="skin is"):
            ACE(al, skin=skin)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("Cu", cell=[9] * 3, pbc=True), "Cu"),
        (Atoms("X", cell=[9] * 3, pbc=True), "atomic number"),
        (Atoms("Al2", positions=[[1, 1, 1]] * 2, cell=[9] * 3, pbc=True), "atoms [01] and [01] are .*apart"),
        (Atoms("Al", positions=[[0, np.nan, 0]], cell=[9] * 3, pbc=True), "finite"),
        (Atoms("Al", positions=[[0, np.inf, 0]]), "finite"),
        (Atoms("Al", cell=[9, 9, 0], pbc=True), "no vector in a periodic direction"),
        (Atoms("Al", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), "span a volume"),
        (Atoms("Al", cell=[1e-4] * 3, pbc=True), "images"),
        (Atoms("Al", cell=[np.nan, 9, 9], pbc=True), "volume"),
    ],
)
def test_bad_structures(al: Path, atoms: Atoms, message: str) -> None:
    calculator = ACE(al)
    atoms.calc = calculator
    with pytest.raises(StructureError, match=message):
        atoms.get_potential_energy()
    assert calculator.results == {}
    with pytest.raises(StructureError, match=f"^frame 1: .*{message}"):
        calculator.evaluate([crystal(1), atoms, atoms])
    # The calculator can be used afterwards.
    assert np.isfinite(forces(calculator, crystal(1))).all()


def test_no_atoms(al: Path) -> None:
    [found] = ACE(al).evaluate([Atoms(cell=[5] * 3, pbc=True)])
    assert (found.energy, found.forces.shape) == (0, (0, 3))
