"""JSON from untrusted bytes: bounded in depth and size, without duplicate names."""

from __future__ import annotations

import json
import re
from typing import Any

from inspectcli.errors import DamagedFileError, LimitError

MAX_DEPTH = 100
MAX_DIGITS = 20
#: Most values: an empty object takes two bytes of the text, and 64 of memory.
MAX_VALUES = 3_000_000

#: Strings, whole, and brackets. A string without an end reaches to the end of the text, so that no byte is scanned
#: twice.
_MANY_DIGITS = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS + 1))
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def parse(data: bytes, what: str, *, numbers: bool = False, duplicates: bool = False) -> Any:
    """Return the value of a JSON text.

    Args:
        data: UTF-8 text.
        what: the text's name in errors.
        numbers: accept NaN and Infinity, which Python's writer produces.
        duplicates: accept a name twice in one object; the last value wins.

    Raises:
        LimitError: it is nested more than MAX_DEPTH levels deep, or holds more than about MAX_VALUES values.
        DamagedFileError: it is not JSON (with the byte offset), repeats a name, or has a number of too many digits.
    """
    _check_depth(data, what)
    values = sum(map(data.count, (b"{", b"[", b",")))  # in strings too: a text of so many is no config either
    if values > MAX_VALUES:
        raise LimitError(f"{what} holds more than {MAX_VALUES:,} values")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{what} is not UTF-8: {error.reason} at byte {error.start:,}") from None

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) != len(items) and not duplicates:
            seen: set[str] = set()
            twice = next(name for name, _ in items if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise DamagedFileError(f"{what} names {twice[:100]!r} twice: which one is read depends on the reader")
        return made

    def constant(name: str) -> float:
        if numbers:
            return float(name)
        raise DamagedFileError(f"{what} holds {name}, which JSON does not know")

    try:
        integer = _integer if _MANY_DIGITS.search(data) else None  # json's own is four times as fast
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_int=integer)
    except json.JSONDecodeError as error:
        at = len(text[: error.pos].encode())
        raise DamagedFileError(f"{what} is not JSON: {error.msg} at byte {at:,}") from None


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise DamagedFileError(f"a number of {len(text):,} digits: expected at most {MAX_DIGITS}")
    return int(text)


def _check_depth(data: bytes, what: str) -> None:
    """Count brackets outside strings, before the parser recurses into them."""
    if max(data.count(b"{"), 1) + data.count(b"[") <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKENS.finditer(data):
        char = data[token.start()]
        if char in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise LimitError(f"{what} is nested more than {MAX_DEPTH} levels deep at byte {token.start():,}")
        elif char in b"]}":
            depth -= 1
