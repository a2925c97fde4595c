"""Repeated blocks fold; a tensor that differs stands alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectcli.commands.inspect.fold import fold
from inspectcli.commands.inspect.result import TensorRow, TensorStats
from inspectcli.display.fold import Fold, unfolded
from inspectcli.tensors.model import Kind


def stats(std: float = 0.1, peak: float = 0.5, nan: int = 0) -> TensorStats:
    return TensorStats(0.0, std, -peak, peak, peak, 1.0, 0, 0, nan, 0, 0, 0 if nan else None, None)


def row(name: str, shape: tuple[int, ...] = (4, 4), made: TensorStats | None = None, dtype: str = "f32") -> TensorRow:
    return TensorRow(name, shape, dtype, Kind.PARAMETER, 16, 64, None, made or stats())


def names(lines: list[Fold]) -> list[str]:
    return [line.name for line in lines]


@pytest.mark.parametrize(
    ("given_names", "expected"),
    [
        (["a.weight", "b.weight", "c.weight"], ["a.weight", "b.weight", "c.weight"]),
        (["h.0.w", "h.1.w"], ["h.0.w", "h.1.w"]),
        (["h.0.w", "h.1.w", "h.2.w"], ["h.{0..2}.w"]),
        (["h.0.w", "h.1.w", "h.3.w", "h.4.w"], ["h.{0..1,3..4}.w"]),
        (["layer1.w", "layer2.w", "layer3.w"], ["layer{1..3}.w"]),
        (["b/0/w", "b/1/w", "b/2/w"], ["b/{0..2}/w"]),
        (["h.0.e.0.w", "h.0.e.1.w", "h.1.e.0.w", "h.1.e.1.w"], ["h.{0..1}.e.{0..1}.w"]),
        (["w.0", "w.1", "w.2"], ["w.{0..2}"]),
        (["conv1d.weight", "conv2d.weight", "conv3d.weight"], ["conv1d.weight", "conv2d.weight", "conv3d.weight"]),
        (["fc1.w", "other", "fc2.w", "fc3.w"], ["fc{1..3}.w", "other"]),
    ],
)
def test_names_fold(given_names: list[str], expected: list[str]) -> None:
    assert names(fold([row(n) for n in given_names])) == expected


def twelve(**changed: TensorRow) -> list[TensorRow]:
    rows = [row(f"h.{i}.w") for i in range(12)]
    return [changed.get(f"h{i}", r) for i, r in enumerate(rows)]


@pytest.mark.parametrize(
    "odd",
    [
        row("h.7.w", made=stats(nan=1)),
        row("h.7.w", shape=(4, 5)),
        row("h.7.w", dtype="f16"),
        row("h.7.w", made=stats(std=1e-6)),
        row("h.7.w", made=stats(std=10.0)),
        row("h.7.w", made=stats(std=0.0)),
        row("h.7.w", made=stats(peak=400.0)),
        row("h.7.w")._replace(problem="cut"),
        row("h.7.w")._replace(alias_of="h.0.w"),
        row("h.7.w")._replace(kind=Kind.BUFFER),
    ],
    ids=["nan", "shape", "dtype", "small std", "large std", "constant", "outlier", "unreadable", "tied", "kind"],
)
def test_a_member_that_differs_is_never_folded_away(odd: TensorRow) -> None:
    lines = fold(twelve(h7=odd))
    assert sorted(names(lines)) == sorted(["h.{0..6,8..11}.w", "h.7.w"])


def test_siblings_that_all_differ_a_little_fold() -> None:
    rows = [row(f"h.{i}.w", made=stats(std=0.05 * 1.2**i)) for i in range(12)]
    assert names(fold(rows)) == ["h.{0..11}.w"]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc"), st.sampled_from([0.1, 0.1, 9.0])), max_size=30))
def test_folding_loses_no_tensor_and_doubles_none(members: list[tuple[int, str, float]]) -> None:
    rows = [row(f"h.{i}.{leaf}", made=stats(std=std)) for i, leaf, std in dict.fromkeys(members)]
    shown = [member for line in fold(rows) for member in line.members]
    assert sorted(map(id, shown)) == sorted(map(id, rows))


def test_without_folding_each_tensor_is_a_line() -> None:
    assert names(unfolded(twelve())) == [f"h.{i}.w" for i in range(12)]
