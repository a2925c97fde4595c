"""Hyperopt: a pickled `Trials`. The search space is not in it, so what an integer stands for is not known.

https://github.com/hyperopt/hyperopt/blob/0.2.7/hyperopt/base.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from inspectcli.encodings.files import read_file
from inspectcli.hparams._trials import STUDIES, Study, choose
from inspectcli.hparams.base import HParamRow, HParamSource, Origin, Selection, Store, Trial
from inspectcli.hparams.names import hparam
from inspectcli.storage.location import Location

TOOL = "hyperopt"

_STATES = {0: "NEW", 1: "RUNNING", 2: "DONE", 3: "ERROR", 4: "CANCEL"}
_INDEX = "a whole number, or the index of a choice: the search space is not stored"


def _sniff(location: Location, head: bytes) -> bool:
    return head[:1] == b"\x80" and b"hyperopt.base" in head[:100]


def _read(location: Location, head: bytes, choice: Selection) -> Store:
    from inspectcli.hparams._pickled import plain
    from inspectcli.pickles.machine import read_whole_pickle

    held = plain(read_whole_pickle(read_file(location)).value)
    listed = held.get("_dynamic_trials") if isinstance(held, Mapping) else None
    trials = []
    for number, entry in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(entry, Mapping):
            state, result = entry.get("state"), entry.get("result")
            label = _STATES.get(state, str(state)) if isinstance(state, int) else str(state)
            loss = result.get("loss") if isinstance(result, Mapping) and result.get("status") == "ok" else None
            objective = float(loss) if isinstance(loss, int | float) else None
            origin = Origin(str(location), f"_dynamic_trials[{number}].misc.vals", TOOL)
            trials.append(Trial(str(entry.get("tid", number)), label, "", objective, rows=tuple(_rows(entry, origin))))
    done = frozenset(t.name for t in trials if t.state == "DONE" and t.objective is not None)
    return choose([Study("", tuple(trials), done, True, "loss")], choice, STUDIES)


def _rows(entry: Mapping[str, object], origin: Origin) -> Iterator[HParamRow]:
    """`misc.vals` has a list for each label: empty where a branch of the space was not taken."""
    misc = entry.get("misc")
    vals = misc.get("vals") if isinstance(misc, Mapping) else None
    for key, values in vals.items() if isinstance(vals, Mapping) else ():
        if isinstance(values, list) and values:
            row = hparam(str(key), values[0], origin, "config")
            yield replace(row, name=None, note=_INDEX) if isinstance(values[0], int) else row


SOURCE = HParamSource(TOOL, _sniff, _read)
