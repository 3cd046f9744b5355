# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks that two runs stored the same candidates: same_candidate.py FOLDER FOLDER [--except KEY]"""
import pathlib
import sys

import ase.db
import numpy as np

one, two = (list(ase.db.connect(pathlib.Path(f) / "candidates.db").select()) for f in sys.argv[1:3])
assert len(one) == len(two) >= 1, (len(one), len(two))
for a, b in zip(one, two):
    for key in set(a.key_value_pairs) - set(sys.argv[4:]):
        x, y = a.key_value_pairs[key], b.key_value_pairs[key]
        # Another order of summation; what comes from a step earlier than chaos agrees to rounding.
        assert x == y if not isinstance(x, float) else abs(x - y) <= 1e-8 * max(1.0, abs(x)), (key, x, y)
    assert np.array_equal(a.numbers, b.numbers)
    assert np.abs(a.positions - b.positions).max() < 1e-8, np.abs(a.positions - b.positions).max()
    assert np.abs(a.cell - b.cell).max() < 1e-8
    for name in ("force_mask", "source_id"):
        assert np.array_equal(a.data[name], b.data[name]), name
