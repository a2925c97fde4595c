"""Zip archive that `torch.save` has written since 1.6: one pickle, and a record for each storage.

root/data.pkl  root/.format_version  root/.storage_alignment  root/byteorder  root/data/0 ...  root/version
https://github.com/pytorch/pytorch/blob/v2.13.0/caffe2/serialize/inline_container.h
"""

from __future__ import annotations

from dataclasses import replace

from inspectcli.display.text import plural
from inspectcli.encodings.zip import try_directory
from inspectcli.errors import DamagedFileError
from inspectcli.formats.base import Format
from inspectcli.formats.torch.archive import Archive, archive_hazards, archive_root, open_archive, walk_pickle
from inspectcli.formats.torch.tree import TorchTree, scalars, training
from inspectcli.pickles.globals import foreign, named
from inspectcli.pickles.machine import Program
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.model import Checkpoint, TensorRef


def sniff(source: Source, head: bytes) -> bool:
    directory = try_directory(source, head)
    if directory is None:
        return False
    root = archive_root(directory)
    return root is not None and not is_script(directory.members, root)


def is_script(names: object, root: str) -> bool:
    """Return whether an archive is TorchScript: it holds code, which `torch.save` never writes."""
    return any(n.startswith((root + "code/", root + "constants.pkl")) for n in names)  # type: ignore[attr-defined]


def open_torch_zip(location: Location) -> Checkpoint:
    source = location.open()
    archive = open_archive(source)
    program, tree = walk_pickle(archive, "data.pkl", "data")
    refs = little_or_big(archive, tree.tensors)
    version = archive.text(".format_version")
    return Checkpoint(
        path=str(location),
        format="torch-zip",
        size=source.size,
        tensors=refs,
        metadata={
            "archive_root": archive.root.rstrip("/"),
            "archive_version": archive.text("version"),
            **({"format_version": version} if version else {}),
            "pickle_protocol": program.protocol,
            **({"values": dict(values)} if (values := scalars(program.value)) else {}),
        },
        objects=program.value,
        writer=writer(archive, program),
        foreign=foreign((program,)),
        globals=named((program,)),
        hazards=archive_hazards(archive, {"data.pkl": program}),
        notes=walk_notes(tree),
        training=training(program.value),
        checksums=archive.directory.checksums(source),
    )


def little_or_big(archive: Archive, refs: list[TensorRef]) -> tuple[TensorRef, ...]:
    """Return the tensors with their byte order, which the record `byteorder` tells; without it, little-endian."""
    order = archive.text("byteorder") or "little"
    if order not in ("little", "big"):
        raise DamagedFileError(f"unknown byte order {order[:20]!r}: expected little or big")
    return tuple(map(_big, refs)) if order == "big" else tuple(refs)


def _big(ref: TensorRef) -> TensorRef:
    affine = ref.affine
    if affine is not None and affine.scales is not None and affine.zero_points is not None:
        affine = affine._replace(scales=_big(affine.scales), zero_points=_big(affine.zero_points))
    return replace(ref, big_endian=True, affine=affine)


def writer(archive: Archive, program: Program) -> str:
    """Return the library that wrote the archive, as closely as its records tell: `byteorder` came with torch 2.1."""
    lightning = scalars(program.value).get("pytorch-lightning_version")
    torch = "torch 2.1 or newer" if archive.member("byteorder") else "torch 1.6 or newer"
    return f"PyTorch Lightning {lightning}, {torch}" if lightning else torch


def walk_notes(tree: TorchTree) -> tuple[str, ...]:
    """Return notes on what there is besides tensors, and on what the walk left out."""
    notes = []
    if tree.aside:
        counts = ", ".join(plural(n, kind) for kind, n in tree.aside.items())
        names = [name[:40] for name in tree.first_aside]
        more = ["..."] if names and len(names) < sum(tree.aside.values()) else []
        which = f" ({', '.join(names + more)})" if names else ""
        notes.append(f"besides tensors: {counts}{which}")
    if tree.too_deep:
        notes.append("objects nested deeper than 200 levels were not looked at")
    return tuple(notes)


FORMAT = Format("torch-zip", "PyTorch zip archive", (".pt", ".pth", ".ckpt", ".bin", ".pth.tar"), sniff, open_torch_zip)
