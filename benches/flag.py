# SPDX-License-Identifier: GPL-2.0-or-later
"""Events per second in flag mode, with the database on disk: ci/bench flag"""
import argparse
import pathlib
import tempfile

from measure import PACE, config, ours, spread, where


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--events", type=int, default=50)
    args = parser.parse_args()
    print("## Events in flag mode\n\n`mode = \"flag\"`, with every poll above the threshold. Each event is extracted, "
          "verified with the potential, committed and written as extended XYZ, both synchronised to disk; 4,000 atoms, "
          "`pace/extrapolation/opt`. The time of the steps themselves is not counted.\n\n"
          "| verified | events | events in a second |\n| --- | --- | --- |")
    for verify in ("true", "false"):
        rates = []
        for _ in range(args.pairs):
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                config(folder, 4_000, f'mode = "flag"\nsteps = {args.events}\nsampling_interval = 1\nuncertainty_low = 1e-3\n'
                       f"uncertainty_threshold = 1e-3\nnovelty = 0\nmax_candidates = {args.events + 1}\nverify = {verify}\n", PACE)
                _, _, result, polls = ours(folder, "out", codes=(0, 4))
                count = len(result["candidates"])
                assert count >= args.events, result
                rates.append(count / (result["seconds"] - sum(poll["seconds"] for poll in polls)))
        print(f"| {verify} | {count} | {spread(rates, '{:.0f}')} |", flush=True)
    print(f"\n`ci/bench flag`, {args.pairs} runs. {where()}")


main()
