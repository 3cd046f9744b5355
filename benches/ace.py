# SPDX-License-Identifier: GPL-2.0-or-later
"""`lammps_otf.ACE` compared with python-ace's ASE calculator: ci/bench ace"""
import argparse
import os
import subprocess
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

from measure import ROOT, spread, where

sys.path.insert(0, subprocess.run([ROOT / "ci/python", "--path", "--release", "--without-lammps"], capture_output=True, text=True, check=True).stdout.strip())

import numpy as np
from ase.build import bulk
from lammps_otf import ACE
from pyace import PyACECalculator

POTENTIALS = {"Al, 74 functions": ("al/Al", False), "Al-Cu, 124 functions": ("alcu/AlCu", True)}


def peer(stem):
    calculator = PyACECalculator(f"{stem}.yaml")
    calculator.set_active_set(f"{stem}.asi")
    return calculator


def seconds(calculator, atoms):
    """Time of forces, energy, stress and γ for positions that the calculator has not seen."""
    atoms.calc = calculator
    begun = time.perf_counter()
    atoms.get_forces()
    atoms.get_potential_energy()
    atoms.get_stress()
    calculator.results["gamma"]
    return time.perf_counter() - begun


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"""## `lammps_otf.ACE` against python-ace's calculator

µs per atom for energy, forces, stress and γ through ASE, on one core: an fcc crystal with thermally displaced atoms, in which all atoms move by
some 0.002 Å before each evaluation. In a pair, the three sides evaluate the same positions, and take turns in going first. *Kept lists* is
the default (`skin=0.5`), in which the neighbour lists are not made again after such moves; *new lists* has `skin=0`. python-ace makes its lists for
each evaluation, in a time that grows with the square of the number of atoms.

| potential | atoms | python-ace | kept lists | ratio | new lists | ratio |
| --- | --- | --- | --- | --- | --- | --- |""")
    rng = np.random.default_rng(1)
    for name, (stem, alloy) in POTENTIALS.items():
        stem = ROOT / "potentials" / stem
        sides = {"peer": peer(stem), "kept": ACE(f"{stem}.yaml"), "new": ACE(f"{stem}.yaml", skin=0)}
        for repeat in (3, 5, 8, 10):
            atoms = bulk("Al", "fcc", a=4.05, cubic=True).repeat(repeat)
            atoms.rattle(0.08, seed=1)
            if alloy:
                atoms.numbers[::4] = 29
            times = {side: [] for side in sides}
            for pair in range(pairs + 1):
                atoms.positions += rng.normal(0, 1e-3, atoms.positions.shape)
                order = list(sides)[pair % 3:] + list(sides)[:pair % 3]
                for side in order:
                    took = seconds(sides[side], atoms)
                    if pair > 0:  # the first evaluation allocates
                        times[side].append(took / len(atoms) * 1e6)
            ratio = {side: [a / b for a, b in zip(times["peer"], times[side])] for side in ("kept", "new")}
            print(f"| {name} | {len(atoms):,} | {spread(times['peer'], '{:.0f}')} | {spread(times['kept'], '{:.2f}')} | "
                  f"{spread(ratio['kept'], '{:.1f}')} | {spread(times['new'], '{:.2f}')} | {spread(ratio['new'], '{:.1f}')} |", flush=True)
    print(f"\n`ci/bench ace`, {pairs} pairs. {where()}")


main()
