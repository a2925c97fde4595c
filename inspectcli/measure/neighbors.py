"""Small tensors that lie side by side: read in one go, and measured as rows of one array."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from inspectcli.errors import PinspectError
from inspectcli.measure.base import Measurement, Rows
from inspectcli.measure.workers import Progress
from inspectcli.tensors.codecs import RAW, Segment
from inspectcli.tensors.model import TensorRef

_Measurements = tuple[type[Measurement[Any]], ...]

#: Bytes of a tensor that is a row: a larger one is worth a loop of its own.
MOST = 1 << 14
#: Bytes that are measured in one go: what is computed of them stays in the processor's cache.
_AT_ONCE = 1 << 18


#: A tensor, and its position in the checkpoint.
Placed = tuple[int, TensorRef]


class Row(NamedTuple):
    """A small tensor with its bytes."""

    position: int
    ref: TensorRef
    data: memoryview


class RowResults(Mapping[type[Measurement[Any]], Any]):
    """What was measured of one row: the columns are shared with the rows beside it."""

    __slots__ = ("_columns", "_row")

    def __init__(self, columns: Mapping[type[Measurement[Any]], Sequence[Any]], row: int) -> None:
        self._columns = columns
        self._row = row

    def __getitem__(self, measurement: type[Measurement[Any]]) -> Any:
        return self._columns[measurement][self._row]

    def __iter__(self) -> Iterator[type[Measurement[Any]]]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def can_be_a_row(ref: TensorRef) -> bool:
    """Whether a tensor is small, and its bytes are its values as they are, in C order."""
    if len(ref.segments) != 1:
        return False
    (segment,) = ref.segments
    return (
        0 < segment.nbytes <= MOST
        and segment.codec is RAW
        and segment.nbytes == ref.nbytes
        and ref.dtype.bits >= 8
        and ref.dtype.per_element == 1
        and ref.strides is None
        and ref.affine is None
        and ref.stored_shape is None
        and not (ref.big_endian or ref.negated or ref.implicit_zeros)
    )


def read(tensors: Iterable[Placed], progress: Progress | None) -> Iterator[Row]:
    """The tensors that can be read and have their checksums; bytes that follow each other are read in one go."""
    for run in _runs(tensors):
        first, last = run[0][1].segments[0], run[-1][1].segments[0]
        try:
            data = memoryview(first.source.read_at(first.offset, last.offset + last.nbytes - first.offset))
        except PinspectError:
            continue
        for position, ref in run:
            (segment,) = ref.segments
            part = data[segment.offset - first.offset :][: segment.nbytes]
            if not segment.crc or zlib.crc32(part) == segment.crc:
                yield Row(position, ref, part)
        if progress is not None:
            progress(len(data))


def _runs(tensors: Iterable[Placed]) -> Iterator[list[Placed]]:
    """Tensors of which each begins where the one before it ends."""
    run: list[Placed] = []
    last: Segment | None = None
    for placed in tensors:
        (segment,) = placed[1].segments
        if last is not None and (segment.source is not last.source or segment.offset != last.offset + last.nbytes):
            yield run
            run = []
        run.append(placed)
        last = segment
    if run:
        yield run


def measured(
    rows: Iterable[Row], measurements: Sequence[type[Measurement[Any]]]
) -> Iterator[tuple[int, Mapping[type[Measurement[Any]], Any]]]:
    """What was measured of each, those of one type and shape together, wherever they stand."""
    alike: dict[tuple[str, tuple[int, ...], _Measurements], list[Row]] = {}
    for row in rows:
        applying = tuple(m for m in measurements if m.applies_to(row.ref))
        alike.setdefault((row.ref.dtype.name, row.ref.shape, applying), []).append(row)
    for (_, _, applying), group in alike.items():
        left = iter(group)
        each = max(_AT_ONCE // len(group[0].data), 1)
        while part := list(islice(left, each)):
            refs = [row.ref for row in part]
            block = _rows(refs[0], part)
            columns = {m: m.of_rows(refs, block) for m in applying}
            yield from ((row.position, RowResults(columns, i)) for i, row in enumerate(part))


def _rows(ref: TensorRef, part: Sequence[Row]) -> Rows:
    import numpy as np

    values = np.frombuffer(b"".join([row.data for row in part]), ref.dtype.numpy)
    return Rows(values.reshape(len(part), -1), ref.dtype)
