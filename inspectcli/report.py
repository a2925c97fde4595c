"""What a command returns and a renderer shows: blocks of plain data. Neither knows the other.

Texts are raw: names and metadata come from untrusted files, and every renderer escapes them on its way out
(`render/base.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Tone(Enum):
    """How a text should strike the eye; a renderer without colours ignores it."""

    PLAIN = "plain"
    STRONG = "strong"
    DIM = "dim"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    ACCENT = "accent"


@dataclass(frozen=True, slots=True)
class Cell:
    """A text with a tone."""

    text: str
    tone: Tone = Tone.PLAIN


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

    `keep` says what goes first when the room is short: the column with the lowest number is left out first.
    `flexible` columns are shortened in the middle before any column is left out below `min_width`.
    """

    title: str
    right: bool = False
    keep: int = 100
    flexible: bool = False
    min_width: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; every row has one cell per column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


Block = Heading | Facts | Note | Table


@dataclass(frozen=True, slots=True)
class Report:
    """What a command found.

    Attributes:
        command: its name.
        blocks: for people, top to bottom.
        document: for programs: the JSON object, numbers as numbers.
        records: for spreadsheets: one mapping per row, all with the same keys.
        exit_code: 0 looked and found nothing, 1 found something, 2 could not do it.
    """

    command: str
    blocks: tuple[Block, ...]
    document: Mapping[str, object]
    records: tuple[Mapping[str, object], ...] = field(default=())
    exit_code: int = 0
