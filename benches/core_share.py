# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions of a step with γ, with and without the core share of each atom: ci/bench core_share

Counted by callgrind, so that the load of the machine has no effect. Its processor has no AVX-512.
"""
import importlib.machinery
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from measure import PACE, PLUGINS, PROGRAM, ROOT, config, where

loader = importlib.machinery.SourceFileLoader("instructions", str(ROOT / "ci/instructions"))
instructions = importlib.util.module_from_spec(importlib.util.spec_from_loader("instructions", loader))
loader.exec_module(instructions)

STEPS = (10, 30)


def counted(folder, share, steps):
    """Instructions of a whole run of 500 atoms with a poll at each step."""
    config(folder, 500, f"steps = {steps}\nsampling_interval = 1\ncheckpoint_interval = 0\nuncertainty_threshold = 1e6\n"
           f"uncertainty_low = 1e6\ncore_share = {share}\n", PACE)
    tool, extra = instructions.valgrind()
    out = folder / f"out-{share}-{steps}"
    command = [tool, "--tool=callgrind", f"--callgrind-out-file={folder}/callgrind", PROGRAM, "run", "run.toml", "-q", "-o", out]
    env = {**os.environ, **extra, "LAMMPS_PLUGIN_PATH": str(PLUGINS), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        sys.exit(f"callgrind counted nothing:\n{done.stderr[-3000:]}")
    return int(found[1])


def main():
    with tempfile.TemporaryDirectory(prefix="core-share-") as scratch:
        folder = pathlib.Path(scratch)
        few, many = STEPS
        cost = {share: (counted(folder, share, many) - counted(folder, share, few)) / (many - few) for share in ("1", "0.01")}
    without, with_share = cost.values()
    print(f"""## Cost of the core share

Instructions of a step with γ and its poll, 500 atoms of Al, counted by callgrind: the difference of runs of {many} and {few} steps.

| core share | instructions per step | relative |
| --- | --- | --- |
| off (`core_share = 1`) | {without:,.0f} | 1 |
| on (default) | {with_share:,.0f} | {with_share / without:.4f} |

`ci/bench core_share`. {where()}""")


main()
