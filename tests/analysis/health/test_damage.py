"""PI107 to PI109: first what must be left alone, then what is found, with its words and figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from inspectcli.analysis.findings import Finding
from inspectcli.commands.inspect.run import inspect

CODES = ("PI107", "PI108", "PI109")
NAME = "h.1.fc.weight"


def weight(*shape: int) -> torch.Tensor:
    """Of no initializer: as after training."""
    made = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    return made * (0.01 + 0.09 * torch.arange(shape[0]).view(-1, *[1] * (len(shape) - 1)) / shape[0])


def model(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Trained blocks, and what is put beside them or in their place; `__` stands for a dot."""
    blocks = {f"h.{i}.fc.weight": weight(64, 48) * (1 + i / 10) for i in range(4)}
    return blocks | {name.replace("__", "."): value for name, value in more.items()}


def findings(target: Any) -> list[Finding]:
    return [f for f in inspect(target).files[0].findings if f.code in CODES]


def emptied(x: torch.Tensor, first: int, end: int) -> torch.Tensor:
    x = x.clone()
    x.view(-1)[first:end] = 0
    return x


PRUNED = torch.rand(64, 48, generator=torch.Generator().manual_seed(3))
HEALTHY: dict[str, dict[str, torch.Tensor]] = {
    "nothing": {},
    "few zeros": {"h__1__fc__weight": emptied(weight(64, 48), 100, 115)},
    "a row of zeros": {"h__1__fc__weight": emptied(weight(64, 48), 480, 528)},
    "rows at the end": {"h__1__fc__weight": emptied(weight(64, 48), 60 * 48, 64 * 48)},
    "a padded table": {"embed__weight": emptied(weight(100, 32), 92 * 32, 100 * 32)},
    "half of a table": {"embed__weight": emptied(weight(100, 32), 50 * 32, 100 * 32)},
    "kernels of a convolution": {"conv__weight": emptied(weight(16, 16, 3, 3), 9 * 20, 9 * 31)},
    "pruned": {"h__1__fc__weight": weight(64, 48) * (PRUNED > 0.8)},
    "pruned a little": {"h__1__fc__weight": weight(64, 48) * (PRUNED > 0.05)},
    "an identity": {"fc__weight": torch.eye(64)},
    "blocks on the diagonal": {"fc__weight": torch.block_diag(*[weight(16, 16) for _ in range(4)])},
    "Dirac": {"conv__weight": nn.init.dirac_(torch.empty(16, 16, 3, 3))},
    "a triangle": {"fc__weight": weight(64, 64).tril()},
    "padded columns": {"fc__weight": torch.cat([weight(64, 48), torch.zeros(64, 16)], 1)},
    "a bias that ends with zeros": {"fc__bias": emptied(weight(512), 400, 512)},
    "half in all blocks": {f"g__{i}__fc__weight": emptied(weight(64, 48) + i / 99, 1536, 3072) for i in range(3)},
    "a matrix without a value": {"fc__weight": torch.zeros(64, 48)},
    "ternary": {"fc__weight": weight(64, 48).sign()},
    "ternary with its scale in it": {"fc__weight": weight(64, 48).sign() * 0.02},
    "codes with a scale": {"fc__weight": (weight(64, 48) * 900).round(), "fc__weight_scale": torch.tensor(0.01)},
    "a blur filter": {"blur__kernel": torch.tensor([1.0, 4, 6, 4, 1]).outer(torch.tensor([1.0, 4, 6, 4, 1]))},
    "counts": {"histogram": torch.arange(600.0).view(20, 30)},
    "decayed inputs": {"h__1__fc__weight": torch.cat([weight(64, 43), weight(64, 5) * 1e-12], 1)},
    "decayed a little": {"h__1__fc__weight": weight(64, 48).index_fill(0, torch.tensor([3]), 1e-9)},
    "float16": {"h__1__fc__weight": weight(64, 48).half()},
}  # fmt: skip


@pytest.mark.parametrize("more", HEALTHY.values(), ids=HEALTHY.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_healthy_things_are_left_alone(more: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    made = model(**more)
    assert findings({name: x.to(dtype) for name, x in made.items()}) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_zeros_at_the_end(dtype: torch.dtype) -> None:
    x = emptied(weight(64, 48), 64 * 48 - 33, 64 * 48)
    (found,) = findings({name: t.to(dtype) for name, t in model(h__1__fc__weight=x).items()})
    assert (found.code, str(found.severity), found.tensor) == ("PI107", "warning", NAME)
    assert found.message == "33 zeros in a row at the end (values 3,039 to 3,071 of 3,072), none elsewhere"
    assert found.figures == {"first": 3039, "count": 33, "others": 0}


@pytest.mark.parametrize(("name", "shape", "first", "end"), [
    ("h.1.fc.weight", (64, 48), 1000, 1128),
    ("conv.weight", (20, 20, 3, 3), 1000, 1128),
    ("embed.weight", (100, 32), 1500, 3200),
    ("experts.w1", (4, 32, 32), 3001, 3100),
])  # fmt: skip
def test_zeros_within(name: str, shape: tuple[int, ...], first: int, end: int) -> None:
    (found,) = findings(model() | {name: emptied(weight(*shape), first, end)})
    assert (found.code, found.tensor, found.figures["first"]) == ("PI107", name, first)


def test_half_of_the_rows_of_one_block() -> None:
    (found,) = findings(model(h__1__fc__weight=emptied(weight(64, 48), 32 * 48, 64 * 48)))
    assert (found.code, found.tensor, found.figures["count"]) == ("PI107", NAME, 32 * 48)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_codes_without_their_scale(dtype: torch.dtype) -> None:
    codes = (weight(64, 48) / weight(64, 48).abs().max() * 127).round()
    (found,) = findings({name: t.to(dtype) for name, t in model(h__1__fc__weight=codes).items()})
    low, high = int(codes.min()), int(codes.max())
    assert (found.code, str(found.severity), found.tensor) == ("PI108", "warning", NAME)
    assert found.message == f"all 3,072 values are whole numbers, from {low} to {high}"


@pytest.mark.parametrize("bit", [28, 29])
def test_a_bit_of_an_exponent_that_was_cleared(bit: int) -> None:
    x = weight(64, 48)
    bits = x.view(-1).numpy().view(np.uint32)
    at = int(np.flatnonzero((bits >> bit) & 1)[5])
    bits[at] ^= np.uint32(1 << bit)
    magnitudes = x.abs().flatten().sort().values
    (found,) = findings(model(h__1__fc__weight=x))
    assert (found.code, str(found.severity), found.tensor) == ("PI109", "note", NAME)
    assert found.figures == {"smallest": magnitudes[0].item(), "next": magnitudes[1].item()}
