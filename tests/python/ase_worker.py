# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker with plain ase.db, as in the documentation: ase_worker.py DATABASE.

It makes the file DATABASE.ready-PID, and ends when no row waits and there is the file DATABASE.done.

The energy of a label is the key `serial` of its row, or else its number, so that a label on the wrong row is found.
"""
import os
import sys
import time

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

db, plain = connect(sys.argv[1]), connect(sys.argv[1], use_lock_file=False)
open(f"{sys.argv[1]}.ready-{os.getpid()}", "w").close()
while True:
    done = os.path.exists(f"{sys.argv[1]}.done")
    with db.lock:
        row = next(plain.select(status="PENDING_DFT", limit=1, sort="id"), None)
        if row is not None:
            plain.update(row.id, status="RUNNING_DFT", worker=f"python-{os.getpid()}")
    if row is None:
        if done:
            break
        time.sleep(0.02)
        continue
    print("@CLAIMED", row.id, flush=True)
    time.sleep(0.02)  # what a label takes at the very least
    energy = row.get("serial", row.id)
    atoms = row.toatoms()
    atoms.calc = SinglePointCalculator(atoms, energy=float(energy), forces=np.zeros((len(atoms), 3)))
    db.update(row.id, atoms=atoms, status="DONE")
    print("@LABELLED", row.id, energy, flush=True)
