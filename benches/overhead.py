# SPDX-License-Identifier: GPL-2.0-or-later
"""Time per step of a watched run over plain lmp, which evaluates γ at the same interval: ci/bench overhead"""
import argparse
import pathlib
import re
import shutil
import tempfile

from measure import LMP, PACE, config, launch, ours, spread, where

FAST, SLOW = PACE, PACE + 'engine = "ml-pace"\n'
# (potential, its name, watched, atoms, interval, steps): enough polls to count, in bounded time.
CASES = [(FAST, "opt", True, atoms, interval, steps) for atoms, interval, steps in [
    (500, 1, 300), (500, 10, 500), (500, 100, 1000), (32_000, 1, 20), (32_000, 10, 50), (32_000, 100, 200),
    (256_000, 1, 20), (256_000, 10, 20), (256_000, 100, 100)]]
CASES += [(SLOW, "ml-pace", True, 500, interval, 200) for interval in (10, 100)]
CASES += [(FAST, "opt", False, 500, interval, steps) for interval, steps in [(10, 500), (100, 1000)]]


def watched(folder, ranks):
    """Seconds of our steps, and of them those in polls by our own clock; the first poll is the set-up, which LAMMPS does not
    count either."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    _, _, result, polls = ours(folder, "out", ranks)
    return result["seconds"] - polls[0]["seconds"], result["cost"]["poll_seconds"]


def plain(folder, ranks):
    """Seconds of the same steps in plain lmp, on the md.in that our run has left."""
    said = launch([LMP, "-in", "md.in", "-nocite"], folder / "out", ranks)[2]
    return float(re.findall(r"Loop time of (\S+)", said)[-1])


def times(pairs, potential, atom_steps):
    """The long ones, of minutes, thrice; those of a second and less more often: others use the machine too, and what they do
    lasts for seconds, so that many short pairs say more than few long ones."""
    if atom_steps > 10_000_000:
        return 3
    if atom_steps > 2_000_000:
        return max(pairs, 3)
    return pairs * (20 if potential is FAST and atom_steps < 600_000 else 6)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--most", type=int, default=256_000, help="most atoms")
    parser.add_argument("--only", type=int, nargs=2, metavar=("ATOMS", "INTERVAL"), help="these runs of pace/opt with γ alone")
    parser.add_argument("--longest", type=int, default=30_000_000, help="leave out runs of more atom-steps than this")
    args = parser.parse_args()
    print("## Overhead of watching\n\nAgainst plain `lmp` running the `md.in` that the run itself wrote: the same trajectory, with "
          "`fix pair` evaluating γ at the same interval where it is watched, so that only looking, checking, keeping the frame and "
          "noting are counted; without checkpoints, which plain `lmp` does not write either. Both programs take turns at going first. The last column is what the program itself measures "
          "while LAMMPS pauses (`cost.poll_seconds` of `result.json`), which does not mistake a slower machine for a slower program.\n\n"
          "| engine | γ | atoms | ranks | interval | plain `lmp`, ms per step | ratio | by its own clock |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- |")
    left_out = []
    for potential, engine, gamma, atoms, interval, steps in CASES:
        if atoms > args.most or args.only and (args.only != [atoms, interval] or not gamma or potential is SLOW):
            continue
        if atoms * steps > args.longest:
            left_out.append((atoms, interval))
            continue
        # The restart file at the end of a run of 20 steps is not what a step costs, and plain lmp writes none.
        text = f"steps = {steps}\nsampling_interval = {interval}\ncheckpoint_interval = 0\n"
        text += "uncertainty_low = 1e9\nuncertainty_threshold = 1e9\n"
        text += "" if gamma else 'uncertainty = "none"\n'
        for ranks in (1, 2):
            alone, ratios, own = [], [], []
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                config(folder, atoms, text, potential)
                watched(folder, ranks)
                for pair in range(times(args.pairs, potential, atoms * steps)):
                    if pair % 2:
                        (a, polls), b = watched(folder, ranks), plain(folder, ranks)
                    else:
                        b, (a, polls) = plain(folder, ranks), watched(folder, ranks)
                    alone.append(b / steps * 1e3)
                    ratios.append(a / b)
                    own.append(a / (a - polls))
            print(f"| {engine} | {'yes' if gamma else 'no'} | {atoms:,} | {ranks} | {interval} | {spread(alone, '{:.2f}')} | "
                  f"{spread(ratios)} | {spread(own)} |", flush=True)
    if left_out:
        print("\nLeft out here for time (`--longest`): " + ", ".join(f"{a:,} atoms at interval {i}" for a, i in left_out) + ".")
    print(f"\n`ci/bench overhead`, {args.pairs} pairs (6 times as many of runs below two million atom-steps, 20 times below 600,000 with `pace/opt`; 3 at least, and not more of those above ten million). {where()}")


main()
