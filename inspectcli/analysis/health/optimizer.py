"""State of the optimizer in a checkpoint: its groups, and which of its tensors belong to which parameter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from inspectcli.display.text import setting
from inspectcli.formats.torch.optimizers import param_groups
from inspectcli.hparams.advice import usual_rate
from inspectcli.pickles.nodes import Dict
from inspectcli.tensors.model import Checkpoint, Kind

if TYPE_CHECKING:
    from inspectcli.analysis.facts import TensorFacts
    from inspectcli.analysis.health.base import RuleContext

#: Depth and length of containers that are searched for param_groups.
_DEPTH, _BREADTH = 6, 64
_STATE = re.compile(r"^(?P<owner>.*?)(?:^|\.)state\.(?P<index>\d+)\.(?P<figure>\w+)$")


class Group(NamedTuple):
    """One of `param_groups`: its learning rate, epsilon, and the indices of its parameters."""

    lr: float
    eps: float
    params: tuple[int, ...]


def groups(checkpoint: Checkpoint) -> tuple[Group, ...]:
    """Return all groups of all torch optimizers in the file."""
    return tuple(_groups(checkpoint.objects, _DEPTH))


def _groups(node: object, depth: int) -> Iterator[Group]:
    if depth == 0:
        return
    if isinstance(node, list | tuple):
        for item in node[:_BREADTH]:
            yield from _groups(item, depth - 1)
    elif isinstance(node, Dict):
        if isinstance(node.get("param_groups"), list):
            yield from filter(None, map(_group, islice(param_groups(node), _BREADTH)))
            return
        for value in node.values[:_BREADTH]:
            yield from _groups(value, depth - 1)


def _group(node: Mapping[str, object]) -> Group | None:
    lr, eps, params = node.get("lr"), node.get("eps"), node.get("params")
    if not isinstance(lr, int | float) or isinstance(lr, bool) or not isinstance(params, list):
        return None
    numbers = tuple(p for p in params if isinstance(p, int))
    return Group(float(lr), float(eps) if isinstance(eps, int | float) else 1e-8, numbers)


def learning_rate_remark(checkpoint: Checkpoint) -> str:
    """Return a remark on a learning rate above the usual range; empty if none is. A schedule may have lowered it.

    `; the learning rate is 1, typically 1e-5 to 0.01 for Adam`
    """
    kind = checkpoint.training.optimizer
    low, high = usual_rate(kind)
    for group in groups(checkpoint):
        if group.lr > high:
            usual = f"typically {setting(low)} to {setting(high)} for {kind or 'this optimizer'}"
            return f"; the learning rate is {setting(group.lr)}, {usual}"
    return ""


class State(NamedTuple):
    """Tensors that the optimizer keeps for one parameter, by name: `exp_avg`, `exp_avg_sq`, ..."""

    parameter: TensorFacts
    figures: Mapping[str, TensorFacts]
    group: Group | None


def states(subject: RuleContext) -> tuple[State, ...]:
    """Return the optimizer's tensors with the parameters they belong to; empty if that is not certain.

    torch numbers parameters in the order of the model, without buffers. This is believed only if every shape agrees.
    """
    found: dict[str, dict[int, dict[str, TensorFacts]]] = {}
    for tensor in subject.tensors:
        if tensor.ref.kind is Kind.OPTIMIZER and (m := _STATE.match(tensor.name)) and len(m["index"]) < 9:
            found.setdefault(m["owner"], {}).setdefault(int(m["index"]), {})[m["figure"]] = tensor
    if len(found) != 1:
        return ()
    (by_index,) = found.values()
    parameters = [tensor for tensor in subject.tensors if tensor.ref.kind is Kind.PARAMETER and not tensor.alias_of]
    of_index = {i: group for group in groups(subject.checkpoint) for i in group.params}
    made = []
    for index, figures in sorted(by_index.items()):
        if index >= len(parameters):
            return ()
        parameter = parameters[index]
        if any(f.ref.shape not in (parameter.ref.shape, (), (1,)) for f in figures.values()):
            return ()
        made.append(State(parameter, figures, of_index.get(index)))
    return tuple(made)
