"""Incomplete models: first what must be left alone, then what must be found."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from models.judged import Tensors, codes, findings, write

from inspectcli.analysis.findings import Severity

CODES = ("PI422", "PI423", "PI424", "PI425", "PI426", "PI427", "PI428", "PI432")
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 50}


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) ** 3


def llama(blocks: int = 3) -> dict[str, torch.Tensor]:
    made = {"model.embed_tokens.weight": drawn(50, 8, seed=77)}
    for i in range(blocks):
        p = f"model.layers.{i}."
        for j, layer in enumerate(("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")):
            made[f"{p}{layer}.weight"] = drawn(8, 8, seed=10 * i + j)
        made[f"{p}input_layernorm.weight"] = 1 + drawn(8, seed=10 * i + 9)
    return made


def without(tensors: Tensors, *ends: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tensors.items() if not name.endswith(ends)}


def lora(layers: tuple[int, ...] = (0, 1, 2), prefix: str = "base_model.model.") -> dict[str, torch.Tensor]:
    return {f"{prefix}layers.{i}.q_proj.lora_{side}.weight": drawn(4, 8, seed=i) for i in layers for side in ("A", "B")}


def folder(path: Path, tensors: Tensors, config: Mapping[str, object] | None = None, name: str = "model") -> Path:
    made = write(path / f"{name}.safetensors", {k: v.clone() for k, v in tensors.items()})
    if config is not None:
        kind = "adapter_config.json" if name.startswith("adapter") else "config.json"
        (path / kind).write_text(json.dumps(config))
    return made


# -- left alone -------------------------------------------------------------------------------------------


def t5() -> Tensors:
    made = {}
    for i in range(4):
        for x in "qkvo":
            made[f"encoder.block.{i}.layer.0.SelfAttention.{x}.weight"] = drawn(8, 8, seed=i)
        made[f"encoder.block.{i}.layer.1.DenseReluDense.wi.weight"] = drawn(8, 8, seed=i)
    made["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = drawn(32, 4)
    return made


def blocks_in_turn() -> Tensors:
    return without(llama(6), *(f"layers.{i}.self_attn.{x}_proj.weight" for i in (1, 3, 5) for x in "qo"))


def three_blocks_of_two_kinds() -> Tensors:
    return without(llama(3), "layers.1.self_attn.q_proj.weight", "layers.1.self_attn.o_proj.weight")


def the_last_block_is_another_one() -> Tensors:
    return without(llama(5), "layers.4.mlp.up_proj.weight", "layers.4.mlp.down_proj.weight")


def a_sequence_of_layers() -> Tensors:
    return {f"net.{i}.{leaf}": drawn(4) for i in range(5) for leaf in (("weight",) if i == 2 else ("weight", "bias"))}


def adapter_of_some_layers() -> Tensors:
    return lora((0, 2))


HEALTHY: tuple[Callable[[], Tensors], ...] = (
    llama, t5, blocks_in_turn, three_blocks_of_two_kinds, the_last_block_is_another_one, a_sequence_of_layers,
    adapter_of_some_layers,
)  # fmt: skip


@pytest.mark.parametrize("build", HEALTHY, ids=lambda build: build.__name__)
def test_healthy_names(build: Callable[[], Tensors], tmp_path: Path) -> None:
    assert findings(folder(tmp_path, build()), *CODES) == ()


TABLE = llama()["model.embed_tokens.weight"]


@pytest.mark.parametrize(
    ("tensors", "config"),
    [
        (llama(), {**LLAMA, "tie_word_embeddings": True}),
        (llama(), LLAMA),
        ({**llama(), "lm_head.weight": TABLE}, {**LLAMA, "tie_word_embeddings": True}),
        ({**llama(), "lm_head.weight": drawn(50, 8, seed=3)}, {**LLAMA, "tie_word_embeddings": False}),
        (llama(), {**LLAMA, "tie_word_embeddings": False, "architectures": ["LlamaModel"]}),
        (llama(), {"vocab_size": 40}),
        (llama(), {"tie_word_embeddings": False, "architectures": "nonsense", "vocab_size": "many"}),
        (llama(), {**LLAMA, "architectures": [3, None]}),
    ],
    ids=["tied", "silent", "copy", "untied", "no head by its class", "another tool's", "nonsense", "numbers"],
)
def test_healthy_configs(tensors: Tensors, config: Mapping[str, object], tmp_path: Path) -> None:
    assert findings(folder(tmp_path, tensors, config), *CODES) == ()


@pytest.mark.parametrize(
    "tensors", [lora(), {"prompt_embeddings": drawn(8, 8)}, lora((0, 2))], ids=["whole", "prompt", "some layers"]
)
def test_healthy_adapters(tensors: Tensors, tmp_path: Path) -> None:
    assert findings(folder(tmp_path, tensors, {"peft_type": "LORA"}, "adapter_model"), *CODES) == ()


def shards(path: Path, present: tuple[int, ...], total: int, index: bool = False) -> Path:
    weight_map = {}
    for n in range(1, total + 1):
        name = f"model-{n:05d}-of-{total:05d}.safetensors"
        weight_map[f"w{n}"] = name
        if n in present:
            write(path / name, {f"w{n}": drawn(4, 4, seed=n)})
    if index:
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return path / f"model-{present[0]:05d}-of-{total:05d}.safetensors"


def test_all_shards_without_an_index(tmp_path: Path) -> None:
    assert findings(shards(tmp_path, (1, 2, 3), 3), *CODES) == ()


def test_an_index_speaks_of_its_own_shards(tmp_path: Path) -> None:
    assert findings(shards(tmp_path, (1, 3), 3, index=True), *CODES) == ()


# -- found ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "missing"),
    [
        (3, ("layers.1.mlp.up_proj.weight",)),
        (5, ("layers.3.mlp.up_proj.weight",)),
        (5, ("layers.2.self_attn.q_proj.weight", "layers.2.self_attn.o_proj.weight")),
        (5, ("layers.2.input_layernorm.weight",)),
    ],
)
def test_a_block_lacks_a_tensor(blocks: int, missing: tuple[str, ...], tmp_path: Path) -> None:
    (found,) = findings(folder(tmp_path, without(llama(blocks), *missing)), *CODES)
    assert (found.code, found.severity) == ("PI422", Severity.WARNING)
    assert all(f"model.{name}" in found.figures["missing"] for name in missing)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("code", "tensors", "config"),
    [
        ("PI423", llama(), {**LLAMA, "tie_word_embeddings": False}),
        ("PI424", {**llama(), "lm_head.weight": drawn(50, 8, seed=3)}, {**LLAMA, "tie_word_embeddings": True}),
        ("PI425", llama(), {**LLAMA, "vocab_size": 49}),
    ],
)
def test_the_config_contradicts(code: str, tensors: Tensors, config: Mapping[str, object], tmp_path: Path) -> None:
    assert codes(findings(folder(tmp_path, tensors, config), *CODES)) == [code]


PAIRS = {
    "peft": ("m.q.lora_A.weight", "m.q.lora_B.weight"),
    "peft, named": ("m.q.lora_A.default.weight", "m.q.lora_B.default.weight"),
    "embedding": ("m.lora_embedding_A", "m.lora_embedding_B"),
    "kohya": ("lora_te_q.lora_down.weight", "lora_te_q.lora_up.weight"),
    "mlx": ("m.q.lora_a", "m.q.lora_b"),
    "LoHa": ("m.hada_w1_a", "m.hada_w1_b"),
    "LoKr": ("m.lokr_w2_a", "m.lokr_w2_b"),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_half_an_update(kind: str, tmp_path: Path) -> None:
    pair = PAIRS[kind]
    whole = {name: drawn(4, 4) for name in pair}
    assert findings(folder(tmp_path / "whole", whole), *CODES) == ()
    for name in pair:
        (found,) = findings(folder(tmp_path / "half", {name: drawn(4, 4)}), *CODES)
        assert (found.code, found.tensor) == ("PI426", name)


@pytest.mark.parametrize("prefix", ["base_model.model.base_model.model.", "model."])
def test_the_prefix_of_an_adapter(prefix: str, tmp_path: Path) -> None:
    path = folder(tmp_path, lora(prefix=prefix), {"peft_type": "LORA"}, "adapter_model")
    assert codes(findings(path, *CODES)) == ["PI427"]


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "state_dict.module."])
def test_names_of_a_wrapper_are_a_note(prefix: str, tmp_path: Path) -> None:
    path = folder(tmp_path, {prefix + name: value for name, value in llama().items()})
    (found,) = findings(path, *CODES)
    assert (found.code, found.severity) == ("PI428", Severity.NOTE)


def test_a_shard_is_missing(tmp_path: Path) -> None:
    (found,) = findings(shards(tmp_path, (2, 3, 5), 5), *CODES)
    assert found.code == "PI432"
    assert found.figures["shards"] == ["model-00001-of-00005.safetensors", "model-00004-of-00005.safetensors"]
    # It is said once, of the first that is there.
    assert findings(tmp_path / "model-00003-of-00005.safetensors", *CODES) == ()
