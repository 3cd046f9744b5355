# SPDX-License-Identifier: GPL-2.0-or-later
"""Time and memory from the start of the program to the first step, and memory per atom: ci/bench startup"""
import argparse
import pathlib
import tempfile

from measure import CHEAP, CELLS, LMP, PACE, config, launch, ours, spread, where

# The script of a run does not evaluate the substitute for γ, so it is added for plain lmp.
STAND_IN = "fix watched all ave/atom 1 1 10 v_u\n"


def plain_peak(folder, cheap):
    """Peak memory of plain lmp with the md.in of the run."""
    script = folder / "md.in"
    commands, run = script.read_text().rsplit("\nrun ", 1)
    script.write_text(f"{commands}\n{STAND_IN if cheap else ''}run {run}")
    return launch([LMP, "-in", "md.in", "-nocite"], folder)[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--most", type=int, default=1_000_000, help="most atoms")
    parser.add_argument("--pace", type=int, default=32_000, help="most atoms with pace/extrapolation/opt; above Lennard-Jones")
    args = parser.parse_args()
    print("## Start-up and memory\n\nWhole processes: the time of a run of one step (start-up, with two evaluations of "
          "forces), and the peak resident memory of a run of 10 steps, without an event (the last valid frame is kept) and "
          "with one. Memory is the excess over plain `lmp` on the same input, which also evaluates γ or its substitute. "
          f"The run writes no checkpoint, for which LAMMPS needs some 100 bytes per atom. Up to {args.pace:,} atoms with "
          "`pace/extrapolation/opt`, above with Lennard-Jones.\n\n"
          "| atoms | start, ms | start of `lmp`, ms | ratio | memory over `lmp`, bytes for each atom | at an event |\n"
          "| --- | --- | --- | --- | --- | --- |")
    for atoms in [a for a in CELLS if a <= args.most and a != 4_000]:
        potential = PACE if atoms <= args.pace else CHEAP
        start, alone, ratio, memory, event = [], [], [], [], []
        for _ in range(args.pairs):
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                calm = potential.replace("= 0.1\n", "= 1e9\n")
                quiet = "" if potential is CHEAP else "uncertainty_threshold = 1e9\nuncertainty_low = 1e9\n"
                config(folder, atoms, "steps = 1\nsampling_interval = 10\n" + quiet, calm)
                seconds = ours(folder, "zero")[0]
                plain = launch([LMP, "-in", "md.in", "-nocite"], folder / "zero")[0]
                config(folder, atoms, "steps = 10\nsampling_interval = 10\ncheckpoint_interval = 0\n" + quiet, calm)
                peak = ours(folder, "calm")[1]
                least = plain_peak(folder / "calm", potential is CHEAP)
                loud = "" if potential is CHEAP else "uncertainty_threshold = 1e-3\nuncertainty_low = 1e-3\n"
                config(folder, atoms, "steps = 10\nsampling_interval = 10\ncheckpoint_interval = 0\n" + loud, potential)
                most = ours(folder, "event", codes=(4,))[1]
                start.append(seconds * 1e3)
                alone.append(plain * 1e3)
                ratio.append(seconds / plain)
                memory.append((peak - least) / atoms)
                event.append((most - least) / atoms)
        print(f"| {atoms:,} | {spread(start, '{:.0f}')} | {spread(alone, '{:.0f}')} | {spread(ratio, '{:.2f}')} | "
              f"{spread(memory, '{:.0f}')} | {spread(event, '{:.0f}')} |", flush=True)
    print(f"\nBelow some 100,000 atoms, the program itself needs more memory than its data per atom. A frame has 72 bytes per "
          f"atom: positions and velocities 48, γ 8, ids, types, image flags and groups 16. `ci/bench startup`, {args.pairs} pairs. {where()}")


main()
