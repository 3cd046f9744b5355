#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Repair the potential of `al-heal.toml` without cut-outs, by two methods, to compare the cost.

    ci/demo-loop --baselines

- worst: of the frames of a ramp with γ between 5 and 200, those that extend the active set most are labelled completely
  (MaxVol, as the loop selects cut-outs).
- random: the same number of frames of the same ramp are labelled completely, regardless of γ.

The ramp, the initial potential, the reference, the trainer with its settings, and eight labels per round are the same as in
the loop. A round is one ramp from 300 to 2500 K. The potential is healed when a ramp reaches its end with all γ below 5. All
atoms of a labelled frame are used for training, and all may enter the active set. Prints a line for each ramp, and the cost
of each method. The last column is the sum of (atoms / 500)^3 over the labels: the cost in units of the label of a whole frame,
for a method whose time is proportional to the third power of the number of atoms, such as density-functional theory.
"""
import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "potentials"), str(ROOT / "examples/trainers")]

import pacefit  # first: it sets the number of BLAS threads
import eamdata
import numpy as np
import pyace.activelearning as active
from ase.db import connect
from ase.io import read, write
from pace_linear import enlarge

LOOP = ROOT / "examples/loops/al-heal.toml"


def ramp(program, config, potential, seed, folder):
    """Run a ramp. Return its frames below `halt` and the largest grade of each poll, by step; the last step; the largest grade."""
    folder.mkdir(parents=True)
    dump = folder / "frames.dump"
    text = f"""structure = "{(LOOP.parent / config['structure']).resolve()}"
temperature = {config['temperature']}
ensemble = "{config['ensemble']}"
steps = {config['steps']}
timestep = {config['timestep']}
seed = {seed}
sampling_interval = {config['sampling_interval']}
uncertainty_threshold = 1e9
setup = ["dump frames all custom {config['sampling_interval']} {dump} id type element x y z", "dump_modify frames element Al sort id"]
[potential]
file = "{potential}"
"""
    (folder / "ramp.toml").write_text(text)
    done = subprocess.run([program, "run", folder / "ramp.toml", "-q", "-o", folder / "run"], capture_output=True, text=True)
    if done.returncode not in (0, 3):
        sys.exit(done.stderr)
    grades = {}
    for line in (folder / "run/polls.jsonl").read_text().splitlines():
        poll = json.loads(line)
        if "step" in poll and poll.get("gamma"):
            top = poll["gamma"]["max"]
            grades[poll["step"]] = top if isinstance(top, (int, float)) else np.inf
    frames = dict(zip(range(0, 10**9, config["sampling_interval"]), read(dump, index=":", format="lammps-dump-text")))
    dump.unlink()
    physical = {step: frame for step, frame in frames.items() if grades.get(step, np.inf) < config["loop"]["halt"]}
    return physical, grades, max(grades), max(grades.values())


def worst(frames, grades, potential, config):
    """Select the frames that extend the active set most, of events with the spacing of the loop. Return their steps."""
    limit, number = config["uncertainty_threshold"], config["loop"]["select"]
    basis = pacefit.load(potential)
    inverse = {mu: np.array(m) for mu, m in active.load_active_inverse_set(str(potential.with_suffix(".asi"))).items()}
    waiting = []
    for step in frames:
        if grades[step] > limit and (not waiting or step - waiting[-1] >= config["loop"]["event_spacing"]):
            waiting.append(step)
    rows = {k: active.compute_B_projections(basis, [pacefit.bare(frames[k])])[0] for k in waiting}
    chosen = []
    while waiting and len(chosen) < number:
        top = {k: np.abs(rows[k] @ inverse[0]).max() for k in waiting}
        best = max(waiting, key=top.get)
        if top[best] <= limit:
            break
        enlarge(inverse[0], rows[best], 1.001)
        chosen.append(best)
        waiting.remove(best)
    return chosen


def heal(way, program, config, seed, folder, rounds):
    """Repair the potential by one method. Return success, number of ramps, sizes of the labelled frames, potential."""
    settings, limit = config["loop"], config["uncertainty_threshold"]
    eam = eamdata.Eam("eam/fs", ROOT / ".deps/share/lammps/potentials/Al_mm.eam.fs", ["Al"])
    potential = (LOOP.parent / config["potential"]["file"]).resolve()
    random = np.random.default_rng(seed)
    labelled, atoms = [], 0
    for number in range(1, rounds + 1):
        here = folder / f"{way}-{seed}-{number:02}"
        frames, grades, reached, top = ramp(program, config, potential, seed, here)
        healed = reached >= config["steps"] and top < limit
        if way == "worst":
            chosen = worst(frames, grades, potential, config)
        else:
            chosen = random.choice(list(frames), min(settings["select"], len(frames)), replace=False).tolist()
        print(f"{way:>8} {number:>5} {reached:>8} {top:>10.2f} {len(labelled):>8} {atoms:>14}", flush=True)
        if healed:
            break
        if not chosen:
            print(f"{way:>8}       no frames with γ between {limit} and {settings['halt']} to label")
            break
        for k in chosen:
            frame = eam.label(frames[k])
            frame.arrays["force_mask"] = np.ones(len(frame))
            labelled.append(frame)
            atoms += len(frame)
        write(here / "labelled.extxyz", labelled)
        words = {"labelled": here / "labelled.extxyz", "potential": potential, "output": here / "potential",
                 "active_set": potential.with_suffix(".asi")}
        command = [word.format(**words) for word in settings["trainer"]["command"]]
        done = subprocess.run(command, cwd=LOOP.parent, capture_output=True, text=True)
        if done.returncode:
            print(f"{way:>8}       the trainer failed: {done.stderr.strip().splitlines()[-1]}")
            break
        potential = here / "potential/potential.yaml"
    return healed, number, [len(frame) for frame in labelled], potential


def of_loop(folder):
    """The same results for a completed loop."""
    rounds = [json.loads(path.read_text().splitlines()[-1]) for path in sorted(folder.glob("round-*/polls.jsonl"))]
    with connect(folder / "candidates.db") as store:
        sizes = [row.natoms for row in store.select(status="DONE")]
    healed = rounds[-1]["verdict"] != "extrapolating"
    return healed, len(rounds), sizes, folder / "final/potential.yaml"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path, help="lammps-otf")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10, help="maximum number of ramps of each method (default 10)")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--loop", type=Path, required=True, help="the folder of the loop with the same seed")
    chosen = parser.parse_args()
    config = tomllib.loads(LOOP.read_text())
    print("     way ramps  reached      γ_max   frames  labelled atoms")
    results = {"cut-outs": of_loop(chosen.loop)}
    for way in ("worst", "random"):
        results[way] = heal(way, chosen.program.resolve(), config, chosen.seed, chosen.output.resolve(), chosen.rounds)
    print(f"\n{'way':>8} {'healed':>7} {'ramps':>6} {'labels':>7} {'atoms':>6} {'sum (N/500)^3':>14}")
    for way, (healed, ramps, sizes, _) in results.items():
        cubes = sum((n / 500) ** 3 for n in sizes)
        print(f"{way:>8} {'yes' if healed else 'no':>7} {ramps:>6} {len(sizes):>7} {sum(sizes):>6} {cubes:>14.2f}")
    for way, (*_, potential) in results.items():
        print(f"potential of {way}: {potential}")


if __name__ == "__main__":
    main()
