"""Ax: the JSON that `AxClient.save_to_json_file` and `Client.save_to_json_file` write.

https://github.com/facebook/Ax/blob/1.0.0/ax/storage/json_store/encoders.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from inspectcli.encodings.files import json_object, read_json
from inspectcli.hparams._tree import rows
from inspectcli.hparams._trials import STUDIES, Study, choose
from inspectcli.hparams.base import HParamSource, Selection, Store, Trial
from inspectcli.storage.location import Location

TOOL = "ax"

MAX_FILE = 256 << 20


def _sniff(location: Location, head: bytes) -> bool:
    head = head.lstrip()
    return head[:1] == b"{" and b'"__type": "Experiment"' in head and b'"search_space"' in head


def _read(location: Location, head: bytes, choice: Selection) -> Store:
    document = read_json(location, MAX_FILE)
    experiment = _dict(_dict(document).get("experiment")) or _dict(document)
    metric, minimize = _objective(experiment)
    results = {str(key): _mean(data, metric) for key, data in _data(experiment)}
    trials = tuple(
        _trial(str(location), key, _dict(trial), results.get(key))
        for key, trial in _dict(experiment.get("trials")).items()
    )
    done = frozenset(trial.name for trial in trials if trial.state == "COMPLETED")
    comparable = minimize if any(trial.objective is not None for trial in trials) else None
    study = Study(str(experiment.get("name") or ""), trials, done, comparable, metric)
    return choose([study], choice, STUDIES)


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _trial(path: str, key: str, trial: Mapping[str, Any], objective: float | None) -> Trial:
    """One set of parameters; of a batch the first is shown."""
    place = f"experiment.trials.{key}.generator_run"
    run = _dict(trial.get("generator_run"))
    if not run:
        structs = trial.get("generator_run_structs")
        first = _dict(structs[0]) if isinstance(structs, list) and structs else {}
        place, run = (
            f"experiment.trials.{key}.generator_run_structs[0].generator_run",
            _dict(first.get("generator_run")),
        )
    arms = run.get("arms")
    parameters = _dict(_dict(arms[0]).get("parameters")) if isinstance(arms, list) and arms else {}
    state = str(_dict(trial.get("status")).get("name", ""))
    return Trial(key, state, "", objective, rows=tuple(rows(parameters, path, TOOL, f"{place}.arms[0].parameters")))


def _objective(experiment: Mapping[str, Any]) -> tuple[str, bool | None]:
    """The metric and whether it is minimised; since version 1.2 as an expression, `-loss`."""
    objective = _dict(_dict(experiment.get("optimization_config")).get("objective"))
    expression = objective.get("expression")
    if isinstance(expression, str):
        simple = expression.lstrip("-").isidentifier()
        return (expression.lstrip("-"), expression.startswith("-")) if simple else (expression, None)
    minimize = objective.get("minimize")
    name = str(_dict(objective.get("metric")).get("name", ""))
    return name, minimize if isinstance(minimize, bool) else None


def _data(experiment: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(trial, its latest data): `data_by_trial` is a dict, or an ordered list of pairs with another inside."""
    for key, stamped in _pairs(experiment.get("data_by_trial")):
        versions = list(_pairs(stamped))
        if versions:
            yield str(key), _dict(versions[-1][1])


def _pairs(value: object) -> Iterator[tuple[object, object]]:
    held = _dict(value).get("value", value)
    if isinstance(held, dict):
        yield from held.items()
    for pair in held if isinstance(held, list) else ():
        if isinstance(pair, list) and len(pair) == 2:
            yield pair[0], pair[1]


def _mean(data: Mapping[str, Any], metric: str) -> float | None:
    """The mean of the objective in a data frame that is kept as JSON text."""
    frame = json_object(_dict(data.get("df")).get("value"))
    names, means = _dict(frame.get("metric_name")), _dict(frame.get("mean"))
    found = [means.get(row) for row, name in names.items() if name == metric]
    value = found[-1] if found else None
    return float(value) if isinstance(value, int | float) else None


SOURCE = HParamSource(TOOL, _sniff, _read)
