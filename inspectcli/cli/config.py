"""`[tool.pinspect]` of the nearest pyproject.toml, or `.pinspect.toml`: what a project asks of its checkpoints."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from inspectcli.display.text import clipped
from inspectcli.errors import UsageError

if TYPE_CHECKING:
    from inspectcli.commands.check.policy import TensorIgnore

#: In each folder, the first that is there and speaks of pinspect.
NAMES = (".pinspect.toml", "pyproject.toml")
MAX_SIZE = 1 << 20


class Config(NamedTuple):
    """What a configuration file says; None where it says nothing. `path` is the file; empty without one."""

    path: str = ""
    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None
    fail_on: str | None = None
    max_size: str | int | None = None
    require_format: tuple[str, ...] | None = None
    baseline: str | None = None
    per_tensor_ignores: tuple[TensorIgnore, ...] | None = None


def find_config(path: str) -> Config:
    """The nearest configuration, from the folder of `path` upwards.

    Raises:
        UsageError: it is not TOML, or says something that is not understood.
    """
    for folder in _upwards(path):
        for name in NAMES:
            file = os.path.join(folder, name)
            if os.path.isfile(file):
                table = _table(file)
                if table is not None:
                    return read_config(file, table)
    return Config()


def _upwards(path: str) -> Iterator[str]:
    folder = os.path.abspath(path)
    if not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    yield folder
    while (parent := os.path.dirname(folder)) != folder:
        yield parent
        folder = parent


def _table(path: str) -> Mapping[str, Any] | None:
    """What the file says of pinspect; None if it does not speak of it."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        with open(path, "rb") as file:
            text = file.read(MAX_SIZE + 1)
        if len(text) > MAX_SIZE:
            raise UsageError(f"a configuration of more than {MAX_SIZE >> 20} MiB", "", path)
        whole = tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", "", path) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not valid TOML: {error}", "", path) from None
    tool = whole.get("tool", {})
    found = tool.get("pinspect") if isinstance(tool, dict) else None
    if found is None and os.path.basename(path) == ".pinspect.toml":
        found = whole
    if found is not None and not isinstance(found, dict):
        raise UsageError("tool.pinspect is not a table", "", path)
    return found


def read_config(path: str, table: Mapping[str, Any]) -> Config:
    """The table, checked.

    Raises:
        UsageError: an unknown key, with the nearest known one; or a value of the wrong kind.
    """
    from inspectcli.commands.check.policy import nearest

    made: dict[str, Any] = {}
    for key, value in table.items():
        if key not in KEYS:
            hint = nearest(key, KEYS) or f"known are {', '.join(KEYS)}"
            raise UsageError(f"there is no key {key!r}", hint, path)
        try:
            made[key.replace("-", "_")] = KEYS[key](value)
        except _WrongKindError as error:
            raise UsageError(f"{key} is {clipped(repr(value), 60)}, expected {error}", "", path) from None
    if made.get("baseline"):
        made["baseline"] = os.path.join(os.path.dirname(path), made["baseline"])
    return Config(path, **made)


class _WrongKindError(Exception):
    """A value is not of the kind that its text names."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _WrongKindError("a string")
    return value


def _texts(value: object) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise _WrongKindError("a list of strings")
    return tuple(values)


def _size(value: object) -> str | int:
    if isinstance(value, str) or type(value) is int:
        return value
    raise _WrongKindError('a number of bytes, or a string like "500MB"')


def _ignores(value: object) -> tuple[TensorIgnore, ...]:
    from inspectcli.commands.check.policy import TensorIgnore

    if not isinstance(value, dict):
        raise _WrongKindError("a table: code -> patterns")
    made = []
    for code, said in value.items():
        if not isinstance(said, dict):
            made.append(TensorIgnore(code, _texts(said)))
        elif said.keys() <= {"patterns", "reason"} and "patterns" in said:
            made.append(TensorIgnore(code, _texts(said["patterns"]), _text(said.get("reason", ""))))
        else:
            raise _WrongKindError('for each code patterns, or { patterns = [...], reason = "..." }')
    return tuple(made)


#: Key -> how its value is read.
KEYS: dict[str, Callable[[object], object]] = {
    "select": _texts,
    "ignore": _texts,
    "fail-on": _text,
    "max-size": _size,
    "require-format": _texts,
    "baseline": _text,
    "per-tensor-ignores": _ignores,
}
