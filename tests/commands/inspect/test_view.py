"""From figures to what people see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.places import FIXTURES

from inspectcli.cli.inspect import SORT_KEYS as OFFERED
from inspectcli.commands.inspect.run import inspect
from inspectcli.commands.inspect.view import SORT_KEYS, View, bars, present, unravel
from inspectcli.display.blocks import Facts, Note, Report, Table
from inspectcli.display.text import common_prefix, count, number, percent, short, size, span


def shown(name: str, view: View | None = None) -> Report:
    return present(inspect(str(FIXTURES / name)), view or View())


def table(report: Report) -> Table:
    return next(block for block in report.blocks if isinstance(block, Table))


def names(report: Report) -> list[str]:
    return [row[0].text for row in table(report).rows]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (1.0, "1"), (0.13124, "0.1312"), (-12.504, "-12.5"), (3.2e-7, "3.2e-07"),
        (123456.0, "1.2e+05"), (1024, "1,024"), (10**9, "1.00e+09"), (None, "–"), (999.96, "1000"),
        (5e-324, "4.9e-324"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (2_359_296, "2.36M"), (124_439_808, "124.4M"), (7 * 10**9, "7B")],
)
def test_counts_have_units(n: int, text: str) -> None:
    assert short(n) == text


def test_a_large_count_is_given_twice() -> None:
    assert count(124_439_808) == "124,439,808 (124.4M)"
    assert count(26) == "26"


@pytest.mark.parametrize(("n", "text"), [(400, "400 bytes"), (497_774_592, "497.8 MB"), (8_589_934_592, "8.6 GB")])
def test_sizes_are_decimal(n: int, text: str) -> None:
    assert size(n) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0"), (1e-6, "<0.1 %"), (0.125, "12.5 %"), (0.99999, ">99.9 %"), (1.0, "100 %")]
)
def test_only_all_is_a_hundred_per_cent(share: float, text: str) -> None:
    assert percent(share) == text


def test_the_range_of_a_fold() -> None:
    assert span([0.14, 0.18, None]) == "0.14…0.18"
    assert span([1.0, 1.0]) == "1"
    assert span([None]) == "–"


def test_an_index_in_c_order() -> None:
    assert unravel(7 * 128 + 40, (32, 128)) == (7, 40)
    assert unravel(0, ()) == ()


@pytest.mark.parametrize(
    ("given_names", "prefix"),
    [(["a.b.c", "a.b.d"], "a.b."), (["a.b"], ""), (["ab", "ac"], ""), (["h.{0..2}.w", "h.{0..2}.v"], ""), ([], "")],
)
def test_what_all_names_share_is_said_once(given_names: list[str], prefix: str) -> None:
    assert common_prefix(given_names) == prefix


def test_the_command_line_offers_what_there_is_to_sort_by() -> None:
    assert tuple(SORT_KEYS) == OFFERED


def test_the_sum_of_the_table_is_that_of_the_summary() -> None:
    report = shown("gpt2_tiny.safetensors")
    assert len(names(report)) < 40
    assert "162,752 (162.8k) in 148 tensors" in facts(report)["parameters"]


def facts(report: Report) -> dict[str, str]:
    return {label: cell.text for block in report.blocks if isinstance(block, Facts) for label, cell in block.rows}


def test_nan_is_counted_and_located_and_stands_alone() -> None:
    report = shown("gpt2_tiny_nan.safetensors")
    assert facts(report)["values"] == "12 NaN and 1 +Inf in h.3.mlp.c_fc.weight, first at [7, 40]"
    assert "h.3.mlp.c_fc.weight" in names(report)
    assert "h.{0..2,4..5}.mlp.c_fc.weight  ×5" in names(report)


def test_training_state_is_in_the_summary() -> None:
    found = facts(shown("lightning.ckpt"))
    assert found["training"] == "epoch 3, step 200, AdamW"
    assert found["also holds"] == "56 of optimizer state, 3 of other training state"


def test_foreign_classes_are_named() -> None:
    assert facts(shown("foreign.pt"))["needs"] == "my_project.Config (named in the file; not run)"


def test_a_tied_tensor_names_the_first() -> None:
    rows = {row[0].text: [cell.text for cell in row] for row in table(shown("views.pt")).rows}
    assert "= base" in rows["tied"]


def test_packed_words_show_no_figures() -> None:
    rows = {row[0].text: [cell.text for cell in row] for row in table(shown("gptq.safetensors", View(True))).rows}
    assert "packed" in next(cells for name, cells in rows.items() if name.endswith("qweight"))


def test_the_tree_sums_what_lies_below() -> None:
    report = shown("lightning.ckpt", View(tree=True))
    at = [column.title for column in table(report).columns].index("params")
    sums = {row[0].text: row[at].text for row in table(report).rows}
    assert sums["state_dict"] == "26"
    assert sums["    fc1"] == "16"


def test_sorting_puts_the_largest_first() -> None:
    report = shown("mlp.pt", View(all_rows=True, sort="size"))
    assert names(report)[0].endswith("fc1.weight")


def test_what_top_leaves_out_is_said() -> None:
    report = shown("mlp.pt", View(top=1))
    assert any(isinstance(block, Note) and "3" in block.text for block in report.blocks)


def test_the_bars_of_values_far_apart() -> None:
    array = np.array([-1.7e308, 1.7e308])
    (row,) = inspect({"w": array}).files[0].tensors
    assert bars([row]) == "█        █"


def test_a_value_expanded_and_rows_of_one_name_are_shown(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "x.pt"
    weights = {0: {"w": torch.arange(3.0)}}
    torch.save({"l": weights, "l.0": {"w": torch.arange(3.0)}, "l.0.w": torch.arange(3.0),
                "fc.weight": torch.ones(1).expand(1000, 1000)}, path)  # fmt: skip
    report = inspect(path)
    assert [r.name for r in report.files[0].tensors] == ["l.0.w"] * 3 + ["fc.weight"]
    assert present(report, View()).blocks
