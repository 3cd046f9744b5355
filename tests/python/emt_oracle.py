# SPDX-License-Identifier: GPL-2.0-or-later
"""Labels a file with ASE's EMT, after a given number of failures for the same candidate.

A fourth argument is a line of Python that changes `atoms` before they are labelled.
"""
import sys
from pathlib import Path

from ase.calculators.emt import EMT
from ase.io import read, write

source, target, failures = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
atoms = read(source)
# Beside the folder of the attempt, so that the next attempt finds it.
marks = source.parent.parent / f"failed-{atoms.info['candidate']}"
failed = len(marks.read_text()) if marks.exists() else 0
if failed < failures:
    marks.write_text("x" * (failed + 1))
    print("no convergence")
    sys.exit(7)
assert set(atoms.arrays["force_mask"]) == {0.0, 1.0}
exec(sys.argv[4] if len(sys.argv) > 4 else "")
atoms.calc = EMT()
atoms.get_forces()
write(target, atoms)
print("converged")
