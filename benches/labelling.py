# SPDX-License-Identifier: GPL-2.0-or-later
"""Wall time in which a loop labels 40 candidates, one after another and in parallel, after and during its runs: ci/bench labelling"""
import argparse
import json
import pathlib
import tempfile

from measure import PROGRAM, ROOT, launch, where

LABELS = 40
# Steps of each of four runs, and seconds of a label made during them.
STEPS, LONG = 8000, 3.0
# Labels a structure after some seconds with forces of zero: sh label.sh SECONDS INPUT OUTPUT. Needs almost no processor time.
ORACLE = r"""sleep "$1"
awk 'left == 0 { left = $1 + 1; header = 1; print; next }
     { left-- }
     header { header = 0; sub(/Properties=[^ ]*/, "&:forces:R:3"); print $0 " energy=0"; next }
     { print $0, 0, 0, 0 }' "$2" >"$3"
"""
# Every tenth step is an event, so that one round has enough candidates. The trainer refuses, so that it is the only round.
CONFIG = """
structure = "{root}/examples/al-500.extxyz"
temperature = 1500
steps = {steps}
sampling_interval = 10
uncertainty_low = 1.5
uncertainty_threshold = 2.0
regions_per_event = 4
[potential]
file = "{root}/potentials/al/Al.yaml"
[embedding]
radius = 3.0
[loop]
batch = {batch}
event_spacing = 10
select = {labels}
max_labels = {labels}
max_rounds = 1
oracle_difference = 0
{more}
[loop.oracle]
type = "command"
command = ["sh", "label.sh", "{seconds}", "{{input}}", "{{output}}"]
parallel = {parallel}
[loop.trainer]
command = ["sh", "-c", "exit 3", "{{labelled}}", "{{output}}"]
"""


def first_round(program, ranks=1, arguments=(), **settings):
    """Wall seconds of a loop of one round, and its round."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "label.sh").write_text(ORACLE)
        (folder / "loop.toml").write_text(CONFIG.format(root=ROOT, labels=LABELS, **settings))
        wall, _, said = launch([program, "loop", "loop.toml", "-q", "--json", "-o", "out", *arguments], folder, ranks, codes=(4,))
    result = next(json.loads(line) for line in reversed(said.splitlines()) if line.startswith("{"))
    first = result["rounds"][0]
    assert first["labelled"] == LABELS, first
    return wall, first


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="time of a label")
    parser.add_argument("--parallel", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--program", type=lambda path: pathlib.Path(path).resolve(), default=PROGRAM, help="lammps-otf to measure [default: the release build]")
    args = parser.parse_args()
    print(f"## Labelling in parallel\n\nWall time in which a loop labels {LABELS} candidates with a program that sleeps for {args.seconds:g} s "
          "and needs almost no processor time: the start of the programs, their files and the changes of the store are included.\n\n"
          "| `parallel` | wall time, s | sleep alone, s | over it for each label, s |\n| --- | --- | --- | --- |")
    for parallel in args.parallel:
        _, first = first_round(args.program, seconds=args.seconds, parallel=parallel, steps=2000, batch=40, more="")
        took, least = first["seconds"]["label"], args.seconds * -(-LABELS // parallel)
        print(f"| {parallel} | {took:.1f} | {least:.1f} | {(took - least) / LABELS:.3f} |", flush=True)
    print(f"""
Four runs of {STEPS} steps of 500 atoms in one round, and {LABELS} labels of {LONG:g} s each with `parallel = 4`: the wall time of the whole loop, when the labels
follow the runs, when they are made while the next runs are done (`overlap = true`), and with the runs side by side in pairs on two ranks (`--replicas 2`). *Runs* is
the wall time of the runs of the round.

| labels | `--replicas` | wall time, s | runs, s | labels alone, s |
| --- | --- | --- | --- | --- |""")
    runs = "".join(f'[[loop.run]]\nname = "run{k}"\nseed = {k}\n' for k in range(1, 5))
    for ranks in (1, 2):
        for overlap in ("false", "true"):
            wall, first = first_round(args.program, ranks, ["--replicas", ranks], seconds=LONG, parallel=4, steps=STEPS, batch=10**6, more=f"overlap = {overlap}\n{runs}")
            duration = first["seconds"]["run"] + first["seconds"]["watch"] + first["seconds"]["setup"]
            print(f"| {'during the runs' if overlap == 'true' else 'after the runs'} | {ranks} | {wall:.1f} | {duration:.1f} | {LONG * LABELS / 4:.1f} |", flush=True)
    build = "" if args.program == PROGRAM else f" Program: {args.program.parent.name}/{args.program.name}."
    print(f"\n`ci/bench labelling`.{build} {where()}")


main()
