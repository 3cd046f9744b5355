# SPDX-License-Identifier: GPL-2.0-or-later
"""A round of active learning in one Python process: LAMMPS's own module stays open, numpy cuts, ASE stores, oracle and trainer
are called, and pair_coeff gives the running instance the new potential.

in_process_round.py MD_IN THRESHOLD INTERVAL STEPS JOB: prints JSON, as file_round.py does.
"""
import sys
import time

import numpy as np
from lammps import LMP_STYLE_ATOM, LMP_TYPE_VECTOR, lammps

from file_round import BUFFER, RADIUS, Round, commands


def main():
    source, threshold, interval, steps, job = sys.argv[1:]
    threshold, interval, steps = float(threshold), int(interval), int(steps)
    lmp = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    lines = commands(source)
    lmp.commands_string("\n".join(lines))
    coefficients = next(line for line in lines if line.startswith("pair_coeff ")).split()
    watch = next(line for line in lines if line.startswith("fix ") and "otf_gamma" in line)
    this = Round(job, "python.db")
    look = lambda: lmp.numpy.extract_fix("otf_gamma", LMP_STYLE_ATOM, LMP_TYPE_VECTOR)[: lmp.extract_setting("nlocal")]
    for done in range(0, steps, interval):
        lmp.command(f"run {interval} pre {'yes' if done == 0 else 'no'} post no")
        this.last = time.time()
        gamma = look()
        center = int(np.argmax(gamma))
        if gamma[center] > threshold:
            break
    else:
        sys.exit("nothing passed the threshold")
    x = lmp.numpy.extract_atom("x")[: len(gamma)]
    lo, hi = (np.array(corner) for corner in lmp.extract_box()[:2])
    d = x - x[center]
    d -= (hi - lo) * np.rint(d / (hi - lo))
    r2 = np.einsum("ij,ij->i", d, d)
    near = np.flatnonzero(r2 < (RADIUS + BUFFER) ** 2)
    row = this.store(d[near], np.sqrt(r2[near]), float(gamma[center]), done + interval)
    this.lap("event")
    this.label(row)
    this.lap("label")
    made = this.train()
    this.lap("train")
    lmp.command(" ".join([*coefficients[:3], *map(str, made), *coefficients[5:]]))
    # Given again: the fix skips a second evaluation at the same step and would keep the old grades.
    lmp.command(watch)
    lmp.command("run 0 post no")
    look().max()
    this.lap("again")
    this.say()


main()
