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

import json
import os
import struct
from collections.abc import Iterator
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


def element(dataset: Any) -> tuple[str, bool]:
    """Return (element type, or in parentheses what it is instead; whether it is big-endian).

    Reads the HDF5 type, not `dataset.dtype`, which shows a native bfloat16 as float32.
    """
    import h5py

    kind = dataset.id.get_type()
    code = kind.get_class()
    if code == h5py.h5t.FLOAT:
        size, bits = kind.get_size(), kind.get_fields()[2]
        return _FLOATS.get((size, bits), f"(float of {8 * size} bits)"), kind.get_order() == h5py.h5t.ORDER_BE
    if code == h5py.h5t.INTEGER:
        letter = "i" if kind.get_sign() == h5py.h5t.SGN_2 else "u"
        return f"{letter}{8 * kind.get_size()}", kind.get_order() == h5py.h5t.ORDER_BE
    if code == h5py.h5t.ENUM:
        names = {kind.get_member_name(i) for i in range(kind.get_nmembers())}
        return ("bool" if names == {b"FALSE", b"TRUE"} and kind.get_size() == 1 else "(enum)"), False
    if code == h5py.h5t.COMPOUND and dataset.dtype.kind == "c":
        return f"c{8 * dataset.dtype.itemsize}", dataset.dtype.byteorder == ">"
    if code == h5py.h5t.OPAQUE:
        declared = text(dataset.attrs["dtype"]) if "dtype" in dataset.attrs else ""
        return _OPAQUE.get(declared, f"(opaque bytes {declared})"), False
    others = {h5py.h5t.STRING: "(text)", h5py.h5t.COMPOUND: "(records)", h5py.h5t.REFERENCE: "(references)"}
    return others.get(code, "(no numbers)"), False


def describe(path: str, dataset: Any) -> dict[str, Any]:
    import h5py

    layout_names = {
        h5py.h5d.CONTIGUOUS: "contiguous",
        h5py.h5d.CHUNKED: "chunked",
        h5py.h5d.COMPACT: "compact",
    }
    plist = dataset.id.get_create_plist()
    dtype, big = element(dataset)
    external = [text(plist.get_external(i)[0]) for i in range(min(plist.get_external_count(), 8))]
    virtual = plist.get_layout() == h5py.h5d.VIRTUAL
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    return {
        "path": path,
        "shape": None if dataset.shape is None else list(dataset.shape),
        "dtype": dtype,
        "big": big,
        "layout": "virtual" if virtual else layout_names.get(plist.get_layout(), "other"),
        "offset": None if external or virtual else dataset.id.get_offset(),
        "stored": 0 if external or virtual else dataset.id.get_storage_size(),
        "external": external,
        "filters": [text(f[3]) or str(f[0]) for f in filters],
        "missing_filters": [text(f[3]) or str(f[0]) for f in filters if not h5py.h5z.filter_avail(f[0])],
        "chunk": list(dataset.chunks) if dataset.chunks else None,
        "address": address(dataset),
        "unreadable": unreadable(dataset, dtype),
    }


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


def listing(file: Any) -> dict[str, Any]:
    """Return all objects of the file as a JSON object. Links to other files are listed, not followed."""
    import h5py

    datasets: list[dict[str, Any]] = []
    groups: dict[str, dict[str, Any]] = {"": attributes(file, _GROUP_ATTRIBUTES)}
    links: list[dict[str, str]] = []
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
            elif isinstance(obj, h5py.Group):
                where = address(obj)
                if where in seen:
                    continue
                seen.add(where)
                if path.count("/") >= MAX_DEPTH:
                    too_deep = True
                    continue
                found = attributes(obj, _GROUP_ATTRIBUTES)
                if found:
                    groups[path] = found
                stack.append((path, obj))
    return {
        "library": h5py.version.hdf5_version,
        "datasets": datasets,
        "groups": groups,
        "links": links,
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
    dtype, _ = element(dataset)
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
