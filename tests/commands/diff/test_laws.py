"""Laws of a comparison: identity, mirror, and that the listed changes lead from A to B."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inspectcli import DiffReport, diff
from inspectcli.commands.diff.compare import Status
from inspectcli.commands.diff.difference import Difference, Tolerance, difference

MIRROR = {Status.ADDED: Status.REMOVED, Status.REMOVED: Status.ADDED}
NAMES = ["a.weight", "a.bias", "h.0.w", "h.1.w", "h.2.w", "enc.dense_1.kernel", "enc.dense_2.kernel", "norm.gamma"]
SHAPES = [(6,), (2, 3), (3, 2), (4, 4), (1,), (0,), ()]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64]


@st.composite
def states(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    made = {}
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6)):
        shape = draw(st.sampled_from(SHAPES))
        seed = draw(st.integers(0, 3))
        values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 4
        made[name] = values.to(draw(st.sampled_from(DTYPES)))
        if seed == 3 and made[name].is_floating_point() and made[name].numel():
            made[name].flatten()[0] = math.nan
    prefix = draw(st.sampled_from(["", "", "module.", "net."]))
    return {prefix + name: value for name, value in made.items()}


def table(state: dict[str, torch.Tensor]) -> dict[str, tuple[tuple[int, ...], str]]:
    short = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16", "int64": "i64"}
    return {n: (tuple(v.shape), short[str(v.dtype).removeprefix("torch.")]) for n, v in state.items()}


def applied(before: dict[str, tuple[tuple[int, ...], str]], report: DiffReport) -> object:
    """A's table after the listed changes."""
    after = dict(before)
    for t in report.tensors:
        if t.a is not None:
            assert after.pop(t.a) == (t.shape_a, t.dtype_a)
    for t in report.tensors:
        if t.b is not None:
            assert t.b not in after
            after[t.b] = (t.shape_b, t.dtype_b)
    return after


@settings(max_examples=60, deadline=None)
@given(states())
def test_a_checkpoint_differs_in_nothing_from_itself(state: dict[str, torch.Tensor]) -> None:
    report = diff(state, state)
    assert report.same
    assert {t.status for t in report.tensors} <= {Status.IDENTICAL}
    assert report.metadata == report.prefixes == ()


@settings(max_examples=200, deadline=None)
@given(states(), states())
def test_the_listed_changes_lead_from_a_to_b(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    report = diff(a, b)
    assert applied(table(a), report) == table(b)
    assert report.same is diff(b, a).same


@settings(max_examples=200, deadline=None)
@given(states(), states())
def test_the_other_direction_is_the_mirror(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    there, back = diff(a, b), diff(b, a)
    assert {(t.a, t.b, t.status) for t in there.tensors} == {
        (t.b, t.a, MIRROR.get(t.status, t.status)) for t in back.tensors
    }
    assert there.verdict.code == back.verdict.code
    partner = {(t.b, t.a): t for t in back.tensors}
    for t in there.tensors:
        other = partner[t.a, t.b]
        assert (t.changed, t.nan_a, t.nan_b) == (other.changed, other.nan_b, other.nan_a)
        assert (t.max_abs, t.l2) == (pytest.approx(other.max_abs), pytest.approx(other.l2))


# -- the monoid -----------------------------------------------------------------------------------------------

VALUES = st.one_of(st.floats(width=32), st.sampled_from([0.0, -0.0, math.nan, math.inf, 1.0]))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=60), st.lists(st.integers(0, 60), max_size=4), st.data()
)
def test_any_chunking_gives_the_answer_of_numpy(
    pairs: list[tuple[float, float]], cuts: list[int], data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from([np.float32, np.float64]))
    a, b = (np.array(side, kind) for side in zip(*pairs, strict=True))
    tolerance = Tolerance(0.5, 0.01)
    total, start = Difference(), 0
    for end in [*sorted(min(c, a.size) for c in cuts), a.size]:
        if end > start:
            total = total.merge(difference(a[start:end], b[start:end], start, tolerance))
        start = max(start, end)
    nan = np.isnan(a), np.isnan(b)
    changed = ~((a == b) | (nan[0] & nan[1]))
    finite = np.isfinite(a) & np.isfinite(b)
    with np.errstate(all="ignore"):
        distance = np.abs(a.astype(np.float64) - b)
    odd = np.flatnonzero(~finite & changed)
    assert total.count == a.size
    assert total.finite == finite.sum()
    assert total.changed == changed.sum()
    wide = a.astype(np.float64), b.astype(np.float64)
    # NumPy takes the share of its second argument, we that of the larger one.
    close = np.isclose(*wide, rtol=0.01, atol=0.5) | np.isclose(*wide[::-1], rtol=0.01, atol=0.5)
    assert total.beyond == (changed & ~close).sum()
    assert (total.nan_a, total.nan_b) == (nan[0].sum(), nan[1].sum())
    assert total.nonfinite == odd.size
    assert total.first_nonfinite == (odd[0] if odd.size else None)
    assert total.max_abs == (distance[finite].max() if finite.any() else 0.0)
    assert total.l2 == pytest.approx(np.linalg.norm(distance[finite]), rel=1e-6)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=40))
def test_the_figures_are_those_of_numpy(pairs: list[tuple[float, float]]) -> None:
    a, b = (np.array(side, np.float32) for side in zip(*pairs, strict=True))
    found = difference(a, b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.isfinite(a) & np.isfinite(b)
    distance = np.abs(a.astype(np.float64) - b)[finite]
    assert found.changed == int((~same).sum())
    assert found.max_abs == (distance.max() if distance.size else 0.0)
    if distance.size and distance.max():
        assert found.max_at is not None
        assert abs(float(a[found.max_at]) - float(b[found.max_at])) == distance.max()
    norm = np.linalg.norm(a[finite].astype(np.float64))
    if norm > 1e-18 and distance.any():
        assert found.rel_l2 == pytest.approx(np.linalg.norm(distance) / norm, rel=1e-6)


# -- moments: those of NumPy, wherever the mean lies --------------------------------------------------------------

TYPES = [
    *(np.dtype(t) for t in "float64 float32 float16 int8 uint8 int16 uint16 int32 int64 uint64".split()),
    np.dtype(ml_dtypes.bfloat16),
    np.dtype(np.complex64),
]
SPREADS = {0: 1e-3, 1: 1e-3, 1e3: 1e-3, 1e6: 1e-3}


@pytest.mark.parametrize(
    ("kind", "mean"),
    [
        pytest.param(kind, mean, id=f"{kind}-{mean}")
        for kind in TYPES
        for mean in SPREADS
        if kind != np.float16 or mean < 65_504
    ],
)
@pytest.mark.parametrize("sizes", [(0.1, 1.0), (1.0, 1e-4), (1e4, 1.0)], ids=["alike", "b is flat", "b is wide"])
def test_mean_std_and_correlation_are_those_of_numpy(mean: float, kind: np.dtype, sizes: tuple[float, float]) -> None:
    rng = np.random.default_rng(20250101)
    noise = rng.normal(size=(2, 10_000))
    spread = SPREADS[mean] if kind.kind not in "iu" else 5.0
    center = mean if kind.kind not in "iu" else min(mean, float(np.iinfo(kind).max) / 2)
    own, scale = sizes
    a = _cast(center + spread * noise[0], kind)
    b = _cast(center + spread * scale * (noise[0] + own * noise[1]), kind)
    total = Difference()
    for start in range(0, a.size, 3_000):
        part = slice(start, start + 3_000)
        values = [x[part].astype(np.float32) if x.dtype == ml_dtypes.bfloat16 else x[part] for x in (a, b)]
        total = total.merge(difference(*values, start))
    x, y = (_wide(side) for side in (a, b))
    assert total.mean_a == pytest.approx(x.mean(), rel=1e-12, abs=1e-15)
    assert total.mean_b == pytest.approx(y.mean(), rel=1e-12, abs=1e-15)
    assert total.std_a == pytest.approx(x.std(), rel=1e-8)
    assert total.std_b == pytest.approx(y.std(), rel=1e-8)
    if np.ptp(x) and np.ptp(y):
        assert total.correlation == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    else:
        assert total.correlation is None


def _cast(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return np.clip(np.rint(values), limits.min, limits.max).astype(kind)
    return (values + 0.25j * values[::-1]).astype(kind) if kind.kind == "c" else values.astype(kind)


def _wide(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "c":  # of magnitudes, as in `pinspect MODEL`
        return np.abs(values.astype(np.complex128))
    return values.astype(np.float64)


@pytest.mark.parametrize("size", [1.7e308, 1e300, 1e-300, 0.0])
def test_figures_of_the_largest_and_the_smallest_values(size: float) -> None:
    a, b = np.array([1.0, 0.25, 0.5, -0.5]) * size, np.array([0.5, 0.5, 0.25, -0.25]) * size
    found = difference(a, b)
    unit = np.array([1.0, 0.25, 0.5, -0.5]), np.array([0.5, 0.5, 0.25, -0.25])
    assert found.std_a == pytest.approx(unit[0].std() * size, rel=1e-12)
    assert found.std_b == pytest.approx(unit[1].std() * size, rel=1e-12)
    if size > 1e307:  # a norm is larger than the largest float64
        assert found.correlation == pytest.approx(np.corrcoef(*unit)[0, 1], rel=1e-12)
        assert found.cosine is None
    elif size:
        assert found.correlation == pytest.approx(np.corrcoef(*unit)[0, 1], rel=1e-12)
        assert found.cosine == pytest.approx(np.dot(*unit) / np.linalg.norm(unit[0]) / np.linalg.norm(unit[1]))
    else:
        assert (found.correlation, found.cosine) == (None, 1.0)


def test_moving_all_values_changes_no_correlation() -> None:
    rng = np.random.default_rng(20250101)
    a = rng.normal(size=4_096) * 1e-3
    b = a + rng.normal(size=4_096) * 1e-5
    moved = difference(a + 1e6, b + 1e6)
    assert moved.correlation == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-6)
    assert moved.std_a == pytest.approx(a.std(), rel=1e-6)
