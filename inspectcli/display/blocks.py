"""What a command returns and a renderer shows: blocks of plain data. Neither knows the other.

Texts are raw: names and metadata come from untrusted files, and every renderer escapes them on its way out
(`render/base.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NamedTuple, TypeVar, overload

from inspectcli.words import Word

T = TypeVar("T")


class Tone(Enum):
    """How a text should strike the eye; a renderer without colors ignores it."""

    PLAIN = "plain"
    STRONG = "strong"
    DIM = "dim"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    ACCENT = "accent"


class Cell(NamedTuple):
    """One text of a report, and what it says to a program. A tuple, since a large report has millions.

    Attributes:
        text: as people read it.
        tone: how it should strike the eye.
        value: the number behind the text, or the full text where it is shortened: what rows are sorted by. None where
            there is none, or where the text says it all. Of a range, as a fold has, the larger end; of a smallest value
            the smaller one.
        link: the key of the row that it speaks of; empty for none.
    """

    text: str
    tone: Tone = Tone.PLAIN
    value: float | int | str | None = None
    link: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """What the blocks below are about; `aside` stands beside it, quieter."""

    text: str
    aside: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Label and text, one a line."""

    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, slots=True)
class Note:
    """One sentence."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    `keep` says what goes first when the space is short: the column with the lowest number is left out first.
    `flexible` columns are shortened before any column is left out, down to `min_width`: names in the middle, as both
    ends say much, sentences at the end.

    Attributes:
        key: what programs call it, once in a table; the name of the field in JSON where it has one.
        title: what people read above it; the key if it is None.
    """

    key: str
    title: str | None = None
    right: bool = False
    keep: int = 100
    flexible: bool = False
    min_width: int = 0
    sentence: bool = False

    @property
    def label(self) -> str:
        return self.key if self.title is None else self.title


class Row(NamedTuple):
    """A line of a table.

    Attributes:
        cells: one for each column.
        children: the rows below it: what a module holds, or the members that a folded line stands for.
        folded: whether the row stands for its children: text shows it alone, a page may open it.
        key: what the links of cells call it; empty if it has no name.
    """

    cells: tuple[Cell, ...]
    children: Sequence[Row] = ()
    folded: bool = False
    key: str = ""


class Members(Sequence[Row], Generic[T]):
    """Rows that are built when they are looked at: few folds are ever opened.

    Args:
        items: what the rows are about.
        build: the row of one item.
    """

    __slots__ = ("_build", "_items")

    def __init__(self, items: Sequence[T], build: Callable[[T], Row]) -> None:
        self._items = items
        self._build = build

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return Members(self._items[index], self._build)
        return self._build(self._items[index])


class Later(Sequence[T]):
    """What is made when somebody looks at it: a report for programs needs no blocks, one for people no records."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], Iterable[T]]) -> None:
        self._make = make
        self._made: tuple[T, ...] | None = None

    def _whole(self) -> tuple[T, ...]:
        if self._made is None:
            self._made = tuple(self._make())
        return self._made

    def __len__(self) -> int:
        return len(self._whole())

    def __iter__(self) -> Iterator[T]:
        """One by one, as they are made: nothing is kept."""
        return iter(self._make() if self._made is None else self._made)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return self._whole()[index]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def lines(self) -> Iterator[tuple[int, Row]]:
        """(depth, row) of the lines that text shows, top to bottom: rows, and what is below those that are open."""
        waiting = [(0, row) for row in reversed(self.rows)]
        while waiting:
            depth, row = waiting.pop()
            yield depth, row
            if not row.folded:
                waiting.extend((depth + 1, child) for child in reversed(row.children))


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """A column, and how its cell of one item is made."""

    column: Column
    cell: Callable[[T], Cell]


def table_of(fields: Sequence[Field[T]], items: Iterable[T], key: Callable[[T], str] = lambda item: "") -> Table:
    """A row for each item, with a cell for each field. `key` gives what links call the row."""
    rows = (Row(tuple(f.cell(item) for f in fields), key=key(item)) for item in items)
    return Table(tuple(f.column for f in fields), tuple(rows))


Block = Heading | Facts | Note | Table


class Content(Word):
    """What a report may have, and a renderer draws."""

    BLOCKS = "blocks"
    DOCUMENT = "document"
    RECORDS = "records"
    FINDINGS = "findings"


class Report(NamedTuple):
    """What a command found.

    Attributes:
        command: its name.
        blocks: for people, top to bottom.
        document: for programs: the JSON object, numbers as numbers. Findings are in it, if the command has any.
        records: for spreadsheets: one mapping per row, all with the same keys.
        exit_code: 0 looked and found nothing, 1 found something, 2 could not do it.
    """

    command: str
    blocks: Sequence[Block]
    document: Mapping[str, object]
    records: Sequence[Mapping[str, object]] = ()
    exit_code: int = 0
