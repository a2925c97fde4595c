"""Which of the optimizer's tensors belong to which parameter: against torch.optim's own state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.health.optimizer import Group, groups, learning_rate_remark, states
from inspectcli.analysis.roles import Roles
from inspectcli.formats import open_checkpoint


class Net(nn.Module):
    """Buffers between parameters, and two weights of one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.bn = nn.BatchNorm1d(6)
        self.second = nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.bn(self.first(x))))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(20, 6)
        self.fc = nn.Linear(6, 6)
        self.lm_head = nn.Linear(6, 20, bias=False)
        self.lm_head.weight = self.wte.weight
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.scale * self.fc(self.wte(torch.arange(8)) + x.mean()))


Make = Callable[[nn.Module], torch.optim.Optimizer]


def trained(model: nn.Module, make: Make) -> torch.optim.Optimizer:
    torch.manual_seed(0)
    optimizer = make(model)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 6)).square().mean().backward()
        optimizer.step()
    return optimizer


def subject(path: Path, target: dict[str, Any]) -> RuleContext:
    torch.save(target, path)
    checkpoint = open_checkpoint(str(path))
    from inspectcli.measure.scan import scan

    roles = Roles(checkpoint)
    tensors = (TensorFacts(s.ref, roles.of(s.ref), s.alias_of, s.stats, s.sampled) for s in scan(checkpoint))
    return RuleContext(checkpoint, tuple(tensors))


def assert_mapped(made: RuleContext, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Every state has the figures that torch holds for that very parameter."""
    names = {id(p): name for name, p in model.named_parameters()}
    expected = {names[id(p)]: state for p, state in optimizer.state.items()}
    found = {s.parameter.name.removeprefix("model."): s for s in states(made)}
    assert found.keys() == expected.keys()
    for name, state in expected.items():
        tensors = {key for key, value in state.items() if torch.is_tensor(value)}
        assert found[name].figures.keys() == tensors
        for key in tensors - {"step"}:
            stats = found[name].figures[key].stats
            assert stats is not None
            assert stats.l2 == pytest.approx(state[key].double().norm().item(), rel=1e-6)
        rate = next(g["lr"] for g in optimizer.param_groups for p in g["params"] if names[id(p)] == name)
        assert found[name].group is not None
        assert found[name].group.lr == rate


@pytest.mark.parametrize(
    "make",
    [
        lambda m: torch.optim.AdamW(m.parameters(), lr=1e-3),
        lambda m: torch.optim.Adam(m.parameters(), lr=1e-3, amsgrad=True),
        lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9),
        lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3),
    ],
    ids=["AdamW", "amsgrad", "SGD", "RMSprop"],
)
@pytest.mark.parametrize("model", [Net, Tied])
def test_states_belong_to_the_parameters_of_torch(tmp_path: Path, model: type[nn.Module], make: Make) -> None:
    net = model()
    optimizer = trained(net, make)
    made = subject(tmp_path / "a.pt", {"model": net.state_dict(), "optimizer": optimizer.state_dict()})
    assert_mapped(made, net, optimizer)


def test_groups_in_the_order_of_the_model(tmp_path: Path) -> None:
    net = Net()
    split = [{"params": [*net.first.parameters(), *net.bn.parameters()], "lr": 1e-4}]
    split.append({"params": [*net.second.parameters(), *net.head.parameters()], "lr": 1e-2})
    optimizer = trained(net, lambda _: torch.optim.AdamW(split))
    made = subject(tmp_path / "a.pt", {"model": net.state_dict(), "optimizer": optimizer.state_dict()})
    assert_mapped(made, net, optimizer)
    assert groups(made.checkpoint) == (Group(1e-4, 1e-8, (0, 1, 2, 3)), Group(1e-2, 1e-8, (4, 5, 6, 7)))


def test_weights_with_decay_and_vectors_without_are_in_another_order(tmp_path: Path) -> None:
    """The usual two groups: what torch numbers is not the order of the model, and the shapes say so."""
    net = Net()
    parameters = list(net.parameters())
    split = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = trained(net, lambda _: torch.optim.AdamW(split, lr=1e-3))
    made = subject(tmp_path / "a.pt", {"model": net.state_dict(), "optimizer": optimizer.state_dict()})
    assert states(made) == ()


def test_an_optimizer_of_the_head_alone_is_not_taken_for_one_of_the_body(tmp_path: Path) -> None:
    net = Net()
    optimizer = trained(net, lambda m: torch.optim.AdamW(m.head.parameters(), lr=1e-3))  # type: ignore[union-attr]
    made = subject(tmp_path / "a.pt", {"model": net.state_dict(), "optimizer": optimizer.state_dict()})
    assert states(made) == ()


def test_two_optimizers_are_not_guessed_at(tmp_path: Path) -> None:
    net = Net()
    one, two = (trained(net, lambda m: torch.optim.Adam(m.parameters())).state_dict() for _ in range(2))
    made = subject(tmp_path / "a.pt", {"model": net.state_dict(), "optimizer_g": one, "optimizer_d": two})
    assert states(made) == ()
    assert len(groups(made.checkpoint)) == 2


@pytest.mark.parametrize(
    ("make", "remark"),
    [
        (lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9), ""),
        (lambda m: torch.optim.AdamW(m.parameters(), lr=3e-4), ""),
        (lambda m: torch.optim.AdamW(m.parameters(), lr=0.5), "; the learning rate is 0.5, typically 1e-5 to 0.01"),
    ],
)  # fmt: skip
def test_usual_learning_rates(tmp_path: Path, make: Make, remark: str) -> None:
    net = Net()
    optimizer = trained(net, make)
    made = subject(tmp_path / "a.pt", {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3})
    assert learning_rate_remark(made.checkpoint).startswith(remark)
    assert bool(learning_rate_remark(made.checkpoint)) is bool(remark)


@pytest.mark.parametrize(
    "broken",
    [
        {"param_groups": 3},
        {"param_groups": [3, None, {}]},
        {"param_groups": [{"lr": "fast", "params": [0]}]},
        {"param_groups": [{"lr": True, "params": [0]}]},
        {"param_groups": [{"lr": 0.1, "params": "all"}]},
    ],
    ids=str,
)
def test_groups_that_are_none(tmp_path: Path, broken: dict[str, Any]) -> None:
    made = subject(tmp_path / "a.pt", {"model": Net().state_dict(), "optimizer": {"state": {}} | broken})
    assert groups(made.checkpoint) == ()
    assert learning_rate_remark(made.checkpoint) == ""
    assert states(made) == ()


def test_without_an_optimizer(tmp_path: Path) -> None:
    made = subject(tmp_path / "a.pt", Net().state_dict())
    assert (groups(made.checkpoint), states(made)) == ((), ())
