# SPDX-License-Identifier: GPL-2.0-or-later
"""How memory, traffic and time of a watched run grow with the number of atoms: ci/bench scale

Runs the same input with lammps-otf and with plain lmp, on the same number of ranks, and writes what it measured and what
follows from it to docs/scaling.md. Run `ci/setup` and `cargo build --release` first; 8 million atoms take some 4 GB.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPS = ROOT / ".deps"
# Cubic cells along each edge, 4 atoms in each.
SIZES = {"0.1": 29, "1": 63, "8": 126}
STEPS, INTERVAL = 30, 5

# A cheap potential, and the kinetic energy as uncertainty: one atom is pushed until it passes the threshold.
CONFIG = """\
create = [
    "lattice fcc 4.05",
    "region box block 0 {cells} 0 {cells} 0 {cells}",
    "create_box 1 box",
    "create_atoms 1 box",
    "mass 1 26.98",
]
elements = ["Al"]
ensemble = "nve"
temperature = 300
steps = {steps}
sampling_interval = {interval}
checkpoint_interval = 0
uncertainty = {{ compute = "u" }}
uncertainty_threshold = 3.0
uncertainty_low = 3.0
setup = ["compute u all ke/atom", "group one id {pushed}", "fix push one addforce 15 0 0"]

[potential]
pair_style = "lj/cut 4.5"
pair_coeff = ["* * 0.392 2.62"]
cutoff = 4.5

[embedding]
radius = 4.0
"""

# Largest resident memory of a program, in bytes, on the last line of standard error.
MEASURE = """\
import os, sys
child = os.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
print("peak", usage.ru_maxrss * 1024, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def launch(ranks, folder, arguments, wanted):
    """Runs under MPI; gives the memory of all ranks together."""
    command = [DEPS / "bin/mpiexec", "-n", str(ranks), sys.executable, "-I", "-c", MEASURE, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3600)
    if done.returncode != wanted:
        sys.exit(f"{command}\nended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    peaks = [int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("peak ")]
    assert len(peaks) == ranks, done.stderr
    return sum(peaks)


def measure(cells, ranks, plain=True):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        text = CONFIG.format(cells=cells, steps=STEPS, interval=INTERVAL, pushed=2 * cells**3)
        (folder / "run.toml").write_text(text)
        program = ROOT / "target/release/lammps-otf"
        ours = launch(ranks, folder, [program, "run", "run.toml", "-q", "-o", "out"], 4)
        result = json.loads((folder / "out/result.json").read_text())
        assert len(result["candidates"]) == 1 and result["atom_id"] == 2 * cells**3, result
        theirs = None
        if plain:
            # As many steps as the watched run did.
            script = (folder / "out/md.in").read_text().replace(f"run             {STEPS}", f"run {result['steps']}")
            (folder / "out/plain.in").write_text(script)
            lmp = next((DEPS / "py/lib").glob("python3*/site-packages/lammps/lmp"))
            theirs = launch(ranks, folder / "out", [lmp, "-in", "plain.in", "-log", "none", "-screen", "none"], 0)
        return {
            "atoms": result["atoms"],
            "ranks": ranks,
            "step": result["trigger_step"],
            "seconds": result["seconds"],
            "steps": result["steps"],
            "ours": ours,
            "plain": theirs,
            **result["cost"],
        }


def main():
    for name in sys.argv[1:] or SIZES:
        print(json.dumps(measure(SIZES[name], 2)), flush=True)


main()
