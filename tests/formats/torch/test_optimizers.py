"""The class of an optimizer from what torch saves of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inspectcli.commands.hparams.run import read_hparams
from inspectcli.formats import open_checkpoint
from inspectcli.formats.torch.optimizers import optimizer_class, param_groups
from inspectcli.pickles.nodes import Dict

CLASSES = [
    cls
    for cls in vars(torch.optim).values()
    if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer
]
SPARSE = (torch.optim.SparseAdam,)


def trained(cls: type[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """After one step on a matrix: what every class of torch accepts."""
    weight = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = cls([weight], lr=0.01)  # type: ignore[call-arg]
    (weight**2).sum().backward()
    if cls in SPARSE:
        weight.grad = weight.grad.to_sparse()
    optimizer.step(lambda: (weight**2).sum()) if cls is torch.optim.LBFGS else optimizer.step()
    return optimizer


@pytest.mark.parametrize("cls", [c for c in CLASSES if c not in SPARSE], ids=lambda c: c.__name__)
def test_a_class_of_torch_is_told_by_its_keys(cls: type[torch.optim.Optimizer], tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    torch.save({"model": {"w": torch.ones(3, 2)}, "optimizer": trained(cls).state_dict()}, path)
    assert open_checkpoint(path).training.optimizer == cls.__name__
    assert {row.value for row in read_hparams(str(path)).rows if row.name == "optimizer"} == {cls.__name__}


def test_sparse_adam_has_no_keys_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    torch.save({"model": {"w": torch.ones(3, 2)}, "optimizer": trained(torch.optim.SparseAdam).state_dict()}, path)
    assert open_checkpoint(path).training.optimizer == "Adam-like"


def test_without_the_key_of_adamw_it_is_adam_to_a_checkpoint_and_open_to_hparams(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    state = trained(torch.optim.AdamW).state_dict()
    del state["param_groups"][0]["decoupled_weight_decay"]
    torch.save({"model": {"w": torch.ones(3, 2)}, "optimizer": state}, path)
    assert open_checkpoint(path).training.optimizer == "Adam"
    assert {row.value for row in read_hparams(str(path)).rows if row.name == "optimizer"} == {"Adam or AdamW"}


@pytest.mark.parametrize("value", [None, [], {}, {"param_groups": None}, {"param_groups": [1, None]}, Dict()])
def test_what_is_no_state_dict_has_no_groups(value: object) -> None:
    assert list(param_groups(value)) == []


def test_groups_of_nodes_and_of_plain_dicts() -> None:
    node, group = Dict(), Dict()
    group.set("lr", 0.1)
    group.set(7, "no name")
    node.set("param_groups", [group])
    assert list(param_groups(node)) == [{"lr": 0.1}] == list(param_groups({"param_groups": [{"lr": 0.1}]}))
    assert optimizer_class({"lr": 0.1}) == ""
