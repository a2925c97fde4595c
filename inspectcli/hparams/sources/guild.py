"""Guild AI: a folder per run, with the flags in `.guild/attrs/flags`.

https://my.guild.ai/t/run-files/132
"""

from __future__ import annotations

import os
from dataclasses import replace

from inspectcli.encodings.files import names_in, read_file, siblings, subfolders
from inspectcli.encodings.yaml import load_yaml
from inspectcli.errors import PinspectError
from inspectcli.hparams._tree import rows
from inspectcli.hparams._trials import EXPERIMENTS, Study, choose
from inspectcli.hparams.base import HParamRow, HParamSource, Selection, Store, Trial

TOOL = "guild"

_FLAGS = os.path.join(".guild", "attrs", "flags")


def _sniff(path: str, head: bytes) -> bool:
    return os.path.basename(path) == "flags" and siblings(path) >= {"cmd", "id", "initialized"}


def _read_any(path: str, head: bytes, choice: Selection) -> Store:
    if not os.path.isdir(path):
        return Store(tuple(_rows(path)))
    if _is_run(path):
        flags = os.path.join(path, _FLAGS)
        return Store(tuple(_rows(flags)), files=(flags,))
    return _read_runs(path, choice)


def _rows(path: str) -> list[HParamRow]:
    return rows(load_yaml(read_file(path), "flags"), path, TOOL)


def _is_run(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, _FLAGS))


def _is_folder(folder: str) -> bool:
    """A run, or Guild's `runs/`."""
    return _is_run(folder) or any(_is_run(path) for path in subfolders(folder)[:1000])


def _read_runs(folder: str, choice: Selection) -> Store:
    notes: list[str] = []
    dated: list[tuple[str, Trial]] = []
    for run in subfolders(folder):
        if _is_run(run):
            name = os.path.basename(run)
            try:
                found = _rows(os.path.join(run, _FLAGS))
            except PinspectError as error:
                notes.append(f"{name}: {error.message}")
                continue
            status = _attribute(run, "exit_status")
            state = "completed" if status == "0" else f"exit status {status}" if status else "no end recorded"
            dated.append((_attribute(run, "started"), Trial(name, state, rows=tuple(found))))
    trials = tuple(trial for _, trial in sorted(dated, key=lambda pair: (pair[0], pair[1].name)))
    done = frozenset(trial.name for trial in trials if trial.state == "completed")
    store = choose([Study("", trials, done)], choice, EXPERIMENTS, notes)
    return replace(store, files=tuple(sorted({row.source.file for row in store.rows})))


def _attribute(run: str, name: str) -> str:
    folder = os.path.join(run, ".guild", "attrs")
    if name not in names_in(folder):
        return ""
    try:
        return read_file(os.path.join(folder, name), 1000).decode("utf-8", "replace").strip()
    except PinspectError:
        return ""


SOURCE = HParamSource(TOOL, _sniff, _read_any, _is_folder)
