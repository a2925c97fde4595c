"""KerasTuner: `oracle.json` with the search space, and a `trial.json` in each trial's folder.

https://github.com/keras-team/keras-tuner/blob/v1.4.7/keras_tuner/src/engine/trial.py
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from inspectcli.encodings.files import names_in, read_json, subfolders
from inspectcli.errors import PinspectError
from inspectcli.hparams._tree import rows
from inspectcli.hparams._trials import STUDIES, Study, choose
from inspectcli.hparams.base import HParamRow, HParamSource, Selection, Store, Trial

TOOL = "keras-tuner"

_PLACE = "hyperparameters.values"


def _sniff_trial(path: str, head: bytes) -> bool:
    return os.path.basename(path) == "trial.json" and b'"trial_id"' in head and b'"hyperparameters"' in head


def _read_any(path: str, head: bytes, choice: Selection) -> Store:
    if os.path.isdir(path):
        return _read_folder(path, choice)
    return Store(tuple(_trial_rows(_object(path), path)))


def _object(path: str) -> Mapping[str, Any]:
    document = read_json(path)
    return document if isinstance(document, dict) else {}


def _trial_rows(trial: Mapping[str, Any], path: str) -> Iterable[HParamRow]:
    held = trial.get("hyperparameters")
    if not isinstance(held, dict) or not isinstance(held.get("values"), dict):
        return
    space = _space(held.get("space"))
    for row in rows(held["values"], path, TOOL, _PLACE):
        note = space.get(row.raw_key, "")
        yield replace(row, note=note) if note and not row.note else row


def _space(listed: object) -> dict[str, str]:
    """name -> what was searched."""
    found = {}
    for entry in listed if isinstance(listed, list) else ():
        config = entry.get("config") if isinstance(entry, dict) else None
        if not isinstance(config, dict):
            continue
        note = ""
        if isinstance(config.get("values"), list):
            note = f"searched {', '.join(str(value) for value in config['values'][:20])}"
        elif "min_value" in config:
            note = f"searched {config['min_value']} to {config.get('max_value')}"
            note += ", log scale" if config.get("sampling") in ("log", "reverse_log") else ""
            note += f", step {config['step']}" if config.get("step") not in (None, 1) else ""
        elif "value" in config:
            note = "fixed"
        found[str(config.get("name"))] = note
    return found


# -- a tuner's folder -----------------------------------------------------------------------------------


def _is_folder(folder: str) -> bool:
    """`oracle.json`, and a folder per trial."""
    names = names_in(folder)
    return "oracle.json" in names and any(name.startswith("trial_") for name in names)


def _read_folder(folder: str, choice: Selection) -> Store:
    notes: list[str] = []
    documents: list[tuple[str, Mapping[str, Any]]] = []
    for subfolder in subfolders(folder):
        path = os.path.join(subfolder, "trial.json")
        if os.path.exists(path):
            try:
                documents.append((path, _object(path)))
            except PinspectError as error:
                notes.append(f"{os.path.basename(subfolder)}/trial.json: {error.message}")
    trials = tuple(_trial(path, document) for path, document in documents)
    metric, minimize = _objective([document for _, document in documents])
    done = frozenset(trial.name for trial in trials if trial.state == "COMPLETED")
    study = Study(os.path.basename(os.path.abspath(folder)), trials, done, minimize, metric)
    store = choose([study], choice, STUDIES, notes)
    return replace(store, files=tuple(sorted({row.source.file for row in store.rows})))


def _trial(path: str, document: Mapping[str, Any]) -> Trial:
    folder = os.path.basename(os.path.dirname(path))
    name = str(document.get("trial_id") or folder.removeprefix("trial_"))
    found = tuple(_trial_rows(document, path))
    return Trial(name, str(document.get("status", "")), "", _number(document.get("score")), rows=found)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _objective(trials: Iterable[Mapping[str, Any]]) -> tuple[str, bool | None]:
    """The metric whose best value is every trial's score, and whether it is minimised; only the scores are stored."""
    names: set[tuple[str, str]] | None = None
    for trial in trials:
        score = _number(trial.get("score"))
        if score is not None:
            fitting = {(name, way) for name, way, values in _metrics(trial) if any(_equal(v, score) for v in values)}
            names = fitting if names is None else names & fitting
    if not names:
        return "", None
    ways = {way for _, way in names}
    name = sorted(names, key=lambda pair: (not pair[0].startswith("val_"), pair[0]))[0][0]
    return name, ways == {"min"} if len(ways) == 1 else None


def _metrics(trial: Mapping[str, Any]) -> Iterable[tuple[str, str, list[float]]]:
    """(name, `min` or `max`, the mean of each observation)."""
    outer = trial.get("metrics")
    inner = outer.get("metrics") if isinstance(outer, dict) else None
    for name, metric in inner.items() if isinstance(inner, dict) else ():
        observations = metric.get("observations") if isinstance(metric, dict) else None
        means = []
        for observation in observations if isinstance(observations, list) else ():
            values = observation.get("value") if isinstance(observation, dict) else None
            numbers = [v for v in values if isinstance(v, int | float)] if isinstance(values, list) else []
            means += [sum(numbers) / len(numbers)] if numbers else []
        yield name, str(metric.get("direction") if isinstance(metric, dict) else ""), means


def _equal(a: float, b: float) -> bool:
    return a == b or math.isclose(a, b, rel_tol=1e-9)


SOURCE = HParamSource(TOOL, _sniff_trial, _read_any, _is_folder)
