# SPDX-License-Identifier: GPL-2.0-or-later
"""Radial distribution functions by ASE and mean square displacements by MDAnalysis: analyse_trajectory.py DUMP RANGE BINS EVERY.

Prints JSON: g by pair of elements, averaged over every EVERY-th frame, and the MSD in Å² by element at all lags up to half of the
frames, of unwrapped coordinates relative to the centre of mass."""
import json
import sys

import MDAnalysis
import numpy as np
from ase.data import atomic_numbers
from ase.geometry.rdf import get_rdf
from ase.io import read
from MDAnalysis.analysis.msd import EinsteinMSD
from MDAnalysis.coordinates.memory import MemoryReader

dump, far, bins, every = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
frames = read(dump, ":", format="lammps-dump-text")
symbols = np.array(frames[0].get_chemical_symbols())
elements = sorted(set(symbols), key=lambda symbol: frames[0].numbers[symbols == symbol][0])

rdf = {}
for a, first in enumerate(elements):
    for second in elements[a:]:
        pair = [atomic_numbers[first], atomic_numbers[second]]
        g = np.mean([get_rdf(frame, far, bins, elements=pair, no_dists=True) for frame in frames[::every]], axis=0)
        # ASE divides by the density of all atoms.
        rdf[f"{first}–{second}"] = list(g * len(symbols) / np.count_nonzero(symbols == second))

# ASE wraps no atom, and ignores image flags.
rows, images = open(dump).read().split("\n"), []
size = len(symbols) + 9
names = rows[8].split()[2:]
columns = [names.index(name) for name in ("ix", "iy", "iz")]
for k in range(len(frames)):
    images.append([[int(row.split()[c]) for c in columns] for row in rows[k * size + 9:(k + 1) * size]])
paths = np.array([frame.positions + np.array(n) @ frame.cell.array for frame, n in zip(frames, images)])
masses = frames[0].get_masses()
paths -= np.average(paths, axis=1, weights=masses)[:, None, :]
universe = MDAnalysis.Universe.empty(len(symbols), trajectory=False)
universe.add_TopologyAttr("names", symbols)
universe.load_new(paths.astype(np.float32), format=MemoryReader)
msd = {}
for element in elements:
    by_mdanalysis = EinsteinMSD(universe, select=f"name {element}", msd_type="xyz", fft=False).run().results.timeseries
    msd[element] = list(map(float, by_mdanalysis[: len(frames) // 2 + 1]))
print(json.dumps({"rdf": rdf, "msd": msd}))
