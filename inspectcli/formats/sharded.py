"""Many files, one checkpoint: `*.index.json`, and a Hugging Face model folder.

{"metadata": {"total_size": 123}, "weight_map": {"tensor name": "model-00001-of-00002.safetensors"}}
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from inspectcli.encodings import json as _json
from inspectcli.errors import DamagedFileError, LimitError, NotReadableError, PinspectError, UnsafeFileError
from inspectcli.storage.local import LocalFile, not_readable
from inspectcli.storage.source import Source
from inspectcli.tensors.dtypes import DType, NumberClass
from inspectcli.tensors.model import Checkpoint, Defect, TensorRef

MAX_INDEX = 256 << 20
MAX_SHARDS = 10_000

_INDEX_SUFFIX = ".index.json"
#: The weights in a `.keras` archive, and in a folder that is one unzipped.
UNZIPPED = "model.weights.h5"
#: Index and files of Keras 3 weights: read by hdf5/shards.
KERAS_INDEX = ".weights.json"
_KERAS_SHARD = re.compile(r"_\d{5}\.weights\.h5$")
_SHARD = re.compile(r"-\d{5}-of-(\d{5})\.(safetensors|bin)$")
#: Element type of a tensor whose shard is missing: the index gives its name and nothing else.
_UNKNOWN = DType("unknown", 8, NumberClass.OPAQUE, "u1")

#: What a model folder holds, best first: the first that is there is the model.
_MODEL_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "adapter_model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "adapter_model.bin",
    UNZIPPED,
    "tf_model.h5",
)
#: Files of a run folder that are not a model by themselves.
_NOT_MODELS = re.compile(r"^(optimizer|scheduler|scaler|training_args|rng_state.*|random_states.*)\.(pt|bin|pth|pkl)$")


def is_index(path: str, source: Source) -> bool:
    return path.endswith(_INDEX_SUFFIX) and source.read_at(0, min(64, source.size)).lstrip()[:1] == b"{"


def open_index(path: str, source: Source) -> Checkpoint:
    """All shards that an index names, as one checkpoint, tensors in natural order of the shards.

    Tensors of shards that are missing are listed with that problem.

    Raises:
        NotReadableError: all shards are missing.
    """
    try:
        if source.size > MAX_INDEX:
            raise LimitError(f"an index of {source.size:,} bytes: at most {MAX_INDEX >> 20} MiB are read")
        table = _json.parse(source.read_at(0, source.size), "the index")
        weight_map, declared = _checked(table)
        named = sorted(set(weight_map.values()))
        shards = _open_shards(path, named)
    except PinspectError as error:
        raise error.at(path) from None
    held = tuple(ref for checkpoint in shards.values() for ref in checkpoint.tensors)
    absent = tuple(absent(tensor, shard) for tensor, shard in weight_map.items() if shard not in shards)
    first = next(iter(shards.values()))
    return Checkpoint(
        path=path,
        format=f"{'safetensors' if first.format == 'safetensors' else 'torch'}-sharded",
        size=sum(c.size for c in shards.values()),
        tensors=held + absent,
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
            *_missing(weight_map, shards),
            *_extra(path, named),
            *_disagreements(weight_map, shards),
            *(() if absent else _wrong_total(declared, held)),
        ),
    )


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


def _open_shards(index: str, names: Sequence[str]) -> dict[str, Checkpoint]:
    """Those that are there, by name.

    Raises:
        NotReadableError: none is.
    """
    from inspectcli.formats import open_source

    folder = os.path.dirname(index) or "."
    there = [name for name in names if os.path.lexists(os.path.join(folder, name))]
    if not there:
        raise NotReadableError(
            f"{len(names):,} of {len(names):,} shards are missing: {_some(names)}",
            "download them into the same folder",
        )
    return {name: open_source(p := inside(folder, name), LocalFile(p)) for name in there}


def absent(tensor: str, shard: str) -> TensorRef:
    """A tensor of which only the index speaks."""
    return TensorRef(tensor, _UNKNOWN, (0,), problem=f"its shard {shard} is missing")


def inside(folder: str, name: str) -> str:
    """The shard's path; a link may lead within the folder or into the blobs of the same Hugging Face cache."""
    path = os.path.join(folder, name)
    if stat.S_ISLNK(os.lstat(path).st_mode):
        real, home = os.path.realpath(path), os.path.realpath(folder)
        repository = os.path.dirname(os.path.dirname(home))
        allowed = (home + os.sep, os.path.join(repository, "blobs") + os.sep)
        if not real.startswith(allowed):
            raise UnsafeFileError(f"shard {name!r} is a link that leads out of its folder", "do not load it")
    return path


# -- where index and shards contradict each other ----------------------------------------------------------


def _missing(weight_map: Mapping[str, str], shards: Mapping[str, Checkpoint]) -> Iterator[Defect]:
    named = sorted(set(weight_map.values()))
    for shard in named:
        if shard not in shards:
            tensors = tuple(tensor for tensor, where in weight_map.items() if where == shard)
            yield Defect(
                "missing-shard",
                f"the shard {shard} is missing: found {len(shards):,} of the {len(named):,} that the index names; "
                f"{_count(tensors)} without values",
                {"shard": shard, "found": len(shards), "expected": len(named), "tensors": len(tensors)},
                tensors,
            )


def _extra(index: str, named: Sequence[str]) -> Iterator[Defect]:
    """Shards of the same model's name beside those of the index: left over from another save."""
    stems = {name[: found.start()] + found[2] for name in named if (found := _SHARD.search(name))}
    beside = sorted(os.listdir(os.path.dirname(index) or "."))
    extra = [
        name
        for name in beside
        if name not in named and (found := _SHARD.search(name)) and name[: found.start()] + found[2] in stems
    ]
    if extra:
        yield Defect(
            "extra-shard",
            f"{len(extra):,} of the shards in the folder {_is(extra)} not in the index: {_some(extra)}",
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
            f"{shard} lacks {_count(tensors)} that the index places in it: {_some(tensors)}",
            {"shard": shard, "tensors": len(tensors)},
            tuple(tensors),
        )
    for (shard, home), tensors in elsewhere.items():
        yield Defect(
            "index-mismatch",
            f"{_count(tensors)} found in {home}, expected by the index in {shard}: {_some(tensors)}",
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
                f"{shard} holds {_count(unnamed)} that the index does not name: {_some(unnamed)}",
                {"shard": shard, "tensors": len(unnamed)},
                tuple(unnamed),
            )
        if twice:
            yield Defect(
                "not-in-index",
                f"{shard} holds {_count(twice)} that the index places in another shard, which holds them too: "
                f"{_some(twice)}",
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


def _some(names: Sequence[str]) -> str:
    """The first three."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _count(tensors: Sequence[str]) -> str:
    return "1 tensor" if len(tensors) == 1 else f"{len(tensors):,} tensors"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


# -- folders --------------------------------------------------------------------------------------------


def open_directory(path: str) -> Checkpoint:
    """The one model in a folder.

    Raises:
        NotReadableError: there is none, or several without an index: named.
    """
    models = models_in(path)
    if not models:
        raise NotReadableError(
            "a directory without a model file", "name a checkpoint, or a folder that holds one", path
        )
    if len(models) > 1:
        shown = ", ".join(os.path.basename(m) for m in models[:4]) + (", ..." if len(models) > 4 else "")
        raise NotReadableError(f"a directory with {len(models):,} models: {shown}", "name one of them", path)
    from inspectcli.formats import open_checkpoint

    return replace(open_checkpoint(models[0]), path=models[0])


def models_in(path: str) -> list[str]:
    """Paths of the models in a folder, shards of one model once; not in its sub-folders."""
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise not_readable(path, error) from None
    known = set(names)
    for name in _MODEL_FILES:
        if name in known:
            return [os.path.join(path, name)]
    indexes = [n for n in names if n.endswith(_INDEX_SUFFIX)]
    if indexes:
        return [os.path.join(path, n) for n in indexes]
    found = [n for n in names if _is_model_name(n) and not _NOT_MODELS.match(n)]
    of_keras = [n for n in names if n.endswith(KERAS_INDEX)]
    if of_keras:
        parts = re.compile("|".join(re.escape(n.removesuffix(KERAS_INDEX)) for n in of_keras))
        found = [
            *of_keras,
            *(n for n in found if not ((m := _KERAS_SHARD.search(n)) and parts.fullmatch(n[: m.start()]))),
        ]
    whole = [n for n in found if not _SHARD.search(n)]
    return [os.path.join(path, n) for n in (whole or found)]


def is_model_folder(path: str) -> bool:
    """Whether the folder is one model, as Hugging Face lays it out: what lies below belongs to it."""
    return any(name in _MODEL_FILES or name.endswith(_INDEX_SUFFIX) for name in os.listdir(path))


def _is_model_name(name: str) -> bool:
    """Folders hold much else, so here the suffix chooses what is opened; the content still decides how."""
    from inspectcli.formats import formats

    return any(name.endswith(suffix) for f in formats() for suffix in f.suffixes if suffix != ".pkl")
