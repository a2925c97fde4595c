"""Was it trained: models of torch, new, trained, frozen, adapted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from inspectcli.analysis.training import Answer, TrainingJudgment
from inspectcli.commands.inspect.run import inspect


def judged(target: Any) -> TrainingJudgment:
    found = inspect(target).files[0].trained
    assert found is not None
    return found


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU()) for _ in range(3)]
    return nn.Sequential(*layers, nn.Linear(32, 16))


def trained(model: nn.Module, steps: int = 40) -> nn.Module:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    torch.manual_seed(1)
    for _ in range(steps):
        x = torch.randn(64, 32)
        (model(x) - x[:, :16].cumsum(1)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_a_new_model() -> None:
    found = judged(net())
    assert (found.answer, found.evidence, found.moved_share) == (Answer.NOT_TRAINED, ("3 norms are at 1",), 0.0)
    assert (found.weights, found.moved, found.as_drawn) == (4, 0, 4)


def test_a_trained_model() -> None:
    found = judged(trained(net()))
    assert found.answer is Answer.TRAINED
    assert found.evidence[0] == "batch norms saw 40 batches"
    assert found.moved == 4


def test_a_frozen_majority_is_trained_all_the_same() -> None:
    model = net()
    for layer in model[:3]:
        layer[0].requires_grad_(False)
    found = judged(trained(model))
    assert (found.answer, found.moved, found.as_drawn) == (Answer.TRAINED, 1, 3)


def test_a_forward_pass_is_no_training() -> None:
    model = net()
    model(torch.randn(64, 32))
    found = judged(model)
    assert found.answer is Answer.UNKNOWN
    assert found.evidence == ("batch norms saw 1 batch", "3 norms are at 1")


def test_initializers_that_nobody_knows_are_no_training() -> None:
    model = net()
    for layer in model[:3]:
        with torch.no_grad():
            layer[0].weight.pow_(3)
    found = judged(model)
    assert found.answer is Answer.UNKNOWN
    strengths = {row.name: str(row.init.strength) for row in inspect(model).files[0].tensors if row.init}
    assert strengths["0.0.weight"] == "unknown"


def test_norms_that_are_drawn_about_one() -> None:
    model = net()
    for layer in model[:3]:
        nn.init.normal_(layer[1].weight, 1, 0.02)
    assert judged(model).answer is Answer.NOT_TRAINED


def test_vectors_called_weight_are_no_norms() -> None:
    state = {f"{i}.linear.weight": torch.randn(48) for i in range(4)} | {"fc.weight": nn.Linear(64, 64).weight.detach()}
    assert judged(state).answer is Answer.NOT_TRAINED


def test_a_new_adapter() -> None:
    q = "layers.{}.q_proj.lora_{}.weight"
    a = {q.format(i, "A"): nn.Linear(64, 8, bias=False).weight.detach() for i in range(3)}
    assert judged(a | {q.format(i, "B"): torch.zeros(64, 8) for i in range(3)}).answer is Answer.NOT_TRAINED


@pytest.mark.parametrize("target", [{}, {"x": np.zeros((0, 4))}, {"x": np.full((9, 9), np.nan)}], ids=str)
def test_of_nothing_nothing_is_said(target: Any) -> None:
    assert judged(target) == TrainingJudgment()


def test_without_values_there_is_no_judgment() -> None:
    assert inspect(net(), stats=False).files[0].trained is None
