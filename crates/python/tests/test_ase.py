# SPDX-License-Identifier: GPL-2.0-or-later
"""`ACE` in ASE's optimisers, dynamics, finite differences and phonons."""

from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.eos import calculate_eos
from ase.filters import FrechetCellFilter
from ase.md.npt import NPT
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS, FIRE, LBFGS
from conftest import POTENTIALS, crystal

from lammps_otf import ACE


@pytest.mark.parametrize("potential", POTENTIALS)
def test_forces_and_stress_are_derivatives_of_the_energy(potential: str) -> None:
    atoms = crystal(1, 0.1)
    calculator = ACE(POTENTIALS[potential])
    atoms.set_chemical_symbols((calculator.elements * 4)[: len(atoms)])
    atoms.calc = calculator
    want = atoms.get_forces(), atoms.get_stress()
    # Central differences with a step of 1e-4 Å: their truncation is third derivatives (some 10 eV/Å³) times 1e-8, rounding 1e-13 / 1e-4.
    np.testing.assert_allclose(calculate_numerical_forces(atoms, 1e-4), want[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(calculate_numerical_stress(atoms, 1e-5), want[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("optimiser", [BFGS, LBFGS, FIRE])
def test_optimisers(al: Path, optimiser: type) -> None:
    atoms = crystal(2, 0.1)
    atoms.set_cell(np.diag([8.1] * 3), scale_atoms=True)
    atoms.calc = ACE(al)
    assert optimiser(atoms, logfile=None).run(fmax=1e-3, steps=300)
    assert np.abs(atoms.get_forces()).max() < 1e-3


def test_relaxation_of_the_cell(al: Path) -> None:
    atoms = crystal(1, 0.02)
    atoms.calc = ACE(al)
    assert LBFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=300)
    assert np.abs(atoms.get_stress()).max() < 1e-4
    perfect = bulk("Al", "fcc", a=4.05)
    perfect.calc = ACE(al)
    volume, energy, _ = calculate_eos(perfect, npoints=7, eps=0.02).fit()
    assert atoms.get_volume() / len(atoms) == pytest.approx(volume, rel=1e-3)
    assert atoms.get_potential_energy() / len(atoms) == pytest.approx(energy, abs=1e-3)


def test_energy_is_conserved(al: Path) -> None:
    atoms = bulk("Al", "fcc", a=4.05, cubic=True).repeat(3)
    atoms.calc = ACE(al)
    MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=np.random.default_rng(1))
    Stationary(atoms)
    dynamics = VelocityVerlet(atoms, 1 * units.fs)
    dynamics.run(10)
    energies = []
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()), 5)
    dynamics.run(200)
    # 0.05 meV per atom; a force that is not the derivative of the energy, or a neighbour list that is too old, exceeds it.
    assert np.ptp(energies) / len(atoms) < 5e-5


def test_constant_pressure(al: Path) -> None:
    atoms = bulk("Al", "fcc", a=4.05, cubic=True).repeat(3)
    atoms.calc = ACE(al)
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(2))
    dynamics = NPT(atoms, 2 * units.fs, temperature_K=300, externalstress=0, ttime=25 * units.fs, pfactor=75**2 * 0.5)
    dynamics.run(100)
    kept = atoms.get_forces(), atoms.get_stress()
    fresh = atoms.copy()
    fresh.calc = ACE(al, skin=0)
    np.testing.assert_allclose(kept[0], fresh.get_forces(), rtol=0, atol=1e-11)
    np.testing.assert_allclose(kept[1], fresh.get_stress(), rtol=0, atol=1e-13)
    assert 0.9 < atoms.get_volume() / (4.05**3 * 27) < 1.1


def test_phonons(al: Path) -> None:
    # Force constants by finite displacements of one atom, and the dynamical matrix at X, which the supercell contains.
    lattice, delta = 4.05, 0.01
    atoms = bulk("Al", "fcc", a=lattice).repeat(4)
    moved = []
    for axis in range(3):
        for sign in (1, -1):
            moved.append(atoms.copy())
            moved[-1].positions[0, axis] += sign * delta
    forces = [found.forces for found in ACE(al).evaluate(moved)]
    constants = np.array([(forces[2 * k + 1] - forces[2 * k]) / (2 * delta) for k in range(3)])
    # A displacement of all atoms has no restoring force, up to the truncation of the differences.
    assert np.abs(constants.sum(axis=1)).max() < 1e-6
    np.testing.assert_allclose(constants[:, 0], constants[:, 0].T, rtol=0, atol=1e-6)
    phase = np.cos(2 * np.pi / lattice * (atoms.positions - atoms.positions[0])[:, 0])
    dynamical = np.einsum("anb,n->ab", constants, phase) / atoms.get_masses()[0]
    frequencies = np.sqrt(np.linalg.eigvalsh(dynamical)) * units._hbar * units.m / np.sqrt(units._e * units._amu) * 1e3
    # Al at X: transverse 24 meV, longitudinal 40 meV (Stedman and Nilsson, Phys. Rev. 145, 492 (1966)). The potential is fitted to
    # an embedded-atom model, so a third more or less is accepted.
    assert 16 < frequencies[0] < 32
    assert frequencies[0] == pytest.approx(frequencies[1], rel=1e-6)
    assert 27 < frequencies[2] < 53
