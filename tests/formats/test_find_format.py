"""A file is recognized by its bytes, by exactly one reader, whatever it is called."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.places import FIXTURES, healthy_fixtures

from inspectcli.errors import PinspectError, TruncatedFileError, UnsafeFileError
from inspectcli.formats import find_format, formats, open_checkpoint, open_source
from inspectcli.formats.base import HEAD, Format
from inspectcli.storage.local import LocalFile
from inspectcli.storage.memory import Memory

#: File -> format of its checkpoint.
EXPECTED = {
    "array.npy": "npy", "arrays.npz": "npz", "arrays_compressed.npz": "npz", "arrays_inside.pt": "torch-zip",
    "dtypes.pt": "torch-zip", "dtypes.safetensors": "safetensors", "foreign.pt": "torch-zip",
    "gpt2_tiny.safetensors": "safetensors", "gpt2_tiny_nan.safetensors": "safetensors",
    "half_trained.pt": "torch-zip",
    "gptq.safetensors": "safetensors", "lightning.ckpt": "torch-zip", "mlp.keras": "keras", "mlp.pt": "torch-zip",
    "mlp.safetensors": "safetensors", "mlp.weights.h5": "keras-weights-h5", "mlp_deflated.pt": "torch-zip",
    "mlp_keras2.h5": "keras-h5", "mlp_keras3.h5": "keras-h5", "mlp_legacy.pt": "torch-legacy",
    "mlp_pickle.pkl": "pickle", "mlp_protocol4.pt": "torch-zip", "mlp_script.pt": "torchscript",
    "mlp_tar.pt": "torch-tar", "module.pt": "torch-zip", "nonfinite.pt": "torch-zip", "other.h5": "hdf5",
    "parameters.pt": "torch-zip", "quantized.pt": "torch-zip", "run.pth.tar": "torch-zip", "sparse.pt": "torch-zip",
    "tensor.pt": "torch-zip", "views.pt": "torch-zip", "zoo.keras": "keras", "zoo_keras3.h5": "keras-h5",
    "sharded/model-00001-of-00002.safetensors": "safetensors",
    "sharded/model-00002-of-00002.safetensors": "safetensors",
    "sharded_torch/pytorch_model-00001-of-00002.bin": "torch-zip",
    "sharded_torch/pytorch_model-00002-of-00002.bin": "torch-zip",
}  # fmt: skip
#: Readers share a zip or HDF5 container between checkpoint formats.
BY_SUFFIX = {".npy": "NumPy .npy", ".npz": "NumPy .npz", ".keras": "Keras 3 archive", ".h5": "HDF5 / Keras"}
NOT_CHECKPOINTS = {".json", ".txt"}


def takers(path: Path) -> list[Format]:
    source = LocalFile(str(path))
    head = source.read_at(0, min(HEAD, source.size))
    return [f for f in formats() if f.sniff(source, head)]


def test_every_fixture_is_in_the_table() -> None:
    found = {str(p.relative_to(FIXTURES)) for p in healthy_fixtures() if p.suffix not in NOT_CHECKPOINTS}
    assert found == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_exactly_one_reader_takes_a_file(name: str) -> None:
    taken = takers(FIXTURES / name)
    assert len(taken) == 1, [f.name for f in taken]
    assert find_format(LocalFile(str(FIXTURES / name))) is taken[0]
    suffix = os.path.splitext(name)[1]
    assert taken[0].name == BY_SUFFIX.get(suffix, taken[0].name)
    assert (taken[0].name == "safetensors") == (suffix == ".safetensors")


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".safetensors", ".h5", ".tar", ".index.json", ""])
def test_the_suffix_does_not_matter(suffix: str, tmp_path: Path) -> None:
    for name, expected in EXPECTED.items():
        if expected.startswith(("keras", "hdf5")) and suffix != ".pt":
            continue  # one child process each
        copy = tmp_path / f"{name.replace('/', '_')}{suffix}"
        shutil.copyfile(FIXTURES / name, copy)
        assert open_checkpoint(copy).format == expected, copy.name
        copy.unlink()


def test_reader_names_are_unique() -> None:
    names = [f.name for f in formats()]
    assert len(names) == len(set(names))
    assert {"safetensors", "NumPy .npy", "NumPy .npz", "Keras 3 archive", "HDF5 / Keras"} <= set(names)


@pytest.mark.parametrize("name", ["mlp.pt", "arrays.npz", "mlp.keras", "mlp_script.pt"])
def test_a_zip_without_its_end_is_cut_and_no_other_format(name: str) -> None:
    data = (FIXTURES / name).read_bytes()
    with pytest.raises(TruncatedFileError, match=r"cut|missing"):
        find_format(Memory(name, data[: len(data) - 40]))


def test_a_zip_that_two_readers_see_differently_is_unsafe() -> None:
    data = (FIXTURES / "arrays.npz").read_bytes()
    with pytest.raises(UnsafeFileError):
        find_format(Memory("x", data + data))


@pytest.mark.parametrize("data", [b"", b"\0", b"hello", b"PK", b"\x89HDF", b"\x93NUM", bytes(5000)])
def test_what_is_no_checkpoint_has_no_reader(data: bytes) -> None:
    assert find_format(Memory("x", data)) is None


def test_an_error_names_the_file_the_user_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes((FIXTURES / "mlp.safetensors").read_bytes()[:-3])
    with pytest.raises(TruncatedFileError) as caught:
        open_checkpoint(path)
    assert caught.value.path == str(path)


MAGICS = st.sampled_from(
    [b"", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY\x01\x00", b"\x80\x02", b"\x80\x04\x95", b"\x08", b"\x0a", b"{",
     b"\x10\0\0\0\0\0\0\0{", b"GGUF", b"pickle\0", b"\x1f\x8b", b"]", b"(", b"version https://git-lfs"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(MAGICS, st.binary(max_size=80))
def test_no_bytes_crash_a_reader(magic: bytes, rest: bytes) -> None:
    data = magic + rest
    with suppress(PinspectError):
        assert open_source("x", Memory("x", data)).size == len(data)
