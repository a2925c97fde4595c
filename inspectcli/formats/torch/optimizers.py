"""What `torch.optim` leaves in a checkpoint: groups of settings, from whose keys the optimizer's class can be told.

`optimizer.state_dict()` is {"state": {index: {...}}, "param_groups": [{"lr": ..., "params": [index, ...]}, ...]}:
https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.state_dict.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from inspectcli.pickles.nodes import Dict, dict_of


class Marks(NamedTuple):
    """Keys of a group, and of the state of a parameter, that together only this optimizer has."""

    group: frozenset[str]
    state: frozenset[str]
    name: str


def _marks(group: str, name: str, state: str = "") -> Marks:
    return Marks(frozenset(group.split()), frozenset(state.split()), name)


#: The first that fits. Written by torch 2.13 for 17 optimizers; the last ones are of other libraries.
MARKS = (
    _marks("ns_coefficients", "Muon"),
    _marks("betas momentum_decay", "NAdam"),
    _marks("betas", "Adamax", "exp_inf"),
    _marks("betas", "8-bit Adam family", "qmap1"),
    _marks("betas amsgrad", "Adam"),
    _marks("betas decoupled_weight_decay", "RAdam"),
    _marks("alpha centered", "RMSprop"),
    _marks("rho", "Adadelta"),
    _marks("lr_decay initial_accumulator_value", "Adagrad"),
    _marks("etas step_sizes", "Rprop"),
    _marks("lambd t0", "ASGD"),
    _marks("max_iter history_size", "LBFGS"),
    _marks("beta2_decay", "Adafactor"),
    _marks("scale_parameter relative_step", "Adafactor"),
    _marks("momentum nesterov dampening", "SGD"),
)


def param_groups(state: object) -> Iterator[Mapping[str, object]]:
    """The groups of an optimizer's state dict, of pickle nodes or of plain dicts; none of anything else."""
    top = _keyed(state)
    groups = top.get("param_groups") if top is not None else None
    for item in groups if isinstance(groups, list) else ():
        group = _keyed(item)
        if group is not None:
            yield {key: value for key, value in group.items() if isinstance(key, str)}


def _keyed(node: object) -> Dict | Mapping[str, object] | None:
    return node if isinstance(node, Mapping) else dict_of(node)


def optimizer_class(group: Mapping[str, object], state: Collection[str] = ()) -> str:
    """The class, as far as the keys of a group and of the state of its parameters tell; empty if unsure.

    Without the key `decoupled_weight_decay`, which older versions do not write, AdamW cannot be told from Adam.
    """
    name = next((m.name for m in MARKS if m.group <= group.keys() and m.state <= set(state)), "")
    return "AdamW" if name == "Adam" and group.get("decoupled_weight_decay") is True else name
