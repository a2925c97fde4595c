"""What a loader says of a file: first what must be left alone, then what must be found."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from models.judged import codes, findings, write
from support.places import FIXTURES, healthy_fixtures
from torch import nn

from inspectcli.formats import open_checkpoint

CODES = ("PI429", "PI430", "PI431")


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


VALUES: dict[str, object] = {
    "plain": {"w": drawn(3, 2), "epoch": 3, "size": torch.Size([2]), "dtype": torch.float32, "b": bytearray(b"a")},
    "ordered": collections.OrderedDict(w=drawn(2)),
    "parameter": {"w": nn.Parameter(drawn(2, 2))},
    "types": {str(t): torch.zeros(2, dtype=t) for t in (torch.bfloat16, torch.uint16, torch.float8_e4m3fn, torch.bool)},
    "quantized": {"w": torch.quantize_per_tensor(drawn(4, 4), 0.1, 0, torch.qint8)},
    "sparse": {"w": torch.eye(3).to_sparse()},
    "set and complex": {"a": {1, 2}, "c": 1 + 2j, "n": collections.Counter("ab"), "d": torch.device("cpu")},
    "namespace": {"w": drawn(2), "args": argparse.Namespace(lr=0.1)},
    "class": {"w": drawn(2), "layer": nn.Tanh},
    "numpy": {"w": drawn(2), "best": np.float64(0.5)},
    "array": {"w": np.arange(3.0)},
    "path": {"w": drawn(2), "p": pathlib.PurePosixPath("a")},
    "date": {"w": drawn(2), "d": datetime.date(2020, 1, 2)},
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("new", [True, False], ids=["zip", "stream"])
def test_torch_itself_says_what_it_refuses(name: str, new: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(VALUES[name], path, _use_new_zipfile_serialization=new)
    refused = False
    try:
        torch.load(path, weights_only=True)
    except pickle.UnpicklingError:
        refused = True
    except AttributeError:
        assert name == "types"  # torch 2.13 cannot load unsigned types from a stream, whatever is allowed
    assert codes(findings(path, "PI429")) == ["PI429"] * refused


def test_the_list_is_that_of_torch() -> None:
    from torch._weights_only_unpickler import _get_allowed_globals

    from inspectcli.pickles.allowed import is_allowed

    assert [path for path in _get_allowed_globals() if not is_allowed(path)] == []
    others = ["torch.load", "os.system", "torch._utils._rebuild_xla_tensor", "torch.int", "torch.FloatStorage.x", "x"]
    assert [path for path in others if is_allowed(path)] == []


def test_the_suffixes_of_healthy_files_do_not_lie() -> None:
    for path in healthy_fixtures():
        if path.suffix in (".pt", ".pth", ".ckpt", ".safetensors", ".keras", ".h5", ".npz", ".npy"):
            assert findings(path, "PI430") == (), path


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("mlp.pt", "m.safetensors"),
        ("mlp.safetensors", "pytorch_model.bin"),
        ("mlp.safetensors", "m.h5"),
        ("mlp.pt", "m.npz"),
        ("mlp.pt", "m.keras"),
    ],
)
def test_a_suffix_that_lies(source: str, name: str, tmp_path: Path) -> None:
    shutil.copy(FIXTURES / source, tmp_path / name)
    assert codes(findings(tmp_path / name, *CODES)) == ["PI430"]


BASE = drawn(300, 120)
FLAT = drawn(1000)


@pytest.mark.parametrize(
    "tensors",
    [
        {"w": BASE[:6].clone()},
        {"a": FLAT[:400].view(20, 20), "b": FLAT[400:].view(20, 30)},
        {"enc": BASE, "dec": BASE, "turned": BASE.t()},
        {"w": BASE[:200]},
        {"w": drawn(8, 8)[:1]},
        {"w": torch.ones(1).expand(100, 100)},
    ],
    ids=["clone", "flat", "tied", "most of it", "small", "expanded"],
)
def test_storages_that_are_used(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    assert findings(write(tmp_path / "m.pt", tensors), "PI431") == ()


@pytest.mark.parametrize(
    "tensors",
    [{"w": BASE[:6]}, {"w": BASE[:, :3]}, {"w": BASE[100:106], "same": BASE[100:106]}],
    ids=["rows", "columns", "tied"],
)
def test_a_storage_that_a_view_dragged_along(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = write(tmp_path / "m.pt", tensors)
    (found,) = findings(path, "PI431")
    assert (found.code, found.figures["storage"]) == ("PI431", 144_000)
    assert found.figures["used"] == open_checkpoint(path)["w"].nbytes
    assert "clone()" in found.message
