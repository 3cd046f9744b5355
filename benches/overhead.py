# SPDX-License-Identifier: GPL-2.0-or-later
"""Time per step of a monitored run relative to plain lmp with γ evaluated at the same interval: ci/bench overhead"""
import argparse
import math
import pathlib
import re
import shutil
import tempfile

from measure import LMP, PACE, config, launch, ours, spread, where

FAST, SLOW = PACE, PACE + 'engine = "ml-pace"\n'
# (potential, its name, monitored, atoms, interval, steps, pairs of runs for each of --pairs): enough polls in limited time.
# Disturbances by other users of the machine last seconds, so many short pairs are more accurate than few long ones.
CASES = [(FAST, "opt", True, *case) for case in [
    (500, 1, 300, 24), (500, 10, 500, 24), (500, 100, 1000, 4), (32_000, 1, 20, 5), (32_000, 10, 50, 5), (32_000, 100, 200, 1),
    (256_000, 1, 20, 1), (256_000, 10, 20, 1), (256_000, 100, 100, 1)]]
CASES += [(SLOW, "ml-pace", True, 500, interval, 200, 2) for interval in (10, 100)]
CASES += [(FAST, "opt", False, 500, interval, steps, 4) for interval, steps in [(10, 500), (100, 1000)]]


def watched(folder, ranks):
    """Seconds of the steps of lammps-otf, and the part in polls according to lammps-otf. Excludes the first poll, which belongs
    to the set-up, as in the loop time of LAMMPS."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    _, _, result, polls = ours(folder, "out", ranks)
    return result["seconds"] - polls[0]["seconds"], result["cost"]["poll_seconds"]


def plain(folder, ranks):
    """Seconds of the same steps in plain lmp, with the md.in of the run."""
    launch([LMP, "-in", "md.in", "-nocite", "-screen", "none"], folder / "out", ranks)
    said = (folder / "out/log.lammps").read_text()
    return float(re.findall(r"Loop time of (\S+)", said)[-1])


def median_within(values):
    """95 % confidence interval of the median, independent of the distribution (interval of the sign test). `–` for 5 or fewer
    values."""
    values, n = sorted(values), len(values)
    outside, chance = 0, 0.0
    while (chance := chance + math.comb(n, outside) / 2**n) <= 0.025:
        outside += 1
    return f"{values[outside - 1]:.3f} to {values[-outside]:.3f}" if outside else "–"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--most", type=int, default=256_000, help="most atoms")
    parser.add_argument("--only", type=int, nargs=2, metavar=("ATOMS", "INTERVAL"), help="these runs of pace/opt with γ alone")
    args = parser.parse_args()
    print("## Overhead of monitoring\n\nCompared with plain `lmp` on the `md.in` that the run wrote: the same trajectory, "
          "with `fix pair` evaluating γ at the same interval if γ is monitored. Only the additional work is measured: "
          "polling, checking, keeping the frame and writing the polls. Checkpoints are disabled, because plain `lmp` does "
          "not write them either. The two programs alternate in going first. The last column is the program's own "
          "measurement during the pauses of LAMMPS (`cost.poll_seconds` of `result.json`), which does not attribute a "
          "slower machine to the program. The column before it is the 95 % confidence interval of the median of the ratio "
          "(sign test; at least 6 pairs).\n\n"
          "| engine | γ | atoms | ranks | interval | pairs | plain `lmp`, ms per step | ratio | its median, 95 % | by its own clock |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for potential, engine, gamma, atoms, interval, steps, often in CASES:
        if atoms > args.most or args.only and (args.only != [atoms, interval] or not gamma or potential is SLOW):
            continue
        # Without the final restart file, which plain lmp does not write and which would dominate 20 steps.
        text = f"steps = {steps}\nsampling_interval = {interval}\ncheckpoint_interval = 0\n"
        text += "uncertainty_low = 1e9\nuncertainty_threshold = 1e9\n"
        text += "" if gamma else 'uncertainty = "none"\n'
        for ranks in (1, 2):
            alone, ratios, own = [], [], []
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                config(folder, atoms, text, potential)
                watched(folder, ranks)
                for pair in range(args.pairs * often):
                    if pair % 2:
                        (a, polls), b = watched(folder, ranks), plain(folder, ranks)
                    else:
                        b, (a, polls) = plain(folder, ranks), watched(folder, ranks)
                    alone.append(b / steps * 1e3)
                    ratios.append(a / b)
                    own.append(a / (a - polls))
            print(f"| {engine} | {'yes' if gamma else 'no'} | {atoms:,} | {ranks} | {interval} | {len(ratios)} | "
                  f"{spread(alone, '{:.2f}')} | {spread(ratios)} | {median_within(ratios)} | {spread(own)} |", flush=True)
    print(f"\n`ci/bench overhead`, --pairs {args.pairs}. {where()}")


main()
