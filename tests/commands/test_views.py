"""What holds for the blocks of every command: rows fit their columns, keys are unique, links lead somewhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from support.places import FIXTURES

from inspectcli.analysis.findings import all_rules
from inspectcli.commands.check.run import check
from inspectcli.commands.check.view import CheckView, present_check, present_rules
from inspectcli.commands.diff import view as diff_view
from inspectcli.commands.diff.run import diff
from inspectcli.commands.hparams.result import compare
from inspectcli.commands.hparams.run import read_hparams
from inspectcli.commands.hparams.view import HParamsView, present_comparison, present_hparams
from inspectcli.commands.inspect.result import InspectReport
from inspectcli.commands.inspect.run import inspect
from inspectcli.commands.inspect.view import View, present
from inspectcli.display.blocks import Report, Row, Table

NAMES = ("gpt2_tiny_nan.safetensors", "views.pt", "dtypes.pt", "lightning.ckpt", "zoo.keras", "gptq.safetensors")


def reports() -> Iterator[tuple[str, Report]]:
    paths = [str(FIXTURES / name) for name in NAMES]
    for path in paths:
        report = inspect(path)
        for view in (View(), View(all_rows=True), View(tree=True)):
            yield f"inspect {view}", present(report, view)
        yield "check", present_check(check(path, fail_on="note"), CheckView(statistics=True, explain=True))
        hparams = read_hparams(path)
        for rows in (HParamsView(), HParamsView(all_rows=True), HParamsView(advice=True)):
            yield f"hparams {rows}", present_hparams(hparams, rows)
    yield "overview", present(InspectReport(tuple(f for p in paths for f in inspect(p).files)), View(brief=True))
    for a, b in itertools.pairwise(paths):
        for options in (diff_view.View(), diff_view.View(all_rows=True), diff_view.View(stat=True)):
            yield f"diff {options}", diff_view.present(diff(a, b), options)
        yield "hparams of two", present_comparison(compare(read_hparams(a), read_hparams(b)))
    yield "rules", present_rules(all_rules())


@pytest.fixture(scope="module")
def made() -> list[tuple[str, Report]]:
    return list(reports())


def tables(made: list[tuple[str, Report]]) -> Iterator[tuple[str, Table]]:
    for what, report in made:
        yield from ((what, block) for block in report.blocks if isinstance(block, Table))


def every(table: Table) -> Iterator[Row]:
    waiting = list(table.rows)
    while waiting:
        row = waiting.pop()
        yield row
        waiting += row.children


def test_a_row_has_a_cell_for_each_column_and_so_have_those_below(made: list[tuple[str, Report]]) -> None:
    for what, table in tables(made):
        assert {len(row.cells) for row in every(table)} <= {len(table.columns)}, what


def test_columns_are_called_by_keys_of_their_own(made: list[tuple[str, Report]]) -> None:
    for what, table in tables(made):
        keys = [column.key for column in table.columns]
        assert len(set(keys)) == len(keys), what
        assert all(keys), what


def test_links_lead_to_rows_of_the_report(made: list[tuple[str, Report]]) -> None:
    for what, report in made:
        rows = [row for _, table in tables([(what, report)]) for row in every(table)]
        known = {row.key for row in rows}
        assert {cell.link for row in rows for cell in row.cells if cell.link} <= known, what


def test_what_is_shown_as_a_number_is_a_number(made: list[tuple[str, Report]]) -> None:
    for what, table in tables(made):
        for row in every(table):
            for column, cell in zip(table.columns, row.cells, strict=True):
                if column.right and cell.text[:1].isdigit() and cell.text.replace(",", "").isdecimal():
                    assert cell.value == int(cell.text.replace(",", "")), (what, column.key, cell)


def test_only_folds_and_modules_have_rows_below(made: list[tuple[str, Report]]) -> None:
    below = {what for what, table in tables(made) if any(row.children for row in table.rows)}
    assert any("tree=True" in what for what in below)
    assert not any("all_rows=True" in what for what in below)
    folds = [row for _, table in tables(made) for row in every(table) if row.folded]
    assert folds
    assert all("{" in row.key and f"×{len(row.children)}" in row.cells[0].text for row in folds)
