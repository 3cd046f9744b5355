# SPDX-License-Identifier: GPL-2.0-or-later
"""Labels all frames of a file with ASE's EMT: batch_oracle.py INPUT OUTPUT CALLS CHANGE.

Appends the ids of the candidates to CALLS, one line for each call. CHANGE is Python that changes `frames` before they are written.
"""
import sys

from ase.calculators.emt import EMT
from ase.io import read, write

source, target, calls, change = sys.argv[1:]
frames = read(source, ":")
with open(calls, "a") as file:
    file.write(" ".join(str(atoms.info["candidate"]) for atoms in frames) + "\n")
for atoms in frames:
    assert set(atoms.arrays["force_mask"]) == {0.0, 1.0}
    atoms.calc = EMT()
    atoms.get_forces()
exec(change)
write(target, frames, format="extxyz")
