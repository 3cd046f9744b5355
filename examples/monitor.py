#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Follow a run and print a message when γ reaches a new maximum.

    lammps-otf run --json melt.toml | examples/monitor.py --above 2

Reads the output of `run --json` (or of `tail -F melt/polls.jsonl`), and prints a line whenever γ is above a limit and higher
than at all earlier polls. Requires only Python.
"""
import argparse
import json
import sys

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--above", type=float, default=2.0, help="print nothing below this γ (default 2)")
limit = parser.parse_args().above

highest = limit
for line in sys.stdin:
    poll = json.loads(line)
    if poll.get("event", "poll") != "poll":
        continue  # a candidate, or the result
    if poll["format"] != 1:
        sys.exit(f"unsupported format {poll['format']} of the polls: this script reads format 1")
    gamma = poll["gamma"]
    if gamma is None:
        continue  # γ was not computed at this poll
    worst = float("inf") if gamma["max"] is None else gamma["max"]
    if worst > highest:
        highest = worst
        print(f"{poll['time']:.3f} ps, {poll['temperature']:.0f} K: γ {worst:.2f} at atom {gamma['worst_id']}, "
              f"{gamma['above_high']} of {gamma['atoms']} atoms above the threshold", flush=True)
print(f"the highest γ was {highest:.2f}" if highest > limit else f"γ stayed below {limit}")
