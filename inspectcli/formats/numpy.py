"""NumPy arrays (.npy), and zip archives of them (.npz).

    \\x93NUMPY major minor | u16 or u32 length | {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } | data
    https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
The header is a Python literal. Its three entries are matched as text; nothing is evaluated.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Container
from math import prod
from typing import NamedTuple

from inspectcli.display.text import listed, plural
from inspectcli.encodings.zip import Member, inflate, read_directory, try_directory
from inspectcli.errors import DamagedFileError, LimitError, PinspectError, TruncatedFileError
from inspectcli.formats.base import Format
from inspectcli.formats.packed import mark_packed
from inspectcli.formats.torch.archive import member_hazards
from inspectcli.formats.torch.tree import leaf_kind
from inspectcli.pickles.sweep import Budget
from inspectcli.storage.location import Location
from inspectcli.storage.memory import Memory, Window
from inspectcli.storage.source import Source
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import DTYPES, DType
from inspectcli.tensors.model import Checkpoint, Hazard, Kind, TensorRef

MAGIC = b"\x93NUMPY"
MAX_HEADER = 64 << 10

_CODES = {
    "f8": "f64", "f4": "f32", "f2": "f16", "i8": "i64", "i4": "i32", "i2": "i16", "i1": "i8", "u8": "u64", "u4": "u32",
    "u2": "u16", "u1": "u8", "b1": "bool", "c8": "c64", "c16": "c128",
    # The types of ml_dtypes are void of their width, but for float8_e5m2. Of 2 bytes there is bfloat16, of 1 byte many.
    "V2": "bf16", "V1": "bits8", "f1": "f8_e5m2",
}  # fmt: skip
_NOTES = {"V2": "V2: read as bf16", "V1": "V1: float8, int4 or another type of 1 byte, which NumPy does not name"}

#: What arrays hold that are not read, by the letter of their type: whether these are numbers, and which.
_UNREAD = {
    "f": (True, "of long double, whose bytes depend on the machine"),
    "c": (True, "of complex long double, whose bytes depend on the machine"),
    "V": (True, "of records, or of a type that NumPy does not name"),
    "S": (False, "of text"),
    "a": (False, "of text"),
    "U": (False, "of text"),
    "T": (False, "of text"),
    "M": (False, "of dates"),
    "m": (False, "of durations"),
    "O": (False, "of Python objects"),
}
#: Of these, Keras writes at least one beside its config.json.
_BESIDE_CONFIG = ("metadata.json", "model.weights.h5", "model.weights.npz")
#: Files inside an archive of arrays that make it an archive of models.
_MODELS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".h5", ".hdf5", ".keras", ".npz", ".pkl", ".mar", ".zip")

#: The header is a dict of three entries in any order. Two of them have values of a fixed form.
_ENTRY = re.compile(r"[{,]\s*'(descr|fortran_order|shape)'\s*:\s*")
_STRING = re.compile(r"'[^'\\]*'")
_FLAG = re.compile(r"True|False")
_SHAPE = re.compile(r"\(\s*(?:\d{1,19}L?\s*(?:,\s*|(?=\))))*\)")
_TYPE = re.compile(r"'([<>|=]?)([a-zA-Z])(\d*)(?:\[\w{1,9}\])?'")
#: Strings and brackets in the description of a record type.
_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|[\[\]]")
_OBJECT_FIELD = re.compile(r"'[<>|=]?O\d*'")


class Header(NamedTuple):
    """Header of an array.

    Attributes:
        code: NumPy's type code, `f4`; `V` of a record, `O` of one with objects.
        dtype: None if the array holds no numbers, or numbers that are not read.
        fortran: whether elements are stored in column-major order.
        length: bytes before the data.
    """

    code: str
    dtype: DType | None
    big_endian: bool
    fortran: bool
    shape: tuple[int, ...]
    length: int


def read_npy_header(source: Source) -> Header:
    """Read the header of an array, which begins at byte 0 of the source.

    Raises:
        DamagedFileError: these are not the bytes of an array.
        TruncatedFileError: the source ends inside the header.
        LimitError: the header is longer than MAX_HEADER.
    """
    start = source.read_at(0, min(12, source.size))
    if not start.startswith(MAGIC) or len(start) < 10:
        raise DamagedFileError("not a NumPy array: its magic bytes are missing")
    wide = start[6] >= 2
    if start[6] not in (1, 2, 3) or (wide and len(start) < 12):
        raise DamagedFileError(f"a NumPy array of format version {start[6]}: expected 1, 2 or 3")
    (n,) = struct.unpack_from("<I" if wide else "<H", start, 8)
    length = (12 if wide else 10) + n
    if n > MAX_HEADER:
        raise LimitError(f"a NumPy header of {n:,} bytes: at most {MAX_HEADER:,} are read")
    if length > source.size:
        raise TruncatedFileError(f"the NumPy header needs {length:,} bytes, the file has {source.size:,}")
    text = source.read_at(length - n, n).decode("latin-1")
    entries = _entries(text)
    if set(entries) != {"descr", "fortran_order", "shape"}:
        raise DamagedFileError(f"a NumPy header without type, shape or order: {text[:80]!r}")
    fortran = entries["fortran_order"] == "True"
    dims = tuple(int(d) for d in re.findall(r"\d+", entries["shape"]))
    if len(dims) > 64 or any(d >= 1 << 62 for d in dims) or prod(dims) >= 1 << 62:
        raise DamagedFileError(f"a NumPy array of impossible shape {entries['shape'][:80]}")
    descr = _TYPE.fullmatch(entries["descr"])
    if descr is None:  # a record type
        code = "O" if _OBJECT_FIELD.search(entries["descr"]) else "V"
        return Header(code, None, False, fortran, dims, length)
    order, kind, width = descr.groups()
    dtype = _CODES.get(kind + width)
    return Header(kind + width, DTYPES[dtype] if dtype else None, order == ">", fortran, dims, length)


def _entries(text: str) -> dict[str, str]:
    """Return the entries of the header as text; an empty dict if it is not of the expected form."""
    found: dict[str, str] = {}
    at = 0
    while (entry := _ENTRY.match(text, at)) is not None:
        name, start = entry[1], entry.end()
        pattern = {"fortran_order": _FLAG, "shape": _SHAPE}.get(name, _STRING)
        value = pattern.match(text, start)
        end = value.end() if value else _record_end(text, start) if name == "descr" else None
        if end is None or name in found:
            return {}
        found[name] = text[start:end]
        at = end
    return found if re.fullmatch(r"\s*,?\s*\}\s*", text[at:]) else {}


def _record_end(text: str, start: int) -> int | None:
    """Return where the list of a record's fields ends; brackets in strings do not count. None without an end."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += {"[": 1, "]": -1}.get(token[0], 0)
        if depth <= 0:
            return token.end() if token[0] == "]" else None
    return None


def _array_ref(name: str, header: Header, segment: Segment | None) -> TensorRef:
    dtype = header.dtype
    assert dtype is not None
    strides = None
    if header.fortran and len(header.shape) > 1:
        steps = [1]
        for dim in header.shape[:-1]:
            steps.append(steps[-1] * max(dim, 1))
        strides = tuple(steps)
    return TensorRef(
        name=name,
        dtype=dtype,
        shape=header.shape,
        kind=leaf_kind(name.rpartition(".")[2].rpartition("/")[2], dtype.family),
        segments=(segment,) if segment and segment.nbytes else (),
        strides=strides,
        big_endian=header.big_endian,
        note=_NOTES.get(header.code, ""),
    )


# -- .npy -----------------------------------------------------------------------------------------------


def sniff_npy(source: Source, head: bytes) -> bool:
    return head.startswith(MAGIC)


def open_npy(location: Location) -> Checkpoint:
    source = location.open()
    header = read_npy_header(source)
    refs: tuple[TensorRef, ...] = ()
    notes: tuple[str, ...] = ()
    if header.dtype is None:
        notes = _unread([(location.stem, header)])
    else:
        nbytes = header.dtype.nbytes(prod(header.shape))
        missing = header.length + nbytes - source.size
        if missing > 0:
            raise TruncatedFileError(f"{missing:,} bytes are missing at the end of the array", "download it again")
        refs = (_array_ref(location.stem, header, Segment(source, header.length, nbytes)),)
    return Checkpoint(
        path=str(location),
        format="npy",
        size=source.size,
        tensors=refs,
        writer="NumPy",
        notes=notes,
        hazards=_object_hazards([(location.stem, header)]),
    )


# -- .npz -----------------------------------------------------------------------------------------------


def sniff_npz(source: Source, head: bytes) -> bool:
    directory = try_directory(source, head)
    if directory is None or _is_keras(directory.members):
        return False
    found = False
    for name in directory.members:
        if name.endswith(".npy"):
            found = True
        elif name.endswith(("/data.pkl", *_MODELS)):
            return False
    return found


def _is_keras(names: Container[str]) -> bool:
    """Return whether an archive is one of Keras, whose assets may be arrays."""
    return "config.json" in names and any(name in names for name in _BESIDE_CONFIG)


def open_npz(location: Location) -> Checkpoint:
    source = location.open()
    refs: list[TensorRef] = []
    headers: list[tuple[str, Header]] = []
    strangers: list[Member] = []
    directory = read_directory(source)
    for member in directory.members.values():
        # NumPy goes by the first bytes of a member, whatever its name is.
        if not member.name.endswith(".npy") and not _begins_as_array(source, member):
            strangers.append(member)
            continue
        name = member.name.removesuffix(".npy")
        name = member.name if name in directory.members else name
        try:
            header = read_npy_header(member_source(source, member))
            segment = _member_segment(source, member, header)
        except PinspectError as error:
            refs.append(TensorRef(name, DTYPES["u8"], (), Kind.OTHER, problem=error.message))
            continue
        headers.append((name, header))
        if header.dtype is not None:
            refs.append(_array_ref(name, header, segment))
    compressed = sum(m.method != 0 for m in directory.members.values())
    return Checkpoint(
        path=str(location),
        format="npz",
        size=source.size,
        tensors=mark_packed(refs),
        metadata={"members": len(directory.members), "compressed": compressed},
        writer="NumPy (savez_compressed)" if compressed else "NumPy (savez)",
        notes=_unread(headers) + _not_arrays(strangers),
        hazards=_object_hazards(headers) + member_hazards(source, strangers, Budget()),
        checksums=directory.checksums(source),
    )


def _begins_as_array(source: Source, member: Member) -> bool:
    if member.size < len(MAGIC):
        return False
    if member.method == 0:
        return source.read_at(member.offset, len(MAGIC)) == MAGIC
    return next(inflate(source, member.offset, member.stored, len(MAGIC), partial=True), b"").startswith(MAGIC)


def member_source(source: Source, member: Member) -> Source:
    """Return the beginning of a member, which holds its header: a range of the archive, or its first inflated bytes."""
    if member.method == 0:
        return Window(source, member.offset, member.size)
    head = next(inflate(source, member.offset, member.stored, member.size), b"")
    return Memory(source.name, head[: MAX_HEADER + 12])


def _member_segment(source: Source, member: Member, header: Header) -> Segment | None:
    if header.dtype is None:
        return None
    nbytes = header.dtype.nbytes(prod(header.shape))
    if header.length + nbytes != member.size:
        raise DamagedFileError(f"{member.name} is {member.size:,} bytes, its header needs {header.length + nbytes:,}")
    return member.segment(source, header.length, nbytes)


def _unread(headers: list[tuple[str, Header]]) -> tuple[str, ...]:
    """Return a sentence for each kind of array that is not read: which it is, and the arrays."""
    names: dict[tuple[bool, str], list[str]] = {}
    for name, header in headers:
        if header.dtype is None:
            kind = _UNREAD.get(header.code[:1], (True, f"of the type {header.code!r}"))
            names.setdefault(kind, []).append(name)
    return tuple(
        f"{plural(len(found), 'array')} {what} {'were' if len(found) > 1 else 'was'} not read"
        f"{'' if numbers else ' (no numbers)'}: {listed([n[:40] for n in found], 5)}"
        for (numbers, what), found in names.items()
    )


def _not_arrays(members: list[Member]) -> tuple[str, ...]:
    names = [member.name[:40] for member in members if not member.name.endswith("/")]
    if not names:
        return ()
    return (f"{plural(len(names), 'member')} that {'are' if len(names) > 1 else 'is'} no array: {listed(names, 5)}",)


def _object_hazards(headers: list[tuple[str, Header]]) -> tuple[Hazard, ...]:
    return tuple(
        Hazard("an array of Python objects is a pickle: np.load(allow_pickle=True) would run it", name)
        for name, header in headers
        if header.code.startswith("O")
    )


FORMAT = (
    Format("npz", "NumPy .npz", (".npz",), sniff_npz, open_npz),
    Format("npy", "NumPy .npy", (".npy",), sniff_npy, open_npy),
)
