# SPDX-License-Identifier: GPL-2.0-or-later
"""Conservation of energy over 20,000 steps, ML-PACE and pace/opt: ci/bench drift"""
import argparse
import os
import pathlib
import re
import tempfile

import numpy as np
from ase.io import read, write

from measure import LMP, ROOT, launch, where

INPUT = """
units metal
atom_modify map array
read_data data.lammps
mass 1 26.98
pair_style {style}
pair_coeff * * {root}/potentials/al/Al.yace Al
velocity all create 600 4928 mom yes rot yes
fix nve all nve
timestep 0.002
thermo 100
thermo_style custom step temp etotal
thermo_modify format float %.12g
run {steps}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    args = parser.parse_args()
    print("## Conservation of energy\n\n500 atoms of aluminium at about 300 K, constant energy, a time step of 2 fs, "
          "identical start. The drift is the slope of a line fitted to the total energy of every 100th step, with its "
          "standard error; the scatter is the standard deviation from that line.\n\n"
          "| style | steps | drift, meV per atom and ns | scatter, meV per atom |\n| --- | --- | --- | --- |")
    for style in ("pace", "pace/opt"):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            atoms = read(ROOT / "examples/al-500.extxyz")
            write(folder / "data.lammps", atoms, format="lammps-data", specorder=["Al"])
            (folder / "in").write_text(INPUT.format(style=style, root=ROOT, steps=args.steps))
            said = launch([LMP, "-in", "in", "-log", "none", "-nocite"], folder)[2]
            rows = np.array([[float(x) for x in m.groups()] for m in re.finditer(r"^ *(\d+) +(\S+) +(-\d\S+) *$", said, re.M)])
            time, energy = rows[:, 0] * 0.002e-3, rows[:, 2] / len(atoms) * 1e3
            (slope, start), cov = np.polyfit(time, energy, 1, cov=True)
            scatter = np.std(energy - slope * time - start)
            print(f"| `{style}` | {int(rows[-1, 0]):,} | {slope:.3f} ± {cov[0, 0] ** 0.5:.3f} | {scatter:.4f} |", flush=True)
    print(f"\n`ci/bench drift`. {where()}")


main()
