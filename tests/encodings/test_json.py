"""JSON of a stranger is bounded, and means one thing only."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.work import processor_seconds

from inspectcli.encodings.json import MAX_DEPTH, MAX_DIGITS, parse
from inspectcli.errors import DamagedFileError, LimitError, PinspectError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(VALUES, st.booleans())
def test_ordinary_json_reads_as_python_reads_it(value: object, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert parse(data, "it") == json.loads(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]",:\\ntrue1e9-. ', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(PinspectError):
        assert parse(data, "it") == json.loads(data)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_depth_is_bounded_to_the_level(opening: str, closing: str) -> None:
    levels = len(opening.replace('"a":', ""))
    fits = MAX_DEPTH // levels
    assert parse((opening * fits + "1" + closing * fits).encode(), "it")
    with pytest.raises(LimitError, match=f"it is nested more than {MAX_DEPTH} levels deep at byte"):
        parse((opening * (fits + 1) + "1" + closing * (fits + 1)).encode(), "it")


def test_a_million_brackets_are_refused_and_not_recursed_over() -> None:
    with pytest.raises(LimitError, match="at byte 100"):
        parse(b"[" * 1_000_000, "it")


@pytest.mark.parametrize(
    "text",
    ["[" * 500, "{" * 500, '\\"' + "[" * 500, "]" * 200 + "[" * 200, "\\\\" + "{" * 300, "\u00e9" * 10 + "[" * 200],
)
def test_brackets_inside_strings_are_text(text: str) -> None:
    data = b'{"a": "' + text.encode() + b'"}'
    assert parse(data, "it") == json.loads(data)


def test_many_brackets_side_by_side_are_no_depth() -> None:
    assert parse(b"[" + b"{}," * 500 + b"[]]", "it") == [{}] * 500 + [[]]


@pytest.mark.parametrize(
    "data", [b'{"a": 1, "a": 2}', b'{"b": {"a": 1, "a": 1}}', b'[{"a": 1, "x": 0, "a": []}]', b'{"a": 1, "\\u0061": 2}']
)
def test_a_name_twice_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedFileError, match="it names 'a' twice"):
        parse(data, "it")


def test_a_name_twice_can_be_allowed_and_the_last_one_counts() -> None:
    assert parse(b'{"a": 1, "a": 2}', "it", duplicates=True) == {"a": 2}


@pytest.mark.parametrize("data", [b'{"a": 1, "A": 2}', b'[{"a": 1}, {"a": 1}]', b'{"a": {"a": 1}}'])
def test_names_that_only_look_alike_are_kept(data: bytes) -> None:
    assert parse(data, "it") == json.loads(data)


@pytest.mark.parametrize("text", ["1" * MAX_DIGITS, "-" + "1" * (MAX_DIGITS - 1), "0", "18446744073709551615"])
def test_a_number_of_ordinary_length_is_read(text: str) -> None:
    assert parse(text.encode(), "it") == int(text)


@pytest.mark.parametrize("digits", [MAX_DIGITS + 1, 5_000, 1_000_000])
def test_a_long_number_is_refused(digits: int) -> None:
    with pytest.raises(DamagedFileError, match=f"a number of {digits:,} digits"):
        parse(b"[" + b"9" * digits + b"]", "it")


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_what_json_does_not_know_is_refused_unless_asked_for(name: str) -> None:
    with pytest.raises(DamagedFileError, match=f"it holds {name}"):
        parse(f'{{"a": {name}}}'.encode(), "it")
    assert repr(parse(f"[{name}]".encode(), "it", numbers=True)[0]) == repr(float(name))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is not JSON: Expecting value at byte 0"),
        (b'{"a": }', "it is not JSON: Expecting value at byte 6"),
        (b'{"a": 1} x', "it is not JSON: Extra data at byte 9"),
        (b'{"a": 1}\0', "it is not JSON: Extra data at byte 8"),
        (b"{'a': 1}", "it is not JSON"),
        (b'{"a": 1,}', "it is not JSON"),
        (b'{"a": "\n"}', "it is not JSON: Invalid control character"),
        (b'{"a": "\xff"}', "it is not UTF-8: invalid start byte at byte 7"),
        (b'{"a": "\xed\xa0\x80"}', "it is not UTF-8"),
        (b"\xef\xbb\xbf{}", "it is not JSON"),
        (b"{\0}\0", "it is not JSON"),
    ],
)
def test_what_is_no_json_is_refused_with_the_place(data: bytes, message: str) -> None:
    with pytest.raises(DamagedFileError) as caught:
        parse(data, "it")
    assert message in caught.value.message


def test_the_place_counts_bytes_and_not_characters() -> None:
    data = '{"ééé": x}'.encode()
    with pytest.raises(DamagedFileError, match=f"at byte {data.index(b'x')}"):
        parse(data, "it")


# -- no text may cost more than its length --------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":[' + b"[]," * 200 + b'"' + b'\\"' * 100_000,
        b"{" + b",".join(b'"%d":0' % i for i in range(200_000)) + b',"199999":0}',
    ],
    ids=["a string that never ends", "the last name twice"],
)
def test_the_time_grows_with_the_length_only(data: bytes) -> None:
    with processor_seconds(5), pytest.raises(PinspectError):
        parse(data, "it")


@pytest.mark.parametrize("text", [b"[" + b"{}," * 1_600_000 + b"1]", b"[" + b"1," * 3_000_001 + b"1]"])
def test_values_are_counted_before_they_are_made(text: bytes) -> None:
    with pytest.raises(LimitError, match="more than 3,000,000 values"):
        parse(text, "a config")


def test_a_long_index_is_read() -> None:
    text = json.dumps({"weight_map": {f"blocks.{i}.weight": f"{i % 100}.safetensors" for i in range(300_000)}})
    assert len(parse(text.encode(), "the index")["weight_map"]) == 300_000
