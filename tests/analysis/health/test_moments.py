"""PI309 to PI311: first the optimizers that must be left alone, then what is found, with its words and figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from inspectcli.analysis.findings import Finding
from inspectcli.commands.inspect.run import inspect

Change = Callable[[dict[str, Any]], object]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))

    def forward(self, x: torch.Tensor, but: int | None = None) -> torch.Tensor:
        for i, layer in enumerate(self.body):
            x = x if i == but else layer(x).relu()
        return x


def findings(path: Path, change: Change = lambda _: None, kind: Any = torch.optim.Adam, **frozen: Any) -> list[Finding]:
    torch.manual_seed(0)
    net = Net()
    optimizer = kind(net.parameters(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        net(torch.randn(8, 16), **frozen).square().mean().backward()
        optimizer.step()
    state = optimizer.state_dict()
    change(state)
    torch.save({"model": net.state_dict(), "optimizer": state}, path / "a.pt")
    return [f for f in inspect(str(path / "a.pt")).files[0].findings if f.code in ("PI309", "PI310", "PI311")]


HEALTHY: dict[str, Change] = {
    "as it was saved": lambda _: None,
    "the end of a schedule": lambda d: d["param_groups"][0].update(lr=0.0),
    "no state at all": lambda d: d["state"].clear(),
    "biases alone are trained": lambda d: [d["state"].pop(i) for i in (0, 2, 4, 6)],
    "the first block is frozen": lambda d: [d["state"].pop(i) for i in (0, 1)],
    "one step less": lambda d: d["state"][2].update(step=torch.tensor(4.0)),
}


@pytest.mark.parametrize("change", HEALTHY.values(), ids=HEALTHY.keys())
def test_healthy_optimizers_are_left_alone(change: Change, tmp_path: Path) -> None:
    assert findings(tmp_path, change) == []


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adamax, torch.optim.AdamW])
def test_other_optimizers_are_left_alone(kind: Any, tmp_path: Path) -> None:
    assert findings(tmp_path, kind=kind) == []


def test_a_block_that_is_not_used(tmp_path: Path) -> None:
    assert findings(tmp_path, but=1) == []


@pytest.mark.parametrize(("kind", "figure"), [
    (torch.optim.Adam, "exp_avg_sq"), (torch.optim.RMSprop, "square_avg"), (torch.optim.Adamax, "exp_inf"),
])  # fmt: skip
def test_a_negative_mean_of_squares(kind: Any, figure: str, tmp_path: Path) -> None:
    (found,) = findings(tmp_path, lambda d: d["state"][2][figure][0].fill_(-0.5), kind)
    assert (found.code, str(found.severity), found.tensor) == ("PI309", "error", f"optimizer.state.2.{figure}")
    assert found.message == "the smallest mean of squares is -0.5: expected 0 or more"


def test_moments_that_were_exchanged(tmp_path: Path) -> None:
    def exchange(d: dict[str, Any]) -> None:
        own = d["state"][2]
        own["exp_avg"], own["exp_avg_sq"] = own["exp_avg_sq"], own["exp_avg"]

    (found,) = findings(tmp_path, exchange)
    assert (found.code, found.figures["exchanged"]) == ("PI309", True)
    assert found.message.endswith(", and the first moment has no negative value: they look exchanged")


def test_a_state_that_was_lost(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, lambda d: d["state"].pop(4))
    assert (found.code, str(found.severity), found.tensor) == ("PI310", "warning", "model.body.2.weight")
    assert found.message == "1 of 8 parameters is without a state: model.body.2.weight"


def test_a_state_at_step_0(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, lambda d: d["state"][4].update(step=torch.tensor(0.0)))
    assert (found.code, found.tensor) == ("PI310", "model.body.2.weight")
    assert "at step 0, while others have been stepped" in found.message


@pytest.mark.parametrize("rate", [math.nan, math.inf, -1e-3])
def test_an_impossible_rate(rate: float, tmp_path: Path) -> None:
    found = findings(tmp_path, lambda d: d["param_groups"][0].update(lr=rate))
    assert [(f.code, str(f.severity), f.name) for f in found] == [("PI311", "error", "learning_rate")]
    assert found[0].message == f"the learning rate of parameter group 0 is {rate:g}"
