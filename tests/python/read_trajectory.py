# SPDX-License-Identifier: GPL-2.0-or-later
"""ASE and MDAnalysis read a trajectory, and get the same radial distribution function: read_trajectory.py DUMP EXTXYZ."""
import sys

import MDAnalysis
import numpy as np
from ase.geometry.analysis import Analysis
from ase.io import read
from MDAnalysis.analysis.rdf import InterRDF

dump, extxyz = sys.argv[1:]
frames, same = read(dump, ":", format="lammps-dump-text"), read(extxyz, ":")
assert len(frames) == len(same) == 4, (len(frames), len(same))
for a, b in zip(frames, same):
    assert a.get_chemical_symbols() == b.get_chemical_symbols() == ["Al"] * 256
    assert np.abs(a.positions - b.positions).max() < 1e-7 and np.abs(a.cell - b.cell).max() < 1e-7
    # ASE's unit of velocity; LAMMPS's extended XYZ has Å/ps.
    assert np.abs(a.get_velocities()).max() > 0
    gamma = a.arrays["f_otf_gamma"]
    assert gamma.shape[0] == 256 and np.all(gamma > 0)

# ASE needs a cell of at least twice the range.
far, bins = 8.0, 40
by_ase = np.mean(Analysis(frames).get_rdf(far, bins), axis=0)
universe = MDAnalysis.Universe(dump, format="LAMMPSDUMP", topology_format="LAMMPSDUMP", lammps_coordinate_convention="unscaled")
assert len(universe.trajectory) == 4
rdf = InterRDF(universe.atoms, universe.atoms, nbins=bins, range=(0.0, far), exclusion_block=(1, 1)).run()
by_mdanalysis = rdf.results.rdf
# MDAnalysis stores coordinates in single precision, so that a few pairs change their bin, and divides by the exact volume of a shell,
# ASE by 4 π r² dr.
edges = np.linspace(0, far, bins + 1)
exact = (edges[1:] ** 3 - edges[:-1] ** 3) / 3
approximate = ((edges[1:] + edges[:-1]) / 2) ** 2 * (far / bins)
scaled = by_mdanalysis * exact / approximate * 256 / 255 * 255 / 256
difference = np.abs(scaled - by_ase)[5:]
print(np.column_stack([by_ase, scaled]).round(3))
assert difference.max() < 0.02 * by_ase.max(), difference.max()
