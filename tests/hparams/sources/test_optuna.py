from __future__ import annotations

import json
import math
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.optuna_store import FLOAT, OPERATIONS, distribution
from support.stores import by_key, by_name, claimed, places, read, truncations

from inspectcli.errors import PinspectError, UsageError
from inspectcli.hparams.base import Selection
from inspectcli.hparams.sources import optuna

LIBRARY = "needs optuna: pip install 'inspectcli[stores]'"


def journal(path: Path, operations: list[dict[str, Any]] = OPERATIONS) -> Path:
    path.write_text("".join(json.dumps({"worker_id": "w", **operation}) + "\n" for operation in operations))
    return path


def test_the_best_complete_trial_of_a_journal(tmp_path: Path) -> None:
    store = read(optuna, journal(tmp_path / "j.log"))
    assert by_name(store) == {"learning_rate": 0.02, "batch_size": 32}
    assert places(store) == {
        ("learning_rate", "op_code=5 trial_id=1", "j.log"),
        ("batch_size", "op_code=5 trial_id=1", "j.log"),
    }
    assert [row.note for row in store.rows] == ["searched 1e-05 to 0.1, log scale", "searched 32, auto, None, True"]
    assert [(t.name, t.state, t.objective, t.best, t.chosen) for t in store.trials] == [
        ("0", "COMPLETE", 0.5, False, False),
        ("1", "COMPLETE", 0.9, True, True),
        ("2", "PRUNED", 2.0, False, False),
    ]


def test_a_trial_that_was_asked_for(tmp_path: Path) -> None:
    path = journal(tmp_path / "j.log")
    store = read(optuna, path, Selection(trial="0"))
    assert by_key(store) == {"lr": 0.01, "hidden": 128}
    assert type(by_key(store)["hidden"]) is int
    with pytest.raises(UsageError, match="no trial '7': found 0, 1, 2"):
        read(optuna, path, Selection(trial="7"))
    with pytest.raises(UsageError, match="no study 'x': found tune"):
        read(optuna, path, Selection(study="x"))


def test_operations_that_do_not_count(tmp_path: Path) -> None:
    path = journal(
        tmp_path / "j.log",
        [
            *OPERATIONS,
            {"op_code": 0, "study_name": "tune", "directions": [1]},  # a second worker, the same name
            {"op_code": 5, "trial_id": 1, "param_name": "lr", "param_value_internal": 9.0, "distribution": FLOAT},
            {"op_code": 6, "trial_id": 1, "state": 3, "values": None},  # both after its end
            {"op_code": 5, "trial_id": 99, "param_name": "lr", "param_value_internal": 9.0, "distribution": FLOAT},
            {"op_code": 4, "study_id": 5},
            {"op_code": 77},
        ],
    )
    store = read(optuna, path)
    assert by_key(store) == {"lr": 0.02, "bs": 32}
    assert [(t.name, t.state, t.objective) for t in store.trials] == [
        ("0", "COMPLETE", 0.5), ("1", "COMPLETE", 0.9), ("2", "PRUNED", 2.0),
    ]  # fmt: skip
    assert [note.partition(";")[0] for note in store.notes] == ["3 trials, 2 complete"]


def test_a_violated_constraint_is_never_the_best(tmp_path: Path) -> None:
    attribute = {"op_code": 9, "trial_id": 1, "system_attr": {"constraints": [0.5, -1.0]}}
    store = read(optuna, journal(tmp_path / "j.log", [*OPERATIONS[:8], attribute, *OPERATIONS[8:]]))
    assert [(t.name, t.state) for t in store.trials if t.best] == [("0", "COMPLETE")]
    assert store.trials[1].state == "COMPLETE, constraint violated"


def test_an_index_that_is_no_choice_is_not_guessed(tmp_path: Path) -> None:
    bad = {**OPERATIONS[7], "param_value_internal": 17}
    (row,) = [
        r
        for r in read(optuna, journal(tmp_path / "j.log", [*OPERATIONS[:7], bad, OPERATIONS[8]])).rows
        if r.raw_key == "bs"
    ]
    assert (row.value, row.note) == (None, "unresolved: choice 17.0 of 32, auto, None, True")


def test_every_truncated_journal(tmp_path: Path) -> None:
    whole = journal(tmp_path / "j.log").read_bytes()
    path = tmp_path / "cut.log"
    for data in truncations(whole, 200):
        path.write_bytes(data)
        if claimed(optuna, path):
            assert len(read(optuna, path).trials) <= 3


def test_a_broken_line_is_a_note(tmp_path: Path) -> None:
    path = journal(tmp_path / "j.log")
    path.write_bytes(path.read_bytes() + b'{"op_code": 6, "wor')
    store = read(optuna, path)
    assert by_name(store)["learning_rate"] == 0.02
    assert any(note.startswith("read up to the damage: line 13 of j.log is not JSON") for note in store.notes)


def old_database(path: Path) -> Path:
    """The first schema: one objective in `trials`, one direction in `studies`, no numbers."""
    db = sqlite3.connect(path)
    uniform = distribution("LogUniformDistribution", low=1e-5, high=0.1)
    whole = distribution("IntUniformDistribution", low=1, high=4, step=1)
    db.executescript(
        f"""
        CREATE TABLE studies (study_id INTEGER, study_name TEXT, direction TEXT);
        CREATE TABLE trials (trial_id INTEGER, study_id INTEGER, state TEXT, value FLOAT);
        CREATE TABLE trial_params (trial_id INTEGER, param_name TEXT, param_value FLOAT, distribution_json TEXT);
        INSERT INTO studies VALUES (1, 'old', 'MAXIMIZE');
        INSERT INTO trials VALUES (10, 1, 'COMPLETE', 0.3), (11, 1, 'COMPLETE', 0.4), (12, 1, 'FAIL', 0.9);
        INSERT INTO trial_params VALUES (10, 'lr', 0.1, '{uniform}'), (11, 'lr', 0.2, '{uniform}'),
            (11, 'n_layers', 3.0, '{whole}');
        """
    )
    db.close()
    return path


def test_a_database_of_the_first_schema(tmp_path: Path) -> None:
    store = read(optuna, old_database(tmp_path / "old.db"))
    assert by_name(store) == {"learning_rate": 0.2, "num_layers": 3}
    assert store.rows[0].note == "searched 1e-05 to 0.1, log scale"
    assert store.rows[0].source.locator == "trial_params[trial=1]"
    assert store.objective == "objective, maximize"


def test_damaged_databases(tmp_path: Path) -> None:
    whole = old_database(tmp_path / "old.db").read_bytes()
    path, rng = tmp_path / "broken.db", random.Random(5)
    for n in range(60):
        data = bytearray(whole[: rng.randrange(len(whole))] if n % 2 else whole)
        for _ in range(10):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            if claimed(optuna, path):
                read(optuna, path)
        except PinspectError:
            pass


@pytest.fixture(params=["sqlite", "journal"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Path]:
    library = pytest.importorskip("optuna", reason=LIBRARY)
    library.logging.set_verbosity(library.logging.ERROR)
    if request.param == "sqlite":
        path = tmp_path / "o.db"
        return f"sqlite:///{path}", path
    path = tmp_path / "o.log"
    storage = library.storages.JournalStorage(library.storages.journal.JournalFileBackend(str(path)))
    return storage, path


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_what_the_library_says_is_best(fresh: tuple[Any, Path], direction: str) -> None:
    library = pytest.importorskip("optuna", reason=LIBRARY)
    storage, path = fresh

    def objective(trial: Any) -> float:
        lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        trial.suggest_int("n_layers", 1, 4)
        trial.suggest_int("hidden", 64, 512, step=64)
        trial.suggest_categorical("batch_size", [32, 64, 128])
        trial.suggest_categorical("optimizer", ["Adam", "SGD", None])
        trial.suggest_float("dropout", 0.2, 0.5, step=0.1)
        if trial.number == 3:
            raise library.TrialPruned
        if trial.number == 4:
            return math.inf if direction == "minimize" else -math.inf
        return float(lr)

    sampler = library.samplers.RandomSampler(seed=4)
    study = library.create_study(storage=storage, direction=direction, study_name="s", sampler=sampler)
    study.optimize(objective, n_trials=9)
    other = library.create_study(storage=storage, study_name="empty")
    assert not other.trials
    store = read(optuna, path)
    assert by_key(store) == study.best_params
    assert {t.name: t.state for t in store.trials} == {str(t.number): t.state.name for t in study.trials}
    for trial in study.trials:
        assert by_key(read(optuna, path, Selection(study="s", trial=str(trial.number)))) == trial.params


def test_trials_that_were_added_whole_or_in_a_second_study(fresh: tuple[Any, Path]) -> None:
    library = pytest.importorskip("optuna", reason=LIBRARY)
    storage, path = fresh
    space = {
        "lr": library.distributions.FloatDistribution(0, 1),
        "opt": library.distributions.CategoricalDistribution(("a", "b")),
    }
    for name, values in (("one", (0.5, 0.25)), ("two", (0.75,))):
        study = library.create_study(storage=storage, study_name=name)
        for value in values:
            study.add_trial(
                library.trial.create_trial(params={"lr": value, "opt": "b"}, distributions=space, value=value)
            )
    assert by_key(read(optuna, path)) == {"lr": 0.75, "opt": "b"}
    assert by_key(read(optuna, path, Selection(study="one"))) == {"lr": 0.25, "opt": "b"}
    assert any(note.startswith("2 studies: one, two; shown is 'two'") for note in read(optuna, path).notes)


def test_several_objectives_and_constraints(fresh: tuple[Any, Path]) -> None:
    library = pytest.importorskip("optuna", reason=LIBRARY)
    storage, path = fresh
    study = library.create_study(storage=storage, directions=["maximize", "minimize"])
    study.optimize(lambda trial: (trial.suggest_float("lr", 0, 1), 1.0), n_trials=5)
    store = read(optuna, path)
    assert by_key(store)["lr"] == max(t.values[0] for t in study.trials)
    assert any("has 2 objectives: trials are compared by the first" in note for note in store.notes)
