# SPDX-License-Identifier: GPL-2.0-or-later
"""Wall time in which a loop labels 40 candidates, one after another and in parallel: ci/bench labelling"""
import argparse
import json
import pathlib
import tempfile

from measure import PROGRAM, ROOT, launch, where

LABELS = 40
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
steps = 2000
sampling_interval = 10
uncertainty_low = 1.5
uncertainty_threshold = 2.0
regions_per_event = 4
[potential]
file = "{root}/potentials/al/Al.yaml"
[embedding]
radius = 3.0
[loop]
batch = 40
event_spacing = 10
select = {labels}
max_labels = {labels}
max_rounds = 1
oracle_difference = 0
[loop.oracle]
type = "command"
command = ["sh", "label.sh", "{seconds}", "{{input}}", "{{output}}"]
parallel = {parallel}
[loop.trainer]
command = ["sh", "-c", "exit 3", "{{labelled}}", "{{output}}"]
"""


def labelling(program, seconds, parallel):
    """Seconds of the loop's labelling phase."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "label.sh").write_text(ORACLE)
        (folder / "loop.toml").write_text(CONFIG.format(root=ROOT, labels=LABELS, seconds=seconds, parallel=parallel))
        said = launch([program, "loop", "loop.toml", "-q", "--json", "-o", "out"], folder, codes=(4,))[2]
    result = next(json.loads(line) for line in reversed(said.splitlines()) if line.startswith("{"))
    first = result["rounds"][0]
    assert first["labelled"] == LABELS, first
    return first["seconds"]["label"]


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
        took, least = labelling(args.program, args.seconds, parallel), args.seconds * -(-LABELS // parallel)
        print(f"| {parallel} | {took:.1f} | {least:.1f} | {(took - least) / LABELS:.3f} |", flush=True)
    build = "" if args.program == PROGRAM else f" Program: {args.program.parent.name}/{args.program.name}."
    print(f"\n`ci/bench labelling`.{build} {where()}")


main()
