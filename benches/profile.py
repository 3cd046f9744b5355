# SPDX-License-Identifier: GPL-2.0-or-later
"""Time of a monitored run outside the pair style, by part: ci/bench profile"""
import argparse
import collections
import os
import pathlib
import re
import runpy
import statistics
import subprocess
import sys
import tempfile

from measure import LMP, PACE, PLUGINS, PROGRAM, ROOT, config, launch, ours, where

# (atoms, interval, steps)
CASES = [(500, 1, 2000), (500, 10, 2000), (32_000, 1, 20), (32_000, 10, 50)]
# Names in the timing breakdown of LAMMPS.
PARTS = ["Pair", "Neigh", "Comm", "Modify", "Output", "Other"]
CALM = "uncertainty_low = 1e9\nuncertainty_threshold = 1e9\n"

ADVANCE, STEPS, LINE = r"Simulation::advance$", r"NS::Verlet::run\(", r"Recorder::poll$"
# Callgrind gives recursive calls separate names, and treats a resumed run as called from within a pause.
ROW = r"FixPause::write_output\(\)"
PAIR, RUN = r"::compute\(int, int\)$", r"lammps::Lammps>::(begin_run|continue_run)$"
# Parts of a poll: functions that `advance` calls once or a few times.
POLLED = {
    "where LAMMPS keeps its arrays": r"lammps::Lammps::state$",
    "four values of LAMMPS's table": r"Lammps::last_thermos$",
    "checks: positions, velocities, forces, displacements": r"Frame::check$",
    "γ: its maximum, mean and histogram": r"LocalGamma::(of|reduce)$",
    "γ: finding it in LAMMPS": r"uncertainty::.*::values$",
    "copying the last valid frame": r"Frame::capture$",
}


def timed(atoms, interval, steps, pairs):
    """Milliseconds per step: the parts of plain lmp, and those added by monitoring (pauses and polls)."""
    parts, polls, pauses = collections.defaultdict(list), [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        config(folder, atoms, f"steps = {steps}\nsampling_interval = {interval}\ncheckpoint_interval = 0\n{CALM}", PACE)
        for pair in range(pairs):
            _, _, result, lines = ours(folder, f"out-{pair}")
            said = launch([LMP, "-in", "md.in", "-nocite"], folder / f"out-{pair}")[2]
            for part in PARTS:
                found = re.findall(rf"^{part}\s*\|(.*)", said, re.M)[-1].split("|")
                seconds = next(float(column) for column in found if column.strip())
                parts[part].append(seconds / steps * 1e3)
            loop = float(re.findall(r"Loop time of (\S+)", said)[-1])
            polls.append(result["cost"]["poll_seconds"] / steps * 1e3)
            pauses.append((sum(line["seconds"] for line in lines[1:]) - loop) / steps * 1e3)
    return [statistics.median(parts[part]) for part in PARTS], statistics.median(pauses), statistics.median(polls)


class Counts:
    """Inclusive instruction counts of functions, read from a callgrind file."""

    def __init__(self, file):
        self.names, self.edges = {}, collections.Counter()
        caller = callee = None
        called = False
        for line in file.read_text().splitlines():
            if line.startswith(("fn=", "cfn=")):
                key, _, name = line.partition("=")[2].partition(" ")
                if name:
                    self.names[key] = name
                if line.startswith("fn="):
                    caller = key
                else:
                    callee = key
            elif line.startswith("calls="):
                called = True
            elif called:
                self.edges[caller, callee] += int(line.split()[1])
                called = False

    def of(self, callee, caller=""):
        named = lambda key, pattern: re.search(pattern, self.names.get(key, ""))
        found = [n for (a, b), n in self.edges.items() if named(b, callee) and named(a, caller)]
        if not found:
            sys.exit(f"callgrind has counted no call of {callee}")
        return sum(found)


def counted(tool, extra, steps):
    """Instructions of each part of a run of 500 atoms at interval 1."""
    env = {**os.environ, **extra, "LAMMPS_PLUGIN_PATH": str(PLUGINS), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        config(folder, 500, f"steps = {steps}\nsampling_interval = 1\ncheckpoint_interval = 0\n{CALM}", PACE)
        command = [tool, "--tool=callgrind", f"--callgrind-out-file={folder}/counts", PROGRAM, "run", "run.toml", "-q", "-o", "out"]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"under callgrind the run ended with {done.returncode}:\n{done.stderr[-3000:]}")
        counts = Counts(folder / "counts")
    run, pair, row = counts.of(RUN, ADVANCE), counts.of(PAIR, STEPS), counts.of(ROW)
    parts = {
        "the pair style": pair,
        "LAMMPS, the row of its table": row,
        "LAMMPS, the rest of the step, and pausing": run - pair - row,
    }
    parts |= {part: counts.of(name, ADVANCE) for part, name in POLLED.items()}
    parts["the line of polls.jsonl"] = counts.of(LINE)
    known = sum(parts[part] for part in POLLED) + run
    parts["all else"] = counts.of(ADVANCE) - known
    return parts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    print("## Time by part of a run\n\nOne rank, `pace/extrapolation/opt`, milliseconds per step: LAMMPS's own breakdown "
          "of plain `lmp`, which evaluates γ at the same interval, and the additional time of lammps-otf: pauses (the time "
          "of the run minus the loop time of plain `lmp`, which can be negative by chance), and polls.\n\n"
          "| atoms | interval | " + " | ".join(PARTS) + " | pauses | polls |\n| --- | --- |" + " --- |" * (len(PARTS) + 2))
    for case in CASES:
        parts, pauses, polls = timed(*case, args.pairs)
        print(f"| {case[0]:,} | {case[1]} | " + " | ".join(f"{p:.4f}" for p in [*parts, pauses, polls]) + " |", flush=True)
    tool, extra = runpy.run_path(str(ROOT / "ci/instructions"), run_name="tool")["valgrind"]()
    few, many = counted(tool, extra, 10), counted(tool, extra, 40)
    each = {part: (many[part] - few[part]) / 30 for part in many}
    whole = sum(each.values())
    print("\nInstructions of one step and its poll, 500 atoms at interval 1, counted by callgrind. Its simulated processor "
          "has no AVX-512, so the pair style needs more instructions than in the runs of the table above. Copies are "
          "counted per byte.\n\n"
          "| part | instructions | share |\n| --- | --- | --- |")
    for part, n in each.items():
        print(f"| {part} | {n:,.0f} | {100 * n / whole:.2f} % |")
    print("\nIn earlier versions each poll ended the run of LAMMPS. The largest item was then the work that LAMMPS "
          "repeated: a command, and a second table, for which it computed temperature, pressure and energy again. LAMMPS "
          "now pauses, and writes the same row as plain `lmp`.")
    print(f"\n`ci/bench profile`, {args.pairs} pairs. {where()}")


main()
