"""What a command returns and a renderer shows: blocks of plain data. Neither knows the other.

Texts are raw: names and metadata come from untrusted files, and every renderer escapes them on its way out
(`render/base.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple


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
    """A text with a tone."""

    text: str
    tone: Tone = Tone.PLAIN


class Heading(NamedTuple):
    """What the blocks below are about; `aside` stands beside it, quieter."""

    text: str
    aside: str = ""


class Facts(NamedTuple):
    """Label and text, one a line."""

    rows: tuple[tuple[str, Cell], ...]


class Note(NamedTuple):
    """One sentence."""

    text: str
    tone: Tone = Tone.PLAIN


class Column(NamedTuple):
    """A column of a table.

    `keep` says what goes first when the room is short: the column with the lowest number is left out first.
    `flexible` columns are shortened before any column is left out, down to `min_width`: names in the middle, as both
    ends say much, sentences at the end.
    """

    title: str
    right: bool = False
    keep: int = 100
    flexible: bool = False
    min_width: int = 0
    sentence: bool = False


class Table(NamedTuple):
    """Rows under columns; every row has one cell per column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


Block = Heading | Facts | Note | Table


class Report(NamedTuple):
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
    records: tuple[Mapping[str, object], ...] = ()
    exit_code: int = 0
