# SPDX-License-Identifier: GPL-2.0-or-later
"""Read a data frame with gracemaker's data builder, and check the weights: FILE.pckl.gzip.

Requires tensorpotential, TensorFlow and matscipy (`pip install tensorpotential`), which ci/setup does not install.
"""
import sys

import numpy as np
import pandas as pd
from tensorpotential.data.databuilder import ReferenceEnergyForcesStressesDataBuilder

frame = pd.read_pickle(sys.argv[1], compression="gzip")
builder = ReferenceEnergyForcesStressesDataBuilder(normalize_weights=False)
rows = [builder.extract_from_row(row, structure_id=np.array([k])) for k, (_, row) in enumerate(frame.iterrows())]
batch = builder.join_to_batch(rows)
# The same numbers, in the form that the loss function reads: one row for each atom or structure.
assert np.allclose(batch["force_weight"].ravel(), np.concatenate(list(frame["force_weight"])))
assert np.allclose(batch["energy_weight"].ravel(), list(frame["energy_weight"]))
assert np.allclose(batch["true_force"], np.concatenate(list(frame["forces"])))
assert np.allclose(batch["true_energy"].ravel(), list(frame["energy_corrected"]))
print(f"{len(frame)} structures, {int((batch['force_weight'] > 0).sum())} of {len(batch['force_weight'])} atoms with a weight")
