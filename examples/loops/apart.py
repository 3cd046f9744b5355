#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Two loops one after the other, against one loop with two runs: force errors in melt, crystal and slab, and number of labels.

    .deps/bin/python3 examples/loops/apart.py [--system Al|AlCu|W] [--seeds N] [--output FOLDER] [--program PATH]

1. `melt`: a loop over a run that melts, from the initial potential.
2. `slab`: a loop over a slab, from the result of 1, whose labels it uses (the default of `[loop] labels`).
3. `both`: one loop with both runs, from the initial potential.

EAM is the oracle. The errors are those on frames of EAM dynamics of which no loop has a label.
"""
import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "potentials"))
sys.path.insert(0, str(ROOT / "potentials/alcu"))

import eamdata
import numpy as np
from ase.build import bcc100, bulk, fcc100
from ase.io import write

PYTHON = ROOT / ".deps/bin/python3"
EAM = ROOT / ".deps/share/lammps/potentials"


@dataclass
class System:
    """A material, and the EAM potential that is its truth."""

    fit: str  # script, which also writes the training data
    potential: str  # where it is committed; else the name of the file that the script writes
    style: str
    file: str
    elements: list
    lattice: float  # Å
    share: float  # of the second element
    crystal: str  # lattice of the first element
    hot: int  # K: crystal and slab of the checks
    melt: int  # K: end of the ramp, and melt of the checks
    difference: float = 0.5  # oracle_difference
    worse: tuple = (1, 10)  # increase of the errors on the test set that the trainer allows, meV/atom and meV/Å


SYSTEMS = {
    "Al": System("al/fit.py", "al-soft/Al.yaml", "eam/fs", "Al_mm.eam.fs", ["Al"], 4.045, 0.0, "fcc", 600, 2500),
    "AlCu": System("alcu/fit.py", "alcu/AlCu.yaml", "eam/alloy", "AlCu.eam.alloy", ["Al", "Cu"], 4.0, 0.1, "fcc", 600, 2500),
    "W": System("w/fit.py", "W.yaml", "eam/alloy", "W_zhou.eam.alloy", ["W"], 3.165, 0.0, "bcc", 1500, 7000, 1.0, (10, 100)),  # its potential has seen small displacements only
}
CHECKS = ["crystal-hot", "melt", "slab-hot"]
CONFIG = """ensemble = "nvt"
temperature = 300
steps = {steps}
seed = {seed}
uncertainty_low = 2.0
uncertainty_threshold = 5.0
sampling_interval = 10
regions_per_event = 2
core_share = 1
elements = {elements}
[potential]
file = "{potential}"
[embedding]
shape = "cube"
radius = 3.0
buffer = 2.6
max_atoms = 120
[loop]
resume_from = "start"
oracle_difference = {difference}
batch = 200
event_spacing = 50
halt = 200.0
select = 8
max_rounds = {rounds}
max_labels = 200
{runs}
{checks}
[loop.oracle]
type = "lammps"
pair_style = "{style}"
pair_coeff = ["* * {eam} {symbols}"]
[loop.trainer]
command = ["{python}", "{trainer}", "--labelled", "{{labelled}}", "--potential", "{{potential}}", "--active-set", "{{active_set}}",
           "--output", "{{output}}", "--base", "{data}/training.extxyz", "--test", "{data}/testing.extxyz", "--tolerance", "3", "--worse-energy", "{worse[0]}", "--worse-force", "{worse[1]}"]
"""
RUNS = {
    "melt": '[[loop.run]]\nname = "melt"\nstructure = "{folder}/block.extxyz"\ntemperature = [300, {melt}]\nsteps = 6000\n',
    "slab": '[[loop.run]]\nname = "slab"\nstructure = "{folder}/slab.extxyz"\ntemperature = [300, {slab}]\n',
}


def mixed(atoms, system, seed):
    """The atoms with a share of them replaced by the second element."""
    rng = np.random.default_rng(seed)
    symbols = np.array(atoms.get_chemical_symbols())
    symbols[rng.permutation(len(atoms))[: round(system.share * len(atoms))]] = system.elements[-1]
    atoms.set_chemical_symbols(symbols.tolist())
    return atoms


def structures(folder, system):
    eam = eamdata.Eam(system.style, EAM / system.file, system.elements)
    element = system.elements[0]
    cells = 1 if system.crystal == "fcc" else 1.25  # bcc has half as many atoms in a cubic cell
    crystal = lambda n, stretch, seed: mixed(
        bulk(element, system.crystal, a=stretch * system.lattice, cubic=True).repeat(round(cells * n)), system, seed)

    def slab(repeat, seed):
        atoms = {"fcc": fcc100, "bcc": bcc100}[system.crystal](element, repeat, a=system.lattice, vacuum=8, periodic=True)
        atoms.pbc = True
        return mixed(atoms, system, seed)

    last = lambda atoms, temperature, seed: eam.dynamics(atoms, temperature, seed=seed, samples=1, equilibrate=2000)[-1]
    frames = {
        "block": crystal(5, 1.0, 1), "slab": slab((4, 4, 8), 2),
        "crystal-hot": last(crystal(3, 1.0, 3), system.hot, 11), "melt": last(crystal(3, 1.05, 4), system.melt, 12),
        "slab-hot": last(slab((4, 4, 6), 5), system.hot - 100, 14),
    }
    for name, atoms in frames.items():
        bare = atoms.copy()
        bare.calc = None
        write(folder / f"{name}.extxyz", bare)


def loop(program, folder, name, potential, runs, settings):
    """Runs a loop, and returns its result."""
    text = CONFIG.format(potential=potential, runs="\n".join(RUNS[run].format(folder=folder, melt=settings["melt"], slab=settings["slab"]) for run in runs), **settings)
    config = folder / f"{name}.toml"
    config.write_text(text)
    command = [program, "loop", config, "--output", folder / name]
    code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    assert code in (0, 4), f"{name}: exit code {code}"
    # A loop that has ended only prints its result again.
    out = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out.splitlines()[-1])


def errors(result, at):
    checks = {check["name"]: check for check in result["rounds"][at]["checks"]}
    return [1e3 * checks[name]["force_rmse"] for name in CHECKS]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--system", choices=SYSTEMS, default="Al")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "out/apart")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/lammps-otf")
    parser.add_argument("--rounds", type=int, default=16)
    args = parser.parse_args()
    system = SYSTEMS[args.system]
    os.environ["LAMMPS_POTENTIALS"] = str(EAM)
    base = args.output.resolve() / args.system
    base.mkdir(parents=True, exist_ok=True)
    if not (base / "data/testing.extxyz").exists():
        subprocess.run([PYTHON, ROOT / "potentials" / system.fit, "--data", base / "data"], check=True, stdout=subprocess.DEVNULL)
    start = ROOT / "potentials" / system.potential
    if not start.exists():
        start = base / "start" / system.potential
        subprocess.run([PYTHON, ROOT / "potentials" / system.fit, "--output", start.parent], check=True, stdout=subprocess.DEVNULL)
    print(f"| {args.system}, seed | potential | labels | rounds | ended | " + " | ".join(f"{name}, meV/Å" for name in CHECKS) + " |")
    print("|---|---|---|---|---|" + "---|" * len(CHECKS))
    for seed in range(1, args.seeds + 1):
        folder = base / f"seed-{seed}"
        folder.mkdir(exist_ok=True)
        if not (folder / "slab-hot.extxyz").exists():
            structures(folder, system)
        settings = dict(
            steps=2000, seed=seed, elements=json.dumps(system.elements), style=system.style, eam=system.file, symbols=" ".join(system.elements), python=PYTHON,
            difference=system.difference, worse=system.worse, melt=system.melt, slab=system.hot + 100,
            trainer=ROOT / "examples/trainers/pace_linear.py", data=base / "data", rounds=args.rounds,
            checks="\n".join(f'[[loop.check]]\nname = "{name}"\nstructure = "{folder}/{name}.extxyz"\n' for name in CHECKS))
        melt = loop(args.program, folder, "melt", start, ["melt"], settings)
        slab = loop(args.program, folder, "slab", folder / "melt/final/potential.yaml", ["slab"], settings)
        both = loop(args.program, folder, "both", start, ["melt", "slab"], settings)
        rows = [("initial", None, melt, 0), ("melt", melt["labels"], melt, -1),
                ("then slab", melt["labels"] + slab["labels"], slab, -1), ("both", both["labels"], both, -1)]
        for name, labels, result, at in rows:
            ended = "" if labels is None else result["outcome"] if isinstance(result["outcome"], str) else json.dumps(result["outcome"])
            rounds = "" if labels is None else len(result["rounds"])
            cells = " | ".join(f"{error:.1f}" for error in errors(result, at))
            print(f"| {seed} | {name} | {labels if labels is not None else ''} | {rounds} | {ended} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
