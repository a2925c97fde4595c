"""`[tool.pinspect]` of the nearest pyproject.toml, or `.pinspect.toml`: what a project asks of its checkpoints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from inspectcli.cli.options import FILE, KEYS, WrongKindError
from inspectcli.display.text import clipped
from inspectcli.errors import UsageError

#: In each folder, the first that is there and speaks of pinspect.
NAMES = (".pinspect.toml", "pyproject.toml")
MAX_SIZE = 1 << 20


class Config(NamedTuple):
    """What a configuration file says: name of a setting -> value. `path` is the file; empty without one."""

    path: str = ""
    settings: Mapping[str, object] = {}


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

    made: dict[str, object] = {}
    for key, value in table.items():
        setting = KEYS.get(key)
        if setting is None or setting.kind.from_config is None:
            hint = nearest(key, KEYS) or f"known are {', '.join(KEYS)}"
            raise UsageError(f"there is no key {key!r}", hint, path)
        try:
            made[setting.name] = setting.kind.from_config(value)
        except WrongKindError as error:
            raise UsageError(f"{key} is {clipped(repr(value), 60)}, expected {error}", "", path) from None
        if setting.kind is FILE and value:
            made[setting.name] = os.path.join(os.path.dirname(path), str(value))
    return Config(path, made)
