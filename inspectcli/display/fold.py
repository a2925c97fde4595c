"""Fold repeated blocks into one row, and never fold away a member that differs from its siblings.

`h.0.mlp.c_fc.weight` ... `h.11.mlp.c_fc.weight` become `h.{0..11}.mlp.c_fc.weight`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from inspectcli.commands.inspect.result import TensorRow
from inspectcli.tensors.arithmetic import median


class Named(Protocol):
    """What can be folded: anything with a tensor's name."""

    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=Named)

#: Fewer blocks than this are shown one by one.
MIN_MEMBERS = 3

#: A number that counts blocks: a whole part of the name, the end of a part that is not the last one, or what stands
#: behind the word in Keras's `block_1_expand` and `conv2_block1_1_conv`.
_INDEX = re.compile(r"(?<![^./])\d+(?=[./]|$)|(?<=[A-Za-z_])\d+(?=[./])|(?:(?<=block)|(?<=block_))\d+(?=_)")

#: A figure may lie this many times above or below its siblings' median before the member is shown apart,
#: and more where the siblings themselves differ much.
STD_RATIO = 3.0
MAX_RATIO = 6.0
_SPREAD = 5.0


@dataclass(frozen=True, slots=True)
class Fold(Generic[Row]):
    """One line of the table: one tensor, or the members of a family that look alike.

    Attributes:
        name: the tensor's name, or the family's pattern.
        members: in file order.
        odd: why a single tensor stands apart from its family; empty if it has no family.
    """

    name: str
    members: tuple[Row, ...]
    odd: str = ""

    @property
    def first(self) -> Row:
        return self.members[0]


def unfolded(rows: Iterable[Row]) -> list[Fold[Row]]:
    """One line for each tensor."""
    return [Fold(row.name, (row,)) for row in rows]


def fold(rows: Sequence[TensorRow]) -> list[Fold[TensorRow]]:
    """Lines of a checkpoint's tensors: members have one shape, type and kind, and figures like their siblings'."""
    return fold_by(rows, lambda row: (row.shape, row.dtype, row.kind, row.note), _alone, odd_ones)


def _alone(row: TensorRow) -> bool:
    return bool(row.alias_of or row.problem)


def fold_by(
    rows: Sequence[Row],
    alike: Callable[[Row], Hashable],
    alone: Callable[[Row], bool],
    odd: Callable[[Sequence[Row]], list[str]],
) -> list[Fold[Row]]:
    """Lines in file order, a fold at its first member; odd members stand right behind their fold.

    Args:
        rows: what has names.
        alike: what members of one fold must share besides the name's pattern.
        alone: rows that are never folded.
        odd: for each sibling why it must be seen by itself, or an empty text.
    """
    families: dict[Hashable, list[_Member[Row]]] = {}
    for position, row in enumerate(rows):
        parts = tuple(_INDEX.split(row.name))
        numbers = tuple(int(n) for n in _INDEX.findall(row.name))
        apart = (position,) if not numbers or alone(row) else ()
        families.setdefault((parts, alike(row), apart), []).append(_Member(position, numbers, parts, row))
    placed: list[tuple[tuple[int, int], Fold[Row]]] = []
    for members in families.values():
        placed.extend(_family(members, odd))
    return [line for _, line in sorted(placed, key=lambda pair: pair[0])]


@dataclass(frozen=True, slots=True)
class _Member(Generic[Row]):
    position: int
    numbers: tuple[int, ...]
    parts: tuple[str, ...]
    row: Row


def _family(
    members: list[_Member[Row]], odd: Callable[[Sequence[Row]], list[str]]
) -> list[tuple[tuple[int, int], Fold[Row]]]:
    """The lines of one family, each with its place: (position of the first member of its fold, order there)."""
    reasons = odd([m.row for m in members]) if len(members) >= MIN_MEMBERS else [""] * len(members)
    alike = [m for m, why in zip(members, reasons, strict=True) if not why]
    if len(alike) < MIN_MEMBERS:
        return [((m.position, 0), Fold(m.row.name, (m.row,), why)) for m, why in zip(members, reasons, strict=True)]
    first = alike[0].position
    lines = _named(alike)
    lines += [Fold(m.row.name, (m.row,), why) for m, why in zip(members, reasons, strict=True) if why]
    return [((first, order), line) for order, line in enumerate(lines)]


def _named(members: list[_Member[Row]]) -> list[Fold[Row]]:
    """One fold if the numbers form a grid; else one for each value of the outermost number that varies."""
    columns = [sorted(set(column)) for column in zip(*(m.numbers for m in members), strict=True)]
    if math.prod(len(c) for c in columns) == len(members):
        parts = members[0].parts
        name = parts[0] + "".join(_numbers(c) + part for c, part in zip(columns, parts[1:], strict=True))
        return [Fold(name, tuple(m.row for m in members))]
    outer = next(i for i, c in enumerate(columns) if len(c) > 1)
    made: list[Fold[Row]] = []
    groups: dict[int, list[_Member[Row]]] = {value: [] for value in columns[outer]}
    for member in members:
        groups[member.numbers[outer]].append(member)
    for group in groups.values():
        made.extend(_named(group) if len(group) >= MIN_MEMBERS else unfolded(m.row for m in group))
    return made


def _numbers(values: list[int]) -> str:
    """`7`, `{0..11}`, `{0..6,8..11}`."""
    if len(values) == 1:
        return str(values[0])
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return "{" + ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}..{r[-1]}" for r in runs) + "}"


# -- who differs ----------------------------------------------------------------------------------------


def odd_ones(rows: Sequence[TensorRow]) -> list[str]:
    """For each sibling why it must be seen by itself, or an empty text."""
    still = [_as_drawn(row) for row in rows]
    apart = 2 * sum(still) < len(rows)
    reasons = [
        _odd_alone(row) or ("as initialized" if alike and apart else "") for row, alike in zip(rows, still, strict=True)
    ]
    sound = [row for row, why in zip(rows, reasons, strict=True) if not why]
    stds = usual([row.stats.std for row in sound if row.stats and row.stats.std is not None])
    peaks = usual([float(row.stats.abs_max) for row in sound if row.stats and row.stats.abs_max is not None])
    for i, row in enumerate(rows):
        if reasons[i] or row.stats is None:
            continue
        reasons[i] = far("std", row.stats.std, stds, STD_RATIO) or far(
            "largest |value|", row.stats.abs_max, peaks, MAX_RATIO
        )
    return reasons


def _odd_alone(row: TensorRow) -> str:
    stats = row.stats
    if stats is None:
        return ""
    if stats.nonfinite:
        return "NaN or Inf"
    return ""


def _as_drawn(row: TensorRow) -> bool:
    """Whether its drawn numbers are those of an initializer."""
    return row.init is not None and row.init.strength == "untouched" and row.init.family != "constant"


class Usual(NamedTuple):
    """Where the figures of siblings lie: worked out once, however many there are.

    Attributes:
        middle: their median.
        center: its logarithm; 0 if it is 0.
        spread: the median distance of the logarithms from it.
    """

    middle: float
    center: float
    spread: float


def usual(siblings: Sequence[float]) -> Usual | None:
    """None of too few to say what is usual."""
    if len(siblings) < MIN_MEMBERS:
        return None
    middle = median(siblings)
    if not middle:
        return Usual(middle, 0.0, 0.0)
    center = math.log(middle)
    return Usual(middle, center, median([abs(math.log(s) - center) for s in siblings if s > 0]))


def far(what: str, value: float | int | None, siblings: Usual | None, ratio: float) -> str:
    """Whether a figure is far from the median of the siblings, measured by how much they differ themselves."""
    if value is None or siblings is None:
        return ""
    if not siblings.middle or not value:
        alike = bool(siblings.middle) == bool(value)
        return "" if alike else f"{what} {'is' if value else 'is not'} above 0, unlike its siblings"
    distance = abs(math.log(value) - siblings.center)
    if distance <= max(math.log(ratio), _SPREAD * siblings.spread):
        return ""
    times = math.exp(distance)
    return f"{what} {times:,.0f} times {'above' if value > siblings.middle else 'below'} its siblings"
