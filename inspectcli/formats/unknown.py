"""Errors for files of no known format: what the file looks like, and what to do about it."""

from __future__ import annotations

import re
from typing import NamedTuple

from inspectcli.display.text import listed
from inspectcli.encodings.zip_end import ends_like_zip
from inspectcli.errors import (
    DamagedFileError,
    NoCheckpointError,
    NotReadableError,
    PinspectError,
    UnsupportedFormatError,
)
from inspectcli.formats.base import HEAD
from inspectcli.storage.source import Source


class Look(NamedTuple):
    """A pattern of first bytes, what such a file looks like, and the next step."""

    pattern: re.Pattern[bytes]
    what: str
    hint: str
    error: type[UnsupportedFormatError] = UnsupportedFormatError


def _look(pattern: bytes, what: str, hint: str, error: type[UnsupportedFormatError] = UnsupportedFormatError) -> Look:
    return Look(re.compile(pattern, re.DOTALL), what, hint, error)


_EXPORT = "name the checkpoint it was exported from"
_LOOKS = (
    _look(rb"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    _look(rb"\s*(?i:<!doctype|<html|<\?xml|<head|<!--)", "a web page", "the download failed: fetch the file again"),
    _look(rb"GGUF", "a GGUF file, which is not read yet", "`gguf-dump FILE` of the gguf package lists it"),
    _look(rb"(lmgg|fmgg|tjgg|algg)", "an old GGML file", "convert it to GGUF"),
    _look(rb"....TFL3", "a TensorFlow Lite model", _EXPORT),
    _look(rb"....ET\d\d", "an ExecuTorch program (.pte), whose weights are laid out for one device", _EXPORT),
    _look(rb"....FT\d\d", "tensors of an ExecuTorch program (.ptd)", _EXPORT),
    _look(rb"\x28\xb5\x2f\xfd", "zstd-compressed data", "decompress it first: `zstd -d FILE`"),
    _look(rb"\x1f\x8b", "gzip-compressed data", "decompress it first: `gunzip FILE`"),
    _look(rb"\xfd7zXZ\0", "xz-compressed data", "decompress it first: `unxz FILE`"),
    _look(rb"BZh[1-9]", "bzip2-compressed data", "decompress it first: `bunzip2 FILE`"),
    _look(rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    _look(rb"Rar!", "a rar archive", "unpack it first"),
    _look(rb"SQLite format 3\0", "a SQLite database", "perhaps hyperparameters, not a model", NoCheckpointError),
    _look(rb"\x7fELF", "an executable or shared library", "name the checkpoint itself", NoCheckpointError),
    _look(rb"MZ", "a Windows executable", "name the checkpoint itself", NoCheckpointError),
    _look(rb"(\x89PNG|\xff\xd8\xff|GIF8)", "a picture", "name the checkpoint itself", NoCheckpointError),
    _look(rb"%PDF", "a PDF document", "name the checkpoint itself", NoCheckpointError),
    _look(rb"PAR1", "a Parquet file", "name the checkpoint itself", NoCheckpointError),
    _look(rb"(ARROW1|\xff\xff\xff\xff.\x00\x00\x00)", "an Arrow file", "name the checkpoint itself", NoCheckpointError),
    _look(rb"MATLAB 5\.0", "a MATLAB 5 file", "save it with `-v7.3` (HDF5)"),
    _look(rb"\s*[\[{]", "JSON text", "name the checkpoint beside it, or its folder"),
    _look(rb"(---|[A-Za-z_][\w.-]*\s*[:=])", "text, perhaps a config", "name the checkpoint beside it, or its folder"),
)  # fmt: skip

#: Last bytes of a TensorFlow index: the magic number of a LevelDB table.
_TF_INDEX_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
#: First bytes of Core ML weights, a MIL blob of version 2: count, version, sentinels 0xDEADBEEF.
_MIL_SENTINEL = 0xDEADBEEF.to_bytes(4, "little")


def unknown_file(source: Source, head: bytes) -> PinspectError:
    """Return the error that says what the file looks like. `head` is its beginning."""
    if source.size == 0:
        return NotReadableError(
            "the file is empty (0 bytes)", "the save or the download did not finish: fetch it again"
        )
    if head.startswith(b"PK\x05\x06"):
        return UnsupportedFormatError("an empty zip archive", "the save did not finish: save it again")
    if head.startswith(b"PK\x03\x04"):
        return UnsupportedFormatError(
            f"a zip archive, but no checkpoint: {_zip_contents(source)}", "unpack it and name the file inside"
        )
    if source.read_at(max(source.size - 8, 0), min(source.size, 8)) == _TF_INDEX_MAGIC:
        return UnsupportedFormatError(
            "the index of a TensorFlow checkpoint, which is not read yet",
            "save the model as .keras or .weights.h5",
        )
    if _MIL_SENTINEL in head[:128]:
        return UnsupportedFormatError("Core ML weights, which are not read", _EXPORT)
    if ends_like_zip(source):
        return DamagedFileError(
            "not a zip by its first bytes, yet it ends like one: two readers would see two files",
            "do not load it",
        )
    if not any(head):
        return DamagedFileError(f"the first {len(head):,} bytes are zero: the file was never filled", "fetch it again")
    known = _protobuf_look(head) or next((look for look in _LOOKS if look.pattern.match(head)), None)
    if known is not None:
        return known.error(f"this looks like {known.what}", known.hint)
    shown = head[:8].hex(" ")
    if source.size < HEAD and _is_text(head):
        return UnsupportedFormatError(
            f"text of {source.size:,} bytes, not a checkpoint: {head[:24]!r}", "name the checkpoint itself"
        )
    return UnsupportedFormatError(
        f"no known checkpoint format: it begins with {shown}",
        "known are PyTorch, safetensors, HDF5/Keras and NumPy files: `pinspect --help`",
    )


#: Texts in the first bytes of model files in protobuf, which has no magic number.
_PROTOBUF_MARKS = (
    _look(rb".*(com\.apple\.|mlmodel|coremltools|com\.github\.apple)", "a Core ML model, which is not read", _EXPORT),
    _look(
        rb".*(saved_model|StatefulPartitionedCall|\x0a.{0,3}(AddV2|Assign\w*Op|Const)\x12)",
        "a TensorFlow SavedModel graph, which is not read",
        "save the model as .keras or .weights.h5",
    ),
)


#: Field 1 (ir_version), a small varint; then field 2 (producer) or 7 (graph).
_ONNX = _look(rb"\x08[\x00-\x1f][\x12:B\x1a2r]", "an ONNX model, which is not read yet", _EXPORT)


def _protobuf_look(head: bytes) -> Look | None:
    if head[:1] not in (b"\x08", b"\x0a"):
        return None
    marks = (*_PROTOBUF_MARKS, _ONNX)
    return next((look for look in marks if look.pattern.match(head)), None)


def _zip_contents(source: Source) -> str:
    from inspectcli.encodings.zip import read_directory

    names = list(read_directory(source).members)
    if not names:
        return "it is empty"
    return f"it holds {listed(names)}"


def _is_text(head: bytes) -> bool:
    return all(32 <= c < 127 or c in (9, 10, 13) for c in head)
