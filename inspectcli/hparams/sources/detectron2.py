"""detectron2's config.yaml: UPPER CASE, with SOLVER for optimizer, schedule and length."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from inspectcli.hparams._config import config_rows, load
from inspectcli.hparams.base import HParamRow, HParamSource, Selection, Store

TOOL = "detectron2"

_SOLVER = re.compile(rb"^SOLVER:", re.MULTILINE)


def sniff(path: str, head: bytes) -> bool:
    return path.endswith((".yaml", ".yml")) and bool(_SOLVER.search(head))


def read(path: str, head: bytes, choice: Selection) -> Store:
    tree = load(path, head)
    return Store(tuple(_own_words(row, tree) for row in config_rows(tree, path, TOOL)))


def _own_words(row: HParamRow, tree: object) -> HParamRow:
    place, key = row.source.locator, row.raw_key
    if key == "SEED" and row.value == -1:
        return replace(row, name=None, note="-1: none was set")
    if key == "IMS_PER_BATCH":
        return replace(row, note="of the whole job") if place == "SOLVER" else replace(row, name=None)
    if place == "SOLVER.CLIP_GRADIENTS" and not _enabled(tree):
        return replace(row, name=None, note="not used: ENABLED is false")
    if place == "SOLVER.AMP" and key == "ENABLED":
        return replace(row, name="precision", note="mixed precision") if row.value is True else row
    return row


def _enabled(tree: object) -> bool:
    for key in ("SOLVER", "CLIP_GRADIENTS", "ENABLED"):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree is True


SOURCE = HParamSource(TOOL, sniff, read)
