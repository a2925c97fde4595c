"""Optuna: the SQLite storage and the journal file. A categorical value is stored as its index among the choices.

https://github.com/optuna/optuna/blob/v4.5.0/optuna/storages/_rdb/models.py
https://github.com/optuna/optuna/blob/v4.5.0/optuna/storages/journal/_storage.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from inspectcli.display.text import clipped
from inspectcli.encodings.files import first_object, json_lines, json_object, read_file
from inspectcli.encodings.sqlite import Database, has_tables, unmerged
from inspectcli.errors import DamagedFileError
from inspectcli.hparams._trials import STUDIES, Study, choose
from inspectcli.hparams.base import HParamRow, HParamSource, Origin, Selection, Store, Trial
from inspectcli.hparams.names import hparam
from inspectcli.storage.location import Location

TOOL = "optuna"
#: Bytes of a journal that are read.
MAX_JOURNAL = 256 << 20

_STATES = ("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING")
_FINISHED = ("COMPLETE", "PRUNED", "FAIL")
_DIRECTIONS = ("NOT_SET", "MINIMIZE", "MAXIMIZE")


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Mapping[str, Any]:
    return json_object(text)


def _distribution(text: object) -> Mapping[str, Any]:
    """What a value was drawn from. The same few texts stand beside every value."""
    return _parsed(text) if isinstance(text, str) else {}


@dataclass
class _Trial:
    """A trial while its rows are gathered."""

    number: int
    locator: str
    study: int
    state: str = "RUNNING"
    values: dict[int, float] = field(default_factory=dict)
    params: dict[str, tuple[float | None, Mapping[str, Any]]] = field(default_factory=dict)
    constraints: tuple[float, ...] = ()

    @property
    def feasible(self) -> bool:
        return all(value <= 0 for value in self.constraints)


# -- SQLite ---------------------------------------------------------------------------------------------


def _sniff_db(location: Location, head: bytes) -> bool:
    return has_tables(location, head, "studies", "trials", "trial_params")


def _read_db(location: Location, head: bytes, choice: Selection) -> Store:
    with Database(location) as db:
        names = {key: str(name) for key, name in db.rows("studies", ("study_id", "study_name"))}
        directions = _directions(db)
        trials = _trials(db)
        _fill(db, trials)
    return _store(str(location), names, directions, trials.values(), choice, unmerged(location))


def _directions(db: Database) -> dict[Any, list[str]]:
    """study -> direction of each objective."""
    found: dict[Any, list[str]] = {}
    rows = db.rows("study_directions", ("study_id", "objective", "direction"))
    for study, _, direction in sorted(rows, key=lambda row: (str(row[0]), str(row[1]))):
        found.setdefault(study, []).append(str(direction))
    if not rows:  # before version 2.4 a study had one direction
        found = {study: [str(direction)] for study, direction in db.rows("studies", ("study_id", "direction"))}
    return found


def _trials(db: Database) -> dict[Any, _Trial]:
    trials: dict[Any, _Trial] = {}
    count: dict[Any, int] = {}
    for key, number, study, state, value in db.rows("trials", ("trial_id", "number", "study_id", "state", "value")):
        if type(number) is not int:  # before version 1.0 it was not stored
            number = count.get(study, 0)
        count[study] = count.get(study, 0) + 1
        trial = trials[key] = _Trial(number, f"trial_params[trial={number}]", study, str(state))
        if value is not None:  # before version 2.4 there was one objective
            trial.values[0] = _number(value)
    return trials


def _fill(db: Database, trials: Mapping[Any, _Trial]) -> None:
    for key, objective, value, kind in db.rows("trial_values", ("trial_id", "objective", "value", "value_type")):
        if key in trials and isinstance(objective, int):
            infinite = {"INF_POS": math.inf, "INF_NEG": -math.inf}.get(str(kind))
            trials[key].values[objective] = _number(value) if infinite is None else infinite
    for key, name, value, text in db.rows(
        "trial_params", ("trial_id", "param_name", "param_value", "distribution_json")
    ):
        if key in trials:
            trials[key].params[str(name)] = (_number(value), _distribution(text))
    for key, name, text in db.rows("trial_system_attributes", ("trial_id", "key", "value_json")):
        if key in trials and name == "constraints":
            trials[key].constraints = _constraints(text)


def _constraints(text: object) -> tuple[float, ...]:
    try:
        values = json.loads(str(text))
    except (ValueError, RecursionError):
        return ()
    return tuple(v for v in values if isinstance(v, int | float)) if isinstance(values, list) else ()


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


# -- journal --------------------------------------------------------------------------------------------

_SET_PARAM, _SET_STATE = 5, 6


def _sniff_journal(location: Location, head: bytes) -> bool:
    first = first_object(head)
    return "op_code" in first and "worker_id" in first


class _Journal:
    """The state that the operations lead to. Studies and trials are numbered by their creation."""

    def __init__(self) -> None:
        self.names: dict[Any, str] = {}
        self.directions: dict[Any, list[str]] = {}
        self.trials: list[_Trial] = []
        self.count: dict[Any, int] = {}
        self.studies = 0

    def apply(self, log: Mapping[str, Any]) -> None:
        match log.get("op_code"):
            case 0:
                self.create_study(log)
            case 1:
                self.names.pop(log.get("study_id"), None)
            case 4:
                self.create_trial(log)
            case 5 | 6 | 9:
                self.update(log)

    def create_study(self, log: Mapping[str, Any]) -> None:
        name = str(log.get("study_name", ""))
        if name in self.names.values():  # two workers at once: the first one counts
            return
        self.names[self.studies] = name
        directions = log.get("directions")
        self.directions[self.studies] = (
            [_of(_DIRECTIONS, d) for d in directions] if isinstance(directions, list) else []
        )
        self.studies += 1

    def create_trial(self, log: Mapping[str, Any]) -> None:
        study = log.get("study_id")
        if not isinstance(study, int) or study not in self.names:
            return
        number = self.count.get(study, 0)
        self.count[study] = number + 1
        trial = _Trial(number, f"op_code=5 trial_id={len(self.trials)}", study)
        self.trials.append(trial)
        params, distributions = log.get("params"), log.get("distributions")
        if isinstance(params, dict) and isinstance(distributions, dict):  # added whole: `study.add_trial`
            trial.locator = f"op_code=4 trial_id={len(self.trials) - 1}"
            for name, value in params.items():
                trial.params[name] = (_number(value), _distribution(distributions.get(name)))
        if "state" in log:
            trial.state = _of(_STATES, log["state"])
            self.set_values(trial, log)

    def update(self, log: Mapping[str, Any]) -> None:
        key = log.get("trial_id")
        if not isinstance(key, int) or not 0 <= key < len(self.trials):
            return
        trial = self.trials[key]
        if trial.state in _FINISHED:  # a finished trial does not change any more
            return
        if log["op_code"] == _SET_PARAM:
            value = _number(log.get("param_value_internal"))
            trial.params[str(log.get("param_name"))] = (value, _distribution(log.get("distribution")))
        elif log["op_code"] == _SET_STATE:
            trial.state = _of(_STATES, log.get("state"))
            self.set_values(trial, log)
        else:
            attributes = log.get("system_attr")
            if isinstance(attributes, dict) and isinstance(attributes.get("constraints"), list):
                trial.constraints = tuple(v for v in attributes["constraints"] if isinstance(v, int | float))

    @staticmethod
    def set_values(trial: _Trial, log: Mapping[str, Any]) -> None:
        values = log.get("values")
        if isinstance(values, list):
            trial.values = {i: _number(v) for i, v in enumerate(values)}
        elif isinstance(log.get("value"), int | float):
            trial.values = {0: _number(log["value"])}


def _of(names: tuple[str, ...], index: object) -> str:
    return names[index] if isinstance(index, int) and 0 <= index < len(names) else str(index)


def _read_journal(location: Location, head: bytes, choice: Selection) -> Store:
    journal, notes = _Journal(), []
    try:
        for log in json_lines(read_file(location, MAX_JOURNAL), location.name):
            journal.apply(log)
    except DamagedFileError as error:
        if not journal.names:
            raise
        notes.append(f"read up to the damage: {error.message}")
    trials = [trial for trial in journal.trials if trial.study in journal.names]
    return _store(str(location), journal.names, journal.directions, trials, choice, notes)


# -- both -----------------------------------------------------------------------------------------------


def _store(
    path: str,
    names: Mapping[Any, str],
    directions: Mapping[Any, list[str]],
    trials: Iterable[_Trial],
    choice: Selection,
    notes: Iterable[str],
) -> Store:
    grouped: dict[Any, list[_Trial]] = {key: [] for key in names}
    for trial in trials:
        if trial.study in grouped:
            grouped[trial.study].append(trial)
    said = list(notes)
    studies = []
    for key, members in grouped.items():
        wanted = directions.get(key) or ["MINIMIZE"]
        if len(wanted) > 1:
            said.append(f"study {names[key]!r} has {len(wanted)} objectives: trials are compared by the first")
        studies.append(
            Study(
                names[key],
                tuple(_trial(trial, path, names[key]) for trial in sorted(members, key=lambda t: t.number)),
                frozenset(str(t.number) for t in members if t.state == "COMPLETE" and t.feasible),
                wanted[0] != "MAXIMIZE",
            )
        )
    return choose(studies, choice, STUDIES, said)


def _trial(trial: _Trial, path: str, study: str) -> Trial:
    origin = Origin(path, trial.locator, TOOL)
    rows = tuple(_row(name, *stored, origin) for name, stored in trial.params.items())
    state = trial.state if trial.feasible else f"{trial.state}, constraint violated"
    several = tuple(trial.values[i] for i in sorted(trial.values)) if len(trial.values) > 1 else ()
    return Trial(str(trial.number), state, study, trial.values.get(0), rows=rows, objectives=several)


def _row(name: str, stored: float | None, distribution: Mapping[str, Any], origin: Origin) -> HParamRow:
    attributes = distribution.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    kind = str(distribution.get("name", ""))
    value: object = stored
    note = ""
    unresolved = False
    if kind == "CategoricalDistribution":
        choices = attributes.get("choices")
        index = int(stored) if stored is not None and math.isfinite(stored) else -1
        if isinstance(choices, list) and 0 <= index < len(choices):
            value = choices[index]
            note = f"searched {_shown(choices)}"
        else:
            unresolved = True
            value, note = None, f"unresolved: choice {stored} of {_shown(choices)}"
    elif "low" in attributes:
        if kind.startswith("Int") and stored is not None and math.isfinite(stored):
            value = int(stored)
        note = f"searched {attributes['low']} to {attributes.get('high')}"
        note += ", log scale" if attributes.get("log") or "Log" in kind else ""
        step = attributes.get("step", attributes.get("q"))
        note += f", step {step}" if step not in (None, 1) else ""
    return replace(hparam(name, value, origin, "config", note), unresolved=unresolved)


def _shown(choices: object) -> str:
    return clipped(", ".join(str(c) for c in choices[:20]) if isinstance(choices, list) else str(choices), 80)


SOURCE = (
    HParamSource(TOOL, _sniff_db, _read_db),
    HParamSource(TOOL, _sniff_journal, _read_journal),
)
