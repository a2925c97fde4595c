"""Neptune offline: a folder per run with `metadata.json` and the operations in `data-N.log`, one a line.

https://docs.neptune.ai/help/offline_mode/
"""

from __future__ import annotations

import re

from inspectcli.encodings.files import first_object, json_lines, names_in, read_file
from inspectcli.errors import DamagedFileError
from inspectcli.hparams._tree import flag_unresolved
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Origin, Selection, Store
from inspectcli.hparams.names import hparam
from inspectcli.storage.location import Location

TOOL = "neptune"

MAX_LOG = 256 << 20
_LOG = re.compile(r"data-(\d+)\.log")
_ASSIGN = ("AssignFloat", "AssignInt", "AssignBool", "AssignString")
#: What Neptune itself records.
_OWN = ("sys", "source_code", "monitoring")
_CURRENT = {"lr": "learning_rate.current", "learning_rate": "learning_rate.current", "epoch": "epoch.current"}


def _sniff(location: Location, head: bytes) -> bool:
    first = first_object(head)
    return isinstance(first.get("obj"), dict) and "version" in first and "path" in first["obj"]


def _is_folder(folder: Location) -> bool:
    names = names_in(folder)
    return "metadata.json" in names and any(_LOG.fullmatch(name) for name in names)


def _read(location: Location, head: bytes, choice: Selection) -> Store:
    """A folder's logs in their order; what was assigned later counts."""
    logs = [location]
    if location.is_folder():
        names = [name for name in names_in(location) if _LOG.fullmatch(name)]
        logs = [location.join(name) for name in sorted(names, key=lambda name: int(name[5:-4]))]
    found: dict[str, HParamRow] = {}
    notes: list[str] = []
    for log in logs:
        try:
            for line in json_lines(read_file(log, MAX_LOG).replace(b"\0", b""), log.name):
                row = _row(line.get("obj"), str(log))
                if row is not None:
                    found[row.raw_key] = row
        except DamagedFileError as error:
            notes.append(f"read up to the damage: {error.message}")
    return Store(tuple(found.values()), notes=tuple(notes), files=tuple(map(str, logs)) if location.is_folder() else ())


def _row(operation: object, path: str) -> HParamRow | None:
    """A value under `parameters/`, or anywhere that Neptune does not use for itself."""
    if not isinstance(operation, dict) or not isinstance(operation.get("path"), list) or not operation["path"]:
        return None
    keys = [str(key) for key in operation["path"]]
    if keys[0] in _OWN:
        return None
    kind = operation.get("type")
    if kind in _ASSIGN:
        value = operation.get("value")
        return flag_unresolved(hparam("/".join(keys), value, Origin(path, str(kind), TOOL), "config"))
    name = _CURRENT.get(keys[-1].lower())
    values = operation.get("values")
    last = values[-1] if isinstance(values, list) and values else None
    if kind == "LogFloats" and name and isinstance(last, dict) and isinstance(last.get("value"), int | float):
        return HParamRow(
            name, "/".join(keys), last["value"], None, Kind.DYNAMIC, Origin(path, str(kind), TOOL), "last logged"
        )
    return None


SOURCE = HParamSource(TOOL, _sniff, _read, _is_folder)
