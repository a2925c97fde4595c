"""Sacred's file storage: a numbered folder per run with `config.json` and `run.json`.

https://sacred.readthedocs.io/en/stable/observers.html#directory-structure
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from inspectcli.encodings.files import json_object, names_in, read_file, read_json, siblings, subfolders
from inspectcli.errors import PinspectError
from inspectcli.hparams._tree import rows
from inspectcli.hparams._trials import EXPERIMENTS, Study, choose
from inspectcli.hparams.base import HParamRow, HParamSource, Selection, Store, Trial

TOOL = "sacred"


def _sniff(path: str, head: bytes) -> bool:
    """`config.json` is a name that many use: `cout.txt` and `run.json` lie beside Sacred's."""
    return os.path.basename(path) == "config.json" and siblings(path) >= {"cout.txt", "run.json"}


def _read_any(path: str, head: bytes, choice: Selection) -> Store:
    return _read_folder(path, choice) if os.path.isdir(path) else Store(tuple(_rows(path)))


def _rows(path: str) -> list[HParamRow]:
    return rows(read_json(path), path, TOOL)


def _is_run(folder: str) -> bool:
    return names_in(folder) >= {"config.json", "run.json", "cout.txt"}


def _is_folder(folder: str) -> bool:
    return any(os.path.basename(path).isdecimal() and _is_run(path) for path in subfolders(folder)[:1000])


def _read_folder(folder: str, choice: Selection) -> Store:
    notes: list[str] = []
    trials: list[Trial] = []
    runs = [path for path in subfolders(folder) if os.path.basename(path).isdecimal() and _is_run(path)]
    for run in sorted(runs, key=lambda path: int(os.path.basename(path))):
        try:
            found = _rows(os.path.join(run, "config.json"))
        except PinspectError as error:
            notes.append(f"{os.path.basename(run)}/config.json: {error.message}")
            continue
        record = _record(os.path.join(run, "run.json"))
        trials.append(Trial(os.path.basename(run), str(record.get("status", "")), rows=tuple(found)))
    done = frozenset(trial.name for trial in trials if trial.state == "COMPLETED")
    store = choose([Study("", tuple(trials), done)], choice, EXPERIMENTS, notes)
    return replace(store, files=tuple(sorted({row.source.file for row in store.rows})))


def _record(path: str) -> dict[str, Any]:
    try:
        return json_object(read_file(path))
    except PinspectError:
        return {}


SOURCE = HParamSource(TOOL, _sniff, _read_any, _is_folder)
