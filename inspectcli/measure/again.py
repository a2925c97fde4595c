"""The second pass: what is asked only when the figures of the first one are known, of the few tensors it concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from inspectcli.errors import PinspectError
from inspectcli.measure.base import Block, Measurement
from inspectcli.tensors.stored import is_reordered, values_held

if TYPE_CHECKING:
    from inspectcli.tensors.model import TensorRef
    from inspectcli.tensors.values import Array

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class SecondPass(Measurement[R_co]):
    """A measurement for which some tensors are read once more, a block at a time.

    Its class says of which tensors, and how much of them.
    """

    @property
    def has_enough(self) -> bool:
        """Whether further blocks would change nothing: the rest is not read."""
        return False


def again(ref: TensorRef, measurement: type[SecondPass[R]]) -> R | None:
    """Read a tensor once more; None if it cannot be read."""
    from inspectcli.tensors import values

    made = measurement.empty(ref)
    start, total = 0, values_held(ref)
    reordered = made.in_order and is_reordered(ref)
    try:
        for raw in values.in_order(ref) if reordered else values.blocks(ref):
            block = Block(raw.values, raw.dtype, start, min(raw.count, total - start))
            start += block.count
            made.update(block)
            if made.has_enough:
                break
    except PinspectError:
        return None
    return made.result()


def whole(ref: TensorRef, most: int) -> Array | None:
    """All values of a small tensor, as `TensorRef.numpy` gives them: for what needs rows and columns side by side.

    None if it has more than `most` elements, or cannot be read.
    """
    from inspectcli.tensors.values import read_array

    if ref.held > most or ref.numel > most:
        return None
    try:
        return read_array(ref)
    except (PinspectError, ValueError):
        return None
