"""A folder is searched to any depth, and each file in it is accounted for."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from support.places import FIXTURES

from inspectcli.errors import LimitError, NotReadableError
from inspectcli.formats import discovery
from inspectcli.formats.discovery import search
from inspectcli.storage import locate

TENSORS = {"w": np.arange(6.0)}


def save(path: Path, tensors: dict[str, np.ndarray] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors or TENSORS, path)
    return path


def names(folder: Path) -> list[str]:
    return [os.path.relpath(str(found.place), folder).replace(os.sep, "/") for found in search(locate(folder)).found]


def test_any_depth(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*(str(i) for i in range(40)))
    save(tmp_path / "top.safetensors")
    save(deep / "deep.safetensors")
    assert names(tmp_path) == ["top.safetensors", "/".join([*(str(i) for i in range(40)), "deep.safetensors"])]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_to_folders_are_counted_and_not_followed(tmp_path: Path) -> None:
    save(tmp_path / "x" / "a.safetensors")
    (tmp_path / "x" / "again").symlink_to("..")
    (tmp_path / "x" / "link.safetensors").symlink_to("a.safetensors")
    made = search(locate(tmp_path))
    assert [found.place.name for found in made.found] == ["a.safetensors", "link.safetensors"]
    assert made.closed == 1


def test_hidden_folders_are_counted(tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors")
    save(tmp_path / ".cache" / "b.safetensors")
    made = search(locate(tmp_path))
    assert (len(made.found), made.closed) == (1, 1)


def test_too_many_files_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MAX_ENTRIES", 5)
    for i in range(6):
        (tmp_path / f"{i}.txt").touch()
    with pytest.raises(LimitError, match="more than 5 files"):
        search(locate(tmp_path))


def test_a_folder_without_one_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(NotReadableError, match="a directory without a model file"):
        search(locate(tmp_path))


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "training_args.bin", "rng_state_0.pth", "scheduler.pt", "model.fp16.safetensors", "a.pkl"]
)
def test_what_lies_beside_a_model(name: str, tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors")
    (tmp_path / name).touch()
    assert [(found.place.name, found.beside) for found in search(locate(tmp_path)).found] == [
        ("model.safetensors", False),
        (name, True),
    ]


def test_other_files_are_counted(tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors")
    for name, content in {"a.txt": b"words", "b": b"\x12\x34" * 99, "c.png": b"\x89PNG", "config.json": b"{}"}.items():
        (tmp_path / name).write_bytes(content)
    made = search(locate(tmp_path))
    assert (len(made.found), made.passed_over) == (1, 4)


def test_content_tells_without_a_suffix(tmp_path: Path) -> None:
    save(tmp_path / "weights")
    (tmp_path / "model.v2").write_bytes(pickle.dumps({"a": 1}))
    assert names(tmp_path) == ["model.v2", "weights"]


def test_shards_belong_to_their_index(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "sharded", tmp_path / "model"))
    assert names(folder) == ["model.safetensors.index.json"]
    save(folder / "model-00009-of-00002.safetensors")
    assert names(folder) == ["model.safetensors.index.json", "model-00009-of-00002.safetensors"]


def test_an_index_left_without_its_shards_beside_a_model(tmp_path: Path) -> None:
    """A repository of two formats, of which one was downloaded."""
    save(tmp_path / "model.safetensors")
    table = {"weight_map": {"w": "pytorch_model-00001-of-00001.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(table))
    assert names(tmp_path) == ["model.safetensors"]


FOREIGN = {
    "tiny.gguf": (b"GGUF" + bytes(60), "GGUF"),
    "flax_model.msgpack": (b"\x81\xa1a\x01", "MessagePack"),
    "net.onnx": (b"\x08\x07\x12\x07pytorch" + bytes(40), "ONNX"),
    "m.tflite": (bytes([28, 0, 0, 0]) + b"TFL3" + bytes(40), "TensorFlow Lite"),
    "model.pt.gz": (b"\x1f\x8b" + bytes(40), "gzip"),
    "p": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_checkpoint_of_another_format_has_its_reason(name: str, tmp_path: Path) -> None:
    content, what = FOREIGN[name]
    save(tmp_path / "z.safetensors")
    (tmp_path / name).write_bytes(content)
    first, second = search(locate(tmp_path)).found
    assert (first.place.name, second.error) == (name, None)
    assert first.error is not None
    assert what in first.error.message


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ((".metadata", "__0_0.distcp", "__1_0.distcp"), "DCP"),
        (("saved_model.pb", "variables/variables.index"), "SavedModel"),
        (("manifest.ocdbt", "d/abc"), "Orbax"),
        (("ckpt-1.index", "ckpt-1.data-00000-of-00001", "checkpoint"), "TensorFlow checkpoint"),
    ],
)
def test_a_folder_of_another_format_is_one_checkpoint(files: tuple[str, ...], what: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / "step" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "step" / name).write_bytes(b"\0" * 8)
    save(tmp_path / "step" / "beside.safetensors")
    folder, beside = search(locate(tmp_path)).found
    assert (folder.place.name, beside.place.name) == ("step", "beside.safetensors")
    assert folder.error is not None
    assert what in folder.error.message
