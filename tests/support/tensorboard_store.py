"""What tests write of tensorboard."""

from __future__ import annotations

import struct

from support.framings import field, varint


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def value(kind: object) -> bytes:
    """A google.protobuf.Value."""
    if kind is None:
        return varint(1 << 3) + varint(0)
    if isinstance(kind, bool):
        return varint(4 << 3) + varint(kind)
    if isinstance(kind, int | float):
        return double(2, kind)
    if isinstance(kind, str):
        return field(3, kind.encode())
    if isinstance(kind, dict):
        return field(5, b"".join(field(1, field(1, k.encode()) + field(2, value(v))) for k, v in kind.items()))
    assert isinstance(kind, list)
    return field(6, b"".join(field(1, value(v)) for v in kind))


def plugin(tag: str, number: int, content: bytes) -> bytes:
    data = field(1, b"hparams") + field(2, field(number, content))
    return event(field(1, tag.encode()) + field(9, field(1, data)))


def event(summary_value: bytes, step: int = 0) -> bytes:
    return double(1, 1.7e9) + varint(2 << 3) + varint(step) + field(5, field(1, summary_value))


def scalar(tag: str, number: float, step: int) -> bytes:
    return event(field(1, tag.encode()) + varint(2 << 3 | 5) + struct.pack("<f", number), step)


def session(hparams: dict[str, object]) -> bytes:
    entries = b"".join(field(1, field(1, k.encode()) + field(2, value(v))) for k, v in hparams.items())
    return plugin("_hparams_/session_start_info", 3, entries + field(4, b"group"))


VERSION = double(1, 1.7e9) + field(3, b"brain.Event:2")
SET: dict[str, object] = {
    "lr": 0.003, "bsize": 64.0, "opt": "adam", "nesterov": True, "note": None, "layers": [64, 32], "aug": {"p": 0.5},
}  # fmt: skip
