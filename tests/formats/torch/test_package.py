"""torch.package: the tensors of its pickles, and none of its code."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import pytest
import torch
from support.locations import in_memory
from torch.package import PackageExporter, PackageImporter

from inspectcli.errors import LimitError
from inspectcli.formats import open_file
from inspectcli.formats.torch import package
from inspectcli.tensors.model import Checkpoint, aliases

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage")


def packed(**pickles: object) -> bytes:
    file = io.BytesIO()
    with PackageExporter(file) as exporter:
        exporter.extern(["torch.**", "posix", "os"])
        for name, value in pickles.items():
            exporter.save_pickle("model", f"{name}.pkl", value)
        exporter.save_source_string("helper", "raise SystemExit('run')")
    return file.getvalue()


def opened(data: bytes) -> Checkpoint:
    return open_file(in_memory("x.pt", data))


def test_the_tensors_of_a_package_are_those_that_torch_loads() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    data = packed(net=model)
    made = opened(data)
    loaded = PackageImporter(io.BytesIO(data)).load_pickle("model", "net.pkl").state_dict()
    assert {t.name for t in made} == set(loaded)
    for tensor in made:
        np.testing.assert_array_equal(tensor.numpy(), loaded[tensor.name].numpy())
    assert (made.format, made.hazards) == ("torch-package", ())
    assert made.notes == ("1 code file was not looked at: it runs when the package is loaded",)


def test_of_several_pickles_each_has_its_name_and_they_share_storages() -> None:
    layer = torch.nn.Linear(4, 3)
    made = opened(packed(a=layer, b=layer.state_dict()))
    assert [t.name for t in made] == ["model.a.weight", "model.a.bias", "model.b.weight", "model.b.bias"]
    assert aliases(made.tensors) == {2: "model.a.weight", 3: "model.a.bias"}


class Runs:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("true",)


def test_a_call_in_a_package_is_a_hazard() -> None:
    (hazard,) = opened(packed(a=Runs())).hazards
    assert "system" in hazard.what
    assert "a.pkl" in hazard.where


def test_too_many_pickles_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "MAX_PICKLES", 1)
    with pytest.raises(LimitError, match="2 pickles"):
        opened(packed(a={}, b={}))
