#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Label cut-outs with any ASE calculator.

As a worker, which labels PENDING_DFT rows of a candidate store until there are none (or indefinitely, with --wait). Any
number of workers may share a store:

    ase_oracle.py --calculator ase.calculators.emt:EMT candidates.db

For one structure, with `{input}` and `{output}` of the oracle command of a loop:

    ase_oracle.py --calculator my_dft:make --input cut.extxyz --output labelled.extxyz

worker.py runs this program, or another one, as a worker with heartbeats, a time limit and retries; use it for the store of a loop.

`--calculator` is MODULE:NAME of a class or function that returns a calculator. It is called for each structure with the
keyword arguments of `--arguments` (JSON). Requires only ASE. Exit codes: 0 all labelled, 1 a label failed.
"""
import argparse
import importlib
import json
import os
import socket
import sys
import time
import traceback
from pathlib import Path

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import read, write


def label(atoms, factory, arguments):
    """Return a copy with energy and forces, and stress if the calculator supports it."""
    # The structure must not contain the additional arrays of a cut-out, which some calculators cannot handle.
    computed = atoms.copy()
    computed.calc = factory(**arguments)
    results = {"energy": computed.get_potential_energy(), "forces": computed.get_forces(apply_constraint=False)}
    if "stress" in computed.calc.implemented_properties:
        try:
            results["stress"] = computed.get_stress(apply_constraint=False)
        except Exception as error:  # the stress of a cut-out is optional
            print(f"without stress: {error}", file=sys.stderr)
    for name, value in results.items():
        if not np.isfinite(value).all():
            raise ValueError(f"the {name} is not finite")
    computed.calc = SinglePointCalculator(computed, **results)
    computed.calc.name = getattr(factory, "__name__", "ase").lower()
    return computed


def take(database, worker):
    """Claim the first pending row and return it. Uses the lock of ASE, so that no other worker claims the same row."""
    plain = connect(database, use_lock_file=False)
    with connect(database).lock:
        row = next(plain.select(status="PENDING_DFT", limit=1, sort="id"), None)
        if row is not None:
            plain.update(row.id, status="RUNNING_DFT", worker=worker)
    return row


def work(database, factory, arguments, wait):
    """Label all pending rows. Return the number of failed ones."""
    worker = f"{socket.gethostname()}-{os.getpid()}"
    failed = 0
    while True:
        row = take(database, worker)
        if row is None:
            if wait is None:
                return failed
            time.sleep(wait)
            continue
        try:
            atoms = label(row.toatoms(), factory, arguments)
        except KeyboardInterrupt:
            connect(database).update(row.id, status="PENDING_DFT", delete_keys=["worker"])
            raise
        except Exception as error:
            failed += 1
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}"
            connect(database).update(row.id, status="FAILED", message=message, data={"error_log": traceback.format_exc()})
            print(f"row {row.id}: {message}", file=sys.stderr)
            continue
        connect(database).update(row.id, atoms=atoms, status="DONE")
        print(f"row {row.id}: {len(atoms)} atoms, {atoms.get_potential_energy():.6f} eV", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database", nargs="?", help="the candidate store to label")
    parser.add_argument("--calculator", required=True, metavar="MODULE:NAME", help="class or function that returns a calculator")
    parser.add_argument("--arguments", type=json.loads, default={}, metavar="JSON", help="keyword arguments of the calculator")
    parser.add_argument("--input", type=Path, help="one structure to label, extended XYZ")
    parser.add_argument("--output", type=Path, help="output file, extended XYZ")
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="if no row is pending, check again after this time")
    chosen = parser.parse_args()
    if (chosen.database is None) == (chosen.input is None) or (chosen.input is None) != (chosen.output is None):
        parser.error("give a store, or --input and --output")
    module, _, name = chosen.calculator.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        parser.error(f"--calculator {chosen.calculator}: {error}")
    if chosen.database:
        if not Path(chosen.database).is_file():
            parser.error(f"{chosen.database} does not exist")
        sys.exit(1 if work(chosen.database, factory, chosen.arguments, chosen.wait) else 0)
    atoms = label(read(chosen.input), factory, chosen.arguments)
    temporary = chosen.output.with_name(f".{chosen.output.name}.{os.getpid()}")
    write(temporary, atoms, format="extxyz")
    os.replace(temporary, chosen.output)


if __name__ == "__main__":
    main()
