# SPDX-License-Identifier: GPL-2.0-or-later
"""Print the errors of the initial and the final potential of loops on their checks, and on audits, as a table.

    checks.py RESULT.json ...

RESULT.json is the last line of `lammps-otf loop CONFIG --json`.
"""
import json
import sys


def row(check):
    energy = ""
    if check["difference"]:
        label, prediction = check["difference"]["label"], check["difference"]["prediction"]
        energy = f"{prediction:.3f} ({100 * abs(prediction / label - 1):.1f} %)"
    return f"{1e3 * check['force_rmse']:.1f}", energy


def main(paths):
    print("| loop | check | force error before, meV/Å | after | energy difference, eV | before | after |")
    print("|---|---|---|---|---|---|---|")
    for number, path in enumerate(paths, 1):
        with open(path, encoding="utf-8") as file:
            result = json.loads(file.read().splitlines()[-1])
        first, last = (result["rounds"][k]["checks"] for k in (0, -1))
        for before, after in zip(first, last):
            label = f"{before['difference']['label']:.3f}" if before["difference"] else ""
            (force, energy), (new_force, new_energy) = row(before), row(after)
            print(f"| {number} | {before['name']} | {force} | {new_force} | {label} | {energy} | {new_energy} |")
        audit = next((r["audit"] for r in reversed(result["rounds"]) if r["audit"]), None)
        audited = f"{1e3 * audit['force_rmse']:.1f} meV/Å in {audit['regions']} regions" if audit else "none"
        outcome = result["outcome"] if isinstance(result["outcome"], str) else json.dumps(result["outcome"], ensure_ascii=False)
        print(f"| {number} | audits | | {audited} | | {len(result['rounds'])} rounds, {result['labels']} labels | {outcome} |")


if __name__ == "__main__":
    main(sys.argv[1:])
