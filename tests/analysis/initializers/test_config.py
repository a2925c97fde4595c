"""config.json beside a checkpoint: what it says of the initialization, and that nothing in it can do harm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from inspectcli.analysis.initializers.config import ModelConfig, read_config
from inspectcli.formats.live import from_live
from inspectcli.storage import locate
from inspectcli.tensors.model import Checkpoint, TensorRef


def beside(folder: Path, config: object, names: tuple[str, ...] = ()) -> ModelConfig:
    """What is read for a checkpoint in the folder that has tensors of these names."""
    text = config if isinstance(config, str | bytes) else json.dumps(config)
    (folder / "config.json").write_bytes(text.encode() if isinstance(text, str) else text)
    tensors = from_live({name: torch.zeros(1) for name in names}).tensors
    return read_config(at(folder / "model.safetensors", tensors))


def at(path: Path, tensors: tuple[TensorRef, ...] = ()) -> Checkpoint:
    return Checkpoint(str(path), "safetensors", 0, tensors, location=locate(path))


def test_initializer_range_and_layers(tmp_path: Path) -> None:
    config = {"initializer_range": 0.02, "num_hidden_layers": 12, "hidden_size": 768}
    assert beside(tmp_path, config) == ModelConfig((("initializer_range", 0.02),), 12)


@pytest.mark.parametrize("key", ["init_std", "init_method_std", "initializer_std", "embed_init_std"])
def test_other_names_of_the_standard_deviation(tmp_path: Path, key: str) -> None:
    assert beside(tmp_path, {key: 0.006}).stds == ((key, 0.006),)


def test_a_text_config_inside(tmp_path: Path) -> None:
    config = {"model_type": "llava", "text_config": {"initializer_range": 0.041, "n_layer": 3}}
    assert beside(tmp_path, config) == ModelConfig((("initializer_range", 0.041),), 3)


def test_the_query_of_t5(tmp_path: Path) -> None:
    ((_, std),) = beside(tmp_path, {"d_kv": 64, "d_model": 512}).stds
    assert std == pytest.approx((512 * 64) ** -0.5)


def test_layers_are_counted_in_the_names_where_the_config_is_silent(tmp_path: Path) -> None:
    names = ("transformer.h.0.attn.weight", "transformer.h.10.attn.weight", "wte.weight")
    assert beside(tmp_path, {}, names).layers == 11
    assert beside(tmp_path, {}, ("encoder.layer.3.x.weight",)).layers == 4


def test_a_folder_is_a_checkpoint_too(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"initializer_range": 0.01}')
    assert read_config(at(tmp_path)).stds == (("initializer_range", 0.01),)


def test_without_a_config(tmp_path: Path) -> None:
    assert read_config(at(tmp_path / "model.pt")) == ModelConfig()


def test_a_model_in_memory_has_no_config_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"initializer_range": 0.01}')
    monkeypatch.chdir(tmp_path)
    assert read_config(from_live({})) == ModelConfig()


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"null", b"[1, 2]", b'"text"', b"\xff\xfe\x00", b"[" * 100_000, b'{"text_config": [1]}',
        b'{"initializer_range": "0.02"}', b'{"initializer_range": true}', b'{"initializer_range": -1}',
        b'{"initializer_range": 0}', b'{"initializer_range": NaN}', b'{"initializer_range": Infinity}',
        b'{"initializer_range": 1e999}', b'{"initializer_range": [0.02]}', b'{"num_hidden_layers": "12"}',
        b'{"num_hidden_layers": -5}', b'{"num_hidden_layers": 1e9}', b'{"num_hidden_layers": 99999999999999}',
        b'{"d_kv": 0, "d_model": 0}', b'{"d_kv": -3, "d_model": 3}', b'{"d_kv": [], "d_model": {}}',
        b'{"d_kv": 1' + b"0" * 400 + b', "d_model": 7}', b'{"initializer_range": 1' + b"0" * 5000 + b"}",
        b'{"num_hidden_layers": true}',
    ],
    ids=lambda text: text[:40].decode("latin-1"),
)  # fmt: skip
def test_a_broken_or_hostile_config_says_nothing(tmp_path: Path, text: bytes) -> None:
    assert beside(tmp_path, text) == ModelConfig()


def test_a_huge_config_is_not_read(tmp_path: Path) -> None:
    assert beside(tmp_path, '{"initializer_range": 0.02}' + " " * (1 << 20)) == ModelConfig()


def test_a_folder_of_that_name_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    assert read_config(at(tmp_path / "model.pt")) == ModelConfig()


def test_a_name_with_a_number_of_a_thousand_digits(tmp_path: Path) -> None:
    assert beside(tmp_path, {}, (f"h.{'9' * 1000}.weight",)).layers <= 1 << 20
