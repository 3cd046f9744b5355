# SPDX-License-Identifier: GPL-2.0-or-later
"""The file route: plain lmp stops by fix halt and writes a dump; Python reads log and dump, cuts with ASE, stores with ASE.

file_route.py LMP MD_IN THRESHOLD INTERVAL STEPS: prints JSON, seconds from the end of the last step. Everything is imported
before the clock starts, and the distances are those from one centre, not of all pairs.
"""
import json
import pathlib
import subprocess
import sys
import time

import ase.db
import ase.io
import numpy as np

RADIUS, BUFFER = 4.0, 5.5
LAST = """
compute         gmax all reduce max v_u
variable        gmax equal c_gmax
thermo_style    custom step temp pe etotal v_gmax
fix             stop all halt {interval} v_gmax > {threshold} error continue
run             {steps}
shell           "date +%s.%N > stamp"
write_dump      all custom last.dump id type x y z v_u modify sort id
"""


def first_above(log, threshold):
    """The step at which the column first passes the threshold."""
    columns = None
    for line in open(log):
        words = line.split()
        if words[:1] == ["Step"]:
            columns = words.index("v_gmax")
        elif line.startswith("Loop time"):
            columns = None
        elif columns is not None and len(words) > columns:
            try:
                if float(words[columns]) > threshold:
                    return int(words[0])
            except ValueError:
                pass
    return None


def main():
    lmp, source, threshold, interval, steps = sys.argv[1:]
    commands = [line for line in pathlib.Path(source).read_text().splitlines() if not line.startswith("run ")]
    pathlib.Path("halt.in").write_text("\n".join(commands) + LAST.format(interval=interval, threshold=threshold, steps=steps))
    subprocess.run([lmp, "-in", "halt.in", "-log", "halt.log", "-screen", "none", "-nocite"], check=True)
    step = first_above("halt.log", float(threshold))
    assert step is not None
    atoms = ase.io.read("last.dump", format="lammps-dump-text")
    gamma = atoms.arrays["v_u"].ravel()
    center = int(np.argmax(gamma))
    d = atoms.get_distances(center, np.arange(len(atoms)), mic=True, vector=True)
    r = np.linalg.norm(d, axis=1)
    near = np.flatnonzero(r < RADIUS + BUFFER)
    cluster = atoms[near]
    edge = 2 * (RADIUS + BUFFER) + 1.0
    cluster.set_cell([edge] * 3)
    cluster.positions = d[near] + edge / 2
    cluster.numbers[:] = 13
    mask = (r[near] < RADIUS).astype(float)
    before = time.time()
    with ase.db.connect("file.db") as db:
        db.write(cluster, status="PENDING_DFT", gamma=float(gamma[center]), step=step, data={"force_mask": mask})
    end = time.time()
    stamp = float(pathlib.Path("stamp").read_text())
    print(json.dumps({"seconds": end - stamp, "commit": end - before, "atoms": len(cluster)}))


if __name__ == "__main__":
    main()
