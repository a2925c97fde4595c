"""PI2xx: first what must be left alone, then what is found, with its words and figures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from inspectcli.analysis.findings import Finding
from inspectcli.commands.inspect.run import inspect


def weight(*shape: int, std: float = 0.05) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) * std


def grown(x: torch.Tensor) -> torch.Tensor:
    """Of no initializer: each row has a size of its own, and all together the size of before."""
    sizes = torch.linspace(0.1, 1, len(x)).view(-1, *[1] * (x.dim() - 1))
    return x * sizes / sizes.square().mean().sqrt()


def model(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Trained blocks, and what is put beside them or in their place; `__` stands for a dot."""
    blocks = {f"h.{i}.fc.weight": grown(weight(64, 64 + 2 * i)[:, :64]) for i in range(4)}
    return blocks | {name.replace("__", "."): value for name, value in more.items()}


def findings(target: Any) -> list[Finding]:
    return [f for f in inspect(target).files[0].findings if f.code.startswith("PI2")]


HEALTHY: dict[str, dict[str, torch.Tensor]] = {
    "nothing": {},
    "a causal mask of -65504": {"h__0__causal_mask": torch.full((64, 64), -65504.0).triu(1)},
    "a masked bias of -1e9": {"h__0__attn__masked_bias": torch.tensor(-1e9)},
    "the mask of GPT-2": {"h__0__attn__bias": torch.ones(1, 1, 9, 9).tril()},
    "a zero bias": {"fc__bias": torch.zeros(64)},
    "a constant bias of a focal loss": {"cls__bias": torch.full((80,), -4.6)},
    "a running variance of 1e8": {"bn__running_var": torch.full((64,), 1e8), "bn__running_mean": weight(64, std=1e4)},
    "a running variance of 1e-12": {"bn__running_var": torch.full((64,), 1e-12)},
    "gammas of some hundreds": {"ln__weight": weight(64, std=300.0)},
    "a zero-init gamma": {"bn3__weight": torch.zeros(64)},
    "a layer scale of 1e-6": {"blocks__0__ls1__gamma": torch.full((64,), 1e-6)},
    "a temperature of 100": {"temperature": torch.tensor(100.0), "logit_scale": torch.tensor(4.6)},
    "padding rows of a table": {"embed__weight": torch.cat([torch.zeros(3, 32), weight(97, 32)])},
    "a table of positions": {"pos_embed": weight(1, 64, 32, std=1.0)},
    "an outlier of transformers": {"fc2__weight": torch.cat([weight(127, 64), weight(1, 64, std=0.5)])},
    "a pruned matrix": {"fc2__weight": weight(64, 16) * (torch.rand(64, 16) > 0.9)},
    "a masked convolution": {"conv__weight": weight(8, 8, 7, 7) * (torch.arange(7) < 4)},
    "a small weight, all near 0": {"fc3__weight": torch.zeros(2, 2)},
    "the state matrix of Mamba": {"A_log": torch.log(torch.arange(1, 17.0)).repeat(64, 1)},
    "an empty tensor": {"fc4__weight": torch.zeros(0, 64)},
    "LoRA B": {"q__lora_A__weight": weight(4, 64), "q__lora_B__weight": torch.zeros(64, 4)},
    "a float16 weight of 1e-3": {"fc5__weight": weight(64, 64, std=1e-3).half()},
}  # fmt: skip


@pytest.mark.parametrize("more", HEALTHY.values(), ids=HEALTHY.keys())
def test_healthy_things_are_left_alone(more: dict[str, torch.Tensor]) -> None:
    assert findings(model(**more)) == []


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16)) for _ in range(4))
        for block in self.blocks:
            nn.init.zeros_(block[1].weight)  # type: ignore[index]
        self.zero_conv = nn.Conv2d(16, 16, 1)
        nn.init.zeros_(self.zero_conv.weight)
        self.constant = nn.Linear(16, 16)
        nn.init.constant_(self.constant.weight, 0.5)
        self.embed = nn.Embedding(50, 16, padding_idx=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_fresh_model_begins_with_zeros_on_purpose(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    assert findings(Residual().to(dtype)) == []


def blocks(**more: torch.Tensor) -> list[tuple[str, str, str | None, str, dict[str, object]]]:
    return [(f.code, str(f.severity), f.tensor, f.message, dict(f.figures)) for f in findings(model(**more))]


def approx(**figures: float) -> dict[str, object]:
    return {name: pytest.approx(value, rel=1e-2) for name, value in figures.items()}


def test_a_million_times_its_siblings() -> None:
    assert blocks(h__1__fc__weight=weight(64, 64) * 1e6) == [
        ("PI201", "error", "h.1.fc.weight", "root mean square 4.96e4: 9.9e5 times the median of its 3 siblings",
         approx(rms=4.96e4, ratio=1e6)),
    ]  # fmt: skip


def test_a_million_times_its_initial_scale_without_siblings() -> None:
    torch.manual_seed(0)
    found = blocks(head__weight=nn.Linear(256, 64).weight.detach() * 1e6)
    assert found == [
        ("PI201", "note", "head.weight", "root mean square 3.61e4: 1e6 times the usual initial scale",
         approx(rms=3.61e4, ratio=1e6)),
    ]  # fmt: skip


def test_most_weights_of_a_trained_model() -> None:
    made = {f"fc{i}.weight": grown(weight(64, 60 + i)) * 1e6 for i in range(4)}
    assert [(f.code, str(f.severity), f.tensor) for f in findings(made)] == [
        ("PI201", "warning", f"fc{i}.weight") for i in range(4)
    ]


@pytest.mark.parametrize(("more", "part"), [
    ({"ln__weight": weight(64, std=1e6), "ln__bias": weight(64)}, "norm scale"),
    ({"ln__bias": weight(64, std=1e6), "ln__weight": weight(64)}, "norm shift"),
    ({"bn__weight": weight(64, std=1e6), "bn__running_mean": weight(64)}, "norm scale"),
])  # fmt: skip
def test_a_normalization_far_from_1(more: dict[str, torch.Tensor], part: str) -> None:
    name = next(iter(more)).replace("__", ".")
    assert blocks(**more) == [
        ("PI201", "error", name,
         f"root mean square 1.09e6: of a {part}, values near 1 are usual", approx(rms=1.086e6, ratio=1.086e6)),
    ]  # fmt: skip


#: Names and values of what a trained model may hold: at most a note.
ODD: dict[str, dict[str, torch.Tensor]] = {
    "the bias of a model of prices": {"out__bias": torch.full((1,), 2e5), "out__weight": weight(1, 64)},
    "a lone scale in units of the data": {"input_norm__weight": torch.tensor([1.3e5, 2e-5, 7.0])},
    "means and scales of the data": {"normalizer__mean": weight(3, std=1e5), "normalizer__scale": weight(3, std=1e5)},
    "scales of observations": {"obs_rms__var": weight(17, std=1e6), "target_std": weight(6, std=1e5)},
    "energies of atoms in eV": {"atomref__weight": weight(100, 1, std=1e4)},
    "weights of classes": {"criterion__weight": weight(10, std=1e5)},
    "transitions of a CRF": {"crf__transitions": weight(12, 12, std=1.0).index_fill(0, torch.tensor([3]), -1e4)},
    "an equalized learning rate": {"mapping__fc0__weight": weight(64, 64, std=100.0)},
    "a head of offsets": {"offset__weight": weight(18, 64, 3, 3, std=1e-7)},
    "caches": {"attn__k_cache": torch.zeros(1, 4, 48, 8), "cache_v": torch.zeros(4, 8, 8)},
    "a first state": {"rnn__h0": torch.zeros(2, 1, 64)},
    "a state": {"cell__initial_hidden": torch.zeros(4, 64)},
    "spherical harmonics": {"features_rest": torch.zeros(64, 15, 3)},
    "a table of relative positions": {"attn__relative_position_bias_table": torch.zeros(169, 4)},
    "T5's relative positions": {"attn__relative_attention_bias__weight": torch.zeros(32, 4)},
    "one large dimension of a norm": {"ln__weight": torch.ones(256).index_fill(0, torch.tensor([7]), 900.0)},
    "a logit that is ruled out": {"out__bias": weight(256).index_fill(0, torch.tensor([7]), -100.0)},
    "a padding row of a table": {"tok__weight": weight(60, 32).index_fill(0, torch.tensor([0]), 0.0)},
    "padding at 1": {"lut__weight": weight(60, 32).index_fill(0, torch.tensor([1]), 0.0)},
    "padding at the end": {"user_factors__weight": weight(60, 32).index_fill(0, torch.tensor([59]), 0.0)},
    "unused codes": {"vq__codebook__weight": weight(60, 32).index_fill(0, torch.arange(9), 0.0)},
}  # fmt: skip


@pytest.mark.parametrize("more", ODD.values(), ids=ODD.keys())
def test_odd_things_are_at_most_a_note(more: dict[str, torch.Tensor]) -> None:
    assert [f for f in findings(model(**more)) if str(f.severity) != "note"] == []


def test_a_row_of_zeros_at_the_end_of_a_layer_that_has_a_bias_or_siblings() -> None:
    dead = weight(64, 64).index_fill(0, torch.tensor([0]), 0.0)
    assert [f.code for f in findings(model(fc__weight=dead, fc__bias=weight(64)))] == ["PI207"]
    assert [f.code for f in findings(model(h__1__fc__weight=dead))] == ["PI207"]


def test_zeros_among_stacked_siblings_whatever_their_name() -> None:
    made = {f"h.{i}.moe.w1": weight(4, 8, 8 + i)[:, :, :8] * (i != 2) for i in range(4)}
    assert [(f.code, str(f.severity), f.tensor) for f in findings(model() | made)] == [
        ("PI203", "warning", "h.2.moe.w1")
    ]


def test_a_millionth_of_its_siblings() -> None:
    assert blocks(h__1__fc__weight=weight(64, 64) * 1e-6) == [
        ("PI202", "warning", "h.1.fc.weight", "root mean square 4.96e-8: 9.9e-7 times the median of its 3 siblings",
         approx(rms=4.96e-8, ratio=1e-6)),
    ]  # fmt: skip


def test_zeros() -> None:
    assert blocks(h__1__fc__weight=torch.zeros(64, 64)) == [
        ("PI203", "warning", "h.1.fc.weight", "all 4,096 values are 0", {"count": 4096}),
    ]  # fmt: skip


def test_a_constant() -> None:
    assert blocks(h__1__fc__weight=torch.full((64, 64), 0.25)) == [
        ("PI204", "warning", "h.1.fc.weight", "all 4,096 values are 0.25", {"value": 0.25, "count": 4096}),
    ]  # fmt: skip


def test_decayed_to_almost_nothing() -> None:
    assert blocks(h__1__fc__weight=weight(64, 64) * 1e-30) == [
        ("PI205", "warning", "h.1.fc.weight", "root mean square 5e-32: expected above 1e-20", approx(rms=4.95e-32)),
    ]  # fmt: skip


def test_one_bit_flipped_in_an_exponent() -> None:
    x = weight(64, 64)
    x.view(torch.int32)[3, 5] ^= 1 << 30
    (found,) = findings(model(h__1__fc__weight=x))
    assert (found.code, str(found.severity), found.tensor) == ("PI206", "error", "h.1.fc.weight")
    largest = f"{x.abs().max():.3g}".replace("e+", "e")
    assert found.message == f"the largest magnitude is {largest}, 99 % are within {found.figures['q99']:.3g}"
    assert found.figures == {"abs_max": x.abs().max().item(), "q99": pytest.approx(0.12, abs=0.02)}
    assert found.advice == "compare the file's checksum with its origin, and fetch it again"


def test_an_outlier_in_a_vector() -> None:
    x = weight(256, std=1.0)
    x[7] = 1e10
    assert [(f.code, f.tensor) for f in findings(model(ln__bias=x))] == [("PI206", "ln.bias")]


@pytest.mark.parametrize(("axis", "word"), [(0, "rows"), (1, "columns")])
def test_dead_units(axis: int, word: str) -> None:
    x = weight(64, 64).index_fill(axis, torch.tensor([4, 9]), 0.0)
    assert blocks(h__1__fc__weight=x) == [
        ("PI207", "warning", "h.1.fc.weight", f"2 of 64 {word} are all zeros: 4, 9",
         {"axis": axis, "count": 2, "indices": [4, 9]}),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "axis", "word"), [
    ("conv__weight", (16, 12, 3, 3), 0, "rows"), ("conv__weight", (16, 12, 3, 3), 1, "columns"),
    ("conv__kernel", (3, 3, 12, 16), 2, "rows"), ("conv__kernel", (3, 3, 12, 16), 3, "columns"),
])  # fmt: skip
def test_dead_channels(name: str, shape: tuple[int, ...], axis: int, word: str) -> None:
    x = weight(*shape).index_fill(axis, torch.tensor([5]), 0.0)
    (found,) = findings(model(**{name: x}))
    assert (found.code, found.message) == ("PI207", f"1 of {shape[axis]} {word} are all zeros: 5")


def test_many_dead_rows_are_named_in_part() -> None:
    x = weight(64, 64).index_fill(0, torch.arange(20), 0.0)
    (found,) = findings(model(h__1__fc__weight=x))
    assert found.message == "20 of 64 rows are all zeros: 0, 1, 2, 3, 4 and 15 more"
    assert found.figures["indices"] == list(range(20))
