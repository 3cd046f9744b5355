# SPDX-License-Identifier: GPL-2.0-or-later
"""`ACE` compared with python-ace's calculator."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from conftest import POTENTIALS, ROOT, crystal, structures

from lammps_otf import ACE

pyace = pytest.importorskip("pyace", reason="python-ace is not installed")

# Energies are sums of some 1e4 products of numbers of order 1, in another order: 1e-12 of the energy, or 1e-12 eV per atom. Radial
# functions are cubic splines in both programs, evaluated by different formulas, and forces have their derivatives, hence 1e-9
# of the largest force, stress 1e-8 of the largest component (of at least 1 eV/Å and 1e-3 eV/Å³). γ is a product with an inverse
# matrix with a condition number up to 1e6; the tolerance is that of the tests of pace-opt.
ENERGY, FORCE, STRESS, GAMMA = 1e-12, 1e-9, 1e-8, 1e-8


def compare(potential: Path, structure: Atoms, *, random: bool = False) -> None:
    ours, theirs = structure.copy(), structure.copy()
    ours.calc = ACE(potential)
    if theirs.pbc.any() and not theirs.pbc.all():
        # python-ace refuses partly periodic cells: vacuum beyond the cutoff does the same.
        theirs.center(vacuum=ours.calc.cutoff, axis=np.flatnonzero(~theirs.pbc))
        theirs.pbc = True
    theirs.calc = pyace.PyACECalculator(str(potential))
    theirs.calc.set_active_set(str(potential.with_suffix(".asi")))
    want = theirs.get_potential_energy()
    # The terms of a random potential cancel; its tolerance is that of the tests of pace-opt.
    tolerance = 1e-10 if random else ENERGY
    assert ours.get_potential_energy() == pytest.approx(want, rel=tolerance, abs=tolerance * len(ours))
    a, b = ours.calc.results, theirs.calc.results
    assert a["free_energy"] == a["energy"]
    np.testing.assert_allclose(a["energies"], b["energies"], rtol=0, atol=tolerance * max(1, np.abs(b["energies"]).max()))
    np.testing.assert_allclose(a["forces"], b["forces"], rtol=0, atol=FORCE * max(1, np.abs(b["forces"]).max()))
    assert ("stress" in a) == ("stress" in b) == (structure.cell.rank == 3)
    if "stress" in a:
        stress = b["stress"] * theirs.get_volume() / ours.get_volume()
        np.testing.assert_allclose(a["stress"], stress, rtol=0, atol=STRESS * max(1e-3, np.abs(stress).max()))
    np.testing.assert_allclose(a["gamma"], b["gamma"], rtol=0, atol=GAMMA * max(1e-3, np.abs(b["gamma"]).max()))


@pytest.mark.parametrize("name", structures(["Al"]))
@pytest.mark.parametrize("potential", POTENTIALS)
def test_results_equal_those_of_python_ace(potential: str, name: str) -> None:
    file = POTENTIALS[potential]
    compare(file, structures(ACE(file).elements)[name])


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    ["al74", "alcu", "chebpow", "chebexpcos3", "zbl2", "ternary", "quaternary", "order5", "zbl1", "nonlinear"],
)
def test_random_bases(tmp_path: Path, name: str) -> None:
    sys.path.insert(0, str(ROOT / "crates/pace-opt/tests/reference"))
    import bases

    bases.make(str(tmp_path), name, bases.BASES[name], list(bases.BASES).index(name))
    file = tmp_path / f"{name}.yaml"
    elements = ACE(file).elements
    rng = np.random.default_rng(5)
    for scale, rattle in ((1.0, 0.05), (1.05, 0.3), (0.85, 0.05)):
        atoms = crystal(3, rattle, scale)
        atoms.set_chemical_symbols(list(rng.choice(elements, len(atoms))))
        compare(file, atoms, random=True)
