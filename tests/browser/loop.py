#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a loop for the browser to look at, and makes a folder whose names and messages try to be HTML.

    loop.py PROGRAM WORK [--whole]

WORK/al-melt is a run that is there. WORK/al-heal becomes a short loop; with --whole that of ci/demo-loop.
WORK/hostile becomes a run with hostile texts, and its report.
"""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ase.build import bulk
from ase.db import connect
from ase.io import write

root = Path(__file__).resolve().parents[2]
program, work = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
whole = "--whole" in sys.argv
data = root / "out/al-heal/data" if whole else work / "data"
python = root / ".deps/bin/python3"
eam = root / ".deps/share/lammps/potentials/Al_mm.eam.fs"

if not (data / "testing.extxyz").exists():
    subprocess.run([python, root / "potentials/al/fit.py", "--data", data], check=True, stdout=subprocess.DEVNULL)
if whole:
    config = root / "examples/loops/al-heal.toml"
else:
    write(work / "al.extxyz", bulk("Al", "fcc", a=4.05, cubic=True) * (5, 5, 5))
    config = work / "loop.toml"
    trainer = [str(python), str(root / "examples/trainers/pace_linear.py"), "--base", str(data / "training.extxyz"),
               "--test", str(data / "testing.extxyz")]
    for word in ["labelled", "potential", "active-set", "output"]:
        trainer += [f"--{word}", "{" + word.replace("-", "_") + "}"]
    config.write_text(f"""
structure = "al.extxyz"
temperature = [500, 1200]
steps = 1500
sampling_interval = 10
seed = 12345
[potential]
file = "{root}/potentials/al-soft/Al.yaml"
[embedding]
radius = 4.0
[trajectory]
interval = 50
[loop]
batch = 2
select = 3
max_rounds = 5
resume_from = "start"
[loop.oracle]
type = "lammps"
pair_style = "eam/fs"
pair_coeff = ["* * {eam} Al"]
[loop.trainer]
command = {json.dumps(trainer)}
""")
environment = os.environ | {"LAMMPS_POTENTIALS": str(eam.parent)}
code = subprocess.run([program, "--quiet", "loop", config, "--output", work / "al-heal"], env=environment).returncode
if code not in (0, 4):
    sys.exit(f"the loop ended with {code}")

hostile = work / "hostile"
shutil.copytree(work / "al-melt", hostile)
evil = "</script><img src=x onerror=broken=1><script>broken=2</script>"
for name, place in [("run.json", ("config", "structure")), ("result.json", ("warnings",))]:
    content = json.loads((hostile / name).read_text())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = [evil] if place[-1] == "warnings" else evil
    (hostile / name).write_text(json.dumps(content))
with connect(hostile / "candidates.db") as db:
    db.update(1, message=evil, trigger="<b>why</b>")
subprocess.run([program, "--quiet", "report", hostile], check=True)
