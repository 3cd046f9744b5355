# SPDX-License-Identifier: GPL-2.0-or-later
"""Time of a round of active learning without labelling, training and steps: ci/bench round"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from measure import DEPS, LMP, PROGRAM, ROOT, config, launch, spread, where

PEERS = ROOT / "benches/peers"
DATA = ROOT / "out/al-heal/data"
BASIS = ROOT / "potentials/al-soft/Al.yaml"
INTERVAL, STEPS, THRESHOLD = 10, 30, 5.0
# Logs the start and end of a program; used for lammps-otf and its peers.
TIMED = """#!/bin/sh
name=$1; shift
date "+$name %s.%N" >>{log}
"$@"; code=$?
date "+$name %s.%N" >>{log}
exit $code
"""


def programs(folder):
    """The commands of oracle and trainer, and the log file of their times."""
    log, timed = folder / "programs.log", folder / "timed"
    timed.write_text(TIMED.format(log=log))
    timed.chmod(0o755)
    python, eam = DEPS / "bin/python3", DEPS / "share/lammps/potentials/Al_mm.eam.fs"
    oracle = [timed, "oracle", python, ROOT / "examples/oracles/ase_oracle.py", "--calculator", "ase.calculators.eam:EAM",
              "--arguments", json.dumps({"potential": str(eam)}), "--input", "{input}", "--output", "{output}"]
    trainer = [timed, "trainer", python, ROOT / "examples/trainers/pace_linear.py", "--labelled", "{labelled}",
               "--potential", "{potential}", "--active-set", "{active_set}", "--output", "{output}",
               "--base", DATA / "training.extxyz", "--test", DATA / "testing.extxyz"]
    return [str(word) for word in oracle], [str(word) for word in trainer], log


def spent(log):
    """Seconds of each program. Each is run once."""
    times = {}
    for line in log.read_text().splitlines():
        name, at = line.split()
        times.setdefault(name, []).append(float(at))
    log.unlink()
    return {name: end - begin for name, (begin, end) in times.items()}


def ours(folder, log):
    said = launch([PROGRAM, "loop", "run.toml", "-q", "--json", "-o", "out"], folder, codes=(0, 4))[2]
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    first = next(line for line in lines if line["event"] == "round" and line["number"] == 1)
    result = lines[-1]
    assert first["labelled"] == 1 and len(result["rounds"]) == 2, lines
    took, then = first["seconds"], result["rounds"][1]["seconds"]
    look = json.loads((folder / "out/round-002/polls.jsonl").read_text().splitlines()[0])
    assert look["step"] == result["rounds"][1]["from"] == first["first_event"] > 0, look
    program = spent(log)
    return program, {
        "event": took["watch"], "select": took["select"], "label": took["label"] - program["oracle"],
        "train": took["train"] - program["trainer"], "trial": took["trial"], "again": then["setup"] + look["seconds"]}


def peer(folder, log, script, *arguments):
    said = launch([sys.executable, PEERS / script, *arguments, STEPS, folder / "job.json"], folder / "input")[2]
    parts, program = json.loads(said.splitlines()[-1])["parts"], spent(log)
    parts["label"] -= program["oracle"]
    parts["train"] -= program["trainer"]
    return program, parts


def total(rounds):
    """The median over the rounds of the sum of the parts."""
    return statistics.median(sum(parts.values()) for parts in rounds)


def syncs():
    """Milliseconds of several fsyncs on the file system of the runs."""
    times = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            begun = time.perf_counter()
            os.fsync(file.fileno())
            times.append(1e3 * (time.perf_counter() - begun))
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--most", type=int, default=256_000, help="most atoms")
    args = parser.parse_args()
    if not (DATA / "testing.extxyz").exists():
        subprocess.run([sys.executable, ROOT / "potentials/al/fit.py", "--data", DATA], check=True, stdout=sys.stderr)
    print("## A round of learning\n\nTime of a round without molecular dynamics, labelling and training, ms: from the end "
          "of the step on which γ passes the threshold to the first forces and grades of the new potential on the same "
          "frame. One region is extracted, labelled (`examples/oracles/ase_oracle.py`, EAM) and used for a fit "
          "(`examples/trainers/pace_linear.py`). All sides call the same two programs; their own time, including the start "
          "of Python, is subtracted and listed separately. All use `pace/extrapolation/opt` on one rank. In the file "
          "route, Python keeps running, and only `lmp` is restarted, from a restart file. lammps-otf does work that the "
          "peers do not do: it writes a restart file (Python in process writes none) and synchronises all files to disk, "
          "so that a round can be killed at any point; it checks the cut-out, selects by MaxVol, and tests the new "
          "potential in a separate instance.\n\n"
          "| atoms | ours | file route | times ours | Python in process | times ours | oracle, s | trainer, s |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    parts = {}
    for atoms in [a for a in (500, 32_000, 256_000) if a <= args.most]:
        got = {name: [] for name in ("ours", "file", "python", "oracle", "trainer")}
        apart = {name: [] for name in ("ours", "file", "python")}
        for number in range(args.pairs):
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                oracle, trainer, log = programs(folder)
                text = (f"steps = {STEPS}\nsampling_interval = {INTERVAL}\nuncertainty_threshold = {THRESHOLD}\n"
                        f"[potential]\nfile = {json.dumps(str(BASIS))}\n[loop]\nbatch = 1\nselect = 1\noracle_difference = 0\n"
                        f"max_rounds = 1\n[loop.oracle]\ntype = \"command\"\ncommand = {json.dumps(oracle)}\n"
                        f"[loop.trainer]\ncommand = {json.dumps(trainer)}\n")
                path = config(folder, atoms, text, "")
                path.write_text(path.read_text().replace("temperature = 300", "temperature = 2400"))
                (folder / "job.json").write_text(json.dumps(
                    {"oracle": oracle, "trainer": trainer, "potential": str(BASIS), "active_set": str(BASIS.with_suffix(".asi"))}))
                # Its output is the input of the peers.
                launch([PROGRAM, "run", "run.toml", "-q", "-o", "input"], folder, codes=(0, 4))
                turns = [
                    ("ours", lambda: ours(folder, log)),
                    ("file", lambda: peer(folder, log, "file_round.py", LMP, "md.in", THRESHOLD, INTERVAL)),
                    ("python", lambda: peer(folder, log, "in_process_round.py", "md.in", THRESHOLD, INTERVAL))]
                for name, turn in turns[number % 3:] + turns[:number % 3]:
                    program, taken = turn()
                    got[name].append(1e3 * sum(taken.values()))
                    apart[name].append(taken)
                    for which in ("oracle", "trainer"):
                        got[which].append(program[which])
        def times(name):
            return spread([theirs / mine for theirs, mine in zip(got[name], got["ours"])], "{:.2f}")
        print(f"| {atoms:,} | {spread(got['ours'], '{:.0f}')} | {spread(got['file'], '{:.0f}')} | {times('file')} | "
              f"{spread(got['python'], '{:.0f}')} | {times('python')} | {spread(got['oracle'], '{:.2f}')} | "
              f"{spread(got['trainer'], '{:.2f}')} |", flush=True)
        parts[atoms] = apart
    print("\nTime by part, ms (medians): the event until the candidate is committed, the selection, the work around the "
          "two programs, the trial, and the time until the first forces of the new potential:\n\n"
          "| atoms | | event | selection | around the oracle | around the trainer | trial | again |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- |")
    columns = ("event", "select", "label", "train", "trial", "again")
    for atoms, apart in parts.items():
        for name, title in (("ours", "ours"), ("file", "file route"), ("python", "Python in process")):
            cells = [f"{1e3 * statistics.median(t[c] for t in apart[name]):.1f}" if c in apart[name][0] else "–" for c in columns]
            print(f"| {atoms:,} | {title} | {' | '.join(cells)} |")
    slower = [f"{atoms:,} atoms" for atoms, apart in parts.items() if total(apart["python"]) < total(apart["ours"])]
    if slower:
        print(f"\n**Python in process is faster** at {', '.join(slower)}: it does not test the potential, does not "
              "select, and waits less for the disk.")
    print("\nlammps-otf waits for the disk 37 times in a round, Python in process 8 times (`strace -f -e trace=fsync,fdatasync`). One "
          f"`fsync` of 4 kB took {spread(syncs(), '{:.2f}')} ms at the end of this section.")
    print(f"\n`ci/bench round`, {args.pairs} rounds of each, alternating. {where()}")


main()
