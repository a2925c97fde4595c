"""Configs beside checkpoints: JSON, YAML, TOML, Python; Hydra, transformers, PEFT, DeepSpeed, detectron2."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from inspectcli.commands.hparams.result import HParams
from inspectcli.commands.hparams.run import read_hparams
from inspectcli.errors import PinspectError
from inspectcli.hparams._config import resolve
from inspectcli.hparams._python import assignments
from inspectcli.hparams.base import Kind


def told(tmp_path: Path, name: str, text: str) -> HParams:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return read_hparams(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "optim:\n  lr: 1e-4\nbatch_size: 8\n"),
        ("c.json", '{"optim": {"lr": 1e-4}, "batch_size": 8}'),
        ("c.toml", "batch_size = 8\n[optim]\nlr = 1e-4\n"),
        ("settings", "optim:\n  lr: 1e-4\nbatch_size: 8\n"),
    ],
)
def test_the_same_config_in_every_syntax(tmp_path: Path, name: str, text: str) -> None:
    found = told(tmp_path, name, text)
    assert (found["learning_rate"], found["batch_size"]) == (1e-4, 8)
    assert found.provenance("learning_rate")[0].source.locator == "optim"


def test_python_is_read_and_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "PWNED"
    text = f"import pathlib\nlr = 3e-4\npathlib.Path({str(marker)!r}).touch()\nseed = int('3')\n"
    found = told(tmp_path, "c.py", text)
    assert found["learning_rate"] == 3e-4
    assert not marker.exists()
    (seed,) = (r for r in found.rows if r.raw_key == "seed")
    assert (seed.value, seed.note) == ("${int('3')}", "unresolved: refers to something that is not in the file")


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("a = 5 * 60", 300),
        ("a = -1", -1),
        ("a = 1 / 4", 0.25),
        ("a = [1, dict(b=2)]", [1, {"b": 2}]),
        ("a: int = 3", 3),
        ("b = 2\na = {'c': b}", {"c": 2}),
        ("a = 9 ** 9 ** 9", "${9 ** 9 ** 9}"),
    ],
)
def test_python_values(source: str, value: object) -> None:
    assert assignments(source)["a"] == value


@pytest.mark.parametrize(
    ("value", "parents", "wanted"),
    [
        ("${a.b}", (), 3),
        ("${a.c}", (), 3),  # through another reference
        ("x-${a.b}", (), "x-3"),
        ("${.b}", ("a",), 3),
        ("${..top}", ("a", "d"), "${..top}"),
        ("${list[1]}", (), 8),
        ("${list[²]}", (), "${list[²]}"),
        ("${nowhere}", (), "${nowhere}"),
        ("${oc.env:HOME}", (), "${oc.env:HOME}"),
        ("${loop}", (), "${loop}"),
        ("plain", (), "plain"),
    ],
)
def test_references(value: str, parents: tuple[str, ...], wanted: object) -> None:
    tree = {"a": {"b": 3, "c": "${a.b}", "d": {}}, "list": [7, 8], "loop": "${loop}"}
    assert resolve(value, tree, parents) == wanted


def test_references_as_omegaconf_resolves_them(tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(
        {"model": {"hidden_dim": 96, "d_model": "${model.hidden_dim}", "embed_dim": "${.hidden_dim}"}, "lr": "???"}
    )
    omegaconf.OmegaConf.save(config, tmp_path / "c.yaml")
    found = read_hparams(tmp_path / "c.yaml")
    values = {r.raw_key: r.value for r in found.rows}
    assert values["d_model"] == config.model.d_model
    assert values["embed_dim"] == config.model.embed_dim
    assert [r.note for r in found.rows if r.raw_key == "lr"] == ["unresolved: mandatory, and missing"]
    assert "lr" not in found


def test_hydra_folder(tmp_path: Path) -> None:
    told(tmp_path, ".hydra/config.yaml", "optim: {name: sgd, lr: 0.05}\nmodel: {width: 8, out: '${model.width}'}\n")
    told(tmp_path, ".hydra/overrides.yaml", "- optim.lr=0.05\n- +optim.nesterov=true\n- ~model.bias\n")
    told(tmp_path, ".hydra/hydra.yaml", "hydra:\n  run: {dir: /home/me/out}\n  job: {num: 3}\n")
    found = read_hparams(tmp_path)
    assert (found["learning_rate"], found["optimizer"], found["nesterov"]) == (0.05, "sgd", True)
    assert {r.kind for r in found.rows if r.source.file.endswith("hydra.yaml")} == {Kind.SETTING}
    assert found.findings == ()


def test_transformers_config_of_two_versions(tmp_path: Path) -> None:
    old = {"model_type": "llama", "transformers_version": "4.46.3", "torch_dtype": "bfloat16", "rope_theta": 1e4}
    new = {"model_type": "llama", "transformers_version": "5.2", "dtype": "float32",
           "rope_parameters": {"rope_theta": 5e5, "type": "default"}}  # fmt: skip
    first, second = (told(tmp_path, f"{i}/config.json", json.dumps(c)) for i, c in enumerate((old, new)))
    assert (first["precision"], first["rope_theta"]) == ("bfloat16", 1e4)
    assert (second["precision"], second["rope_theta"]) == ("float32", 5e5)


def test_a_key_that_one_architecture_uses_in_its_own_way(tmp_path: Path) -> None:
    config = {"model_type": "distilbert", "architectures": ["X"], "dim": 768, "hidden_dim": 3072, "n_layers": 6}
    found = told(tmp_path, "config.json", json.dumps(config))
    assert (found["hidden_size"], found["intermediate_size"], found["num_layers"]) == (768, 3072, 6)


def test_model_card(tmp_path: Path) -> None:
    card = (
        "# model\n\n### Training hyperparameters\n\nThe following hyperparameters were used during training:\n"
        "- learning_rate: 5e-05\n- train_batch_size: 8\n- seed: 42\n"
        "- optimizer: Adam with betas=(0.9,0.999) and epsilon=1e-08\n- lr_scheduler_type: linear\n- num_epochs: 3.0\n"
        "\n### Framework versions\n\n- Transformers 4.46.3\n"
    )
    found = told(tmp_path, "README.md", card)
    assert (found["learning_rate"], found["batch_size"], found["seed"]) == (5e-5, 8, 42)
    assert (found["optimizer"], found["betas"], found["adam_epsilon"]) == ("Adam", [0.9, 0.999], 1e-8)
    assert (found["lr_scheduler"], found["epochs"]) == ("linear", 3.0)


def test_a_readme_without_that_section_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(PinspectError):
        told(tmp_path, "README.md", "# hello\n\n- learning_rate: 5\n")


def test_deepspeed_batch_is_of_the_whole_job(tmp_path: Path) -> None:
    config = {
        "train_batch_size": 64, "train_micro_batch_size_per_gpu": 4, "bf16": {"enabled": True},
        "fp16": {"enabled": False, "loss_scale": 0}, "zero_optimization": {"stage": 2},
        "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": [0.8, 0.99]}},
    }  # fmt: skip
    found = told(tmp_path, "ds.json", json.dumps(config))
    assert (found["batch_size_total"], found["batch_size"], found["precision"]) == (64, 4, "bf16")
    assert found.provenance("learning_rate")[0].note == "unresolved: filled in at run time"


def test_detectron2_values_that_are_not_used(tmp_path: Path) -> None:
    text = (
        "SOLVER:\n  BASE_LR: 0.02\n  STEPS: [60, 80]\n  GAMMA: 0.1\n"
        "  CLIP_GRADIENTS: {CLIP_VALUE: 1.0, ENABLED: %s}\nSEED: -1\n"
    )
    off, on = (told(tmp_path, f"{word}/config.yaml", text % word) for word in ("false", "true"))
    assert (off["learning_rate"], off["lr_milestones"], off["lr_gamma"]) == (0.02, [60, 80], 0.1)
    assert not {"gradient_clip_value", "seed"} & set(off)
    assert on["gradient_clip_value"] == 1.0


def test_lora_alpha_without_a_scope_is_left_alone(tmp_path: Path) -> None:
    peft = told(tmp_path, "adapter_config.json", '{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "alpha": 3}')
    other = told(tmp_path, "other.json", '{"r": 8, "alpha": 16}')
    assert (peft["lora_rank"], peft["lora_alpha"]) == (8, 16)
    assert not other.entries


@pytest.mark.parametrize("text", ["[]", '"x"', "{", "[1, 2", "\x00\x01"])
def test_what_holds_no_settings(tmp_path: Path, text: str) -> None:
    with contextlib.suppress(PinspectError):
        assert not told(tmp_path, "c.json", text).entries


def test_a_long_key_is_not_written_out_at_each_place_below_it(tmp_path: Path) -> None:
    text = json.dumps({"k" * (1 << 20): {f"a{i}": {"x": i} for i in range(5_000)}})
    found = told(tmp_path, "settings.json", text)
    places = {row.source.locator for row in found.rows}
    assert len(places) == 5_000
    assert sum(map(len, places)) < 5_000 * 300
