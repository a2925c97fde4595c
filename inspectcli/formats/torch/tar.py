"""Tar of pickles that torch wrote before 0.1.10.

sys_info, storages: n, n x [(key, location, StorageClass), int64 elements, bytes], views
tensors: n, n x [(key, storage key, TensorClass), int32 dims, 4 bytes, sizes, strides, offset: int64]
pickle: the object; a persistent id in it is the key of a tensor
https://github.com/pytorch/pytorch/blob/v2.13.0/torch/serialization.py (legacy_load)
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace

from inspectcli.display.text import listed
from inspectcli.errors import DamagedFileError, UnsafeFileError, UnsupportedFormatError
from inspectcli.formats.base import Format
from inspectcli.formats.torch.stream import read_pickle_at
from inspectcli.formats.torch.tree import scalars, training, walk
from inspectcli.formats.torch.zip import walk_notes
from inspectcli.pickles.globals import foreign
from inspectcli.pickles.machine import Program
from inspectcli.pickles.nodes import Object, Persistent, key_of, shown
from inspectcli.pickles.sweep import judged
from inspectcli.pickles.tensors import MAX_DIMENSIONS, Rebuilder, Storage, Tensor, storage_dtype, view
from inspectcli.storage.location import Location
from inspectcli.storage.memory import Window
from inspectcli.storage.source import Source
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.model import Checkpoint

_BLOCK = 512
_MAX_MEMBERS = 10_000
_MAX_TENSORS = 1_000_000
#: Python's writer keeps fractions of seconds in extended headers, records such as `20 mtime=1500000000.5`.
_MAX_EXTENDED = 64 << 10
_RENAMES = re.compile(rb"(path|size|GNU\.sparse[\w.]*|hdrcharset)=")
_NEEDED = ("pickle", "storages", "tensors")


def sniff(source: Source, head: bytes) -> bool:
    return head[257:262] == b"ustar" or (_octal(head[124:136]) is not None and _checksum_fits(head[:_BLOCK]))


def _octal(field: bytes) -> int | None:
    """Return a number of a header: octal digits up to the first NUL, or 256-ary digits after a byte 0x80."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    text = field.partition(b"\0")[0].strip()
    return int(text, 8) if text and all(c in b"01234567" for c in text) else None


def _checksum_fits(header: bytes) -> bool:
    """Return whether the checksum is the sum of all bytes but its own, of which some writers add signed ones."""
    if len(header) != _BLOCK:
        return False
    others = header[:148] + header[156:]
    total = sum(others) + 8 * 0x20
    return _octal(header[148:156]) in (total, total - 256 * sum(byte >> 7 for byte in others))


def members(source: Source) -> dict[str, Window]:
    """Return the regular files of the tar by name.

    Raises:
        DamagedFileError: a header is missing, or a member ends beyond the file.
        UnsafeFileError: a member is a link or a device, stands twice, or is renamed by what stands before it.
    """
    found: dict[str, Window] = {}
    at = 0
    while at + _BLOCK <= source.size:
        header = source.read_at(at, _BLOCK)
        if header == b"\0" * _BLOCK:
            break
        size = _octal(header[124:136])
        if not _checksum_fits(header) or size is None:
            raise DamagedFileError(f"no tar header at byte {at:,}")
        name = header[:100].split(b"\0")[0].decode("utf-8", "replace")
        at += _BLOCK
        if at + size > source.size:
            raise DamagedFileError(f"tar member {name!r} ends at byte {at + size:,}, the file at {source.size:,}")
        kind = header[156:157]
        if kind in (b"0", b"\0"):
            if found.setdefault(name, window := Window(source, at, size)) is not window:
                raise UnsafeFileError(f"the tar holds {name!r} twice: which one is read depends on the reader")
        elif kind in (b"x", b"g"):
            if size > _MAX_EXTENDED or _RENAMES.search(source.read_at(at, size)):
                raise UnsafeFileError(
                    "an extended tar header gives a member another name or size: no torch file has it"
                )
        elif kind != b"5":
            raise UnsafeFileError(f"tar member {name!r} is a link or a device")
        if len(found) > _MAX_MEMBERS:
            raise DamagedFileError(f"more than {_MAX_MEMBERS:,} tar members")
        at += -(-size // _BLOCK) * _BLOCK
    return found


@dataclass(frozen=True, slots=True)
class _Run:
    source: Source
    offset: int

    def segment(self, start: int, nbytes: int) -> Segment:
        return Segment(self.source, self.offset + start, nbytes)


class _TarRebuilder(Rebuilder):
    """A rebuilder for which persistent ids are keys of tensors, not of storages."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__(_NoStorages())
        self.tensors = tensors

    def _rebuild(self, node: Object | Persistent, depth: int) -> Tensor | None:
        if isinstance(node, Persistent):
            return self.tensors.get(key_of(node.pid) or "")
        return super()._rebuild(node, depth)


class _NoStorages:
    identity = ("tar",)

    def place(self, key: str, nbytes: int) -> _Run:
        raise DamagedFileError(f"storage {key!r} is named where a tensor must be")


def _count(program: Program) -> int:
    if type(program.value) is not int or not 0 <= program.value <= _MAX_TENSORS:
        raise DamagedFileError(f"a count is missing in the tar: found {shown(program.value)}")
    return program.value


def _triple(program: Program) -> tuple[object, object, object]:
    if not isinstance(program.value, tuple) or len(program.value) != 3:
        raise DamagedFileError("a record of the tar is no triple")
    return program.value


def _key(value: object) -> str:
    key = key_of(value)
    if key is None:
        raise DamagedFileError(f"a key in the tar that is no number: {shown(value)}")
    return key


def _read_storages(outer: Source, member: Window, programs: list[Program]) -> dict[str, Storage]:
    programs.append(first := read_pickle_at(member, 0))
    storages: dict[str, Storage] = {}
    at = first.end
    for _ in range(_count(first)):
        programs.append(program := read_pickle_at(member, at))
        key, _, cls = _triple(program)
        dtype = storage_dtype(cls)
        (numel,) = struct.unpack("<q", member.read_at(program.end, 8))
        at = program.end + 8
        if numel < 0 or at + dtype.nbytes(numel) > member.size:
            raise DamagedFileError(f"storage {shown(key)} of {numel:,} elements does not fit its tar member")
        place = _Run(outer, member.start + at)
        storages[_key(key)] = Storage((outer.identity, _key(key)), dtype, dtype.nbytes(numel), place)
        at += dtype.nbytes(numel)
    programs.append(views := read_pickle_at(member, at))
    for described in views.value if isinstance(views.value, list) else ():
        if not isinstance(described, tuple) or len(described) != 4:
            raise DamagedFileError(f"a view of a storage described by {shown(described)}: expected four numbers")
        target, root, offset, numel = described
        base = storages.get(_key(root))
        if base is None or type(offset) is not int or type(numel) is not int or offset < 0 or numel < 0:
            raise DamagedFileError("a view of a storage that the tar does not hold")
        shift, width = offset * base.dtype.itemsize, numel * base.dtype.itemsize
        if shift + width > base.nbytes:
            raise DamagedFileError(f"a view that reaches {shift + width:,} bytes into a storage of {base.nbytes:,}")
        storages[_key(target)] = replace(base, shift=shift, nbytes=shift + width)
    return storages


def _read_tensors(member: Window, storages: dict[str, Storage], programs: list[Program]) -> dict[str, Tensor]:
    programs.append(first := read_pickle_at(member, 0))
    tensors: dict[str, Tensor] = {}
    at = first.end
    for _ in range(_count(first)):
        programs.append(program := read_pickle_at(member, at))
        key, storage_key, _ = _triple(program)
        storage = storages.get(_key(storage_key))
        if storage is None:
            raise DamagedFileError(f"tensor {shown(key)} refers to storage {shown(storage_key)}, which is missing")
        (ndim,) = struct.unpack("<i4x", member.read_at(program.end, 8))
        if not 0 <= ndim <= MAX_DIMENSIONS:
            raise DamagedFileError(f"tensor {shown(key)} has {ndim:,} dimensions")
        numbers = struct.unpack(f"<{2 * ndim + 1}q", member.read_at(program.end + 8, 16 * ndim + 8))
        at = program.end + 8 + 16 * ndim + 8
        tensors[_key(key)] = view(storage, storage.dtype, numbers[-1], numbers[:ndim], numbers[ndim:-1])
    return tensors


def open_torch_tar(location: Location) -> Checkpoint:
    source = location.open()
    held = members(source)
    missing = [name for name in _NEEDED if name not in held]
    if missing:
        shown = listed(list(held), 5) or "nothing"
        raise UnsupportedFormatError(
            f"a tar that is no torch file: it lacks {', '.join(missing)} and holds {shown}",
            "if it is an archive of checkpoints, unpack it and name the files",
        )
    programs: list[Program] = []
    storages = _read_storages(source, held["storages"], programs)
    tensors = _read_tensors(held["tensors"], storages, programs)
    programs.append(body := read_pickle_at(held["pickle"], 0))
    if "sys_info" in held:
        programs.append(read_pickle_at(held["sys_info"], 0))
    tree = walk(body.value, _TarRebuilder(tensors), "tar")
    return Checkpoint(
        path=str(location),
        format="torch-tar",
        size=source.size,
        tensors=tuple(tree.tensors),
        metadata={"pickle_protocol": body.protocol, "values": dict(scalars(body.value))},
        objects=body.value,
        writer="torch before 0.1.10",
        foreign=foreign(tuple(programs)),
        hazards=judged(tuple(programs), "the tar"),
        notes=walk_notes(tree),
        training=training(body.value),
    )


FORMAT = Format("torch-tar", "PyTorch tar", (".pt", ".tar"), sniff, open_torch_tar)
