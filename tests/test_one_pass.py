"""Every byte of a tensor's values is read once by `inspect` and `check`; what is read again is declared, and bounded.

`diff` reads equal pairs once. Of others it reads again what it saw before their first difference, and what it looked at
to find which tensor is which.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.places import FIXTURES

import inspectcli
from inspectcli import formats
from inspectcli.errors import PinspectError
from inspectcli.measure.base import is_averaged
from inspectcli.storage.memory import place
from inspectcli.storage.source import Source
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.model import Checkpoint, TensorRef, aliases
from inspectcli.tensors.stored import is_dense
from inspectcli.tensors.values import BLOCK

#: How a read was asked for: the one pass, a declared second pass, or a number that stands among the hyperparameters.
PASSES = {"measure/again.py": "second", "hparams/_pickled.py": "number"}


def _asked_by() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        for path, name in PASSES.items():
            if frame.f_code.co_filename.replace("\\", "/").endswith(path):
                return name
        frame = frame.f_back  # type: ignore[assignment]
    return "first"


class Counting:
    """A source that counts the bytes that are read from it, by pass."""

    def __init__(self, source: Source, counts: Counter[str]) -> None:
        self._source = source
        self._counts = counts
        self.name = source.name
        self.size = source.size

    def read_at(self, offset: int, n: int) -> bytes:
        self._counts[_asked_by()] += n
        return self._source.read_at(offset, n)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._counts[_asked_by()] += len(buffer)
        self._source.read_into(offset, buffer)


class Counted:
    """Checkpoints as they are opened, with sources that count."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.opened: list[Checkpoint] = []
        self._open = formats.open_checkpoint
        self._depth = 0

    def open(self, path: Any) -> Checkpoint:
        self._depth += 1
        try:
            checkpoint = self._open(path)
        finally:
            self._depth -= 1
        if self._depth:  # a part of a set
            return checkpoint
        sources: dict[int, Source] = {}

        def counting(source: Source, offset: int) -> tuple[Any, int]:
            outer, offset = place(source, offset)
            return sources.setdefault(id(outer), Counting(outer, self.counts)), offset

        def segment(old: Segment) -> Segment:
            if old.codec.is_serial:  # read by another process
                return old
            source, offset = counting(old.source, old.offset)
            return replace(old, source=source, offset=offset)

        def checksum(old: Any) -> Any:
            source, offset = counting(old.source, old.offset)
            return old._replace(source=source, offset=offset)

        checkpoint = replace(
            checkpoint,
            tensors=tuple(replace(ref, segments=tuple(map(segment, ref.segments))) for ref in checkpoint.tensors),
            checksums=tuple(map(checksum, checkpoint.checksums)),
        )
        self.opened.append(checkpoint)
        return checkpoint


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    made = Counted()
    monkeypatch.setattr(formats, "open_checkpoint", made.open)
    return made


def stored_bytes(ref: TensorRef) -> int:
    """Bytes of the file that hold its values; of a view with gaps, all from its first to its last."""
    segments = [segment for segment in ref.segments if not segment.codec.is_serial]
    if ref.strides is None or is_dense(ref) or not segments or not segments[0].codec.is_plain:
        return sum(segment.nbytes if segment.codec.is_plain else segment.stored for segment in segments)
    dims = zip(ref.shape if ref.stored_shape is None else ref.stored_shape, ref.strides, strict=True)
    return (1 + sum((dim - 1) * stride for dim, stride in dims)) * ref.dtype.itemsize if ref.held else 0


def unique(checkpoint: Checkpoint) -> Iterator[TensorRef]:
    tied = aliases(checkpoint.tensors)
    yield from (ref for i, ref in enumerate(checkpoint.tensors) if i not in tied and is_averaged(ref))


def beside(checkpoint: Checkpoint) -> int:
    """Bytes that are read for their checksum alone."""
    whole = [s for ref in unique(checkpoint) if ref.strides is None for s in ref.segments if s.crc]
    own = {(s.source, s.offset, s.nbytes) for s in whole}
    return sum(c.nbytes for c in checkpoint.checksums if (c.source, c.offset, c.nbytes) not in own)


MODELS = [
    path
    for path in sorted([*FIXTURES.iterdir(), *(FIXTURES / "damaged").iterdir()])
    if path.name not in ("README.md", "expected.json", "make_fixtures.py", "damaged", "hostile")
]
COMMANDS: dict[str, Callable[[Path], object]] = {
    "inspect": inspectcli.inspect,
    "check": partial(inspectcli.check, select=["PI"]),
}


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
@pytest.mark.parametrize("command", COMMANDS)
def test_values_are_read_once(command: str, path: Path, counted: Counted) -> None:
    COMMANDS[command](path)
    for checkpoint in counted.opened:
        refs = list(unique(checkpoint))
        assert counted.counts["first"] == sum(map(stored_bytes, refs)) + beside(checkpoint)
        # A tensor is read again as a suspected copy, or to see whether its initial values are independent.
        assert counted.counts["second"] <= 2 * sum(map(stored_bytes, refs))
        assert counted.counts["number"] <= 16 * len(checkpoint.tensors)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_two_equal_files_are_read_once(path: Path, counted: Counted) -> None:
    try:
        inspectcli.diff(path, path)
    except PinspectError:
        return
    # The codes of a quantized tensor are compared after its values: equal ones may be encoded in two ways.
    times = {True: 2, False: 1}
    refs = [ref for checkpoint in counted.opened for ref in checkpoint.tensors if ref.has_values]
    expected = sum(stored_bytes(ref) * times[ref.affine is not None] for ref in refs)
    assert counted.counts["first"] == expected == counted.counts.total()


@pytest.mark.parametrize("place", [0, 1 << 20, (1 << 22) - 1])
def test_what_stands_before_the_first_difference_is_read_again(place: int, tmp_path: Path, counted: Counted) -> None:
    x = np.zeros(1 << 22, np.float32)
    save_file({"x": x}, tmp_path / "a.safetensors")
    x[place] = 1
    save_file({"x": x}, tmp_path / "b.safetensors")
    assert inspectcli.diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors")["x"].changed == 1
    again = 4 * place // BLOCK + 1
    read = 2 * (x.nbytes + again * BLOCK)
    assert set(counted.counts) == {"first"}
    assert read <= counted.counts["first"] <= read + 4096  # a few values, to see whether it is a copy of another tensor


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("gpt2_tiny.safetensors", "gpt2_tiny_nan.safetensors"),
        ("lightning.ckpt", "run.pth.tar"),
        ("dtypes.pt", "dtypes.safetensors"),
        ("mlp_keras3.h5", "mlp.pt"),
        ("half_trained.pt", "gpt2_tiny.safetensors"),
    ],
)
def test_to_find_which_tensor_is_which_reads_each_a_few_times(a: str, b: str, counted: Counted) -> None:
    inspectcli.diff(FIXTURES / a, FIXTURES / b)
    assert counted.counts["first"] <= 4 * sum(stored_bytes(ref) for c in counted.opened for ref in c.tensors)
