"""PI411: first the adapters that must be left alone, then what does not fit."""

from __future__ import annotations

import pytest
import torch

from inspectcli.analysis.findings import Finding
from inspectcli.commands.inspect.run import inspect

Shapes = tuple[tuple[int, ...], tuple[int, ...]]
LAYER = "base_model.model.layers.{}.q_proj"


def peft(*pairs: Shapes) -> dict[str, torch.Tensor]:
    """Pairs as PEFT writes them, one a layer."""
    made = {}
    for i, (a, b) in enumerate(pairs):
        made[f"{LAYER.format(i)}.lora_A.weight"] = torch.randn(a)
        made[f"{LAYER.format(i)}.lora_B.weight"] = torch.randn(b)
    return made


def findings(made: dict[str, torch.Tensor]) -> list[Finding]:
    return [f for f in inspect(made).files[0].findings if f.code == "PI411"]


def rank(r: int, size: int = 48, out: int = 48) -> Shapes:
    return (r, size), (out, r)


HEALTHY: dict[str, dict[str, torch.Tensor]] = {
    "one rank": peft(*[rank(8)] * 4),
    "a pattern of ranks": peft(rank(8), rank(8), rank(4), rank(16)),
    "layers that are not square": peft(rank(8, 48, 96), rank(8, 96, 48), rank(8, 3, 64)),
    "a rank above the size of a layer": peft(rank(64), rank(64, 16, 16), rank(64)),
    "the rank of a square layer": peft(rank(48), rank(8)),
    "convolutions": peft(*[((8, 16, 3, 3), (32, 8, 1, 1))] * 3),
    "a table": {"emb.lora_embedding_A": torch.randn(8, 100), "emb.lora_embedding_B": torch.randn(48, 8)},
    "kohya's": {"te.lora_down.weight": torch.randn(8, 48), "te.lora_up.weight": torch.randn(96, 8)},
    "the other way round": {"h.0.lora_A": torch.randn(48, 8), "h.0.lora_B": torch.randn(8, 96)},
    "loralib's fused layers": {"c_attn.lora_A": torch.randn(16, 48), "c_attn.lora_B": torch.randn(96, 8)},
    "one half": {"q.lora_A.weight": torch.randn(8, 48)},
}  # fmt: skip


@pytest.mark.parametrize("made", HEALTHY.values(), ids=HEALTHY.keys())
def test_healthy_adapters_are_left_alone(made: dict[str, torch.Tensor]) -> None:
    assert findings(made) == []


@pytest.mark.parametrize(("pair", "message"), [
    (((8, 48), (48, 4)), "the ranks of {} disagree: A is [8, 48], B is [48, 4]"),
    (((4, 48), (48, 8)), "the ranks of {} disagree: A is [4, 48], B is [48, 8]"),
    (((48, 8), (8, 48)), "A and B of {} are exchanged: A is [48, 8], B is [8, 48]"),
    (((96, 8), (8, 48)), "A and B of {} are exchanged: A is [96, 8], B is [8, 48]"),
])  # fmt: skip
def test_a_pair_that_does_not_fit(pair: Shapes, message: str) -> None:
    (found,) = findings(peft(rank(8), rank(8), pair, rank(8)))
    assert (str(found.severity), found.tensor) == ("error", f"{LAYER.format(2)}.lora_B.weight")
    assert found.message == message.format(LAYER.format(2))
    assert found.figures == {"a": list(pair[0]), "b": list(pair[1])}
