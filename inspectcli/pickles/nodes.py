"""Nodes that the pickle machine builds in place of the objects that a real unpickler would construct.

Scalars, strings, bytes, tuples and lists are Python's own. A node stands for what would be hashed, called or imported.
"""

from __future__ import annotations

from collections.abc import Iterator

from inspectcli.display.text import clipped


def shown(value: object) -> str:
    """Return a short text for a message. Containers appear as their kind only: they may be nested without end."""
    if isinstance(value, Global):
        return value.path[:80]
    if value is None or isinstance(value, str | bytes | int | float | bool):
        text = repr(value) if not isinstance(value, int) or abs(value) < 1 << 128 else "a huge number"
        return clipped(text, 60)
    return f"a {type(value).__name__.lower()}"


def key_of(value: object) -> str | None:
    """Return the key of a storage or tensor (a string, bytes or an integer) as text; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value) if type(value) is int and abs(value) < 1 << 63 else None


class Global:
    """A reference to `module.name`, as the file spells it. It was not looked up."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"

    def __repr__(self) -> str:
        return f"Global({self.path!r})"


class Dict:
    """A dict as parallel lists of keys and values, in file order.

    Keys are never hashed, so integers that collide and deeply nested tuples cost no more than other keys.
    """

    __slots__ = ("keys", "values")

    def __init__(self) -> None:
        self.keys: list[object] = []
        self.values: list[object] = []

    def set(self, key: object, value: object) -> None:
        self.keys.append(key)
        self.values.append(value)

    def items(self) -> Iterator[tuple[object, object]]:
        return zip(self.keys, self.values, strict=True)

    def get(self, key: str) -> object:
        """Return the last value under this string key; None without one."""
        for k, v in zip(reversed(self.keys), reversed(self.values), strict=True):
            if isinstance(k, str) and k == key:
                return v
        return None


class Set:
    """A set or frozenset as a list of its members, which are never hashed."""

    __slots__ = ("members",)

    def __init__(self) -> None:
        self.members: list[object] = []


class Object:
    """The call `func(*args, **kwargs)`, and the items and state that the file gives its result. Nothing was called.

    Attributes:
        func: a Global, or any other node if the file calls the result of a call.
        how: the kind of opcode that asks for it: `reduce`, `new` (`cls.__new__`) or `inst`.
        state: the argument of BUILD (for `__setstate__` or `__dict__.update`); None without one.
        position: byte offset of the call in the pickle.
    """

    __slots__ = ("args", "entries", "func", "how", "kwargs", "members", "position", "state")

    def __init__(
        self, func: object, args: tuple[object, ...], how: str, position: int, kwargs: Dict | None = None
    ) -> None:
        self.func = func
        self.args = args
        self.how = how
        self.position = position
        self.kwargs = kwargs
        self.state: object = None
        self.members: list[object] | None = None
        self.entries: Dict | None = None

    @property
    def path(self) -> str:
        """`module.name` of the function that would be called; empty if that is itself the result of a call."""
        return self.func.path if isinstance(self.func, Global) else ""


def dict_of(node: object) -> Dict | None:
    """The key-value view of a dict or of something that subclasses dict."""
    if isinstance(node, Dict):
        return node
    if isinstance(node, Object):
        if node.entries is not None:
            return node.entries
        return node.state if isinstance(node.state, Dict) else None
    return None


class Persistent:
    """A persistent id. Its meaning is up to the container: in torch's files it names a storage."""

    __slots__ = ("pid",)

    def __init__(self, pid: object) -> None:
        self.pid = pid
