# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory, traffic and time of a monitored run as functions of the number of atoms: ci/bench scale

Runs the same input with lammps-otf and with plain lmp on the same number of ranks, and prints measurements and a model for
docs/scaling.md. Run `ci/setup` and `cargo build --release` first. 8 million atoms require some 4 GB.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from measure import where

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPS = ROOT / ".deps"
# Number of cubic cells (4 atoms each) along each edge.
SIZES = {"0.1": 29, "1": 63, "8": 126}
STEPS, INTERVAL = 30, 5

# A cheap potential with the kinetic energy as uncertainty. One atom is accelerated until it passes the threshold.
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

# Prints the peak resident memory of a program in bytes to standard error.
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
    """Runs under MPI. Returns the total memory of all ranks."""
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
            # The number of steps of the monitored run.
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
    names = sys.argv[1:] or list(SIZES)
    rows = [measure(SIZES[name], 2) for name in names]
    for row in rows:
        print(json.dumps(row), file=sys.stderr)
    print("""\
Cost of monitoring on two ranks: Lennard-Jones with the kinetic energy of each atom as uncertainty, created by LAMMPS
itself (`create`), a poll every 5 steps, an event after a few polls. Memory is the peak of both ranks together, above plain `lmp`
on the same input. Bytes are those that this program passes to MPI. Times are those of the slowest rank.

| atoms | memory above `lmp`, bytes/atom | one poll, ms | telling all ranks the region, ms each time | bytes for a poll | one region, ms | bytes for a region |
| --- | --- | --- | --- | --- | --- | --- |""")
    for r in rows:
        polls = r["polls"]
        cells = [
            f"{r['atoms']:,}",
            f"{(r['ours'] - r['plain']) / r['atoms']:.0f}",
            f"{1e3 * r['poll_seconds'] / polls:.2f}",
            f"{1e3 * r['shared_seconds'] / r['shares']:.2f}",
            f"{r['poll_bytes'] / polls:,.0f}",
            f"{1e3 * r['region_seconds'] / r['regions']:.1f}",
            f"{r['region_bytes'] / r['regions']:,.0f}",
        ]
        print("| " + " | ".join(cells) + " |")
    # The slope comes from the largest run, the part independent of the number of atoms from the smallest.
    large, small = max(rows, key=lambda r: r["atoms"]), min(rows, key=lambda r: r["atoms"])
    alone = (large["poll_seconds"] - large["shared_seconds"]) / large["polls"]
    slope = (alone + large["shared_seconds"] / large["shares"]) / (large["atoms"] / 2)
    region = small["region_seconds"] / small["regions"]
    share = large["shared_seconds"] / large["shares"] / (large["atoms"] / 2)
    travelling = small["shared_bytes"] / small["shares"]
    histogram = (small["poll_bytes"] - small["shared_bytes"]) / small["polls"] / 2
    latency, bandwidth = 2e-6, 10e9
    print(f"""
The following model extrapolates to sizes that were not measured. A poll of N atoms on P ranks takes N/P × {1e9 * slope:.1f} ns (checks, γ, the kept frame,
and the region that is sent to all ranks, as in one of several polls of a quiet run); a latency per level of a tree for each of 3
small reductions and for the region, which is one gather of counts and a broadcast from each rank that has a part of it, up to 8 at
a corner, of {travelling / 1e3:.0f} kB together; and a message from each rank to rank 0, where atoms have changed ranks. A region takes the scan,
N/P × {1e9 * share:.1f} ns, one gather of its atoms, and {1e3 * region:.0f} ms on rank 0 for checking and storing. Measured here: the times per atom,
the bytes, the time on rank 0. Assumed, because one machine cannot measure them: {1e6 * latency:.0f} µs for a message between nodes, {bandwidth / 1e9:.0f} GB/s, and
one message per rank for a gather on rank 0.

| atoms | ranks | one poll, ms | one region, ms | bytes that all ranks send for a poll |
| --- | --- | --- | --- | --- |""")
    import math

    for atoms, ranks in [(1e6, 16), (1e8, 1024), (1e9, 1e4)]:
        levels = math.ceil(math.log2(ranks))
        poll = atoms / ranks * slope + 12 * levels * latency + ranks * latency + levels * travelling / bandwidth
        event = atoms / ranks * share + region + 6 * levels * latency + ranks * latency
        bytes_sent = ranks * histogram + travelling
        print(f"| {atoms:.0e} | {ranks:,.0f} | {1e3 * poll:.1f} | {1e3 * event:.1f} | {bytes_sent:,.0f} |")
    print(f"\n`ci/bench scale`. {where()}")


main()
