"""DeepSpeed's JSON config. Its `train_batch_size` is that of the whole job; "auto" is filled in at run time."""

from __future__ import annotations

import re
from dataclasses import replace

from inspectcli.encodings.files import read_json
from inspectcli.hparams._config import config_rows
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Selection, Store
from inspectcli.storage.location import Location

TOOL = "deepspeed"

_MARKS = re.compile(rb'"(zero_optimization|train_micro_batch_size_per_gpu)"\s*:')


def sniff(location: Location, head: bytes) -> bool:
    return head.lstrip()[:1] == b"{" and bool(_MARKS.search(head))


def read(location: Location, head: bytes, choice: Selection) -> Store:
    return Store(tuple(map(_own_words, config_rows(read_json(location), str(location), TOOL, scope="train"))))


def _own_words(row: HParamRow) -> HParamRow:
    place, key = row.source.locator, row.raw_key
    if key == "train_batch_size" and not place:
        return replace(row, name="batch_size_total", note=row.note or "of the whole job")
    if key == "enabled" and place in ("fp16", "bf16", "amp"):
        if row.is_set:
            return replace(row, note=f"{place} is enabled")
        return replace(row, name=None)
    if place.split(".")[0] in ("zero_optimization", "fp16", "bf16", "amp", "comms_logger", "activation_checkpointing"):
        return replace(row, name=None, kind=Kind.SETTING)
    return row


SOURCE = HParamSource(TOOL, sniff, read)
