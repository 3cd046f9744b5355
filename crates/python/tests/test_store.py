# SPDX-License-Identifier: GPL-2.0-or-later
"""The candidate store, and ASE's database module on the same file."""

from pathlib import Path

import ase.db
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from conftest import crystal

from lammps_otf import Store, StoreError


def nonzero(store: Store) -> dict[str, int]:
    return {status: count for status, count in store.counts().items() if count}


def test_a_candidate_is_added_claimed_and_labelled(tmp_path: Path) -> None:
    file = tmp_path / "candidates.db"
    store = Store(file, create=True)
    atoms = crystal(1)
    mask = [1.0, 0.0, 0.5, 1.0]
    first = store.add(atoms, mask, energy_weight=0)
    second = store.add(crystal(2))
    assert store.ids() == store.ids("PENDING_DFT") == [first, second]
    assert len(store) == 2
    claimed = store.claim()
    assert claimed is not None
    assert (claimed.id, claimed.status, claimed.worker) == (first, "RUNNING_DFT", store.worker)
    assert claimed.force_mask.tolist() == mask
    assert claimed.keys["energy_weight"] == 0
    np.testing.assert_array_equal(claimed.atoms.positions, atoms.positions)
    np.testing.assert_array_equal(claimed.atoms.cell.array, atoms.cell.array)
    # Another worker gets the other one, and cannot finish this one.
    other = Store(file)
    theirs = other.claim()
    assert theirs is not None
    assert theirs.id == second
    assert other.claim() is None
    claimed.atoms.calc = EMT()
    with pytest.raises(StoreError, match="claim"):
        other.finish(claimed)
    store.heartbeat(claimed)
    store.finish(claimed)
    other.fail(theirs, "no convergence\nin 100 cycles")
    assert nonzero(store) == {"DONE": 1, "FAILED": 1}
    done = store[first]
    assert done.atoms.get_potential_energy() == claimed.atoms.get_potential_energy()
    np.testing.assert_array_equal(done.atoms.get_forces(), claimed.atoms.get_forces())
    np.testing.assert_allclose(done.atoms.get_stress(), claimed.atoms.get_stress(), rtol=1e-15)
    assert store[second].message == "no convergence"
    row = ase.db.connect(file).get(status="DONE")
    assert row.energy == done.atoms.get_potential_energy()
    assert row.calculator == "emt"


def test_a_calculator_labels_all(tmp_path: Path) -> None:
    store = Store(tmp_path / "candidates.db", create=True)
    ids = [store.add(crystal(1, 0.1 * k)) for k in range(3)]
    # EMT has no parameters for Ta.
    bad = store.add(Atoms("Ta2", positions=[[0, 0, 0], [2, 2, 2]], cell=[9] * 3, pbc=True))
    assert store.label(EMT(), limit=1) == ids[:1]
    assert store.label(EMT()) == ids[1:]
    failed = store[bad]
    assert failed.status == "FAILED"
    assert failed.message
    assert [c.status for c in store] == ["DONE"] * 3 + ["FAILED"]
    store.set_status(failed, "PENDING_DFT")

    class Stopped(EMT):
        def calculate(self, *arguments: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.label(Stopped())
    assert nonzero(store) == {"DONE": 3, "PENDING_DFT": 1}
    store.claim()
    assert store.release_stale(3600) == []
    assert store.release_stale(0) == [bad]


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no candidate store"):
        Store(tmp_path / "missing.db")
    text = tmp_path / "text.db"
    text.write_text("not a database, but longer than the header of one, so that SQLite reads it as one. " * 5)
    with pytest.raises(StoreError, match="not an SQLite database"):
        Store(text)
    store = Store(tmp_path / "candidates.db", create=True)
    with pytest.raises(KeyError):
        store[7]
    with pytest.raises(ValueError, match="status"):
        store.ids("READY")
    with pytest.raises(ValueError, match="force_mask"):
        store.add(crystal(1), [1.0])
    store.add(crystal(1))
    claimed = store.claim()
    with pytest.raises(ValueError, match="no calculator"):
        store.finish(claimed)
    wrong = crystal(2)
    wrong.calc = EMT()
    with pytest.raises(ValueError, match="forces"):
        store.finish(claimed, wrong)
    with pytest.raises(StoreError):
        store.set_status(claimed, "DONE")
