"""Packages of `torch.package`: pickles, the code that they need, and a record for each storage.

root/.data/extern_modules  root/.data/version  root/.data/0.storage ...  root/model/model.pkl  root/module.py
https://github.com/pytorch/pytorch/blob/v2.13.0/torch/package/package_exporter.py
The code is not run.
"""

from __future__ import annotations

from inspectcli.display.text import plural
from inspectcli.encodings.zip import Member, ZipDirectory, read_directory, try_directory
from inspectcli.errors import DamagedFileError, LimitError
from inspectcli.formats.base import Format
from inspectcli.formats.torch.archive import Archive, ZipStorages, archive_hazards
from inspectcli.formats.torch.stream import load_blob
from inspectcli.formats.torch.tree import training, walk
from inspectcli.formats.torch.zip import little_or_big, walk_notes
from inspectcli.pickles.globals import foreign
from inspectcli.pickles.machine import Program
from inspectcli.pickles.tensors import Rebuilder
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.model import Checkpoint, TensorRef

MAX_PICKLES = 1_000

_MARK = ".data/extern_modules"


def sniff(source: Source, head: bytes) -> bool:
    directory = try_directory(source, head)
    return directory is not None and _root(directory) is not None


def _root(directory: ZipDirectory) -> str | None:
    """Return what the names of all records begin with; None if this is no package."""
    first = next(iter(directory.members), "")
    root = first[: first.find("/") + 1]
    return root if root + _MARK in directory.members else None


def open_package(location: Location) -> Checkpoint:
    source = location.open()
    directory = read_directory(source)
    root = _root(directory)
    if root is None:
        raise DamagedFileError(f"no package: it holds no {_MARK}")
    archive = Archive(source, directory, root)
    pickles = [m for m in directory.members.values() if m.name.endswith(".pkl")]
    if len(pickles) > MAX_PICKLES:
        raise LimitError(f"a package of {len(pickles):,} pickles: at most {MAX_PICKLES:,} are read")
    rebuilder = Rebuilder(ZipStorages(archive, ".data", ".storage"), load_blob)
    programs: dict[str, Program] = {}
    refs: list[TensorRef] = []
    notes: list[str] = []
    for member in pickles:
        program = archive.program(member)
        tree = walk(program.value, rebuilder, "package", _prefix(member, root) if len(pickles) > 1 else ())
        programs[member.name.removeprefix(root)] = program
        refs.extend(tree.tensors)
        notes.extend(walk_notes(tree))
    code = [m.name for m in directory.members.values() if m.name.endswith(".py")]
    if code:
        one = len(code) == 1
        notes.append(
            f"{plural(len(code), 'code file')} {'was' if one else 'were'} not looked at: "
            f"{'it runs' if one else 'they run'} when the package is loaded"
        )
    main = next(iter(programs.values())).value if len(programs) == 1 else None
    return Checkpoint(
        path=str(location),
        format="torch-package",
        size=source.size,
        tensors=little_or_big(archive, refs),
        metadata={"archive_root": root.rstrip("/"), "pickles": list(programs)},
        objects=main,
        writer="torch.package",
        foreign=foreign(tuple(programs.values())),
        hazards=archive_hazards(archive, programs),
        notes=tuple(dict.fromkeys(notes)),
        training=training(main),
        checksums=directory.checksums(source),
    )


def _prefix(member: Member, root: str) -> tuple[str, ...]:
    return (*member.name.removeprefix(root).removesuffix(".pkl").split("/"),)


FORMAT = Format("torch-package", "torch.package", (".pt",), sniff, open_package)
