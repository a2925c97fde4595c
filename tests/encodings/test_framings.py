from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.framings import BLOCK, field, log_of, tf_of, varint

from inspectcli.encodings import leveldb, protobuf, tfrecord
from inspectcli.encodings.leveldb import log_records
from inspectcli.encodings.protobuf import Message
from inspectcli.encodings.tfrecord import masked_crc32c, tf_records
from inspectcli.errors import ChecksumError, DamagedFileError, LimitError, PinspectError, TruncatedFileError
from inspectcli.storage.memory import Memory
from inspectcli.tensors.arithmetic import shortest


def before_damage(records: Iterator[bytes]) -> tuple[list[bytes], PinspectError | None]:
    """What a reader gives before it raises, and what it raises."""
    found: list[bytes] = []
    try:
        for record in records:
            found.append(record)
    except PinspectError as error:
        return found, error
    return found, None


def test_crc32c_is_the_published_one() -> None:
    # "123456789" is the check value of CRC-32C: 0xE3069283, masked by hand.
    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_fields_of_every_wire_type() -> None:
    message = Message(
        varint(1 << 3) + varint(300)
        + varint(2 << 3 | 1) + struct.pack("<d", 0.5)
        + field(3, "naïve".encode())
        + varint(4 << 3 | 5) + struct.pack("<f", 0.05)
        + field(5, varint(7) + varint((1 << 64) - 1))
    )  # fmt: skip
    assert message.integer(1) == 300
    assert message.doubles(2) == [0.5]
    assert message.text(3) == "naïve"
    assert message.floats(4) == [0.05]
    assert message.integers(5) == [7, -1]
    assert 3 in message
    assert 6 not in message
    assert (message.integer(6), message.text(6), message.messages(6)) == (0, "", [])


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"\x80", TruncatedFileError, id="tag without an end"),
        pytest.param(b"\x08", TruncatedFileError, id="no value"),
        pytest.param(b"\x12\x05abc", TruncatedFileError, id="field beyond the end"),
        pytest.param(b"\x09\x00", TruncatedFileError, id="double beyond the end"),
        pytest.param(b"\x0b", DamagedFileError, id="group"),
        pytest.param(b"\xff" * 11, DamagedFileError, id="eleven bytes of number"),
    ],
)
def test_broken_messages(data: bytes, error: type[PinspectError]) -> None:
    with pytest.raises(error):
        Message(data)


def test_a_message_of_too_many_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 3)
    Message(b"\x08\x00" * 3)
    with pytest.raises(LimitError):
        Message(b"\x08\x00" * 4)
    assert Message(field(1, bytes(3))).integers(1) == [0, 0, 0]
    with pytest.raises(LimitError):
        Message(field(1, bytes(4))).integers(1)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_damage(data: bytes) -> None:
    with contextlib.suppress(PinspectError):
        Message(data)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=4))
def test_a_number_ends_where_it_ends(value: int, after: bytes) -> None:
    written = varint(value)
    assert protobuf.varint(b"\xff" + written + after, 1) == (value, 1 + len(written))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9, b"\x80" * 10 + b"\x01"])
def test_a_number_without_an_end_is_damage(data: bytes) -> None:
    with pytest.raises(PinspectError):
        protobuf.varint(data, 0)


@given(st.floats(width=32, allow_nan=False))
def test_the_shortest_decimal_gives_the_float_back(value: float) -> None:
    assert struct.pack("<f", shortest(value)) == struct.pack("<f", value)


def test_the_shortest_decimal_is_what_people_wrote() -> None:
    written = (0.05, 1e-5, 3e-4, 0.1, 1e-10, 64.0)
    assert [shortest(struct.unpack("<f", struct.pack("<f", v))[0]) for v in written] == list(written)


sizes = st.lists(st.sampled_from((0, 1, 5, 100, BLOCK - 15, BLOCK - 7, BLOCK, 2 * BLOCK + 3)), max_size=6)


@given(sizes)
def test_logs_give_back_what_was_written(lengths: list[int]) -> None:
    records = [bytes([i + 1]) * n for i, n in enumerate(lengths)]
    assert list(log_records(Memory("log", log_of(records, b":W&B\xe1\xbe\x00")), 7)) == records


@given(sizes)
def test_tf_records_give_back_what_was_written(lengths: list[int]) -> None:
    records = [bytes([i + 1]) * min(n, 300) for i, n in enumerate(lengths)]
    assert list(tf_records(Memory("events", tf_of(records)))) == records


def test_only_wanted_records_are_given() -> None:
    data = tf_of([b"no", b"yes", b"no"])
    assert list(tf_records(Memory("events", data), lambda record: record == b"yes")) == [b"yes"]


def test_records_longer_than_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "_CHUNK", 64)
    records = [b"a" * n for n in (1, 63, 64, 65, 500, 3)]
    assert list(tf_records(Memory("events", tf_of(records)))) == records


FRAMINGS = [
    pytest.param(log_of, lambda data: log_records(Memory("log", data), 0), id="log"),
    pytest.param(tf_of, lambda data: tf_records(Memory("events", data)), id="tf"),
]
RECORDS = [b"first", b"second" * 20, b"", b"last"]


@pytest.mark.parametrize(("write", "records"), FRAMINGS)
def test_every_truncation_gives_a_beginning(
    write: Callable[[list[bytes]], bytes], records: Callable[[bytes], Iterator[bytes]]
) -> None:
    data = write(RECORDS)
    for n in range(len(data)):
        found, error = before_damage(records(data[:n]))
        assert error is None or isinstance(error, TruncatedFileError)
        assert found == RECORDS[: len(found)]
        assert len(found) < len(RECORDS)


@pytest.mark.parametrize(("write", "records"), FRAMINGS)
def test_every_changed_byte_is_seen(
    write: Callable[[list[bytes]], bytes], records: Callable[[bytes], Iterator[bytes]]
) -> None:
    data = write(RECORDS)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]
        found, error = before_damage(records(changed))
        assert isinstance(error, DamagedFileError)
        assert found == RECORDS[: len(found)]


def test_a_changed_record_says_where() -> None:
    data = bytearray(log_of([b"first", b"second"]))
    data[-1] ^= 1
    with pytest.raises(ChecksumError, match="the record at byte 12 was changed since it was written"):
        list(log_records(Memory("log", bytes(data)), 0))


def test_a_length_of_a_terabyte_allocates_nothing() -> None:
    length = struct.pack("<Q", 1 << 40)
    data = length + struct.pack("<I", masked_crc32c(length)) + b"x"
    with pytest.raises(TruncatedFileError):
        list(tf_records(Memory("events", data)))


def test_records_in_pieces_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (leveldb, tfrecord):
        monkeypatch.setattr(module, "MAX_RECORD", BLOCK)
    with pytest.raises(LimitError):
        list(log_records(Memory("log", log_of([b"a" * 2 * BLOCK])), 0))
    with pytest.raises(LimitError):
        list(tf_records(Memory("events", tf_of([b"a" * (BLOCK + 1)]))))


def test_a_log_is_read_so_far_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (leveldb, tfrecord):
        monkeypatch.setattr(module, "MAX_LOG", BLOCK)
    with pytest.raises(LimitError, match="only the first 0 MiB were read"):
        list(log_records(Memory("log", log_of([b"a" * 2 * BLOCK])), 0))
    with pytest.raises(LimitError):
        list(tf_records(Memory("events", tf_of([b"a" * BLOCK] * 2))))
