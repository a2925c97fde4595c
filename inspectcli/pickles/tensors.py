"""Tensors that torch's and NumPy's rebuild functions would make of their arguments, described without values.

    https://github.com/pytorch/pytorch/blob/v2.13.0/torch/_utils.py
No number from the file sizes an allocation: a tensor is described as a range of a storage.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from typing import NamedTuple, Protocol

from inspectcli.errors import DamagedFileError, LimitError, UnsafeFileError
from inspectcli.pickles.globals import canonical
from inspectcli.pickles.nodes import Dict, Global, Object, Persistent, key_of, shown
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import DTYPES, DType
from inspectcli.tensors.stored import c_strides

MAX_DIMENSIONS = 64
#: Depth of files kept as bytes inside a pickle; torch writes one level.
MAX_NESTING = 8
#: No file system holds more, and sizes stay below what wraps around in 64 bits.
MAX_ELEMENTS = 1 << 62

_STORAGE_CLASSES = {
    "DoubleStorage": "f64",
    "FloatStorage": "f32",
    "HalfStorage": "f16",
    "BFloat16Storage": "bf16",
    "LongStorage": "i64",
    "IntStorage": "i32",
    "ShortStorage": "i16",
    "CharStorage": "i8",
    "ByteStorage": "u8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "c128",
    "ComplexFloatStorage": "c64",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "u8",
}

TORCH_DTYPES = {
    "float64": "f64", "double": "f64", "float32": "f32", "float": "f32", "float16": "f16", "half": "f16",
    "bfloat16": "bf16", "int64": "i64", "long": "i64", "int32": "i32", "int": "i32", "int16": "i16", "short": "i16",
    "int8": "i8", "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64", "bool": "bool",
    "complex128": "c128", "cdouble": "c128", "complex64": "c64", "cfloat": "c64", "complex32": "c32", "chalf": "c32",
    "float8_e4m3fn": "f8_e4m3", "float8_e5m2": "f8_e5m2", "float8_e4m3fnuz": "f8_e4m3fnuz",
    "float8_e5m2fnuz": "f8_e5m2fnuz", "float8_e8m0fnu": "f8_e8m0", "float4_e2m1fn_x2": "f4_x2",
    **{name: name for name in ("qint8", "quint8", "qint32", "quint4x2", "quint2x4")},
    "bits8": "bits8", "bits16": "bits16", "bits1x8": "bits1x8", "bits2x4": "bits2x4", "bits4x2": "bits4x2",
}  # fmt: skip


class Place(Protocol):
    """Where a container keeps the bytes of one storage."""

    def segment(self, start: int, nbytes: int) -> Segment: ...


class Storages(Protocol):
    """The storages of one container, by key."""

    @property
    def identity(self) -> tuple[object, ...]:
        """Which container it is: two that are open at once, or one after the other, must not be taken for one."""
        ...

    def place(self, key: str, nbytes: int) -> Place:
        """Return where storage `key` lies.

        Raises:
            DamagedFileError: it is missing, or is not `nbytes` long.
        """
        ...


@dataclass(frozen=True, slots=True)
class Storage:
    """A block of memory that tensors are views of.

    Attributes:
        identity: equal for tensors that share memory.
        nbytes: size in bytes.
        shift: byte offset in `place`, for a storage that is a view of another one.
    """

    identity: tuple[object, ...]
    dtype: DType
    nbytes: int
    place: Place
    shift: int = 0


class Quantizer(NamedTuple):
    """Affine quantization: value = (code - zero point) * scale, per tensor or per index of `axis`.

    Attributes:
        scale, zero_point: of the whole tensor.
        axis: the dimension of per-channel quantization; None if it is per tensor.
        scales, zero_points: per channel; old files keep them as lists.
    """

    scale: float = 1.0
    zero_point: float = 0.0
    axis: int | None = None
    scales: Tensor | None = None
    zero_points: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as torch would rebuild it. No value was read.

    Attributes:
        strides, offset: in elements; `strides` is None for a tensor without a strided layout.
        form: what is special about it, for people: `sparse_coo, 12 stored`; empty for a plain tensor.
        negated, conjugated: torch's lazy operations, which the stored bytes lack.
        implicit_zeros: elements that a sparse tensor does not store.
        raw: bytes of an array that is kept in the pickle itself.
        values: stored elements of a sparse tensor, or the local part of a DTensor.
        parts: tensors inside a wrapper subclass, such as torchao's, by attribute.
    """

    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    storage: Storage | None = None
    offset: int = 0
    form: str = ""
    parameter: bool = False
    negated: bool = False
    conjugated: bool = False
    big_endian: bool = False
    implicit_zeros: int = 0
    quantizer: Quantizer | None = None
    raw: bytes | None = None
    values: Tensor | None = None
    parts: dict[str, Tensor] = field(default_factory=dict)


def span(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> int:
    """Return how many elements of storage a view spans, from its first to its last one."""
    if 0 in shape:
        return 0
    if strides is None:
        return prod(shape)
    return 1 + sum((dim - 1) * step for dim, step in zip(shape, strides, strict=True))


class Rebuilder:
    """Turn nodes into Tensors where they stand for tensors. Results are remembered by the identity of the node.

    Args:
        storages: the storages that persistent ids refer to.
        load_blob: reads the file inside `torch.storage._load_from_bytes(blob)`: (blob, depth) -> (value, rebuilder).
        nesting: number of such files around this one.
    """

    def __init__(
        self,
        storages: Storages,
        load_blob: Callable[[bytes, int], tuple[object, Rebuilder]] | None = None,
        nesting: int = 0,
    ) -> None:
        self.storages = storages
        self.load_blob = load_blob
        self.nesting = nesting
        self._made: dict[int, tuple[object, Tensor | None]] = {}
        # What many objects share is looked at once: each entry keeps alive what its key is the id of.
        self._blobs: dict[int, tuple[object, Storage]] = {}
        self._texts: dict[tuple[object, ...], tuple[object, bytes | None]] = {}
        self._parts: dict[int, tuple[object, dict[str, Tensor]]] = {}
        self._lists: dict[int, tuple[object, Tensor]] = {}

    def tensor(self, node: object, depth: int = 0) -> Tensor | None:
        """Return the tensor this node stands for; None if it stands for something else.

        Raises:
            DamagedFileError: it claims to be a tensor, but its arguments contradict each other or the storage.
            UnsafeFileError: items would be set on it while it is loaded, or its storage id is none of torch's.
        """
        if not isinstance(node, Object | Persistent):
            return None
        known = self._made.get(id(node))
        if known is None:
            if depth > MAX_DIMENSIONS:
                raise DamagedFileError("tensors nested in tensors without end")
            # Keep the node alive, so that its id is not reused.
            known = self._made[id(node)] = (node, self._rebuild(node, depth))
        return known[1]

    def _rebuild(self, node: Object | Persistent, depth: int) -> Tensor | None:
        if isinstance(node, Persistent):
            storage = self.storage(node) if _is_storage_id(node.pid) else None
            if storage is None:
                return None
            numel = (storage.nbytes - storage.shift) * 8 // storage.dtype.bits
            return Tensor(storage.dtype, (numel,), (1,), storage, 0, "bare storage")
        if not isinstance(node.func, Global):
            return None
        rebuild = _REBUILD.get(canonical(node.func))
        if rebuild is None:
            return None
        if node.members is not None or node.entries is not None:
            raise UnsafeFileError(
                "items would be set on a tensor while loading: memory corruption in old torch versions"
            )
        try:
            return rebuild(self, node, depth)
        except (
            IndexError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
            struct.error,
        ) as error:
            raise DamagedFileError(f"{node.path} has arguments that make no tensor: {error}") from None

    def need(self, node: object, depth: int) -> Tensor:
        made = self.tensor(node, depth + 1)
        if made is None:
            raise DamagedFileError("a tensor is missing where a rebuild function needs one")
        return made

    def storage(self, node: object) -> Storage:
        """Return the storage that a persistent id, a TypedStorage, or the bytes of a whole file stand for."""
        if isinstance(node, Persistent):
            return self._storage_from_id(node.pid)
        if isinstance(node, Object) and isinstance(node.func, Global) and canonical(node.func) in _TYPED_STORAGE:
            return self._typed_storage(node)
        if isinstance(node, Object) and node.path == "torch.storage._load_from_bytes":
            held = self.held_bytes(node.args[0]) if len(node.args) == 1 else None
            known = self._blobs.get(id(held))
            if held is None or known is None:
                known = self._blobs[id(held)] = (held, self._storage_from_blob(held))
            return known[1]
        raise DamagedFileError(
            "a tensor without a storage: the first argument of its rebuild function is something else"
        )

    def _storage_from_id(self, pid: object) -> Storage:
        if not _is_storage_id(pid):
            raise UnsafeFileError("a persistent id that is not a storage: no torch file has these")
        assert isinstance(pid, tuple)
        _, cls, key, _, numel, *view = pid
        raw, key = key, key_of(key)
        if not _is_count(numel) or key is None or not _KEY_CHARACTERS.issuperset(key) or not 0 < len(key) <= 100:
            raise UnsafeFileError(f"a storage with an impossible key or size: {shown(raw)}, {shown(numel)}")
        dtype = storage_dtype(cls)
        nbytes = dtype.nbytes(numel) if dtype.bits >= 8 else numel
        shift, end = 0, None
        if view and view[0] is not None:
            # Old files: a view of another storage, (its key, first element, number of elements).
            if not isinstance(view[0], tuple) or len(view[0]) != 3:
                raise DamagedFileError(f"storage {key!r} is a view described by {shown(view[0])}: expected a triple")
            root, first, size = view[0]
            if not (_is_count(first) and _is_count(size) and first + size <= numel):
                raise DamagedFileError(f"storage {key!r} is a view outside of storage {shown(root)}")
            shift = first * dtype.itemsize
            end = shift + size * dtype.itemsize
        place = self.storages.place(key, nbytes)
        return Storage((self.storages.identity, key), dtype, nbytes if end is None else end, place, shift)

    def _typed_storage(self, node: Object) -> Storage:
        """Read `TypedStorage(wrap_storage=..., dtype=...)`: a storage that was pickled whole."""
        state = node.kwargs or node.state
        inner = state.get("wrap_storage") if isinstance(state, Dict) else None
        inner = inner or (state.get("_untyped_storage") if isinstance(state, Dict) else None)
        storage = self.storage(inner)
        named = state.get("dtype") if isinstance(state, Dict) else None
        return replace(storage, dtype=torch_dtype(named)) if named is not None else storage

    def held_bytes(self, node: object) -> bytes | None:
        """Return bytes that a node stands for, as `text_bytes` does."""
        text, how = (
            (node.args[0], (node.path, *node.args[1:2])) if isinstance(node, Object) and node.args else (node, ())
        )
        key = id(text), *map(shown, how)
        known = self._texts.get(key)
        if known is None:
            known = self._texts[key] = (text, text_bytes(node))
        return known[1]

    def parts(self, state: object, depth: int) -> dict[str, Tensor]:
        """Return the tensors among the attributes of a tensor, by name."""
        if not isinstance(state, Dict):
            return {}
        known = self._parts.get(id(state))
        if known is None:
            found = {k: t for k, v in state.items() if isinstance(k, str) and (t := self.tensor(v, depth + 1))}
            known = self._parts[id(state)] = (state, found)
        return known[1]

    def numbers(self, node: object, depth: int) -> Tensor:
        """Return per-channel scales or zero points: a tensor, or in old files a list of numbers."""
        if not isinstance(node, list | tuple):
            return self.need(node, depth)
        known = self._lists.get(id(node))
        if known is None:
            made = Tensor(DTYPES["f64"], (len(node),), raw=struct.pack(f"<{len(node)}d", *node))
            known = self._lists[id(node)] = (node, made)
        return known[1]

    def _storage_from_blob(self, blob: bytes | None) -> Storage:
        if self.load_blob is None or blob is None:
            raise DamagedFileError("a storage is kept as something that is not bytes")
        if self.nesting >= MAX_NESTING:
            raise LimitError("storages that hold storages without end")
        value, inner = self.load_blob(blob, self.nesting + 1)
        return inner.storage(value)


_KEY_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.-")
_TYPED_STORAGE = frozenset({("torch.storage", "TypedStorage"), ("torch.storage", "_TypedStorage")})


def _is_storage_id(pid: object) -> bool:
    return isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] in ("storage", b"storage")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < MAX_ELEMENTS


def storage_dtype(cls: object) -> DType:
    """Return the element type of a storage class: `torch.FloatStorage` -> f32.

    Raises:
        DamagedFileError: no such class.
    """
    if (
        isinstance(cls, Global)
        and cls.module in ("torch", "torch.cuda", "torch.storage")
        and cls.name in _STORAGE_CLASSES
    ):
        return DTYPES[_STORAGE_CLASSES[cls.name]]
    name = cls.path if isinstance(cls, Global) else type(cls).__name__
    raise DamagedFileError(f"a storage of unknown type: {name}")


def torch_dtype(node: object) -> DType:
    """Return the element type of a torch dtype: `torch.bfloat16` -> bf16.

    Raises:
        DamagedFileError: no such dtype.
    """
    if isinstance(node, Global) and node.module == "torch" and node.name in TORCH_DTYPES:
        return DTYPES[TORCH_DTYPES[node.name]]
    raise DamagedFileError(f"an unknown element type: {shown(node)}")


def sizes(node: object) -> tuple[int, ...]:
    """Return a shape or strides from `torch.Size(...)`, a tuple or a list of counts.

    Raises:
        DamagedFileError: not such a sequence, a negative or huge entry, or more than MAX_DIMENSIONS.
    """
    if isinstance(node, Object) and node.path == "torch.Size":
        (node,) = node.args or ((),)
    if not isinstance(node, tuple | list):
        raise DamagedFileError(f"a shape that is no tuple: found a {type(node).__name__}")
    if len(node) > MAX_DIMENSIONS:
        raise DamagedFileError(f"a tensor of {len(node):,} dimensions, at most {MAX_DIMENSIONS} are possible")
    if not all(_is_count(n) for n in node):
        raise DamagedFileError(f"a shape or stride that no tensor can have: ({', '.join(map(shown, node))[:100]})")
    return tuple(node)


def view(storage: Storage, dtype: DType, offset: object, size: object, stride: object, **more: object) -> Tensor:
    """Return a strided view of a storage; `offset`, `size` and `stride` are nodes, in elements.

    Raises:
        DamagedFileError: the view does not fit its storage. Integers are unbounded: nothing wraps around.
    """
    shape, strides = sizes(size), sizes(stride)
    if len(shape) != len(strides):
        raise DamagedFileError(f"a shape of {len(shape)} dimensions with {len(strides)} strides")
    if not _is_count(offset) or prod(shape) >= MAX_ELEMENTS:
        raise DamagedFileError(f"a tensor of impossible size: {shape}")
    covered = span(shape, strides)
    needed = dtype.nbytes(offset + covered) + storage.shift  # type: ignore[operator]
    if covered and needed > storage.nbytes:
        raise DamagedFileError(
            f"a tensor of shape {shape} reaches {needed:,} bytes into a storage of {storage.nbytes:,} bytes"
        )
    return Tensor(dtype, shape, strides, storage, offset, **more)  # type: ignore[arg-type]


def _bits(metadata: object) -> dict[str, bool]:
    """Read the metadata of torch's lazy operations, `{'conj': True, 'neg': True}`: the stored bytes lack them."""
    if not isinstance(metadata, Dict):
        return {}
    return {"conjugated": metadata.get("conj") is True, "negated": metadata.get("neg") is True}


# Each takes the call of the torch function of its name: (rebuilder, node, depth) -> Tensor.


def _tensor_v1(r: Rebuilder, node: Object, depth: int) -> Tensor:
    storage = r.storage(node.args[0])
    return view(storage, storage.dtype, *node.args[1:4])


def _tensor_v2(r: Rebuilder, node: Object, depth: int) -> Tensor:
    storage = r.storage(node.args[0])
    metadata = node.args[6] if len(node.args) > 6 else None
    return view(storage, storage.dtype, *node.args[1:4], **_bits(metadata))


def _tensor_v3(r: Rebuilder, node: Object, depth: int) -> Tensor:
    storage = r.storage(node.args[0])
    metadata = node.args[7] if len(node.args) > 7 else None
    return view(storage, torch_dtype(node.args[6]), *node.args[1:4], **_bits(metadata))


def _parameter(r: Rebuilder, node: Object, depth: int) -> Tensor:
    """Rebuild `Parameter(data, requires_grad, hooks)`, since torch 2.1 with a state whose attributes may be tensors."""
    made = replace(r.need(node.args[0], depth), parameter=True)
    parts = r.parts(node.args[3], depth) if len(node.args) > 3 else {}
    return replace(made, parts={**made.parts, **parts} if made.parts else parts) if parts else made


def _buffer(r: Rebuilder, node: Object, depth: int) -> Tensor:
    return r.need(node.args[0], depth)


def _qtensor(r: Rebuilder, node: Object, depth: int) -> Tensor:
    storage = r.storage(node.args[0])
    scheme, *rest = _tuple(node.args[4])
    name = scheme.name if isinstance(scheme, Global) else ""
    if name.startswith("per_channel"):
        scales, zeros, axis = rest
        if not isinstance(axis, int) or not 0 <= axis < len(sizes(node.args[2])):
            raise DamagedFileError(f"quantized along axis {shown(axis)} of {len(sizes(node.args[2]))}")
        quantizer = Quantizer(axis=axis, scales=r.numbers(scales, depth), zero_points=r.numbers(zeros, depth))
        channels = sizes(node.args[2])[axis]
        for numbers in (quantizer.scales, quantizer.zero_points):
            if numbers is None or prod(numbers.shape) != channels:
                raise DamagedFileError(f"a tensor of {channels:,} channels without as many scales and zero points")
    else:
        scale, zero_point = rest
        if not isinstance(scale, float | int) or not isinstance(zero_point, float | int):
            raise DamagedFileError(f"quantized with {shown(scale)} and {shown(zero_point)}: expected numbers")
        quantizer = Quantizer(float(scale), float(zero_point))
    return view(storage, storage.dtype, *node.args[1:4], quantizer=quantizer, form=name)


def _tuple(node: object) -> tuple[object, ...]:
    if not isinstance(node, tuple):
        raise TypeError(f"a tuple is missing, found a {type(node).__name__}")
    return node


def _layout(node: object) -> str:
    if isinstance(node, Object) and node.path == "torch.serialization._get_layout":
        return shown(node.args[0]).strip("'").removeprefix("torch.")
    return node.name if isinstance(node, Global) else shown(node).strip("'")


def _sparse(r: Rebuilder, node: Object, depth: int) -> Tensor:
    layout = _layout(node.args[0])
    parts = ("indices", "values") if layout == "sparse_coo" else ("compressed_indices", "plain_indices", "values")
    data = _tuple(node.args[1])
    values = r.need(data[len(parts) - 1], depth)
    shape = sizes(data[len(parts)])
    stored = prod(values.shape)
    if prod(shape) >= MAX_ELEMENTS:
        raise DamagedFileError(f"a tensor of impossible size: {shape}")
    # A lower bound: where an uncoalesced tensor repeats coordinates, more zeros are implied.
    return Tensor(
        values.dtype,
        shape,
        form=f"{layout}, {stored:,} stored",
        implicit_zeros=max(prod(shape) - stored, 0),
        values=values,
    )


def _nested(r: Rebuilder, node: Object, depth: int) -> Tensor:
    buffer, sizes_of_parts = r.need(node.args[0], depth), r.need(node.args[1], depth)
    count = sizes_of_parts.shape[0] if sizes_of_parts.shape else 0
    return replace(buffer, form=f"nested, {count:,} parts one after the other")


def _jagged(r: Rebuilder, node: Object, depth: int) -> Tensor:
    (state,) = node.args
    if not isinstance(state, Dict):
        raise TypeError("a dict is missing")
    parts = {k: t for k, v in state.items() if isinstance(k, str) and (t := r.tensor(v, depth + 1))}
    values = parts.get("values") or parts["_values"]
    offsets = parts.get("offsets") or parts.get("_offsets")
    count = offsets.shape[0] - 1 if offsets and offsets.shape else 0
    return replace(values, form=f"nested (jagged), {count:,} parts one after the other")


def _meta(r: Rebuilder, node: Object, depth: int) -> Tensor:
    return Tensor(
        torch_dtype(node.args[0]),
        sizes(node.args[1]),
        sizes(node.args[2]),
        form="meta: no values in the file",
    )


def _wrapper(r: Rebuilder, node: Object, depth: int) -> Tensor:
    cls, dtype, size, stride = node.args[:4]
    name = cls.name if isinstance(cls, Global) else "a tensor subclass"
    return Tensor(torch_dtype(dtype), sizes(size), sizes(stride), form=name)


def _from_type(r: Rebuilder, node: Object, depth: int) -> Tensor:
    """Rebuild a subclass, or a tensor with attributes: call `func`, then look for tensors in its state."""
    func, cls, args, state = node.args[:4]
    made = r.need(Object(func, _tuple(args), "reduce", node.position), depth)
    state = state[0] if isinstance(state, tuple) and state else state
    parts = r.parts(state, depth)
    name = cls.name if isinstance(cls, Global) else ""
    if made.storage is None and made.raw is None and "_local_tensor" in parts:
        return _shard(made, parts["_local_tensor"])
    return replace(
        made,
        parts={**made.parts, **parts} if made.parts else parts,
        parameter=made.parameter or name == "Parameter",
        form=made.form or (name if name not in ("Parameter", "Tensor", "Buffer") else ""),
    )


def _shard(whole: Tensor, local: Tensor) -> Tensor:
    """Describe a DTensor: the file of one rank holds its local part; the shape is that of the whole."""
    if local.shape == whole.shape:
        return replace(local, form="DTensor")
    shown = "×".join(map(str, local.shape)) or "scalar"
    return replace(whole, values=local, form=f"DTensor, this file holds {shown}")


def _from_array(r: Rebuilder, node: Object, depth: int) -> Tensor:
    made = r.need(node.args[0], depth)
    return replace(made, dtype=torch_dtype(node.args[1])) if made.raw is None else made


def _from_cpu(r: Rebuilder, node: Object, depth: int) -> Tensor:
    return r.need(node.args[0], depth)


# -- NumPy ----------------------------------------------------------------------------------------------

_NUMPY_CODES = {
    "f8": "f64", "f4": "f32", "f2": "f16", "i8": "i64", "i4": "i32", "i2": "i16", "i1": "i8", "u8": "u64", "u4": "u32",
    "u2": "u16", "u1": "u8", "b1": "bool", "c8": "c64", "c16": "c128",
}  # fmt: skip


def numpy_dtype(node: object) -> tuple[DType, bool] | None:
    """Return (element type, is it big-endian) of a pickled `numpy.dtype`; None for objects, text and records."""
    if not isinstance(node, Object) or node.path != "numpy.dtype" or not node.args:
        return None
    code, state = node.args[0], node.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    if isinstance(code, bytes):
        code = code.decode("latin-1")
    if not isinstance(code, str) or code not in _NUMPY_CODES:
        return None
    return DTYPES[_NUMPY_CODES[code]], order == ">"


#: Codecs by the names under which picklers ask for them.
_CODECS = {"latin1": "latin-1", "latin-1": "latin-1", "iso-8859-1": "latin-1", "utf-8": "utf-8", "utf8": "utf-8",
           "ascii": "ascii"}  # fmt: skip


def text_bytes(node: object) -> bytes | None:
    """Return bytes, also as protocols 0 to 2 pickle them: `_codecs.encode(text, 'latin1')`. None for anything else."""
    if isinstance(node, bytes):
        return node
    if isinstance(node, str):
        return node.encode("latin-1", "replace")
    if not isinstance(node, Object) or not isinstance(node.func, Global):
        return None
    called = canonical(node.func)
    if called == ("_codecs", "encode") and 1 <= len(node.args) <= 2 and isinstance(node.args[0], str):
        name = node.args[1] if len(node.args) > 1 else "utf-8"
        codec = _CODECS.get(name) if isinstance(name, str) else None
        try:
            return node.args[0].encode(codec) if codec else None
        except UnicodeEncodeError:
            return None
    if called in (("builtins", "bytes"), ("builtins", "bytearray")):
        if not node.args:
            return b""
        return text_bytes(node.args[0]) if len(node.args) == 1 and not isinstance(node.args[0], str) else None
    return None


def _array(r: Rebuilder, node: Object, depth: int) -> Tensor | None:
    if not isinstance(node.state, tuple) or len(node.state) != 5:
        return None
    _, shape, dtype, fortran, data = node.state
    return _inline(sizes(shape), dtype, fortran is True, r.held_bytes(data))


def _frombuffer(r: Rebuilder, node: Object, depth: int) -> Tensor | None:
    data, dtype, shape, order = node.args[:4]
    return _inline(sizes(shape), dtype, order == "F", r.held_bytes(data))


def _inline(shape: tuple[int, ...], dtype_node: object, fortran: bool, data: bytes | None) -> Tensor | None:
    known = numpy_dtype(dtype_node)
    if known is None or data is None:
        return None
    dtype, big_endian = known
    if prod(shape) >= MAX_ELEMENTS or dtype.nbytes(prod(shape)) != len(data):
        raise DamagedFileError(f"a NumPy array of shape {shape} and type {dtype.name} in {len(data):,} bytes")
    strides = tuple(reversed(c_strides(tuple(reversed(shape))))) if fortran else None
    return Tensor(dtype, shape, strides, raw=data, big_endian=big_endian, form="NumPy array")


_Rebuild = Callable[[Rebuilder, Object, int], "Tensor | None"]

_REBUILD: dict[tuple[str, str], _Rebuild] = {
    ("torch._utils", "_rebuild_tensor"): _tensor_v1,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor_v2,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch.nn.parameter", "Buffer"): _buffer,
    ("torch._utils", "_rebuild_qtensor"): _qtensor,
    ("torch._utils", "_rebuild_sparse_tensor"): _sparse,
    ("torch._utils", "_rebuild_sparse_csr_tensor"): _sparse,
    ("torch._utils", "_rebuild_nested_tensor"): _nested,
    ("torch.nested._internal.nested_tensor", "_rebuild_njt"): _jagged,
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _meta,
    ("torch._utils", "_rebuild_wrapper_subclass"): _wrapper,
    ("torch._tensor", "_rebuild_from_type"): _from_type,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("torch.tensor", "_rebuild_from_type"): _from_type,
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): _from_array,
    ("torch._utils", "_rebuild_xla_tensor"): _from_array,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _from_cpu,
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
}
