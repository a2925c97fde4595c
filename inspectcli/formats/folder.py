"""A folder that no format has as its own: what in it is called like a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from inspectcli.errors import NotReadableError
from inspectcli.formats.finding import formats
from inspectcli.storage.location import Location

#: How the file is called that names the shards of a model, and how they are.
INDEX_SUFFIX = ".index.json"
#: The same of the weights of Keras 3: `model.weights.json`, `model_00000.weights.h5`, ...
KERAS_INDEX = ".weights.json"
_KERAS_SHARD = re.compile(r"_\d{5}\.weights\.h5$")
SHARD = re.compile(r"-\d{5}-of-(\d{5})\.(safetensors|bin)$")
#: Files of a run folder that are not a model by themselves.
_NOT_MODELS = re.compile(r"^(optimizer|scheduler|scaler|training_args|rng_state.*|random_states.*)\.(pt|bin|pth|pkl)$")
#: A suffix that anything may have, and that therefore tells nothing in a folder.
_ANYTHING = ".pkl"


def model_suffixes() -> tuple[str, ...]:
    """By which suffixes checkpoints are told in a folder from all else that lies there."""
    return tuple(dict.fromkeys(suffix for f in formats() for suffix in f.suffixes if suffix != _ANYTHING))


def models_by_suffix(folder: Location) -> Sequence[Location]:
    """Files that are called like checkpoints, shards only if nothing is whole; not those in sub-folders.

    The suffix chooses what is opened; the content still decides how.
    """
    suffixes = model_suffixes()
    names = sorted(entry.name for entry in folder.list())
    indexed = {name.removesuffix(KERAS_INDEX) for name in names if name.endswith(KERAS_INDEX)}
    found = [
        name
        for name in names
        if name.endswith(suffixes) and not _NOT_MODELS.match(name) and not is_in_keras_index(indexed, name)
    ]
    whole = [name for name in found if not SHARD.search(name)]
    return [folder.join(name) for name in whole or found]


def is_in_keras_index(indexed: Collection[str], name: str) -> bool:
    """Whether an index of Keras beside it names the file: that of the same model."""
    shard = _KERAS_SHARD.search(name)
    return shard is not None and name[: shard.start()] in indexed


def no_model(folder: Location) -> NotReadableError:
    return NotReadableError(
        "a directory without a model file", "name a checkpoint, or a folder that holds one", str(folder)
    )
