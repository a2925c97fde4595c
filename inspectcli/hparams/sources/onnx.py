"""ONNX: what a person put into `metadata_props`, and what the nodes of the graph were built with.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Tensors are passed over; only scalars are decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

from inspectcli.encodings.protobuf import Message, varint
from inspectcli.errors import LimitError, PinspectError, TruncatedFileError
from inspectcli.hparams._tree import decode_text
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Origin, Reach, Selection, Store
from inspectcli.hparams.names import hparam
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.arithmetic import shortest

TOOL = "onnx"

#: Bytes of a field that is looked at: a node with its attributes, never a weight.
MAX_FIELD = 64 << 10
#: Bytes of all of them.
MAX_KEPT = 64 << 20
MAX_NODES = 20_000

#: ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto: field numbers.
_GRAPH, _PROPS, _PRODUCER, _PRODUCER_VERSION, _IR = 7, 14, 2, 3, 1
_NODE, _INITIALIZER = 1, 5
_INPUT, _OP, _ATTRIBUTE = 1, 4, 5
_NAME, _FLOAT, _INT, _TEXT, _INTS = 1, 2, 3, 4, 8
_DIMS, _TYPE, _FLOATS, _TENSOR_NAME, _RAW = 1, 2, 4, 8, 9

#: Operator -> what its attributes describe.
_SCOPES = {"BatchNormalization": "norm", "LayerNormalization": "norm", "InstanceNormalization": "norm",
           "GroupNormalization": "norm", "Dropout": "dropout", "Conv": "module", "ConvTranspose": "module",
           "MaxPool": "pool", "AveragePool": "pool"}  # fmt: skip


def sniff(location: Location, head: bytes) -> bool:
    """ir_version first (a small varint), then the producer's name or another field of ModelProto."""
    return (
        len(head) > 8
        and head[0] == 0x08
        and 1 <= head[1] <= 30
        and head[2] in (0x12, 0x1A, 0x22, 0x2A, 0x32, 0x3A, 0x42)
    )


def read(location: Location, head: bytes, choice: Selection) -> Store:
    file = str(location)
    with location.reading() as source:
        small, graphs = _split(source, 0, source.size, _GRAPH)
        model = Message(small)
        rows = list(_facts(model, file))
        for prop in model.messages(_PROPS):
            value = decode_text(prop.text(2))
            rows.append(hparam(prop.text(1), value, Origin(file, "metadata_props", TOOL), "config", "", prop.text(2)))
        notes: list[str] = []
        try:
            for start, end in graphs:
                rows += _graph_rows(Message(_split(source, start, end, None)[0]), file)
        except PinspectError as error:
            notes.append(f"the graph was not looked at: {error.message}")
    return Store(tuple(rows), notes=tuple(notes))


def _split(source: Source, start: int, end: int, inner: int | None) -> tuple[bytes, list[tuple[int, int]]]:
    """The fields of a message that are small, as they stand, and where the messages of field `inner` lie.

    Tensors are large and hold no settings: they are passed over without being read.
    """
    kept: list[bytes] = []
    places: list[tuple[int, int]] = []
    at, total = start, 0
    while at < end:
        head = source.read_at(at, min(20, end - at))
        tag, used = varint(head, 0)
        wire = tag & 7
        if wire == 2:
            length, used = varint(head, used)
        else:
            length = {1: 8, 5: 4}.get(wire, 0)
            used = varint(head, used)[1] if wire == 0 else used
        stop = at + used + length
        if stop > end:
            raise TruncatedFileError(f"a field of {length:,} bytes at byte {at:,}: the message ends at {end:,}")
        if tag >> 3 == inner:
            places.append((at + used, stop))
        elif stop - at <= MAX_FIELD:
            kept.append(source.read_at(at, stop - at))
            total += stop - at
        if total > MAX_KEPT:
            raise LimitError(f"more than {MAX_KEPT:,} bytes of nodes")
        at = stop
    return b"".join(kept), places


def _facts(model: Message, file: str) -> Iterator[HParamRow]:
    origin = Origin(file, "", TOOL)
    facts = {
        "ir_version": model.integer(_IR),
        "producer_name": model.text(_PRODUCER),
        "producer_version": model.text(_PRODUCER_VERSION),
        "opset_import": {m.text(1) or "ai.onnx": m.integer(2) for m in model.messages(8)},
    }
    for key, value in facts.items():
        yield HParamRow(None, key, value, None, Kind.SETTING, origin)


def _graph_rows(graph: Message, file: str) -> Iterator[HParamRow]:
    scalars = {}
    for data in graph.bytes(_INITIALIZER):
        if len(data) <= 256:  # a scalar; weights are passed over
            tensor = Message(data)
            scalars[tensor.text(_TENSOR_NAME)] = _scalar(tensor)
    yield HParamRow(None, "graph", graph.text(2), None, Kind.SETTING, Origin(file, "", TOOL))
    seen: set[tuple[str, str, str]] = set()
    for data in graph.bytes(_NODE)[:MAX_NODES]:
        node = Message(data)
        operator = node.text(_OP)
        for attribute in node.messages(_ATTRIBUTE):
            row = _attribute_row(operator, attribute, file)
            if row is not None and (operator, row.raw_key, repr(row.value)) not in seen:
                seen.add((operator, row.raw_key, repr(row.value)))
                yield row
        inputs = node.texts(_INPUT)
        if operator == "Dropout" and len(inputs) > 1 and scalars.get(inputs[1]) is not None:
            place = Origin(file, "graph.initializer", TOOL)
            yield HParamRow(
                "dropout", inputs[1], scalars[inputs[1]], None, Kind.STATIC, place, "Dropout node", reach=Reach.LAYER
            )


def _attribute_row(operator: str, attribute: Message, file: str) -> HParamRow | None:
    scope = _SCOPES.get(operator)
    key = attribute.text(_NAME)
    value: object = None
    if _INTS in attribute:
        value = attribute.integers(_INTS)
    elif floats := attribute.floats(_FLOAT):
        value = floats[0]
    elif integers := attribute.integers(_INT):
        value = integers[-1]
    elif _TEXT in attribute:
        value = attribute.text(_TEXT)
    if value is None:
        return None
    origin = Origin(file, f"graph.node[{operator}].attribute", TOOL)
    if scope is None:
        return HParamRow(None, key, value, None, Kind.SETTING, origin, f"{operator} node", reach=Reach.LAYER)
    row = hparam(key, value, origin, scope, f"{operator} node", reach=Reach.LAYER)
    if row.name == "bn_momentum":
        return replace(row, note=f"{operator} node; weight of the old value")
    return replace(row, name="pool_size") if scope == "pool" and row.name == "kernel_size" else row


def _scalar(tensor: Message) -> object:
    """The value of a one-element float tensor."""
    raw = b"".join(tensor.bytes(_RAW))
    if tensor.integer(_TYPE) == 1:
        if len(raw) == 4:
            return shortest(struct.unpack("<f", raw)[0])
        floats = tensor.floats(_FLOATS)
        return floats[0] if len(floats) == 1 else None
    return None


SOURCE = HParamSource(TOOL, sniff, read)
