"""The one writer of JSON: a result as an object of plain data, under the names that it has in Python.

Enums are written as their codes, NaN and infinities as texts, fields that `repr` hides not at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum, IntEnum
from typing import Any, Final, NamedTuple, TypeVar

from inspectcli.contract import SCHEMA

T = TypeVar("T", bound=type)

#: No integer of a checkpoint is longer than this; a hostile pickle may hold one of a million digits.
_MAX_INTEGER = 1 << 256


class Absent(Enum):
    """What is not there, where None may be a value: left out of the object."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


class Form(NamedTuple):
    """How the objects of one class are written.

    Attributes:
        quiet: fields that are left out where they are as by default.
        also: properties that are written too.
    """

    quiet: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


class Member(NamedTuple):
    """A field of a class, as it is written.

    Attributes:
        name: in Python and in JSON.
        quiet: whether it is left out where it equals its default.
        default: what it is if nothing is said.
    """

    name: str
    quiet: bool = False
    default: object = MISSING


_FORMS: dict[type, Form] = {}
_PLAIN = Form()
#: Of the classes met so far.
_MEMBERS: dict[type, tuple[Member, ...] | None] = {}


def written(*, quiet: tuple[str, ...] = (), also: tuple[str, ...] = ()) -> Callable[[T], T]:
    """Say how a class is written, where that is not just its fields."""

    def say(cls: T) -> T:
        _FORMS[cls] = Form(quiet, also)
        return cls

    return say


def members(cls: type) -> tuple[Member, ...] | None:
    """What is written of the objects of a class; None of one that is no dataclass, no NamedTuple, and says nothing."""
    if cls not in _MEMBERS:
        _MEMBERS[cls] = _members(cls)
    return _MEMBERS[cls]


def _members(cls: type) -> tuple[Member, ...] | None:
    defaults = _defaults(cls)
    form = _FORMS.get(cls, _PLAIN)
    if defaults is None:
        return tuple(map(Member, form.also)) or None
    own = (Member(name, name in form.quiet, default) for name, default in defaults.items())
    return (*own, *map(Member, form.also))


def _defaults(cls: type) -> dict[str, object] | None:
    """Name -> default of each field."""
    if is_dataclass(cls):
        shown = [f for f in fields(cls) if f.repr and not f.name.startswith("_")]
        return {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in shown}
    names = getattr(cls, "_fields", None)
    if names is None or not issubclass(cls, tuple):
        return None
    given: Mapping[str, object] = getattr(cls, "_field_defaults", {})
    return {name: given.get(name, MISSING) for name in names}


#: The elements of a longer list are made one by one: as plain data they take ten times the room of the result.
_MANY = 256


def document(value: object, lazily: bool = False) -> Any:
    """The same in types that JSON has: dict, list, str, int, float, bool and None.

    Args:
        value: plain data, and objects of the classes of results.
        lazily: give long lists as `Elements`, each of which is made when it is looked at.

    >>> document({"shape": (2, 3), "mean": float("nan")})
    {'shape': [2, 3], 'mean': 'NaN'}
    """
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if kind is int:
        return _integer(value)  # type: ignore[arg-type]
    if kind is float:
        return value if math.isfinite(value) else _words(value)  # type: ignore[arg-type]
    plan = members(kind)
    if plan is not None:
        return _entries(value, plan, lazily)
    if isinstance(value, Enum):
        return code(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _words(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, Mapping):
        return {str(key): document(inner, lazily) for key, inner in value.items()}
    if lazily and isinstance(value, list | tuple) and len(value) > _MANY:
        return Elements(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [document(inner, lazily) for inner in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value)


def _integer(value: int) -> int | str:
    return int(value) if -_MAX_INTEGER < value < _MAX_INTEGER else f"<integer of {value.bit_length():,} bits>"


def _entries(value: object, plan: tuple[Member, ...], lazily: bool) -> dict[str, Any]:
    made = {}
    for name, quiet, default in plan:
        inner = getattr(value, name)
        if inner is ABSENT or (quiet and inner == default):
            continue
        made[name] = document(inner, lazily)
    return made


class Elements(Sequence[Any]):
    """A long list of a document, whose elements are made when they are looked at."""

    __slots__ = ("_values",)

    def __init__(self, values: Sequence[object]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int | slice) -> Any:
        return document(self._values[index])

    def __iter__(self) -> Iterator[Any]:
        return map(document, self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list | Elements) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def code(member: Enum) -> object:
    """What programs read: the value, or the name in lower case where the value is a mere number."""
    return member.name.lower().replace("_", "-") if isinstance(member, IntEnum) else member.value


def _words(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def report_document(command: str, report: object, lazily: bool = False) -> dict[str, Any]:
    """The object of a whole report: schema, command, and what the report holds."""
    return {"schema": SCHEMA, "command": command, **document(report, lazily)}


class Deferred(Mapping[str, object]):
    """The document of a report, made when somebody reads it: a report for people needs none.

    Args:
        command: whose report it is.
        result: gives what it holds.
    """

    def __init__(self, command: str, result: Callable[[], object]) -> None:
        self._command = command
        self._result = result
        self._made: dict[str, Any] | None = None

    def _whole(self) -> dict[str, Any]:
        if self._made is None:
            self._made = report_document(self._command, self._result(), lazily=True)
        return self._made

    def __getitem__(self, key: str) -> object:
        return self._whole()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())
