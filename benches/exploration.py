# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps until the first event and until several distinct environments with and without the bias of [explore], the cost of a biased step, and
long biased runs with guards: ci/bench exploration"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from measure import DEPS, LMP, PLUGINS, PROGRAM, ROOT, launch, spread, where

sys.path.insert(0, str(ROOT / "potentials"))
import pacefit  # first: it sets the number of BLAS threads
import eamdata
import fitting
import numpy as np
from ase.build import fcc100
from ase.io import write
from ase.db import connect

RUN = """structure = "{structure}"
temperature = {temperature}
ensemble = "nvt"
thermostat = "langevin"
temperature_damping = 0.05
sampling_interval = 10
checkpoint_interval = 0
steps = {steps}
seed = {seed}
verify = false
{more}
[potential]
file = "{potential}"
[embedding]
radius = 4.0
"""
INPUT = """units metal
newton on
lattice fcc {lattice}
region b block 0 {cells} 0 {cells} 0 {cells}
create_box 1 b
create_atoms 1 box
mass 1 {mass}
pair_style pace/extrapolation/opt{bias}
pair_coeff * * {folder}/{element}.yaml {folder}/{element}.asi {element}
velocity all create 300 12 mom yes rot no loop geom
fix 1 all nve
fix g all pair 1 pace/extrapolation/opt gamma 1
thermo {steps}
run {steps}
"""
LATTICE = 4.045


def load(folder, name):
    """A module of potentials/."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, ROOT / f"potentials/{folder}/fit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def slab():
    atoms = fcc100("Al", (4, 4, 8), a=LATTICE, vacuum=8, periodic=True)
    atoms.pbc = True
    return atoms


def vacancy(cells):
    atoms = eamdata.fcc(LATTICE, (cells, cells, cells))
    del atoms[0]
    return atoms


class Defects(load("al", "al").Aluminium):
    """The test potential of Al, fitted to vacancies and slabs as well, whose γ is then small."""

    def training(self, eam):
        frames = super().training(eam)
        for k, temperature in enumerate((200, 400, 600)):
            frames += eam.dynamics(vacancy(3), temperature, seed=7000 + k, samples=4)
            frames += eam.dynamics(slab(), temperature, seed=7100 + k, samples=4)
        return frames


def systems(folder):
    """Name, structure and potential of each system."""
    with contextlib.redirect_stdout(sys.stderr):
        fitting.run(Defects(), folder)
    alloy = load("alcu", "alcu").solution(0.25, 1.0, (4, 4, 4), np.random.default_rng(31))
    made = {"alloy": alloy, "vacancy": vacancy(4), "slab": slab(), "small": eamdata.fcc(LATTICE, (3, 3, 3))}
    for name, atoms in made.items():
        write(folder / f"{name}.extxyz", atoms)
    al, alcu, defects = ROOT / "potentials/al/Al.yaml", ROOT / "potentials/alcu/AlCu.yaml", folder / "Al.yaml"
    return {
        "Al": (ROOT / "examples/al-500.extxyz", al),
        "Al-Cu": (folder / "alloy.extxyz", alcu),
        "vacancy": (folder / "vacancy.extxyz", defects),
        "slab": (folder / "slab.extxyz", defects),
        "Al, 108 atoms": (folder / "small.extxyz", al),
    }


def explore(folder, system, temperature, seed, steps, explore, wanted, novelty):
    """Runs until `wanted` distinct environments were found. Returns the steps at which they were found, the temperature at the first, and
    the status."""
    structure, potential = system
    more = f'mode = "flag"\nnovelty = {novelty}\nmax_candidates = {wanted}\n'
    text = RUN.format(structure=structure, potential=potential, temperature=temperature, steps=steps, seed=seed, more=more)
    (folder / "run.toml").write_text(text + (f"[explore]\n{explore}\n" if explore is not None else ""))
    env = {**os.environ, "LAMMPS_PLUGIN_PATH": str(PLUGINS), "OMP_NUM_THREADS": "1"}
    with open(folder / "stdout", "w") as out:
        run = subprocess.Popen([PROGRAM, "run", "run.toml", "-q", "-o", "out"], cwd=folder, env=env, stdout=out, stderr=out)
        while run.poll() is None:
            if len(list((folder / "out").rglob("candidate-*.extxyz"))) >= wanted:
                run.send_signal(signal.SIGINT)
                run.wait()
                break
            time.sleep(0.05)
    if not (folder / "out/result.json").exists():
        sys.exit((folder / "stdout").read_text()[-3000:])
    result = json.loads((folder / "out/result.json").read_text())
    polls = [json.loads(line) for line in (folder / "out/polls.jsonl").read_text().splitlines()]
    with connect(folder / "out/candidates.db") as store:
        found = sorted(row.step for row in store.select())
    first = next((p for p in polls if p["verdict"] == "extrapolating"), None)
    at = [first["step"]] if first else []
    return at, found, first and first["temperature"], result["status"]


def cell(values, runs, limit):
    """Median (smallest, largest), of which runs that did not get there are above the limit."""
    values = sorted(values) + [float("inf")] * (runs - len(values))
    middle = 0.5 * (values[(runs - 1) // 2] + values[runs // 2])
    text = lambda v: f"> {limit}" if v == float("inf") else f"{v:.0f}"
    return f"{text(middle)} ({text(values[0])}, {text(values[-1])})", middle


def events(args, folder):
    print(f"""### Steps until events

γ polled every 10 steps, threshold 5, Langevin thermostat (0.05 ps), at most {args.steps} steps, {args.seeds} seeds. Median (smallest, largest). *Found*: runs with an event; *distinct*: runs with
{args.wanted} distinct environments (`novelty = {args.novelty}`), and the steps until then. *Fewer*: ratio of the medians without and with bias.

| system | K | bias | found | steps until the first event | fewer | distinct | steps until {args.wanted} | fewer | temperature at the event, K | ended by a guard |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |""")
    choices = {"none": None, "default": "", **{text: text for text in args.explore}}
    for name, system in systems(folder).items():
        if args.systems and name not in args.systems or not args.systems and name == "Al, 108 atoms":
            continue
        for temperature in args.temperatures:
            without = None
            for label, text in choices.items():
                first, several, kelvin, guarded = [], [], [], 0
                for seed in range(args.first_seed, args.first_seed + args.seeds):
                    with tempfile.TemporaryDirectory() as place:
                        got = explore(pathlib.Path(place), system, temperature, seed, args.steps, text, args.wanted, args.novelty)
                    first += got[0]
                    several += got[1][args.wanted - 1:args.wanted]
                    kelvin += [got[2]] if got[2] else []
                    guarded += got[3] == "GUARDED"
                (one, a), (more, b) = (cell(values, args.seeds, args.steps) for values in (first, several))
                if without is None:
                    without, ratios = (a, b), ["", ""]
                else:
                    part = lambda before, now: "" if now == float("inf") else \
                        f"> {args.steps / now:.1f}" if before == float("inf") else f"{before / now:.1f}"
                    ratios = [part(without[0], a), part(without[1], b)]
                warm = f"{statistics.median(kelvin):.0f} ({min(kelvin):.0f}, {max(kelvin):.0f})" if kelvin else "–"
                print(f"| {name} | {temperature} | {label} | {len(first)}/{args.seeds} | {one} | {ratios[0]} | {len(several)}/{args.seeds} | "
                      f"{more} | {ratios[1]} | {warm} | {guarded} |", flush=True)


def cost(args):
    print("""
### Cost of a biased step

Processor time of a step with bias and γ relative to a step with γ, in pairs of alternating order, on one rank. *All pushed*: onset 0 in plain LAMMPS, NVE. *Exploration*: `lammps-otf run` with the
defaults of `[explore]` but without growth, a poll every 10 steps and γ in every step of both, Langevin thermostat, after the rise; with the measurement of the forces.

| potential | atoms | K | pairs | all pushed | exploration |
| --- | --- | --- | --- | --- | --- |""")
    cases = [("Al", dict(element="Al", folder=ROOT / "potentials/al", lattice=4.05, mass=26.98, cells=5))]
    if args.cu:
        cases.append(("Cu-PBE", dict(element="Cu", folder=args.cu.resolve(), lattice=3.63, mass=63.55, cells=5)))

    def plain(case, bias):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "in.lammps").write_text(INPUT.format(bias=bias, steps=args.cost_steps, **case))
            launch([LMP, "-in", "in.lammps", "-log", "none", "-nocite"], folder)
            said = (folder / "stdout").read_text()
            share = float(re.search(r"(\S+)% CPU use", said)[1]) / 100
            return share * float(re.search(r"Loop time of (\S+)", said)[1])

    def ours(case, explored, steps):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            write(folder / "crystal.extxyz", eamdata.fcc(case["lattice"], (case["cells"],) * 3, case["element"]))
            # γ is rarely above the limit of the bias at this temperature and time.
            more = 'mode = "flag"\nsetup = ["fix every all pair 1 pace/extrapolation/opt gamma 1"]\nmax_candidates = 1\n'
            text = RUN.format(structure="crystal.extxyz", potential=case["folder"] / f"{case['element']}.yaml", temperature=300,
                              steps=steps, seed=1, more=more)
            (folder / "run.toml").write_text(text + "max_atoms = 10000\n" + ("[explore]\ngrowth = 0\n" if explored else ""))
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            launch([PROGRAM, "run", "run.toml", "-q", "-o", "out"], folder, codes=(0, 3, 4))
            return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before

    # Without the set-up, the warm-up and the rise.
    def later(case, explored):
        return ours(case, explored, 5 * args.cost_steps) - ours(case, explored, args.cost_steps)

    def ratios(one, other):
        found = []
        for pair in range(args.pairs):
            order = [one, other] if pair % 2 else [other, one]
            times = {turn: turn() for turn in order}
            found.append(times[other] / times[one])
        return spread(found, "{:.2f}")

    for name, case in cases:
        # Weak, so that both trajectories have the same neighbours.
        pushed = ratios(lambda: plain(case, ""), lambda: plain(case, " bias 1e-6 0.0 10.0 0.65"))
        explored = ratios(lambda: later(case, False), lambda: later(case, True))
        print(f"| {name} | {4 * case['cells'] ** 3} | 300 | {args.pairs} | {pushed} | {explored} |", flush=True)


def endurance(args, folder):
    print(f"""
### Long runs with guards

{args.long_steps} steps in which an event does not end the run (`mode = "flag"`), so that the bias acts until a guard or the end. One run for each seed.

| system | ensemble | K | `[explore]` | runs | ends | steps done | events stored |
| --- | --- | --- | --- | --- | --- | --- | --- |""")
    made = systems(folder)
    cases = [
        ("Al, 108 atoms", "nvt", 300, ""), ("Al, 108 atoms", "npt", 600, ""), ("slab", "nvt", 300, ""), ("vacancy", "nvt", 600, ""),
        ("Al, 108 atoms", "nvt", 300, "strength = 10\ngamma_limit = 100"), ("Al, 108 atoms", "nvt", 300, "max_temperature = 3000"),
    ]
    for name, ensemble, temperature, text in cases:
        structure, potential = made[name]
        ends, done, stored = {}, [], 0
        for seed in range(1, args.long_runs // len(cases) + 1):
            with tempfile.TemporaryDirectory() as place:
                place = pathlib.Path(place)
                run = RUN.format(structure=structure, potential=potential, temperature=temperature, steps=args.long_steps, seed=seed,
                                 more='mode = "flag"\n').replace('"nvt"', f'"{ensemble}"')
                (place / "run.toml").write_text(run + f"[explore]\n{text}\n")
                launch([PROGRAM, "run", "run.toml", "-q", "-o", "out"], place, codes=(0, 3, 4))
                result = json.loads((place / "out/result.json").read_text())
            status = result["status"]
            if status == "GUARDED":
                status += " by " + next(iter(result["last"]["bias"]["guard"]))
            ends[status] = ends.get(status, 0) + 1
            done.append(result["steps"])
            stored += len(result["candidates"])
        told = ", ".join(f"{n} {status}" for status, n in sorted(ends.items()))
        settings = text.replace("\n", ", ") or "defaults"
        print(f"| {name} | {ensemble} | {temperature} | {settings} | {len(done)} | {told} | "
              f"{statistics.median(done):.0f} ({min(done)}, {max(done)}) | {stored} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=101, help="others were used to choose the defaults")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--temperatures", type=int, nargs="*", default=[300, 600])
    parser.add_argument("--explore", nargs="*", default=[], help="other settings of [explore] to compare, as TOML")
    parser.add_argument("--systems", nargs="*", default=[])
    parser.add_argument("--wanted", type=int, default=5, help="distinct environments")
    parser.add_argument("--novelty", type=float, default=0.05)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cost-steps", type=int, default=100)
    parser.add_argument("--cu", type=pathlib.Path, help="folder with Cu.yaml and Cu.asi of crates/pace-opt/bench/cu_pbe.py")
    parser.add_argument("--long-runs", type=int, default=24)
    parser.add_argument("--long-steps", type=int, default=50_000)
    parser.add_argument("--only", nargs="*", choices=["events", "cost", "endurance"], default=["events", "cost", "endurance"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if "events" in args.only:
            events(args, folder)
        if "cost" in args.only:
            cost(args)
        if "endurance" in args.only:
            endurance(args, folder)
    print(f"\n`ci/bench exploration`. {where()}")


main()
