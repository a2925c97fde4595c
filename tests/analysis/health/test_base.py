"""What rules may look at: siblings, tied tensors, and whether the file was trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from inspectcli.analysis.health.base import RuleContext, TensorFacts
from inspectcli.analysis.roles import Roles
from inspectcli.formats.live import from_live
from inspectcli.measure.plan import FIGURES
from inspectcli.measure.scan import scan


def subject(target: Any, read: bool = True) -> RuleContext:
    checkpoint = from_live(target)
    roles = Roles(checkpoint)
    tensors = (
        TensorFacts(s.ref, roles.of(s.ref), s.alias_of, s.stats, s.sampled)
        for s in scan(checkpoint, FIGURES if read else ())
    )
    return RuleContext(checkpoint, tuple(tensors), read)


def test_siblings_are_of_one_name_shape_and_type() -> None:
    x = np.ones((4, 4), np.float32)
    made = subject(
        {f"h.{i}.fc.weight": x + i for i in (0, 1, 10)}
        | {"h.2.fc.weight": np.ones((4, 5), np.float32), "h.3.fc.weight": x.astype(np.float64), "h.0.out.weight": x + 3}
        | {f"layer{i}.0.conv.weight": x + i for i in (1, 2)}
    )
    siblings = {name: [tensor.name for tensor in group] for name, group in made.siblings.items()}
    assert siblings["h.0.fc.weight"] == ["h.0.fc.weight", "h.1.fc.weight", "h.10.fc.weight"]
    assert siblings["h.2.fc.weight"] == ["h.2.fc.weight"]
    assert siblings["h.3.fc.weight"] == ["h.3.fc.weight"]
    assert siblings["layer1.0.conv.weight"] == ["layer1.0.conv.weight"]


def test_tied_tensors_are_looked_at_once() -> None:
    x = torch.randn(4, 4)
    made = subject({"wte.weight": x, "lm_head.weight": x, "fc.weight": x.clone()})
    assert [tensor.name for tensor in made.unique] == ["wte.weight", "fc.weight"]
    assert made.by_name["lm_head.weight"].alias_of == "wte.weight"


def test_the_root_mean_square_is_that_of_the_finite_values() -> None:
    x = np.array([3.0, np.nan, 4.0, np.inf], np.float32)
    assert subject({"w": x}).tensors[0].rms == pytest.approx(np.sqrt(12.5))
    assert subject({"w": np.full(3, np.nan)}).tensors[0].rms == 0
    assert subject({"w": np.zeros(0)}).tensors[0].rms == 0
    assert subject({"w": x}, read=False).tensors[0].rms == 0


def test_nothing_is_trained_of_which_nothing_is_known() -> None:
    assert not subject({"w": np.ones((9, 9))}).trained
    assert not subject({}).trained
