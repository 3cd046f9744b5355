# SPDX-License-Identifier: GPL-2.0-or-later
"""Fits with pacemaker, the program of python-ace for non-linear ACE potentials, in this process.

The evaluator `tensorpot` requires TensorFlow and tensorpotential (ci/requirements-pacemaker.txt), `pyace` only python-ace.
pacemaker's command is not used, because it requires matplotlib; its class GeneralACEFit does the fit.
"""
import pacefit  # first: it sets the number of BLAS threads
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

SEED = 42
# Read by TensorFlow when it is imported. Without these settings, two fits of the same data differ, or use a GPU.
ENVIRONMENT = {"TF_NUM_INTEROP_THREADS": "1", "TF_DETERMINISTIC_OPS": "1", "TF_ENABLE_ONEDNN_OPTS": "0", "TF_USE_LEGACY_KERAS": "1",
               "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}


def data_frame(base, labelled, energy_weights, cutout_weight):
    """The data frame of pacemaker."""
    rows = []
    for atoms, w_energy in zip(base, pacefit.energy_weights(base)):
        rows.append((atoms, w_energy, pacefit.masks([atoms])))
    for atoms, w_energy in zip(labelled, energy_weights):
        rows.append((atoms, cutout_weight * w_energy, cutout_weight * pacefit.masks([atoms])))
    return pd.DataFrame({
        "ase_atoms": [pacefit.bare(atoms) for atoms, _, _ in rows],
        "energy_corrected": [atoms.get_potential_energy() for atoms, _, _ in rows],
        "forces": [atoms.get_forces(apply_constraint=False) for atoms, _, _ in rows],
        "w_energy": [float(w) for _, w, _ in rows],
        "w_forces": [np.array(w) for _, _, w in rows],
    })


def run(potential, frame, energy_factor, evaluator="tensorpot", iterations=100, trainable="ALL", ridge=1e-8, batch=100,
        threads=1):
    """Fit with pacemaker. `potential` is a BBasisConfiguration to start from, or pacemaker's dictionary of a new one. Returns a
    BBasisConfiguration and the number of iterations."""
    os.environ.update(ENVIRONMENT, TF_NUM_INTRAOP_THREADS=str(threads))
    if evaluator == "tensorpot":
        try:
            import tensorpotential.compat.pace  # noqa: F401
        except ImportError as error:
            raise SystemExit(f"the evaluator tensorpot cannot be imported ({error}). Install ci/requirements-pacemaker.txt, or use --evaluator pyace")
    from pyace.generalfit import GeneralACEFit

    energies, forces = frame["w_energy"].sum(), sum(w.sum() for w in frame["w_forces"])
    if not (energies > 0 and forces > 0):
        raise SystemExit("the data have no energy or no force with a weight above 0")
    # pacemaker divides both weights by their sums.
    kappa = 1.0 / (1.0 + energy_factor**2 * energies / forces)
    backend = {"evaluator": evaluator, "display_step": 20}
    backend.update({"batch_size": batch} if evaluator == "tensorpot" else
                   {"parallel_mode": "process" if threads > 1 else "serial", "n_workers": threads})
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="pacemaker-") as folder:
        # pacemaker writes its files to the current folder.
        os.chdir(folder)
        try:
            frame.to_pickle("data.pckl.gzip", compression="gzip", protocol=4)
            fit = GeneralACEFit(
                potential_config=potential, data_config={"filename": "data.pckl.gzip"}, backend_config=backend, seed=SEED,
                fit_config={
                    "loss": {"kappa": float(kappa), "L1_coeffs": ridge, "L2_coeffs": ridge},
                    "optimizer": "BFGS", "maxiter": iterations, "trainable_parameters": trainable,
                })
            fitted = fit.fit()
        finally:
            os.chdir(here)
    # Times, versions and the name of the user, which differ between identical fits.
    for key in list(fitted.metadata.keys()):
        del fitted.metadata[key]
    return fitted, int(fit.fit_backend.res_opt.nit)
