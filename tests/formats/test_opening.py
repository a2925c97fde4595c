"""Opening reads headers: no more parts of a file, no more bytes and no other files than it takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.places import FIXTURES

from inspectcli.errors import UnsupportedFormatError
from inspectcli.formats import open_checkpoint
from inspectcli.storage.local import LocalFile

#: Fixture -> (reads, bytes) when a format was given a path and an open file. More would be slower.
MOST = {
    "array.npy": (3, 318),
    "arrays.npz": (24, 5824),
    "arrays_compressed.npz": (17, 4834),
    "arrays_inside.pt": (15, 5766),
    "dtypes.pt": (35, 16817),
    "dtypes.safetensors": (3, 4192),
    "foreign.pt": (15, 4630),
    "gpt2_tiny.safetensors": (3, 16248),
    "gpt2_tiny_nan.safetensors": (3, 10320),
    "gptq.safetensors": (3, 1712),
    "half_trained.pt": (31, 74390),
    "lightning.ckpt": (32, 15644),
    "mlp.keras": (10, 32764),
    "mlp.pt": (18, 6231),
    "mlp.safetensors": (3, 696),
    "mlp.weights.h5": (3, 8196),
    "mlp_deflated.pt": (17, 4800),
    "mlp_keras2.h5": (3, 8200),
    "mlp_keras3.h5": (3, 8196),
    "mlp_legacy.pt": (10, 4062),
    "mlp_pickle.pkl": (3, 2838),
    "mlp_protocol4.pt": (18, 6587),
    "mlp_script.pt": (26, 13076),
    "mlp_tar.pt": (31, 9083),
    "module.pt": (36, 24266),
    "nonfinite.pt": (17, 5886),
    "other.h5": (2, 8192),
    "parameters.pt": (16, 5418),
    "quantized.pt": (20, 8696),
    "run.pth.tar": (23, 11102),
    "sharded/model-00001-of-00002.safetensors": (3, 400),
    "sharded/model-00002-of-00002.safetensors": (3, 376),
    "sharded/model.safetensors.index.json": (8, 1120),
    "sharded_torch/pytorch_model-00001-of-00002.bin": (16, 6065),
    "sharded_torch/pytorch_model-00002-of-00002.bin": (16, 5937),
    "sharded_torch/pytorch_model.bin.index.json": (34, 12346),
    "sparse.pt": (22, 10011),
    "tensor.pt": (15, 4271),
    "views.pt": (21, 9288),
    "zoo.keras": (10, 91865),
    "zoo_keras3.h5": (3, 8196),
    "sharded": (8, 1120),
    "sharded_torch": (34, 12346),
}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(file, bytes) of each read."""
    real, log = LocalFile.read_into, []

    def read_into(self: LocalFile, offset: int, buffer: memoryview) -> None:
        log.append((self.path, len(buffer)))
        real(self, offset, buffer)

    monkeypatch.setattr(LocalFile, "read_into", read_into)
    return log


@pytest.mark.parametrize("name", MOST)
def test_headers_take_no_more_than_they_did(name: str, log: list[tuple[str, int]]) -> None:
    checkpoint = open_checkpoint(FIXTURES / name)
    assert len(log) <= MOST[name][0]
    assert sum(n for _, n in log) <= MOST[name][1]
    assert {path for path, _ in log} == {source.name for source in checkpoint.sources}


def test_a_file_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = LocalFile.__init__
    monkeypatch.setattr(LocalFile, "__init__", lambda self, path: (opened.append(path), real(self, path))[1])
    for name in ("mlp.safetensors", "mlp.pt", "mlp.keras", "array.npy", "mlp_legacy.pt"):
        open_checkpoint(FIXTURES / name)
    folder = FIXTURES / "sharded"
    open_checkpoint(folder)
    names = ("model.safetensors.index.json", *(f"model-0000{i}-of-00002.safetensors" for i in (1, 2)))
    assert opened[5:] == [str(folder / name) for name in names]
    assert len(opened) == len(set(opened)) == 8


@pytest.mark.parametrize("named", ["model.safetensors.index.json", "other.index.json"])
def test_an_index_is_no_shard_of_an_index(named: str, tmp_path: Path) -> None:
    # It would be read without end: a shard is a file by itself.
    text = json.dumps({"metadata": {}, "weight_map": {"w": named}})
    (tmp_path / "model.safetensors.index.json").write_text(text)
    if named.startswith("other"):
        shutil.copytree(FIXTURES / "sharded", tmp_path, dirs_exist_ok=True)
        (tmp_path / "model.safetensors.index.json").rename(tmp_path / named)
        (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UnsupportedFormatError, match="JSON text") as caught:
        open_checkpoint(tmp_path)
    assert caught.value.path == str(tmp_path / named)


def test_a_shard_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "sharded", tmp_path / "model"))
    shard = folder / "model-00001-of-00002.safetensors"
    shard.rename(tmp_path / "model.safetensors")
    shard.mkdir()
    (tmp_path / "model.safetensors").rename(shard / "model.safetensors")
    with pytest.raises(Exception, match="not a regular file: found a directory"):
        open_checkpoint(folder)
