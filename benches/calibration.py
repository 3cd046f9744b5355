#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Coverage of the calibration on regions that were held back; prints Markdown.

    .deps/bin/python3 benches/calibration.py [--regions N] [--splits N]

For each of three systems, labels cells of independent molecular dynamics with the EAM potential to which the ACE potential was
fitted. `lammps-otf calibrate` calibrates with one half and is compared with the other half, and with a set at another temperature.
"""
import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "potentials"), str(ROOT / "potentials/w")]

import fitting  # first: it sets the number of BLAS threads
import eamdata
import measure
import numpy as np
from ase.io import write
from fit import Tungsten, tungsten

COVERAGES = (0.8, 0.9, 0.95)


def aluminium(rng):
    atoms = eamdata.fcc(4.05, (3, 3, 3))
    return vacancies(atoms, rng)


def alloy(rng):
    share = rng.uniform(0.05, 0.95)
    atoms = eamdata.fcc((1 - share) * 4.05 + share * 3.615, (3, 3, 3))
    symbols = np.where(rng.uniform(size=len(atoms)) < share, "Cu", "Al")
    atoms.set_chemical_symbols(symbols.tolist())
    return vacancies(atoms, rng)


def tungsten_cell(rng):
    return vacancies(tungsten(repeat=(4, 4, 4)), rng)


def vacancies(atoms, rng):
    """A copy without up to three atoms, so that γ has a wide range."""
    remove = rng.choice(len(atoms), size=rng.integers(0, 4), replace=False)
    atoms = atoms.copy()
    del atoms[remove.tolist()]
    return atoms


# Name, potential (None: fitted here), EAM potential, cell, temperatures of both halves, temperature of the shifted set (K).
SYSTEMS = [
    ("Al", ROOT / "potentials/al/Al.yaml", ("eam/fs", "Al_mm.eam.fs", ["Al"]), aluminium, (300, 600, 900), 1500),
    ("Al-Cu", ROOT / "potentials/alcu/AlCu.yaml", ("eam/alloy", "AlCu.eam.alloy", ["Al", "Cu"]), alloy, (300, 600, 900), 1500),
    ("W", None, Tungsten.reference, tungsten_cell, (500, 1500, 2500), 4000),
]


def regions(eam, cell, temperatures, number, seed):
    """Labelled cells, each from a trajectory of its own, at a temperature that is drawn at random."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(number):
        start = cell(rng)
        temperature = temperatures[rng.integers(len(temperatures))]
        frames += eam.dynamics(start, temperature, seed=100_000 + seed + 2 * k, samples=1, equilibrate=300, every=200)
    return frames


def calibrate(program, potential, frames, folder, *more):
    """Runs the program on these frames; returns its JSON."""
    data, out = folder / "frames.extxyz", folder / "out.json"
    write(data, frames, format="extxyz", columns=["symbols", "positions", "forces"])
    command = [program, "calibrate", data, "--potential", potential, "--json", out, *more]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(out.read_text())


def check(program, potential, calibration, frames, folder):
    """Observed coverage by group and nominal coverage."""
    stored = folder / "calibration.json"
    stored.write_text(json.dumps(calibration))
    found = calibrate(program, potential, frames, folder, "--check", stored)
    return {(row["group"], row["nominal"]): row["observed"] for row in found["checked"]}


def observe(system, arguments, folder):
    name, potential, reference, cell, temperatures, shifted_temperature = system
    if potential is None:
        with contextlib.redirect_stdout(sys.stderr):
            fitting.run(Tungsten(), folder)
        potential = folder / "W.yaml"
    style, file, elements = reference
    eam = eamdata.Eam(style, fitting.POTENTIALS / file, elements)
    frames = regions(eam, cell, temperatures, arguments.regions, seed=1000)
    shifted = regions(eam, cell, (shifted_temperature,), arguments.regions // 4, seed=500_000)
    rng = np.random.default_rng(7)
    first, all_splits = None, {}
    for split in range(arguments.splits):
        order = rng.permutation(len(frames))
        labelled, held = order[: len(frames) // 2], order[len(frames) // 2 :]
        calibration = calibrate(arguments.program, potential, [frames[k] for k in labelled], folder)
        observed = check(arguments.program, potential, calibration, [frames[k] for k in held], folder)
        for key, value in observed.items():
            all_splits.setdefault(key, []).append(value["coverage"])
        if split == 0:
            first = calibration, observed, check(arguments.program, potential, calibration, shifted, folder)
    return first, all_splits


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--regions", type=int, default=240, help="labelled cells of each system (default 240)")
    parser.add_argument("--splits", type=int, default=10, help="random splits into halves (default 10)")
    parser.add_argument("--program", type=Path, default=measure.PROGRAM, help="the program to check")
    arguments = parser.parse_args()
    begun = time.monotonic()
    coverage, bounds, outside, lost = [], [], [], []
    for system in SYSTEMS:
        name, temperatures, shifted_temperature = system[0], system[4], system[5]
        with tempfile.TemporaryDirectory() as folder:
            (calibration, observed, shifted), splits = observe(system, arguments, Path(folder))
        groups = calibration["bounds"]
        for group in groups:
            key = group["group"]
            label = name if key == "all" else f"{name}: {key}"
            cells = []
            for nominal in COVERAGES:
                value = observed.get((key, nominal))
                if value is None:
                    cells.append("–")
                    continue
                cells.append(f"{100 * value['coverage']:.1f} ± {100 * value['deviation']:.1f}")
                if abs(value["coverage"] - nominal) > 2 * value["deviation"]:
                    outside.append(f"{label} at {100 * nominal:g} %")
            means = ", ".join(f"{100 * np.mean(splits[key, nominal]):.1f}" for nominal in COVERAGES if (key, nominal) in splits)
            moved = ", ".join(f"{100 * shifted[key, nominal]['coverage']:.1f}" for nominal in COVERAGES if (key, nominal) in shifted)
            for nominal in COVERAGES:
                value = shifted.get((key, nominal))
                if value:
                    lost.append(value["coverage"] < nominal - 2 * value["deviation"])
            number = observed[key, COVERAGES[0]]
            coverage.append(f"| {label} | {group['regions']} / {number['regions']} | {' | '.join(cells)} | {means} | {moved} |")
            values = {point["gamma"]: f"{point['bound']:.3f}" for point in group["bounds"] if point["bound"] is not None}
            cells = " | ".join(values.get(gamma, "–") for gamma in (0, 1, 2, 5))
            threshold = group["threshold"]
            text = next((f"{threshold[k]:.2f}" for k in ("gamma", "largest_gamma") if threshold and k in threshold), "none")
            bounds.append(f"| {label} | {group['gamma_max']:.1f} | {group['exponent']:.2f} | {cells} | {text} |")
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    conditions = "; ".join(f"{s[0]} at {', '.join(map(str, s[4]))} K, shifted {s[5]} K" for s in SYSTEMS)
    print(f"""\
{arguments.regions} cells of each system, each with up to three vacancies and from a trajectory of its own ({conditions}). Labels: the EAM potential
to which the ACE potential was fitted. One half calibrates, the other half is compared with the bounds, in %. ± is one standard deviation
expected for so many independent regions.

| atoms | regions, calibration / held back | observed at 80 % | at 90 % | at 95 % | mean of {arguments.splits} splits | shifted temperature |
| --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(coverage)}

Outside of two standard deviations: {', '.join(outside) or 'none'}. At the shifted temperature, {sum(lost)} of {len(lost)} coverages
are too small by more than two standard deviations.

Bounds with coverage 0.9 in eV/Å, and the threshold on γ for 0.15 eV/Å:

| atoms | largest γ | exponent p | γ = 0 | 1 | 2 | 5 | threshold |
| --- | --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(bounds)}

`ci/bench calibration`, {time.monotonic() - begun:.0f} s. {measure.where()}""")


main()
