"""Examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
from support.places import ROOT

import inspectcli

MODULES = [
    m.name
    for m in pkgutil.walk_packages(inspectcli.__path__, "inspectcli.")
    if not m.name.endswith(("__main__", "hdf5.child"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert doctest.testmod(importlib.import_module(name)).failed == 0
