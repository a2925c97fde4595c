"""Guild AI: a folder per run, with the flags in `.guild/attrs/flags`.

https://my.guild.ai/t/run-files/132
"""

from __future__ import annotations

from dataclasses import replace

from inspectcli.encodings.files import names_in, read_file, siblings, subfolders
from inspectcli.encodings.yaml import load_yaml
from inspectcli.errors import PinspectError
from inspectcli.hparams._tree import rows
from inspectcli.hparams._trials import EXPERIMENTS, Study, choose
from inspectcli.hparams.base import HParamRow, HParamSource, Selection, Store, Trial
from inspectcli.storage.location import Location

TOOL = "guild"

_FLAGS = (".guild", "attrs", "flags")


def _sniff(location: Location, head: bytes) -> bool:
    return location.name == "flags" and siblings(location) >= {"cmd", "id", "initialized"}


def _read_any(location: Location, head: bytes, choice: Selection) -> Store:
    if not location.is_folder():
        return Store(tuple(_rows(location)))
    if _is_run(location):
        flags = location.join(*_FLAGS)
        return Store(tuple(_rows(flags)), files=(str(flags),))
    return _read_runs(location, choice)


def _rows(location: Location) -> list[HParamRow]:
    return rows(load_yaml(read_file(location), "flags"), str(location), TOOL)


def _is_run(folder: Location) -> bool:
    return folder.join(*_FLAGS).is_file()


def _is_folder(folder: Location) -> bool:
    """A run, or Guild's `runs/`."""
    return _is_run(folder) or any(_is_run(run) for run in subfolders(folder)[:1000])


def _read_runs(folder: Location, choice: Selection) -> Store:
    notes: list[str] = []
    dated: list[tuple[str, Trial]] = []
    for run in subfolders(folder):
        if _is_run(run):
            try:
                found = _rows(run.join(*_FLAGS))
            except PinspectError as error:
                notes.append(f"{run.name}: {error.message}")
                continue
            status = _attribute(run, "exit_status")
            state = "completed" if status == "0" else f"exit status {status}" if status else "no end recorded"
            dated.append((_attribute(run, "started"), Trial(run.name, state, rows=tuple(found))))
    trials = tuple(trial for _, trial in sorted(dated, key=lambda pair: (pair[0], pair[1].name)))
    done = frozenset(trial.name for trial in trials if trial.state == "completed")
    store = choose([Study("", trials, done)], choice, EXPERIMENTS, notes)
    return replace(store, files=tuple(sorted({row.source.file for row in store.rows})))


def _attribute(run: Location, name: str) -> str:
    folder = run.join(".guild", "attrs")
    if name not in names_in(folder):
        return ""
    try:
        return read_file(folder.join(name), 1000).decode("utf-8", "replace").strip()
    except PinspectError:
        return ""


SOURCE = HParamSource(TOOL, _sniff, _read_any, _is_folder)
