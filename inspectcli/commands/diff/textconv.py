"""Checkpoints as text, a line for each tensor, which git compares in place of the bytes.

Each line ends with a digest of the values, so that no change is hidden by rounded figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from inspectcli.commands.diff.metadata import facts
from inspectcli.commands.diff.run import opened
from inspectcli.display.text import number, shape
from inspectcli.errors import PinspectError
from inspectcli.measure.content import Digest
from inspectcli.measure.figures import Figures
from inspectcli.measure.scan import ScannedTensor, scan
from inspectcli.tensors.model import Checkpoint

#: Longest text file, in bytes, that is shown as it is: a Git LFS pointer, for example.
_MOST_TEXT = 4096


def text_lines(path: str) -> Iterator[str]:
    """Yield the lines for a file. Errors become lines too, since git shows nothing if the command fails."""
    try:
        yield from list(_lines(opened(path)))
    except PinspectError as error:
        yield from _plain_text(path) or (f"not compared as a checkpoint: {error.message}", _digest_of(path))


def _lines(checkpoint: Checkpoint) -> Iterator[str]:
    yield f"format: {checkpoint.format}"
    for key, value in sorted(facts(checkpoint).items()):
        yield f"{key}: {value}"
    yield ""
    for scanned in sorted(scan(checkpoint, (Figures, Digest)), key=lambda s: s.ref.name):
        yield _line(scanned)


def _line(scanned: ScannedTensor) -> str:
    ref, s = scanned.ref, scanned.stats
    name = f"{ref.name}  {shape(ref.shape)} {ref.dtype.name}"
    if scanned.problem:
        return f"{name}  unreadable: {scanned.problem}"
    if scanned.alias_of:
        return f"{name}  = {scanned.alias_of}"
    figures = ""
    if s is not None and s.finite:
        figures = f"  mean {number(s.mean)} std {number(s.std)} min {number(s.low)} max {number(s.high)}"
        figures += f" NaN {s.nan:,}" if s.nan else ""
    return f"{name}{figures}  #{scanned.get(Digest)}"


def _plain_text(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_TEXT + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    return text.splitlines() if len(data) <= _MOST_TEXT and "\0" not in text else []


def _digest_of(path: str) -> str:
    digest, size = hashlib.blake2b(digest_size=Digest.size), 0
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return f"{size:,} bytes #{digest.hexdigest()}"
