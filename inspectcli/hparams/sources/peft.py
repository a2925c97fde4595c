"""PEFT's adapter_config.json: LoRA and its kin."""

from __future__ import annotations

import re
from dataclasses import replace

from inspectcli.encodings.files import read_json
from inspectcli.hparams._config import config_rows
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Selection, Store

TOOL = "peft"

_TYPE = re.compile(rb'"peft_type"\s*:')

#: Everything else in the file picks layers or starts weights.
_KNOWN = frozenset("r lora_alpha lora_dropout target_modules rank_pattern alpha_pattern use_rslora use_dora".split())


def sniff(path: str, head: bytes) -> bool:
    return head.lstrip()[:1] == b"{" and bool(_TYPE.search(head))


def read(path: str, head: bytes, choice: Selection) -> Store:
    return Store(tuple(map(_settled, config_rows(read_json(path), path, TOOL, scope="lora"))))


def _settled(row: HParamRow) -> HParamRow:
    top = row.source.locator.split(".")[0] or row.raw_key
    return row if row.name is not None or top in _KNOWN else replace(row, kind=Kind.SETTING)


SOURCE = HParamSource(TOOL, sniff, read)
