"""`[tool.pinspect]` of the nearest pyproject.toml, or `.pinspect.toml`: what a project asks of its checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from inspectcli.cli.options import FILE, KEYS, WrongKindError
from inspectcli.display.text import clipped
from inspectcli.errors import NotReadableError, UsageError
from inspectcli.storage import Location, locate
from inspectcli.storage.local import read_settings
from inspectcli.storage.names import file_name

#: In each folder, the first that is there and speaks of pinspect.
NAMES = (".pinspect.toml", "pyproject.toml")
MAX_SIZE = 1 << 20

_NAME_IT = "name it with --config FILE, or leave it aside with --no-config"


class Config(NamedTuple):
    """What a configuration file says: name of a setting -> value. `path` is the file; empty without one."""

    path: str = ""
    settings: Mapping[str, object] = {}


def named_config(path: str) -> Config:
    """The configuration that the user named.

    Raises:
        UsageError: it cannot be read, does not speak of pinspect, or says something that is not understood.
    """
    table = _table(path)
    if table is None:
        raise UsageError("it says nothing of pinspect", "write its settings under [tool.pinspect]", path)
    return read_config(path, table)


def find_config(path: str) -> Config:
    """The nearest configuration, from the folder of `path` upwards. Nobody named it: it may come with the files.

    Raises:
        UsageError: it is not TOML, says something that is not understood, or is a link to another folder.
    """
    for folder in _upwards(path):
        for name in NAMES:
            file = folder.join(name)
            if file.leads_out():
                raise UsageError("a symbolic link that leads out of its folder", _NAME_IT, str(file))
            if file.is_file():
                table = _table(str(file))
                if table is not None:
                    return read_config(str(file), table)
    return Config()


def found_baseline(config: Config) -> str | None:
    """The baseline that a configuration names which nobody named: it lies below it, and no link leads elsewhere.

    Raises:
        UsageError: it does not.
    """
    if "baseline" not in config.settings:
        return None
    known = str(config.settings["baseline"])
    home = locate(config.path).absolute().parent
    place = locate(known)
    if place.is_link() or not place.absolute().real().is_below(home.real()):
        raise UsageError("a baseline that lies outside the folder of its configuration", _NAME_IT, known)
    return known


def _upwards(path: str) -> Iterator[Location]:
    try:
        folder = locate(path).absolute()
    except NotReadableError:  # there is nothing to check, which is said when it is opened
        return
    if not folder.is_folder():
        folder = folder.parent
    yield folder
    while (parent := folder.parent) != folder:
        yield parent
        folder = parent


def _table(path: str) -> Mapping[str, Any] | None:
    """What the file says of pinspect; None if it does not speak of it."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        text = read_settings(path, MAX_SIZE)
        if len(text) > MAX_SIZE:
            raise UsageError(f"a configuration of more than {MAX_SIZE >> 20} MiB", "", path)
        whole = tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", "", path) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not valid TOML: {error}", "", path) from None
    tool = whole.get("tool", {})
    found = tool.get("pinspect") if isinstance(tool, dict) else None
    if found is None and file_name(path) == ".pinspect.toml":
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
            made[setting.name] = str(locate(path).parent.join(str(value)))
    return Config(path, made)
