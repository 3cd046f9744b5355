# SPDX-License-Identifier: GPL-2.0-or-later
"""Labels a file with an EAM potential for Al and Cu (.eam.alloy) or Al (.eam.fs), rightly or with a mistake that users make.

    eam_oracle.py INPUT OUTPUT EAM-FILE MISTAKE

MISTAKE scf:N is a calculation that has not converged, of candidate N alone.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "potentials"))

import eamdata
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

source, target, file, mistake = sys.argv[1:]
atoms = read(source)
given = atoms.copy()
if mistake == "elements":
    given.set_chemical_symbols(["Cu" if s == "Al" else "Al" for s in atoms.get_chemical_symbols()])
if mistake == "cell":
    given.set_cell(1.08 * given.cell.array, scale_atoms=True)
eam = eamdata.Eam("eam/fs", file, ["Al"]) if file.endswith(".fs") else eamdata.Eam("eam/alloy", file, ["Al", "Cu"])
labelled = eam.label(given)
factor = {"kcal": 23.0605, "Ry": 1 / 25.711, "sign": -1.0}.get(mistake, 1.0)
energy = labelled.get_potential_energy() / {"Ry": 13.6057}.get(mistake, 1.0)
forces = factor * labelled.get_forces()
if mistake == f"scf:{atoms.info.get('candidate')}":
    forces = forces + np.random.default_rng(1).normal(scale=3.0, size=forces.shape)
assert np.isfinite(forces).all()
atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
write(target, atoms)
