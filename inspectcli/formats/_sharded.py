"""Many files, one checkpoint: `*.index.json`, and a Hugging Face model folder.

{"metadata": {"total_size": 123}, "weight_map": {"tensor name": "model-00001-of-00002.safetensors"}}
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import replace

from inspectcli.errors import DamagedFileError, LimitError, NotReadableError, PinspectError, UnsafeFileError
from inspectcli.formats import _json
from inspectcli.model import Checkpoint, TensorRef
from inspectcli.source import LocalFile, Source, not_readable

MAX_INDEX = 256 << 20
MAX_SHARDS = 10_000

_INDEX_SUFFIX = ".index.json"
_SHARD = re.compile(r"-\d{5}-of-(\d{5})\.(safetensors|bin)$")

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
    "model.weights.h5",
    "tf_model.h5",
)
#: Files of a run folder that are not a model by themselves.
_NOT_MODELS = re.compile(r"^(optimizer|scheduler|scaler|training_args|rng_state.*|random_states.*)\.(pt|bin|pth|pkl)$")


def is_index(path: str, source: Source) -> bool:
    return path.endswith(_INDEX_SUFFIX) and source.read_at(0, min(64, source.size)).lstrip()[:1] == b"{"


def open_index(path: str, source: Source) -> Checkpoint:
    """All shards that an index names, as one checkpoint, tensors in natural order of the shards."""
    try:
        if source.size > MAX_INDEX:
            raise LimitError(f"an index of {source.size:,} bytes: at most {MAX_INDEX >> 20} MiB are read")
        table = _json.parse(source.read_at(0, source.size), "the index")
        weight_map, declared = _checked(table)
        shards = _open_shards(path, sorted(set(weight_map.values())))
    except PinspectError as error:
        raise error.at(path) from None
    refs, notes = _join(weight_map, shards)
    held = sum(sum(s.nbytes for r in c.tensors for s in r.segments) for c in shards.values())
    if declared is not None and declared != held:
        notes.append(f"the index says {declared:,} bytes in all, the shards hold {held:,}")
    first = next(iter(shards.values()))
    return Checkpoint(
        path=path,
        format=f"{'safetensors' if first.format == 'safetensors' else 'torch'}-sharded",
        size=sum(c.size for c in shards.values()),
        tensors=tuple(refs),
        metadata={"shards": len(shards), "total_size": declared, "shard_format": first.format},
        objects={name: c.objects for name, c in shards.items()},
        writer=first.writer,
        foreign=tuple(sorted({f for c in shards.values() for f in c.foreign})),
        hazards=tuple(h._replace(where=f"{name}: {h.where}") for name, c in shards.items() for h in c.hazards),
        notes=(*notes, *(f"{name}: {n}" for name, c in shards.items() for n in c.notes)),
        training=next((c.training for c in shards.values() if c.training), first.training),
        files=tuple(c.path for c in shards.values()),
        checks=tuple(check for c in shards.values() for check in c.checks),
    )


def _checked(table: object) -> tuple[Mapping[str, str], int | None]:
    """The weight map, with shard names that stay in the folder; and the declared total."""
    weight_map = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise DamagedFileError("the index has no weight_map that names tensors and their files")
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str):
            raise DamagedFileError(f"the index maps {tensor[:80]!r} to a {type(shard).__name__}, expected a file name")
        if not shard or shard.startswith(".") or any(c in shard for c in "/\\\0:") or "://" in shard:
            raise UnsafeFileError(f"the index names a file outside its folder: {shard[:100]!r}", "do not load it")
    if len(set(weight_map.values())) > MAX_SHARDS:
        raise LimitError(f"the index names more than {MAX_SHARDS:,} files")
    metadata = table.get("metadata") if isinstance(table, dict) else None
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    return weight_map, total if type(total) is int else None


def _open_shards(index: str, names: Iterable[str]) -> dict[str, Checkpoint]:
    from inspectcli.formats import open_source

    folder = os.path.dirname(index) or "."
    names = list(names)
    missing = [name for name in names if not os.path.lexists(os.path.join(folder, name))]
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise NotReadableError(
            f"{len(missing):,} of {len(names):,} shards are missing: {shown}",
            "download them into the same folder",
        )
    return {name: open_source(p := _inside(folder, name), LocalFile(p)) for name in names}


def _inside(folder: str, name: str) -> str:
    """The shard's path; a link may lead within the folder or into the blobs of the same Hugging Face cache."""
    path = os.path.join(folder, name)
    if stat.S_ISLNK(os.lstat(path).st_mode):
        real, home = os.path.realpath(path), os.path.realpath(folder)
        repository = os.path.dirname(os.path.dirname(home))
        allowed = (home + os.sep, os.path.join(repository, "blobs") + os.sep)
        if not real.startswith(allowed):
            raise UnsafeFileError(f"shard {name!r} is a link that leads out of its folder", "do not load it")
    return path


def _join(weight_map: Mapping[str, str], shards: Mapping[str, Checkpoint]) -> tuple[list[TensorRef], list[str]]:
    """Tensors of all shards; and what index and shards do not agree on."""
    refs = [ref for checkpoint in shards.values() for ref in checkpoint.tensors]
    held = {(name, ref.name) for name, checkpoint in shards.items() for ref in checkpoint.tensors}
    absent = [tensor for tensor, shard in weight_map.items() if (shard, tensor) not in held]
    extra = [tensor for shard, tensor in held if weight_map.get(tensor) != shard]
    notes = []
    if absent:
        notes.append(f"{len(absent):,} tensors of the index are in no shard where it says: {', '.join(absent[:3])}")
    if extra:
        notes.append(f"{len(extra):,} tensors of the shards are not in the index: {', '.join(sorted(extra)[:3])}")
    return refs, notes


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
    whole = [n for n in found if not _SHARD.search(n)]
    return [os.path.join(path, n) for n in (whole or found)]


def is_model_folder(path: str) -> bool:
    """Whether the folder is one model, as Hugging Face lays it out: what lies below belongs to it."""
    return any(name in _MODEL_FILES or name.endswith(_INDEX_SUFFIX) for name in os.listdir(path))


def _is_model_name(name: str) -> bool:
    """Folders hold much else, so here the suffix chooses what is opened; the content still decides how."""
    from inspectcli.formats import formats

    return any(name.endswith(suffix) for f in formats() for suffix in f.suffixes if suffix != ".pkl")
