# SPDX-License-Identifier: GPL-2.0-or-later
"""pace/opt with the other instruction sets of this machine, and on two ranks: ci/bench ranks"""
import argparse
import sys
import tempfile

from measure import ROOT, spread, where
from pace import paths, settings

sys.path.insert(0, str(ROOT / "crates/pace-opt/bench"))
import speed
from speed import Side


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4)
    args = parser.parse_args()
    others = paths()[1:]
    print("## `pace/opt` with other instruction sets, and on two ranks\n\nRatio to ML-PACE, alternating in one process, as "
          "above; and the time of one rank divided by that of two ranks, in two successive processes.\n\n"
          "| potential |" + "".join(f" ratio, {isa} |" for isa in others) + " ML-PACE, two ranks | pace/opt, two ranks |\n| --- |"
          + " --- |" * (len(others) + 2))
    with tempfile.TemporaryDirectory() as folder:
        for name, (plain, _, a, n, elements, slow, fast) in speed.cases(folder).items():
            one, other = Side("pace", plain, slow), Side("pace/opt", plain, fast)
            cells = [spread([x / y for x, y in speed.turns(settings(isa), one, other, a, n, elements, args.pairs)], "{:.1f}")
                     for isa in others]
            for side in (one, other):
                ratios = [speed.alone(settings(), side, a, n, elements) / speed.alone(settings(ranks=2), side, a, n, elements)
                          for _ in range(args.pairs)]
                cells.append(spread(ratios, "{:.2f}"))
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print(f"\n`ci/bench ranks`, {args.pairs} pairs. {where()}")


if __name__ == "__main__":
    main()
