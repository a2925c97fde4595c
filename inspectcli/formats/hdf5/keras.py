"""Keras 3 archives (.keras): a zip with the config, and the weights as an HDF5 file stored in it.

metadata.json  config.json  model.weights.h5 (or model.weights.npz)  assets/...
https://github.com/keras-team/keras/blob/v3.15.1/keras/src/saving/saving_lib.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inspectcli.encodings import json as _json
from inspectcli.encodings.zip import Member, ZipDirectory, read_directory, read_member, try_directory
from inspectcli.errors import DamagedFileError, LimitError, PinspectError
from inspectcli.formats.base import HEAD, Format
from inspectcli.formats.hdf5 import file as hdf5
from inspectcli.formats.hdf5.listing import check_end, superblock
from inspectcli.formats.numpy import open_npz
from inspectcli.storage import locate
from inspectcli.storage.location import Location
from inspectcli.storage.memory import Memory, Window
from inspectcli.storage.source import Source
from inspectcli.tensors.model import Checkpoint

CONFIG, METADATA = "config.json", "metadata.json"
WEIGHTS = ("model.weights.h5", "model.weights.npz")
MAX_CONFIG = 64 << 20
MAX_INFLATED = 512 << 20


def sniff(source: Source, head: bytes) -> bool:
    directory = try_directory(source, head)
    if directory is None:
        return False
    names = directory.members.keys()
    return CONFIG in names and (METADATA in names or any(w in names for w in WEIGHTS))


def open_keras(location: Location) -> Checkpoint:
    source = location.open()
    directory = read_directory(source)
    metadata = _read_json(source, directory, METADATA)
    configs = _configs(read_member(source, directory.members[CONFIG], MAX_CONFIG))
    weights = _open_weights(location, source, directory, configs)
    made = _checkpoint(location, source.size, metadata, configs, weights)
    return replace(made, checksums=directory.checksums(source))


def sniff_unzipped(source: Source, head: bytes) -> bool:
    """Any HDF5 file begins so: its name and what lies beside it tell the weights of an archive that was unzipped."""
    if superblock(head) is None or not source.name.endswith(WEIGHTS[0]):
        return False
    place = locate(source.name)
    return place.name == WEIGHTS[0] and all(place.parent.join(name).is_file() for name in (CONFIG, METADATA))


def open_unzipped(location: Location) -> Checkpoint:
    """The weights with the config and the metadata beside them, as in an archive."""
    source = location.open()
    configs, metadata = _configs(_beside(location, CONFIG)), _parsed(_beside(location, METADATA), METADATA)
    return _checkpoint(location, source.size, metadata, configs, _read_weights(location, source, configs))


def _beside(location: Location, name: str) -> bytes:
    with location.parent.join(name).reading() as file:
        if file.size > MAX_CONFIG:
            raise LimitError(f"{name} has {file.size:,} bytes: at most {MAX_CONFIG >> 20} MiB are read")
        return file.read_at(0, file.size)


def _configs(text: bytes) -> hdf5.Configs:
    configs = hdf5.read_configs({CONFIG: text})
    model = configs.model if isinstance(configs.model, dict) else {}
    return replace(configs, training=model.get("compile_config"))


def _checkpoint(location: Location, size: int, metadata: Any, configs: hdf5.Configs, weights: Checkpoint) -> Checkpoint:
    version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
    return Checkpoint(
        path=str(location),
        format="keras",
        size=size,
        tensors=weights.tensors,
        metadata={**(metadata if isinstance(metadata, dict) else {}), **weights.metadata},
        objects={"config": configs.model, "metadata": metadata},
        writer=f"Keras {version}" if version else "Keras 3",
        foreign=configs.foreign,
        hazards=configs.hazards + weights.hazards,
        notes=configs.notes + weights.notes,
        training=weights.training,
    )


def _open_weights(location: Location, source: Source, directory: ZipDirectory, configs: hdf5.Configs) -> Checkpoint:
    member = next((directory.members[w] for w in WEIGHTS if w in directory.members), None)
    if member is None:
        raise DamagedFileError(f"the archive holds no weights: expected {WEIGHTS[0]}", "save the model again")
    inner = _member_source(source, member)
    if member.name.endswith(".npz"):
        return open_npz(location.opened(inner))
    return _read_weights(location, inner, configs)


def _read_weights(location: Location, inner: Source, configs: hdf5.Configs) -> Checkpoint:
    head = inner.read_at(0, min(HEAD, inner.size))
    if superblock(head) is None:
        raise DamagedFileError(f"{WEIGHTS[0]} is no HDF5 file: it begins with {head[:8].hex(' ')}")
    check_end(inner, head)
    listing = hdf5.read_listing(inner)
    named = hdf5.name_datasets(listing, configs, hdf5.copies_in(inner))[1]
    return Checkpoint(
        path=str(location),
        format="keras",
        size=inner.size,
        tensors=hdf5.tensor_refs(inner, named),
        metadata={"hdf5_library": listing.library},
        hazards=listing.hazards(),
        notes=hdf5.listing_notes(listing, named),
        training=hdf5.training(inner, named, configs.optimizer),
    )


def _member_source(source: Source, member: Member) -> Source:
    """Return the weights as a source: a range of the archive, or bytes in memory if they had to be inflated."""
    if member.method == 0:
        return Window(source, member.offset, member.size)
    return Memory(source.name, read_member(source, member, MAX_INFLATED))


def _read_json(source: Source, directory: ZipDirectory, name: str) -> Any:
    """Return the value of a JSON member; None if it is missing or damaged, as the weights can be read without it."""
    member = directory.members.get(name)
    if member is None:
        return None
    try:
        return _parsed(read_member(source, member, MAX_CONFIG), name)
    except PinspectError as error:
        if error.code == "limit":
            raise
        return None


def _parsed(text: bytes, name: str) -> Any:
    """Return the value of a JSON text; None if it is damaged."""
    try:
        return _json.parse(text, name, numbers=True, duplicates=True)
    except PinspectError as error:
        if error.code == "limit":
            raise
        return None


FORMAT = (
    Format("keras", "Keras 3 archive", (".keras",), sniff, open_keras),
    Format("", "Keras 3 archive, unzipped", (), sniff_unzipped, open_unzipped),
)
