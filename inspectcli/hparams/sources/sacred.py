"""Sacred's file storage: a numbered folder per run with `config.json` and `run.json`.

https://sacred.readthedocs.io/en/stable/observers.html#directory-structure
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inspectcli.encodings.files import json_object, names_in, read_file, read_json, siblings, subfolders
from inspectcli.errors import PinspectError
from inspectcli.hparams._tree import rows
from inspectcli.hparams._trials import EXPERIMENTS, Study, choose
from inspectcli.hparams.base import HParamRow, HParamSource, Selection, Store, Trial
from inspectcli.storage.location import Location

TOOL = "sacred"


def _sniff(location: Location, head: bytes) -> bool:
    """`config.json` is a name that many use: `cout.txt` and `run.json` lie beside Sacred's."""
    return location.name == "config.json" and siblings(location) >= {"cout.txt", "run.json"}


def _read_any(location: Location, head: bytes, choice: Selection) -> Store:
    return _read_folder(location, choice) if location.is_folder() else Store(tuple(_rows(location)))


def _rows(location: Location) -> list[HParamRow]:
    return rows(read_json(location), str(location), TOOL)


def _is_run(folder: Location) -> bool:
    return names_in(folder) >= {"config.json", "run.json", "cout.txt"}


def _is_folder(folder: Location) -> bool:
    return any(run.name.isdecimal() and _is_run(run) for run in subfolders(folder)[:1000])


def _read_folder(folder: Location, choice: Selection) -> Store:
    notes: list[str] = []
    trials: list[Trial] = []
    runs = [run for run in subfolders(folder) if run.name.isdecimal() and _is_run(run)]
    for run in sorted(runs, key=lambda run: int(run.name)):
        try:
            found = _rows(run.join("config.json"))
        except PinspectError as error:
            notes.append(f"{run.name}/config.json: {error.message}")
            continue
        record = _record(run.join("run.json"))
        trials.append(Trial(run.name, str(record.get("status", "")), rows=tuple(found)))
    done = frozenset(trial.name for trial in trials if trial.state == "COMPLETED")
    store = choose([Study("", tuple(trials), done)], choice, EXPERIMENTS, notes)
    return replace(store, files=tuple(sorted({row.source.file for row in store.rows})))


def _record(location: Location) -> dict[str, Any]:
    try:
        return json_object(read_file(location))
    except PinspectError:
        return {}


SOURCE = HParamSource(TOOL, _sniff, _read_any, _is_folder)
