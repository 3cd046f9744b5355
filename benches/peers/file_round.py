# SPDX-License-Identifier: GPL-2.0-or-later
"""A round of active learning with files: plain lmp stops by fix halt; Python reads log and dump, extracts and stores a cut-out,
runs oracle and trainer, and starts lmp again from a restart file.

file_round.py LMP MD_IN THRESHOLD INTERVAL STEPS JOB: prints JSON with the seconds of each part, from the end of the last step to
the first forces of the new potential. JOB is JSON: the commands of oracle and trainer, as in the table [loop], the first
potential and its active set. The comparison favours this program: it runs continuously, imports are not timed, only distances
from one centre are computed, and the dump is minimal.
"""
import json
import pathlib
import re
import subprocess
import sys
import time

import ase.db
import ase.io
import ase.io.lammpsrun  # noqa: F401, imported before the clock starts
import numpy as np
from ase import Atoms
from file_route import BUFFER, RADIUS, first_above

STAMP = 'shell           "date +%s.%N > {0}"\n'
FIRST = """
compute         gmax all reduce max f_otf_gamma
variable        gmax equal c_gmax
thermo_style    custom step temp pe etotal v_gmax
fix             stop all halt {interval} v_gmax > {threshold} error continue
run             {steps}
""" + STAMP.format("stopped") + """\
write_dump      all custom last.dump id type x y z f_otf_gamma modify sort id format float %.17g
write_restart   last.restart
"""
AGAIN = """
run             0
""" + STAMP.format("again")


class Round:
    """The parts that do not depend on how LAMMPS is run: store, oracle and trainer."""

    def __init__(self, job, database):
        self.job, self.database = json.loads(pathlib.Path(job).read_text()), database
        self.parts, self.last = {}, None
        # Import the modules that ASE loads at first use, as in a program that has run for many rounds.
        ase.io.write("warm.extxyz", Atoms("Al"))
        ase.io.read("warm.extxyz")
        with ase.db.connect("warm.db") as db:
            db.write(Atoms("Al"))
        ase.db.connect(database).count()

    def lap(self, name):
        now = time.time()
        self.parts[name] = now - self.last
        self.last = now

    def call(self, command, **words):
        for name, value in words.items():
            command = [word.replace(f"{{{name}}}", value) for word in command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def store(self, d, r, gamma, step):
        """Stores the atoms at these offsets (Å) from the centre. Returns the number of the row."""
        edge = 2 * (RADIUS + BUFFER) + 1.0
        cluster = Atoms(numbers=np.full(len(d), 13), positions=d + edge / 2, cell=[edge] * 3, pbc=True)
        self.atoms = len(cluster)
        with ase.db.connect(self.database) as db:
            return db.write(cluster, status="PENDING_DFT", gamma=gamma, step=step,
                            data={"force_mask": (r < RADIUS).astype(float)})

    def label(self, row):
        db = ase.db.connect(self.database)
        ase.io.write("input.extxyz", db.get(row).toatoms())
        self.call(self.job["oracle"], input="input.extxyz", output="output.extxyz")
        db.update(row, atoms=ase.io.read("output.extxyz"), status="DONE")

    def train(self):
        labelled = []
        for row in ase.db.connect(self.database).select(status="DONE"):
            atoms = row.toatoms()
            atoms.arrays["force_mask"] = row.data["force_mask"]
            labelled.append(atoms)
        ase.io.write("labelled.extxyz", labelled)
        self.call(self.job["trainer"], labelled="labelled.extxyz", potential=self.job["potential"],
                  active_set=self.job["active_set"], output="fitted")
        return pathlib.Path("fitted/potential.yaml"), pathlib.Path("fitted/potential.asi")

    def say(self):
        print(json.dumps({"parts": self.parts, "atoms": self.atoms}))


def commands(source):
    return [line for line in pathlib.Path(source).read_text().splitlines() if not line.startswith("run ")]


def again(lines, basis, active_set):
    """The input that continues from the restart file with another potential."""
    kept = [line for line in lines if not line.startswith(("replicate ", "velocity "))]
    text = "\n".join("read_restart    last.restart" if line.startswith("read_data ") else line for line in kept)
    return re.sub(r"(?m)^(pair_coeff\s+\* \*) \S+ \S+", rf"\1 {basis} {active_set}", text)


def main():
    lmp, source, threshold, interval, steps, job = sys.argv[1:]
    lines = commands(source)
    text = FIRST.format(interval=interval, threshold=threshold, steps=steps)
    pathlib.Path("halt.in").write_text("\n".join(lines) + text)
    run = lambda name: subprocess.run([lmp, "-in", f"{name}.in", "-log", f"{name}.log", "-screen", "none", "-nocite"], check=True)
    this = Round(job, "file.db")
    run("halt")
    this.last = float(pathlib.Path("stopped").read_text())
    step = first_above("halt.log", float(threshold))
    assert step is not None
    frame = ase.io.read("last.dump", format="lammps-dump-text")
    gamma = frame.arrays["f_otf_gamma"].ravel()
    center = int(np.argmax(gamma))
    d = frame.get_distances(center, np.arange(len(frame)), mic=True, vector=True)
    r = np.linalg.norm(d, axis=1)
    near = np.flatnonzero(r < RADIUS + BUFFER)
    row = this.store(d[near], r[near], float(gamma[center]), step)
    this.lap("event")
    this.label(row)
    this.lap("label")
    made = this.train()
    this.lap("train")
    pathlib.Path("again.in").write_text(again(lines, *made) + AGAIN)
    run("again")
    # lmp has ended. The time of its end is not counted.
    this.parts["again"] = float(pathlib.Path("again").read_text()) - this.last
    this.say()


if __name__ == "__main__":
    main()
