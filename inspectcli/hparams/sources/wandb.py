"""Weights & Biases: the record file of a run (`run-ID.wandb`, all there is offline) and its `config.yaml`.

A record file is `:W&B`, a magic number and a version, then a LevelDB log of protobuf records.
    https://github.com/wandb/wandb/blob/v0.22.0/wandb/sdk/internal/datastore.py
    https://github.com/wandb/wandb/blob/v0.22.0/wandb/proto/wandb_internal.proto
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from inspectcli.encodings.files import json_object, names_in, parse_json, read_file, subfolders
from inspectcli.encodings.leveldb import log_records
from inspectcli.encodings.protobuf import Message
from inspectcli.encodings.yaml import load_yaml
from inspectcli.errors import DamagedFileError, LimitError, PinspectError
from inspectcli.hparams._tree import flag_unresolved, rows
from inspectcli.hparams._trials import EXPERIMENTS, Study, choose
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Origin, Selection, Store, Trial
from inspectcli.hparams.names import hparam, scope_of
from inspectcli.storage.location import Location

TOOL = "wandb"

_MAGIC = b":W&B"
_HEADER_LENGTH = 7
_RUN_FOLDER = re.compile(r"(offline-)?run-\d{8}_\d{6}-")

#: Numbers of the fields that are read, by message.
_SUMMARY, _CONFIG, _RUN, _EXIT = 3, 5, 17, 18
_UPDATE, _REMOVE = 1, 2
_KEY, _NESTED_KEY, _VALUE_JSON = 1, 2, 16

#: Last values of curves that say where training has got to.
_CURRENT = {
    "lr": "learning_rate.current",
    "learning_rate": "learning_rate.current",
    "epoch": "epoch.current",
    "global_step": "step.current",
}


# -- record files ---------------------------------------------------------------------------------------


@dataclass
class _Run:
    """What the records of one run add up to."""

    config: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    project: str = ""
    name: str = ""
    sweep: str = ""
    exit_code: int | None = None

    def apply(self, record: Message) -> None:
        for run in record.messages(_RUN):
            self.project, self.name, self.sweep = (run.text(n) or old for n, old in self._identity())
            for config in run.messages(4):
                self.update(config, "RunRecord.config")
            for summary in run.messages(5):
                _apply(self.summary, summary)
        for config in record.messages(_CONFIG):
            self.update(config, "ConfigRecord.update")
        for summary in record.messages(_SUMMARY):
            _apply(self.summary, summary)
        for end in record.messages(_EXIT):
            self.exit_code = end.integer(1)

    def _identity(self) -> tuple[tuple[int, str], ...]:
        return (3, self.project), (8, self.name), (12, self.sweep)

    def update(self, config: Message, place: str) -> None:
        for key in _apply(self.config, config):
            self.places[key] = place

    @property
    def state(self) -> str:
        if self.exit_code is None:
            return "no end recorded"
        return "finished" if self.exit_code == 0 else f"failed, exit code {self.exit_code}"


def _apply(target: dict[str, Any], message: Message) -> list[str]:
    """Set and remove the items of a ConfigRecord or SummaryRecord; the top keys that were set."""
    changed = []
    for item in message.messages(_UPDATE):
        path = item.texts(_NESTED_KEY) or item.texts(_KEY)[-1:]
        if path:
            value = parse_json(b"".join(item.bytes(_VALUE_JSON)[-1:]) or b"null", f"the value of {path[0][:60]!r}")
            _holder(target, path)[path[-1]] = value
            changed.append(path[0])
    for item in message.messages(_REMOVE):
        path = item.texts(_NESTED_KEY) or item.texts(_KEY)[-1:]
        if path:
            _holder(target, path).pop(path[-1], None)
    return changed


def _holder(tree: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """The dict that holds the last key of a path; what stands in the way is replaced."""
    for key in path[:-1]:
        child = tree.get(key)
        if not isinstance(child, dict):
            child = tree[key] = {}
        tree = child
    return tree


def _sniff_records(location: Location, head: bytes) -> bool:
    return head.startswith(_MAGIC)


def _read_records(location: Location, head: bytes, choice: Selection) -> Store:
    run, notes = _records(location)
    return Store(tuple(_run_rows(run, str(location))), notes=notes)


def _records(location: Location) -> tuple[_Run, tuple[str, ...]]:
    run = _Run()
    seen = 0
    try:
        with location.reading() as source:
            for data in log_records(source, _HEADER_LENGTH):
                run.apply(Message(data))
                seen += 1
    except (DamagedFileError, LimitError) as error:
        if not seen:
            raise
        return run, (f"read up to the damage: {error.message}",)
    return run, ()


def _run_rows(run: _Run, path: str) -> list[HParamRow]:
    made: list[HParamRow] = []
    for key, value in run.config.items():
        if key != "_wandb":
            made += rows({key: value}, path, TOOL, run.places.get(key, "RunRecord.config"))
    return made + _current(run.summary, path, "SummaryRecord.update")


def _current(summary: Mapping[str, Any], path: str, locator: str) -> list[HParamRow]:
    made = []
    for key, value in summary.items():
        name = _CURRENT.get(key.rpartition("/")[2].lower())
        if name and isinstance(value, int | float) and not isinstance(value, bool):
            made.append(HParamRow(name, key, value, None, Kind.DYNAMIC, Origin(path, locator, TOOL), "last logged"))
    return made


# -- config.yaml ----------------------------------------------------------------------------------------


def _sniff_yaml(location: Location, head: bytes) -> bool:
    """By W&B's own entries, or as `files/config.yaml` of a run."""
    if not location.name.endswith((".yaml", ".yml")):
        return False
    files = location.parent
    if (files.name, location.name) == ("files", "config.yaml") and _RUN_FOLDER.match(files.parent.name):
        return True
    return re.search(rb"^(_wandb|wandb_version):", head, re.MULTILINE) is not None


def _read_yaml(location: Location, head: bytes, choice: Selection) -> Store:
    return Store(tuple(_yaml_rows(location)))


def _yaml_rows(location: Location) -> list[HParamRow]:
    """Every entry is `key: {value: ...}`; before version 0.13 with a `desc` beside the value.

    The key is the place then, and `value` the raw key, unless the key is not known by another name.
    """
    document, file = load_yaml(read_file(location), location.name), str(location)
    made: list[HParamRow] = []
    for key, entry in document.items() if isinstance(document, dict) else ():
        if key in ("_wandb", "wandb_version") or not isinstance(entry, dict) or "value" not in entry:
            continue
        value = entry["value"]
        if isinstance(value, dict) and value:
            made += rows(value, file, TOOL, f"{key}.value", scope_of((str(key),), "config"))
        else:
            made.append(_entry(str(key), value, file))
    return made


def _entry(key: str, value: object, path: str) -> HParamRow:
    row = flag_unresolved(hparam(key, value, Origin(path, key, TOOL), "config"))
    if row.name is None:
        return row
    return replace(row, raw_key="value")


# -- folders --------------------------------------------------------------------------------------------


def _is_folder(folder: Location) -> bool:
    """A run's folder, or `wandb/` with the folders of runs."""
    names = names_in(folder)
    if any(name.startswith("run-") and name.endswith(".wandb") for name in names):
        return True
    return any(_RUN_FOLDER.match(name) for name in names)


def _read_folder(folder: Location, choice: Selection) -> Store:
    runs = [run for run in subfolders(folder) if _RUN_FOLDER.match(run.name)]
    if not runs:
        trial, files, notes = _read_run(folder)
        return Store(trial.rows, notes=notes, files=files)
    said: list[str] = []
    trials: list[Trial] = []
    used: dict[str, tuple[str, ...]] = {}
    for run in runs:
        trial, files, notes = _read_run(run)
        trials.append(trial)
        used[trial.name] = files
        said += (f"{run.name}: {note}" for note in notes)
    done = frozenset(trial.name for trial in trials if trial.state == "finished")
    store = choose([Study("", tuple(trials), done)], choice, EXPERIMENTS, said)
    chosen = next((t.name for t in store.trials if t.chosen), trials[0].name)
    return replace(store, files=used[chosen])


def _read_run(folder: Location) -> tuple[Trial, tuple[str, ...], tuple[str, ...]]:
    """(the run, the files it was read from, notes) of one run's folder."""
    found: list[HParamRow] = []
    files: list[str] = []
    notes: list[str] = []
    state = ""
    for name in sorted(names_in(folder)):
        if name.endswith(".wandb"):
            log = folder.join(name)
            try:
                run, said = _records(log)
            except PinspectError as error:
                notes.append(f"{name}: {error.message}")
                continue
            found += _run_rows(run, str(log))
            files.append(str(log))
            notes += said
            state = run.state
    for name, read in (("config.yaml", _yaml_rows), ("wandb-summary.json", _summary_rows)):
        file = folder.join("files", name)
        if file.exists():
            try:
                found += read(file)
                files.append(str(file))
            except PinspectError as error:
                notes.append(f"files/{name}: {error.message}")
    return Trial(folder.name.rpartition("-")[2] or folder.name, state, rows=tuple(found)), tuple(files), tuple(notes)


def _summary_rows(location: Location) -> list[HParamRow]:
    return _current(json_object(read_file(location)), str(location), "")


def _sniff_summary(location: Location, head: bytes) -> bool:
    return location.name == "wandb-summary.json" and head.lstrip()[:1] == b"{"


def _read_summary(location: Location, head: bytes, choice: Selection) -> Store:
    return Store(tuple(_summary_rows(location)))


def _read_any(location: Location, head: bytes, choice: Selection) -> Store:
    return _read_folder(location, choice) if location.is_folder() else _read_records(location, head, choice)


SOURCE = (
    HParamSource(TOOL, _sniff_records, _read_any, _is_folder),
    HParamSource(TOOL, _sniff_yaml, _read_yaml),
    HParamSource(TOOL, _sniff_summary, _read_summary),
)
