"""Measurement: what is worked out of a tensor's values, a block at a time.

A new one is a class in a file of its own, and is named by the rule or the command that needs it:

    class Negatives(Measurement[int]):
        \"\"\"How many values are below 0.\"\"\"

        def __init__(self) -> None:
            self.count = 0

        @classmethod
        def empty(cls, ref: TensorRef) -> Negatives:
            return cls()

        def update(self, block: Block) -> None:
            self.count += int((block.numbers < 0).sum())

        def merge(self, other: Negatives) -> Negatives:
            self.count += other.count
            return self

        def result(self) -> int:
            return self.count

    @rule("X101", "all-negative", Severity.NOTE, needs=(Negatives,))

NumPy is imported by what computes, when it computes: a rule names its measurements in runs that read no values too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from inspectcli.tensors.dtypes import DType, NumberClass
from inspectcli.tensors.model import TRAINING_STATE, TensorRef

if TYPE_CHECKING:
    from inspectcli.measure.stats import Stats
    from inspectcli.tensors.values import Array

R_co = TypeVar("R_co", covariant=True)
M = TypeVar("M", bound="Measurement[Any]")


class Block:
    """Consecutive values of a tensor, and what several measurements ask of them, worked out once.

    Attributes:
        values: a one-dimensional native-endian array of `dtype.numpy` elements, as stored. Valid during one update.
        dtype: how to understand them.
        start: how many values of the tensor stand before these, in the order of reading.
        count: how many values these are.
    """

    def __init__(self, values: Array, dtype: DType, start: int, count: int) -> None:
        self.values = values
        self.dtype = dtype
        self.start = start
        self.count = count

    @cached_property
    def stats(self) -> Stats:
        """Their counts, bounds and moments."""
        from inspectcli.measure.stats import Stats

        return Stats.of(self.values, self.dtype, self.count)

    @cached_property
    def numbers(self) -> Array:
        """Their values, in the type that a user expects: bf16 and smaller floats as float32."""
        from inspectcli.tensors.values import natural

        return natural(self.values, self.dtype)[: self.count]


class Rows:
    """Small tensors of one type and shape, each a row of one array, and what several measurements ask of them.

    Attributes:
        values: a two-dimensional native-endian array of `dtype.numpy` elements, as stored.
        dtype: how to understand them.
    """

    def __init__(self, values: Array, dtype: DType) -> None:
        self.values = values
        self.dtype = dtype

    @cached_property
    def blocks(self) -> Sequence[Block]:
        """Each row by itself, for a measurement that knows no rows."""
        return [Block(row, self.dtype, 0, values_of(row, self.dtype)) for row in self.values]

    @cached_property
    def stats(self) -> Sequence[Stats]:
        """Counts, bounds and moments of each."""
        from inspectcli.measure.small import stats_of_rows

        return stats_of_rows(self.values, self.dtype)


def values_of(stored: Array, dtype: DType) -> int:
    """How many values these elements are: a complex one is stored as two."""
    return stored.nbytes * 8 // dtype.bits * dtype.per_element


class Measurement(ABC, Generic[R_co]):
    """A figure in the making: empty at first, updated by each block, merged with that of the values that follow.

    Instances travel between processes: they hold nothing but plain data and arrays.

    Attributes:
        in_order: whether it must see the values in C order of the shape. Otherwise they come in the order in which
            they are stored (`stored.reading_order`), which is quicker for transposed tensors.
        can_be_merged: whether the values of a large tensor may be measured in several parts.
    """

    in_order: ClassVar[bool] = False
    can_be_merged: ClassVar[bool] = True

    @classmethod
    def applies_to(cls, ref: TensorRef) -> bool:
        """Whether there is something to measure."""
        return is_averaged(ref)

    @classmethod
    @abstractmethod
    def empty(cls: type[M], ref: TensorRef) -> M:
        """Of no values yet, of this tensor."""

    @abstractmethod
    def update(self, block: Block) -> None:
        """Take in the next values of the tensor."""

    @abstractmethod
    def merge(self: M, other: M) -> M:
        """Of these values followed by the other's. May change and return `self`."""

    @abstractmethod
    def result(self) -> R_co:
        """What was found out, once all values were seen."""

    @classmethod
    def of_rows(cls, refs: Sequence[TensorRef], rows: Rows) -> Sequence[R_co]:
        """The results of small tensors, each a row; overridden by what can work them out in one go."""
        results = []
        for ref, block in zip(refs, rows.blocks, strict=True):
            made = cls.empty(ref)
            made.update(block)
            results.append(made.result())
        return results


def is_averaged(ref: TensorRef) -> bool:
    """Whether its numbers have a mean: not packed words, not bits without a meaning, not a meta tensor."""
    return ref.has_values and not ref.packed and ref.dtype.family is not NumberClass.OPAQUE


def is_float_weight(ref: TensorRef) -> bool:
    """Whether these are floats of two dimensions or more, which are not state of training."""
    return (
        is_averaged(ref)
        and ref.dtype.family is NumberClass.FLOAT
        and len(ref.shape) > 1
        and ref.kind not in TRAINING_STATE
    )
