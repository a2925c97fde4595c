"""Zip archives around a model: stable-baselines (.zip), TorchServe (.mar), or a checkpoint that somebody zipped.

stable-baselines3: data (JSON)  policy.pth  policy.optimizer.pth  pytorch_variables.pth  _stable_baselines3_version
https://github.com/DLR-RM/stable-baselines3/blob/v2.7.0/stable_baselines3/common/save_util.py
stable-baselines 2: data (JSON)  parameters (.npz)  parameter_list (JSON)
TorchServe: MAR-INF/MANIFEST.json  model.pt  handler.py
https://github.com/pytorch/serve/blob/v0.12.0/model-archiver/README.md
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from inspectcli.display.text import listed, plural
from inspectcli.encodings import json as _json
from inspectcli.encodings.zip import (
    Member,
    ZipDirectory,
    inflate,
    member_file,
    read_directory,
    read_member,
    try_directory,
)
from inspectcli.errors import PinspectError, UnsupportedFormatError
from inspectcli.formats.base import HEAD, Format
from inspectcli.formats.finding import find_format
from inspectcli.formats.opening import open_file
from inspectcli.formats.torch.archive import member_hazards
from inspectcli.pickles.globals import foreign
from inspectcli.pickles.machine import OutOfDataError, Program, read_pickle
from inspectcli.pickles.nodes import Dict
from inspectcli.pickles.sweep import Budget, swept
from inspectcli.storage.location import Location
from inspectcli.storage.memory import Memory, Window
from inspectcli.storage.source import Source
from inspectcli.tensors.model import Checkpoint, Kind, TensorRef, Training

#: Members that are looked at for models, and models that are opened.
MAX_LOOKS, MAX_MODELS = 10_000, 200
#: Bytes of compressed models that are inflated, all together: they are held in memory.
MAX_INFLATED = 64 << 20
MAX_CONFIG = 16 << 20

_MAGICS = (b"PK\x03\x04", b"\x89HDF", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_OPTIMIZER = re.compile(r"optim", re.IGNORECASE)
_SB3_VERSION = "_stable_baselines3_version"
_MANIFEST = "MAR-INF/MANIFEST.json"
#: A pickle in the JSON of stable-baselines, in base64.
_SERIALIZED = ":serialized:"


class _Model(NamedTuple):
    """A member that is a checkpoint, opened."""

    member: Member
    checkpoint: Checkpoint

    @property
    def stem(self) -> str:
        """`policy` of `policy.pth`; of a path the whole, since two folders may hold files of one name."""
        folder, slash, name = self.member.name.rpartition("/")
        return folder + slash + (name.rpartition(".")[0] or name)

    @property
    def is_optimizer(self) -> bool:
        return bool(_OPTIMIZER.search(self.stem))


class _Contents(NamedTuple):
    """The members of an archive: those that are models, others, and why some that look like models are not read."""

    models: list[_Model]
    others: list[Member]
    problems: list[str]


def sniff(source: Source, head: bytes) -> bool:
    directory = try_directory(source, head)
    if directory is None or find_format(source, head, (FORMAT,)) is not None:
        return False
    return any(_is_model(source, member) for member, _ in zip(_files(directory), range(MAX_LOOKS), strict=False))


def _files(directory: ZipDirectory) -> Iterator[Member]:
    return (member for member in directory.members.values() if not member.name.endswith("/"))


def _is_model(source: Source, member: Member) -> bool:
    head = _head(source, member)
    if not head.startswith(_MAGICS) and head[8:9] != b"{":
        return False
    if member.method != 0:
        return True
    try:
        return find_format(Window(source, member.offset, member.size), head, (FORMAT,)) is not None
    except PinspectError:
        return True


def _head(source: Source, member: Member) -> bytes:
    size = min(member.size, HEAD)
    if member.method == 0:
        return source.read_at(member.offset, size)
    try:
        return b"".join(inflate(source, member.offset, member.stored, size, partial=True))
    except PinspectError:
        return b""


def open_bundle(location: Location) -> Checkpoint:
    """Open the model in an archive, and what lies beside it: its optimizer, its settings.

    Raises:
        UnsupportedFormatError: it holds no model, or several.
    """
    source = location.open()
    directory = read_directory(source)
    contents = _look(location, source, directory)
    settings, pickled = _settings(source, directory)
    programs = tuple(program for data in pickled if (program := _program(data)) is not None)
    budget = Budget()
    found = (
        *(h._replace(where=f"{m.member.name}: {h.where}") for m in contents.models for h in m.checkpoint.hazards),
        *member_hazards(source, contents.others, budget),
        *(h for data in pickled for h in swept(Memory("data", data), "data", budget=budget)),
    )
    chosen = _chosen(contents, directory, source)
    if not chosen and not found:
        raise _no_model(contents, directory)
    named = _named(chosen, _SB3_VERSION in directory.members)
    aside = [*contents.others, *(m.member for m in contents.models if m not in chosen)]
    return Checkpoint(
        path=str(location),
        format="zip",
        size=source.size,
        tensors=named,
        metadata={
            "members": len(directory.members),
            "models": [m.member.name for m in chosen],
            **({"values": values} if (values := _scalars(settings)) else {}),
        },
        objects=_node(settings) if settings else chosen[0].checkpoint.objects if len(chosen) == 1 else None,
        writer=_writer(source, directory, chosen),
        foreign=tuple(dict.fromkeys([*foreign(programs), *(f for m in chosen for f in m.checkpoint.foreign)])),
        hazards=found,
        notes=_notes(chosen, aside, contents.problems, programs),
        training=next((m.checkpoint.training for m in chosen if m.checkpoint.training), Training()),
        checksums=tuple(c for m in chosen for c in m.checkpoint.checksums),
    )


def _look(location: Location, source: Source, directory: ZipDirectory) -> _Contents:
    contents = _Contents([], [], [])
    room = MAX_INFLATED
    for number, member in enumerate(_files(directory)):
        if number >= MAX_LOOKS or len(contents.models) >= MAX_MODELS or not _is_model(source, member):
            contents.others.append(member)
            continue
        if member.method != 0 and member.size > room:
            contents.problems.append(
                f"{member.name} is compressed, and {member.size:,} bytes were not inflated: unpack the archive"
            )
            continue
        try:
            inner = member_file(source, member, room)
            room -= member.size if member.method != 0 else 0
            contents.models.append(_Model(member, open_file(location.opened(inner), (FORMAT,))))
        except UnsupportedFormatError:
            contents.others.append(member)
        except PinspectError as error:
            contents.problems.append(f"{member.name} cannot be read: {error.message}")
    return contents


def _chosen(contents: _Contents, directory: ZipDirectory, source: Source) -> list[_Model]:
    """Return the models that are one: all of stable-baselines, that of the manifest, or the only one.

    Raises:
        UnsupportedFormatError: there are several.
    """
    models = [m for m in contents.models if m.checkpoint.tensors]
    if _SB3_VERSION in directory.members:
        return models
    main = [m for m in models if not m.is_optimizer] or models
    manifest = _manifest(source, directory)
    served = [m for m in main if m.member.name == manifest.get("serializedFile")]
    if len(main) > 1 and len(served) != 1:
        names = listed([m.member.name for m in main], 4)
        raise UnsupportedFormatError(
            f"a zip archive of {len(main):,} models: {names}", "unpack it, and name one of them or their folder"
        )
    if served:
        return served
    return main + [m for m in models if m.is_optimizer and m not in main]


def _no_model(contents: _Contents, directory: ZipDirectory) -> PinspectError:
    if contents.problems:
        return UnsupportedFormatError(
            f"a zip archive, whose models cannot be read here: {'; '.join(contents.problems[:3])}",
            "unpack it, and name the file inside",
        )
    names = listed(list(directory.members))
    return UnsupportedFormatError(f"a zip archive of files without tensors: {names}", "name the checkpoint itself")


def _named(chosen: list[_Model], always: bool) -> tuple[TensorRef, ...]:
    """Return the tensors of all; those of the only model, or of the one beside its optimizer, under their own names."""
    alone = [m for m in chosen if not m.is_optimizer]
    plain = alone[0] if len(alone) == 1 and not always else None
    stems = [m.stem for m in chosen]
    made: list[TensorRef] = []
    for model in chosen:
        prefix = model.stem if stems.count(model.stem) == 1 else model.member.name
        for ref in model.checkpoint.tensors:
            name = ref.name if model is plain else f"{prefix}.{ref.name}"
            kind = Kind.OPTIMIZER if model.is_optimizer else ref.kind
            storage = None if ref.storage is None else (model.member.name, *ref.storage)
            made.append(replace(ref, name=name, kind=kind, storage=storage))
    return tuple(made)


def _writer(source: Source, directory: ZipDirectory, chosen: list[_Model]) -> str:
    version = directory.members.get(_SB3_VERSION)
    if version is not None:
        return f"stable-baselines3 {read_member(source, version, MAX_CONFIG).decode('utf-8', 'replace').strip()[:40]}"
    if "parameter_list" in directory.members:
        return "stable-baselines 2"
    if _MANIFEST in directory.members:
        return "torch-model-archiver"
    return chosen[0].checkpoint.writer if chosen else ""


def _notes(
    chosen: list[_Model], aside: list[Member], problems: list[str], programs: tuple[Program, ...]
) -> tuple[str, ...]:
    notes = [f"{m.member.name}: {note}" for m in chosen for note in m.checkpoint.notes]
    notes += problems
    if programs:
        notes.append(
            f"{plural(len(programs), 'pickle')} in data: stable-baselines loads them with cloudpickle, which runs code"
        )
    if aside:
        names = listed([m.name for m in aside], 5)
        notes.append(f"{plural(len(aside), 'other file')} in the archive: {names}")
    return tuple(notes)


# -- settings -------------------------------------------------------------------------------------------


def _read_json(source: Source, directory: ZipDirectory, name: str) -> Mapping[str, Any]:
    member = directory.members.get(name)
    if member is None:
        return {}
    try:
        value = _json.parse(read_member(source, member, MAX_CONFIG), name, numbers=True, duplicates=True)
    except PinspectError:
        return {}
    return value if isinstance(value, dict) else {}


def _manifest(source: Source, directory: ZipDirectory) -> Mapping[str, Any]:
    model = _read_json(source, directory, _MANIFEST).get("model")
    return model if isinstance(model, dict) else {}


def _settings(source: Source, directory: ZipDirectory) -> tuple[Mapping[str, Any], list[bytes]]:
    """Return what stable-baselines keeps in `data`: its settings, and the pickles among them."""
    data = _read_json(source, directory, "data")
    pickled = []
    for value in data.values():
        text = value.get(_SERIALIZED) if isinstance(value, dict) else None
        if isinstance(text, str):
            try:
                pickled.append(binascii.a2b_base64(text))
            except ValueError:
                continue
    return data, pickled


def _program(data: bytes) -> Program | None:
    try:
        return read_pickle(data)
    except (PinspectError, OutOfDataError):
        return None


def _scalars(settings: Mapping[str, Any]) -> dict[str, object]:
    found = {k: v for k, v in settings.items() if type(v) in (int, float, bool, str)}
    return {k: v[:200] if isinstance(v, str) else v for k, v in list(found.items())[:50]}


def _node(settings: Mapping[str, Any]) -> Dict:
    made = Dict()
    for key, value in settings.items():
        if type(value) in (int, float, bool, str):
            made.set(key, value)
    return made


FORMAT = Format("zip", "zip archive around a model", (".mar",), sniff, open_bundle)
