#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Compare the candidates of two loops with the same configuration: same.py FOLDER FOLDER

Candidates are compared in the order in which they were found: round, step, centre, atoms of the cell, and positions. Sums in
another order differ in the last digit, and this difference grows exponentially in molecular dynamics. Positions therefore agree
to the tolerance only up to some step, and later candidates cannot be compared.
"""
import argparse
import sys
from pathlib import Path

import numpy as np
from ase.db import connect


def same(a, b, tolerance):
    """Whether two rows contain the same candidate."""
    keys = ("round", "step", "center_id")
    return [a.get(k) for k in keys] == [b.get(k) for k in keys] and np.array_equal(a.numbers, b.numbers) and \
        np.array_equal(a.data["atom_id"], b.data["atom_id"]) and abs(a.positions - b.positions).max() < tolerance


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loops", nargs=2, type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-6, help="Å (default: %(default)s)")
    parser.add_argument("--least", type=int, default=1, help="minimum number of equal candidates")
    args = parser.parse_args()
    first, second = (list(connect(folder / "candidates.db").select(sort="id")) for folder in args.loops)
    equal = 0
    while equal < min(len(first), len(second)) and same(first[equal], second[equal], args.tolerance):
        equal += 1
    until = f"up to step {first[equal - 1].step} of round {first[equal - 1].round}" if equal else "none"
    print(f"the first {equal} candidates agree to {args.tolerance:g} Å ({until}), of {len(first)} and {len(second)}")
    return 0 if equal >= args.least else 1


if __name__ == "__main__":
    sys.exit(main())
