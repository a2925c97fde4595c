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

#: Fixture -> (reads, bytes), with those that ask whether the file is of another kind too. More would be slower.
MOST = {
    "array.npy": (7, 890),
    "arrays.npz": (29, 7929),
    "arrays_compressed.npz": (21, 6486),
    "arrays_inside.pt": (26, 8012),
    "dtypes.pt": (66, 18188),
    "dtypes.safetensors": (10, 10432),
    "foreign.pt": (25, 6506),
    "gpt2_tiny.safetensors": (19, 103405),
    "gpt2_tiny_nan.safetensors": (15, 76981),
    "gptq.safetensors": (9, 5256),
    "half_trained.pt": (62, 83009),
    "lightning.ckpt": (60, 16075),
    "mlp.keras": (10, 32764),
    "mlp.pt": (32, 8711),
    "mlp.safetensors": (7, 1904),
    "mlp.weights.h5": (4, 25020),
    "mlp_deflated.pt": (30, 6601),
    "mlp_keras2.h5": (4, 25072),
    "mlp_keras3.h5": (4, 28340),
    "mlp_legacy.pt": (14, 5668),
    "mlp_pickle.pkl": (7, 5700),
    "mlp_protocol4.pt": (32, 9167),
    "mlp_script.pt": (44, 14876),
    "mlp_tar.pt": (39, 20395),
    "module.pt": (69, 26121),
    "nonfinite.pt": (30, 8256),
    "other.h5": (3, 41168),
    "parameters.pt": (27, 7582),
    "quantized.pt": (36, 12224),
    "run.pth.tar": (42, 15498),
    "sharded/model-00001-of-00002.safetensors": (7, 1104),
    "sharded/model-00002-of-00002.safetensors": (7, 1008),
    "sharded/model.safetensors.index.json": (20, 3240),
    "sharded_torch/pytorch_model-00001-of-00002.bin": (28, 8401),
    "sharded_torch/pytorch_model-00002-of-00002.bin": (28, 8185),
    "sharded_torch/pytorch_model.bin.index.json": (62, 17714),
    "sparse.pt": (40, 13953),
    "tensor.pt": (25, 5964),
    "views.pt": (37, 12942),
    "zoo.keras": (10, 91865),
    "zoo_keras3.h5": (4, 70681),
    "sharded": (20, 3240),
    "sharded_torch": (62, 17714),
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
def test_headers_take_no_more_than_this(name: str, log: list[tuple[str, int]]) -> None:
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
