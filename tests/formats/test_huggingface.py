"""In a model folder of Hugging Face the names say which file is the model, whatever else lies there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from support.places import FIXTURES

from inspectcli.errors import NotReadableError
from inspectcli.formats import open_checkpoint
from inspectcli.formats.discovery import models_in, search
from inspectcli.storage import locate

#: As transformers, diffusers and peft look for them; the first that is there.
ORDER = [
    "model.safetensors", "model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors", "adapter_model.safetensors", "pytorch_model.bin",
    "pytorch_model.bin.index.json", "adapter_model.bin", "model.weights.h5", "tf_model.h5",
]  # fmt: skip


def names(folder: Path) -> list[str]:
    return [place.name for place in models_in(locate(folder))]


def test_the_best_name_is_the_model(tmp_path: Path) -> None:
    (tmp_path / "another.safetensors").touch()
    for name in reversed(ORDER):
        (tmp_path / name).touch()
        assert names(tmp_path) == [name]


def test_the_model_is_opened_under_its_own_name(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"w": np.arange(3.0)}, tmp_path / "adapter_model.safetensors")
    safetensors.numpy.save_file({"x": np.arange(3.0)}, tmp_path / "best.safetensors")
    made = open_checkpoint(tmp_path)
    assert (made.path, made.format) == (str(tmp_path / "adapter_model.safetensors"), "safetensors")
    assert made.location == locate(tmp_path / "adapter_model.safetensors")
    assert [t.name for t in made] == ["w"]


def test_an_index_beats_the_whole_file_beside_it(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "sharded", tmp_path / "model"))
    safetensors.numpy.save_file({"x": np.zeros(1)}, folder / "pytorch_model.bin")
    made = open_checkpoint(folder)
    assert made.path == str(folder / "model.safetensors.index.json")
    assert len(made) == len(open_checkpoint(FIXTURES / "sharded"))


def test_of_several_indexes_none_is_the_model(tmp_path: Path) -> None:
    for name in ("b.index.json", "a.index.json", "a-00001-of-00001.safetensors", "whole.safetensors"):
        (tmp_path / name).touch()
    assert names(tmp_path) == ["a.index.json", "b.index.json"]
    with pytest.raises(NotReadableError, match=r"a directory with 2 models: a\.index\.json, b\.index\.json"):
        open_checkpoint(tmp_path)


def test_what_lies_beside_and_below_the_model_is_found_too(tmp_path: Path) -> None:
    for name in ("model.safetensors", "pytorch_model.bin", "onnx/model.safetensors", "original/consolidated.00.pth"):
        (tmp_path / "repo" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repo" / name).touch()
    found = {str(f.place)[len(str(tmp_path)) + 6 :]: f.beside for f in search(locate(tmp_path)).found}
    assert found == {
        "model.safetensors": False,
        "pytorch_model.bin": True,
        "onnx/model.safetensors": False,
        "original/consolidated.00.pth": False,
    }
