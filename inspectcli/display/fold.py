"""Fold repeated blocks into one line, and never fold away a member that differs from its siblings.

`h.0.mlp.c_fc.weight` ... `h.11.mlp.c_fc.weight` become `h.{0..11}.mlp.c_fc.weight`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Protocol, TypeVar

from inspectcli.display.blocks import Field, Members, Row, Table
from inspectcli.display.text import number, runs
from inspectcli.tensors.arithmetic import median
from inspectcli.tensors.names import block_numbers, common_prefix


class Named(Protocol):
    """What can be folded: anything with a tensor's name."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)

#: Fewer blocks than this are shown one by one.
MIN_MEMBERS = 3

#: Where siblings differ much among themselves, a figure is far from them only beyond this many times their spread.
_SPREAD = 5.0


@dataclass(frozen=True, slots=True)
class Fold(Generic[T]):
    """One line of the table: one tensor, or the members of a family that look alike.

    Attributes:
        name: the tensor's name, or the family's pattern.
        members: in file order.
        odd: why a single tensor stands apart from its family; empty if it has no family.
        label: the name as it is shown; empty for the whole name.
    """

    name: str
    members: tuple[T, ...]
    odd: str = ""
    label: str = ""

    @property
    def first(self) -> T:
        return self.members[0]

    @property
    def text(self) -> str:
        """Its name as it is shown, and how many members it has: `h.{0..11}.mlp.weight  ×12`."""
        return (self.label or self.name) + (f"  ×{len(self.members)}" if len(self.members) > 1 else "")


def unfolded(rows: Iterable[T]) -> list[Fold[T]]:
    """One line for each tensor."""
    return [Fold(row.name, (row,)) for row in rows]


def fold_by(
    rows: Sequence[T],
    alike: Callable[[T], Hashable],
    alone: Callable[[T], bool],
    odd: Callable[[Sequence[T]], list[str]],
) -> list[Fold[T]]:
    """Lines in file order, a fold at its first member; odd members stand right behind their fold.

    Args:
        rows: what has names.
        alike: what members of one fold must share besides the name's pattern.
        alone: rows that are never folded.
        odd: for each sibling why it must be seen by itself, or an empty text.
    """
    families: dict[Hashable, list[_Member[T]]] = {}
    for position, row in enumerate(rows):
        parts, numbers = block_numbers(row.name)
        apart = (position,) if not numbers or alone(row) else ()
        families.setdefault((parts, alike(row), apart), []).append(_Member(position, numbers, parts, row))
    placed: list[tuple[tuple[int, int], Fold[T]]] = []
    for members in families.values():
        placed.extend(_family(members, odd))
    return [line for _, line in sorted(placed, key=lambda pair: pair[0])]


@dataclass(frozen=True, slots=True)
class _Member(Generic[T]):
    position: int
    numbers: tuple[int, ...]
    parts: tuple[str, ...]
    row: T


def _family(
    members: list[_Member[T]], odd: Callable[[Sequence[T]], list[str]]
) -> list[tuple[tuple[int, int], Fold[T]]]:
    """The lines of one family, each with its place: (position of the first member of its fold, order there)."""
    reasons = odd([m.row for m in members]) if len(members) >= MIN_MEMBERS else [""] * len(members)
    alike = [m for m, why in zip(members, reasons, strict=True) if not why]
    if len(alike) < MIN_MEMBERS:
        return [((m.position, 0), Fold(m.row.name, (m.row,), why)) for m, why in zip(members, reasons, strict=True)]
    first = alike[0].position
    lines = _named(alike)
    lines += [Fold(m.row.name, (m.row,), why) for m, why in zip(members, reasons, strict=True) if why]
    return [((first, order), line) for order, line in enumerate(lines)]


def _named(members: list[_Member[T]]) -> list[Fold[T]]:
    """One fold if the numbers form a grid; else one for each value of the outermost number that varies."""
    columns = [sorted(set(column)) for column in zip(*(m.numbers for m in members), strict=True)]
    if math.prod(len(c) for c in columns) == len(members):
        parts = members[0].parts
        name = parts[0] + "".join(_numbers(c) + part for c, part in zip(columns, parts[1:], strict=True))
        return [Fold(name, tuple(m.row for m in members))]
    outer = next((i for i, c in enumerate(columns) if len(c) > 1), None)
    if outer is None:  # several of one name
        return list(unfolded(m.row for m in members))
    made: list[Fold[T]] = []
    groups: dict[int, list[_Member[T]]] = {value: [] for value in columns[outer]}
    for member in members:
        groups[member.numbers[outer]].append(member)
    for group in groups.values():
        made.extend(_named(group) if len(group) >= MIN_MEMBERS else unfolded(m.row for m in group))
    return made


def _numbers(values: list[int]) -> str:
    """`7`, `{0..11}`, `{0..6,8..11}`."""
    return str(values[0]) if len(values) == 1 else f"{{{runs(values, ',')}}}"


# -- who differs ----------------------------------------------------------------------------------------


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
    times = number(round(math.exp(distance))) if distance < 700 else "over 1e304"  # e^710 is no float
    return f"{what} {times} times {'above' if value > siblings.middle else 'below'} its siblings"


# -- as a table -----------------------------------------------------------------------------------------


def fold_table(fields: Sequence[Field[Fold[T]]], lines: Sequence[Fold[T]]) -> Table:
    """A row for each line, its members below it. What all names begin with is said once, above the first column."""
    prefix = common_prefix([line.name for line in lines])
    titles = [f.column for f in fields]
    if prefix:
        titles[0] = replace(titles[0], title=f"{titles[0].label} below {prefix.rstrip('./')}")
    return Table(tuple(titles), tuple(fold_row(fields, line, len(prefix)) for line in lines))


def fold_row(fields: Sequence[Field[Fold[T]]], line: Fold[T], prefix: int = 0) -> Row:
    """The row of a line; if that stands for several members, with a row for each of them.

    Args:
        fields: what the row shows.
        line: what it is about.
        prefix: so many first characters of the names are not shown.
    """

    def alone(member: T) -> Row:
        return fold_row(fields, Fold(member.name, (member,)), prefix)

    if prefix:
        line = replace(line, label=line.name[prefix:])
    members = Members(line.members, alone) if len(line.members) > 1 else ()
    return Row(tuple(f.cell(line) for f in fields), members, folded=bool(members), key=line.name)
