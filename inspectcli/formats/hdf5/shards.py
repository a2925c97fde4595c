"""Keras 3 weights in several files: `model.weights.json`, `model_00000.weights.h5`, ...

{"metadata": {"total_size": 123}, "weight_map": {"/layers/dense/vars": ["model_00000.weights.h5"]}}
https://github.com/keras-team/keras/blob/v3.15.1/keras/src/saving/saving_lib.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from inspectcli.display.text import listed
from inspectcli.encodings import json as _json
from inspectcli.errors import DamagedFileError, LimitError, NotReadableError
from inspectcli.formats.base import Format
from inspectcli.formats.folder import KERAS_INDEX
from inspectcli.formats.hdf5 import file as hdf5
from inspectcli.formats.hdf5.listing import Listing
from inspectcli.formats.opening import open_file
from inspectcli.formats.sharded import FORMAT as SHARDED
from inspectcli.formats.sharded import MAX_SHARDS, absent, check_name, index_text, inside, missing_shards
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.model import Checkpoint, Defect, Kind, Training

#: Group of variables -> the files that hold them: a group may go on in the next.
WeightMap = Mapping[str, Sequence[str]]


def sniff(source: Source, head: bytes) -> bool:
    """JSON of any kind begins so: here the name decides too."""
    return source.name.endswith(KERAS_INDEX) and head.lstrip()[:1] == b"{"


def open_index(location: Location) -> Checkpoint:
    """All files that an index names, as one checkpoint.

    Variables of files that are missing are listed by their group, with that problem.

    Raises:
        NotReadableError: all files are missing.
        PinspectError: one of them cannot be read.
    """
    weight_map = _weight_map(location)
    names = sorted({name for held in weight_map.values() for name in held})
    shards = _open_shards(location.parent, names)
    listings = {name: hdf5.read_listing(source) for name, (_, source) in shards.items()}
    merged, homes = _merged(listings)
    configs = hdf5.Configs()
    named = hdf5.name_datasets(merged, configs, lambda first, second: False)[1]
    of_path = {dataset: shards[name][1] for dataset, name in homes.items()}
    missing = {group: gone[0] for group, held in weight_map.items() if (gone := [n for n in held if n not in shards])}
    lost = [(group.strip("/").removesuffix("/vars").replace("/", "."), shard) for group, shard in missing.items()]
    label = hdf5.optimizer_label(merged)
    return Checkpoint(
        path=str(location),
        format="keras-weights-h5-sharded",
        size=sum(shard.size for shard, _ in shards.values()),
        tensors=tuple(hdf5.tensor_ref(of_path[n.dataset.path], n) for n in named)
        + tuple(absent(layer, shard) for layer, shard in lost),
        metadata={"shards": len(names), "hdf5_library": merged.library},
        writer=hdf5.writer("keras-weights-h5", "", "", b""),
        hazards=tuple(h._replace(where=f"{name}: {h.where}") for name, (c, _) in shards.items() for h in c.hazards),
        notes=hdf5.listing_notes(merged, named),
        training=_training(named, of_path, label, next(source for _, source in shards.values())),
        files=tuple(shard.path for shard, _ in shards.values()),
        defects=(*missing_shards(names, shards, lost, "layer"), *_mismatches(weight_map, listings)),
        sources=tuple(source for _, source in shards.values()),
    )


def _open_shards(folder: Location, names: Sequence[str]) -> dict[str, tuple[Checkpoint, Source]]:
    """Those that are there, by name, each as a checkpoint of its own and as the bytes that it was read from.

    Raises:
        NotReadableError: none is.
    """
    shards = {}
    for name in names:
        if (shard := folder.join(name)).exists() or shard.is_link():
            opened = open_file(inside(folder, name), without=(FORMAT, SHARDED))
            if not opened.format.startswith(("hdf5", "keras-")):
                raise DamagedFileError("no HDF5 file, as the index says it is", path=opened.path)
            shards[name] = opened, opened.sources[0]
    if not shards:
        raise NotReadableError(f"all {len(names):,} files of the index are missing", "put them beside the index")
    return shards


def _weight_map(location: Location) -> WeightMap:
    table = _json.parse(index_text(location), "the index", numbers=True)
    found = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(found, dict) or not found:
        raise DamagedFileError("the index has no weight_map that names groups of variables and their files")
    made = {group: [held] if isinstance(held, str) else held for group, held in found.items()}
    for group, held in made.items():
        if not isinstance(held, list) or not held or not all(isinstance(name, str) for name in held):
            raise DamagedFileError(f"the index maps {group[:80]!r} to {type(held).__name__}, expected names of files")
        for name in held:
            check_name(name)
    if len({name for held in made.values() for name in held}) > MAX_SHARDS:
        raise LimitError(f"the index names more than {MAX_SHARDS:,} files")
    return made


def _merged(listings: Mapping[str, Listing]) -> tuple[Listing, Mapping[str, str]]:
    """Return the objects of all files as those of one, and the file of each dataset: the first that has it."""
    homes: dict[str, str] = {}
    attributes: dict[str, dict[str, object]] = {}
    datasets = []
    for name, listing in listings.items():
        for dataset in listing.datasets:
            if homes.setdefault(dataset.path, name) == name:
                datasets.append(dataset)
        for path, held in listing.attributes.items():
            attributes.setdefault(path, {}).update(held)
    first = next(iter(listings.values()))
    return replace(first, datasets=tuple(datasets), attributes=attributes), homes


def _training(named: Sequence[hdf5.Named], of_path: Mapping[str, Source], label: str, first: Source) -> Training:
    counters = [n for n in named if n.kind is Kind.OPTIMIZER and n.name.endswith(".iteration")]
    source = of_path[counters[0].dataset.path] if counters else first
    return hdf5.training(source, counters[:1], hdf5.Configs().optimizer, label)


def _mismatches(weight_map: WeightMap, listings: Mapping[str, Listing]) -> Iterator[Defect]:
    """Groups without a variable in any of the files that are to hold them."""
    held = {name: {d.path.rpartition("/")[0] for d in one.datasets} for name, one in listings.items()}
    for group, files in weight_map.items():
        path = group.strip("/")
        if all(name in held for name in files) and not any(path in held[name] for name in files):
            yield Defect(
                "index-mismatch",
                f"{listed(files)} lacks the variables of {path[:80]} that the index places there",
                {"shard": files[0], "tensors": 1},
                (),
            )


FORMAT = Format("keras-weights-h5-sharded", "sharded Keras weights", (KERAS_INDEX,), sniff, open_index)
