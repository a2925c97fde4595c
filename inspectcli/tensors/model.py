"""Descriptions of tensors and of the file that holds them, as readers return them: without values.

All classes are frozen and picklable: a local file travels as its path, and is reopened in the other process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import NamedTuple

from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.codecs import RAW, Checksum, Segment
from inspectcli.tensors.dtypes import DType
from inspectcli.words import Word


class Kind(Word):
    """What a tensor is for."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    EMA = "ema"
    OPTIMIZER = "optimizer"
    RNG = "rng"
    QUANTIZATION = "quantization"
    CONSTANT = "constant"
    GRADIENT = "gradient"
    CALLBACK = "callback"
    METRIC = "metric"
    HYPERPARAMETER = "hyperparameter"
    OTHER = "other"


#: Kinds that are not the model itself: left out of `model_parameters` and, by default, of the table.
TRAINING_STATE = frozenset({Kind.OPTIMIZER, Kind.RNG, Kind.CALLBACK, Kind.METRIC, Kind.HYPERPARAMETER, Kind.GRADIENT})


class Affine(NamedTuple):
    """Integer codes that stand for real values: value = scale * (code - zero_point).

    Per tensor: one scale, one zero point. Per channel: one of each along `axis`, as tensors to be read
    (`scales`, `zero_points`).
    """

    scale: float = 1.0
    zero_point: float = 0.0
    axis: int | None = None
    scales: TensorRef | None = None
    zero_points: TensorRef | None = None


@dataclass(frozen=True, slots=True)
class TensorRef:
    """One named tensor: what it is and where its bytes lie.

    Attributes:
        name: as a user of the model knows it.
        dtype: element type.
        shape: as the writing library gives it.
        kind: what it is for.
        segments: its bytes, first element first; empty if there are none in the file.
        stored_shape: shape of the values in this file where that is not `shape`: the stored values of a sparse
            tensor, one rank's part of a DTensor.
        strides: of the held values, in elements; None if C-contiguous.
        storage: identity of (storage, first element, shape, strides): equal for tied tensors. None if unique.
        big_endian: bytes of each element in reverse order.
        negated, conjugated: torch's lazy bits: the stored bytes lack that operation.
        implicit_zeros: elements of a sparse tensor that are not stored.
        affine: how integer codes become values.
        packed: words of a quantized tensor: several values in each element, never averaged.
        layer: the class of the module it belongs to, if the file says so.
        note: what a reader should know (`sparse_coo, 12 stored`).
        problem: why its values cannot be read; the rest of the file is fine.
        cure: what helps against the problem, where the file itself may be whole.
        position: where the writing library counts it, if all its formats count alike: `optimizer/vars/2` (Keras 3).
        positional: whether the name says no more than that, and is no name by which to find it in another file.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    kind: Kind = Kind.PARAMETER
    segments: tuple[Segment, ...] = ()
    stored_shape: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    storage: tuple[object, ...] | None = None
    big_endian: bool = False
    negated: bool = False
    conjugated: bool = False
    implicit_zeros: int = 0
    affine: Affine | None = None
    packed: bool = False
    layer: str = ""
    note: str = ""
    problem: str = ""
    cure: str = ""
    position: str = ""
    positional: bool = False

    @property
    def numel(self) -> int:
        """Number of elements as the writing library counts them."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that its elements take; of a sparse or sharded tensor those in this file."""
        codec = self.segments[0].codec if self.segments else RAW
        return codec.size(self.dtype, self.held)

    @property
    def held(self) -> int:
        """Number of elements whose values are in this file."""
        return prod(self.shape if self.stored_shape is None else self.stored_shape)

    @property
    def has_values(self) -> bool:
        """Whether there is anything to read."""
        return not self.problem and (bool(self.segments) or self.held == 0)

    def numpy(self) -> object:
        """Read the values: an array of `shape` in the nearest NumPy type (bf16, fp8 and quantized as float32).

        Raises:
            PinspectError: the bytes cannot be read.
            ValueError: there are no values (a meta tensor, a packed type).
        """
        from inspectcli.tensors.values import read_array

        return read_array(self)


class Hazard(NamedTuple):
    """Something in the file that would act when an unrestricted loader loads it."""

    what: str  # "os.system would be called with 'id'"
    where: str  # "data.pkl, byte 12"
    kind: str = "code"  # what acts: "code" in a pickle, a "layer" of a Keras config, another "file" that is read


class Defect(NamedTuple):
    """Where the files of one model contradict their index.

    Attributes:
        what: `missing-shard`, `extra-shard`, `index-mismatch`, `not-in-index` or `total-size`.
        message: what is wrong: found, expected.
        figures: the numbers of the message.
        tensors: names of the tensors that it concerns.
    """

    what: str
    message: str
    figures: Mapping[str, object] = {}
    tensors: tuple[str, ...] = ()


class Training(NamedTuple):
    """How far training was, as far as the file says so."""

    epoch: int | float | None = None
    step: int | float | None = None
    optimizer: str = ""

    def __bool__(self) -> bool:
        return bool(self.optimizer) or self.epoch is not None or self.step is not None


@dataclass(frozen=True)
class Checkpoint:
    """A file, or the files of one model, as its reader understood it.

    Attributes:
        path: what the user named.
        format: `torch-zip`, `safetensors`, ... (the table in the README).
        size: bytes of all its files.
        tensors: in the order of the file.
        metadata: facts for people, JSON-able: versions, header strings, counts.
        objects: the non-tensor objects as the reader built them, for those who look for hyperparameters.
        writer: the library and version that wrote it, as far as known.
        foreign: classes the pickle refers to that are neither Python's nor torch's; named, never imported.
        globals: everything that the pickle names, `module.name`, sorted; empty where there is none.
        hazards: what would act on a careless loader.
        notes: what a reader should know, and what was not looked at.
        training: epoch, step, optimizer.
        files: the files it consists of, if more than one.
        checksums: to compare when the values are read.
        defects: where its files and their index contradict each other.
        location: where it was opened: the file, the index or the folder. None of a model in memory.
        sources: the files that were opened, to be asked at the end of a run whether they changed.
    """

    path: str
    format: str
    size: int
    tensors: tuple[TensorRef, ...]
    metadata: Mapping[str, object] = field(default_factory=dict)
    objects: object = None
    writer: str = ""
    foreign: tuple[str, ...] = ()
    globals: tuple[str, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    notes: tuple[str, ...] = ()
    training: Training = Training()  # noqa: RUF009  (immutable)
    files: tuple[str, ...] = ()
    checksums: tuple[Checksum, ...] = ()
    defects: tuple[Defect, ...] = ()
    location: Location | None = None
    sources: tuple[Source, ...] = ()

    def __iter__(self) -> Iterator[TensorRef]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __getitem__(self, name: str) -> TensorRef:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, TensorRef]:
        return {tensor.name: tensor for tensor in reversed(self.tensors)}  # of equal names the first counts


def aliases(tensors: tuple[TensorRef, ...]) -> dict[int, str]:
    """Position of each tied tensor -> name of the first tensor with the same elements."""
    first: dict[tuple[object, ...], str] = {}
    tied: dict[int, str] = {}
    for position, tensor in enumerate(tensors):
        if tensor.storage is None or not tensor.numel:
            continue
        name = first.setdefault(tensor.storage, tensor.name)
        if name is not tensor.name:
            tied[position] = name
    return tied
