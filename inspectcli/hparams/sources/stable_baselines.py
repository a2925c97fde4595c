"""Stable-Baselines3: `data`, JSON of the algorithm's attributes, beside the networks in one zip archive.

https://github.com/DLR-RM/stable-baselines3/blob/v2.7.0/stable_baselines3/common/save_util.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from inspectcli.encodings.files import parse_json, zip_holds, zip_member
from inspectcli.hparams._tree import rows
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Origin, Selection, Store
from inspectcli.hparams.names import hparam
from inspectcli.storage.location import Location

TOOL = "stable-baselines3"

_DATA = "data"
MAX_DATA = 64 << 20

#: Where training has got to, and what happened on the way.
_PROGRESS = {"num_timesteps": "step.current", "_total_timesteps": "max_steps"}
#: What is called otherwise here: `n_epochs` are passes over one batch of experience, `gamma` discounts rewards.
_NAMES = {"gamma": "discount", "n_epochs": None, "n_steps": None, "lr_schedule": None}


def sniff(location: Location, head: bytes) -> bool:
    return zip_holds(location, head, _DATA, "_stable_baselines3_version") or zip_holds(
        location, head, _DATA, "policy.pth"
    )


def read(location: Location, head: bytes, choice: Selection) -> Store:
    tree = parse_json(zip_member(location, _DATA, MAX_DATA), _DATA)
    return Store(tuple(_rows(tree, str(location))) if isinstance(tree, Mapping) else ())


def _rows(tree: Mapping[str, object], file: str) -> Iterator[HParamRow]:
    for key, value in tree.items():
        origin = Origin(file, _DATA, TOOL)
        if key in _PROGRESS:
            name = _PROGRESS[key]
            kind = Kind.DYNAMIC if name.endswith(".current") else Kind.STATIC
            yield HParamRow(name, key, value, value if kind is Kind.DYNAMIC else None, kind, origin)
        elif isinstance(value, Mapping) and ":serialized:" in value:
            # A pickle, of a schedule say: its settings are not in the text.
            row = hparam(key, None, origin, "train", "unresolved: a pickled object")
            yield replace(row, unresolved=True)
        elif key.startswith("_"):
            yield HParamRow(None, key, value, None, Kind.SETTING, origin)
        elif key in _NAMES:
            yield HParamRow(_NAMES[key], key, value, None, Kind.STATIC, origin)
        elif isinstance(value, Mapping) and ":type:" not in value:
            yield from rows(value, file, TOOL, f"{_DATA}.{key}", "model" if key == "policy_kwargs" else "train")
        elif not isinstance(value, Mapping):
            yield hparam(key, value, origin, "train")


SOURCE = HParamSource(TOOL, sniff, read)
