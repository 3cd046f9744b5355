# SPDX-License-Identifier: GPL-2.0-or-later
"""Time per step of a watched run over plain lmp, which evaluates γ at the same interval: ci/bench overhead"""
import argparse
import pathlib
import re
import tempfile

from measure import LMP, PACE, config, launch, ours, spread, where

# Steps of a run, by atoms and interval: enough polls to count, in bounded time.
STEPS = {(500, 1): 2000, (500, 10): 2000, (500, 100): 2000, (32_000, 1): 20, (32_000, 10): 50, (32_000, 100): 200,
         (256_000, 1): 4, (256_000, 10): 10, (256_000, 100): 100}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--most", type=int, default=256_000, help="most atoms")
    parser.add_argument("--longest", type=int, default=4_000_000, help="leave out runs of more atom-steps than this")
    args = parser.parse_args()
    print("## Overhead of watching\n\nAgainst plain `lmp` running the `md.in` that the run itself wrote: the same trajectory, with "
          "`fix pair` evaluating γ at the same interval, so that only looking, checking, keeping the frame and noting are counted. "
          "The potential is the fast engine (`pace/extrapolation/opt`), against which overhead weighs most.\n\n"
          "| atoms | ranks | interval | plain `lmp`, ms per step | ratio |\n| --- | --- | --- | --- | --- |")
    left_out = []
    for (atoms, interval), steps in STEPS.items():
        if atoms > args.most:
            continue
        if atoms * steps > args.longest:
            left_out.append((atoms, interval))
            continue
        for ranks in (1, 2):
            plain, ratios = [], []
            for pair in range(args.pairs):
                with tempfile.TemporaryDirectory() as folder:
                    folder = pathlib.Path(folder)
                    config(folder, atoms, f"steps = {steps}\nsampling_interval = {interval}\nuncertainty_threshold = 1e9\n", PACE)
                    _, _, result, polls = ours(folder, "out", ranks)
                    watched = result["seconds"] - polls[0]["seconds"]
                    said = launch([LMP, "-in", "md.in", "-nocite"], folder / "out", ranks)[2]
                    alone = float(re.findall(r"Loop time of (\S+)", said)[-1])
                    if pair % 2:
                        # The other order: what is first finds another machine.
                        _, _, result, polls = ours(folder, "again", ranks)
                        watched = result["seconds"] - polls[0]["seconds"]
                    plain.append(alone / steps * 1e3)
                    ratios.append(watched / alone)
            print(f"| {atoms:,} | {ranks} | {interval} | {spread(plain, '{:.2f}')} | {spread(ratios)} |", flush=True)
    if left_out:
        print("\nLeft out here for time (`--longest`): " + ", ".join(f"{a:,} atoms at interval {i}" for a, i in left_out) + ".")
    print(f"\n`ci/bench overhead`, {args.pairs} pairs. {where()}")


main()
