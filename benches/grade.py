# SPDX-License-Identifier: GPL-2.0-or-later
"""`lammps-otf grade` compared with a script that uses python-ace's ASE calculator: ci/bench grade"""
import argparse
import os
import pathlib
import sys
import tempfile

from measure import PROGRAM, ROOT, launch, spread, where

SCRIPT = '''
import sys, time
begun = time.perf_counter()
from ase.io import read, write
from pyace import PyACECalculator
calculator = PyACECalculator(sys.argv[2] + ".yaml")
calculator.set_active_set(sys.argv[2] + ".asi")
frames = read(sys.argv[1], ":")
ready = time.perf_counter()
for atoms in frames:
    atoms.calc = calculator
    atoms.get_forces()
    atoms.arrays["gamma"] = calculator.results["gamma"]
    atoms.info["ace_energy"] = atoms.get_potential_energy()
    atoms.arrays["ace_forces"] = atoms.get_forces()
    atoms.calc = None
evaluated = time.perf_counter()
write(sys.argv[3], frames, format="extxyz")
print(evaluated - ready)
'''
POTENTIALS = {"Al, 74 functions": ("al/Al", False), "Al-Cu, 124 functions": ("alcu/AlCu", True)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    pairs = parser.parse_args().pairs
    from ase.build import bulk
    from ase.io import write

    processors = len(os.sched_getaffinity(0))
    print(f"""## `lammps-otf grade` against a script with python-ace

Frames of 2048 thermally displaced atoms: energy, forces and γ of each atom, read from and written to extended XYZ. Wall time of the whole process in s.
python-ace runs on one processor, as its calculator does; *evaluation* is its time without start-up, reading and writing. `grade` runs on
one and on {processors} threads. The sides take turns in going first. Both give the same numbers (`tests/grade.rs`).

| potential | frames | python-ace | its evaluation | `grade`, 1 thread | ratio | evaluation over `grade` | `grade`, {processors} threads | ratio |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |""")
    with tempfile.TemporaryDirectory(prefix="grade-") as scratch:
        folder = pathlib.Path(scratch)
        for name, (stem, alloy) in POTENTIALS.items():
            stem = ROOT / "potentials" / stem
            for count in (1, 10):
                frames = []
                for seed in range(count):
                    atoms = bulk("Al", "fcc", a=4.05, cubic=True).repeat(8)
                    atoms.rattle(0.08, seed=seed)
                    if alloy:
                        atoms.numbers[::4] = 29
                    frames.append(atoms)
                write(folder / "frames.extxyz", frames)
                grade = [PROGRAM, "grade", "frames.extxyz", "--potential", f"{stem}.yaml", "-o", "ours.extxyz", "-q", "--threads"]
                sides = {"peer": [sys.executable, "-c", SCRIPT, "frames.extxyz", stem, "theirs.extxyz"], "one": [*grade, 1], "all": [*grade, processors]}
                times = {"evaluation": [], **{side: [] for side in sides}}
                for pair in range(pairs):
                    for side in list(sides)[pair % 3:] + list(sides)[:pair % 3]:
                        seconds, _, said = launch(sides[side], folder)
                        times[side].append(seconds)
                        if side == "peer":
                            times["evaluation"].append(float(said.split()[-1]))
                over = lambda a, b: spread([x / y for x, y in zip(times[a], times[b])], "{:.1f}")
                print(f"| {name} | {count} | {spread(times['peer'], '{:.2f}')} | {spread(times['evaluation'], '{:.2f}')} | {spread(times['one'])} | "
                      f"{over('peer', 'one')} | {over('evaluation', 'one')} | {spread(times['all'])} | {over('peer', 'all')} |", flush=True)
    print(f"\n`ci/bench grade`, {pairs} pairs. {where()}")


main()
