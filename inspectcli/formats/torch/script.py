"""TorchScript: the zip archive of `torch.jit.save`, with tensors in `data.pkl` and `constants.pkl`, and their code.

    root/data.pkl  root/code/__torch__/....py  root/constants.pkl  root/constants/0 ...  root/data/0 ...  root/version
    https://github.com/pytorch/pytorch/blob/v2.13.0/torch/csrc/jit/docs/serialization.md
The code is not run. Of it, only the lists of parameters and buffers are read.
"""

from __future__ import annotations

import re
from dataclasses import replace

from inspectcli.encodings.zip import read_member, try_directory
from inspectcli.formats.base import Format
from inspectcli.formats.torch.archive import Archive, archive_hazards, archive_root, open_archive, walk_pickle
from inspectcli.formats.torch.tree import leaf_kind
from inspectcli.formats.torch.zip import is_script, little_or_big, walk_notes
from inspectcli.pickles.globals import foreign
from inspectcli.pickles.nodes import Global, Object
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.model import Checkpoint, Kind, TensorRef

_MAX_CODE = 16 << 20
#: `__parameters__ = ["weight", "bias", ]` in the code that is generated for each class.
_NAMES = re.compile(r"^[ \t]*__(parameters|buffers)__ = \[([^\]\n]*)\]", re.MULTILINE)


def sniff(source: Source, head: bytes) -> bool:
    directory = try_directory(source, head)
    if directory is None:
        return False
    root = archive_root(directory)
    return root is not None and is_script(directory.members, root)


def open_torchscript(location: Location) -> Checkpoint:
    source = location.open()
    archive = open_archive(source)
    program, tree = walk_pickle(archive, "data.pkl", "data")
    programs, refs = {"data.pkl": program}, [*_with_kinds(archive, tree.tensors)]
    notes = walk_notes(tree)
    if archive.member("constants.pkl") is not None:
        constants, more = walk_pickle(archive, "constants.pkl", "constants", ("<constants>",), Kind.CONSTANT)
        programs["constants.pkl"] = constants
        refs.extend(more.tensors)
    code = [m for m in archive.directory.members.values() if m.name.startswith(archive.root + "code/")]
    shown = sum(1 for m in code if m.name.endswith(".py"))
    top = program.value
    return Checkpoint(
        path=str(location),
        format="torchscript",
        size=source.size,
        tensors=little_or_big(archive, refs),
        metadata={
            "archive_root": archive.root.rstrip("/"),
            "archive_version": archive.text("version"),
            "class": top.func.name if isinstance(top, Object) and isinstance(top.func, Global) else "",
            "code_files": shown,
        },
        objects=program.value,
        writer="torch.jit.save",
        foreign=foreign(tuple(programs.values())),
        hazards=archive_hazards(archive, programs),
        notes=(
            *notes,
            f"{shown:,} TorchScript code files were not looked at: they run when the model is called",
        ),
        checksums=archive.directory.checksums(source),
    )


def _with_kinds(archive: Archive, refs: list[TensorRef]) -> list[TensorRef]:
    """Return the tensors as PARAMETER or BUFFER, as the generated code lists them; others are attributes."""
    parameters, buffers = _declared(archive)
    if not parameters and not buffers:
        return refs
    return [replace(r, kind=_declared_kind(r, parameters, buffers)) for r in refs]


def _declared_kind(ref: TensorRef, parameters: set[str], buffers: set[str]) -> Kind:
    leaf = ref.name.rpartition(".")[2]
    if leaf in parameters:
        return Kind.PARAMETER
    if leaf in buffers:
        return Kind.BUFFER
    return Kind.BUFFER if leaf_kind(leaf, ref.dtype.family) is Kind.BUFFER else Kind.OTHER


def _declared(archive: Archive) -> tuple[set[str], set[str]]:
    found: dict[str, set[str]] = {"parameters": set(), "buffers": set()}
    total = 0
    for member in archive.directory.members.values():
        if not member.name.startswith(archive.root + "code/") or not member.name.endswith(".py"):
            continue
        total += member.size
        if total > _MAX_CODE:
            break
        text = read_member(archive.source, member, _MAX_CODE).decode("utf-8", "replace")
        for kind, names in _NAMES.findall(text):
            found[kind].update(name.strip().strip("\"'") for name in names.split(",") if name.strip())
    return found["parameters"], found["buffers"]


FORMAT = Format("torchscript", "TorchScript archive", (".pt", ".jit", ".ts"), sniff, open_torchscript)
