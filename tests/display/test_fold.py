"""Lines of what has names, and the table of them."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from inspectcli.display.blocks import Cell, Column, Field
from inspectcli.display.fold import Fold, far, fold_by, fold_table, unfolded, usual


class Part(NamedTuple):
    name: str
    size: int = 1


def folded(*names: str) -> list[Fold[Part]]:
    return fold_by([Part(n) for n in names], lambda p: p.size, lambda p: False, lambda ps: [""] * len(ps))


FIELDS: tuple[Field[Fold[Part]], ...] = (
    Field(Column("name", "part"), lambda line: Cell(line.text, value=line.name)),
    Field(Column("size"), lambda line: Cell("", value=sum(p.size for p in line.members))),
)


def test_what_all_names_begin_with_is_said_once_above_them() -> None:
    table = fold_table(FIELDS, folded("m.h.0.w", "m.h.1.w", "m.h.2.w", "m.b"))
    assert [column.label for column in table.columns] == ["part below m", "size"]
    assert [row.cells[0].text for row in table.rows] == ["h.{0..2}.w  ×3", "b"]
    assert [row.cells[0].value for row in table.rows] == [row.key for row in table.rows] == ["m.h.{0..2}.w", "m.b"]


def test_the_members_of_a_fold_are_the_rows_below_it() -> None:
    first, last = fold_table(FIELDS, folded("m.h.0.w", "m.h.1.w", "m.h.2.w", "m.b")).rows
    assert first.folded
    assert [(row.key, row.cells[0].text, row.cells[1].value) for row in first.children] == [
        ("m.h.0.w", "h.0.w", 1), ("m.h.1.w", "h.1.w", 1), ("m.h.2.w", "h.2.w", 1),
    ]  # fmt: skip
    assert first.cells[1].value == sum(row.cells[1].value for row in first.children)
    assert (last.folded, list(last.children)) == (False, [])


def test_members_are_built_when_they_are_looked_at() -> None:
    built: list[str] = []

    def cell(line: Fold[Part]) -> Cell:
        built.append(line.name)
        return Cell(line.name)

    (row,) = fold_table([Field(Column("name"), cell)], folded("h.0.w", "h.1.w", "h.2.w")).rows
    assert built == ["h.{0..2}.w"]
    assert row.children[1].key == "h.1.w"
    assert built == ["h.{0..2}.w", "h.1.w"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, ""), (2.9, ""), (30.0, "std 30 times above its siblings"), (1e-9, "std 1e9 times below its siblings"),
        (0.0, "std is not above 0, unlike its siblings"), (None, ""),
        # Their ratio is no float.
        (1e308, "std over 1e304 times above its siblings"),
    ],
)  # fmt: skip
def test_a_figure_far_from_its_siblings(value: float | None, text: str) -> None:
    assert far("std", value, usual([1.0, 1.0, 1.0]), 3.0) == text


def test_unfolded_lines_are_the_rows_themselves() -> None:
    assert [(line.name, line.members) for line in unfolded([Part("a.0"), Part("a.1")])] == [
        ("a.0", (Part("a.0"),)), ("a.1", (Part("a.1"),)),
    ]  # fmt: skip
