"""Gin's configs: `function.parameter = value` a line, as `config_str()` and `operative_config_str()` write them.

https://github.com/google/gin-config/blob/master/gin/config_parser.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from inspectcli.encodings.files import read_file
from inspectcli.hparams._config import MAX_CONFIG
from inspectcli.hparams._tree import MAX_LEAVES, decode_text
from inspectcli.hparams.base import HParamRow, HParamSource, Origin, Selection, Store
from inspectcli.hparams.names import hparam, scope_of, snake
from inspectcli.storage.location import Location

TOOL = "gin"

#: `scope/module.function.parameter = value`, or a macro: `NAME = value`.
_BINDING = re.compile(r"(?:([\w./]+)[./])?(\w+)\s*=\s*(.+)", re.DOTALL)
_HEADER = re.compile(rb"^# (Parameters for [\w./]+:|Macros:)", re.MULTILINE)


def sniff(location: Location, head: bytes) -> bool:
    return b"\0" not in head[:4096] and (location.suffix == ".gin" or _HEADER.search(head) is not None)


def read(location: Location, head: bytes, choice: Selection) -> Store:
    text = read_file(location, MAX_CONFIG).decode("utf-8", "replace")
    bindings = [match for line in _statements(text) if (match := _BINDING.fullmatch(line))][:MAX_LEAVES]
    macros = {match[2]: match[3] for match in bindings if match[1] is None}
    return Store(tuple(_row(match, macros, str(location)) for match in bindings))


def _statements(text: str) -> Iterator[str]:
    """Lines, joined where brackets are open or a backslash ends them; without comments."""
    held, depth = "", 0
    for line in text.splitlines():
        part = re.sub(r"""^((?:[^#'"]|'[^']*'|"[^"]*")*)#.*$""", r"\1", line[:10_000]).strip()
        if not part:
            continue
        depth += sum(part.count(c) for c in "([{") - sum(part.count(c) for c in ")]}")
        held = f"{held} {part.removesuffix(chr(92))}".strip()
        if depth <= 0 and not part.endswith("\\"):
            yield held
            held, depth = "", 0
    if held:
        yield held


def _row(match: re.Match[str], macros: dict[str, str], file: str) -> HParamRow:
    owner, key, text = match[1] or "", match[2], match[3].strip()
    whole = text
    if text.startswith("%"):  # a macro's value
        text = macros.get(text[1:], text)
    value = decode_text(text)
    if isinstance(value, str) and value.startswith("@"):  # a configurable: `@tf.keras.optimizers.Adam()`
        value = value[1:].partition("(")[0].rpartition("/")[2]
    elif isinstance(value, str) and value.startswith("%"):
        value = None
    parents = [snake(part) for part in re.split(r"[./]", owner) if part]
    stored = whole if value != whole else ""
    return hparam(key, value, Origin(file, owner, TOOL), scope_of(parents, "train"), "", stored)


SOURCE = HParamSource(TOOL, sniff, read)
