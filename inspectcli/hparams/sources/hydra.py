"""Hydra's `.hydra/`: the composed config, the overrides of the command line, and Hydra's own settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from inspectcli.hparams._config import config_rows, load
from inspectcli.hparams._tree import decode_text
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Origin, Selection, Store
from inspectcli.hparams.names import hparam
from inspectcli.storage.location import Location

TOOL = "hydra"

_OVERRIDE = re.compile(r"(\+\+|\+|~)?([\w./@-]+)(?:=(.*))?", re.DOTALL)


def sniff(location: Location, head: bytes) -> bool:
    return location.parent.name == ".hydra" and location.suffix == ".yaml"


def read(location: Location, head: bytes, choice: Selection) -> Store:
    tree = load(location, head)
    if isinstance(tree, list):
        return Store(tuple(_override_rows(tree, str(location))))
    rows = config_rows(tree, str(location), TOOL)
    if location.name == "hydra.yaml":
        return Store(tuple(replace(row, name=None, kind=Kind.SETTING) for row in rows))
    return Store(tuple(rows))


def _override_rows(listed: list[object], file: str) -> Iterator[HParamRow]:
    """`- optim.lr=0.05`, `- +optim.nesterov=true`, `- ~optim`."""
    for index, text in enumerate(listed):
        match = _OVERRIDE.fullmatch(text) if isinstance(text, str) else None
        if match is None or match[1] == "~" or match[3] is None:
            continue
        value = decode_text(match[3])
        stored = match[3] if value is not match[3] else ""
        origin = Origin(file, f"[{index}]", TOOL)
        yield hparam(match[2], value, origin, "config", "set on the command line", stored)


SOURCE = HParamSource(TOOL, sniff, read)
