# SPDX-License-Identifier: GPL-2.0-or-later
"""pace/opt compared with ML-PACE, and with ace-jax for potentials that it reads: ci/bench pace

--jax FOLDER: the virtual environment of ace-jax, created if missing (some 600 MB).
--native FOLDER: ML-PACE compiled for this processor, compiled if missing (minutes).
--only NAME ...: potentials whose names contain one of these.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

from measure import DEPS, PLUGINS, ROOT, spread, where

sys.path.insert(0, str(ROOT / "crates/pace-opt/bench"))
import numpy as np
import speed
from speed import Side

JAX = "ace-jax==0.4.1"


def paths():
    """The instruction sets of this CPU, best first."""
    flags = next((l for l in open("/proc/cpuinfo") if l.startswith("flags")), "").split()
    return [isa for isa, flag in (("avx512", "avx512f"), ("avx2", "avx2"), ("portable", None)) if flag is None or flag in flags]


def peak():
    """FLOP/s of one core: best of several matrix products in numpy."""
    a, best = np.random.default_rng(1).normal(size=(1000, 1000)), np.inf
    for _ in range(10):
        begun = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - begun)
    return 2e9 / best


def operations(plain, neighbours):
    """Floating-point operations per atom, estimated; see the text below the table."""
    run = ["cargo", "run", "-q", "--release", "--locked", "-p", "pace-opt", "--example", "info", "--", plain]
    said = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    number = lambda key: float(re.search(rf"{key} +([\d.]+)", said)[1])
    base, interior, terms = number("atomic base"), number("interior products"), number("terms")
    columns = number("tables") * 1e6 / 16 / (number("cutoff") / 1e-3 + 3)
    return neighbours * (10 * columns + 12 * base) + 22 * interior + 20 * terms


def neighbours(log):
    return float(re.search(r"Ave neighs/atom = (\S+)", log)[1])


def jax_python(folder):
    python = folder / "bin/python3"
    if not python.exists():
        print("installing ace-jax", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", JAX], check=True)
    return python


def jax_time(python, potential, lattice, repeats):
    from ase.build import bulk
    with tempfile.TemporaryDirectory() as folder:
        atoms = bulk("Cu" if "cu" in potential else "Al", "fcc", a=lattice, cubic=True).repeat(6)
        if "big" in potential:
            atoms = bulk("Si", "fcc", a=lattice, cubic=True).repeat(5)
        atoms.rattle(0.08, seed=1)
        atoms.write(Path(folder) / "a.extxyz")
        command = ["taskset", "-c", "0", python, ROOT / "crates/pace-opt/bench/peer_jax.py", potential, Path(folder) / "a.extxyz", str(repeats)]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=env, capture_output=True, text=True)
    return float(done.stdout.split()[0]) if done.returncode == 0 else None


def native(folder):
    """A folder of plugins in which ML-PACE is compiled for this processor, in place of the defaults of its build (-O3)."""
    if not (folder / "paceplugin.so").exists():
        print("compiling ML-PACE for this processor", file=sys.stderr)
        compiler = f"{os.environ.get('CXX', 'c++')} -march=native -I{DEPS / 'include'}"
        command = [ROOT / "plugins/build", "pace", "--mpicxx", compiler, "--to", folder, "--work", folder / "work"]
        subprocess.run([*map(str, command)], check=True, stdout=sys.stderr)
    ours = folder / "paceoptplugin.so"
    ours.unlink(missing_ok=True)
    ours.symlink_to(PLUGINS / "paceoptplugin.so")
    return folder


def settings(isa=None, ranks=1, plugins=PLUGINS):
    """Input of speed.py."""
    return types.SimpleNamespace(isa=isa, ranks=ranks, plugins=plugins, lmp=str(DEPS / "bin/lmp"), mpiexec=str(DEPS / "bin/mpiexec"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--jax", type=Path, default=DEPS / "tools/ace-jax")
    parser.add_argument("--native", type=Path, default=DEPS / "tools/ml-pace-native")
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    best = paths()[0]
    gflops = peak() / 1e9
    python = jax_python(args.jax)
    compiled = native(args.native.resolve())
    with tempfile.TemporaryDirectory() as folder:
        cases = speed.cases(folder)
        print("## `pace/opt` against ML-PACE\n\nLAMMPS's loop time, µs per atom and step, one rank. The two styles alternate "
              "in turns of about a second in one process, on the same atoms, and the ratio is taken within a pair. The grade "
              "column is the time of `pace/extrapolation/opt` with γ on every step, divided by its time without γ; for Cu-PBE, "
              "with its B-basis and an active set made by `crates/pace-opt/bench/cu_pbe.py`. 2048 atoms, 500 for the largest "
              "potential. ML-PACE has two evaluators: `recursive`, the default, and `product`; a third column is `recursive` "
              "compiled with `-march=native`. The others are compiled as its own build does (`-O3`).\n\n"
              f"| potential | ML-PACE | pace/opt, {best} | ratio | ratio to `product` | ratio to `-march=native` | grade on every step | "
              "share of the FLOP limit | ace-jax |\n"
              "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for name, (plain, graded, a, n, elements, slow, fast) in cases.items():
            if args.only and not any(part in name for part in args.only):
                continue
            ours = Side("pace/opt", plain, fast)
            pairs = speed.turns(settings(), Side("pace", plain, slow), ours, a, n, elements, args.pairs)
            others = [(settings(), Side("pace product", plain, slow)), (settings(plugins=compiled), Side("pace", plain, slow))]
            others = [spread([x / y for x, y in speed.turns(how, peer, ours, a, n, elements, args.pairs)], "{:.1f}")
                      for how, peer in others]
            theirs, mine = zip(*pairs)
            ratio = [x / y for x, y in pairs]
            grade = speed.graded_turns(settings(), graded, a, n, elements, fast, args.pairs)
            peers = [jax_time(python, plain, a, 5) for _ in range(3)] if len(elements) == 1 else []
            beside = [peer for peer in peers if peer]
            count = {"Cu-PBE": 134, "Al": 78, "order 4, 743": 134, "order 4, > 40,000": 86}
            near = next((v for k, v in count.items() if name.startswith(k) and len(elements) == 1), None)
            share = f"{100 * operations(plain, near) / 1e3 / gflops / statistics.median(mine):.0f} %" if near else "–"
            print(f"| {name} | {spread(theirs, '{:.1f}')} | {spread(mine, '{:.2f}')} | {spread(ratio, '{:.1f}')} | {' | '.join(others)} | "
                  f"{spread(grade, '{:.2f}')} | {share} | "
                  f"{spread(beside, '{:.0f}') if beside else 'cannot read it' if len(elements) == 1 else 'not run'} |", flush=True)
        _, graded, _, _, elements, _, fast = cases["Cu-PBE"]
        molten = speed.graded_turns(settings(), graded, 3.75, 5, elements, 2 * fast, args.pairs, 6000)
        print("\nγ with a large active set is inexpensive if atoms are similar, as in the crystals of the table. In molten "
              f"Cu-PBE, where all components are computed, a step takes {spread(molten, '{:.2f}')} times as long as without γ. "
              "The active sets of the other potentials are random matrices.")
    print(f"\nThe FLOP limit is {gflops:.0f} GFLOP/s, measured as numpy's product of two matrices on one core in this run. "
          "Operations per atom are estimated as neighbours × (10 · spline columns + 12 · atomic base) + 22 · interior "
          "products + 20 · terms, with the sizes from `cargo run --release -p pace-opt --example info`. ace-jax is timed "
          f"through its ASE calculator on one core, compiled beforehand, with its neighbour list ({JAX}). `ci/bench pace`, "
          f"{args.pairs} pairs. {where()}")


if __name__ == "__main__":
    main()
