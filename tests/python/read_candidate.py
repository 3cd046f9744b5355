# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a run's candidate with ASE, from the database and from extended XYZ: read_candidate.py FOLDER"""
import json
import pathlib
import sys

import ase.db
import ase.io
import numpy as np

folder = pathlib.Path(sys.argv[1])
result = json.loads((folder / "result.json").read_text())
with ase.db.connect(folder / "candidates.db") as db:
    rows = list(db.select(status="PENDING_DFT"))
assert len(rows) == 1, rows
row = rows[0]
assert row.id == result["candidates"][0]
assert row.step == result["trigger_step"]
assert abs(row.gamma - result["gamma_max"]) < 1e-12
assert row.center_id == result["atom_id"]
assert row.radius == 4.0 and row.buffer == 5.5, (row.radius, row.buffer)
assert row.potential_hash.startswith("sha256:") and row.source == "al.extxyz"

atoms = row.toatoms()
mask = np.asarray(row.data["force_mask"])
source = np.asarray(row.data["source_id"])
assert len(mask) == len(source) == len(atoms)
edge = atoms.cell.lengths()
assert atoms.pbc.all() and np.allclose(edge, edge[0]) and edge[0] >= 2 * 9.5, edge
centre = atoms.positions[row.center]
assert np.allclose(centre, edge / 2, atol=1e-9), centre
distance = np.linalg.norm(atoms.positions - centre, axis=1)
assert ((distance < 4.0) == (mask == 1.0)).all() and set(mask) == {0.0, 1.0}
assert source[row.center] == row.center_id and distance.max() < 9.5

xyz = ase.io.read(folder / "candidates" / f"candidate-{row.id:06d}.extxyz")
assert np.array_equal(xyz.positions, atoms.positions) and np.array_equal(xyz.arrays["force_mask"], mask)
assert np.array_equal(xyz.arrays["source_id"], source)
print(len(atoms), "atoms, mask on", int(mask.sum()))
