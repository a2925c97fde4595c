"""PI1xx: first what must be left alone, then what is found, with its words and figures."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from inspectcli.analysis.findings import Finding
from inspectcli.commands.inspect.run import inspect

INF, NAN = float("inf"), float("nan")


def weight(*shape: int, std: float = 0.05, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) * std).to(dtype)


def model(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Trained blocks, and what is put beside them or in their place; `__` stands for a dot."""
    blocks = {f"h.{i}.fc.weight": weight(64, 64) + i * 1e-3 for i in range(4)}
    return blocks | {name.replace("__", "."): value for name, value in more.items()}


def findings(target: Any, family: str = "PI1") -> list[Finding]:
    return [f for f in inspect(target).files[0].findings if f.code.startswith(family)]


HEALTHY: dict[str, dict[str, torch.Tensor]] = {
    "nothing": {},
    "a causal mask of -inf": {"attn_mask": torch.full((8, 8), -INF).triu(1)},
    "a mask without a telling name": {"attn__table": torch.full((8, 8), -INF).triu(1)},
    "a causal mask of -65504": {"causal_mask": torch.full((8, 8), -65504.0).triu(1)},
    "the mask of GPT-2": {"attn__bias": torch.ones(1, 1, 9, 9).tril(), "attn__masked_bias": torch.tensor(-1e9)},
    "a mask of float32's lowest": {"causal_mask": torch.full((8, 8), torch.finfo(torch.float32).min).triu(1)},
    "position ids": {"position_ids": torch.arange(512)[None]},
    "rotary frequencies": {"rotary_emb__inv_freq": 1 / 1e4 ** (torch.arange(0, 64, 2) / 64)},
    "BatchNorm, fresh": {"bn__running_var": torch.ones(8), "bn__num_batches_tracked": torch.tensor(0)},
    "BatchNorm, a variance of 0": {"bn__running_var": torch.zeros(8)},
    "a running mean below 0": {"bn__running_mean": -torch.ones(8)},
    "an empty tensor": {"fc__weight": torch.zeros(0, 64)},
    "a zero bias": {"fc__bias": torch.zeros(64)},
    "the largest of float16": {"fc__weight": torch.full((8, 8), 65504.0)},
    "a float16 model with small weights": {"fc__weight": weight(64, 64, std=1e-4, dtype=torch.float16)},
    "a few subnormal values": {"fc__weight": torch.cat([weight(63, 64), torch.full((1, 64), 1e-40)])},
    "a pruned matrix": {"fc__weight": weight(64, 64) * (torch.rand(64, 64) > 0.9)},
    "a table of complex numbers": {"freqs_cis": torch.polar(torch.ones(8, 8), torch.rand(8, 8))},
}


@pytest.mark.parametrize("more", HEALTHY.values(), ids=HEALTHY.keys())
def test_healthy_things_are_left_alone(more: dict[str, torch.Tensor]) -> None:
    assert findings(model(**more)) == []


def with_value(value: float, *at: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = weight(64, 64, dtype=dtype)
    for index in at:
        x[index] = value
    return x


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_nan(dtype: torch.dtype) -> None:
    assert findings(model(h__1__fc__weight=with_value(NAN, (3, 5), (9, 0), dtype=dtype))) == [
        Finding(
            "PI101", "error", "h.1.fc.weight",
            "2 NaN of 4,096 values (0.049 %), the first NaN or Inf at [3, 5]",
            "go back to the last checkpoint without NaN, and train on with a lower learning rate or gradient clipping",
            {"count": 2, "share": 2 / 4096, "first_index": [3, 5], "kind": "NaN"},
        )
    ]  # fmt: skip


@pytest.mark.parametrize(("value", "kind"), [(INF, "+Inf"), (-INF, "-Inf")])
def test_infinities(value: float, kind: str) -> None:
    assert findings(model(h__1__fc__weight=with_value(value, (63, 63)))) == [
        Finding(
            "PI102", "error", "h.1.fc.weight",
            f"1 {kind} of 4,096 values (0.024 %), the first NaN or Inf at [63, 63]",
            "find the step at which the values overflowed, and train on from before it",
            {"count": 1, "share": 1 / 4096, "first_index": [63, 63], "kind": kind},
        )
    ]  # fmt: skip


@pytest.mark.parametrize(("n", "percent"), [(1, "0.024"), (409, "10"), (2048, "50"), (4086, "100"), (4096, "100")])
def test_shares_are_short(n: int, percent: str) -> None:
    x = weight(64, 64)
    x.view(-1)[:n] = NAN
    (found,) = findings({"fc.weight": x})
    assert found.message == f"{n:,} NaN of 4,096 values ({percent} %), the first NaN or Inf at [0, 0]"


FORBIDDEN = torch.ones(9, 9).index_fill(0, torch.tensor([7]), -INF).index_fill(1, torch.tensor([8]), -INF)
FORBIDDEN[0, 0] = 0.5
WINDOW = torch.randn(32, 32).masked_fill((torch.ones(32, 32).tril(-4) + torch.ones(32, 32).triu(1)).bool(), -INF)
#: -inf and NaN that mean what they say: at most a note.
BY_DESIGN: dict[str, dict[str, torch.Tensor]] = {
    "a causal ALiBi": {"bias_table": torch.randn(8, 8) + torch.full((8, 8), -INF).triu(1)},
    "one for each head": {"attn.slopes": torch.randn(4, 8, 8) + torch.full((8, 8), -INF).triu(1)},
    "a sliding window": {"local": WINDOW},
    "a CRF": {"crf.transitions": FORBIDDEN},
    "the same under another name": {"tags": FORBIDDEN},
    "an HMM": {"hmm.log_startprob": torch.log(torch.tensor([0.5, 0.5, 0.0])), "log_transmat": torch.log(torch.eye(3))},
    "an observer": {"fc.activation_post_process.min_val": torch.tensor(INF)},
    "an observer of channels": {"fc.observer.max_val": torch.full((4,), -INF)},
    "the best so far": {"early_stopping.best": torch.tensor(INF), "best_loss": torch.tensor(INF)},
    "another script's": {"patience.lowest": torch.tensor(INF)},
    "a metric": {"metrics.val_loss": torch.tensor(NAN)},
}  # fmt: skip


@pytest.mark.parametrize("more", BY_DESIGN.values(), ids=BY_DESIGN.keys())
def test_infinities_by_design_are_at_most_a_note(more: dict[str, torch.Tensor]) -> None:
    layer = {"fc.weight": torch.randn(64, 64), "fc.bias": torch.randn(64)}
    assert {str(f.severity) for f in inspect(layer | more).files[0].findings} <= {"note"}


@pytest.mark.parametrize("axis", [0, 1])
def test_a_unit_of_a_layer_that_overflowed_is_no_pattern(axis: int) -> None:
    x = torch.randn(64, 64).index_fill(axis, torch.tensor([0]), -INF)
    assert [str(f.severity) for f in inspect({"fc.weight": x}).files[0].findings if f.code == "PI102"] == ["error"]


def test_a_number_among_layers_is_no_record() -> None:
    found = inspect({"fc.weight": torch.randn(8, 8), "fc.scale": torch.tensor(INF)}).files[0].findings
    assert [(f.code, str(f.severity)) for f in found] == [("PI102", "error")]


def test_infinities_of_both_signs_are_no_mask() -> None:
    x = torch.zeros(8, 8)
    x[0, 1], x[2, 3] = INF, -INF
    (found,) = findings(model(attn__table=x))
    assert found.figures["kind"] == "+Inf and -Inf"


def test_nan_in_a_mask_is_found() -> None:
    mask = torch.full((8, 8), -INF).triu(1)
    mask[7, 7] = NAN
    assert [f.code for f in findings({"attn_mask": mask})] == ["PI101"]


def test_nan_in_a_tied_tensor_is_told_once() -> None:
    x = with_value(NAN, (0, 0))
    assert [f.tensor for f in findings({"wte.weight": x, "lm_head.weight": x})] == ["wte.weight"]


def test_overflow_in_float16() -> None:
    assert findings(model(bn__running_var=torch.tensor([1.0, 7e4]))) == [
        Finding(
            "PI103", "note", "bn.running_var",
            "largest magnitude 7e4: beyond float16, at most 65,504",
            "serve this model in bfloat16 or float32",
            {"abs_max": 7e4, "limit": 65504.0},
        )
    ]  # fmt: skip


def test_overflow_in_both_half_types() -> None:
    (found,) = findings(model(bn__running_var=torch.tensor([1.0, 1e300], dtype=torch.float64)))
    assert found.message == "largest magnitude 1e300: beyond bfloat16 and float16, at most 65,504"
    assert torch.tensor(found.figures["limit"]).to(torch.bfloat16).item() == torch.finfo(torch.bfloat16).max


def test_values_that_are_wrong_are_not_said_to_overflow_too() -> None:
    assert findings(model(fc__weight=with_value(7e4, (1, 1)))) == []


def test_a_flood_of_subnormal_values() -> None:
    assert findings(model(fc__weight=weight(64, 64, std=1e-5, dtype=torch.float16))) == [
        Finding(
            "PI104", "warning", "fc.weight",
            "4,082 of 4,082 non-zero values are subnormal in f16 (100%)",
            "store the tensor in float32 or bfloat16",
            {"subnormals": 4082, "share": 1.0},
        )
    ]  # fmt: skip


def test_a_negative_variance() -> None:
    assert findings(model(bn__running_var=torch.tensor([1.0, -0.5]))) == [
        Finding(
            "PI106", "error", "bn.running_var",
            "the smallest running variance is -0.5: expected 0 or more",
            "get the file again, or recompute the running statistics by a pass over training data",
            {"min": -0.5},
        )
    ]  # fmt: skip


def test_a_negative_variance_of_keras() -> None:
    (found,) = findings({"batch_normalization/moving_variance": torch.tensor([1.0, -2.0])})
    assert found.code == "PI106"


def test_gradients_of_a_module_are_training_state() -> None:
    layer = torch.nn.Linear(16, 16)
    layer.weight.grad = torch.full((16, 16), NAN)
    (found,) = findings(layer)
    assert (found.code, found.tensor) == ("PI105", "weight.grad")


def saved(path: Any, lr: float, poison: str = "") -> str:
    """A checkpoint after one step of AdamW."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(16, 16)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=lr)
    layer(torch.randn(4, 16)).square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        target = layer.weight if poison == "weight" else optimizer.state[layer.weight]["exp_avg"]
        if poison:
            target[2, 3] = NAN
    torch.save({"model": layer.state_dict(), "optimizer": optimizer.state_dict()}, path)
    return str(path)


def test_the_state_of_the_optimizer(tmp_path: Any) -> None:
    assert findings(saved(tmp_path / "a.pt", 1e-3)) == []
    assert findings(saved(tmp_path / "a.pt", 1e-3, "exp_avg")) == [
        Finding(
            "PI105", "error", "optimizer.state.0.exp_avg",
            "1 non-finite of 256 values (0.39 %), the first NaN or Inf at [2, 3]",
            "resume from an earlier checkpoint, or keep the weights and start with a new optimizer state",
            {"count": 1, "share": 1 / 256, "first_index": [2, 3], "kind": "non-finite"},
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lr", "remark"),
    [
        (1e-3, ""),
        (1e-6, ""),
        (0.0, ""),
        (1.0, "; the learning rate is 1, typically 1e-5 to 0.01 for Adam"),
        (1e-9, ""),
    ],
)
def test_nan_and_an_unusual_learning_rate_are_said_in_one_breath(tmp_path: Any, lr: float, remark: str) -> None:
    (found,) = findings(saved(tmp_path / "a.pt", lr, "weight"), "PI101")
    start = "1 NaN of 256 values (0.39 %), the first NaN or Inf at [2, 3]"
    assert found.message.replace("AdamW", "Adam") == start + remark
