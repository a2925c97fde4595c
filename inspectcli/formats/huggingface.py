"""A model folder as Hugging Face lays it out: the names of the files say which of them is the model.

model.safetensors, or model.safetensors.index.json and its shards, beside config.json, tokenizer.json, ...
https://github.com/huggingface/transformers/blob/00526137b1665721cfb7f21b9c57a4bdd3d11ad8/src/transformers/utils/__init__.py
"""

from __future__ import annotations

from collections.abc import Sequence

from inspectcli.formats.base import Format
from inspectcli.formats.folder import INDEX_SUFFIX
from inspectcli.formats.opening import open_one
from inspectcli.storage.location import Location
from inspectcli.tensors.model import Checkpoint

#: What a model folder holds, best first: the first that is there is what a loader takes. transformers looks for the
#: whole file before the index (`_get_resolved_checkpoint_files`), diffusers for the index (`_fetch_index_file`).
_MODEL_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "adapter_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_model.bin",
    "model.weights.h5",
    "tf_model.h5",
)


def models(folder: Location) -> Sequence[Location]:
    """The file that is the model; all indexes, if none has a name that is known."""
    names = {entry.name for entry in folder.list()}
    best = next((name for name in _MODEL_FILES if name in names), None)
    found = sorted(name for name in names if name.endswith(INDEX_SUFFIX)) if best is None else [best]
    return [folder.join(name) for name in found]


def open_folder(folder: Location) -> Checkpoint:
    return open_one(folder, models(folder))


FORMAT = Format("", "Hugging Face folder", (), None, open_folder, models)
