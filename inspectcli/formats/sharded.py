"""Many files, one checkpoint: `*.index.json` and the shards beside it.

{"metadata": {"total_size": 123}, "weight_map": {"tensor name": "model-00001-of-00002.safetensors"}}
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from inspectcli.display.text import is_or_are, listed, plural
from inspectcli.encodings import json as _json
from inspectcli.errors import DamagedFileError, LimitError, NotReadableError, PinspectError, UnsafeFileError
from inspectcli.formats.base import HEAD, Format
from inspectcli.formats.folder import INDEX_SUFFIX, SHARD
from inspectcli.formats.opening import open_file
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.dtypes import DType, NumberClass
from inspectcli.tensors.model import Checkpoint, Defect, TensorRef

MAX_INDEX = 256 << 20
MAX_SHARDS = 10_000

#: Element type of a tensor whose shard is missing: the index gives its name and nothing else.
_UNKNOWN = DType("unknown", 8, NumberClass.OPAQUE, "u1")


def sniff(source: Source, head: bytes) -> bool:
    """JSON of any kind begins so: here the name decides too."""
    return source.name.endswith(INDEX_SUFFIX) and head.lstrip()[:1] == b"{"


def open_index(location: Location) -> Checkpoint:
    """All shards that an index names, as one checkpoint, tensors in natural order of the shards.

    Tensors of shards that are missing are listed with that problem.

    Raises:
        NotReadableError: all shards are missing.
    """
    weight_map, declared = _checked(_json.parse(index_text(location), "the index"))
    named = sorted(set(weight_map.values()))
    shards = _open_shards(location.parent, named)
    held = tuple(ref for checkpoint in shards.values() for ref in checkpoint.tensors)
    lost = [(tensor, shard) for tensor, shard in weight_map.items() if shard not in shards]
    first = next(iter(shards.values()))
    return Checkpoint(
        path=str(location),
        format=f"{'safetensors' if first.format == 'safetensors' else 'torch'}-sharded",
        size=sum(c.size for c in shards.values()),
        tensors=(*held, *(absent(tensor, shard) for tensor, shard in lost)),
        metadata={"shards": len(named), "total_size": declared, "shard_format": first.format},
        objects={name: c.objects for name, c in shards.items()},
        writer=first.writer,
        foreign=tuple(sorted({f for c in shards.values() for f in c.foreign})),
        hazards=tuple(h._replace(where=f"{name}: {h.where}") for name, c in shards.items() for h in c.hazards),
        notes=tuple(f"{name}: {n}" for name, c in shards.items() for n in c.notes),
        training=next((c.training for c in shards.values() if c.training), first.training),
        files=tuple(c.path for c in shards.values()),
        checksums=tuple(check for c in shards.values() for check in c.checksums),
        defects=(
            *missing_shards(named, shards, lost, "tensor"),
            *_extra(location.parent, named),
            *_disagreements(weight_map, shards),
            *(() if lost else _wrong_total(declared, held)),
        ),
        sources=tuple(source for c in shards.values() for source in c.sources),
    )


def shards_of(location: Location) -> frozenset[str]:
    """Names of the files that an index places tensors in; none of what is no index, or a damaged one."""
    try:
        with location.reading() as source:
            weight_map, _ = _checked(_json.parse(index_text(location.opened(source)), "the index"))
    except PinspectError:
        return frozenset()
    return frozenset(weight_map.values())


def index_text(location: Location) -> bytes:
    """All bytes of the index, the head of which was read before."""
    source = location.open()
    if source.size > MAX_INDEX:
        raise LimitError(f"an index of {source.size:,} bytes: at most {MAX_INDEX >> 20} MiB are read")
    head = location.head(min(HEAD, source.size))
    return head + source.read_at(len(head), source.size - len(head))


def _checked(table: object) -> tuple[Mapping[str, str], int | None]:
    """The weight map, with shard names that stay in the folder; and the declared total."""
    weight_map = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise DamagedFileError("the index has no weight_map that names tensors and their files")
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str):
            raise DamagedFileError(f"the index maps {tensor[:80]!r} to a {type(shard).__name__}, expected a file name")
        check_name(shard)
    if len(set(weight_map.values())) > MAX_SHARDS:
        raise LimitError(f"the index names more than {MAX_SHARDS:,} files")
    metadata = table.get("metadata") if isinstance(table, dict) else None
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    return weight_map, total if type(total) is int else None


def check_name(shard: str) -> None:
    """Check that a name in an index stays in the folder.

    Raises:
        UnsafeFileError: it leads out of it.
    """
    if not shard or shard.startswith(".") or any(c in shard for c in "/\\\0:") or "://" in shard:
        raise UnsafeFileError(f"the index names a file outside its folder: {shard[:100]!r}", "do not load it")


def _open_shards(folder: Location, names: Sequence[str]) -> dict[str, Checkpoint]:
    """Those that are there, by name.

    Raises:
        NotReadableError: none is.
    """
    there = [name for name in names if (shard := folder.join(name)).exists() or shard.is_link()]
    if not there:
        raise NotReadableError(
            f"{len(names):,} of {len(names):,} shards are missing: {listed(names)}",
            "download them into the same folder",
        )
    return {name: open_file(inside(folder, name), without=(FORMAT,)) for name in there}


def absent(tensor: str, shard: str) -> TensorRef:
    """A tensor of which only the index speaks."""
    return TensorRef(tensor, _UNKNOWN, (0,), problem=f"its shard {shard} is missing")


def inside(folder: Location, name: str) -> Location:
    """The shard; a link may lead within the folder or into the blobs of the same Hugging Face cache."""
    shard = folder.join(name)
    if shard.leads_out():
        raise UnsafeFileError(f"shard {name!r} is a link that leads out of its folder", "do not load it")
    return shard


# -- where index and shards contradict each other ----------------------------------------------------------


def missing_shards(
    names: Sequence[str], there: Collection[str], lost: Iterable[tuple[str, str]], noun: str
) -> Iterator[Defect]:
    """Shards that an index names and that are not there.

    Args:
        names: all of them, sorted.
        there: those that are.
        lost: (name, missing shard) of each tensor, or layer, that has no values so.
        noun: what these are, `tensor`.
    """
    of_shard: dict[str, list[str]] = {}
    for name, shard in lost:
        of_shard.setdefault(shard, []).append(name)
    for shard in names:
        if shard not in there:
            held = tuple(of_shard.get(shard, ()))
            yield Defect(
                "missing-shard",
                f"the shard {shard} is missing: found {len(there):,} of the {len(names):,} that the index names; "
                f"{plural(len(held), noun)} without values",
                {"shard": shard, "found": len(there), "expected": len(names), "tensors": len(held)},
                held,
            )


def _extra(folder: Location, named: Sequence[str]) -> Iterator[Defect]:
    """Shards of the same model's name beside those of the index: left over from another save."""
    stems = {name[: found.start()] + found[2] for name in named if (found := SHARD.search(name))}
    beside = sorted(entry.name for entry in folder.list())
    extra = [
        name
        for name in beside
        if name not in named and (found := SHARD.search(name)) and name[: found.start()] + found[2] in stems
    ]
    if extra:
        yield Defect(
            "extra-shard",
            f"{len(extra):,} of the shards in the folder {is_or_are(len(extra))} not in the index: {listed(extra)}",
            {"extra": len(extra), "indexed": len(named), "shards": extra[:10]},
        )


def _disagreements(weight_map: Mapping[str, str], shards: Mapping[str, Checkpoint]) -> Iterator[Defect]:
    homes: dict[str, list[str]] = {}
    for shard, checkpoint in shards.items():
        for ref in checkpoint.tensors:
            homes.setdefault(ref.name, []).append(shard)
    yield from _misplaced(weight_map, shards, homes)
    yield from _beside_the_index(weight_map, shards, homes)


def _misplaced(
    weight_map: Mapping[str, str], shards: Mapping[str, Checkpoint], homes: Mapping[str, Sequence[str]]
) -> Iterator[Defect]:
    """Tensors that are not where the index says."""
    nowhere: dict[str, list[str]] = {}
    elsewhere: dict[tuple[str, str], list[str]] = {}
    for tensor, shard in weight_map.items():
        if shard not in shards or shard in homes.get(tensor, ()):
            continue
        if tensor in homes:
            elsewhere.setdefault((shard, homes[tensor][0]), []).append(tensor)
        else:
            nowhere.setdefault(shard, []).append(tensor)
    for shard, tensors in nowhere.items():
        yield Defect(
            "index-mismatch",
            f"{shard} lacks {plural(len(tensors), 'tensor')} that the index places in it: {listed(tensors)}",
            {"shard": shard, "tensors": len(tensors)},
            tuple(tensors),
        )
    for (shard, home), tensors in elsewhere.items():
        yield Defect(
            "index-mismatch",
            f"{plural(len(tensors), 'tensor')} found in {home}, expected by the index in {shard}: {listed(tensors)}",
            {"shard": home, "expected": shard, "tensors": len(tensors)},
            tuple(tensors),
        )


def _beside_the_index(
    weight_map: Mapping[str, str], shards: Mapping[str, Checkpoint], homes: Mapping[str, Sequence[str]]
) -> Iterator[Defect]:
    """Tensors of the shards that the index does not name, or not there."""
    for shard, checkpoint in shards.items():
        held = [ref.name for ref in checkpoint.tensors]
        unnamed = [tensor for tensor in held if tensor not in weight_map]
        twice = [t for t in held if weight_map.get(t, shard) != shard and weight_map[t] in homes[t]]
        if unnamed:
            yield Defect(
                "not-in-index",
                f"{shard} holds {plural(len(unnamed), 'tensor')} that the index does not name: {listed(unnamed)}",
                {"shard": shard, "tensors": len(unnamed)},
                tuple(unnamed),
            )
        if twice:
            yield Defect(
                "not-in-index",
                f"{shard} holds {plural(len(twice), 'tensor')} that the index places in another shard, "
                f"which holds them too: {listed(twice)}",
                {"shard": shard, "tensors": len(twice)},
                tuple(twice),
            )


def _wrong_total(declared: int | None, held: Sequence[TensorRef]) -> Iterator[Defect]:
    """Writers count tied tensors once or each time; both are right."""
    tied = {ref.storage: ref.nbytes for ref in held if ref.storage is not None}
    each = sum(ref.nbytes for ref in held)
    once = sum(ref.nbytes for ref in held if ref.storage is None) + sum(tied.values())
    if declared is not None and declared not in (each, once):
        yield Defect(
            "total-size",
            f"the index says {declared:,} bytes in all, the shards hold {once:,}",
            {"declared": declared, "held": once},
        )


FORMAT = Format(
    "safetensors-sharded",
    "sharded safetensors",
    (INDEX_SUFFIX,),
    sniff,
    open_index,
    variants={"torch-sharded": "sharded PyTorch"},
)
