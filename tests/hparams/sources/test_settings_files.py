"""Settings in files of other kinds: gin, plain pickles, Stable-Baselines3, sweeps, SageMaker, databases."""

from __future__ import annotations

import argparse
import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from inspectcli.commands.hparams.run import read_hparams
from inspectcli.errors import DamagedFileError, UsageError


def test_gin(tmp_path: Path) -> None:
    text = (
        "# Parameters for train:\nRATE = 0.25\ntrain.lr = %RATE  # a macro\ntrain.batch_size = 8\n"
        "train.optimizer = @tf.keras.optimizers.Adam()\nscope/Net.layers = [\n    64,\n    32]\n"
    )
    (tmp_path / "operative_config.gin").write_text(text)
    found = read_hparams(tmp_path / "operative_config.gin")
    assert (found["learning_rate"], found["batch_size"], found["hidden_units"]) == (0.25, 8, [64, 32])
    assert str(found["optimizer"]).endswith("Adam")


@pytest.mark.parametrize("held", [{"lr": 0.25, "bs": 8}, argparse.Namespace(lr=0.25, bs=8)])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_plain_pickles(held: object, protocol: int, tmp_path: Path) -> None:
    (tmp_path / "args.pkl").write_bytes(pickle.dumps(held, protocol))
    assert dict(read_hparams(tmp_path / "args.pkl")) == {"learning_rate": 0.25, "batch_size": 8}


def test_stable_baselines(tmp_path: Path) -> None:
    network = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, network)
    data = {
        "learning_rate": {":type:": "<class 'function'>", ":serialized:": "gASV"}, "gamma": 0.97, "n_epochs": 3,
        "batch_size": 16, "seed": 8, "num_timesteps": 64, "_total_timesteps": 100, "policy_class": {":type:": "x"},
    }  # fmt: skip
    with zipfile.ZipFile(tmp_path / "ppo.zip", "w") as archive:
        archive.writestr("data", json.dumps(data))
        archive.writestr("policy.pth", network.getvalue())
        archive.writestr("_stable_baselines3_version", "2.7.0")
    found = read_hparams(tmp_path / "ppo.zip")
    assert (found["batch_size"], found["seed"], found["discount"], found["max_steps"]) == (16, 8, 0.97, 100)
    assert found.current("step") == 64
    assert "epochs" not in found
    assert found["learning_rate"] is None


def test_a_sweep_names_what_is_searched(tmp_path: Path) -> None:
    text = (
        "method: bayes\nparameters:\n  learning_rate: {min: 0.001, max: 0.1}\n  batch_size: {values: [8, 16]}\n"
        "  kernel: {values: [rbf, poly]}\n  epochs: {value: 3}\n"
    )
    (tmp_path / "sweep.yaml").write_text(text)
    found = read_hparams(tmp_path / "sweep.yaml")
    assert (found["learning_rate"], found["batch_size"]) == ([0.001, 0.1], [8, 16])
    assert (found["kernel"], found["epochs"]) == (["rbf", "poly"], 3)


def test_text_of_sagemaker(tmp_path: Path) -> None:
    (tmp_path / "hyperparameters.json").write_text(json.dumps({"lr": "0.25", "batch-size": "8", "optimizer": '"adam"'}))
    assert dict(read_hparams(tmp_path / "hyperparameters.json")) == {
        "learning_rate": 0.25, "batch_size": 8, "optimizer": "adam",
    }  # fmt: skip


def test_a_damaged_database_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 8)
    with pytest.raises(DamagedFileError):
        read_hparams(tmp_path / "s.db")


def test_values_that_are_not_set_or_not_used(tmp_path: Path) -> None:
    (tmp_path / "args.yaml").write_text("optimizer: auto\nlr0: 0.02\nlrf: 0.1\nimgsz: 64\nmomentum: 0.9\nbf16: true\n")
    found = read_hparams(tmp_path / "args.yaml")
    unused = {row.name for row in found.rows if "not used" in row.note}
    assert unused == {"learning_rate", "momentum"}
    assert found["precision"] == "bf16"
    (tmp_path / "c.yaml").write_text("max_steps: -1\nlr: 0.25\n")
    assert read_hparams(tmp_path / "c.yaml").provenance("max_steps")[0].note == "-1: not set"


def test_runs_by_the_names_that_people_gave_them(tmp_path: Path) -> None:
    for n, name in enumerate(("quiet-owl", "brave-elk")):
        run = tmp_path / "mlruns" / "1" / (str(n) * 32)
        (run / "params").mkdir(parents=True)
        (run / "params" / "lr").write_text(str(n + 0.5))
        (run / "meta.yaml").write_text(f"run_name: {name}\nlifecycle_stage: active\nstatus: 3\n")
    assert read_hparams(tmp_path / "mlruns", run="quiet-owl")["learning_rate"] == 0.5
    with pytest.raises(UsageError, match="no run 'x': found quiet-owl, brave-elk"):
        read_hparams(tmp_path / "mlruns", run="x")
