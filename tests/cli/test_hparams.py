"""`pinspect hparams` as a person and as a program meet it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from inspectcli.cli import run

# ruff: noqa: E501  (a report as it is printed)
LIGHTNING = """\
fixtures/lightning.ckpt  (hyperparameters from 1 file)
  written by  pytorch-lightning
  progress    learning rate 0.01 → now 0.0025, step 200, epoch 3

hyperparameter  value         now     key                     place                                remark
--------------  ------------  ------  ----------------------  -----------------------------------  -----------------------------
learning_rate   0.01          0.0025  lr                      hyper_parameters                     and in 1 other place
optimizer       AdamW                 decoupled_weight_decay  optimizer_states[0].param_groups[0]  told by the keys of its state
betas           [0.9, 0.999]          betas                   optimizer_states[0].param_groups[0]
adam_epsilon    1e-8                  eps                     optimizer_states[0].param_groups[0]
weight_decay    0.01                  weight_decay            optimizer_states[0].param_groups[0]
epoch           –             3       epoch
step            –             200     global_step
hidden_size     4                     hidden                  hyper_parameters
amsgrad         no                    amsgrad                 optimizer_states[0].param_groups[0]
  11 more values, settings and keys without a known name: --all
  not recorded in this file: batch size, epochs, seed
"""


def out_of(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    code = run(["hparams", *args])
    return code, capsys.readouterr().out


def test_a_checkpoint(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fixtures: Path) -> None:
    monkeypatch.chdir(fixtures.parent)
    assert out_of(capsys, "fixtures/lightning.ckpt") == (0, LIGHTNING)


def test_json_rows(capsys: pytest.CaptureFixture[str], fixtures: Path) -> None:
    path = str(fixtures / "lightning.ckpt")
    code, text = out_of(capsys, path, "--format", "json")
    document = json.loads(text)
    assert (code, document["schema"], document["command"]) == (0, "pinspect/1", "hparams")
    assert next(row for row in document["hyperparameters"] if row["raw_key"] == "lr" and row["kind"] == "static") == {
        "name": "learning_rate",
        "raw_key": "lr",
        "value": 0.01,
        "current": 0.0025,
        "kind": "static",
        "source": {"file": path, "locator": "hyper_parameters", "tool": "pytorch-lightning"},
        "note": "",
    }
    assert document["not_recorded"] == ["batch_size", "epochs", "seed"]
    assert yaml.safe_load(out_of(capsys, path, "--format", "yaml")[1]) == document
    rows = list(csv.DictReader(io.StringIO(out_of(capsys, path, "--format", "csv")[1])))
    assert [row["name"] for row in rows] == [row["name"] or "" for row in document["hyperparameters"]]


def test_what_is_private_is_masked_unless_all_is_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("lr: 0.1\noptimizer: /home/someone/opt\nuser: someone\ndata: /home/someone/x\n")
    path = str(tmp_path / "c.yaml")
    for form in ("plain", "json", "csv", "markdown", "yaml"):
        text = out_of(capsys, path, "--format", form)[1].replace(path, "")
        assert "someone" not in text
        assert "masked" in text
        assert "someone" in out_of(capsys, path, "--format", form, "--all")[1].replace(path, "")


def test_two_sets(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("lr: 0.1\nbatch_size: 8\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("learning_rate: 0.2\nbatch_size: 8\ndropout: 0.3\n")
    a, b = str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")
    code, text = out_of(capsys, a, b, "--format", "json")
    document = json.loads(text)
    assert code == 1
    assert document["changed"] == {"learning_rate": {"a": 0.1, "b": 0.2}}
    assert (document["only_in_a"], document["only_in_b"], document["same"]) == (
        {"seed": 1},
        {"dropout": 0.3},
        {"batch_size": 8},
    )
    assert out_of(capsys, a, a)[0] == 0
    assert "1 changed, 1 only in A, 1 only in B, 1 the same" in out_of(capsys, a, b)[1]


def test_advice_is_no_finding(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.save({"config": {"lr": 30.0}, "w": torch.tensor([1.0, float("nan")])}, tmp_path / "c.pt")
    code, text = out_of(capsys, str(tmp_path / "c.pt"), "--advice")
    assert code == 0
    assert "above the usual 1e-5 to 0.1" in text
    assert "the weights hold 1 value that is NaN or Inf: " in text
    assert "typically" in text


def test_a_contradiction_gives_exit_code_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.save({"hyper_parameters": {"lr": 0.1}, "w": torch.zeros(1)}, tmp_path / "last.ckpt")
    (tmp_path / "hparams.yaml").write_text("lr: 0.2\n")
    code, text = out_of(capsys, str(tmp_path))
    assert code == 1
    assert "PI602 learning_rate: lr of hparams.yaml is 0.2, but hyper_parameters.lr of last.ckpt is 0.1" in text


@pytest.mark.parametrize("args", [("missing.pt",), (".",), ("a", "b", "c")])
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    args: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["hparams", *args]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("pinspect: ")


def test_untrusted_text_is_escaped(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"optimizer": "a\x1b[2Jb", "lr": 0.1}))
    assert "\x1b" not in out_of(capsys, str(tmp_path / "c.json"))[1]


def test_reading_imports_no_tool_and_no_numpy(fixtures: Path) -> None:
    code = (
        "import sys; from inspectcli.cli import run; run(['hparams', sys.argv[1], '-q']);"
        "print(sorted({m.split('.')[0] for m in sys.modules}))"
    )
    argv = [sys.executable, "-c", code, str(fixtures / "lightning.ckpt")]
    loaded = set(eval(subprocess.run(argv, capture_output=True, text=True, check=True).stdout))
    assert not loaded & {"numpy", "torch", "yaml", "h5py", "rich", "sqlite3", "optuna", "keras", "pytorch_lightning"}
