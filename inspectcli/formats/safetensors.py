"""safetensors: a JSON table, then the bytes of all tensors, without gaps.

u64 N | N bytes of JSON {name: {dtype, shape, data_offsets: [begin, end]}} | data
https://github.com/safetensors/safetensors/blob/v0.8.0/README.md#format
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from math import prod
from operator import itemgetter
from typing import Any

from inspectcli.display.text import listed
from inspectcli.encodings import json as _json
from inspectcli.errors import DamagedFileError, LimitError, TruncatedFileError
from inspectcli.formats.base import Format
from inspectcli.formats.packed import mark_packed
from inspectcli.formats.torch.tree import leaf_kind
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import DTYPES, DType
from inspectcli.tensors.model import Checkpoint, TensorRef, Training

#: Above all sizes and offsets, which are u64.
_MOST_COUNT = 1 << 64
#: Bound of the reference implementation, in bytes.
MAX_HEADER = 100_000_000

_DTYPES = {d.upper(): DTYPES[d] for d in (
    "bool u8 i8 u16 i16 u32 i32 u64 i64 f16 bf16 f32 f64 c64 "
    "f8_e4m3 f8_e5m2 f8_e8m0 f8_e4m3fnuz f8_e5m2fnuz f6_e2m3 f6_e3m2 f4"
).split()}  # fmt: skip

_FRAMEWORKS = {"pt": "PyTorch", "tf": "TensorFlow", "flax": "Flax", "mlx": "MLX", "np": "NumPy", "jax": "JAX"}


def sniff(source: Source, head: bytes) -> bool:
    if len(head) < 9:
        return False
    (n,) = struct.unpack_from("<Q", head)
    # A length beyond the bound, followed by `{"`, is taken as safetensors, and gets the error about its header.
    return head[8:9] in (b"{", b" ") and (n <= MAX_HEADER or head[8:10] in (b'{"', b"{}"))


def open_safetensors(location: Location) -> Checkpoint:
    source = location.open()
    header, start = read_header(source)
    metadata = _metadata(header.pop("__metadata__", None))
    refs = _tensor_refs(source, header, start)
    framework = metadata.get("format", "")
    return Checkpoint(
        path=str(location),
        format="safetensors",
        size=source.size,
        tensors=mark_packed(refs),
        metadata={"header_bytes": start - 8, **({"metadata": metadata} if metadata else {})},
        objects=metadata,
        writer=f"safetensors ({_FRAMEWORKS.get(framework, framework)})" if framework else "safetensors",
        training=_training(metadata),
    )


def read_header(source: Source) -> tuple[dict[str, Any], int]:
    """Return (table, offset of the data in bytes).

    Raises:
        TruncatedFileError: the file ends inside the header.
        DamagedFileError: the header is not a JSON object, or repeats a name.
        LimitError: the header is too long, or nested too deeply.
    """
    if source.size < 8:
        raise TruncatedFileError(f"{source.size} bytes, but a safetensors file begins with an 8-byte header length")
    (n,) = struct.unpack("<Q", source.read_at(0, 8))
    if n > MAX_HEADER:
        raise LimitError(f"a header of {n:,} bytes: at most {MAX_HEADER:,} are allowed")
    if 8 + n > source.size:
        raise TruncatedFileError(
            f"the header needs {n:,} bytes, the file has {source.size - 8:,} after its length: "
            f"{8 + n - source.size:,} bytes are missing",
            "download it again",
        )
    raw = source.read_at(8, n)
    if not raw.lstrip(b" ").startswith(b"{"):
        raise DamagedFileError(f"the header must begin with {{: found {raw[:1]!r}")
    table = _json.parse(raw, "the header")
    if not isinstance(table, dict):
        raise DamagedFileError("the header is no JSON object")
    return table, 8 + n


def _metadata(raw: object) -> dict[str, str]:
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(v, str) for v in raw.values()):
        raise DamagedFileError("__metadata__ must map text to text")
    return raw


def _tensor_refs(source: Source, table: dict[str, object], start: int) -> list[TensorRef]:
    """Return the tensors in the order of their data, each entry checked.

    Raises:
        DamagedFileError: an entry is wrong, or ranges overlap or leave gaps.
        TruncatedFileError: the file ends before the data.
    """
    # Each description is given up as it is understood: of 100,000 tensors they take more room than all that is kept.
    entries = sorted((_entry(name, table.pop(name)) for name in tuple(table)), key=itemgetter(3, 4))
    expected = 0
    for name, _, _, begin, end in entries:
        if begin != expected:
            kind = "overlaps the one before it" if begin < expected else "leaves a hole before it"
            raise DamagedFileError(f"tensor {name[:100]!r} {kind}: begins at {begin:,}, expected {expected:,}")
        expected = end
    _check_length(source, start, expected, entries)
    shapes: dict[tuple[int, ...], tuple[int, ...]] = {}  # equal ones are one object
    return [
        TensorRef(
            name=name,
            dtype=dtype,
            shape=shapes.setdefault(shape, shape),
            kind=leaf_kind(name.rpartition(".")[2], dtype.family),
            segments=(Segment(source, start + begin, end - begin),) if end > begin else (),
        )
        for name, dtype, shape, begin, end in entries
    ]


_Entry = tuple[str, DType, tuple[int, ...], int, int]


def _entry(name: str, info: object) -> _Entry:
    if not isinstance(info, dict):
        raise DamagedFileError(f"tensor {name[:100]!r} is described by a {type(info).__name__}, expected an object")
    dtype = _DTYPES.get(info["dtype"]) if isinstance(info.get("dtype"), str) else None
    if dtype is None:
        raise DamagedFileError(f"tensor {name[:100]!r} has an unknown dtype: {str(info.get('dtype'))[:40]!r}")
    shape, offsets = info.get("shape"), info.get("data_offsets")
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:  # type: ignore[arg-type]
        raise DamagedFileError(
            f"tensor {name[:100]!r} has an impossible shape or offsets: {str(shape)[:60]}, {str(offsets)[:60]}"
        )
    begin, end = offsets  # type: ignore[misc]
    bits = prod(shape) * dtype.bits  # type: ignore[arg-type]
    if bits >= 1 << 67:
        raise DamagedFileError(f"tensor {name[:100]!r} has a shape that no memory can hold")
    if bits % 8:
        raise DamagedFileError(f"tensor {name[:100]!r} ends inside a byte: {prod(shape):,} values of {dtype.bits} bits")  # type: ignore[arg-type]
    if end - begin != bits // 8:
        raise DamagedFileError(
            f"tensor {name[:100]!r} spans {end - begin:,} bytes, its shape and dtype need {bits // 8:,}"
        )
    return name, dtype, tuple(shape), begin, end  # type: ignore[arg-type]


def _counts(value: object) -> bool:
    if not isinstance(value, list) or len(value) > 64:
        return False
    return all(type(n) is int and 0 <= n < _MOST_COUNT for n in value)


def _check_length(source: Source, start: int, data: int, entries: list[_Entry]) -> None:
    missing = start + data - source.size
    if missing > 0:
        cut = [e[0] for e in entries if start + e[4] > source.size]
        names = listed([name[:60] for name in cut])
        raise TruncatedFileError(
            f"{missing:,} bytes are missing at the end: {len(cut):,} of {len(entries):,} tensors are cut ({names})",
            "download it again",
        )
    if missing < 0:
        raise DamagedFileError(
            f"{-missing:,} bytes follow the last tensor: expected {start + data:,}, found {source.size:,}"
        )


def _training(metadata: Mapping[str, str]) -> Training:
    """Return epoch, step and optimizer, as kohya's trainers write them into the metadata."""

    def number(key: str) -> int | None:
        text = metadata.get(key, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None

    optimizer = metadata.get("ss_optimizer", "")
    return Training(number("ss_epoch"), number("ss_steps"), optimizer.partition("(")[0].rpartition(".")[2][:60])


FORMAT = Format("safetensors", "safetensors", (".safetensors",), sniff, open_safetensors)
