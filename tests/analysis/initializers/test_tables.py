"""Tables of which some rows are as torch drew them: never used, added by a resize, or all of them used."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from inspectcli.analysis.facts import InitMatch
from inspectcli.commands.inspect.run import inspect

USED = 40


def table(name: str) -> dict[str, torch.Tensor]:
    """A table for padding and 799 words beside trained layers; after training of 40 words."""
    torch.manual_seed(0)
    words = nn.Embedding(800, 32, padding_idx=0)
    optimizer = torch.optim.SparseAdam([words.weight], lr=0.2)
    words.sparse = True
    for _ in range(60):
        optimizer.zero_grad()
        (words(torch.randint(1, USED + 1, (64,))).sum(1) - 80).square().mean().backward()
        optimizer.step()
    made = {f"h.{i}.weight": torch.randn(72, 72).cumsum(0) / 40 for i in range(4)}
    return {f"{name}.weight": words.weight.detach(), **made}


def verdict(tensors: dict[str, torch.Tensor], name: str) -> InitMatch:
    (file,) = inspect(tensors).files
    assert [f for f in file.findings if str(f.severity) != "note"] == []
    found = next(row.init for row in file.tensors if row.name == name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["embed_tokens", "word_lookup", "user_factors"])
def test_rows_that_were_never_used(name: str) -> None:
    found = verdict(table(name), f"{name}.weight")
    assert found.strength == "moved"
    assert found.rows == pytest.approx(800 - USED - 1, abs=2)
    assert "of 800 rows, as drawn from " in found.sentence


def test_rows_of_a_layer_with_a_bias_are_not_looked_at() -> None:
    tensors = {**table("up"), "up.bias": torch.randn(800)}
    tensors["up.weight"][0] = 1
    assert verdict(tensors, "up.weight").rows is None


def test_a_draw_whose_rows_were_scaled_is_no_draw() -> None:
    tensors = table("up")
    tensors["up.weight"] = torch.randn(60, 32) * (0.5 + torch.rand(60, 1))
    assert verdict(tensors, "up.weight").strength == "moved"
