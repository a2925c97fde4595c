"""Which of several values counts, and when two contradict each other: told by fields, never by what a note says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inspectcli.commands.hparams.run import read_hparams
from inspectcli.hparams.base import HParamRow, Kind, Origin, Priority, Reach
from inspectcli.hparams.merge import HParamValue, agree, merge_rows

HERE = Origin("config.yaml", "", "yaml")


def row(value: object, name: str = "learning_rate", file: str = "config.yaml", **fields: object) -> HParamRow:
    plain = HParamRow(name, "lr", value, None, Kind.STATIC, replace(HERE, file=file))
    return replace(plain, **fields)  # type: ignore[arg-type]


def merged(*rows: HParamRow) -> HParamValue:
    (value,) = merge_rows(rows).values()
    return value


ROWS = [
    row(1.0),
    row(2.0, priority=Priority.OPTIMIZER),
    row(3.0, priority=Priority.LOG),
    row(4.0, priority=Priority.INFERRED),
    row(5.0, reach=Reach.GROUP),
    row("auto", unresolved=True),
]


@pytest.mark.parametrize("left", range(1, len(ROWS) + 1))
def test_the_most_direct_of_what_is_set_counts_wherever_it_stands(left: int) -> None:
    rows = ROWS[-left:]
    assert merged(*rows).value == rows[0].value
    assert merged(*reversed(rows)).value == rows[0].value


def test_what_is_not_set_comes_last() -> None:
    assert merged(row(None), row(5.0, priority=Priority.INFERRED)).value == 5.0


@pytest.mark.parametrize(
    "note", ["group 2 of 3", "told by the keys of its state", "unresolved", "Dense layer", "module a"]
)
def test_a_note_decides_nothing(note: str) -> None:
    first, second = row(1.0, note=note), row(2.0)
    assert merged(first, second).value == 1.0


def test_of_layers_the_distinct_values_are_listed() -> None:
    rows = [row(p, "dropout", reach=Reach.LAYER) for p in (0.1, 0.5, 0.1)]
    value = merged(*rows)
    assert (value.value, value.layered) == ([0.1, 0.5], True)
    assert merged(rows[0], rows[2]).value == 0.1


def test_of_an_indexed_name_all_of_its_file_are_listed() -> None:
    betas = merged(row(0.9, "betas[0]"), row(0.99, "betas[1]"), row(0.5, "betas[0]", file="other.yaml"))
    assert (betas.value, betas.layered) == ([0.9, 0.99], False)
    units = [row(n, f"hidden_units[{i}]", reach=Reach.LAYER) for i, n in enumerate((64, 32))]
    assert (merged(*units).value, merged(*units).layered) == ([64, 32], True)


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        (0.1, "0.1", True),
        (0.05, 0.05000000074505806, True),
        ([0.0005], 0.0005, True),
        ("(0.9, 0.98)", [0.9, 0.98], True),
        ("torch.optim.adamw.AdamW", "adamw_torch", True),
        ("adam", "sgd", False),
        (64, 64.0, True),
        (1e-3, 2e-3, False),
        (None, 0, False),
    ],
)
def test_what_counts_as_the_same(a: object, b: object, wanted: bool) -> None:
    assert agree(a, b) is wanted


# -- the sources say it ---------------------------------------------------------------------------------


def test_an_optimizer_with_two_groups(tmp_path: Path) -> None:
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = torch.optim.AdamW([{"params": weights[:1]}, {"params": weights[1:], "weight_decay": 0.0}], lr=0.1)
    torch.save({"optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    rows = read_hparams(str(tmp_path / "a.pt"), neighbors=False).rows
    assert [(r.value, r.priority, r.reach) for r in rows if r.name == "weight_decay"] == [
        (0.01, Priority.OPTIMIZER, Reach.RUN), (0.0, Priority.OPTIMIZER, Reach.GROUP),
    ]  # fmt: skip
    assert [r.priority for r in rows if r.name == "optimizer"] == [Priority.INFERRED]


def test_a_module_and_those_in_it(tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Dropout(0.2)), tmp_path / "a.pt")
    (dropout,) = (r for r in read_hparams(str(tmp_path / "a.pt"), neighbors=False).rows if r.name == "dropout")
    assert (dropout.value, dropout.reach) == (0.2, Reach.LAYER)


def test_a_deep_place_in_a_file_of_an_unknown_tool(tmp_path: Path) -> None:
    tree = {"lr": 1, "a": {"b": {"c": {"lr": 2, "d": {"lr": 3}}}}}
    (tmp_path / "some.json").write_text(json.dumps(tree))
    assert [(r.value, r.reach) for r in read_hparams(str(tmp_path / "some.json"), neighbors=False).rows] == [
        (1, Reach.RUN), (2, Reach.RUN), (3, Reach.UNKNOWN),
    ]  # fmt: skip


def test_a_value_that_stands_for_another(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("lr: auto\nseed: ???\nepochs: ${nowhere}\nmomentum: 0.9\n")
    rows = read_hparams(str(tmp_path / "some.yaml"), neighbors=False).rows
    assert {r.raw_key: r.unresolved for r in rows} == {"lr": True, "seed": True, "epochs": True, "momentum": False}


def test_the_state_of_a_trainer_is_a_log(tmp_path: Path) -> None:
    state = {"log_history": [], "train_batch_size": 8, "max_steps": 10}
    (tmp_path / "renamed.json").write_text(json.dumps(state))
    assert {r.priority for r in read_hparams(str(tmp_path / "renamed.json"), neighbors=False).rows} == {Priority.LOG}
