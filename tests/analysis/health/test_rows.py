"""PI208 and PI209: first what must be left alone, then what is found, with its words and figures."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from inspectcli.analysis.findings import Finding
from inspectcli.commands.inspect.run import inspect


def weight(*shape: int) -> torch.Tensor:
    """Of no initializer: as after training."""
    made = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    return made * (0.01 + 0.09 * torch.arange(shape[0]).view(-1, *[1] * (len(shape) - 1)) / shape[0])


def model(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Trained blocks, and what is put beside them or in their place; `__` stands for a dot."""
    blocks = {f"h.{i}.fc.weight": weight(64, 48) * (1 + i / 10) for i in range(4)}
    return blocks | {name.replace("__", "."): value for name, value in more.items()}


def findings(target: Any) -> list[Finding]:
    return [f for f in inspect(target).files[0].findings if f.code in ("PI208", "PI209")]


def doubled(x: torch.Tensor) -> torch.Tensor:
    half = len(x) // 2
    return torch.cat([x[:half], x[:half]])


def row(x: torch.Tensor, factor: float) -> torch.Tensor:
    return torch.cat([x[:31], x[31:32] * factor, x[32:]])


HEALTHY: dict[str, dict[str, torch.Tensor]] = {
    "nothing": {},
    "new tokens at the mean": {"embed__weight": torch.cat([weight(90, 48), weight(90, 48).mean(0).expand(6, -1)])},
    "a table of which half is one row": {"embed__weight": torch.cat([weight(50, 48), weight(1, 48).expand(50, -1)])},
    "a few equal rows": {"h__1__fc__weight": torch.cat([weight(54, 48), weight(54, 48)[:10]])},
    "dead rows": {"h__1__fc__weight": weight(64, 48).index_fill(0, torch.arange(40), 0.0)},
    "the state matrix of Mamba": {"A_log": torch.log(torch.arange(1, 17.0)).repeat(64, 1)},
    "a mask": {"mask": torch.ones(64, 64).tril()},
    "the same first values": {"h__1__fc__weight": torch.cat([torch.ones(64, 12), weight(64, 36)], 1)},
    "a row 20 times the others": {"h__1__fc__weight": row(weight(64, 48), 20)},
    "a row 500 times the others": {"h__1__fc__weight": row(weight(64, 48), 500)},
    "pruned rows": {"h__1__fc__weight": weight(64, 48).index_fill(0, torch.arange(30), 1e-30)},
    "half of the rows large": {"h__1__fc__weight": torch.cat([weight(32, 48) * 1e-4, weight(32, 48)])},
}  # fmt: skip


@pytest.mark.parametrize("more", HEALTHY.values(), ids=HEALTHY.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_healthy_things_are_left_alone(more: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    assert findings({name: x.to(dtype) for name, x in model(**more).items()}) == []


DESIGNED: dict[str, dict[str, torch.Tensor]] = {
    "repeated keys and values": {"k_proj__weight": doubled(weight(64, 48)), "to_v__weight": doubled(weight(64, 48))},
    "one filter for all channels": {"blur__weight": weight(1, 1, 5, 5).expand(32, 1, 5, 5).contiguous()},
    "alike in all blocks": {f"g__{i}__fc__weight": doubled(weight(64, 48) * (i + 1)) for i in range(3)},
}  # fmt: skip


@pytest.mark.parametrize("more", DESIGNED.values(), ids=DESIGNED.keys())
def test_what_may_be_a_design_is_a_note(more: dict[str, torch.Tensor]) -> None:
    found = findings(model(**more))
    assert {(f.code, str(f.severity)) for f in found} == {("PI208", "note")}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("x", "message"), [
    (weight(64, 48)[:1].repeat(64, 1), "64 rows are all one row"),
    (doubled(weight(64, 48)), "64 rows are 32 different ones"),
    (weight(16, 48).repeat_interleave(4, 0), "64 rows are 16 different ones"),
], ids=["all", "half", "four times"])  # fmt: skip
def test_equal_rows(x: torch.Tensor, message: str, dtype: torch.dtype) -> None:
    (found,) = findings({name: t.to(dtype) for name, t in model(h__1__fc__weight=x).items()})
    assert (found.code, str(found.severity), found.tensor) == ("PI208", "warning", "h.1.fc.weight")
    assert found.message == message


@pytest.mark.parametrize("name", ["h.1.fc.weight", "embed.weight", "experts.w1"])
def test_a_row_out_of_scale(name: str) -> None:
    x = row(weight(64, 48), 4000)
    sizes = x.square().mean(1).sqrt()
    (found,) = findings(model() | {name: x if "experts" not in name else x.view(64, 6, 8)})
    assert (found.code, str(found.severity), found.tensor) == ("PI209", "warning", name)
    ratio = (sizes[31] / sizes.double().quantile(0.5)).item()
    assert found.message == f"row 31 has root mean square {sizes[31]:.3g}, {ratio:,.0f} times the median row"
    assert found.figures == {"row": 31, "rows": 1, "ratio": pytest.approx(ratio, rel=1e-5)}
