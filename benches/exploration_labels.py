# SPDX-License-Identifier: GPL-2.0-or-later
"""Potentials refitted to candidates of biased runs and of a heating ramp, at equal numbers of labels: ci/bench exploration_labels"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from measure import DEPS, PROGRAM, ROOT, where

sys.path.insert(0, str(ROOT / "potentials"))
import pacefit  # first: it sets the number of BLAS threads
import eamdata
from ase.build import bulk, fcc100

EAM = DEPS / "share/lammps/potentials/Al_mm.eam.fs"
LATTICE = 4.045
LOOP = """structure = "{root}/examples/al-500.extxyz"
temperature = 300
ensemble = "nvt"
sampling_interval = 10
seed = {seed}
steps = 3000
verify = false
regions_per_event = 2
{top}
[potential]
file = "{root}/potentials/al/Al.yaml"
[embedding]
shape = "cube"
radius = 3.0
buffer = 2.6
max_atoms = 100
{explore}
[loop]
resume_from = "start"
batch = 200
event_spacing = 50
halt = 200.0
select = 8
max_rounds = {rounds}
max_labels = {labels}
{runs}
[loop.oracle]
type = "lammps"
pair_style = "eam/fs"
pair_coeff = ["* * {eam} Al"]
[loop.trainer]
command = ["{python}", "{root}/examples/trainers/pace_linear.py", "--labelled", "{{labelled}}", "--potential", "{{potential}}",
  "--active-set", "{{active_set}}", "--output", "{{output}}", "--base", "{data}/training.extxyz", "--test", "{data}/testing.extxyz",
  "--worse-force", "1000", "--worse-energy", "1000"]
"""
RAMP = '[[loop.run]]\nname = "ramp"\ntemperature = [300, 2500]\n'
BIASED = "".join(f'[[loop.run]]\nname = "at-{kelvin}"\ntemperature = {kelvin}\nsteps = 1000\nexplore = 2\n' for kelvin in (300, 600, 900))
LANGEVIN = 'thermostat = "langevin"\ntemperature_damping = 0.05'
METHODS = {
    "heating ramp": (LANGEVIN, "", RAMP),
    "biased, 300 to 900 K": (LANGEVIN, "[explore]", BIASED),
    "biased, `gamma_limit = 50`": (LANGEVIN, "[explore]\ngamma_limit = 50", BIASED),
}


def slab():
    atoms = fcc100("Al", (4, 4, 6), a=LATTICE, vacuum=8, periodic=True)
    atoms.pbc = True
    return atoms


def tests():
    """Labelled frames that nothing was fitted to, by kind."""
    eam = eamdata.Eam("eam/fs", EAM, ["Al"])
    crystal = bulk("Al", a=LATTICE, cubic=True).repeat(3)
    vacancy = crystal.copy()
    del vacancy[0]
    melt = bulk("Al", a=1.05 * LATTICE, cubic=True).repeat(3)
    frames = lambda atoms, temperature, seed: eam.dynamics(atoms, temperature, seed=seed, samples=3, equilibrate=2000)
    return {
        "crystal, 300 K": frames(crystal, 300, 21), "crystal, 600 K": frames(crystal, 600, 22), "vacancy, 600 K": frames(vacancy, 600, 23),
        "slab, 500 K": frames(slab(), 500, 24), "melt, 2500 K": frames(melt, 2500, 25), "melt, 1200 K": quenched(eam, melt),
    }


def quenched(eam, melt):
    """A liquid: melted at 2500 K, and then held at 1200 K."""
    hot = eam.dynamics(melt, 2500, seed=26, samples=1, equilibrate=2000)[-1]
    return eam.dynamics(pacefit.bare(hot), 1200, seed=27, samples=3, equilibrate=2000)


def learn(folder, method, seed, data, args):
    """The potential of a loop, and its number of labels and of steps."""
    top, explore, runs = METHODS[method]
    text = LOOP.format(root=ROOT, seed=seed, top=top, explore=explore, runs=runs, rounds=args.rounds, labels=args.labels, eam=EAM,
                       python=DEPS / "bin/python3", data=data)
    (folder / "loop.toml").write_text(text)
    done = subprocess.run([PROGRAM, "loop", "loop.toml", "-q", "--json", "-o", "out"], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode not in (0, 4):
        sys.exit(done.stderr[-3000:])
    steps = 0
    for path in (folder / "out").glob("round-*/*/polls.jsonl"):
        steps += json.loads(path.read_text().splitlines()[-1])["steps"]
    return folder / "out/final/potential.yaml", json.loads(done.stdout.splitlines()[-1])["labels"], steps


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    frames = tests()
    print(f"""### Errors of the potentials that are learned

Loops that start from `potentials/al`, at most {args.labels} labels (eight in each round, EAM), {args.seeds} seeds: a ramp from 300 to 2500 K in 3000 steps, or three biased runs at 300, 600 and 900 K of 1000 steps.
Each of at most {args.rounds} rounds repeats them with the potential refitted by `examples/trainers/pace_linear.py`. Force error in meV/Å (root mean square) on frames of EAM dynamics that
nothing was fitted to: median (smallest, largest).

| candidates from | labels | steps | {" | ".join(frames)} |
| --- | --- | --- |{" --- |" * len(frames)}""")
    cells = [f"{pacefit.errors(pacefit.load(ROOT / 'potentials/al/Al.yaml'), some)[1]:.0f}" for some in frames.values()]
    print(f"| initial potential | | | {' | '.join(cells)} |", flush=True)
    text = lambda values: f"{statistics.median(values):.0f} ({min(values):.0f}, {max(values):.0f})"
    with tempfile.TemporaryDirectory() as place:
        data = pathlib.Path(place) / "data"
        subprocess.run([sys.executable, ROOT / "potentials/al/fit.py", "--data", data], check=True, stdout=sys.stderr)
        found = {method: [] for method in METHODS}
        for seed in range(1, args.seeds + 1):
            for method, results in found.items():
                with tempfile.TemporaryDirectory() as folder:
                    potential, labels, steps = learn(pathlib.Path(folder), method, seed, data, args)
                    basis = pacefit.load(potential)
                    results.append((labels, steps, *(pacefit.errors(basis, some)[1] for some in frames.values())))
                print(seed, method, results[-1], file=sys.stderr, flush=True)
    for method, results in found.items():
        print(f"| {method} | {' | '.join(text(column) for column in zip(*results))} |")
    print(f"\n`ci/bench exploration_labels`. {where()}")


main()
