"""Child process in which libhdf5 runs: it lists one file, then streams datasets on request. Run as a script.

    argv: path ("-" for standard input), first byte, size
    out:  u32 length, JSON listing; then per request: (u32 length, bytes)* and u32 0,
          or u32 0xFFFFFFFF, u32 length, error
    in:   (after the bytes of the file, if they come this way) one dataset path a line, in JSON

Imports only h5py, NumPy and the standard library, nothing of this package, so as to start quickly.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # The folder of this script would come first, and its modules hide those of the standard library.
    del sys.path[0]

import base64
import json
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, BinaryIO

MAX_OBJECTS = 200_000
MAX_DEPTH = 200
MAX_ATTRIBUTE = 64 << 20
MAX_LISTING = 256 << 20
FRAME = 1 << 20
#: Bytes up to which rows are read together; a larger chunk is read as a whole.
SLAB = 8 << 20
MAX_CHUNK = 256 << 20

ERROR = 0xFFFFFFFF

_GROUP_ATTRIBUTES = (
    "keras_version",
    "backend",
    "model_config",
    "training_config",
    "name",
    "layer_names",
    "weight_names",
)
#: Bytes of pickled objects that are handed over, and of one of them.
MAX_OBJECT, MAX_OBJECT_BYTES = 16 << 20, 64 << 20

_FLOATS = {(8, 11): "f64", (4, 8): "f32", (2, 5): "f16", (2, 8): "bf16", (1, 4): "f8_e4m3", (1, 5): "f8_e5m2"}
_OPAQUE = {
    "bfloat16": "bf16",
    "float8_e4m3fn": "f8_e4m3",
    "float8_e5m2": "f8_e5m2",
    "float8_e4m3fnuz": "f8_e4m3fnuz",
    "float8_e5m2fnuz": "f8_e5m2fnuz",
}


class RangeFile:
    """A read-only range of a file, as the file object that h5py needs."""

    def __init__(self, path: str, start: int, size: int) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self._start, self._size, self._at = start, size, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, n: int = -1) -> bytes:
        left = max(self._size - self._at, 0)
        self._file.seek(self._start + self._at)
        data = self._file.read(left if n < 0 else min(n, left)) or b""
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def truncate(self, size: int) -> int:
        raise OSError("read-only")

    def write(self, data: bytes) -> int:
        raise OSError("read-only")

    def flush(self) -> None: ...


def text(value: Any) -> Any:
    """Return an attribute's value as JSON can hold it: text, numbers, or lists of them."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if hasattr(value, "tolist"):
        return text(value.tolist())
    if isinstance(value, list | tuple):
        return [text(v) for v in value]
    return value if isinstance(value, bool | int | float | None) else str(value)


def attributes(obj: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the named attributes that exist and are not too large; Keras splits long lists into name0, name1, ..."""
    found: dict[str, Any] = {}
    for name in names:
        if name in obj.attrs:
            found[name] = attribute(obj, name)
        elif name.endswith("_names") and f"{name}0" in obj.attrs:
            parts: list[Any] = []
            k = 0
            while f"{name}{k}" in obj.attrs and k < 10_000:
                parts.extend(attribute(obj, f"{name}{k}") or [])
                k += 1
            found[name] = parts
    return found


def attribute(obj: Any, name: str) -> Any:
    try:
        # h5py takes the size 0 of an empty list as an error.
        shape = obj.attrs.get_id(name).shape
        if shape is None or 0 in shape:
            return []
        return text(obj.attrs[name]) if obj.attrs.get_id(name).get_storage_size() <= MAX_ATTRIBUTE else None
    except (OSError, TypeError, ValueError, RuntimeError):
        return None


def element(dataset: Any) -> tuple[str, bool, tuple[int, ...]]:
    """Return (element type, or in parentheses what it is instead; whether big-endian; shape of each element).

    Reads the HDF5 type, not `dataset.dtype`, which shows a native bfloat16 as float32.
    """
    import h5py

    kind, inner = dataset.id.get_type(), ()
    if kind.get_class() == h5py.h5t.ARRAY:
        kind, inner = kind.get_super(), kind.get_array_dims()
    if kind.get_class() == h5py.h5t.OPAQUE:
        declared = text(dataset.attrs["dtype"]) if "dtype" in dataset.attrs else ""
        # Without a name of their own, NumPy's `V2` and `V1`: ml_dtypes writes its types so.
        return _OPAQUE.get(declared, f"(opaque {kind.get_size()} bytes {declared})".replace(" )", ")")), False, inner
    name, big = numbers(kind)
    if kind.get_class() == h5py.h5t.INTEGER and text_of_matlab(dataset):
        name = "(text)"
    return name, big, inner


def numbers(kind: Any) -> tuple[str, bool]:
    """Return (element type, or in parentheses what it is instead; whether big-endian) of an HDF5 type."""
    import h5py

    code = kind.get_class()
    if code == h5py.h5t.FLOAT:
        size, fields = kind.get_size(), kind.get_fields()
        exponent, fraction = fields[2], fields[4]
        found = _FLOATS.get((size, exponent)) if exponent + fraction + 1 == 8 * size else None
        return found or f"(floats of {exponent + fraction + 1} bits)", kind.get_order() == h5py.h5t.ORDER_BE
    if code == h5py.h5t.INTEGER:
        letter, size = "i" if kind.get_sign() == h5py.h5t.SGN_2 else "u", kind.get_size()
        found = f"{letter}{8 * size}" if size in (1, 2, 4, 8) else f"(integers of {8 * size} bits)"
        return found, kind.get_order() == h5py.h5t.ORDER_BE
    if code == h5py.h5t.ENUM:
        names = {kind.get_member_name(i) for i in range(min(kind.get_nmembers(), 3))}
        return ("bool", False) if names == {b"FALSE", b"TRUE"} and kind.get_size() == 1 else numbers(kind.get_super())
    if code == h5py.h5t.COMPOUND:
        parts = [text(kind.get_member_name(i)) for i in range(min(kind.get_nmembers(), 6))]
        halves = [kind.get_member_type(i) for i in range(2)] if parts == ["r", "i"] else []
        if halves and all(h.get_class() == h5py.h5t.FLOAT for h in halves) and kind.get_size() in (8, 16):
            return f"c{8 * kind.get_size()}", halves[0].get_order() == h5py.h5t.ORDER_BE
        return f"(records of {', '.join(parts)})", False
    if code == h5py.h5t.VLEN:
        return f"(lists of {numbers(kind.get_super())[0].strip('()')})", False
    others = {h5py.h5t.STRING: "(text)", h5py.h5t.REFERENCE: "(references)", h5py.h5t.TIME: "(times)"}
    return others.get(code, "(bit fields)" if code == h5py.h5t.BITFIELD else "(no numbers)"), False


def text_of_matlab(dataset: Any) -> bool:
    return "MATLAB_class" in dataset.attrs and attribute(dataset, "MATLAB_class") == "char"


def is_inside(dataset: Any) -> bool:
    """Return whether the values lie in this file."""
    import h5py

    plist = dataset.id.get_create_plist()
    return plist.get_layout() != h5py.h5d.VIRTUAL and not plist.get_external_count()


def shape_of(dataset: Any, inner: tuple[int, ...]) -> list[int] | None:
    """Return the shape. MATLAB stores of an empty array its dimensions, in its own order, in place of values."""
    if dataset.shape is None:
        return None
    if (
        "MATLAB_empty" in dataset.attrs
        and attribute(dataset, "MATLAB_empty")
        and dataset.size <= 32
        and is_inside(dataset)
    ):
        dims = [int(d) for d in dataset[()].ravel()]
        if 0 in dims:
            return dims[::-1]
    return [*dataset.shape, *inner]


def describe(path: str, dataset: Any) -> dict[str, Any]:
    import h5py

    layout_names = {
        h5py.h5d.CONTIGUOUS: "contiguous",
        h5py.h5d.CHUNKED: "chunked",
        h5py.h5d.COMPACT: "compact",
    }
    plist = dataset.id.get_create_plist()
    dtype, big, inner = element(dataset)
    external = [text(plist.get_external(i)[0]) for i in range(min(plist.get_external_count(), 8))]
    virtual = plist.get_layout() == h5py.h5d.VIRTUAL
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    missing = [f for f in filters if not is_available(f[0])]
    return {
        "path": path,
        "shape": shape_of(dataset, inner),
        "dtype": dtype,
        "big": big,
        "layout": "virtual" if virtual else layout_names.get(plist.get_layout(), "other"),
        "offset": None if external or virtual else dataset.id.get_offset(),
        "stored": 0 if external or virtual else dataset.id.get_storage_size(),
        "external": external,
        "sources": virtual_sources(plist) if virtual else [],
        "filters": [filter_name(f) for f in filters],
        "missing_filters": [filter_name(f) for f in missing],
        "chunk": list(dataset.chunks) if dataset.chunks else None,
        "address": address(dataset),
        "unreadable": unreadable(dataset, dtype),
    }


#: Registered filters: https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md
_FILTERS = {
    1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 307: "bzip2", 32000: "lzf",
    32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp", 32015: "zstd", 32017: "sz", 32018: "fcidecomp",
    32024: "sz3", 32026: "blosc2", 32028: "sperr",
}  # fmt: skip


def filter_name(found: Any) -> str:
    """Return the name of a filter: what a file calls it may be half the address of a page."""
    return _FILTERS.get(found[0]) or text(found[3]).partition(";")[0].partition(":")[0][:40] or f"filter {found[0]}"


def is_available(filter_number: int) -> bool:
    """Return whether libhdf5 has a filter; those of hdf5plugin are looked for when the first one is missing."""
    import h5py

    if h5py.h5z.filter_avail(filter_number):
        return True
    with_plugins()
    return bool(h5py.h5z.filter_avail(filter_number))


@lru_cache
def with_plugins() -> None:
    with suppress(Exception):
        import hdf5plugin  # noqa: F401


def virtual_sources(plist: Any) -> list[str]:
    """Return the files that a virtual dataset takes its values from, each once; "." is this one."""
    return list(dict.fromkeys(text(plist.get_virtual_filename(i)) for i in range(min(plist.get_virtual_count(), 64))))


def unreadable(dataset: Any, dtype: str) -> str:
    """Return why libhdf5 cannot give the stored values; empty if it can."""
    import h5py

    native = dataset.id.get_type().get_class() == h5py.h5t.FLOAT
    if dtype == "f8_e4m3" and native and dataset.id.get_offset() is None:
        return "8-bit floats in chunks: libhdf5 would turn their largest values into infinities"
    return ""


def address(obj: Any) -> str:
    """Return a text that is equal for hard links to one object: its token (HDF5 1.12 and newer) or its address."""
    import h5py

    info = h5py.h5o.get_info(obj.id)
    return f"{info.fileno}:{getattr(info, 'addr', None) or getattr(info, 'token', b'')}"


class Objects:
    """Pickles that PyTables, pandas or hickle would run when they read the file, up to a number of bytes."""

    def __init__(self) -> None:
        self.found: list[dict[str, str]] = []
        self.left_out = 0
        self._bytes = 0

    def add(self, where: str, data: bytes) -> None:
        if len(data) > MAX_OBJECT or self._bytes + len(data) > MAX_OBJECT_BYTES:
            self.left_out += 1
            return
        self._bytes += len(data)
        self.found.append({"where": where, "data": base64.b64encode(data).decode()})

    def of_attributes(self, path: str, obj: Any) -> None:
        """PyTables unpickles each attribute of fixed-length bytes that ends with the opcode STOP, a full stop.

        https://github.com/PyTables/PyTables/blob/v3.10.2/tables/attributeset.py#L287
        """
        import h5py

        for name in obj.attrs:
            kept = obj.attrs.get_id(name)
            kind = kept.get_type()
            if kind.get_class() not in (h5py.h5t.STRING, h5py.h5t.OPAQUE) or kept.shape != ():
                continue
            if kind.get_class() == h5py.h5t.STRING and kind.is_variable_str():
                continue
            value = h5attribute(kept)
            if len(value) > 2 and value.endswith(b"."):
                self.add(f"attribute {text(name)} of /{path}", value)

    def of_dataset(self, path: str, dataset: Any) -> None:
        """Rows of objects of PyTables, in which pandas keeps columns of objects; pickles of hickle."""
        import h5py

        if not is_inside(dataset):
            return
        code = dataset.id.get_type().get_class()
        if code == h5py.h5t.VLEN and text_attribute(dataset, "PSEUDOATOM") == "object":
            for i in range(dataset.shape[0] if dataset.shape else 0):
                if self._bytes >= MAX_OBJECT_BYTES:
                    self.left_out += 1
                    continue
                self.add(f"row {i} of /{path}", dataset[i].tobytes())
        elif text_attribute(dataset, "base_type") == "pickle" and dataset.id.get_storage_size() <= MAX_OBJECT:
            value = dataset[()]
            self.add(f"/{path}", value if isinstance(value, bytes) else getattr(value, "tobytes", bytes)())


def h5attribute(kept: Any) -> bytes:
    """Return the bytes of a scalar attribute of fixed length, without the padding of text."""
    import h5py
    import numpy as np

    kind = kept.get_type()
    if kept.get_storage_size() > MAX_OBJECT:
        return b""
    data = np.empty((), dtype=f"V{kind.get_size()}")
    kept.read(data, mtype=kind)
    value = data.tobytes()
    return value.rstrip(b"\0") if kind.get_class() == h5py.h5t.STRING else value


def text_attribute(obj: Any, name: str) -> str:
    value = attribute(obj, name) if name in obj.attrs else ""
    return value if isinstance(value, str) else ""


def listing(file: Any) -> dict[str, Any]:
    """Return all objects of the file as a JSON object. Links to other files are listed, not followed."""
    import h5py

    datasets: list[dict[str, Any]] = []
    groups: dict[str, dict[str, Any]] = {"": attributes(file, _GROUP_ATTRIBUTES)}
    links: list[dict[str, str]] = []
    pickled = Objects()
    pickled.of_attributes("", file)
    seen = {address(file)}
    stack: list[tuple[str, Any]] = [("", file)]
    objects, too_deep = 0, False
    while stack:
        prefix, group = stack.pop()
        for raw_name in group.id:  # bytes: not every name is UTF-8
            name = raw_name.decode("utf-8", "surrogateescape")
            objects += 1
            if objects > MAX_OBJECTS:
                raise ValueError(f"more than {MAX_OBJECTS:,} objects in the file")
            path = f"{prefix}/{name}" if prefix else name
            kind = group.id.links.get_info(raw_name).type
            if kind == h5py.h5l.TYPE_EXTERNAL:
                filename, inner = group.id.links.get_val(raw_name)
                links.append({"path": path, "kind": "external", "target": f"{text(filename)}:{text(inner)}"})
                continue
            if kind == h5py.h5l.TYPE_SOFT:
                links.append({"path": path, "kind": "soft", "target": text(group.id.links.get_val(raw_name))})
                continue
            obj = group[raw_name]
            if isinstance(obj, h5py.Dataset):
                datasets.append(describe(path, obj))
                pickled.of_attributes(path, obj)
                pickled.of_dataset(path, obj)
            elif isinstance(obj, h5py.Group):
                where = address(obj)
                if where in seen:
                    continue
                seen.add(where)
                if path.count("/") >= MAX_DEPTH:
                    too_deep = True
                    continue
                pickled.of_attributes(path, obj)
                found = attributes(obj, _GROUP_ATTRIBUTES)
                if found:
                    groups[path] = found
                stack.append((path, obj))
    return {
        "library": h5py.version.hdf5_version,
        "datasets": datasets,
        "groups": groups,
        "links": links,
        "pickles": pickled.found,
        "pickles_left_out": pickled.left_out,
        "too_deep": too_deep,
    }


# -- values ---------------------------------------------------------------------------------------------


def slabs(dataset: Any, fixed: tuple[int, ...] = ()) -> Iterator[Any]:
    """Yield the elements in C order, in blocks of whole rows of chunks, as far as SLAB bytes allow."""
    shape, chunk = dataset.shape, dataset.chunks
    depth = len(fixed)
    if depth == len(shape):
        yield dataset[fixed]
        return
    row = dataset.dtype.itemsize
    for dim in shape[depth + 1 :]:
        row *= max(dim, 1)
    if row > MAX_CHUNK and shape[depth]:
        for i in range(shape[depth]):
            yield from slabs(dataset, (*fixed, i))
        return
    rows = max(SLAB // max(row, 1), 1)
    if chunk:
        # A chunk is decoded whole: reading half of its rows would decode it twice.
        step = chunk[depth]
        rows = max(rows // step * step, step if step * row <= MAX_CHUNK else 1)
    for start in range(0, shape[depth], rows):
        yield dataset[(*fixed, slice(start, start + rows))]


def raw(block: Any, dtype: str) -> bytes:
    """Return the values as little-endian bytes of `dtype`."""
    import numpy as np

    array = np.ascontiguousarray(block)
    if dtype == "bf16" and array.dtype.kind == "f":  # libhdf5 widened a native bfloat16
        return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    if dtype == "f8_e5m2" and array.dtype.kind == "f":
        return (array.astype("<f2").view("<u2") >> 8).astype("u1").tobytes()
    if array.dtype.kind == "V":
        return array.tobytes()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def stream(file: Any, path: str, out: BinaryIO) -> None:
    dataset = file[path.encode("utf-8", "surrogateescape")]
    dtype = element(dataset)[0]
    for block in slabs(dataset):
        data = memoryview(raw(block, dtype))
        for start in range(0, len(data), FRAME):
            part = data[start : start + FRAME]
            out.write(struct.pack("<I", len(part)))
            out.write(part)
    out.write(struct.pack("<I", 0))


def send_error(out: BinaryIO, error: BaseException) -> None:
    message = f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:2000]
    out.write(struct.pack("<II", ERROR, len(message)) + message)


def main() -> None:
    out, commands = sys.stdout.buffer, sys.stdin.buffer
    # What a library prints must not get into the protocol.
    sys.stdout = sys.stderr
    path, start, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    try:
        import h5py

        if path == "-":
            import io

            target: Any = io.BytesIO(commands.read(size))
        elif start == 0 and size == os.path.getsize(path):
            target = path
        else:
            target = RangeFile(path, start, size)
        file = h5py.File(target, "r", **({"locking": False} if isinstance(target, str) else {}))
        found = json.dumps(listing(file)).encode()
        if len(found) > MAX_LISTING:
            raise ValueError("the listing of the file is too long")
    except (Exception, RecursionError) as error:
        send_error(out, error)
        out.flush()
        return
    out.write(struct.pack("<I", len(found)) + found)
    out.flush()
    for line in commands:
        try:
            stream(file, json.loads(line), out)
        except Exception as error:
            send_error(out, error)
        out.flush()


if __name__ == "__main__":
    main()
