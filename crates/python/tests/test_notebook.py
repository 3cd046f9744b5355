# SPDX-License-Identifier: GPL-2.0-or-later
"""The notebook runs, and its loop learns."""

import importlib.util
from pathlib import Path

import pytest
from conftest import ROOT

if importlib.util.find_spec("lammps_otf._lammps") is None:
    pytest.skip("built without LAMMPS", allow_module_level=True)
# The trainer of the notebook.
pytest.importorskip("pyace")
nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOK = ROOT / "examples/notebook/heal-aluminium.ipynb"
SHORT = 'steps = 1500\nmax_rounds = 2\noutput = "healed"'


def test_the_notebook_runs_and_its_loop_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    # Its folder is one in the repository, where it finds the trainer.
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    [parameters] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source = SHORT
    where = f"import os\nos.chdir({str(tmp_path)!r})"
    paths = [cell for cell in notebook.cells if cell.cell_type == "code" and "ROOT = " in cell.source]
    # After the cell that has found the repository.
    paths[0].source += f"\n{where}"
    client = nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    client.execute()
    outputs = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "round 1: " in outputs
    # The cell with the assertion was executed.
    assert " audits: force error " in outputs
    assert (tmp_path / "healed/final/potential.yaml").is_file()


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
