"""Exported programs of `torch.export.save` (.pt2): the graph as JSON, and each weight as raw bytes.

root/archive_format  root/models/model.json  root/data/weights/model_weights_config.json  root/data/weights/weight_0 ...
root/data/constants/model_constants_config.json  root/data/constants/tensor_0 ...  root/data/sample_inputs/model.pt
https://github.com/pytorch/pytorch/blob/v2.13.0/torch/export/pt2_archive/_package.py
Before torch 2.8: serialized_exported_program.json, and serialized_state_dict.pt, a torch file in the archive.
The graph is not read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

from inspectcli.encodings import json as _json
from inspectcli.encodings.zip import Member, ZipDirectory, member_file, read_directory, read_member, try_directory
from inspectcli.errors import DamagedFileError, PinspectError, UnsupportedFormatError
from inspectcli.formats.base import Format
from inspectcli.formats.opening import open_file
from inspectcli.formats.torch.archive import Archive, Record, member_hazards
from inspectcli.formats.torch.tree import tensor_ref
from inspectcli.formats.torch.zip import little_or_big
from inspectcli.pickles.sweep import Budget
from inspectcli.pickles.tensors import Storage, view
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.model import Checkpoint, Hazard, Kind, TensorRef

MAX_CONFIG = 256 << 20
#: Bytes of a compressed torch file inside, which is held in memory.
MAX_INFLATED = 64 << 20

_FORMAT, _OLD_PROGRAM = "archive_format", "serialized_exported_program.json"
_WEIGHTS, _CONSTANTS = "_weights_config.json", "_constants_config.json"
_VALUES = re.compile(r"data/(weights|constants)/")
_OLD_PARTS = {"serialized_state_dict.pt": None, "serialized_constants.pt": Kind.CONSTANT}

#: ScalarType of https://github.com/pytorch/pytorch/blob/v2.13.0/torch/_export/serde/schema.py
_TYPES = {
    1: "u8", 2: "i8", 3: "i16", 4: "i32", 5: "i64", 6: "f16", 7: "f32", 8: "f64", 9: "c32", 10: "c64", 11: "c128",
    12: "bool", 13: "bf16", 28: "u16", 29: "f8_e4m3", 30: "f8_e5m2", 31: "f8_e4m3fnuz", 32: "f8_e5m2fnuz",
    33: "f8_e8m0", 34: "u32", 35: "u64",
}  # fmt: skip


def sniff(source: Source, head: bytes) -> bool:
    directory = try_directory(source, head)
    return directory is not None and _root(directory) is not None


def _root(directory: ZipDirectory) -> str | None:
    """Return what the names of all records begin with; None if this is no exported program."""
    if _OLD_PROGRAM in directory.members:
        return ""
    first = next(iter(directory.members), "")
    root = first[: first.find("/") + 1]
    names = directory.members
    return root if root + _FORMAT in names or root + "models/model.json" in names else None


def open_exported(location: Location) -> Checkpoint:
    source = location.open()
    directory = read_directory(source)
    archive = Archive(source, directory, _root(directory) or "")
    listed = list(_listed(archive))
    inner = _inner_files(location, archive, {entry.record for entry in listed if entry.values.get("use_pickle")})
    refs = [*(_ref(archive, entry) for entry in listed), *_old_refs(archive, inner)]
    compiled = [
        m.name for m in directory.members.values() if m.name.endswith((".so", ".pyd", ".cubin", ".wrapper.cpp"))
    ]
    if not refs and compiled:
        raise UnsupportedFormatError(
            f"a compiled program (AOTInductor): its weights are inside machine code: {', '.join(compiled[:2])}",
            "name the checkpoint that it was compiled from",
        )
    if not refs and not any(name.endswith((_WEIGHTS, *_OLD_PARTS)) for name in directory.members):
        raise DamagedFileError(
            f"an exported program (.pt2) that does not list its weights: expected a record *{_WEIGHTS}",
            "save it again with torch.export.save",
        )
    notes = ["the graph of the exported program was not looked at"]
    if compiled:
        notes.append(f"machine code in {', '.join(compiled[:2])}: it runs when the program is loaded")
    return Checkpoint(
        path=str(location),
        format="pt2",
        size=source.size,
        tensors=little_or_big(archive, refs),
        metadata={"archive_root": archive.root.rstrip("/"), "archive_version": archive.text("archive_version")},
        writer="torch.export.save" + (" before torch 2.8" if not archive.root else ""),
        foreign=tuple(dict.fromkeys(f for c in inner.values() for f in c.foreign)),
        hazards=_hazards(archive, inner),
        notes=tuple(notes),
        checksums=directory.checksums(source),
    )


def _inner_files(location: Location, archive: Archive, pickled: Collection[str]) -> dict[str, Checkpoint]:
    """Return the torch files in the archive by the name of their record: sample inputs, weights of special types."""
    found: dict[str, Checkpoint] = {}
    for member in archive.directory.members.values():
        name = member.name.removeprefix(archive.root)
        if name.endswith(".pt") or name in pickled:
            try:
                inner = location.opened(member_file(archive.source, member, MAX_INFLATED))
                found[name] = open_file(inner, (FORMAT,))
            except UnsupportedFormatError:
                continue
    return found


def _hazards(archive: Archive, inner: Mapping[str, Checkpoint]) -> tuple[Hazard, ...]:
    """Return what would act in the torch files, and in other records that are pickles, but for those of numbers."""
    members = archive.directory.members.values()
    others = (
        m for m in members if (name := m.name.removeprefix(archive.root)) not in inner and not _VALUES.match(name)
    )
    return (
        *(h._replace(where=f"{name}: {h.where}") for name, c in inner.items() for h in c.hazards),
        *member_hazards(archive.source, others, Budget()),
    )


# -- weights --------------------------------------------------------------------------------------------


class _Listed(NamedTuple):
    """A weight in one of the lists.

    Attributes:
        record: the name of its record below the root.
        values: what the list says of it.
    """

    name: str
    record: str
    values: Mapping[str, Any]
    kind: Kind


def _listed(archive: Archive) -> Iterator[_Listed]:
    for member in archive.directory.members.values():
        if member.name.endswith((_WEIGHTS, _CONSTANTS)):
            folder = member.name.rpartition("/")[0].removeprefix(archive.root)
            constant = member.name.endswith(_CONSTANTS)
            for name, entry in _entries(archive.source, member):
                if isinstance(entry.get("tensor_meta"), dict):
                    kind = Kind.CONSTANT if constant else Kind.PARAMETER if entry.get("is_param") else Kind.BUFFER
                    yield _Listed(name, f"{folder}/{entry.get('path_name')}", entry, kind)


def _entries(source: Source, member: Member) -> Iterator[tuple[str, Mapping[str, Any]]]:
    value = _json.parse(read_member(source, member, MAX_CONFIG), member.name, numbers=True)
    config = value.get("config") if isinstance(value, dict) else None
    if not isinstance(config, dict):
        raise DamagedFileError(f"{member.name} lists no weights: expected an object `config`")
    return ((name, entry) for name, entry in config.items() if isinstance(entry, dict))


def _ref(archive: Archive, listed: _Listed) -> TensorRef:
    try:
        return _described(archive, listed)
    except PinspectError as error:
        return TensorRef(listed.name, DTYPES["u8"], (), listed.kind, problem=error.message)


def _described(archive: Archive, listed: _Listed) -> TensorRef:
    name, record, entry, kind = listed
    meta = entry["tensor_meta"]
    dtype = _TYPES.get(meta.get("dtype")) if type(meta.get("dtype")) is int else None
    if dtype is None:
        raise DamagedFileError(f"an element type that torch does not number: {str(meta.get('dtype'))[:40]}")
    shape, strides = _numbers(meta.get("sizes")), _numbers(meta.get("strides"))
    (offset,) = _numbers([meta.get("storage_offset")])
    member = archive.member(record)
    if member is None:
        raise DamagedFileError(f"its bytes are missing: no record {archive.root}{record}")
    if entry.get("use_pickle"):
        ref = TensorRef(name, DTYPES[dtype], shape, kind)
        return replace(ref, problem="it is kept as a pickle of a tensor subclass")
    kept = DTYPES[dtype]
    storage = Storage((*archive.source.identity, record), kept, member.size, Record(archive.source, member))
    if prod(shape) == 0:
        return TensorRef(name, kept, shape, kind)
    return tensor_ref(view(storage, kept, offset, shape, strides), name, kind, "", "pt2")


def _numbers(values: object) -> tuple[int, ...]:
    """Return sizes, strides or an offset, which are objects of one integer: `{"as_int": 3}`."""
    found = [v.get("as_int") if isinstance(v, dict) else None for v in values] if isinstance(values, list) else [None]
    numbers = tuple(v for v in found if type(v) is int and v >= 0)
    if len(numbers) != len(found):
        raise DamagedFileError(f"a shape that is not known before the program runs: {str(values)[:80]}")
    return numbers


def _old_refs(archive: Archive, inner: Mapping[str, Checkpoint]) -> Iterator[TensorRef]:
    for name, kind in _OLD_PARTS.items():
        for ref in inner[name].tensors if name in inner else ():
            storage = None if ref.storage is None else (name, *ref.storage)
            yield replace(ref, kind=kind or ref.kind, storage=storage)


FORMAT = Format("pt2", "exported program", (".pt2",), sniff, open_exported)
