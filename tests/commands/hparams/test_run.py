"""Folders, neighbors, runs, findings: what is put together from several files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from models.llama import llama, model
from safetensors.torch import save_file

from inspectcli.commands.hparams.run import read_hparams
from inspectcli.errors import NotReadableError, PinspectError
from inspectcli.storage.local import LocalFile


def test_config_and_tensors_that_agree(tmp_path: Path) -> None:
    found = read_hparams(model(tmp_path / "m", llama()))
    assert found.findings == ()
    told = {t.name: t.value for t in found.runs[0].from_tensors}
    assert told == {"vocab_size": 80, "hidden_size": 24, "num_layers": 2, "intermediate_size": 64}


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"hidden_size": 32}, "hidden_size"),
        ({"num_hidden_layers": 3}, "num_layers"),
        ({"intermediate_size": 96}, "intermediate_size"),
        ({"vocab_size": 81}, "vocab_size"),
        ({"num_key_value_heads": 4}, "num_kv_heads"),
    ],
)
def test_a_config_that_the_tensors_deny_is_a_finding(tmp_path: Path, changed: dict[str, int], name: str) -> None:
    findings = read_hparams(model(tmp_path / "m", llama(), **changed)).findings
    assert ("PI601", name) in [(f.code, f.name) for f in findings]
    (first,) = (f for f in findings if f.name == name)
    assert "config.json" in first.message
    assert first.tensor is not None
    assert first.tensor.startswith("model.")  # both places


def test_more_rows_than_the_vocabulary_of_transformers_are_a_finding(tmp_path: Path) -> None:
    (finding,) = read_hparams(model(tmp_path / "m", llama(vocabulary=128))).findings
    assert (finding.code, finding.name) == ("PI601", "vocab_size")


def test_a_padded_vocabulary_of_another_tool_is_none(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", llama(vocabulary=128))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"vocab_size": config["vocab_size"]}))
    assert read_hparams(folder).findings == ()


def test_heads_that_do_not_divide(tmp_path: Path) -> None:
    findings = read_hparams(model(tmp_path / "m", llama(), num_attention_heads=5)).findings
    assert [f.code for f in findings] == ["PI604"]


def test_lora_rank_of_the_tensors(tmp_path: Path) -> None:
    tensors = {"base.q_proj.lora_A.weight": torch.zeros(8, 24), "base.q_proj.lora_B.weight": torch.zeros(24, 8)}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 16, "lora_alpha": 16}')
    (finding,) = read_hparams(tmp_path).findings
    assert (finding.code, finding.name) == ("PI601", "lora_rank")


def test_neighbors_of_a_checkpoint_that_was_named(tmp_path: Path) -> None:
    path = model(tmp_path / "m", llama()) / "model.safetensors"
    assert read_hparams(path)["num_heads"] == 4
    assert not read_hparams(path, neighbors=False).entries


def test_checkpoints_folder_belongs_to_the_run_around_it(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save({"hyper_parameters": {"lr": 0.1}, "w": torch.zeros(1)}, tmp_path / "checkpoints" / "epoch=1.ckpt")
    (tmp_path / "hparams.yaml").write_text("lr: 0.1\nbatch_size: 5\n")
    for path in (tmp_path, tmp_path / "checkpoints" / "epoch=1.ckpt"):
        found = read_hparams(path)
        assert (found["learning_rate"], found["batch_size"]) == (0.1, 5)
        assert len(found.runs) == 1


def test_two_stores_that_disagree(tmp_path: Path) -> None:
    (tmp_path / "hparams.yaml").write_text("lr: 0.2\n")
    torch.save({"hyper_parameters": {"lr": 0.1}, "w": torch.zeros(1)}, tmp_path / "last.ckpt")
    (finding,) = read_hparams(tmp_path).findings
    assert finding.code == "PI602"
    assert finding.message == "lr of hparams.yaml is 0.2, but hyper_parameters.lr of last.ckpt is 0.1"


def test_a_moving_rate_is_no_conflict_and_a_resumed_one_is(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    optimizer.param_groups[0]["lr"] = 0.001
    state = {"optimizer": optimizer.state_dict(), "w": torch.zeros(1)}
    torch.save({**state, "config": {"lr": 0.1}}, tmp_path / "a.pt")
    torch.save({**state, "config": {"lr": 0.3}}, tmp_path / "b.pt")
    assert read_hparams(tmp_path / "a.pt").findings == ()
    assert [f.code for f in read_hparams(tmp_path / "b.pt").findings] == ["PI603"]


def test_several_checkpoints_of_one_folder_do_not_contradict_each_other(tmp_path: Path) -> None:
    for name, rate in (("a.pt", 0.1), ("b.pt", 0.2)):
        torch.save({"config": {"lr": rate}, "w": torch.zeros(1)}, tmp_path / name)
    assert read_hparams(tmp_path).findings == ()


def test_only_the_last_checkpoint_of_a_run_is_read(tmp_path: Path) -> None:
    for step in (9, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": [], "global_step": step}))
    assert read_hparams(tmp_path).current("step") == 10


def test_runs_stay_apart(tmp_path: Path) -> None:
    for i, rate in enumerate((0.1, 0.2)):
        folder = tmp_path / f"version_{i}"
        folder.mkdir()
        (folder / "hparams.yaml").write_text(f"lr: {rate}\n")
    found = read_hparams(tmp_path)
    assert [(run.folder, run.entries["learning_rate"].value) for run in found.runs] == [
        ("version_0", 0.1),
        ("version_1", 0.2),
    ]
    assert found.findings == ()
    assert read_hparams(tmp_path, run="version_1")["learning_rate"] == 0.2


def test_a_broken_neighbor_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": ')
    (tmp_path / "hparams.yaml").write_text("lr: 0.2\n")
    (tmp_path / "bad.ckpt").write_bytes(b"PK\x03\x04 nothing")
    found = read_hparams(tmp_path)
    assert found["learning_rate"] == 0.2
    assert {note.split(" ")[0] for note in found.notes} == {"config.json", "bad.ckpt"}


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "secret.yaml").write_text("lr: 0.9\n")
    (tmp_path / "run" / "hparams.yaml").write_text("lr: 0.2\n")
    (tmp_path / "run" / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    (tmp_path / "run" / "loop").symlink_to(tmp_path / "run")
    assert [r.value for r in read_hparams(tmp_path / "run").rows] == [0.2]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(NotReadableError, match="no store of hyperparameters in this folder"):
        read_hparams(tmp_path)
    with pytest.raises(NotReadableError, match="no such file"):
        read_hparams(tmp_path / "missing")
    (tmp_path / "x.bin").write_bytes(b"\x00" * 100)
    with pytest.raises(PinspectError):
        read_hparams(tmp_path / "x.bin")


def test_of_a_large_checkpoint_only_kilobytes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"w": torch.zeros(4_000_000), "v": torch.zeros(4_000_000)}
    torch.save({"hyper_parameters": {"lr": 0.1}, "state_dict": tensors}, tmp_path / "big.ckpt")
    read = 0
    real = LocalFile.read_into

    def counted(self: LocalFile, offset: int, buffer: memoryview) -> None:
        nonlocal read
        read += len(buffer)
        real(self, offset, buffer)

    monkeypatch.setattr(LocalFile, "read_into", counted)
    assert read_hparams(tmp_path / "big.ckpt")["learning_rate"] == 0.1
    assert read < 200_000 < (tmp_path / "big.ckpt").stat().st_size
