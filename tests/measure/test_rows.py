"""Rows and columns of zeros, against NumPy, whatever the blocks, the type and the order of storage."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import inspectcli
from inspectcli.measure import rows
from inspectcli.measure.base import Block
from inspectcli.measure.rows import SHOWN, Slices, ZeroSlices
from inspectcli.measure.scan import scan
from inspectcli.storage.memory import Memory
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.model import Checkpoint, Kind, TensorRef

TYPES: dict[str, Any] = {
    "f64": np.float64,
    "f32": np.float32,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f8_e4m3": ml_dtypes.float8_e4m3fn,
    "f8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "c64": np.complex64,
}


def by_numpy(x: npt.NDArray[Any]) -> dict[int, Slices]:
    found = {}
    for axis in range(x.ndim):
        gone = np.flatnonzero(~(x != 0).any(axis=tuple(i for i in range(x.ndim) if i != axis)))
        found[axis] = Slices(gone.size, tuple(gone[:SHOWN].tolist()))
    return found


def described(x: npt.NDArray[Any], name: str) -> TensorRef:
    source = Memory("x", x.tobytes())
    return TensorRef("x", DTYPES[name], x.shape, segments=(Segment(source, 0, source.size),))


def measured(ref: TensorRef) -> object:
    (found,) = scan(Checkpoint("test", "test", 0, (ref,)), (ZeroSlices,))
    return found.get(ZeroSlices)


def in_blocks(x: npt.NDArray[Any], name: str, cuts: list[int]) -> object:
    """As `measured`, in blocks that end at given places."""
    made = ZeroSlices.empty(described(x, name))
    flat = x.ravel()
    edges = [0, *sorted(cut % (x.size + 1) for cut in cuts), x.size]
    for a, b in pairwise(edges):
        if a < b:
            made.update(Block(flat[a:b].view(DTYPES[name].numpy), DTYPES[name], a, b - a))
    return made.result()


@st.composite
def arrays(draw: st.DrawFn) -> npt.NDArray[Any]:
    shape = draw(st.lists(st.integers(1, 6), min_size=2, max_size=4))
    x = np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape)
    for axis, dim in enumerate(shape):
        for index in draw(st.sets(st.integers(0, dim - 1), max_size=dim)):
            if draw(st.booleans()):
                x[(slice(None),) * axis + (index,)] = draw(st.sampled_from([0.0, -0.0]))
    spots = draw(st.lists(st.integers(0, x.size - 1), max_size=8))
    x.flat[spots] = draw(st.sampled_from([0.0, 3.0, np.nan]))
    return x


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=50, deadline=None)
@given(x=arrays(), cuts=st.lists(st.integers(0, 2000), max_size=5))
def test_any_blocks_give_what_numpy_gives(name: str, x: npt.NDArray[Any], cuts: list[int]) -> None:
    with np.errstate(all="ignore"):
        stored = x.astype(TYPES[name])
    assert in_blocks(stored, name, cuts) == by_numpy(stored)


def sparse(shape: tuple[int, ...], zeros: int, dead: Callable[[npt.NDArray[Any]], None] | None = None) -> Any:
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    x.flat[np.random.default_rng(2).integers(0, x.size, zeros)] = 0
    if dead is not None:
        dead(x)
    return x


def kill(*index: Any) -> Callable[[npt.NDArray[Any]], None]:
    def dead(x: npt.NDArray[Any]) -> None:
        x[index] = 0

    return dead


LARGE = {
    "none": sparse((1500, 1100), 0),
    "a few zeros": sparse((1500, 1100), 40),
    "many zeros": sparse((1500, 1100), 200_000),
    "rows": sparse((1500, 1100), 40, kill([0, 476, 477, 1499])),
    "columns": sparse((1500, 1100), 40, kill(slice(None), [0, 5, 1099])),
    "both": sparse((1500, 1100), 9, kill([3], slice(None))) * (np.arange(1100) != 7),
    "rows longer than a block": sparse((3, 700_000), 90, kill([1])),
    "columns of long rows": sparse((3, 700_000), 90, kill(slice(None), slice(0, 300))),
    "long columns": sparse((700_000, 3), 90, kill(slice(None), 1)),
    "experts": sparse((5, 600, 700), 90, kill(slice(None), [0, 599])),
    "kernels": sparse((300, 200, 5, 5), 90, kill(slice(None), 17)),
    "all": np.zeros((1000, 900), np.float32),
    "all but one": sparse((1000, 900), 0, kill(slice(None))) + (np.arange(900_000) == 555_555).reshape(1000, 900),
}


@pytest.mark.parametrize("case", LARGE)
def test_large_tensors_give_what_numpy_gives(case: str) -> None:
    x = LARGE[case].astype(np.float32)
    assert measured(described(x, "f32")) == by_numpy(x)


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transposed": lambda t: t.T,
    "permuted": lambda t: t.reshape(30, 20, 50).permute(2, 0, 1),
    "sliced": lambda t: t[::2, 1::3],
    "sliced and transposed": lambda t: t[::2, 1::3].T,
    "expanded": lambda t: t[:, None].expand(600, 3, 50),
    "overlapping": lambda t: t.reshape(-1).unfold(0, 70, 3),
    "one row": lambda t: t[:1],
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_give_what_torch_gives(view: str, tmp_path: Path) -> None:
    base = torch.randn(600, 50, generator=torch.Generator().manual_seed(0))
    base[[0, 2, 300]] = 0
    base[:, [4, 7]] = 0
    tensor = VIEWS[view](base)
    torch.save({"x": tensor}, tmp_path / "x.pt")
    assert measured(inspectcli.open_checkpoint(tmp_path / "x.pt")["x"]) == by_numpy(tensor.numpy())


@pytest.mark.parametrize("name", ["f6_e2m3", "f6_e3m2", "f4", "f4_x2"])
def test_packed_types_give_what_ml_dtypes_gives(name: str) -> None:
    scalar = {"f6_e2m3": ml_dtypes.float6_e2m3fn, "f6_e3m2": ml_dtypes.float6_e3m2fn}.get(name, ml_dtypes.float4_e2m1fn)
    bits, pair = DTYPES[name].bits // DTYPES[name].per_element, DTYPES[name].per_element
    codes = np.random.default_rng(5).integers(0, 1 << bits, (40, 52)).astype(np.uint8)
    codes[[0, 7]] = 0
    codes[:, [3, 51]] = 0
    spread = np.unpackbits(codes.ravel()[:, None], axis=1, bitorder="little")[:, :bits]
    raw = np.packbits(spread.ravel(), bitorder="little")
    segment = Segment(Memory("x", raw.tobytes()), 0, raw.size)
    ref = TensorRef("x", DTYPES[name], (40, 52 // pair), segments=(segment,))
    assert measured(ref) == by_numpy(codes.view(scalar).astype(np.float32))


def test_parts_merge() -> None:
    x = LARGE["both"].astype(np.float32)
    ref, flat = described(x, "f32"), x.ravel()
    made = []
    for a, b in ((0, 700_001), (700_001, 900_000), (900_000, x.size)):
        made.append(ZeroSlices.empty(ref))
        made[-1].update(Block(flat[a:b], DTYPES["f32"], a, b - a))
    assert made[0].merge(made[1]).merge(made[2]).result() == by_numpy(x)


def test_an_axis_that_no_layer_has_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST", 1000)
    x = LARGE["columns"].astype(np.float32)[:900]
    assert measured(described(x, "f32")) == {0: by_numpy(x)[0]}


@pytest.mark.parametrize(
    "ref",
    [
        TensorRef("a vector", DTYPES["f32"], (4,)),
        TensorRef("integers", DTYPES["i32"], (4, 0)),
        TensorRef("moments", DTYPES["f32"], (4, 0), Kind.OPTIMIZER),
        TensorRef("no values", DTYPES["f32"], (4, 4)),
    ],
    ids=lambda ref: ref.name,
)
def test_others_are_not_measured(ref: TensorRef) -> None:
    assert not ZeroSlices.applies_to(ref)


def test_a_block_with_few_zeros_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = rows.nonzero

    def counted(block: Block, first: int, end: int) -> Any:
        seen.append(end - first)
        return original(block, first, end)

    monkeypatch.setattr(rows, "nonzero", counted)
    x = LARGE["a few zeros"]
    measured(described(x, "f32"))
    assert sum(seen) < 20 * x.shape[1]
