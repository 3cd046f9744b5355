# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of the reference is up to date, and complete."""

import importlib.util
import inspect
from types import ModuleType

from conftest import ROOT

import lammps_otf


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "crates/python/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date() -> None:
    module = generator()
    assert module.PAGE.read_text() == module.page(), "run `python3 crates/python/reference.py`"


def test_everything_public_is_documented() -> None:
    page = generator().page()
    for name in lammps_otf.__all__:
        if name.startswith("__"):
            continue
        value = getattr(lammps_otf, name)
        assert f"## `{name}`" in page
        assert inspect.getdoc(value), name
        if not inspect.isclass(value):
            continue
        for member, method in vars(value).items():
            if callable(method) and not member.startswith("_"):
                assert f"### `{name}.{member}`" in page
                assert inspect.getdoc(method), f"{name}.{member}"
