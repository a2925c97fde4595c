"""What contradicts what: what must be left alone comes first."""

from __future__ import annotations

from typing import Any

import pytest

from inspectcli.hparams.base import HParamFile, HParamRow, Kind, Origin, Priority, Reach, Store, Trial
from inspectcli.hparams.conflicts import Conflict, Disagreement, conflicts, is_comparable
from inspectcli.hparams.merge import merge_rows
from inspectcli.hparams.shapes import infer_from_shapes
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.model import TensorRef


def row(name: str, value: object, file: str = "config.yaml", **fields: Any) -> HParamRow:
    plain: dict[str, Any] = {"kind": Kind.STATIC, "source": Origin(file, "", "yaml"), "current": None}
    return HParamRow(**{"name": name, "raw_key": name, "value": value, **plain, **fields})


def tensor(name: str, *shape: int) -> TensorRef:
    return TensorRef(name, DTYPES["f32"], shape)


def found(*rows: HParamRow, tensors: tuple[TensorRef, ...] = (), trials: tuple[Trial, ...] = ()) -> list[Conflict]:
    by_file: dict[str, list[HParamRow]] = {}
    for each in rows:
        by_file.setdefault(each.source.file, []).append(each)
    files = [HParamFile(path, Store(tuple(of_file), trials)) for path, of_file in by_file.items()]
    files[0] = files[0]._replace(tensors=tensors)
    return list(conflicts(merge_rows(rows), infer_from_shapes(tensors), tensors, files))


RATE = "learning_rate"


def of_state(name: str, value: object, **more: Any) -> HParamRow:
    """What an optimizer's state says in a checkpoint."""
    told = Priority.INFERRED if name == "optimizer" else Priority.OPTIMIZER
    return row(name, value, "b.pt", priority=told, **more)


ALONE: dict[str, list[HParamRow]] = {
    "the same": [row(RATE, 0.1), row(RATE, "0.1", "b.yaml")],
    "a name that may differ": [row("dropout", 0.1), row("dropout", 0.2, "b.yaml")],
    "one is not set": [row(RATE, 0.1), row(RATE, None, "b.yaml")],
    "one is not resolved": [row(RATE, 0.1), row(RATE, "auto", "b.yaml", unresolved=True)],
    "one is of a layer": [row(RATE, 0.1), row(RATE, 0.2, "b.yaml", reach=Reach.LAYER)],
    "one is of a group": [row(RATE, 0.1), row(RATE, 0.2, "b.yaml", reach=Reach.GROUP)],
    "one lies deep somewhere": [row(RATE, 0.1), row(RATE, 0.2, "b.yaml", reach=Reach.UNKNOWN)],
    "one cannot be told for sure": [row("optimizer", "AdamW"), of_state("optimizer", "Adam or AdamW")],
    "one is spelt another way": [row("optimizer", "adamw_torch_fused"), of_state("optimizer", "AdamW")],
    "one is of a library that is not known": [row("optimizer", "Lion"), of_state("optimizer", "SGD")],
    "one of two optimizers": [row("optimizer", "Adam"), of_state("optimizer", "SGD"), of_state("optimizer", "Adam")],
    "biases do not decay": [
        row("weight_decay", 0.1),
        of_state("weight_decay", 0.0),
        of_state("weight_decay", 0.1, reach=Reach.GROUP),
    ],
    "one beta": [row("betas[1]", 0.95), of_state("betas", [0.9, 0.95])],
    "a group's rate, which a loop may have moved": [row(RATE, 0.1), of_state(RATE, 0.02, raw_key="lr")],
    "a decay that grows": [row("weight_decay", 0.04), row("weight_decay_end", 0.4), of_state("weight_decay", 0.1)],
    "one is where training has got to": [row(RATE, 0.1), row(f"{RATE}.current", 0.2, "b.yaml", kind=Kind.DYNAMIC)],
    "a file that contradicts itself": [row(RATE, 0.1), row(RATE, 0.2), row(RATE, 0.1, "b.yaml")],
}


@pytest.mark.parametrize("rows", ALONE.values(), ids=ALONE.keys())
def test_left_alone(rows: list[HParamRow]) -> None:
    assert found(*rows) == []


@pytest.mark.parametrize("reach", [reach for reach in Reach if reach is not Reach.RUN])
def test_only_what_holds_for_the_whole_run_can_be_contradicted(reach: Reach) -> None:
    assert is_comparable(row(RATE, 1.0))
    assert not is_comparable(row(RATE, 1.0, reach=reach))


def test_the_trials_of_a_search_differ() -> None:
    trials = (Trial("0"), Trial("1"))
    assert found(row(RATE, 0.1, "a.db"), row(RATE, 0.2, "b.db"), trials=trials) == []


def test_two_files() -> None:
    (conflict,) = found(row(RATE, 0.1), row(RATE, 0.2, "runs/b.yaml"))
    assert conflict == Conflict(
        Disagreement.STORES, RATE, "learning_rate of config.yaml is 0.1, but learning_rate of b.yaml is 0.2",
        {"values": [0.1, 0.2]},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (row("optimizer", "rmsprop"), of_state("optimizer", "SGD")),
        (row("optimizer", "adamw"), of_state("optimizer", "Adam")),
        (row("optimizer", "torch.optim.Adam", "b.pt"), of_state("optimizer", "SGD")),
        (row("betas[0]", 0.9, "b.pt"), of_state("betas", [0.85, 0.999])),
        (row("weight_decay", 0.03), of_state("weight_decay", 0.1)),
        (row("momentum", 0.9), of_state("momentum", 0.8)),
    ],
)
def test_a_config_against_the_optimizer_state(stated: HParamRow, told: HParamRow) -> None:
    (conflict,) = [c for c in found(stated, told) if c.kind is Disagreement.STATE]
    assert conflict.figures == {"values": [stated.value, told.value]}


def test_a_setting_counts_before_what_the_optimizer_began_with() -> None:
    began = row(RATE, 0.3, "b.pt", raw_key="initial_lr", priority=Priority.OPTIMIZER)
    (conflict,) = found(row(RATE, 0.1, "b.pt"), began)
    assert (conflict.kind, conflict.figures) == (Disagreement.OPTIMIZER, {"values": [0.1, 0.3]})
    assert found(row(RATE, 0.3, "b.pt"), began) == []


BLOCKS = tuple(tensor(f"layers.{i}.{leaf}.weight", 8, 8) for i in range(2) for leaf in ("q_proj", "o_proj"))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row("num_layers", 2)], []),
        ([row("num_layers", 3)], [(Disagreement.TENSORS, {"stated": 3, "tensors": 2})]),
        ([row("num_layers", 3), row("num_layers", 2)], []),  # encoder and decoder, say
        ([row("num_layers", "3")], []),
        ([row("hidden_size", 8), row("num_heads", 2)], []),
        ([row("hidden_size", 8), row("num_heads", 3)], [(Disagreement.HEADS, {"num_heads": 3, "hidden_size": 8})]),
        ([row("hidden_size", 16), row("num_heads", 2)], [(Disagreement.TENSORS, {"stated": 16, "tensors": 8})]),
        ([row("hidden_size", 16), row("num_heads", 2), row("head_dim", 4)], []),
    ],
)
def test_the_tensors(rows: list[HParamRow], expected: list[tuple[Disagreement, dict[str, object]]]) -> None:
    assert [(conflict.kind, conflict.figures) for conflict in found(*rows, tensors=BLOCKS)] == expected


def test_the_place_of_the_tensor_is_named() -> None:
    (conflict,) = found(row("num_layers", 3), tensors=BLOCKS)
    assert (conflict.tensor, conflict.message) == (
        "layers.0.q_proj.weight",
        "num_layers of config.yaml is 3, but the tensors say 2 (layers.0 to layers.1)",
    )
