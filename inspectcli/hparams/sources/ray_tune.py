"""Ray Tune: a folder per trial with `params.json`, `params.pkl` and `result.json`, and the experiment's state beside.

https://github.com/ray-project/ray/blob/ray-2.50.0/python/ray/tune/execution/tune_controller.py
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from inspectcli.encodings.files import (
    first_object,
    json_object,
    names_in,
    parse_json,
    read_file,
    read_json,
    read_tail,
    siblings,
    subfolders,
)
from inspectcli.errors import PinspectError
from inspectcli.hparams._tree import rows
from inspectcli.hparams._trials import STUDIES, Study, choose
from inspectcli.hparams.base import HParamRow, HParamSource, Selection, Store, Trial

TOOL = "ray-tune"

_STATE = "experiment_state-*.json"
#: Bytes of `result.json` that are searched for its last line.
_TAIL = 4 << 20
#: What Ray puts beside a user's own figures.
_OWN = frozenset(
    """config timestamp checkpoint_dir_name should_checkpoint done training_iteration trial_id date time_this_iter_s
    time_total_s pid hostname node_ip time_since_restore iterations_since_restore experiment_tag""".split()
)


# -- one file -------------------------------------------------------------------------------------------


def _sniff_params(path: str, head: bytes) -> bool:
    """`params.json` is a name that others use too: what lies beside it tells."""
    name = os.path.basename(path)
    beside = siblings(path)
    if name == "params.json":
        return head.lstrip()[:1] == b"{" and bool(beside & {"result.json", "params.pkl"})
    return name == "params.pkl" and head[:1] == b"\x80" and bool(beside & {"result.json", "params.json"})


def _read_one(path: str, head: bytes, choice: Selection) -> Store:
    if os.path.isdir(path):
        return _read_folder(path, choice)
    return Store(tuple(_params(path)))


def _params(path: str) -> list[HParamRow]:
    return rows(_pickle(path) if path.endswith(".pkl") else read_json(path), path, TOOL)


def _pickle(path: str) -> object:
    """What a pickle would build, without running it."""
    from inspectcli.hparams._pickled import plain
    from inspectcli.pickles.machine import read_whole_pickle

    return plain(read_whole_pickle(read_file(path)).value)


def _sniff_result(path: str, head: bytes) -> bool:
    first = first_object(head)
    return isinstance(first.get("config"), dict) and "training_iteration" in first


def _read_result(path: str, head: bytes, choice: Selection) -> Store:
    return Store(tuple(_result_rows(path, _last_result(path))))


def _last_result(path: str) -> Mapping[str, Any]:
    """The last report that is whole: a run that was killed may leave half a line."""
    lines = [line for line in read_tail(path, _TAIL).splitlines() if line.strip()]
    for line in reversed(lines[-2:]):
        found = json_object(line)
        if found:
            return found
    if lines:
        parse_json(lines[-1], f"the last line of {os.path.basename(path)}")  # raises, and says what is wrong
    return {}


def _result_rows(path: str, last: Mapping[str, Any]) -> list[HParamRow]:
    return rows(last.get("config", {}), path, TOOL, "[-1].config")


# -- a trial's folder -----------------------------------------------------------------------------------


def _is_trial(folder: str) -> bool:
    names = names_in(folder)
    return "params.json" in names and bool(names & {"result.json", "params.pkl"})


class _Gathered(NamedTuple):
    rows: tuple[HParamRow, ...]
    files: tuple[str, ...]
    notes: tuple[str, ...]
    last: Mapping[str, Any]


def _gather(folder: str) -> _Gathered:
    """All that a trial's folder says; a broken file is a note."""
    found: list[HParamRow] = []
    files: list[str] = []
    notes: list[str] = []
    last: Mapping[str, Any] = {}
    for name in ("params.json", "result.json", "params.pkl"):
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            continue
        try:
            if name == "result.json":
                last = _last_result(path)
                found += _result_rows(path, last)
            else:
                found += _params(path)
            files.append(path)
        except PinspectError as error:
            notes.append(f"{os.path.basename(folder)}/{name}: {error.message}")
    return _Gathered(tuple(found), tuple(files), tuple(notes), last)


# -- an experiment --------------------------------------------------------------------------------------


class _Recorded(NamedTuple):
    """What the experiment's state says of a trial."""

    name: str
    status: str
    config: Mapping[str, Any]
    locator: str
    last: Mapping[str, Any]


class _State(NamedTuple):
    metric: str
    trials: tuple[_Recorded, ...]


def _sniff_state(path: str, head: bytes) -> bool:
    return fnmatch.fnmatch(os.path.basename(path), _STATE) and head.lstrip()[:1] == b"{"


def _read_state(path: str, head: bytes, choice: Selection) -> Store:
    state = _state(path)
    trials = tuple(
        Trial(t.name, t.status, "", _objective(t.last, state.metric), rows=tuple(_recorded_rows(path, t)))
        for t in state.trials
    )
    return _chosen("", trials, state.metric, {t.name: t.last for t in state.trials}, choice, ())


def _state(path: str) -> _State:
    document = read_json(path)
    document = document if isinstance(document, dict) else {}
    runner = document.get("runner_data")
    metric = runner.get("_metric") if isinstance(runner, dict) else None
    listed = document.get("trial_data", document.get("checkpoints"))
    listed = listed if isinstance(listed, list) else []
    found = (_recorded(i, entry) for i, entry in enumerate(listed))
    return _State(metric if isinstance(metric, str) else "", tuple(t for t in found if t is not None))


def _recorded(index: int, entry: object) -> _Recorded | None:
    """A trial as JSON text in JSON; since version 2.5 beside a second text with its results."""
    texts = entry if isinstance(entry, list) else [entry]
    parts = [text if isinstance(text, dict) else json_object(text) for text in texts[:2]]
    trial = parts[0] if parts else {}
    config = trial.get("config")
    if not isinstance(config, dict):
        return None
    folder = trial.get("relative_logdir") or trial.get("custom_dirname")
    name = str(folder or trial.get("trial_id") or index)
    last = parts[-1].get("last_result")
    place = f"trial_data[{index}][0].config" if isinstance(entry, list) else f"checkpoints[{index}].config"
    return _Recorded(
        os.path.basename(name.rstrip("/")),
        str(trial.get("status", "")),
        config,
        place,
        last if isinstance(last, dict) else {},
    )


def _recorded_rows(path: str, trial: _Recorded) -> list[HParamRow]:
    return rows(trial.config, path, TOOL, trial.locator)


def _objective(last: Mapping[str, Any], metric: str) -> float | None:
    value = last.get(metric)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_folder(folder: str) -> bool:
    names = names_in(folder)
    if any(fnmatch.fnmatch(name, _STATE) for name in names):
        return True
    return _is_trial(folder)


def _read_folder(folder: str, choice: Selection) -> Store:
    if _is_trial(folder):
        gathered = _gather(folder)
        return Store(gathered.rows, notes=gathered.notes, files=gathered.files)
    notes: list[str] = []
    path, state = _latest_state(folder, notes)
    recorded = {trial.name: trial for trial in state.trials}
    trials: list[Trial] = []
    reports: dict[str, Mapping[str, Any]] = {}
    for subfolder in subfolders(folder):
        if _is_trial(subfolder):
            name = os.path.basename(subfolder)
            gathered = _gather(subfolder)
            known = recorded.pop(name, None)
            reports[name] = gathered.last or (known.last if known else {})
            notes += gathered.notes
            found = gathered.rows + (tuple(_recorded_rows(path, known)) if known else ())
            trials.append(
                Trial(name, known.status if known else "", "", _objective(reports[name], state.metric), rows=found)
            )
    for name, known in recorded.items():  # its folder was not copied along
        reports[name] = known.last
        found = tuple(_recorded_rows(path, known))
        trials.append(Trial(name, known.status, "", _objective(known.last, state.metric), rows=found))
    store = _chosen(os.path.basename(os.path.abspath(folder)), tuple(trials), state.metric, reports, choice, notes)
    used = {row.source.file for row in store.rows}
    return replace(store, files=tuple(sorted(used)))


def _latest_state(folder: str, notes: list[str]) -> tuple[str, _State]:
    """The state files are named by date: the last one that can be read."""
    for name in sorted(fnmatch.filter(names_in(folder), _STATE), reverse=True):
        path = os.path.join(folder, name)
        try:
            return path, _state(path)
        except PinspectError as error:
            notes.append(f"{name}: {error.message}")
    return "", _State("", ())


def _chosen(
    name: str,
    trials: tuple[Trial, ...],
    metric: str,
    reports: Mapping[str, Mapping[str, Any]],
    choice: Selection,
    notes: Any,
) -> Store:
    """Ray keeps the name of the metric, but its direction only in a pickle: it is taken from the name."""
    said = list(notes)
    minimize: bool | None = None
    if metric and any(trial.objective is not None for trial in trials):
        minimize = is_loss(metric)
        if minimize is None:
            said.append(f"whether {metric!r} is to be small or large is not recorded: the latest trial is shown")
    done = frozenset(t.name for t in trials if t.state == "TERMINATED" or (not t.state and reports.get(t.name)))
    return choose([Study(name, trials, done, minimize, metric)], choice, STUDIES, said)


_LOW = ("loss", "error", "err", "perplexity", "ppl", "rmse", "mse", "mae", "nll", "wer", "cer", "fid", "regret", "cost")
_HIGH = (
    "acc",
    "accuracy",
    "reward",
    "score",
    "f1",
    "auc",
    "precision",
    "recall",
    "map",
    "miou",
    "iou",
    "bleu",
    "r2",
    "psnr",
)


def is_loss(metric: str) -> bool | None:
    """Whether a figure of this name should be small; None if the name does not tell."""
    words = metric.lower().replace("/", "_").replace("-", "_").split("_")
    if any(word in _LOW for word in words):
        return True
    return False if any(word in _HIGH for word in words) else None


SOURCE = (
    HParamSource(TOOL, _sniff_params, _read_one, _is_folder),
    HParamSource(TOOL, _sniff_result, _read_result),
    HParamSource(TOOL, _sniff_state, _read_state),
)
