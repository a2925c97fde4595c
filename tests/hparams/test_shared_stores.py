"""The real stores of the shared corpus: every row that its truth names, and no hyperparameter that it does not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.places import CORPUS
from support.stores import claimed, read

from inspectcli.hparams.base import HParamRow
from inspectcli.hparams.sources import mlflow, optuna, ray_tune, wandb

STORES = [
    pytest.param("optuna", optuna, id="optuna"),
    pytest.param("ray_tune", ray_tune, id="ray"),
    pytest.param("wandb_offline", wandb, id="wandb-offline"),
    pytest.param("wandb_config_yaml", wandb, id="wandb-config"),
    pytest.param("mlflow", mlflow, id="mlflow"),
]

#: The truth's words for a place that is one of two.
EITHER = "RunRecord.config / ConfigRecord.update (LevelDB-style log of protobuf)"


def folder_of(name: str) -> Path:
    folder = CORPUS / "hparams" / name
    if not folder.exists():
        pytest.skip(f"no corpus at {folder}")
    return folder


def wanted(folder: Path) -> list[dict[str, Any]]:
    """The rows of the truth whose file came along."""
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    return [row for row in truth["where"] if (folder / row["file"]).exists()]


def fits(row: HParamRow, truth: dict[str, Any]) -> bool:
    place = row.source.locator
    return (
        (row.name or "-") == truth["canonical"]
        and row.raw_key == truth["raw_key"]
        and row.kind.value == truth["kind"]
        and (place == truth["locator"] or (truth["locator"] == EITHER and place in EITHER))
        and (same(row.value, truth["value"]) or row.stored == truth["value"])
    )


def same(a: object, b: object) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float) and not isinstance(a, bool):
        return math.isclose(a, b, rel_tol=1e-6)
    return a == b


@pytest.mark.corpus
@pytest.mark.parametrize(("name", "module"), STORES)
def test_every_row_of_the_truth_is_found(name: str, module: ModuleType) -> None:
    folder = folder_of(name)
    truth = wanted(folder)
    assert truth
    for row in truth:
        assert any(fits(found, row) for found in read(module, folder / row["file"]).rows), row


@pytest.mark.corpus
@pytest.mark.parametrize(("name", "module"), STORES)
def test_nothing_is_claimed_that_was_not_set(name: str, module: ModuleType) -> None:
    folder = folder_of(name)
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    known = {"n_estimators", "learning_rate.current", *truth["hyperparameters"]}
    for path in {folder / row["file"] for row in wanted(folder)}:
        for row in read(module, path).rows:
            if row.name is not None:
                assert row.name in known, row
                expected = truth["hyperparameters"].get(row.name)
                assert expected is None or same(row.value, expected), row


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("place", "module", "best"),
    [
        pytest.param("ray_tune/exp", ray_tune, "t_00001", id="ray"),
        pytest.param("wandb_offline/wandb", wandb, "", id="wandb"),
        pytest.param("mlflow/mlruns", mlflow, "", id="mlflow"),
    ],
)
def test_folders_as_a_whole(place: str, module: ModuleType, best: str) -> None:
    path = folder_of(place)
    store = read(module, path)
    names = {row.name for row in store.rows}
    assert {"learning_rate", "batch_size", "dropout", "hidden_size"} <= names
    assert [t.name for t in store.trials if t.chosen] == ([best] if best else [])
    assert len(claimed(module, path)) == 1
