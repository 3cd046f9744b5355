# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps until the first event with and without the bias of [explore], and the cost of a biased step: ci/bench exploration"""
import argparse
import json
import pathlib
import re
import statistics
import tempfile

from measure import LMP, PACE, PROGRAM, ROOT, launch, spread, where

HEAD = """structure = "{root}/examples/al-500.extxyz"
temperature = {temperature}
ensemble = "nvt"
thermostat = "langevin"
temperature_damping = 0.05
sampling_interval = 10
checkpoint_interval = 0
steps = {steps}
seed = {seed}
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


def first_event(folder, temperature, seed, steps, strength):
    """(steps until the first event or None, temperature there, status)"""
    text = HEAD.format(root=ROOT, temperature=temperature, steps=steps, seed=seed) + PACE
    if strength > 0:
        text += f"[explore]\nstrength = {strength}\n"
    (folder / "run.toml").write_text(text)
    launch([PROGRAM, "run", "run.toml", "--output", "out"], folder, codes=(0, 3, 4))
    result = json.loads((folder / "out/result.json").read_text())
    last = result["last"]
    return (last["steps"] if result["status"] == "UNCERTAIN" else None), last["temperature"], result["status"]


def events(args):
    print("## Steps until the first event\n\n500 atoms of Al, Langevin thermostat (0.05 ps), γ polled every 10 steps, threshold 5, "
          f"{args.seeds} seeds, at most {args.steps} steps. Median (smallest, largest) of the runs with an event.\n\n"
          "| K | `strength` | with an event | steps | temperature at the event, K | other ends |\n"
          "| --- | --- | --- | --- | --- | --- |")
    for temperature in args.temperatures:
        for strength in (0.0, *args.strengths):
            found, kelvin, others = [], [], {}
            for seed in range(1, args.seeds + 1):
                with tempfile.TemporaryDirectory() as folder:
                    steps, at, status = first_event(pathlib.Path(folder), temperature, seed, args.steps, strength)
                if steps is None:
                    others[status] = others.get(status, 0) + 1
                else:
                    found.append(steps)
                    kelvin.append(at)
            cell = lambda values: f"{statistics.median(values):.0f} ({min(values):.0f}, {max(values):.0f})" if values else "–"
            ends = ", ".join(f"{n} {status}" for status, n in others.items()) or "–"
            print(f"| {temperature} | {strength or '–'} | {len(found)}/{args.seeds} | {cell(found)} | {cell(kelvin)} | {ends} |",
                  flush=True)


def cost(args):
    print("\n## Cost of a biased step\n\nTime of a step with bias and γ relative to a step with γ, in pairs of alternating order; NVE "
          "at 150 K, one rank.\n\n| potential | atoms | pairs | ratio |\n| --- | --- | --- | --- |")
    cases = [("Al", dict(element="Al", folder=ROOT / "potentials/al", lattice=4.05, mass=26.98, cells=6))]
    if args.cu:
        cases.append(("Cu-PBE", dict(element="Cu", folder=args.cu, lattice=3.63, mass=63.55, cells=4)))
    for name, case in cases:
        def seconds(bias):
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                (folder / "in.lammps").write_text(INPUT.format(bias=bias, steps=args.cost_steps, **case))
                launch([LMP, "-in", "in.lammps", "-log", "none", "-nocite"], folder)
                return float(re.search(r"Loop time of (\S+)", (folder / "stdout").read_text())[1])
        ratios = []
        for pair in range(args.pairs):
            # Weak, so that both trajectories have the same neighbours.
            styles = ["", " bias 1e-6 0.0 10.0 0.65"]
            times = {style: seconds(style) for style in (styles if pair % 2 else reversed(styles))}
            ratios.append(times[styles[1]] / times[styles[0]])
        print(f"| {name} | {4 * case['cells'] ** 3} | {args.pairs} | {spread(ratios, '{:.2f}')} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--temperatures", type=int, nargs="*", default=[300, 600])
    parser.add_argument("--strengths", type=float, nargs="*", default=[2.0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cost-steps", type=int, default=100)
    parser.add_argument("--cu", type=pathlib.Path, help="folder with Cu.yaml and Cu.asi of crates/pace-opt/bench/cu_pbe.py")
    parser.add_argument("--only", choices=["events", "cost"])
    args = parser.parse_args()
    if args.only != "cost":
        events(args)
    if args.only != "events":
        cost(args)
    print(f"\n`ci/bench exploration`. {where()}")


main()
