# SPDX-License-Identifier: GPL-2.0-or-later
"""Time of pace-opt by stage and instruction set: ci/bench stages"""
import argparse
import subprocess
import sys
import tempfile

from measure import ROOT, where

sys.path.insert(0, str(ROOT / "crates/pace-opt/bench"))
import speed

ATOMS_PER_CELL = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    example = ["cargo", "run", "-q", "--release", "--locked", "-p", "pace-opt", "--example", "profile", "--"]
    print("## Time per stage of `pace/opt`\n\nµs per atom and evaluation, and the share of the total, without LAMMPS: a "
          "periodic fcc crystal with thermally displaced atoms, neighbour lists that reach 2 Å beyond the cutoff, and "
          f"alternating instruction sets. Each figure is the minimum of {args.rounds} rounds (a tenth of that for the "
          "largest potential), because other load on the machine only adds time; the time of the clock itself is "
          "subtracted. If the files contain an active set, γ is computed for every atom, as in a run that polls on every "
          "step.", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, (plain, graded, a, cells, *_) in speed.cases(folder).items():
            rounds = max(3, args.rounds // 10) if "40,000" in name else args.rounds
            files = graded.split() if graded else [plain]
            cells = min(cells, 5)
            said = subprocess.run([*example, str(a), str(cells), str(rounds), *files], cwd=ROOT, capture_output=True, text=True, check=True)
            print(f"\n{name}, {ATOMS_PER_CELL * cells ** 3} atoms:\n\n{said.stdout.strip()}", flush=True)
    print(f"\n`ci/bench stages`. {where()}")


if __name__ == "__main__":
    main()
