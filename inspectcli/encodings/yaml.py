"""YAML as training tools mean it: `1e-4` is a number; `no`, `12:30` and unknown tags are text. No object is built.

PyYAML parses. Its safe loader is narrowed further here, and the size with all aliases expanded is counted first.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from inspectcli.errors import DamagedFileError, LimitError, MissingLibraryError

#: No config is larger, in bytes; the pure-Python parser reads about 200 kB a second.
MAX_YAML = 2 << 20
#: Most nodes, as written and with all aliases expanded.
MAX_EXPANDED = 200_000


def load_yaml(data: bytes, what: str) -> Any:
    """Return the first document of a YAML text.

    Raises:
        DamagedFileError: it is not YAML.
        LimitError: it is too large, or becomes so with its aliases expanded.
    """
    if len(data) > MAX_YAML:
        raise LimitError(f"{what}: {len(data):,} bytes of YAML: at most {MAX_YAML:,} are read")
    yaml, loader_class = _yaml()
    try:
        loader = loader_class(data.decode("utf-8-sig"))
        try:
            node = loader.get_single_node() if not _many(data) else _first(loader)
            if node is None:
                return None
            _expanded(node, what)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1:,}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise DamagedFileError(f"{what} is not YAML{where}: {problem}") from None
    except UnicodeDecodeError:
        raise DamagedFileError(f"{what} is not text: expected UTF-8") from None
    except (ValueError, TypeError) as error:
        raise DamagedFileError(f"{what} is not YAML: {error}") from None
    except RecursionError:
        raise LimitError(f"{what} is nested beyond any config") from None


def _many(data: bytes) -> bool:
    return b"\n---" in data


def _first(loader: Any) -> Any:
    return loader.get_node() if loader.check_node() else None


def _expanded(node: Any, what: str) -> int:
    """Return the number of nodes with aliases expanded. Each node is visited once."""
    import yaml

    sizes: dict[int, int] = {}
    active: set[int] = set()

    def size(node: Any) -> int:
        known = sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in active:
            raise DamagedFileError(f"{what} contains itself")
        active.add(id(node))
        total = 1
        if isinstance(node, yaml.MappingNode):
            total += sum(size(k) + size(v) for k, v in node.value)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(size(v) for v in node.value)
        active.discard(id(node))
        if total > MAX_EXPANDED:
            raise LimitError(f"{what}: aliases multiply it to more than {MAX_EXPANDED:,} values")
        sizes[id(node)] = total
        return total

    return size(node)


@lru_cache(maxsize=1)
def _yaml() -> tuple[Any, Any]:
    """Return PyYAML and our loader, a subclass of its safe one."""
    try:
        import yaml
    except ImportError:
        raise MissingLibraryError("YAML files need PyYAML", "pip install pyyaml") from None

    # Without the resolvers of YAML 1.1: `no` is text, not false; `12:30` is not a number in base 60.
    Loader: Any = type("Loader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": {}})

    tag = "tag:yaml.org,2002:"
    digits = list("-+0123456789.")
    for name, pattern, first in (
        ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
        ("int", r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$", digits),
        (
            "float",
            r"^[-+]?(?:(?:[0-9][0-9_]*)(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?)$",
            digits,
        ),
        ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", digits),
        ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
        ("merge", r"^(?:<<)$", ["<"]),
    ):
        Loader.add_implicit_resolver(tag + name, re.compile(pattern), first)

    def anything(loader: Any, suffix: str, node: Any) -> object:
        if isinstance(node, yaml.MappingNode):
            made = loader.construct_mapping(node, deep=True)
            state = made.get("state")
            return state if set(made) <= {"args", "state"} and isinstance(state, dict) else made
        if isinstance(node, yaml.SequenceNode):
            listed = loader.construct_sequence(node, deep=True)
            # An enum as PyYAML writes it: !!python/object/apply:module.Class [value]
            return listed[0] if suffix.startswith("python/object/apply:") and len(listed) == 1 else listed
        return node.value or suffix.rpartition(":")[2]

    def mapping(loader: Any, node: Any) -> dict[str, object]:
        loader.flatten_mapping(node)
        return {_key(loader, k): loader.construct_object(v, deep=True) for k, v in node.value}

    def compose_node(loader: Any, parent: Any, index: Any) -> Any:
        # Each takes a while to make: they are counted as they come, not when all are there.
        loader.composed = getattr(loader, "composed", 0) + 1
        if loader.composed > MAX_EXPANDED:
            raise LimitError(f"more than {MAX_EXPANDED:,} values in a YAML text")
        return yaml.SafeLoader.compose_node(loader, parent, index)

    Loader.compose_node = compose_node
    Loader.add_constructor(tag + "map", mapping)
    Loader.add_multi_constructor(tag, anything)
    Loader.add_multi_constructor("!", lambda loader, suffix, node: anything(loader, suffix, node))
    Loader.construct_mapping = lambda self, node, deep=False: mapping(self, node)
    return yaml, Loader


def _key(loader: Any, node: Any) -> str:
    """Return a mapping key as text, whatever its type in YAML."""
    return node.value if isinstance(node.value, str) else str(loader.construct_object(node, deep=True))[:200]
