"""Damage that a transfer as text does to a file of bytes: changed line ends, replaced bytes."""

from __future__ import annotations

import codecs
from typing import NamedTuple

from inspectcli.storage.source import Source

#: Bytes at the beginning of a file that are looked at.
_LOOK = 1 << 20
#: Of bytes at random, one line feed of 256 has a carriage return before it: so many never all do.
_ENOUGH_FEEDS = 6
#: What a decoder writes in place of bytes that are no UTF-8, itself in UTF-8.
_REPLACEMENT = b"\xef\xbf\xbd"
_ENOUGH_REPLACED = 4

_AS_BYTES = 'transfer it again as bytes: `binary` in FTP, `*.pt binary` in .gitattributes, "rb" and "wb" in Python'


class TextDamage(NamedTuple):
    """What was done to the bytes, and how to get the file whole."""

    what: str
    cure: str


def text_damage(source: Source) -> TextDamage | None:
    """Return how a file that cannot be read was changed by a transfer as text; None if nothing points to that."""
    data = source.read_at(0, min(source.size, _LOOK))
    if b"\0" not in data:  # it is text
        return None
    feeds = data.count(b"\n")
    if (feeds >= _ENOUGH_FEEDS and data.count(b"\r\n") == feeds) or data.startswith(b"\x89HDF\r\r\n"):
        return TextDamage(
            "every line feed has a carriage return before it, as after a transfer as text",
            f"{_AS_BYTES}; or take them out: `sed 's/\\r$//' FILE > NEW`",
        )
    if data.startswith(b"\x89HDF\n\x1a\n"):
        return TextDamage("the carriage returns were taken out of the file, as by a transfer as text", _AS_BYTES)
    if data.count(_REPLACEMENT) >= _ENOUGH_REPLACED and _is_utf8(data):
        return TextDamage(
            "bytes that are no text were replaced by U+FFFD: the file was read and written as text, and its values "
            "are lost",
            f"the original is needed; {_AS_BYTES}",
        )
    return None


def _is_utf8(data: bytes) -> bool:
    """Return whether bytes, of which the last character may be cut, are UTF-8: those of a tensor never are."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True
