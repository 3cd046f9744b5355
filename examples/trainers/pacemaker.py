#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Upfit an ACE potential with pacemaker, also a non-linear one, to its original data and labelled cut-outs.

This is the trainer of a loop. It can also be run by hand:

    .deps/bin/python3 examples/trainers/pacemaker.py --base base.extxyz --test test.extxyz \\
        --labelled labelled.extxyz --potential Al.yaml --active-set Al.asi --output refit

pacemaker (python-ace) starts from the coefficients of `--potential` and minimises its loss function over the base and the
cut-outs. The new potential has the same functions. The weights of its data frame are:

- `w_forces` (per atom): the force mask. Atoms with mask 0 are not fitted.
- `w_energy`: 1 for a frame of the base and 0 for a cut-out, unless the frame has the key `energy_weight`.

`kappa` of the loss is set from `--energy-factor`, so that energies and forces have the same relative weights as in
`pace_linear.py`, however many cut-outs there are. pacemaker does not fit stress.

Two evaluators of pacemaker can be used:

- `tensorpot` (default) has gradients. Requires TensorFlow and tensorpotential: `ci/requirements-pacemaker.txt`. Install them into
  a folder and set `PYTHONPATH`, as `ci/demo-loop --pacemaker` does.
- `pyace` needs only python-ace, but its optimiser computes gradients by finite differences: each costs one evaluation per
  coefficient. Use it for small potentials, with `--trainable func` and few iterations.

The active set is computed from all data with the new potential, because its radial functions may have changed: MaxVol over
all atoms of the base, enlarged by core atoms of the cut-outs above `--tolerance`. `pace_activeset` would also use the atoms
near the boundaries of cut-outs.

Files and exit codes are those of `pace_linear.py`. The same input gives identical files on the same machine with the same
number of `--threads`.
"""
import protocol  # first: it sets the number of BLAS threads
import contextlib
import logging
import sys

import numpy as np
import pacefit
import pacemakerfit
import pyace.activelearning as active
from protocol import write_atomic


def arguments():
    parser = protocol.options(__doc__.splitlines()[0])
    parser.add_argument("--evaluator", choices=["tensorpot", "pyace"], default="tensorpot", help="evaluator of pacemaker (default tensorpot)")
    parser.add_argument("--iterations", type=int, default=100, metavar="N", help="maximum number of BFGS iterations (default 100)")
    parser.add_argument("--trainable", choices=["ALL", "func", "radial"], default="ALL",
                        help="coefficients to fit: all, those of functions, those of radial functions (default ALL)")
    parser.add_argument("--ridge", type=float, default=1e-8, metavar="W", help="L1 and L2 weights of the coefficients (default 1e-8)")
    parser.add_argument("--batch", type=int, default=100, metavar="N", help="structures in one evaluation of tensorpot (default 100)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of tensorpot, processes of pyace (default 1)")
    return parser.parse_args()


def main():
    from pyace import BBasisConfiguration

    chosen = arguments()
    for name in ("labelled", "potential", "active_set", "output", "base", "test"):
        if getattr(chosen, name):
            setattr(chosen, name, getattr(chosen, name).absolute())
    parent = pacefit.load(chosen.potential)
    data = protocol.Data(chosen, parent)
    start = BBasisConfiguration(str(chosen.potential))
    # pacemaker would subtract the reference energies a second time.
    reference = {k: v for k, v in start.metadata.items() if k == "reference_energy"}
    for key in list(start.metadata.keys()):
        del start.metadata[key]
    frame = pacemakerfit.data_frame(data.base, data.labelled, data.label_weights("energy_weight"), chosen.cutout_weight)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with contextlib.redirect_stdout(sys.stderr):
        fitted, iterations = pacemakerfit.run(start, frame, chosen.energy_factor, chosen.evaluator, chosen.iterations, chosen.trainable,
                                              chosen.ridge, chosen.batch, chosen.threads)
    for key, value in reference.items():
        fitted.metadata[key] = value
    chosen.output.mkdir(parents=True, exist_ok=True)
    write_atomic(chosen.output / protocol.POTENTIAL, lambda temporary: fitted.save(temporary))

    basis = pacefit.load(chosen.output / protocol.POTENTIAL)
    chosen_rows = active.compute_active_set(pacefit.projections(basis, data.base), tol=1.001)
    inverse = {mu: np.ascontiguousarray(m) for mu, m in active.compute_A_active_inverse(chosen_rows).items()}
    rows = active.compute_B_projections(basis, [pacefit.bare(a) for a in data.labelled])
    exchanges = protocol.enlarge_and_save(chosen.output / protocol.ACTIVE_SET, basis, inverse, rows, data, chosen.tolerance)
    protocol.finish(chosen, data, parent, exchanges, evaluator=chosen.evaluator, iterations=iterations)


if __name__ == "__main__":
    main()
