"""Comet offline: a zip with `experiment.json` and `messages.json`, a message a line.

https://www.comet.com/docs/v2/guides/experiment-management/offline-experiment/
"""

from __future__ import annotations

from inspectcli.encodings.files import json_lines, zip_holds, zip_member
from inspectcli.errors import DamagedFileError
from inspectcli.hparams._tree import flag_unresolved
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Origin, Selection, Store
from inspectcli.hparams.names import hparam
from inspectcli.storage.location import Location

TOOL = "comet"

_MESSAGES = "messages.json"
MAX_MESSAGES = 256 << 20


def _sniff(location: Location, head: bytes) -> bool:
    return zip_holds(location, head, _MESSAGES, "experiment.json")


def _read(location: Location, head: bytes, choice: Selection) -> Store:
    found: dict[str, HParamRow] = {}
    notes: tuple[str, ...] = ()
    try:
        for message in json_lines(zip_member(location, _MESSAGES, MAX_MESSAGES), _MESSAGES):
            row = _row(message, str(location))
            if row is not None:
                found[row.raw_key] = row
    except DamagedFileError as error:
        notes = (f"read up to the damage: {error.message}",)
    return Store(tuple(found.values()), notes=notes)


def _row(message: dict[str, object], path: str) -> HParamRow | None:
    """A parameter's message. Nested keys are joined by `|`; `curr_step` is Comet's own."""
    payload = message.get("payload")
    param = payload.get("param") if isinstance(payload, dict) else None
    if message.get("type") != "parameter_msg" or not isinstance(param, dict):
        return None
    key, value = str(param.get("paramName")), param.get("paramValue")
    origin = Origin(path, f"{_MESSAGES}:parameter_msg", TOOL)
    if key in ("curr_step", "curr_epoch"):
        name = {"curr_step": "step.current", "curr_epoch": "epoch.current"}[key]
        return HParamRow(name, key, value, None, Kind.DYNAMIC, origin, "last logged")
    return flag_unresolved(hparam(key.replace("|", "/"), value, origin, "config"))


SOURCE = HParamSource(TOOL, _sniff, _read)
