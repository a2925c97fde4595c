"""Findings that were there before: a file that is kept with the code, so that only new ones count.

{"pinspect-baseline": 1, "findings": [{"path": "models/a.pt", "code": "PI101", "tensor": "w", "count": 1}, ...]}

A finding of a hyperparameter has its name too. Paths are relative to the file itself, so that it says the same on
every machine.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from inspectcli.analysis.findings import Finding
from inspectcli.errors import PinspectError, UsageError
from inspectcli.storage import locate
from inspectcli.storage.local import read_settings, write_settings
from inspectcli.storage.names import relative

VERSION = 1
MAX_SIZE = 64 << 20

_HINT = "name a file that `pinspect check --baseline` wrote"


class Key(NamedTuple):
    """What makes a finding the same tomorrow: its figures may change, these do not."""

    path: str
    code: str
    tensor: str | None
    name: str | None = None

    @staticmethod
    def of(finding: Finding, path: str) -> Key:
        return Key(path, finding.code, finding.tensor, finding.name)


def place(path: str, baseline: str) -> str:
    """The file's path as the baseline writes it: from its own folder, with slashes."""
    return relative(path, str(locate(baseline).absolute().parent))


def read(path: str) -> Counter[Key]:
    """How often each finding was there.

    Raises:
        PinspectError: the file is not a baseline.
    """
    try:
        text = read_settings(path, MAX_SIZE)
        if len(text) > MAX_SIZE:
            raise UsageError(f"a baseline of more than {MAX_SIZE >> 20} MiB", _HINT, path)
        return _parsed(json.loads(text))
    except OSError as error:
        raise UsageError(f"the baseline cannot be read: {error.strerror or error}", "", path) from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError("not a baseline of pinspect", _HINT, path) from None


def _parsed(table: Mapping[str, object]) -> Counter[Key]:
    if table["pinspect-baseline"] != VERSION:
        raise ValueError
    rows = table["findings"]
    if not isinstance(rows, list):
        raise ValueError
    known: Counter[Key] = Counter()
    for row in rows:
        key, n = Key(row["path"], row["code"], row["tensor"], row.get("name")), row["count"]
        if not (isinstance(key.path, str) and isinstance(key.code, str)):
            raise ValueError
        if not (isinstance(key.tensor, str | None) and isinstance(key.name, str | None)):
            raise ValueError
        if type(n) is not int or n < 0:
            raise ValueError
        known[key] += n
    return known


def split(
    findings: Sequence[Finding], where: str, known: Counter[Key], guarded: Callable[[str], bool] = lambda code: False
) -> tuple[tuple[Finding, ...], int]:
    """The new findings of the file at `where`, and how many are known; of the rules that are guarded all are new."""
    left = known.copy()
    new = []
    for finding in findings:
        key = Key.of(finding, where)
        if left[key] > 0 and not guarded(finding.code):
            left[key] -= 1
        else:
            new.append(finding)
    return tuple(new), len(findings) - len(new)


def write(path: str, found: Mapping[str, Sequence[Finding]], old: Counter[Key]) -> int:
    """Record findings by the path of their file; returns how many.

    Args:
        path: of the baseline.
        found: file -> its findings, for the files that were read now.
        old: what is kept of files that were not read now and are still there.

    Raises:
        PinspectError: the file cannot be written.
    """
    now = {place(file, path): findings for file, findings in found.items()}
    home = locate(path).absolute().parent
    counted = Counter({k: n for k, n in old.items() if k.path not in now and locate(str(home.join(k.path))).exists()})
    counted.update(Key.of(finding, where) for where, findings in now.items() for finding in findings)
    try:
        write_settings(path, _text(counted))
    except OSError as error:
        raise PinspectError(f"the baseline cannot be written: {error.strerror or error}", "", path) from None
    return sum(counted.values())


def _text(counted: Counter[Key]) -> str:
    """One finding a line, in order: changes of the file read well in a review."""
    rows = sorted(counted.items(), key=lambda item: [part or "" for part in item[0]])
    lines = (json.dumps({**_row(key), "count": n}) for key, n in rows)
    return f'{{"pinspect-baseline": {VERSION}, "findings": [' + _joined(lines) + "]}\n"


def _row(key: Key) -> dict[str, str | None]:
    row = key._asdict()
    return row if key.name is not None else {k: v for k, v in row.items() if k != "name"}


def _joined(lines: Iterable[str]) -> str:
    text = ",\n".join(lines)
    return f"\n{text}\n" if text else ""
