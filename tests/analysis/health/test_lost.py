"""PI210, and PI422 at the ends of a list: what must be left alone first, then what is found, in words and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models.judged import write

from inspectcli.analysis.findings import Finding
from inspectcli.commands.inspect.run import inspect


def model(blocks: int = 4) -> dict[str, torch.Tensor]:
    """Trained blocks of a normalization and a layer."""
    g = torch.Generator().manual_seed(5)
    made = {}
    for i in range(blocks):
        made[f"h.{i}.norm.weight"] = 1 + 0.1 * torch.randn(48, generator=g)
        made[f"h.{i}.norm.bias"] = torch.randn(48, generator=g)
        made[f"h.{i}.up.weight"] = torch.randn(64, 48, generator=g).cumsum(0) / 20
        made[f"h.{i}.up.bias"] = torch.randn(64, generator=g)
    return made


def without(*names: str, blocks: int = 4) -> dict[str, torch.Tensor]:
    return {name: x for name, x in model(blocks).items() if not name.startswith(names)}


def zeroed(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(x) if name in names else x for name, x in model().items()}


def findings(target: Any) -> list[Finding]:
    return [f for f in inspect(target).files[0].findings if f.code in ("PI210", "PI422")]


RELATIVE = {"h.0.attn.relative_attention_bias.weight": torch.randn(32, 4)}
HEALTHY: dict[str, dict[str, torch.Tensor]] = {
    "nothing": model(),
    "all biases are zeros": zeroed(*(f"h.{i}.up.bias" for i in range(4))),
    "half of them": zeroed("h.0.up.bias", "h.1.up.bias"),
    "some dead scales": model() | {"h.2.norm.weight": torch.cat([torch.zeros(3), torch.ones(45)])},
    "the first block has more": model() | RELATIVE,
    "the first block lacks a norm": without("h.0.norm"),
    "the last block lacks a norm": without("h.3.norm"),
    "two of four lack a bias": without("h.1.up.bias", "h.2.up.bias"),
    "a block of another kind": without("h.2.up") | {"h.2.attn.weight": torch.randn(48, 48)},
    "another shape without a bias": without("h.2.up") | {"h.2.up.weight": torch.randn(60, 48)},
    "a layer is missing, and no bias": without("h.2.up"),
    "two blocks": without("h.1.up.bias", blocks=2),
    "the last layer has no bias": {f"{i}.{leaf}": torch.randn(8, 8)[: 8 - i] for i, leaf in [(0, "weight"), (0, "bias"),
                                   (2, "weight"), (2, "bias"), (4, "weight")]},
}  # fmt: skip


@pytest.mark.parametrize("made", HEALTHY.values(), ids=HEALTHY.keys())
def test_healthy_things_are_left_alone(made: dict[str, torch.Tensor]) -> None:
    assert findings(made) == []


def test_a_shard_has_some_blocks_on_purpose(tmp_path: Path) -> None:
    path = write(tmp_path / "model-00001-of-00002.safetensors", without("h.3.up.bias"))
    assert findings(str(path)) == []


@pytest.mark.parametrize(("name", "severity", "count"), [
    ("h.2.norm.weight", "warning", 48), ("h.2.norm.bias", "note", 48), ("h.0.up.bias", "note", 64),
])  # fmt: skip
def test_zeros_among_siblings(name: str, severity: str, count: int) -> None:
    (found,) = findings(zeroed(name))
    assert (found.code, str(found.severity), found.tensor) == ("PI210", severity, name)
    assert found.message == f"all {count} values are 0, those of its 3 siblings are not"


@pytest.mark.parametrize("gone", ["h.2.up.bias", "h.2.norm.weight", "h.0.up.bias", "h.3.norm.bias"])
def test_a_block_that_lacks_what_its_siblings_have(gone: str) -> None:
    (found,) = findings(without(gone))
    block = int(gone[2])
    assert (found.code, str(found.severity), found.tensor) == ("PI422", "warning", None)
    assert found.message == f"h.{block} lacks {gone}: the other 3 blocks have it"
    assert found.figures == {"block": f"h.{block}", "missing": [gone], "count": 1}


def test_a_norm_that_one_block_within_lacks() -> None:
    (found,) = findings(without("h.1.norm"))
    assert found.message == "h.1 lacks h.1.norm.bias, h.1.norm.weight: the other 3 blocks have them"
