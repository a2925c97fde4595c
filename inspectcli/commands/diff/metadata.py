"""Metadata, configuration and training state of checkpoints as flat keys, and which of them differ."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from inspectcli.document import ABSENT, Absent
from inspectcli.encodings.files import read_json
from inspectcli.errors import PinspectError
from inspectcli.pickles.nodes import Dict, Global, Object, Persistent, Set
from inspectcli.tensors.model import Checkpoint

#: Most nodes that are visited: a pickle can hold one list a million times.
MAX_NODES = 200_000
MAX_DEPTH = 24
MAX_TEXT = 2_000
MAX_CONFIG = 4 << 20

#: Keys of the container, not of the model: copies of a model differ in them.
_CONTAINER = frozenset(
    "archive_root archive_version format_version pickle_protocol header_bytes hdf5_library shards total_size "
    "shard_format code_files system date_saved values metadata backend".split()
)
#: Numbers that Keras draws whenever it saves a model, and versions that torch keeps of every module.
_NOISE = frozenset({"shared_object_id", "_metadata"})


class Changed(NamedTuple):
    """A key besides the tensors whose value differs.

    Attributes:
        key: where it stands, with dots.
        a: the value in A; absent if the key is not there.
        b: the value in B; absent if the key is not there.
    """

    key: str
    a: object | Absent
    b: object | Absent


def changes(a: Checkpoint, b: Checkpoint) -> list[Changed]:
    """Return the keys of metadata, configuration and training state that differ, sorted."""
    left, right = facts(a), facts(b)
    # What another format cannot hold is not a difference of the models.
    alike = a.format.removesuffix("-sharded") == b.format.removesuffix("-sharded")
    keys = sorted(left.keys() | right.keys() if alike else left.keys() & right.keys())
    differing = [k for k in keys if k not in left or k not in right or not _equal(left[k], right[k])]
    return [Changed(k, left.get(k, ABSENT), right.get(k, ABSENT)) for k in differing]


def _equal(a: object, b: object) -> bool:
    if type(a) is not type(b) and (isinstance(a, bool) or isinstance(b, bool)):
        return False
    return a == b or (a != a and b != b)


def facts(checkpoint: Checkpoint) -> dict[str, object]:
    """Return every key that is not about a tensor, with its value."""
    made: dict[str, object] = {}
    nodes = itertools.count()
    for root in _roots(checkpoint):
        for key, value in _flat(root, "", 0, nodes):
            made.setdefault(key or "value", value)
    return made


def _roots(checkpoint: Checkpoint) -> Iterator[object]:
    yield {k: v for k, v in checkpoint.metadata.items() if k not in _CONTAINER}
    if isinstance(checkpoint.objects, dict) and checkpoint.files:  # the same in each shard
        yield from checkpoint.objects.values()
    else:
        yield checkpoint.objects
    training = checkpoint.training
    yield {f"training.{k}": v for k, v in training._asdict().items() if v not in (None, "")}
    yield from _config_beside(checkpoint)


def _config_beside(checkpoint: Checkpoint) -> Iterator[object]:
    """config.json of a model folder."""
    folder, name = os.path.split(checkpoint.path)
    if name in _NAMES_IN_FOLDERS:
        try:
            yield {"config": read_json(os.path.join(folder, "config.json"), MAX_CONFIG)}
        except PinspectError:
            return  # it is not the model: the comparison does not fail without it


#: A model under one of these names has its configuration beside it.
_NAMES_IN_FOLDERS = frozenset(
    "model.safetensors model.safetensors.index.json pytorch_model.bin pytorch_model.bin.index.json tf_model.h5 "
    "adapter_model.safetensors adapter_model.bin diffusion_pytorch_model.safetensors".split()
)


def _flat(value: object, key: str, depth: int, nodes: Iterator[int]) -> Iterator[tuple[str, object]]:
    """Yield (key, scalar) of nested containers, without tensors."""
    if isinstance(value, str | int | float | bool) or value is None:
        yield key, value[:MAX_TEXT] if isinstance(value, str) else value
        return
    if depth >= MAX_DEPTH or isinstance(value, Persistent):
        return
    if isinstance(value, Global):
        yield key, value.path
        return
    for name, member in _members(value):
        if next(nodes) >= MAX_NODES:
            return
        if name not in _NOISE:
            yield from _flat(member, f"{key}.{name}" if key else name, depth + 1, nodes)


def _members(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        yield from ((str(k), v) for k, v in value.items())
    elif isinstance(value, Dict):
        yield from ((_name(k), v) for k, v in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(i), v) for i, v in enumerate(value))
    elif isinstance(value, Set):
        scalars = sorted(str(v) for v in value.members if isinstance(v, str | int | float))
        yield from ((str(i), v) for i, v in enumerate(scalars))
    elif isinstance(value, Object) and not _is_tensor(value):
        yield from _parts(value)


def _parts(value: Object) -> Iterator[tuple[str, object]]:
    """Yield arguments, items and attributes of an object, under the names they have in memory."""
    pairs = value.args[0] if value.path == "collections.OrderedDict" and value.args else None
    if isinstance(pairs, list):  # Python 2 pickles the items as a list
        yield from ((_name(p[0]), p[1]) for p in pairs if isinstance(p, list | tuple) and len(p) == 2)
        return
    if value.args and value.entries is None and value.state is None:
        yield from ((str(i), v) for i, v in enumerate(value.args))
    if value.entries is not None:
        yield from _members(value.entries)
    if value.state is not None:
        yield from _members(value.state)
    if value.members is not None:
        yield from ((str(i), v) for i, v in enumerate(value.members))


def _name(key: object) -> str:
    return str(key) if isinstance(key, str | int | float) else f"<{type(key).__name__}>"


def _is_tensor(value: Object) -> bool:
    return "_rebuild" in value.path or value.path.startswith(("torch.storage", "torch._utils", "numpy."))
