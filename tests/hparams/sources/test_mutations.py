"""Stores whose JSON is sound, but not of the shape that the tool writes: an error of ours, notes, or rows."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.framings import log_of, tf_of
from support.keras_tuner_store import trial
from support.optuna_store import OPERATIONS
from support.ray_tune_store import STATE, experiment
from support.stores import claimed, read
from support.tensorboard_store import SET, VERSION, scalar, session
from support.trackers_store import a_comet, a_neptune, a_nevergrad, a_smac, an_ax, clearml_task
from support.wandb_store import HEADER, run, summary

from inspectcli.errors import PinspectError
from inspectcli.hparams.base import Store
from inspectcli.hparams.sources import (
    ax,
    clearml,
    comet,
    keras_tuner,
    mlflow,
    neptune,
    nevergrad,
    optuna,
    ray_tune,
    smac,
    tensorboard,
    trackio,
    wandb,
)

STRANGE: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1 << 60,
    1e308,
    float("nan"),
    "",
    "x",
    "{}",
    [],
    [1],
    [[]],
    {},
    {"a": 1},
    [{}],
)

ROUNDS = 250


def nodes(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) of a tree."""
    found: list[tuple[Any, Any]] = []
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in pairs:
        found += [(tree, key), *nodes(child)]
    return found


def changed(tree: Any, rng: random.Random) -> Any:
    """A copy with up to three values replaced or taken away."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        places = nodes(tree)
        if not places:
            break
        holder, key = rng.choice(places)
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(rng.choice(STRANGE))
    return tree


def listed(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def documents(tmp: Path) -> list[tuple[ModuleType, str, Any, bool]]:
    """(module, name of the file, what it holds, whether as JSON lines)."""
    state = json.loads((experiment(tmp / "exp") / STATE).read_text())
    return [
        (ax, "ax.json", json.loads(an_ax(tmp).read_text()), False),
        (smac, "runhistory.json", json.loads(a_smac(tmp).read_text()), False),
        (clearml, "task.json", clearml_task(), False),
        (keras_tuner, "trial.json", trial(0, 0.5, "min"), False),
        (ray_tune, STATE, state, False),
        (optuna, "journal.log", [{"worker_id": "w", **operation} for operation in OPERATIONS], True),
        (nevergrad, "log.json", listed(a_nevergrad(tmp)), True),
        (neptune, "data-1.log", listed(a_neptune(tmp) / "data-10.log"), True),
    ]


@pytest.mark.parametrize("index", range(8))
def test_any_shape(tmp_path: Path, index: int) -> None:
    module, name, document, as_lines = documents(tmp_path)[index]
    path = tmp_path / "changed" / name
    path.parent.mkdir()
    rng = random.Random(index)
    seen = 0
    for _ in range(ROUNDS):
        tree = changed(document, rng)
        lines = as_lines and isinstance(tree, list)
        path.write_text("".join(json.dumps(line) + "\n" for line in tree) if lines else json.dumps(tree))
        with contextlib.suppress(PinspectError):
            if claimed(module, path):
                assert isinstance(read(module, path), Store)
                seen += 1
    assert seen > ROUNDS / 4


def test_a_folder_of_trials_of_any_shape(tmp_path: Path) -> None:
    rng = random.Random(0)
    folder = tmp_path / "p"
    (folder / "trial_0").mkdir(parents=True)
    (folder / "trial_1").mkdir()
    (folder / "oracle.json").write_text("{}")
    for _ in range(ROUNDS):
        for number in range(2):
            text = json.dumps(changed(trial(number, 0.5, "min"), rng))
            (folder / f"trial_{number}" / "trial.json").write_text(text)
        assert isinstance(read(keras_tuner, folder), Store)


def test_an_experiment_of_any_shape(tmp_path: Path) -> None:
    folder = experiment(tmp_path / "exp")
    rng = random.Random(0)
    names = (STATE, "t_0/params.json", "t_1/result.json", "t_2/params.json")
    sound = {
        name: json.loads(
            (folder / name).read_text().splitlines()[-1] if "result" in name else (folder / name).read_text()
        )
        for name in names
    }
    for _ in range(ROUNDS):
        for name, tree in sound.items():
            (folder / name).write_text(json.dumps(changed(tree, rng)))
        assert isinstance(read(ray_tune, folder), Store)


def test_messages_of_any_shape(tmp_path: Path) -> None:
    path = a_comet(tmp_path)
    with zipfile.ZipFile(path) as archive:
        messages = [json.loads(line) for line in archive.read("messages.json").splitlines()]
    rng = random.Random(0)
    for _ in range(ROUNDS):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("experiment.json", "{}")
            archive.writestr("messages.json", "\n".join(json.dumps(m) for m in changed(messages, rng)))
        assert isinstance(read(comet, path), Store)


#: (a binary log, who reads it, what it begins with)
LOGS = [
    pytest.param(
        wandb, lambda records: log_of(records, HEADER), [run({"lr": 0.1, "m": {"a": [1]}}), summary({"lr": 1})]
    ),
    pytest.param(tensorboard, lambda records: tf_of([VERSION, *records]), [session(SET), scalar("lr", 0.1, 3)]),
]


@pytest.mark.parametrize(("module", "frame", "records"), LOGS)
def test_sound_frames_of_damaged_messages(
    tmp_path: Path, module: ModuleType, frame: Callable[[list[bytes]], bytes], records: list[bytes]
) -> None:
    path, rng = tmp_path / "log", random.Random(0)
    for _ in range(2 * ROUNDS):
        damaged = [bytearray(record) for record in records]
        for _ in range(rng.randint(1, 4)):
            record = rng.choice(damaged)
            record[rng.randrange(len(record))] = rng.randrange(256)
        path.write_bytes(frame([bytes(record) for record in damaged]))
        with contextlib.suppress(PinspectError):
            assert isinstance(read(module, path), Store)


TABLES = {
    optuna: """studies study_id study_name; study_directions study_id objective direction;
        trials trial_id number study_id state value; trial_values trial_id objective value value_type;
        trial_params trial_id param_name param_value distribution_json;
        trial_system_attributes trial_id key value_json""",
    mlflow: """experiments experiment_id name; runs run_uuid name status experiment_id start_time lifecycle_stage;
        params run_uuid key value; latest_metrics run_uuid key value step""",
    trackio: "metrics id; system_metrics id; configs run_name run_id config",
}
CELLS: tuple[Any, ...] = (
    None, 0, 1, 1, 1, -5, 1 << 60, 0.5, 1e308, float("inf"), "", "lr", "COMPLETE", "active", "constraints", "[1]",
    b"\xff\x00",
    '{"name": "CategoricalDistribution", "attributes": {"choices": [1]}}', '{"attributes": {"low": 1}, "name": "Int"}',
)  # fmt: skip


@pytest.mark.parametrize("module", TABLES)
def test_databases_of_any_values(tmp_path: Path, module: ModuleType) -> None:
    path, rng = tmp_path / "a.db", random.Random(0)
    for _ in range(ROUNDS // 2):
        path.unlink(missing_ok=True)
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("PRAGMA synchronous = OFF")
        for table in TABLES[module].split(";"):
            name, *columns = table.split()
            db.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
            for _ in range(rng.randint(0, 6)):
                row = [rng.choice(CELLS) for _ in columns]
                db.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})", row)
        db.close()
        with contextlib.suppress(PinspectError):
            assert isinstance(read(module, path), Store)
