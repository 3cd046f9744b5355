#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Label candidates of a store with a program. Any number of workers, also on several machines, may share a store:

    worker.py candidates.db -- python3 label.py {input} {output}

The program is that of an oracle with type = "command": it reads one structure from {input} and writes it with energy and forces
to {output}, both extended XYZ; its exit code must be 0. ase_oracle.py is such a program for any ASE calculator.

In the store of a loop, only candidates that the loop has selected (key `selected`) are labelled; --all labels every pending row.
While the program runs, the worker renews its claim (--heartbeat), so that the claim of a worker that was killed can be
recognised and released: `claim_timeout` of the loop, or `lammps-otf candidates release`. On SIGTERM and SIGINT the program is
ended and the row is pending again. Requires only ASE. Exit codes: 0 no row is left, 1 a label failed, 128 + N ended by signal N.
"""
import argparse
import fnmatch
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import read, write

# Seconds for which the store may be locked, and after which an unchanged lock file belongs to a process that was killed.
PATIENCE, STALE_LOCK = 600, 60
# Set by launchers of MPI, and removed for programs that use MPI themselves.
LAUNCHER = ("PMI_", "PMIX_", "HYDI_", "HYDRA_", "MPIR_", "OMPI_", "MPI_LOCAL")
HOST = socket.gethostname().split(".")[0]
# Beginning of the names of scratch folders: process ids are those of this host and, in a container, of its namespace.
SCRATCH = f"otf-label-{HOST}-{os.stat('/proc/self/ns/pid').st_ino if os.path.exists('/proc/self/ns/pid') else 0}-"
LOG_LENGTH = 32 * 1024


class ClaimLost(Exception):
    """The row was released, and another worker may have claimed it."""


class Stopped(Exception):
    """A signal asked the worker to stop."""


class Store:
    """Changes rows while holding the lock of ASE, under the name of this worker."""

    def __init__(self, path, worker, every_row):
        self.path, self.worker = path, worker
        self.lock = connect(path).lock
        self.lock.timeout = 20
        self.plain = connect(path, use_lock_file=False)
        self.selection = None if every_row or not self.is_of_loop() else "selected"

    def is_of_loop(self):
        with sqlite3.connect(f"file:{Path(self.path).absolute()}?mode=ro", uri=True, timeout=PATIENCE) as connection:
            try:
                return connection.execute("SELECT count(*) FROM otf_rounds").fetchone()[0] > 0
            except sqlite3.OperationalError:  # not a store of lammps-otf
                return False

    def change(self, work):
        """Call `work` while holding the lock, and return its result. Waits for other processes."""
        started = time.monotonic()
        while True:
            try:
                with self.lock:
                    return work()
            except (TimeoutError, sqlite3.OperationalError):
                if time.monotonic() - started > PATIENCE:
                    raise
                self.remove_stale_lock()

    def remove_stale_lock(self):
        """Remove a lock file that does not change for a minute. Like lammps-otf, hold the write lock of the database."""
        path = Path(self.lock.name)

        def state():
            try:
                return path.stat().st_mtime_ns, path.read_bytes()
            except OSError:
                return None

        before = state()
        for _ in range(STALE_LOCK):
            if before is None or state() != before:
                return
            time.sleep(1)
        connection = sqlite3.connect(self.path, timeout=20, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            if state() == before:
                path.unlink(missing_ok=True)
        finally:
            connection.close()

    def claim(self, max_claims):
        """Claim the first pending row and return it; None if there is none."""
        def work():
            for row in list(self.plain.select(self.selection, status="PENDING_DFT", sort="id", columns=["id", "key_value_pairs"])):
                claims = int(row.get("attempts", 0)) + 1
                if claims > max_claims:
                    message = f"it was claimed {claims - 1} times without a result"
                    self.plain.update(row.id, status="FAILED", message=message)
                    continue
                self.plain.update(row.id, status="RUNNING_DFT", worker=self.worker, claimed_at=time.time(), attempts=claims)
                return self.plain.get(id=row.id)
            return None
        return self.change(work)

    def update(self, id, **changes):
        """Change a row that this worker has claimed."""
        def work():
            row = next(self.plain.select(id=id), None)
            if row is None or row.get("status") != "RUNNING_DFT" or row.get("worker") != self.worker:
                raise ClaimLost
            self.plain.update(id, **changes)
        self.change(work)


def unique_name():
    """A name that no other worker has, also if process ids are reused: host, process, time, and the ids of Slurm."""
    job, array, task, rank = (os.environ.get(f"SLURM_{name}") for name in ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "PROCID"))
    slurm = f"-job{array}_{task}" if array and task else f"-job{job}" if job else ""
    slurm += f"-task{rank}" if slurm and rank else ""
    return f"worker-{HOST}-{os.getpid()}-{time.time_ns() // 1_000_000:x}{slurm}"


def remove_old_scratch(folder):
    """Remove the scratch folders of workers of this host that no longer run."""
    for name in fnmatch.filter(os.listdir(folder), f"{SCRATCH}*-*"):
        process = name[len(SCRATCH):].split("-")[0]
        if process.isdigit() and not Path(f"/proc/{process}").exists() and Path("/proc/self").exists():
            shutil.rmtree(Path(folder, name), ignore_errors=True)


def end(child):
    """Kill a program with its child processes."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


def run(command, log, timeout, heartbeat, alive, stopped):
    """Run a program, and call `alive` every `heartbeat` seconds. Raise RuntimeError if it fails or exceeds its time limit."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHER)}
    with open(log, "ab") as out:
        # A process group of its own, so that its child processes can be killed with it.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True)
    started = renewed = time.monotonic()
    try:
        while True:
            try:
                code = child.wait(timeout=0.1)
                break
            except subprocess.TimeoutExpired:
                pass
            now = time.monotonic()
            if stopped():
                raise Stopped
            if timeout is not None and now - started > timeout:
                raise RuntimeError(f"{command[0]} was killed after {timeout:g} s, its time limit")
            if now - renewed > heartbeat:
                alive()
                renewed = now
    except BaseException:
        end(child)
        raise
    if code != 0:
        raise RuntimeError(f"{command[0]} ended with exit code {code}")


def results(output, given):
    """Read energy, forces and stress from a file. Return the atoms with a calculator that has them."""
    if not output.exists():
        raise RuntimeError(f"it did not write {output.name}")
    found = read(output)
    if found.calc is None or not {"energy", "forces"} <= set(found.calc.results):
        raise RuntimeError(f"{output.name} has no energy= or no column forces")
    if sorted(found.numbers) != sorted(given.numbers):
        raise RuntimeError(f"{output.name} has other atoms than the candidate")
    values = {name: found.calc.results[name] for name in ("energy", "free_energy", "forces", "stress") if name in found.calc.results}
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise RuntimeError(f"the {name} is not finite")
    # The file has fewer digits than the store. Atoms in another order are stored as they are; lammps-otf restores the order.
    is_same = (found.numbers == given.numbers).all() and np.allclose(found.positions, given.positions, rtol=0, atol=1e-5)
    atoms = (given if is_same else found).copy()
    atoms.calc = SinglePointCalculator(atoms, **values)
    atoms.calc.name = "worker"
    return atoms


def label(store, row, chosen, stopped):
    """Label a claimed row, with retries. Return its atoms with the results, and None if it failed."""
    given = row.toatoms()
    # The data are in the order of the stored atoms, which is that of the row unless another worker has changed it.
    given.info["candidate"] = row.id
    for name in ("force_mask", "source_id"):
        if len(row.data.get(name, ())) == len(given):
            given.arrays[name] = np.asarray(row.data[name])
    for attempt in range(chosen.retries + 1):
        with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-", dir=chosen.scratch, ignore_cleanup_errors=True) as folder:
            source, output, log = (Path(folder, name).absolute() for name in ("input.extxyz", "output.extxyz", "log"))
            write(source, given, format="extxyz")
            command = [word.replace("{input}", str(source)).replace("{output}", str(output)) for word in chosen.command]
            try:
                run(command, log, chosen.timeout, chosen.heartbeat, lambda: store.update(row.id, claimed_at=time.time()), stopped)
                atoms = results(output, row.toatoms())
                store.update(row.id, atoms=atoms, status="DONE", delete_keys=["claimed_at"])
                return atoms
            except (ClaimLost, Stopped):
                raise
            except Exception as error:  # the row and standard error state the reason
                text = log.read_bytes()[-LOG_LENGTH:].decode(errors="replace") if log.exists() else ""
                message = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                print(f"row {row.id}: {message}", file=sys.stderr, flush=True)
                failure = {"message": message, "data": {"error_log": f"{message}\n{text}"}}
    store.update(row.id, status="FAILED", delete_keys=["claimed_at"], **failure)
    return None


def work(store, chosen, stopped):
    """Label rows until none is pending for `chosen.idle` seconds. Return the number of failed ones."""
    failed, last = 0, time.monotonic()
    while not stopped():
        row = store.claim(chosen.max_claims)
        if row is None:
            if time.monotonic() - last >= chosen.idle:
                return failed
            time.sleep(min(chosen.poll, max(0.1, chosen.idle)))
            continue
        try:
            atoms = label(store, row, chosen, stopped)
        except ClaimLost:
            print(f"row {row.id}: the claim was released, the result is dropped", file=sys.stderr, flush=True)
            continue
        except Stopped:
            release(store, row)
            break
        finally:
            last = time.monotonic()
        if atoms is None:
            failed += 1
        else:
            print(f"row {row.id}: {len(atoms)} atoms, {atoms.get_potential_energy():.6f} eV", flush=True)
    return failed


def release(store, row):
    try:
        store.update(row.id, status="PENDING_DFT", delete_keys=["worker", "claimed_at"])
        print(f"row {row.id}: released", file=sys.stderr, flush=True)
    except ClaimLost:
        pass


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    seconds = {"type": float, "metavar": "SECONDS"}
    parser.add_argument("store", help="the candidate store, candidates.db")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="program and arguments, with {input} and {output}; after --")
    parser.add_argument("--idle", default=0.0, **seconds, help="end if no row was pending for this time; inf: never [default: 0]")
    parser.add_argument("--timeout", default=None, **seconds, help="time limit of the program [default: unlimited]")
    parser.add_argument("--retries", type=int, default=0, metavar="N", help="repeat the program after a failure [default: 0]")
    parser.add_argument("--heartbeat", default=30.0, **seconds, help="interval at which the claim is renewed [default: 30]")
    parser.add_argument("--poll", default=2.0, **seconds, help="interval at which the store is checked for rows [default: 2]")
    parser.add_argument("--max-claims", type=int, default=5, metavar="N", help="a row that was claimed N times without a result fails [default: 5]")
    parser.add_argument("--scratch", default=None, metavar="DIR", help="folder for temporary files [default: $TMPDIR or /tmp]")
    parser.add_argument("--all", action="store_true", help="label every pending row, also if a loop did not select it")
    chosen = parser.parse_args()
    for name in ("{input}", "{output}"):
        if not any(name in word for word in chosen.command):
            parser.error(f"the command has no {name}")
    if not Path(chosen.store).is_file():
        parser.error(f"{chosen.store} does not exist")
    chosen.scratch = chosen.scratch or tempfile.gettempdir()
    return chosen


def main():
    chosen = arguments()
    received = []
    # Only a flag, so that a change of the store is never left half done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: received.append(number))
    remove_old_scratch(chosen.scratch)
    failed = work(Store(chosen.store, unique_name(), chosen.all), chosen, lambda: bool(received))
    sys.exit(128 + received[0] if received else 1 if failed else 0)


if __name__ == "__main__":
    main()
