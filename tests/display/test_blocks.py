"""Rows, what lies below them, and cells that say to programs what they say to people."""

from __future__ import annotations

import pytest

from inspectcli.display.blocks import Cell, Column, Field, Members, Row, Table, table_of


def row(text: str, *children: Row, folded: bool = False) -> Row:
    return Row((Cell(text),), children, folded, key=text)


def test_lines_are_rows_and_what_is_below_the_open_ones() -> None:
    tree = (row("a", row("b", row("c")), row("d", row("e"), folded=True)), row("f"))
    lines = [(depth, line.key) for depth, line in Table((Column("name"),), tree).lines()]
    assert lines == [(0, "a"), (1, "b"), (2, "c"), (1, "d"), (0, "f")]


def test_a_tree_of_any_depth_has_lines() -> None:
    # Python allows a thousand calls in each other.
    node = row("leaf")
    for depth in range(5000):
        node = row(str(depth), node)
    assert sum(1 for _ in Table((Column("name"),), (node,)).lines()) == 5001


def test_a_column_is_called_by_its_key_unless_people_call_it_otherwise() -> None:
    assert [Column("std").label, Column("numel", "params").label, Column("bar", "").label] == ["std", "params", ""]


def test_members_are_a_sequence() -> None:
    members = Members("abc", row)
    assert len(members) == 3
    assert [member.key for member in members] == ["a", "b", "c"]
    assert members[-1].key == "c"
    assert [member.key for member in members[1:]] == ["b", "c"]
    with pytest.raises(IndexError):
        members[3]


def test_a_table_of_items() -> None:
    fields: tuple[Field[int], ...] = (
        Field(Column("n", right=True), lambda n: Cell(f"{n:,}", value=n)),
        Field(Column("odd"), lambda n: Cell("odd" if n % 2 else "")),
    )
    table = table_of(fields, (1000, 7), str)
    assert [column.key for column in table.columns] == ["n", "odd"]
    assert [(r.key, *(c.text for c in r.cells)) for r in table.rows] == [("1000", "1,000", ""), ("7", "7", "odd")]
    assert max(table.rows, key=lambda r: r.cells[0].value).key == "1000"
