"""Config files of any syntax -> trees: JSON, YAML, TOML, Python source; with OmegaConf's `${...}` resolved."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from inspectcli.encodings.files import parse_json, read_file
from inspectcli.errors import DamagedFileError, MissingLibraryError
from inspectcli.hparams._tree import MAX_DEPTH, flag_unresolved, leaves
from inspectcli.hparams.base import HParamRow, Origin, Reach
from inspectcli.hparams.names import hparam, scope_of
from inspectcli.storage.location import Location
from inspectcli.tensors.names import is_index

#: A config file is small.
MAX_CONFIG = 16 << 20

_YAML_LINE = re.compile(rb"^[ \t]*(-[ \t]+)?[\"']?[\w./-]+[\"']?[ \t]*:([ \t]|\r?$)", re.MULTILINE)
_TOML_LINE = re.compile(rb"^(\[[\w.\"-]+\]|[\w.-]+[ \t]*=[ \t]*\S)", re.MULTILINE)


def syntax_of(location: Location, head: bytes) -> str:
    """`json`, `yaml`, `toml` or `python`; empty if it is none. Content first; names where content leaves it open."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if b"\0" in head[:4096]:
        return ""
    suffix = location.suffix.lower()
    if text[:1] in (b"{", b"[") and suffix not in (".toml", ".yaml", ".yml"):
        return "json"
    known = {".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".py": "python", ".json": "json"}.get(suffix)
    if known:
        return known
    if _YAML_LINE.match(text) and suffix not in (".md", ".txt", ".log", ".csv"):
        return "yaml"
    return "toml" if _TOML_LINE.match(text) and suffix in ("", ".conf", ".cfg", ".ini") else ""


def load(location: Location, head: bytes) -> Any:
    """The tree in a config file.

    Raises:
        PinspectError: it is too large, or not what it looks like.
    """
    data = read_file(location, MAX_CONFIG)
    syntax = syntax_of(location, head)
    what = location.name
    if syntax == "json":
        return parse_json(data, what)
    if syntax == "toml":
        return _toml(data, what)
    if syntax == "python":
        from inspectcli.hparams._python import assignments

        return assignments(data.decode("utf-8", "replace"))
    from inspectcli.encodings.yaml import load_yaml

    return load_yaml(data, what)


def _toml(data: bytes, what: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise MissingLibraryError("TOML files need Python 3.11, or tomli", "pip install tomli") from None
    try:
        return tomllib.loads(data.decode("utf-8"))
    except ValueError as error:
        raise DamagedFileError(f"{what} is not TOML: {error}") from None


def config_rows(
    tree: object, file: str, tool: str, locator: str = "", scope: str = "config", known_depth: int = MAX_DEPTH
) -> list[HParamRow]:
    """A row for each leaf; one that refers to another place in the tree has the value from there.

    Args:
        tree: dicts, lists and scalars.
        file, tool: for the origin.
        locator: where the tree stands in the file.
        scope: what keys describe whose parents say nothing.
        known_depth: a leaf below more dicts than this may be about anything.
    """
    made = []
    for leaf in leaves(tree, locator):
        value = resolve(leaf.value, tree, leaf.parents)
        note, stored = ("", "") if value is leaf.value else (f"from {leaf.value}", str(leaf.value))
        origin = Origin(file, leaf.locator, tool)
        reach = Reach.RUN if len(leaf.parents) <= known_depth else Reach.UNKNOWN
        row = hparam(leaf.key, value, origin, scope_of(leaf.parents, scope), note, stored, reach=reach)
        made.append(flag_unresolved(row))
    return made


def set_aside(made: list[HParamRow]) -> list[HParamRow]:
    """The rows; of ultralytics with `optimizer: auto`, the rate and the momentum say that they are not used.

    https://docs.ultralytics.com/modes/train/: `auto` chooses optimizer, lr0 and momentum.
    """
    keys = {row.raw_key: row.value for row in made if row.raw_key in ("optimizer", "lr0", "lrf")}
    if str(keys.get("optimizer")).lower() != "auto" or not {"lr0", "lrf"} <= keys.keys():
        return made
    unused = "not used: optimizer is auto, which chooses it"
    return [replace(r, note=unused, unresolved=True) if r.raw_key in ("lr0", "momentum") else r for r in made]


#: What pickled configs look like in YAML: the settings of ml_collections' ConfigDict, the value of a FieldReference.
_WRAPPERS = ("_fields", "_value")


def unwrapped(tree: Any, depth: int = 0) -> Any:
    """The tree without the objects around its dicts and values.

    https://github.com/google/ml_collections/blob/master/ml_collections/config_dict/config_dict.py
    """
    if depth > MAX_DEPTH:
        return tree
    if isinstance(tree, Mapping):
        inner = next((key for key in _WRAPPERS if key in tree and all(str(k).startswith("_") for k in tree)), None)
        if inner is not None:
            return unwrapped(tree[inner], depth + 1)
        return {key: unwrapped(value, depth + 1) for key, value in tree.items()}
    if isinstance(tree, list):
        return [unwrapped(value, depth + 1) for value in tree]
    return tree


_REFERENCE = re.compile(r"\$\{([\w.\[\]-]+)\}")
_MAX_HOPS = 20


def resolve(value: object, tree: object, parents: tuple[str, ...], hops: int = 0) -> object:
    """Replace references such as `${model.hidden_dim}` by the values they lead to; one that leads nowhere is kept.

    >>> resolve("${a.b}", {"a": {"b": 3}}, ())
    3
    """
    if not isinstance(value, str) or "${" not in value or hops > _MAX_HOPS:
        return value
    whole = _REFERENCE.fullmatch(value)
    if whole:
        found = _at(tree, whole[1], parents)
        return value if isinstance(found, Mapping | _Nothing) else resolve(found, tree, parents, hops + 1)

    def text(match: re.Match[str]) -> str:
        found = _at(tree, match[1], parents)
        return match[0] if isinstance(found, Mapping | list | _Nothing) else str(found)

    replaced = _REFERENCE.sub(text, value)
    return value if replaced == value else replaced


class _Nothing:
    """There is no such place."""


def _at(tree: object, reference: str, parents: tuple[str, ...]) -> object:
    """The node that a reference names: from the top, or, with leading dots, from where it stands."""
    dots = len(reference) - len(reference.lstrip("."))
    start = parents[: len(parents) - (dots - 1)] if dots else ()
    node = tree
    for part in (*start, *re.findall(r"[^.\[\]]+", reference)):
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, list) and is_index(part) and int(part) < len(node):
            node = node[int(part)]
        else:
            return _Nothing()
    return node
