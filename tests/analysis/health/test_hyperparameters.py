"""What contradicts the hyperparameters, as rules: in `check`, and the same as `pinspect hparams` says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from models.judged import codes, findings
from models.llama import llama, model
from safetensors.torch import save_file

from inspectcli.analysis.findings import Finding, Severity, all_rules
from inspectcli.cli import run
from inspectcli.commands.check.run import check
from inspectcli.commands.hparams.run import read_hparams
from inspectcli.commands.inspect.run import inspect

# -- left alone -----------------------------------------------------------------------------------------


def test_a_config_that_agrees(tmp_path: Path) -> None:
    assert findings(model(tmp_path / "m", llama()) / "model.safetensors", "PI6") == ()


def test_a_shard_has_some_of_the_layers(tmp_path: Path) -> None:
    model(tmp_path, llama(layers=4), num_hidden_layers=4)
    first = {name: tensor for name, tensor in llama(layers=4).items() if ".2." not in name and ".3." not in name}
    save_file(first, tmp_path / "model-00001-of-00002.safetensors")
    assert findings(tmp_path / "model-00001-of-00002.safetensors", "PI6") == ()
    assert read_hparams(tmp_path / "model-00001-of-00002.safetensors").findings == ()


def test_an_adapter_may_be_of_some_layers(tmp_path: Path) -> None:
    model(tmp_path, llama(layers=4), num_hidden_layers=4)
    sides = {"A": (8, 24), "B": (24, 8)}
    adapter = {
        f"base_model.model.model.layers.{i}.self_attn.q_proj.lora_{side}.weight": torch.zeros(shape)
        for i in range(2)
        for side, shape in sides.items()
    }
    save_file(adapter, tmp_path / "adapter_model.safetensors")
    assert findings(tmp_path / "adapter_model.safetensors", "PI6") == ()


def test_a_model_in_memory_has_no_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model(tmp_path, llama(), num_hidden_layers=9)
    monkeypatch.chdir(tmp_path)
    assert [f for f in inspect(llama()).files[0].findings if f.code.startswith("PI6")] == []


def test_what_beside_a_checkpoint_cannot_be_read_is_no_error_of_the_checkpoint(tmp_path: Path) -> None:
    path = model(tmp_path, llama()) / "model.safetensors"
    (tmp_path / "config.json").write_text('{"model_type": ' + "[" * 100_000)
    (tmp_path / "training_args.bin").write_bytes(b"PK\x03\x04 nothing")
    report = inspect(path).files[0]
    assert report.error is None
    assert [f for f in report.findings if f.code.startswith("PI6")] == []


def test_to_ask_a_config_beside_no_database_is_imported(tmp_path: Path) -> None:
    probe = "import sys; from inspectcli.cli import run; run([sys.argv[1], '-q']); print('sqlite3' in sys.modules)"
    path = model(tmp_path, llama()) / "model.safetensors"
    done = subprocess.run([sys.executable, "-c", probe, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# -- found ----------------------------------------------------------------------------------------------


def denied(folder: Path) -> Path:
    return model(folder, llama(), num_hidden_layers=3) / "model.safetensors"


def test_a_config_against_the_tensors(tmp_path: Path) -> None:
    (found,) = findings(denied(tmp_path), "PI6")
    assert found == Finding(
        "PI601",
        Severity.WARNING,
        "model.layers.0.input_layernorm.weight",
        "num_hidden_layers of config.json is 3, but the tensors say 2 (model.layers.0 to model.layers.1)",
        "find the configuration that was saved with these weights",
        {"stated": 3, "tensors": 2},
        "num_layers",
    )


def test_of_a_sharded_model(tmp_path: Path) -> None:
    model(tmp_path, llama(), num_hidden_layers=3)
    (tmp_path / "model.safetensors").unlink()
    tensors = llama()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:4], "model-00002-of-00002.safetensors": names[4:]}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, tmp_path / shard)
    where = {name: shard for shard, members in shards.items() for name in members}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert codes(findings(tmp_path, "PI6")) == ["PI601"]


def test_inside_one_pickle(tmp_path: Path) -> None:
    torch.save({"model_args": {"n_layer": 5, "vocab_size": 80}, "model": llama()}, tmp_path / "ckpt.pt")
    (found,) = findings(tmp_path / "ckpt.pt", "PI6")
    assert (found.code, found.name, found.figures) == ("PI601", "num_layers", {"stated": 5, "tensors": 2})


def test_heads(tmp_path: Path) -> None:
    assert codes(findings(model(tmp_path, llama(), num_attention_heads=5) / "model.safetensors", "PI6")) == ["PI604"]


def test_another_store(tmp_path: Path) -> None:
    torch.save({"hyper_parameters": {"lr": 0.1}, "w": torch.zeros(1)}, tmp_path / "last.ckpt")
    (tmp_path / "hparams.yaml").write_text("lr: 0.2\n")
    (found,) = findings(tmp_path / "last.ckpt", "PI6")
    assert (found.code, found.tensor, found.name, found.about) == (
        "PI602", None, "learning_rate", "learning_rate",
    )  # fmt: skip
    assert found.figures == {"values": [0.1, 0.2]}


def resumed(path: Path) -> Path:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    torch.save({"optimizer": optimizer.state_dict(), "w": torch.zeros(1), "config": {"lr": 0.3}}, path)
    return path


def test_another_initial_rate(tmp_path: Path) -> None:
    assert codes(findings(resumed(tmp_path / "b.pt"), "PI6")) == ["PI603"]


@pytest.mark.parametrize("changed", [{}, {"num_hidden_layers": 3, "vocab_size": 81}, {"num_attention_heads": 5}])
def test_hparams_says_the_same(changed: dict[str, int], tmp_path: Path) -> None:
    path = model(tmp_path, llama(), **changed) / "model.safetensors"
    assert findings(path, "PI6") == read_hparams(path).findings == read_hparams(tmp_path).findings


# -- as any rule ----------------------------------------------------------------------------------------


def test_they_need_no_values_and_run_by_default() -> None:
    rules = [rule for rule in all_rules() if rule.code.startswith("PI6")]
    assert [rule.code for rule in rules] == ["PI601", "PI602", "PI603", "PI604", "PI605"]
    assert {(rule.reads_values, rule.default, rule.family) for rule in rules} == {(False, True, "hyperparameters")}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["PI601"]),
        ({"fast": True}, ["PI601"]),
        ({"select": ["PI6"]}, ["PI601"]),
        ({"select": ["config-against-tensors"]}, ["PI601"]),
        ({"select": ["PI602"]}, []),
        ({"ignore": ["PI6"]}, []),
        ({"tensor_ignores": {"PI601": ["num_*"]}}, []),
        ({"tensor_ignores": {"PI601": ["model.layers.*"]}}, []),
        ({"tensor_ignores": {"PI601": ["learning_rate"]}}, ["PI601"]),
    ],
)
def test_they_are_chosen_and_ignored(options: dict[str, object], expected: list[str], tmp_path: Path) -> None:
    assert [f.code for f in check(denied(tmp_path), **options).findings if f.code[:3] == "PI6"] == expected  # type: ignore[arg-type]


def test_they_count_when_warnings_do(tmp_path: Path) -> None:
    path = str(denied(tmp_path))
    assert check(path, select=["PI6"]).exit_code == 0
    assert check(path, select=["PI6"], fail_on="warning").exit_code == 1


def test_a_baseline_knows_which_hyperparameter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"hyper_parameters": {"lr": 0.1, "batch_size": 4}, "w": torch.zeros(1)}, tmp_path / "last.ckpt")
    (tmp_path / "hparams.yaml").write_text("lr: 0.2\nbatch_size: 4\n")
    known = str(tmp_path / "known.json")
    checked = ["check", str(tmp_path / "last.ckpt"), "--baseline", known, "--select", "PI6", "--format", "json"]
    assert run(checked) == 0
    assert json.loads(Path(known).read_text())["findings"] == [
        {"path": "last.ckpt", "code": "PI602", "tensor": None, "name": "learning_rate", "count": 1}
    ]
    (tmp_path / "hparams.yaml").write_text("lr: 0.1\nbatch_size: 8\n")
    capsys.readouterr()
    assert run(checked) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert [f["name"] for f in file["findings"]] == ["batch_size"]


def test_in_every_format_for_ci(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"hyper_parameters": {"lr": 0.1}, "w": torch.zeros(1)}, tmp_path / "last.ckpt")
    (tmp_path / "hparams.yaml").write_text("lr: 0.2\n")
    for name in ("github", "junit", "sarif", "plain"):
        run(["check", str(tmp_path / "last.ckpt"), "--select", "PI6", "--format", name])
        out = capsys.readouterr().out
        assert "PI602" in out
        assert "learning_rate" in out
        assert "lr of hparams.yaml is 0.2" in out
    run(["check", str(tmp_path / "last.ckpt"), "--select", "PI6", "--format", "sarif"])
    (result,) = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    assert result["locations"][0]["logicalLocations"][0]["name"] == "learning_rate"


def test_in_the_summary_of_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([str(denied(tmp_path))])
    out = capsys.readouterr().out
    assert "PI601" in out
    assert "num_hidden_layers of config.json is 3" in out
