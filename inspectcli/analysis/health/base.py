"""What a rule may look at: the tensors of a file with all that is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.training import TrainingJudgment, judge
from inspectcli.encodings.files import object_beside
from inspectcli.tensors.model import Checkpoint, Kind
from inspectcli.tensors.names import pattern

if TYPE_CHECKING:
    from inspectcli.hparams.base import HParamRow
    from inspectcli.hparams.conflicts import Conflict


@dataclass(frozen=True)
class RuleContext:
    """A file as the rules see it.

    Attributes:
        checkpoint: what its reader understood.
        tensors: those of the file, in order.
        read: whether values were read.
        hyperparameters: what the file itself says of how it was trained.
        judgment: whether it was trained, if that is known already.
    """

    checkpoint: Checkpoint
    tensors: tuple[TensorFacts, ...]
    read: bool = True
    hyperparameters: tuple[HParamRow, ...] = ()
    judgment: TrainingJudgment | None = None

    @cached_property
    def unique(self) -> tuple[TensorFacts, ...]:
        """Tensors with figures, tied ones once."""
        return tuple(tensor for tensor in self.tensors if tensor.stats is not None and not tensor.alias_of)

    @cached_property
    def training(self) -> TrainingJudgment:
        """Whether the model was trained, and what tells: in a new one, what is as initialized is as it should be."""
        return self.judgment if self.judgment is not None else judge(self.checkpoint, self.tensors)

    @property
    def trained(self) -> bool:
        """Whether it certainly was: what cannot be told does not count."""
        return self.training.is_trained

    @cached_property
    def config(self) -> Mapping[str, object]:
        """What the config.json beside it says; empty without one."""
        return object_beside(self.checkpoint.location, "config.json")

    @cached_property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Where its hyperparameters, the configs beside it and the tensors contradict each other."""
        from inspectcli.hparams.summary import conflicts

        return conflicts(self.checkpoint, self.hyperparameters)

    @cached_property
    def last_weights(self) -> Mapping[Kind, TensorFacts]:
        """The last weight of each kind, in the order of the file."""
        return {tensor.ref.kind: tensor for tensor in self.unique if tensor.role.is_weight}

    @cached_property
    def by_name(self) -> Mapping[str, TensorFacts]:
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def modules(self) -> Mapping[str, Mapping[str, TensorFacts]]:
        """Layer -> last component of the name -> tensor."""
        found: dict[str, dict[str, TensorFacts]] = {}
        for tensor in self.tensors:
            found.setdefault(tensor.role.module, {})[tensor.role.leaf] = tensor
        return found

    @cached_property
    def sections(self) -> frozenset[str]:
        """First components of the names of all tensors of more than one value."""
        return frozenset(tensor.name.partition(".")[0] for tensor in self.tensors if tensor.ref.numel > 1)

    @cached_property
    def siblings(self) -> Mapping[str, tuple[TensorFacts, ...]]:
        """Pattern of the name -> the tensors of that name in all blocks, of one shape and element type."""
        found: dict[tuple[object, ...], list[TensorFacts]] = {}
        for tensor in self.unique:
            found.setdefault(
                (pattern(tensor.name), tensor.ref.shape, tensor.ref.dtype.name, tensor.role.kind), []
            ).append(tensor)
        shared = [tuple(group) for group in found.values()]
        return {tensor.name: group for group in shared for tensor in group}

    @cached_property
    def sibling_sizes(self) -> Mapping[str, tuple[float, ...]]:
        """Root mean squares of a tensor's siblings, itself included, the smallest first."""
        found: dict[str, tuple[float, ...]] = {}
        for name, group in self.siblings.items():
            if name not in found:
                found.update(
                    dict.fromkeys((tensor.name for tensor in group), tuple(sorted(tensor.rms for tensor in group)))
                )
        return found
