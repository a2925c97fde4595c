"""ClearML offline: a folder or zip per task, with `task.json`. Values are text, with the name of their type.

https://clear.ml/docs/latest/docs/guides/set_offline/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from inspectcli.encodings.files import parse_json, read_file, zip_holds, zip_member
from inspectcli.encodings.zip import LOCAL_MAGIC
from inspectcli.hparams._tree import decode_text, flag_unresolved
from inspectcli.hparams.base import HParamRow, HParamSource, Origin, Selection, Store
from inspectcli.hparams.names import hparam
from inspectcli.storage.location import Location

TOOL = "clearml"

_TASK = "task.json"
MAX_TASK = 64 << 20


def _sniff(location: Location, head: bytes) -> bool:
    if location.name == _TASK:
        return b'"hyperparams"' in head
    return zip_holds(location, head, _TASK, "log.jsonl")


def _read(location: Location, head: bytes, choice: Selection) -> Store:
    if not head.startswith(LOCAL_MAGIC):
        return Store(tuple(_rows(parse_json(read_file(location, MAX_TASK), _TASK), str(location), "")))
    data = zip_member(location, _TASK, MAX_TASK)
    return Store(tuple(_rows(parse_json(data, _TASK), str(location), f"{_TASK}:")))


def _rows(task: object, path: str, member: str) -> Iterator[HParamRow]:
    """`hyperparams.SECTION.KEY` holds name, type and value."""
    sections = task.get("hyperparams") if isinstance(task, Mapping) else None
    for section, entries in sections.items() if isinstance(sections, Mapping) else ():
        if not isinstance(entries, Mapping):
            continue
        origin = Origin(path, f"{member}hyperparams.{section}", TOOL)
        for key, entry in entries.items():
            if isinstance(entry, Mapping) and "value" in entry:
                text, kind = entry["value"], entry.get("type")
                value = text if kind == "str" else decode_text(text)
                stored = text if isinstance(text, str) and value is not text else ""
                yield flag_unresolved(hparam(str(key), value, origin, "config", stored=stored))


SOURCE = HParamSource(TOOL, _sniff, _read)
