"""SMAC3: `runhistory.json`, with what was tried and what it cost.

https://github.com/automl/SMAC3/blob/v2.3.1/smac/runhistory/runhistory.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from inspectcli.encodings.files import names_in, read_json
from inspectcli.hparams._tree import rows
from inspectcli.hparams._trials import STUDIES, Study, choose
from inspectcli.hparams.base import HParamSource, Selection, Store, Trial
from inspectcli.storage.location import Location

TOOL = "smac"

_STATES = {0: "RUNNING", 1: "SUCCESS", 2: "CRASHED", 3: "TIMEOUT", 4: "MEMORYOUT"}
#: Before version 2.1 a run was a list in this order.
_OLD = ("config_id", "instance", "seed", "budget", "cost", "time", "status")


def _sniff(location: Location, head: bytes) -> bool:
    return (head.lstrip()[:1] == b"{" and b'"submitted"' in head[:1000] and b'"cost"' in head) or _is_old(
        location, head
    )


def _is_old(location: Location, head: bytes) -> bool:
    return location.name.endswith("runhistory.json") and b'"data"' in head


def _is_folder(folder: Location) -> bool:
    """The other files are the scenario and SMAC's own model."""
    return names_in(folder) >= {"runhistory.json", "scenario.json"}


def _read(location: Location, head: bytes, choice: Selection) -> Store:
    if location.is_folder():
        history = location.join("runhistory.json")
        return replace(_read(history, b"", choice), files=(str(history),))
    document = read_json(location)
    document = document if isinstance(document, dict) else {}
    configs = document.get("configs")
    configs = configs if isinstance(configs, dict) else {}
    costs: dict[str, list[float]] = {}
    states: dict[str, str] = {}
    for run in _runs(document.get("data")):
        key, cost = str(run.get("config_id")), run.get("cost")
        status = run.get("status")
        states[key] = _STATES.get(status, str(status)) if isinstance(status, int) else str(status)
        if isinstance(cost, int | float):
            costs.setdefault(key, []).append(float(cost))
    trials = tuple(
        Trial(
            key,
            states.get(key, ""),
            "",
            _mean(costs.get(key)),
            rows=tuple(rows(config, str(location), TOOL, f"configs.{key}")),
        )
        for key, config in configs.items()
    )
    done = frozenset(trial.name for trial in trials if trial.state == "SUCCESS")
    return choose([Study("", trials, done, True, "cost")], choice, STUDIES)


def _runs(listed: object) -> Iterator[Mapping[str, Any]]:
    for run in listed if isinstance(listed, list) else ():
        if isinstance(run, dict):
            yield run
        elif isinstance(run, list):
            yield dict(zip(_OLD, run, strict=False))


def _mean(costs: list[float] | None) -> float | None:
    """Over the seeds and instances that a configuration was tried on."""
    return sum(costs) / len(costs) if costs else None


SOURCE = HParamSource(TOOL, _sniff, _read, _is_folder)
