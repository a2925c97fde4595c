"""From figures to what people see."""

from __future__ import annotations

from support.places import FIXTURES

from inspectcli.cli.inspect import SORT_KEYS as OFFERED
from inspectcli.commands.inspect.run import inspect
from inspectcli.commands.inspect.view import SORT_KEYS, View, present, unravel
from inspectcli.display.blocks import Facts, Note, Report, Table


def shown(name: str, view: View | None = None) -> Report:
    return present(inspect(str(FIXTURES / name)), view or View())


def table(report: Report) -> Table:
    return next(block for block in report.blocks if isinstance(block, Table))


def names(report: Report) -> list[str]:
    return [row[0].text for row in table(report).rows]


def test_an_index_in_c_order() -> None:
    assert unravel(7 * 128 + 40, (32, 128)) == (7, 40)
    assert unravel(0, ()) == ()


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
    assert found["besides"] == "56 of optimizer state, 3 of other training state"


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
