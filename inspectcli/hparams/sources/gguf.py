"""GGUF: the key-value part of the header says how the model is built. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

Only that part is read: numbers and texts one by one, long arrays are passed over.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from inspectcli.errors import DamagedFileError, LimitError
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Origin, Reach, Selection, Store
from inspectcli.hparams.names import hparam
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.arithmetic import shortest

TOOL = "gguf"

MAGIC = b"GGUF"
MAX_KEYS = 100_000
MAX_TEXT = 64 << 20
#: Elements of an array that are kept: enough for one number a layer.
MAX_ELEMENTS = 4096
MAX_NESTING = 4

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9

#: The end of a key after the architecture -> its name.
_NAMES = {
    "block_count": "num_layers",
    "context_length": "context_length",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_heads",
    "attention.head_count_kv": "num_kv_heads",
    "attention.layer_norm_rms_epsilon": "norm_eps",
    "attention.layer_norm_epsilon": "norm_eps",
    "rope.freq_base": "rope_theta",
    "rope.dimension_count": "head_dim",
    "vocab_size": "vocab_size",
    "expert_count": "num_experts",
    "expert_used_count": "experts_per_token",
    "attention.sliding_window": "sliding_window",
}
_WHOLE_KEYS = {
    "general.file_type": "precision",
    "adapter.lora.alpha": "lora_alpha",
    "general.architecture": "architecture",
}
_FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
               12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
               32: "BF16"}  # fmt: skip


class _Cursor:
    def __init__(self, source: Source, order: str) -> None:
        self.source = source
        self.order = order
        self.at = 0

    def take(self, n: int) -> bytes:
        data = self.source.read_at(self.at, n)
        self.at += n
        return data

    def unpack(self, code: str) -> int | float | bool:
        (value,) = struct.unpack(self.order + code, self.take(struct.calcsize("<" + code)))
        return value  # type: ignore[no-any-return]

    def count(self) -> int:
        return int(self.unpack("Q"))

    def text(self) -> str:
        n = self.count()
        if n > MAX_TEXT:
            raise LimitError(f"a text of {n:,} bytes in the header: at most {MAX_TEXT:,} are read")
        return self.take(n).decode("utf-8", "replace")

    def skip_text(self) -> None:
        n = self.count()
        self.at += n

    def value(self, kind: int, depth: int = 0) -> object:
        if kind in _SCALARS:
            number = self.unpack(_SCALARS[kind])
            return shortest(number) if kind == 6 else number
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY and depth < MAX_NESTING:
            return self.array(depth)
        raise DamagedFileError(f"a value of unknown type {kind} at byte {self.at:,} of the header")

    def array(self, depth: int) -> object:
        kind, n = int(self.unpack("I")), self.count()
        if kind in _SCALARS:
            size = struct.calcsize("<" + _SCALARS[kind])
            kept = [self.value(kind) for _ in range(min(n, MAX_ELEMENTS))]
            self.at += (n - len(kept)) * size
            return kept if n <= MAX_ELEMENTS else f"{n:,} numbers"
        if n > self.source.size:
            raise DamagedFileError(f"an array of {n:,} elements in a file of {self.source.size:,} bytes")
        if kind == _TEXT:
            for _ in range(n):
                self.skip_text()
            return f"{n:,} texts"
        return [self.value(kind, depth + 1) for _ in range(n)]


def sniff(location: Location, head: bytes) -> bool:
    return head.startswith(MAGIC)


def read(location: Location, head: bytes, choice: Selection) -> Store:
    with location.reading() as source:
        found = keys_and_values(source)
    return Store(tuple(_row(key, value, str(location)) for key, value in found.items()))


def keys_and_values(source: Source) -> dict[str, object]:
    """The key-value pairs of the header.

    Raises:
        PinspectError: it is cut, or contradicts the format.
    """
    (version,) = struct.unpack("<I", source.read_at(4, 4))
    order = "<" if version < 1 << 16 else ">"
    if order == ">":
        (version,) = struct.unpack(">I", source.read_at(4, 4))
    if version not in (2, 3):
        raise DamagedFileError(f"GGUF version {version}: expected 2 or 3")
    cursor = _Cursor(source, order)
    cursor.at = 8
    cursor.count()  # tensors
    n = cursor.count()
    if n > MAX_KEYS:
        raise LimitError(f"{n:,} keys in the header: at most {MAX_KEYS:,} are read")
    made: dict[str, object] = {}
    for _ in range(n):
        key = cursor.text()
        made[key] = cursor.value(int(cursor.unpack("I")))
    return made


def _row(key: str, value: object, file: str) -> HParamRow:
    origin = Origin(file, "metadata", TOOL)
    name = _WHOLE_KEYS.get(key) or _NAMES.get(key.partition(".")[2])
    if name is None or key.startswith(("tokenizer.", "split.")):
        row = hparam(key, value, origin)
        return replace(row, name=None, kind=Kind.SETTING)
    reach = Reach.RUN
    note = _FILE_TYPES.get(value, "") if name == "precision" and isinstance(value, int) else ""
    if isinstance(value, list):
        note, reach = "one a layer", Reach.LAYER
        value = value[0] if value and value.count(value[0]) == len(value) else value
    return HParamRow(name, key, value, None, Kind.STATIC, origin, note, reach=reach)


SOURCE = HParamSource(TOOL, sniff, read)
