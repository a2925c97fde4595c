"""TensorBoard event files: the hparams plugin, and the curves of the learning rate.

An event file is a row of TFRecords that each hold an `Event`; a value's tag says what it is.
    https://github.com/tensorflow/tensorboard/blob/2.20.0/tensorboard/compat/proto/event.proto
    https://github.com/tensorflow/tensorboard/blob/2.20.0/tensorboard/plugins/hparams/plugin_data.proto
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import replace

from inspectcli.encodings.protobuf import Message
from inspectcli.encodings.tfrecord import tf_length, tf_records
from inspectcli.errors import DamagedFileError, LimitError
from inspectcli.hparams._tree import rows
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Origin, Priority, Selection, Store
from inspectcli.storage.location import Location

TOOL = "tensorboard"

_SESSION = "_hparams_/session_start_info"
_EXPERIMENT = "_hparams_/experiment"
#: Values nested deeper than this are none that a person set.
_MAX_DEPTH = 20

#: Curves that say where training has got to. The last word of a tag: `lr`, `train/learning_rate`, `lr-Adam/pg1`.
_CURVES = (
    (re.compile(r"(^|/)(lr|learning_rate)([-_ /](?!.*(loss|norm)).*)?$", re.IGNORECASE), "learning_rate.current"),
    (re.compile(r"(^|/)epoch$", re.IGNORECASE), "epoch.current"),
    (re.compile(r"(^|/)global_step$", re.IGNORECASE), "step.current"),
)
_WORTH_READING = (b"_hparams_/", b"lr", b"LR", b"earning_rate", b"epoch", b"global_step")


def _sniff(location: Location, head: bytes) -> bool:
    """The first record of every writer is the version: `brain.Event:2`."""
    length = tf_length(head, 0)
    return length is not None and b"brain.Event:" in head[12 : 12 + min(length, 200)]


def _read(location: Location, head: bytes, choice: Selection) -> Store:
    found = _Found()
    notes: tuple[str, ...] = ()
    try:
        with location.reading() as source:
            for record in tf_records(source, _wanted):
                found.event(Message(record))
    except (DamagedFileError, LimitError) as error:
        notes = (f"read up to the damage: {error.message}",)
    return Store(tuple(replace(row, priority=Priority.LOG) for row in found.rows(str(location))), notes=notes)


def _wanted(record: bytes) -> bool:
    """Whether a record may hold what is looked for; tags stand near its start, images and histograms are long."""
    return any(word in record[:4096] for word in _WORTH_READING) or b"_hparams_/" in record


class _Found:
    """What the events seen so far say."""

    def __init__(self) -> None:
        self.hparams: dict[str, object] = {}
        self.domains: dict[str, str] = {}
        self.curves: dict[str, tuple[float, int]] = {}

    def event(self, event: Message) -> None:
        step = event.integer(2)
        for summary in event.messages(5):
            for value in summary.messages(1):
                tag = value.text(1)
                if tag in (_SESSION, _EXPERIMENT):
                    self.plugin(value)
                elif any(pattern.search(tag) for pattern, _ in _CURVES):
                    number = _scalar(value)
                    if number is not None:
                        self.curves[tag] = (number, step)

    def plugin(self, value: Message) -> None:
        """HParamsPluginData stands in the metadata of a value that is otherwise empty."""
        for metadata in value.messages(9):
            for plugin in metadata.messages(1):
                for content in plugin.messages(2):
                    for session in content.messages(3):
                        self.hparams.update(_map(session, 1, 0))
                    for experiment in content.messages(2):
                        self.domains.update(_domains(experiment))

    def rows(self, path: str) -> Iterable[HParamRow]:
        for row in rows(self.hparams, path, TOOL, _SESSION):
            domain = self.domains.get(row.raw_key, "")
            yield replace(row, note=domain) if domain and not row.note else row
        for tag, (number, step) in self.curves.items():
            name = next(name for pattern, name in _CURVES if pattern.search(tag))
            origin = Origin(path, "scalar", TOOL)
            yield HParamRow(name, tag, number, None, Kind.DYNAMIC, origin, f"last of its curve, at step {step:,}")


def _map(message: Message, number: int, depth: int) -> dict[str, object]:
    """A map<string, google.protobuf.Value>."""
    made: dict[str, object] = {}
    for entry in message.messages(number):
        values = entry.messages(2)
        made[entry.text(1)] = _value(values[-1], depth) if values else None
    return made


def _value(value: Message, depth: int) -> object:
    """A google.protobuf.Value. It knows doubles only: a whole number is shown as one."""
    if depth > _MAX_DEPTH:
        raise DamagedFileError(f"a value nested more than {_MAX_DEPTH} levels deep")
    if 2 in value:
        return whole(value.doubles(2))
    if 3 in value:
        return value.text(3)
    if 4 in value:
        return bool(value.integer(4))
    if 5 in value:
        return _map(value.messages(5)[-1], 1, depth + 1) if value.messages(5) else {}
    if 6 in value:
        return [_value(item, depth + 1) for held in value.messages(6) for item in held.messages(1)]
    return None


def whole(numbers: list[float]) -> float | int | None:
    """The last number, as an integer if it is one."""
    if not numbers:
        return None
    number = numbers[-1]
    return int(number) if number.is_integer() and abs(number) < 1 << 53 else number


def _domains(experiment: Message) -> dict[str, str]:
    """What a search was allowed to try: HParamInfo has a list of values or an interval."""
    made: dict[str, str] = {}
    for info in experiment.messages(4):
        for listed in info.messages(5):
            made[info.text(1)] = f"searched {', '.join(str(_value(v, 0)) for v in listed.messages(1)[:20])}"
        for interval in info.messages(6):
            low, high = whole(interval.doubles(1)), whole(interval.doubles(2))
            made[info.text(1)] = f"searched {low or 0} to {high or 0}"
    return made


_FLOAT, _DOUBLE = 1, 2


def _scalar(value: Message) -> float | None:
    """A summary value that is one number: `simple_value`, or a tensor of one element."""
    numbers = value.floats(2)
    for tensor in value.messages(8):
        numbers += tensor.floats(5) + tensor.doubles(6)
        raw = b"".join(tensor.bytes(4))
        if tensor.integer(1) == _DOUBLE and len(raw) == 8:
            numbers.append(struct.unpack("<d", raw)[0])
        elif tensor.integer(1) == _FLOAT and len(raw) == 4:
            numbers += Message(b"\x15" + raw).floats(2)
    return numbers[-1] if numbers else None


SOURCE = HParamSource(TOOL, _sniff, _read)
