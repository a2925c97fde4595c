"""MLflow: the file store `mlruns/EXPERIMENT/RUN/params/NAME`, and the SQLite store. Every value is text.

https://github.com/mlflow/mlflow/blob/v3.4.0/mlflow/store/tracking/file_store.py
https://github.com/mlflow/mlflow/blob/v3.4.0/mlflow/store/tracking/dbmodels/models.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from inspectcli.encodings.files import names_in, read_file, read_tail, subfolders
from inspectcli.encodings.sqlite import Database, has_tables, unmerged
from inspectcli.errors import PinspectError
from inspectcli.hparams._tree import decode_text, flag_unresolved
from inspectcli.hparams._trials import EXPERIMENTS, Study, choose
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Origin, Selection, Store, Trial
from inspectcli.hparams.names import hparam
from inspectcli.storage.location import Location

TOOL = "mlflow"

#: A value is at most 6,000 characters (500 in older versions).
MAX_VALUE = 64 << 10
MAX_PARAMS = 10_000
#: Folders inside `params/`: a key may have slashes.
MAX_DEPTH = 16

#: Metrics that say where training has got to.
_CURRENT = {"lr": "learning_rate.current", "learning_rate": "learning_rate.current", "epoch": "epoch.current"}
_EXPERIMENT = re.compile(r"\d+")
_STATUS = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}


def _param(key: str, text: str, origin: Origin) -> HParamRow:
    value = decode_text(text)
    return flag_unresolved(hparam(key, value, origin, "config", stored=text))


def _metric(key: str, value: object, step: object, origin: Origin) -> HParamRow | None:
    name = _CURRENT.get(key.rpartition("/")[2].lower())
    if name is None or not isinstance(value, int | float):
        return None
    return HParamRow(name, key, value, None, Kind.DYNAMIC, origin, f"last logged, at step {step}")


# -- SQLite ---------------------------------------------------------------------------------------------


def _sniff_db(location: Location, head: bytes) -> bool:
    return has_tables(location, head, "params", "runs", "experiments")


def _read_db(location: Location, head: bytes, choice: Selection) -> Store:
    file = str(location)
    with Database(location) as db:
        experiments = {key: str(name) for key, name in db.rows("experiments", ("experiment_id", "name"))}
        runs = db.rows("runs", ("run_uuid", "name", "status", "experiment_id", "start_time", "lifecycle_stage"))
        params = db.rows("params", ("run_uuid", "key", "value"))
        metrics = db.rows("latest_metrics", ("run_uuid", "key", "value", "step"))
    found: dict[Any, list[HParamRow]] = {}
    for run, key, text in params:
        found.setdefault(run, []).append(_param(str(key), str(text), Origin(file, f"params[run_uuid={run}]", TOOL)))
    for run, key, value, step in metrics:
        row = _metric(str(key), value, step, Origin(file, f"latest_metrics[run_uuid={run}]", TOOL))
        if row is not None:
            found.setdefault(run, []).append(row)
    grouped: dict[str, list[Trial]] = {}
    for run, title, status, experiment, _, stage in sorted(runs, key=lambda row: (_time(row[4]), str(row[0]))):
        if stage != "deleted":
            name = experiments.get(experiment, str(experiment))
            trial = Trial(str(run), str(status), name, rows=tuple(found.get(run, ())), label=str(title or ""))
            grouped.setdefault(name, []).append(trial)
    return _chosen(grouped, choice, unmerged(location))


def _time(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _chosen(grouped: dict[str, list[Trial]], choice: Selection, notes: Any) -> Store:
    studies = [
        Study(name, tuple(runs), frozenset(run.name for run in runs if run.state == "FINISHED"))
        for name, runs in grouped.items()
        if any(run.rows for run in runs) or len(grouped) == 1
    ]
    return choose(studies, choice, EXPERIMENTS, notes)


# -- one file of the file store -------------------------------------------------------------------------


def _key_of(location: Location) -> str:
    """The way from a run's `params/` to this file: its key, which may have slashes; empty if it is in none."""
    place = location.absolute()
    key, folder = place.name, place.parent
    for _ in range(MAX_DEPTH):
        if folder.name == "params":
            return key if _is_run(folder.parent) else ""
        if folder.parent == folder:
            break
        key, folder = f"{folder.name}/{key}", folder.parent
    return ""


def _is_run(folder: Location) -> bool:
    """`params/` is a name that others use too: `meta.yaml`, or `metrics/` and `tags/`, lie beside MLflow's."""
    names = names_in(folder)
    return "params" in names and ("meta.yaml" in names or names >= {"metrics", "tags"})


def _sniff_param(location: Location, head: bytes) -> bool:
    return len(head) <= MAX_VALUE and b"\0" not in head and bool(_key_of(location))


def _read_param(location: Location, head: bytes, choice: Selection) -> Store:
    if location.is_folder():
        return _read_folder(location, choice)
    return Store((_file_row(location, _key_of(location)),))


def _file_row(location: Location, key: str) -> HParamRow:
    text = read_file(location, MAX_VALUE).decode("utf-8", "replace")
    return _param(key, text, Origin(str(location), "file content", TOOL))


# -- folders of the file store --------------------------------------------------------------------------


def _is_folder(folder: Location) -> bool:
    """A run, an experiment with runs, or `mlruns/` with experiments."""
    if _is_run(folder):
        return True
    below = [place for place in subfolders(folder)[:1000] if not place.name.startswith(".")]
    if any(_is_run(place) for place in below):
        return True
    experiments = [place for place in below if _EXPERIMENT.fullmatch(place.name)]
    return any(_is_run(run) for experiment in experiments for run in subfolders(experiment)[:100])


def _read_folder(folder: Location, choice: Selection) -> Store:
    notes: list[str] = []
    if _is_run(folder):
        return Store(tuple(_run_rows(folder, notes)), notes=tuple(notes), files=(str(folder),))
    grouped: dict[str, list[Trial]] = {}
    places: dict[str, Location] = {}
    below = subfolders(folder)
    for experiment in [folder] if any(_is_run(place) for place in below) else below:
        name = _meta(experiment).get("name") or experiment.name
        runs = [(run, _meta(run)) for run in subfolders(experiment) if _is_run(run)]
        for run, meta in sorted(runs, key=lambda pair: (pair[1].get("start_time", ""), str(pair[0]))):
            if meta.get("lifecycle_stage") != "deleted":
                state = _STATUS.get(meta.get("status", ""), meta.get("status", ""))
                title = meta.get("run_name", "")
                trial = Trial(run.name, state, name, rows=tuple(_run_rows(run, notes)), label=title)
                grouped.setdefault(name, []).append(trial)
                places[trial.name] = run
    store = _chosen(grouped, choice, notes)
    chosen = next((t.name for t in store.trials if t.chosen), next(iter(places), ""))
    return replace(store, files=(str(places[chosen]),) if chosen else ())


def _meta(folder: Location) -> dict[str, str]:
    """`meta.yaml` has one plain `key: value` a line."""
    try:
        text = read_file(folder.join("meta.yaml"), MAX_VALUE).decode("utf-8", "replace")
    except PinspectError:
        return {}
    found = (line.partition(":") for line in text.splitlines() if not line.startswith((" ", "-", "#")))
    return {key.strip(): value.strip().strip("'\"") for key, _, value in found}


def _run_rows(run: Location, notes: list[str]) -> list[HParamRow]:
    made: list[HParamRow] = []
    for key, file in _files(run.join("params")):
        if len(made) >= MAX_PARAMS:
            notes.append(f"{run.name}: only the first {MAX_PARAMS:,} parameters are shown")
            break
        try:
            made.append(_file_row(file, key))
        except PinspectError as error:
            notes.append(f"{run.name}: params/{key}: {error.message}")
    for key, file in _files(run.join("metrics")):
        if key.rpartition("/")[2].lower() in _CURRENT:
            row = _last_metric(file, key)
            made += [row] if row else []
    return made


def _files(folder: Location, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Location]]:
    """(key, file) of the files below a folder; a key's slashes are folders."""
    for name in sorted(names_in(folder)):
        place = folder.join(name)
        if place.is_link():
            continue
        if place.is_folder():
            if depth < MAX_DEPTH:
                yield from _files(place, f"{prefix}{name}/", depth + 1)
        else:
            yield f"{prefix}{name}", place


def _last_metric(location: Location, key: str) -> HParamRow | None:
    """A line is `timestamp value step`."""
    try:
        lines = read_tail(location, 4096).decode("utf-8", "replace").split("\n")
    except PinspectError:
        return None
    words = next((line.split() for line in reversed(lines) if line.strip()), [])
    value = decode_text(words[1]) if len(words) >= 2 else None
    return _metric(key, value, words[2] if len(words) > 2 else 0, Origin(str(location), "last line", TOOL))


SOURCE = (
    HParamSource(TOOL, _sniff_db, _read_db),
    HParamSource(TOOL, _sniff_param, _read_param, _is_folder),
)
