from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.keras_tuner_store import trial
from support.stores import by_key, by_name, claimed, places, read

from inspectcli.hparams.base import Selection
from inspectcli.hparams.sources import keras_tuner


def project(path: Path, direction: str) -> Path:
    path.mkdir()
    (path / "oracle.json").write_text("{}")
    for number, score, status in (
        (0, 0.3, "COMPLETED"),
        (1, 0.2, "COMPLETED"),
        (2, 0.4, "COMPLETED"),
        (3, None, "INVALID"),
    ):
        folder = path / f"trial_{number}"
        folder.mkdir()
        (folder / "trial.json").write_text(json.dumps(trial(number, score, direction, status)))
    return path


@pytest.mark.parametrize(("direction", "best", "lr"), [("min", "1", 0.002), ("max", "2", 0.003)])
def test_the_best_trial(tmp_path: Path, direction: str, best: str, lr: float) -> None:
    store = read(keras_tuner, project(tmp_path / "p", direction))
    assert by_key(store) == {"lr": lr, "units": 64, "activation": "tanh", "seed": 1}
    assert [t.name for t in store.trials if t.chosen] == [best]
    assert store.objective == f"val_x, {direction}imize"
    assert [row.note for row in store.rows] == [
        "searched 0.0001 to 0.01, log scale", "searched 32 to 128, step 32", "searched relu, tanh", "fixed",
    ]  # fmt: skip
    assert ("learning_rate", "hyperparameters.values", "trial.json") in places(store)
    assert by_key(read(keras_tuner, tmp_path / "p", Selection(trial="3")))["lr"] == 0.004


def test_a_broken_trial_is_a_note(tmp_path: Path) -> None:
    folder = project(tmp_path / "p", "min")
    (folder / "trial_1" / "trial.json").write_text('{"trial_id": "1", ')
    store = read(keras_tuner, folder)
    assert by_key(store)["lr"] == 0.001
    assert store.notes[0].startswith("trial_1/trial.json: trial.json is not JSON")


@pytest.mark.parametrize(
    "text", ["[]", '{"trial_id": 1, "hyperparameters": 5}', '{"trial_id": 1, "hyperparameters": {"values": []}}']
)
def test_trials_that_hold_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trial.json"
    path.write_text(text)
    if claimed(keras_tuner, path):
        assert read(keras_tuner, path).rows == ()


def test_what_the_library_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    library: Any = pytest.importorskip("keras_tuner", reason="needs keras-tuner: pip install 'inspectcli[stores]'")

    class Tuner(library.Tuner):  # type: ignore[misc]
        def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> float:
            values = trial.hyperparameters
            values.Int("num_layers", 1, 4)
            values.Choice("optimizer", ["adam", "sgd"])
            return float(values.Float("learning_rate", 1e-4, 1e-1, sampling="log"))

    oracle = library.oracles.RandomSearchOracle(
        objective=library.Objective("default_objective", "min"), max_trials=4, seed=1
    )
    tuner = Tuner(oracle=oracle, directory=str(tmp_path), project_name="p", overwrite=True)
    tuner.search()
    store = read(keras_tuner, tmp_path / "p")
    assert by_name(store) == tuner.get_best_hyperparameters()[0].values
    assert len(store.trials) == 4
