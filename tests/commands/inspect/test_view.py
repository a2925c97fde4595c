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
from inspectcli.render import render


def shown(name: str, view: View | None = None) -> Report:
    return present(inspect(str(FIXTURES / name)), view or View())


def table(report: Report) -> Table:
    return next(block for block in report.blocks if isinstance(block, Table))


def names(report: Report) -> list[str]:
    return [row.cells[0].text for row in table(report).rows]


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
    assert found["also holds"] == "56 of optimizer state, 3 of other training state"


def test_foreign_classes_are_named() -> None:
    assert facts(shown("foreign.pt"))["needs"] == "my_project.Config (named in the file; not run)"


def test_a_tied_tensor_names_the_first() -> None:
    rows = {row.key: row.cells for row in table(shown("views.pt")).rows}
    (said,) = (cell for cell in rows["tied"] if cell.text == "= base")
    assert said.link == "base"
    assert said.link in rows


def test_packed_words_show_no_figures() -> None:
    rows = {row.key: [c.text for c in row.cells] for row in table(shown("gptq.safetensors", View(True))).rows}
    assert "packed" in next(cells for name, cells in rows.items() if name.endswith("qweight"))


def test_the_tree_sums_what_lies_below() -> None:
    tree = table(shown("lightning.ckpt", View(tree=True)))
    at = [column.key for column in tree.columns].index("numel")
    sums = {(depth, row.cells[0].text): row.cells[at].value for depth, row in tree.lines()}
    assert sums[0, "state_dict"] == 26
    assert sums[2, "fc1"] == 16


def test_the_tree_is_rows_below_rows() -> None:
    state = next(
        row for row in table(shown("lightning.ckpt", View(tree=True))).rows if row.cells[0].text == "state_dict"
    )
    (net,) = state.children
    assert [row.cells[0].text for row in (net, *net.children)] == ["net", "fc1", "fc2"]
    assert [row.key for row in net.children[0].children] == ["state_dict.net.fc1.bias", "state_dict.net.fc1.weight"]
    assert not any(row.folded for row in (state, net, *net.children))


def test_a_fold_in_the_tree_stands_for_its_members() -> None:
    lines = dict.fromkeys(row.key for _, row in table(shown("gpt2_tiny.safetensors", View(tree=True))).lines())
    assert "h.{0..11}.mlp.c_fc.weight" in lines
    assert "h.0.mlp.c_fc.weight" not in lines
    folds = [row for _, row in table(shown("gpt2_tiny.safetensors", View(tree=True))).lines() if row.folded]
    (fold,) = (row for row in folds if row.key == "h.{0..11}.mlp.c_fc.weight")
    assert sorted(member.key for member in fold.children) == sorted(f"h.{i}.mlp.c_fc.weight" for i in range(12))


def test_a_module_that_the_file_comes_back_to_stands_twice_with_the_sum_of_all(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, **{"a.w": np.ones(2), "b": np.ones(3), "a.v": np.ones(5)})
    tree = table(present(inspect(str(path)), View(tree=True)))
    assert [(depth, row.cells[0].text, row.cells[2 + 1].value) for depth, row in tree.lines()] == [
        (0, "a", 7), (1, "w", 2), (0, "b", 3), (0, "a", 7), (1, "v", 5),
    ]  # fmt: skip


def test_a_name_of_many_parts_is_a_deep_tree(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, **{"a." * 1500 + "w": np.ones(2)})
    report = present(inspect(str(path)), View(tree=True))
    assert sum(1 for _ in table(report).lines()) == 1501
    for format_name in ("plain", "terminal", "markdown"):
        assert render(report, format_name).count("a") > 1500


def test_cells_hold_the_figures_behind_their_texts() -> None:
    report = inspect(str(FIXTURES / "gpt2_tiny.safetensors"))
    shown_table = table(present(report, View(all_rows=True)))
    for row in shown_table.rows:
        found = {column.key: cell.value for column, cell in zip(shown_table.columns, row.cells, strict=True)}
        tensor = report.files[0][row.key]
        assert found["name"] == tensor.name
        assert found["numel"] == tensor.numel
        assert tensor.stats is not None
        assert [found[k] for k in ("mean", "std", "min", "max")] == [
            tensor.stats.mean, tensor.stats.std, tensor.stats.min, tensor.stats.max,
        ]  # fmt: skip


def test_sorting_puts_the_largest_first() -> None:
    report = shown("mlp.pt", View(all_rows=True, sort="size"))
    assert names(report)[0].endswith("fc1.weight")


@pytest.mark.parametrize("sort", ["mean", "std", "max", "min", "size", "zeros", "nan"])
@pytest.mark.parametrize("name", ["gpt2_tiny_nan.safetensors", "dtypes.pt", "views.pt", "nonfinite.pt"])
def test_rows_are_in_the_order_of_their_values(name: str, sort: str) -> None:
    report = inspect(str(FIXTURES / name))
    keys = [row.key for row in table(present(report, View(all_rows=True, sort=sort))).rows]

    def figure(key: str) -> float | None:
        row = report.files[0][key]
        if sort == "size":
            return row.numel
        if row.stats is None:
            return 0 if sort in ("zeros", "nan") else None
        if sort == "zeros":
            return row.stats.zeros / max(row.numel, 1)
        return row.stats.nonfinite if sort == "nan" else getattr(row.stats, sort)

    figures = [figure(key) for key in keys]
    known = [f for f in figures if f is not None]
    assert known == sorted(known, reverse=sort != "min")
    assert figures[len(known) :] == [None] * (len(figures) - len(known))  # those without one come last


def test_what_top_leaves_out_is_said() -> None:
    report = shown("mlp.pt", View(top=1))
    assert any(isinstance(block, Note) and "3" in block.text for block in report.blocks)


def test_the_bars_of_values_far_apart() -> None:
    array = np.array([-1.7e308, 1.7e308])
    (row,) = inspect({"w": array}).files[0].tensors
    assert bars([row]) == "█        █"


def test_a_value_expanded_and_rows_whose_paths_read_alike_are_shown(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "x.pt"
    weights = {0: {"w": torch.arange(3.0)}}
    torch.save({"l": weights, "l.0": {"w": torch.arange(3.0)}, "l.0.w": torch.arange(3.0),
                "fc.weight": torch.ones(1).expand(1000, 1000)}, path)  # fmt: skip
    report = inspect(path)
    assert [r.name for r in report.files[0].tensors] == ["['l'][0]['w']", "['l.0']['w']", "l.0.w", "fc.weight"]
    assert present(report, View()).blocks
