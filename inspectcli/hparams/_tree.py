"""From a config, however deep, to rows: each leaf with the place it stands at and the scope that its parents give."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from inspectcli.hparams.base import HParamRow, Origin
from inspectcli.hparams.names import hparam, scope_of

#: No config is larger; beyond it lies data.
MAX_LEAVES = 20_000
MAX_DEPTH = 64
#: Most letters of a key in the places of what lies below it, and of a place: each leaf has one of its own.
MAX_KEY = 200
MAX_PLACE = 1000


class Attributes(dict[str, object]):
    """The attributes of a pickled object: their place ends in `__dict__`."""


class Leaf(NamedTuple):
    """A value that is no dict.

    Attributes:
        locator: where the dict stands that holds it.
        key: its key there.
        value: a scalar, or a list without dicts.
        parents: the keys of the dicts around it, outermost first.
    """

    locator: str
    key: str
    value: object
    parents: tuple[str, ...]


def leaves(tree: object, locator: str = "", parents: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Every leaf, in the order of the file; empty dicts and lists are leaves too."""
    left = MAX_LEAVES
    for leaf in _walk(tree, locator, parents, 0):
        yield leaf
        left -= 1
        if not left:
            return


def _walk(node: object, locator: str, parents: tuple[str, ...], depth: int) -> Iterator[Leaf]:
    if depth > MAX_DEPTH:
        return
    if isinstance(node, Attributes):
        locator = f"{locator}.__dict__" if locator else "__dict__"
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _entry(str(key), value, locator, parents, depth)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            if _nested(value):
                yield from _walk(value, f"{locator}[{index}]", parents, depth + 1)
            else:
                yield Leaf(locator, str(index), value, parents)


def _entry(key: str, value: object, locator: str, parents: tuple[str, ...], depth: int) -> Iterator[Leaf]:
    if _nested(value):
        short = _short(key, MAX_KEY)
        place = _short(f"{locator}.{short}" if locator else short, MAX_PLACE)
        yield from _walk(value, place, (*parents, short), depth + 1)
    else:
        yield Leaf(locator, key, value, parents)


def _short(text: str, most: int) -> str:
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def _nested(value: object) -> bool:
    """A dict with something in it, or a list that holds such."""
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, list | tuple) and any(_nested(v) for v in value)


def rows(
    tree: object,
    file: str,
    tool: str,
    locator: str = "",
    scope: str = "config",
    decode: Callable[[object], object] | None = None,
) -> list[HParamRow]:
    """A row for each leaf.

    Args:
        tree: dicts, lists and scalars.
        file, tool: for the origin.
        locator: where the tree stands in the file.
        scope: what keys describe whose parents say nothing.
        decode: for stores that know text only.
    """
    made = []
    for leaf in leaves(tree, locator):
        value = leaf.value if decode is None else decode(leaf.value)
        origin = Origin(file, leaf.locator, tool)
        stored = leaf.value if value is not leaf.value and isinstance(leaf.value, str) else ""
        made.append(flag_unresolved(hparam(leaf.key, value, origin, scope_of(leaf.parents, scope), "", stored)))
    return made


def dotted(made: list[HParamRow], locator: str) -> list[HParamRow]:
    """Rows of a text, such as Python source, that has no places but names: the key is the whole path in it."""
    return [
        replace(
            row, raw_key=f"{row.source.locator}.{row.raw_key}".lstrip("."), source=replace(row.source, locator=locator)
        )
        for row in made
    ]


#: Values that stand for another one.
_STAND_INS = {"auto": "filled in at run time", "???": "mandatory, and missing"}


def flag_unresolved(row: HParamRow) -> HParamRow:
    """The row; if its value stands for another one that is not in the file, it says so."""
    if not isinstance(row.value, str):
        return row
    why = _STAND_INS.get(row.value) or ("refers to something that is not in the file" if "${" in row.value else "")
    return replace(row, note=f"unresolved: {why}", unresolved=True) if why else row


_NUMBER = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}


def decode_text(text: object) -> object:
    """What `str()` made of it: `'0.001'` -> 0.001, `'None'` -> None, `'[64, 32]'` -> [64, 32]; else the text."""
    if not isinstance(text, str) or len(text) > 10_000:
        return text
    bare = text.strip()
    if bare in _WORDS:
        return _WORDS[bare]
    if _NUMBER.fullmatch(bare):
        return _number(bare)
    if not bare.startswith(("[", "{", "(", "'", '"')):
        return text
    try:
        value = ast.literal_eval(bare)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, int | float | str | list | dict | None) else text


def _number(text: str) -> int | float | str:
    """As Python reads it: no leading zeros, which a version or a number of a run may have."""
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        return text
    try:
        return int(text) if digits.replace("_", "").isdigit() else float(text)
    except ValueError:
        return text
