"""What every renderer shares: what it declares, the one escaper for untrusted text, lines of tables, and widths."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from inspectcli.display.blocks import Content, Report, Row, Table
from inspectcli.display.text import INVISIBLE


@dataclass(frozen=True, slots=True)
class Renderer:
    """A format for reports.

    Attributes:
        name: what `--format` takes.
        render: (report, width, color) -> text, or its pieces. What is heavy to import is imported in here.
        draws: which part of a report. A command offers the formats whose part its reports have; what is not of blocks
            is for programs, and gets every row.
        suffixes: of files that are meant to be in this format, if `-o` names one.
    """

    name: str
    render: Callable[[Report, int, bool], str | Iterable[str]]
    draws: Content = Content.BLOCKS
    suffixes: tuple[str, ...] = ()

    def pieces(self, report: Report, width: int = 80, color: bool = False) -> Iterator[str]:
        """The text in pieces, the last of which ends with a line end."""
        text = self.render(report, width, color)
        last = ""
        for piece in (text,) if isinstance(text, str) else text:
            yield piece
            last = piece or last
        if last and not last.endswith("\n"):
            yield "\n"


# -- untrusted text -------------------------------------------------------------------------------------

#: Categories that a reader cannot see or that change how the rest is shown: controls, formats (bidi, zero width),
#: surrogates, private use, unassigned, separators of lines and paragraphs, and blanks that are not the usual one.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_SAFE = re.compile(r"[ -~]*")
#: What the runner of a CI job obeys where a log shows it: `::add-mask::` at the start of a line (GitHub), where a word
#: of a wrapped sentence may come to stand; `##[group]` and `##vso[task.setvariable]` anywhere (GitHub, Azure).
_COMMAND = re.compile(r"(?<!\S):(?=:)|#(?=#\w*\[)")


def escape(text: str, limit: int = 200) -> str:
    r"""Text from a file as it may be shown: hidden characters as `\x1b`, `\u202e`; long ones cut in the middle.

    Nor is it a command of the CI job in whose log it may stand.

    >>> escape("a\x1b[2Jb"), escape("::stop-commands::x"), escape("std::vector")
    ('a\\x1b[2Jb', '\\x3a:stop-commands::x', 'std::vector')
    """
    if len(text) > 4 * limit:
        text = text[: 2 * limit] + text[-2 * limit :]
    if not _SAFE.fullmatch(text):
        text = "".join(_visible(c) for c in text)
    if "::" in text or "##" in text:
        text = _COMMAND.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return text if len(text) <= limit else shorten_middle(text, limit)


def inert(json: str) -> str:
    r"""JSON that no CI runner obeys: in its strings, the first `#` of `##[` and `##vso[` is `\u0023`."""
    return _COMMAND.sub(lambda found: "\\u0023" if found[0] == "#" else found[0], json) if "##" in json else json


def _visible(c: str) -> str:
    if c == " " or (unicodedata.category(c) not in _HIDDEN and not _INVISIBLE.match(c)):
        return c
    code = ord(c)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# -- tables ---------------------------------------------------------------------------------------------


def lines_of(table: Table) -> Iterator[tuple[Row, list[str]]]:
    """The lines that text shows, each with its raw texts: what lies below another row is set in."""
    for depth, row in table.lines():
        texts = [cell.text for cell in row.cells]
        texts[:1] = ["  " * depth + text for text in texts[:1]]
        yield row, texts


# -- widths ---------------------------------------------------------------------------------------------


def display_width(text: str) -> int:
    """Columns that a terminal needs; East Asian wide characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_char_width(c) for c in text)


def _char_width(c: str) -> int:
    if unicodedata.combining(c):
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def shorten_middle(text: str, width: int) -> str:
    """Both ends with one `…` between, in at most `width` columns."""
    if display_width(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    # The end of a tensor's name says what it is: it gets the larger part.
    tail_room = width // 2
    head_room = width - 1 - tail_room
    return _fit(text, head_room) + "…" + _fit(text[::-1], tail_room)[::-1]


def shorten_end(text: str, width: int) -> str:
    """The beginning and `…`, in at most `width` columns."""
    if display_width(text) <= width:
        return text
    return _fit(text, width - 1) + "…" if width > 0 else ""


def _fit(text: str, room: int) -> str:
    used = 0
    for i, c in enumerate(text):
        used += _char_width(c)
        if used > room:
            return text[:i]
    return text


def pad(text: str, width: int, right: bool = False) -> str:
    """Filled with blanks to `width` columns."""
    blanks = " " * (width - display_width(text))
    return blanks + text if right else text + blanks
