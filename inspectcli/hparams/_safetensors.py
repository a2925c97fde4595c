"""What trainers write into the header of safetensors files: kohya's `ss_*`, `modelspec.*`, adapters' JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from inspectcli.hparams._tree import decode_text, rows
from inspectcli.hparams.base import HParamRow, Kind, Origin
from inspectcli.hparams.names import hparam
from inspectcli.tensors.model import Checkpoint

TOOL = "kohya"

#: Keys whose text is JSON of what was set, as opposed to captions and counts.
_JSON_SETTINGS = frozenset({"ss_network_args", "ss_datasets", "lora_adapter_metadata", "config", "hyperparameters"})
#: `torch.optim.adamw.AdamW(weight_decay=0.1,betas=(0.9, 0.99))`
_CALL = re.compile(r"([\w.]+)\((.*)\)", re.DOTALL)


def metadata_rows(checkpoint: Checkpoint) -> list[HParamRow]:
    metadata = checkpoint.objects if isinstance(checkpoint.objects, Mapping) else {}
    made: list[HParamRow] = []
    for key, text in metadata.items():
        made += _entry(str(key), text, checkpoint.path)
    return made


def _entry(key: str, text: object, file: str) -> Iterator[HParamRow]:
    tool = TOOL if key.startswith("ss_") else "safetensors"
    origin = Origin(file, "__metadata__", tool)
    place = f"__metadata__.{key}"
    if key in _JSON_SETTINGS:
        try:
            tree = json.loads(str(text))
        except (ValueError, RecursionError):
            tree = None
        if isinstance(tree, dict | list):
            scope = "lora" if "lora" in key or "network" in key else "data" if key == "ss_datasets" else "config"
            yield from rows(tree, file, tool, place, scope, decode_text)
            return
    if key == "ss_optimizer" and (call := _CALL.fullmatch(str(text))):
        yield HParamRow("optimizer", key, text, None, Kind.STATIC, replace(origin, locator=place))
        for name, value in _arguments(call[2]).items():
            yield hparam(name, value, replace(origin, locator=place), "optimizer")
        return
    value = decode_text(text)
    row = hparam(key, value, origin, "config", stored=str(text) if value is not text else "")
    if key in ("ss_epoch", "ss_steps"):
        name = "epoch.current" if key == "ss_epoch" else "step.current"
        yield replace(row, name=name, kind=Kind.DYNAMIC, current=value)
    elif key.startswith("modelspec.") or not _known(key):
        yield replace(row, name=None, kind=Kind.SETTING)
    else:
        yield row


def _known(key: str) -> bool:
    """Whether a header key says how something was trained; captions, hashes and dates do not."""
    return not re.search(r"hash|_at$|date|tag_frequency|dataset_dirs|bucket|comment|version|sd_model|vae|name$", key)


def _arguments(text: str) -> Mapping[str, object]:
    """`weight_decay=0.1,betas=(0.9, 0.99)` -> their values."""
    made: dict[str, object] = {}
    for match in re.finditer(r"(\w+)\s*=\s*(\([^)]*\)|\[[^\]]*\]|[^,]+)", text):
        made[match[1]] = decode_text(match[2].strip())
    return made
