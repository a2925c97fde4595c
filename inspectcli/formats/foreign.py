"""Checkpoints of formats that are not read: told in a folder from files of any other kind, and named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from inspectcli.errors import NoCheckpointError, PinspectError, UnsupportedFormatError
from inspectcli.formats.folder import model_suffixes
from inspectcli.formats.unknown import unknown_file
from inspectcli.storage.source import Source

_EXPORTED = "name the checkpoint it was exported from"

#: Suffix -> what has it. Formats that begin with no magic number, or with one that says too little.
_BY_SUFFIX = {
    ".gguf": "a GGUF file",
    ".ggml": "a GGML file",
    ".onnx": "an ONNX model",
    ".tflite": "a TensorFlow Lite model",
    ".msgpack": "MessagePack, as Flax writes checkpoints",
    ".distcp": "a part of a distributed checkpoint of torch",
    ".pt2": "an exported program of torch",
    ".pte": "a program of ExecuTorch",
    ".pdparams": "a PaddlePaddle checkpoint",
    ".mlmodel": "a Core ML model",
    ".caffemodel": "a Caffe model",
    ".engine": "a TensorRT engine",
    ".trt": "a TensorRT engine",
    ".nemo": "a NeMo archive",
    ".mar": "a TorchServe archive",
}
#: First words of what `unknown_file` says of checkpoints that have a magic number.
_FOREIGN_WORDS = re.compile(r"GGUF|GGML|ONNX|TensorFlow|Core ML|exported program|Git LFS")
_COMPRESSED = (".gz", ".zst", ".xz", ".bz2", ".7z", ".zip")


class ForeignFolder(NamedTuple):
    """A folder that is one checkpoint of a format that is not read.

    Attributes:
        mark: of the name of a file that only such a folder has.
        parts: of the names of all that belongs to it.
        what: what it is.
    """

    mark: re.Pattern[str]
    parts: re.Pattern[str]
    what: str

    @property
    def error(self) -> PinspectError:
        return UnsupportedFormatError(f"this looks like {self.what}, which is not read", "convert it to safetensors")


_FOLDERS = (
    ForeignFolder(
        re.compile(r".+\.distcp"), re.compile(r".+\.distcp|\.metadata"), "a distributed checkpoint of torch (DCP)"
    ),
    ForeignFolder(
        re.compile(r"saved_model\.pb(txt)?"),
        re.compile(r"saved_model\.pb(txt)?|keras_metadata\.pb|fingerprint\.pb|variables|assets(\.extra)?"),
        "a TensorFlow SavedModel",
    ),
    ForeignFolder(
        re.compile(r"manifest\.ocdbt|_METADATA"),
        re.compile(r"manifest\.ocdbt|_METADATA|_CHECKPOINT_METADATA|_sharding|d|ocdbt\.process_\d+|array_metadatas"),
        "an Orbax checkpoint",
    ),
    ForeignFolder(
        re.compile(r".+\.data-\d{5}-of-\d{5}"),
        re.compile(r".+\.data-\d{5}-of-\d{5}|.+\.index|checkpoint"),
        "a TensorFlow checkpoint",
    ),
)  # fmt: skip


def foreign_folder(names: Sequence[str]) -> ForeignFolder | None:
    """The kind of checkpoint that a folder with these names in it is, if it is one that is not read."""
    return next((kind for kind in _FOLDERS if any(kind.mark.fullmatch(name) for name in names)), None)


def foreign_file(source: Source, head: bytes, name: str) -> PinspectError | None:
    """Why a file that no reader knows is a checkpoint all the same; None if nothing says so.

    Args:
        source: the file.
        head: its beginning.
        name: in lower case.
    """
    said = unknown_file(source, head)
    if isinstance(said, NoCheckpointError):
        return None
    if _FOREIGN_WORDS.search(said.message):
        return said
    packed = next((name.removesuffix(end) for end in _COMPRESSED if name.endswith(end)), "")
    if packed.endswith(model_suffixes()):
        return said
    if name.endswith(".zip") and any(f"{suffix}" in said.message for suffix in model_suffixes()):
        return said
    what = next((what for suffix, what in _BY_SUFFIX.items() if name.endswith(suffix)), None)
    if what is None:
        return None
    return UnsupportedFormatError(f"this looks like {what}, which is not read", _EXPORTED)
