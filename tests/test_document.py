"""The one writer: Python names are JSON names, and what JSON cannot hold is spelled out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import NamedTuple

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.work import allocated

from inspectcli.contract import SCHEMA
from inspectcli.display.blocks import Report
from inspectcli.document import ABSENT, Absent, Deferred, document, report_document, written
from inspectcli.render import find_renderer, render

TEXT = st.text(max_size=20)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.integers(), inner, max_size=4),
    max_leaves=20,
))  # fmt: skip
def test_json_is_strict(value: object) -> None:
    json.loads(json.dumps(document(value), allow_nan=False), parse_constant=pytest.fail)


def test_json_spells_what_is_not_finite() -> None:
    assert document([float("nan"), float("inf"), float("-inf"), 10**400]) == [
        "NaN", "Infinity", "-Infinity", "<integer of 1,329 bits>",
    ]  # fmt: skip


class Color(str, Enum):
    DARK_RED = "dark-red"


class Level(IntEnum):
    VERY_HIGH = 3


class Point(NamedTuple):
    x: int
    color: Color = Color.DARK_RED


@written(quiet=("note", "places"), also=("total",))
@dataclass(frozen=True, slots=True)
class Line:
    points: tuple[Point, ...]
    level: Level = Level.VERY_HIGH
    note: str = ""
    places: tuple[int, ...] = ()
    bulk: object = field(default=None, repr=False)
    a: object | Absent = None

    @property
    def total(self) -> int:
        return len(self.points)


def test_fields_are_written_under_their_names() -> None:
    assert document(Line((Point(1),))) == {
        "points": [{"x": 1, "color": "dark-red"}], "level": "very-high", "a": None, "total": 1,
    }  # fmt: skip


def test_what_is_not_as_by_default_is_written() -> None:
    assert document(Line((), note="n", places=(1,))).items() >= {"note": "n", "places": [1]}.items()


def test_what_is_not_there_is_left_out() -> None:
    assert "a" not in document(Line((), a=ABSENT))


def test_a_report_begins_with_schema_and_command() -> None:
    made = report_document("check", Line(()))
    assert list(made)[:2] == ["schema", "command"]
    assert (made["schema"], made["command"], made["total"]) == (SCHEMA, "check", 0)


def test_a_deferred_document_is_made_once_and_late() -> None:
    made = []

    def result() -> dict[str, object]:
        made.append(1)
        return {"a": 1}

    late = Deferred("inspect", result)
    assert made == []
    assert (dict(late), len(late), late["a"], made) == (report_document("inspect", {"a": 1}), 3, 1, [1])


@pytest.mark.parametrize("n", [0, 1, 256, 257, 1000])
def test_a_long_list_is_the_same_made_one_by_one(n: int) -> None:
    rows = tuple({"shape": (i, 2), "mean": i / 3, "name": f"h.{i}\u202e", "more": []} for i in range(n))
    late = Deferred("inspect", lambda: {"files": ({"tensors": rows},), "exit_code": 0})
    whole = report_document("inspect", {"files": ({"tensors": rows},), "exit_code": 0})
    assert dict(late) == whole
    report = Report("inspect", (), late)
    assert render(report, "json") == json.dumps(whole, indent=2) + "\n"
    assert yaml.safe_load(render(report, "yaml")) == whole


def test_a_long_list_is_not_kept_as_plain_data() -> None:
    rows = tuple({"shape": (i, 2)} for i in range(20_000))
    late = Deferred("inspect", lambda: {"tensors": rows})
    pieces = find_renderer("json")
    assert pieces is not None
    with allocated(1 << 19):
        size = sum(map(len, pieces.pieces(Report("inspect", (), late))))
    assert size > 1 << 20
