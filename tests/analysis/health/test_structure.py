"""What files, index and names say of each other: first what must be left alone, then what must be found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from models.judged import Tensors, codes, findings, write
from support.places import CORPUS, FIXTURES, corpus_truth, healthy_fixtures
from torch import nn

from inspectcli.analysis.findings import Finding, Severity, all_rules
from inspectcli.commands.inspect.run import inspect_path

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
FP8 = torch.float8_e4m3fn


def drawn(*shape: int, dtype: torch.dtype = F32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights as no initializer makes them: all moved by steps of their own."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        step = torch.randn(parameter.shape, generator=generator) ** 3
        parameter.data = (parameter.data + 0.1 * step).to(parameter.dtype)
    return model.state_dict()


def block(seed: int, width: int = 16, dtype: torch.dtype = F32) -> dict[str, torch.Tensor]:
    return {
        "attn.qkv.weight": drawn(3 * width, width, dtype=dtype, seed=10 * seed),
        "attn.out.weight": drawn(width, width, dtype=dtype, seed=10 * seed + 1),
        "norm.weight": 1 + 0.1 * drawn(width, dtype=dtype, seed=10 * seed + 2),
        "mlp.up.weight": drawn(4 * width, width, dtype=dtype, seed=10 * seed + 3),
    }


def blocks(*numbers: int, prefix: str = "model.layers.", **options: object) -> dict[str, torch.Tensor]:
    return {f"{prefix}{n}.{k}": v for n in numbers for k, v in block(n, **options).items()}  # type: ignore[arg-type]


# -- left alone -------------------------------------------------------------------------------------------


def tied() -> Tensors:
    table = drawn(100, 16)
    return {"embed.weight": table, "lm_head.weight": table, **blocks(0, 1)}


def removed_last_blocks() -> Tensors:
    return blocks(0, 1, 2, 3)


def last_blocks_only() -> Tensors:
    return blocks(8, 9, 10, 11)


def every_second_block() -> Tensors:
    return blocks(0, 2, 4, 6, 8, 10)


def convolutions_between_activations() -> Tensors:
    """VGG: 0, 2, 5, 7, ... are convolutions, the rest has no parameters."""
    layers = [
        m for w in (3, 8, 8) for m in (nn.Conv2d(w, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    ]
    return trained(nn.Sequential(*layers))


def blocks_between_pools() -> Tensors:
    """YOLO: blocks of several kinds, and numbers of layers without parameters."""

    def unit(c: int, d: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(c, d, 3), nn.BatchNorm2d(d), nn.SiLU())

    return trained(nn.Sequential(unit(3, 8), unit(8, 16), nn.Upsample(), unit(16, 32), nn.Upsample(), unit(32, 8)))


def stages_with_a_pool_between() -> Tensors:
    """Blocks of one width, a layer without parameters, blocks of another width."""
    narrow = {f"net.{n}.{k}": v for n in (0, 1, 2, 3) for k, v in block(n, width=8).items()}
    return narrow | {f"net.{n}.{k}": v for n in (5, 6, 7) for k, v in block(n, width=16).items()}


def stem_block_activation_block_head() -> Tensors:
    made = {f"net.{n}.{k}": v for n in (1, 3) for k, v in block(n).items()}
    return made | {"net.0.weight": drawn(16, 3), "net.4.weight": drawn(4, 16)}


def linear_layers_around_a_dropout() -> Tensors:
    linear = [nn.Linear(16, 16) for _ in range(6)]
    return trained(nn.Sequential(*linear[:3], nn.Dropout(), *linear[3:]))


def dictionary_of_elements() -> Tensors:
    """A network for hydrogen, carbon, nitrogen and oxygen."""

    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))

    return trained(nn.ModuleDict({n: make() for n in ("1", "6", "7", "8")}))


def lora_on_chosen_layers() -> Tensors:
    return {
        f"base_model.model.model.layers.{n}.self_attn.{p}_proj.lora_{m}.weight": drawn(8, 8, seed=10 * n + i)
        for n in (0, 1, 2, 3, 5)
        for i, (p, m) in enumerate([("q", "A"), ("q", "B"), ("v", "A"), ("v", "B")])
    }


def dense_first_then_experts() -> Tensors:
    """A router's bias is zero in every block, the experts differ, the first block has none."""
    made = blocks(0, 1, 2)
    for n in (1, 2):
        made[f"model.layers.{n}.router.weight"] = drawn(4, 512, seed=n + 500)
        made[f"model.layers.{n}.router.bias"] = torch.zeros(512)
        for e in range(4):
            made[f"model.layers.{n}.experts.{e}.up.weight"] = drawn(32, 16, seed=1000 * n + e)
            made[f"model.layers.{n}.experts.{e}.down.weight"] = drawn(16, 32, seed=1000 * n + 100 + e)
    return made


def buffers_alike_in_every_block() -> Tensors:
    mask = torch.tril(torch.ones(32, 32)).masked_fill(torch.ones(32, 32).triu(1).bool(), -1e4)
    made = blocks(0, 1, 2)
    for n in (0, 1, 2):
        made |= {
            f"model.layers.{n}.attn.rotary_emb.inv_freq": 1 / 10000 ** (torch.arange(0, 1024, 2) / 1024),
            f"model.layers.{n}.attn.mask": mask,
            f"model.layers.{n}.attn.position_ids": torch.arange(512),
        }
    return made


def new_layers_of_constants() -> Tensors:
    return {
        f"h.{n}.{k}": v for n in range(3) for k, v in (("ln.weight", torch.ones(512)), ("ln.bias", torch.zeros(512)))
    }


def batch_norms_of_one_input() -> Tensors:
    """Two branches on one input: the same running statistics, by arithmetic."""
    bn = nn.BatchNorm1d(512)
    bn.running_mean, bn.running_var = drawn(512), drawn(512, seed=1).abs()
    bn.num_batches_tracked.fill_(100)
    buffers = dict(bn.named_buffers())
    return {f"branch{i}.bn.{k}": v.clone() for i in (1, 2) for k, v in buffers.items()}


def identity_transforms() -> Tensors:
    return {f"h.{n}.mix.weight": torch.eye(64) for n in range(3)}


def sinusoids_of_both_sides() -> Tensors:
    table = torch.sin(torch.arange(64.0)[:, None] / 10000 ** (torch.arange(16.0) / 16))
    names = [
        f"model.{side}.{leaf}" for side in ("encoder", "decoder") for leaf in ("embed_positions.weight", "pos_embed")
    ]
    return {name: table.clone() for name in names}


def encoder_decoder() -> Tensors:
    return blocks(0, 1, 2, prefix="encoder.block.") | blocks(10, 11, 12, prefix="decoder.block.1")


def average_equal_to_the_model() -> object:
    model = blocks(0, 1)
    return {"model": model, "model-ema": {k: v.clone() for k, v in model.items()}}


def target_network() -> Tensors:
    q = drawn(64, 64)
    return {"critic.qf0.weight": q, "critic_target.qf0.weight": q.clone()}


def optimizer_state() -> object:
    model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.Linear(32, 4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(drawn(8, 16)).square().mean().backward()
    optimizer.step()
    return {"model": trained(model), "optimizer": optimizer.state_dict(), "epoch": 3}


def norms_in_float32() -> Tensors:
    made = blocks(0, 1, 2, 3, dtype=BF16)
    return {k: v.float() if "norm" in k else v for k, v in made.items()}


def norms_of_a_sequence_in_float32() -> Tensors:
    return {
        "net.0.weight": drawn(16, 16, dtype=BF16), "net.0.bias": drawn(16, dtype=BF16, seed=1),
        "net.1.weight": drawn(16, seed=2), "net.1.bias": drawn(16, seed=3),
        "net.2.weight": drawn(16, 16, dtype=BF16, seed=4), "net.2.bias": drawn(16, dtype=BF16, seed=5),
    }  # fmt: skip


def one_role_in_float32() -> Tensors:
    """T5 keeps `wo` in float32, mixtures of experts their router."""
    made = blocks(0, 1, 2, dtype=F16)
    return {k: v.float() if "attn.out" in k else v for k, v in made.items()}


def head_of_a_sequence_in_float32() -> Tensors:
    return {"net.0.weight": drawn(16, 16, dtype=BF16), "net.2.weight": drawn(16, 16, dtype=BF16, seed=1),
            "net.4.weight": drawn(2, 16, seed=2)}  # fmt: skip


def constants_of_two_types() -> Tensors:
    return blocks(0, 1, 2, dtype=BF16) | {
        f"model.layers.{n}.attn.rotary_emb.inv_freq": torch.rand(8).to(F32 if n else BF16) for n in range(3)
    }


def first_and_last_block_not_quantized() -> Tensors:
    return {f"layers.{n}.proj.weight": drawn(16, 16, dtype=BF16 if n in (0, 5) else FP8, seed=n) for n in range(6)} | {
        f"layers.{n}.proj.weight_scale": torch.rand(()) for n in range(1, 5)
    }


def empty_weights_of_a_design() -> Tensors:
    """e3nn registers an empty weight where the weights come from another layer."""
    return {"0_conv.weight": torch.empty(0), "1_conv.weight": torch.empty(0)} | blocks(0, 1)


def empty_optimizer_state() -> object:
    """One rank's part of an optimizer that is sharded by tensor."""
    return {"model": blocks(0), "optimizer": {"exp_avg": {k: torch.empty(0) for k in blocks(0, 1, 2)}}}


def empty_buffers_and_biases() -> Tensors:
    return {"head.bias": torch.empty(0), "queue": torch.empty(0), "cache": torch.empty(0, 4)} | blocks(0)


LEFT_ALONE: list[Callable[[], object]] = [
    tied, removed_last_blocks, last_blocks_only, every_second_block, convolutions_between_activations,
    blocks_between_pools, stages_with_a_pool_between, stem_block_activation_block_head,
    linear_layers_around_a_dropout, dictionary_of_elements, lora_on_chosen_layers, dense_first_then_experts,
    buffers_alike_in_every_block, new_layers_of_constants, batch_norms_of_one_input, identity_transforms,
    sinusoids_of_both_sides, encoder_decoder, average_equal_to_the_model, target_network, optimizer_state,
    norms_in_float32, norms_of_a_sequence_in_float32, head_of_a_sequence_in_float32, constants_of_two_types,
    one_role_in_float32, first_and_last_block_not_quantized,
    empty_weights_of_a_design, empty_optimizer_state, empty_buffers_and_biases,
]  # fmt: skip


@pytest.mark.parametrize("build", LEFT_ALONE, ids=lambda b: b.__name__)
def test_it_is_left_alone(build: Callable[[], object], tmp_path: Path) -> None:
    assert findings(write(tmp_path / "model.pt", build()), "PI4") == ()


@pytest.mark.parametrize(
    "name", ["model-00002-of-00003.safetensors", "mp_rank_00_model_states.pt", "adapter_model.safetensors"]
)
def test_a_part_of_a_model_may_lack_blocks(name: str, tmp_path: Path) -> None:
    assert findings(write(tmp_path / name, blocks(0, 1, 3, 4)), "PI408") == ()


def test_blocks_that_save_model_found_to_be_shared_are_not_missing(tmp_path: Path) -> None:
    shared, other = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    third = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model = nn.ModuleList([shared, other, shared, third])
    safetensors.torch.save_model(model, str(tmp_path / "model.safetensors"))
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert not any(name.startswith("2.") for name in stored)  # the case is what it says
    assert findings(tmp_path / "model.safetensors", "PI4") == ()


def test_folders_of_several_components_are_left_alone(tmp_path: Path) -> None:
    for component in ("unet", "vae", "text_encoder"):
        sharded(
            tmp_path / component, {1: blocks(0, 1, prefix=f"{component}."), 2: blocks(2, 3, prefix=f"{component}.")}
        )
        assert findings(tmp_path / component, "PI4") == ()


@pytest.mark.parametrize("path", healthy_fixtures(), ids=lambda p: p.name)
def test_no_fixture_raises_a_false_alarm(path: Path) -> None:
    assert alarms(path) == []


def alarms(path: Path) -> list[Finding]:
    """What is said of the structure, but for notes: what torch refuses by default is no fault of a healthy file."""
    return [f for f in findings(path, "PI4") if f.severity is not Severity.NOTE]


def corpus_files() -> list[str]:
    return [entry["file"] for entry in corpus_truth("truth.json") if "expect" not in entry]


@pytest.mark.corpus
@pytest.mark.parametrize("name", corpus_files())
def test_no_published_file_raises_a_false_alarm(name: str) -> None:
    assert alarms(CORPUS / "corpora" / "files" / name) == []


def test_few_rules_need_values() -> None:
    assert [r.code for r in all_rules() if r.code.startswith("PI4") and r.reads_values] == ["PI406", "PI424"]


# -- shards -----------------------------------------------------------------------------------------------


def shard(number: int, of: int = 2) -> str:
    return f"model-{number:05}-of-{of:05}.safetensors"


def sharded(folder: Path, shards: dict[int, Tensors], **changes: object) -> Path:
    """A folder as Hugging Face lays it out; `changes` go into the weight map, None leaves a tensor out."""
    for number, tensors in shards.items():
        write(folder / shard(number), tensors)
    weight_map = {name: shard(number) for number, tensors in shards.items() for name in tensors}
    total = changes.pop("total_size", sum(t.nbytes for tensors in shards.values() for t in tensors.values()))
    weight_map = {k: v for k, v in (weight_map | changes).items() if v is not None}  # type: ignore[operator]
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(text)
    return folder


TWO = {1: blocks(0, 1), 2: blocks(2, 3)}


def test_a_missing_shard_is_an_error(tmp_path: Path) -> None:
    (sharded(tmp_path, TWO) / shard(2)).unlink()
    (found,) = findings(tmp_path, "PI4")
    assert found == Finding(
        "PI401",
        Severity.ERROR,
        None,
        f"the shard {shard(2)} is missing: found 1 of the 2 that the index names; 8 tensors without values",
        "download the missing shard into the same folder, or save the model again",
        {"shard": shard(2), "found": 1, "expected": 2, "tensors": 8},
    )


def test_a_shard_of_another_save_is_a_warning(tmp_path: Path) -> None:
    shutil.copy(sharded(tmp_path, TWO) / shard(1), tmp_path / shard(3, of=3))
    (found,) = findings(tmp_path, "PI4")
    assert found[:4] == (
        "PI402", Severity.WARNING, None, f"1 of the shards in the folder is not in the index: {shard(3, of=3)}"
    )  # fmt: skip


def test_an_index_that_names_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    (found,) = findings(sharded(tmp_path, TWO, **{"lm_head.weight": shard(1)}), "PI4")
    assert found[:4] == (
        "PI403",
        Severity.ERROR,
        "lm_head.weight",
        f"{shard(1)} lacks 1 tensor that the index places in it: lm_head.weight",
    )


def test_an_index_that_names_another_shard_is_an_error(tmp_path: Path) -> None:
    moved = {"model.layers.0.norm.weight": shard(2), "model.layers.1.norm.weight": shard(2)}
    (found,) = findings(sharded(tmp_path, TWO, **moved), "PI4")
    assert found[:4] == (
        "PI403",
        Severity.ERROR,
        None,
        f"2 tensors found in {shard(1)}, expected by the index in {shard(2)}: "
        "model.layers.0.norm.weight, model.layers.1.norm.weight",
    )
    assert found.figures == {"shard": shard(1), "expected": shard(2), "tensors": 2}


def test_a_tensor_that_the_index_passes_over_is_a_warning(tmp_path: Path) -> None:
    (found,) = findings(sharded(tmp_path, TWO, **{"model.layers.0.norm.weight": None}), "PI4")
    assert found[:4] == (
        "PI404",
        Severity.WARNING,
        "model.layers.0.norm.weight",
        f"{shard(1)} holds 1 tensor that the index does not name: model.layers.0.norm.weight",
    )


def test_a_wrong_total_is_a_warning(tmp_path: Path) -> None:
    (found,) = findings(sharded(tmp_path, TWO, total_size=100), "PI4")
    held = sum(t.nbytes for tensors in TWO.values() for t in tensors.values())
    assert found[:4] == (
        "PI405", Severity.WARNING, None, f"the index says 100 bytes in all, the shards hold {held:,}"
    )  # fmt: skip
    assert found.figures == {"declared": 100, "held": held}


def test_the_headers_are_enough_for_shards(tmp_path: Path) -> None:
    sharded(tmp_path, TWO, total_size=100, **{"lm_head.weight": shard(1)})
    assert codes(findings(tmp_path, "PI4", read=False)) == ["PI403", "PI405"]


# -- duplicates -------------------------------------------------------------------------------------------


def copied(numbers: tuple[int, int]) -> dict[str, torch.Tensor]:
    made = trained_blocks(0, 1, 2, 3)
    a, b = numbers
    return made | {k.replace(f".{a}.", f".{b}."): v.clone() for k, v in made.items() if f"layers.{a}." in k}


def trained_blocks(*numbers: int) -> dict[str, torch.Tensor]:
    return {k: v + 0.5 * v**3 for k, v in blocks(*numbers, width=32).items()}


def test_a_block_written_over_another_is_a_warning(tmp_path: Path) -> None:
    (found,) = findings(write(tmp_path / "model.safetensors", copied((1, 2))), "PI406")
    assert found[1:4] == (
        Severity.WARNING,
        "model.layers.1.attn.out.weight",
        "3 tensors of model.layers.1 are equal to those of model.layers.2, and not tied: 8,192 values, 2 times",
    )
    assert found.figures == {"tensors": 3, "values": 8192, "places": ["model.layers.1", "model.layers.2"]}


def test_blocks_of_a_model_that_is_a_list_are_found_too(tmp_path: Path) -> None:
    tensors = {k.removeprefix("model.layers."): v for k, v in copied((1, 2)).items()}
    (found,) = findings(write(tmp_path / "model.safetensors", tensors), "PI406")
    assert (found.severity, found.figures["places"]) == (Severity.WARNING, ["1", "2"])


def test_two_projections_of_one_layer_that_are_equal_are_a_warning(tmp_path: Path) -> None:
    q = drawn(32, 32) ** 3
    tensors = {
        "attn.q_proj.weight": q,
        "attn.k_proj.weight": q.clone(),
        "attn.v_proj.weight": drawn(32, 32, seed=1) ** 3,
    }
    (found,) = findings(write(tmp_path / "model.pt", tensors), "PI406")
    assert found[1:4] == (
        Severity.WARNING, "attn.q_proj.weight", "equal to attn.k_proj.weight, and not tied: 1,024 values, 2 times"
    )  # fmt: skip


def test_a_network_saved_twice_is_a_note(tmp_path: Path) -> None:
    tensors = {f"{name}.{k}": v.clone() for name in ("actor", "policy") for k, v in trained_blocks(0).items()}
    (found,) = findings(write(tmp_path / "model.pt", tensors), "PI406")
    assert found[1] is Severity.NOTE
    assert found.figures == {"tensors": 3, "values": 8192, "places": ["actor", "policy"]}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_embedding_and_head_saved_twice_are_a_note(suffix: str, tmp_path: Path) -> None:
    table = drawn(100, 16)
    tensors = {"model.embed_tokens.weight": table, "lm_head.weight": table.clone()}
    (found,) = findings(write(tmp_path / f"model{suffix}", tensors), "PI406")
    assert found.severity is Severity.NOTE
    assert "and not tied: 1,600 values, 2 times" in found.message


def test_a_new_encoder_of_copied_layers_is_a_note(tmp_path: Path) -> None:
    """nn.TransformerEncoder copies the layer that it is given: all begin equal."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, batch_first=True), 3)
    (found,) = findings(write(tmp_path / "model.pt", encoder.state_dict()), "PI406")
    assert found.severity is Severity.NOTE
    assert "are equal to those of layers.1, layers.2, and not tied" in found.message


def test_equal_figures_are_not_enough(tmp_path: Path) -> None:
    """A permutation has the same figures and other bytes."""
    q = drawn(32, 32)
    tensors = {"a.weight": q, "b.weight": q.flip(0), "c.weight": q.t().contiguous()}
    assert findings(write(tmp_path / "model.pt", tensors), "PI406") == ()


def test_copies_are_found_whatever_their_layout(tmp_path: Path) -> None:
    q = drawn(32, 48)
    assert len(findings(write(tmp_path / "m.pt", {"a.weight": q, "b.weight": q.t().contiguous().t()}), "PI406")) == 1


@pytest.mark.parametrize(("rows", "found"), [(15, 0), (16, 1)])
def test_small_tensors_are_equal_by_chance(rows: int, found: int, tmp_path: Path) -> None:
    q = drawn(rows, 16)
    assert len(findings(write(tmp_path / "m.pt", {"a.weight": q, "b.weight": q.clone()}), "PI406")) == found


# -- element types ----------------------------------------------------------------------------------------


def test_one_block_of_another_type_is_a_warning(tmp_path: Path) -> None:
    tensors = {k: v.float() if ".2." in k else v for k, v in blocks(0, 1, 2, 3, dtype=BF16).items()}
    (found,) = findings(write(tmp_path / "model.safetensors", tensors), "PI4")
    names = sorted(k for k in tensors if ".2." in k)
    assert found[:4] == (
        "PI407",
        Severity.WARNING,
        names[0],
        f"element type f32, expected bf16 as in the other blocks, like 3 more: {', '.join(names[1:])}",
    )
    assert found.figures == {"dtype": "f32", "expected": "bf16", "tensors": 4, "names": names}


def test_one_tensor_of_another_type_is_named(tmp_path: Path) -> None:
    tensors = blocks(0, 1, 2, 3)
    tensors["model.layers.1.attn.out.weight"] = tensors["model.layers.1.attn.out.weight"].half()
    (found,) = findings(write(tmp_path / "model.pt", tensors), "PI4", read=False)
    assert found[:4] == (
        "PI407", Severity.WARNING, "model.layers.1.attn.out.weight",
        "element type f16, expected f32 as in the other blocks",
    )  # fmt: skip


# -- gaps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 1, 3), "model.layers lacks block 2: found 0..1, 3"),
        ((0, 2, 3), "model.layers lacks block 1: found 0, 2..3"),
        ((1, 2, 3, 5, 6), "model.layers lacks block 4: found 1..3, 5..6"),
        ((0, 1, 2, 4, 5, 6, 8), "model.layers lacks blocks 3, 7: found 0..2, 4..6, 8"),
        ((0, 1, 2, 3, 4, 7, 8), "model.layers lacks blocks 5..6: found 0..4, 7..8"),
    ],
)
def test_a_missing_block_is_a_warning(numbers: tuple[int, ...], message: str, tmp_path: Path) -> None:
    (found,) = findings(write(tmp_path / "model.safetensors", blocks(*numbers)), "PI4", read=False)
    assert found[:4] == ("PI408", Severity.WARNING, None, message)


def test_a_model_that_is_a_list_has_gaps_too(tmp_path: Path) -> None:
    (found,) = findings(write(tmp_path / "model.safetensors", blocks(0, 1, 3, prefix="")), "PI4")
    assert found.message == "the model lacks block 2: found 0..1, 3"
    assert found.figures == {"prefix": "", "missing": [2], "found": 3}


def test_the_optimizer_does_not_say_it_again(tmp_path: Path) -> None:
    model = blocks(0, 1, 3)
    saved = {"model": model, "optimizer": {"exp_avg": {k: 0.1 * v for k, v in model.items()}}}
    assert codes(findings(write(tmp_path / "model.pt", saved), "PI4")) == ["PI408"]


def test_a_gap_in_a_sharded_model_is_found(tmp_path: Path) -> None:
    assert codes(findings(sharded(tmp_path, {1: blocks(0, 1), 2: blocks(3, 4)}), "PI4")) == ["PI408"]


# -- values that are not there ----------------------------------------------------------------------------


def test_a_cut_tensor_is_an_error() -> None:
    found = findings(FIXTURES / "damaged" / "cut_mlp_legacy.pt", "PI4", read=False)
    assert [f[:4] for f in found] == [
        ("PI409", Severity.ERROR, "fc1.bias", "cut: 16 bytes of it are missing"),
        ("PI409", Severity.ERROR, "fc1.weight", "cut: 31 bytes of it are missing"),
        ("PI409", Severity.ERROR, "fc2.weight", "cut: 32 bytes of it are missing"),
    ]


def test_a_checksum_that_is_wrong_is_seen_when_the_values_are_read() -> None:
    path = FIXTURES / "damaged" / "bad_crc.pt"
    (found,) = findings(path, "PI4")
    assert (found.code, found.tensor) == ("PI409", "fc1.weight")
    assert found.message == "CRC mismatch: the bytes of mlp/data/1 are not those that were written"
    assert findings(path, "PI4", read=False) == ()


def emptied(tensors: Tensors, *but: str) -> dict[str, torch.Tensor]:
    """As ZeRO-3 leaves a model: small tensors are kept whole."""
    return {k: v if v.dim() < 2 or k.startswith(but) else torch.empty(0, dtype=v.dtype) for k, v in tensors.items()}


def test_a_model_saved_under_zero_3_is_an_error(tmp_path: Path) -> None:
    (found,) = findings(write(tmp_path / "pytorch_model.bin", emptied(blocks(0, 1), "-")), "PI4", read=False)
    assert found == Finding(
        "PI410",
        Severity.ERROR,
        None,
        "6 of 8 weights are empty, shape [0]: model.layers.0.attn.qkv.weight, model.layers.0.attn.out.weight, "
        "model.layers.0.mlp.up.weight and 3 more",
        "save with `stage3_gather_16bit_weights_on_model_save`, or run `zero_to_fp32.py` on the checkpoint folder",
        {"empty": 6, "weights": 8},
    )


def test_a_head_without_values_is_a_warning(tmp_path: Path) -> None:
    tensors = blocks(0, 1) | {"lm_head.weight": torch.empty(0)}
    (found,) = findings(write(tmp_path / "model.safetensors", tensors), "PI4")
    assert found[:4] == (
        "PI410", Severity.WARNING, "lm_head.weight", "1 of 9 weights is empty, shape [0]: lm_head.weight"
    )  # fmt: skip


@pytest.mark.parametrize("name", ["zero_pp_rank_0_mp_rank_00_model_states.pt", "renamed.pt"])
def test_in_deepspeeds_own_file_it_is_a_note(name: str, tmp_path: Path) -> None:
    module = emptied(blocks(0, 1), "-")
    shapes = [{k: v.shape for k, v in blocks(0, 1).items()}]
    saved = {"module": module, "ds_version": "0.14.0", "param_shapes": shapes, "buffer_names": []}
    (found,) = findings(write(tmp_path / name, saved), "PI410")
    assert found.severity is Severity.NOTE


# -- every finding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [f"PI4{n:02}" for n in range(1, 11)])
def test_every_rule_explains_itself(code: str) -> None:
    (rule,) = [r for r in all_rules() if r.code == code]
    assert "Why it matters: " in rule.doc
    assert rule.advice
    assert rule.default


def test_names_are_taken_as_they_are(tmp_path: Path) -> None:
    """Numbers that are none, huge ones, and empty components."""
    names = ["a..0.b.weight", "a.²3.b.weight", f"a.{'9' * 200}.b.weight", "0", ".", "1.", "a.00001.b.weight"]
    assert findings(write(tmp_path / "m.pt", {n: drawn(4, 4, seed=i) for i, n in enumerate(names)}), "PI4") == ()


def test_a_part_of_the_tensors_is_no_gap(tmp_path: Path) -> None:
    path = write(tmp_path / "model.pt", blocks(0, 1, 2, 3))
    report = inspect_path(str(path), wanted=lambda ref: ".2." not in ref.name)
    assert len(report.tensors) == 12
    assert [f for f in report.findings if f.code.startswith("PI4")] == []
