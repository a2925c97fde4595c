from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.stores import by_key, by_name, claimed, places, read

from inspectcli.errors import DamagedFileError
from inspectcli.hparams.sources import dvc

LOCK = """\
schema: '2.0'
stages:
  prepare:
    cmd: python prepare.py
  train:
    cmd: python train.py --lr 5
    deps:
    - path: train.py
      md5: 0123
      size: 31
    params:
      params.yaml:
        train.lr: 0.005
        train.optimizer: adam
        model.hidden_dim: 128
        model.layers: [64, 32]
      other.json:
        seed: 7
        data:
          batch_size: 32
"""


def test_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    path.write_text(LOCK)
    store = read(dvc, path)
    assert by_key(store) == {
        "train.lr": 0.005,
        "train.optimizer": "adam",
        "model.hidden_dim": 128,
        "model.layers": [64, 32],
        "seed": 7,
        "batch_size": 32,
    }
    place = "stages.train.params.params.yaml"
    assert places(store) == {
        ("learning_rate", place, "dvc.lock"),
        ("optimizer", place, "dvc.lock"),
        ("hidden_size", place, "dvc.lock"),
        ("hidden_units", place, "dvc.lock"),
        ("seed", "stages.train.params.other.json", "dvc.lock"),
        ("batch_size", "stages.train.params.other.json.data", "dvc.lock"),
    }


def test_a_lock_of_the_first_schema(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    path.write_text("train:\n  cmd: x\n  params:\n    params.yaml:\n      lr: 1e-4\n")
    assert places(read(dvc, path)) == {("learning_rate", "train.params.params.yaml", "dvc.lock")}
    assert by_key(read(dvc, path)) == {"lr": 1e-4}


@pytest.mark.parametrize("text", ["schema: '2.0'\nstages: 5\n", "stages:\n  a: [1]\n  b: {params: 3}\n", "- cmd: x\n"])
def test_locks_that_hold_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "dvc.lock"
    path.write_text(text)
    for source in claimed(dvc, path):
        assert read(dvc, path).rows == (), source


def test_params_are_dvcs_by_what_lies_beside(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("train:\n  lr: 0.01\nseed: 3\n")
    assert not claimed(dvc, path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    assert places(read(dvc, path)) == {("learning_rate", "train", "params.yaml"), ("seed", "", "params.yaml")}
    (tmp_path / "params.json").write_text('{"lr": 0.5}')
    assert by_key(read(dvc, tmp_path / "params.json")) == {"lr": 0.5}


def test_a_broken_lock(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    path.write_text("stages:\n  train: [\n")
    with pytest.raises(DamagedFileError, match=r"dvc\.lock is not YAML in line 3"):
        read(dvc, path)


def test_what_dvclive_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = pytest.importorskip("dvclive", reason="needs dvclive: pip install 'inspectcli[stores]'")
    monkeypatch.chdir(tmp_path)
    with library.Live(save_dvc_exp=False) as live:
        live.log_params({"lr": 1e-5, "model": {"n_layers": 3}, "opt": "adam"})
    assert by_key(read(dvc, tmp_path / "dvclive" / "params.yaml")) == {"lr": 1e-5, "n_layers": 3, "opt": "adam"}


def test_what_dvc_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli: Any = pytest.importorskip("dvc.cli", reason="needs dvc: pip install 'inspectcli[stores]'")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("train:\n  lr: 0.005\n  optimizer: adam\nmodel:\n  n_layers: 3\nseed: 7\n")
    stage = ["stage", "add", "-n", "train", "-p", "train,model.n_layers,seed", "-o", "out", "echo 1 > out"]
    for arguments in (["init", "--no-scm", "-q"], stage, ["repro", "-q"]):
        assert cli.main(arguments) == 0
    (tmp_path / "params.yaml").write_text("train:\n  lr: 0.1\n  optimizer: adam\n")
    store = read(dvc, tmp_path / "dvc.lock")
    assert by_name(store) == {"learning_rate": 0.005, "optimizer": "adam", "num_layers": 3, "seed": 7}
    assert all(row.source.locator.startswith("stages.train.params.params.yaml") for row in store.rows)
    assert by_key(read(dvc, tmp_path / "params.yaml")) == {"lr": 0.1, "optimizer": "adam"}
