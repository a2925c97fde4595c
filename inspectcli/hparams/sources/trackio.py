"""Trackio: a SQLite file per project, with the configuration of each run as JSON.

https://github.com/gradio-app/trackio/blob/main/trackio/sqlite_storage.py
"""

from __future__ import annotations

from inspectcli.encodings.files import json_object
from inspectcli.encodings.sqlite import Database, has_tables, unmerged
from inspectcli.hparams._tree import rows
from inspectcli.hparams._trials import EXPERIMENTS, Study, choose
from inspectcli.hparams.base import HParamSource, Selection, Store, Trial
from inspectcli.storage.location import Location

TOOL = "trackio"


def _sniff(location: Location, head: bytes) -> bool:
    return has_tables(location, head, "metrics", "configs", "system_metrics")


def _read(location: Location, head: bytes, choice: Selection) -> Store:
    with Database(location) as db:
        stored = db.rows("configs", ("run_name", "run_id", "config"))
    trials: dict[str, Trial] = {}
    for name, key, text in stored:
        label = str(name) if str(name) not in trials else f"{name} ({key})"
        config = {k: v for k, v in json_object(text).items() if not k.startswith("_")}
        trials[label] = Trial(label, rows=tuple(rows(config, str(location), TOOL, f"configs[run_name={name}].config")))
    return choose([Study("", tuple(trials.values()))], choice, EXPERIMENTS, unmerged(location))


SOURCE = HParamSource(TOOL, _sniff, _read)
