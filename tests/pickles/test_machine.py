"""The pickle machine against Python's own: the same data, bounded, and nothing run."""

from __future__ import annotations

import argparse
import os
import pickle
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.work import allocated, processor_seconds

from inspectcli.errors import DamagedFileError, LimitError, PinspectError, TruncatedFileError, UnsafeFileError
from inspectcli.pickles.globals import foreign, hazards
from inspectcli.pickles.machine import Limits, OutOfDataError, Program, read_pickle, read_whole_pickle
from inspectcli.pickles.nodes import Dict, Global, Object, Persistent, Set

PROTOCOLS = range(6)


class Call:
    """Pickles as `func(*args)`; may itself stand where a function is wanted."""

    def __init__(self, func: object, *args: object) -> None:
        self.func, self.args = func, args

    def __call__(self) -> None: ...

    def __reduce__(self) -> tuple[object, ...]:
        return self.func, self.args


# -- the same data as pickle.loads ----------------------------------------------------------------------


class Comparison:
    """Whether a node is what `pickle.loads` built, shared references and cycles included."""

    def __init__(self) -> None:
        self.node_of: dict[int, object] = {}
        self.value_of: dict[int, object] = {}

    def same(self, node: object, value: object) -> bool:
        if isinstance(value, list | dict | set):
            if id(value) in self.node_of or id(node) in self.value_of:
                return self.node_of.get(id(value)) is node and self.value_of.get(id(node)) is value
            self.node_of[id(value)], self.value_of[id(node)] = node, value
        if isinstance(value, dict):
            return isinstance(node, Dict) and self.all_same([*node.keys, *node.values], [*value, *value.values()])
        if isinstance(value, set | frozenset):
            return {plain(m) for m in members(node)} == {plain_value(v) for v in value}
        if isinstance(value, bytes | bytearray):
            return raw(node) == value
        if isinstance(value, list | tuple):
            return type(node) is type(value) and self.all_same(list(node), list(value))  # type: ignore[call-overload]
        return plain(node) == plain_value(value)

    def all_same(self, nodes: list[object], values: list[object]) -> bool:
        return len(nodes) == len(values) and all(map(self.same, nodes, values))


def plain_value(value: object) -> object:
    """Hashable, and telling 1 from True and from 1.0."""
    return type(value).__name__, repr(value)


def plain(node: object) -> object:
    data = raw(node)
    return plain_value(node if data is None else data)


def raw(node: object) -> bytes | None:
    """Bytes, also as protocols 0 to 2 write them."""
    if isinstance(node, bytes):
        return node
    if isinstance(node, Object) and node.path == "_codecs.encode":
        return str(node.args[0]).encode("latin-1")
    if isinstance(node, Object) and node.func.name in ("bytes", "bytearray"):  # type: ignore[attr-defined]
        return b"".join(raw(a) or b"" for a in node.args)
    return None


def members(node: object) -> list[object]:
    """Members of a set, also as protocols 0 to 3 write it: `set([...])`."""
    if isinstance(node, Set):
        return node.members
    assert isinstance(node, Object)
    assert node.func.name in ("set", "frozenset")  # type: ignore[attr-defined]
    (listed,) = node.args
    assert isinstance(listed, list)
    return listed


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**256), 2**256)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
DATA = st.recursive(
    SCALARS | st.frozensets(SCALARS, max_size=4) | st.sets(SCALARS, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=5)
        | inner.map(lambda one: [one, one])
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(data=DATA)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_plain_data_reads_as_python_reads_it(protocol: int, data: object) -> None:
    written = pickle.dumps(data, protocol)
    program = read_pickle(written)
    assert Comparison().same(program.value, pickle.loads(written))
    assert program.end == len(written)
    assert program.protocol == (protocol if protocol >= 2 else 0)


def recursive_list() -> object:
    made: list[object] = [1]
    made.append(made)
    return made


def recursive_dict() -> object:
    made: dict[str, object] = {}
    made["self"] = [made, {"again": made}]
    return made


def shared() -> object:
    one: list[object] = []
    return [one, {"one": one}, (one, one), []]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("make", [recursive_list, recursive_dict, shared])
def test_shared_and_recursive_references_stay_what_they_are(protocol: int, make: Callable[[], object]) -> None:
    written = pickle.dumps(make(), protocol)
    assert Comparison().same(read_pickle(written).value, pickle.loads(written))


def test_the_comparison_notices_lost_sharing() -> None:
    apart = read_pickle(pickle.dumps([[], []])).value
    one: list[object] = []
    assert not Comparison().same(apart, [one, one])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "text", ["", "\ud800", "a\udfffb", "line\nbreak\r\0\x1a", "\\u0041", "'\"\\", "é\u2028\U0001f600", "x" * 70_000]
)
def test_odd_text_reads_as_python_reads_it(protocol: int, text: str) -> None:
    assert read_pickle(pickle.dumps(text, protocol)).value == text


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000])
def test_bytes_and_bytearrays_of_any_length_read_whole(protocol: int, size: int) -> None:
    data = random.Random(size).randbytes(size)
    program = read_pickle(pickle.dumps([data, bytearray(data)], protocol))
    assert isinstance(program.value, list)
    assert [raw(node) for node in program.value] == [data, data]


@pytest.mark.parametrize("number", [0, 1, -1, 255, 256, 65_536, 2**31 - 1, -(2**31), 2**31, 2**63, -(2**63), 2**300])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_integers_of_any_width_are_exact(protocol: int, number: int) -> None:
    assert read_pickle(pickle.dumps(number, protocol)).value == number


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (b"S'it\\'s\\n\\x41'\n.", "it's\nA"),
        (b'S"quoted"\n.', "quoted"),
        (b"T\x03\x00\x00\x00abc.", "abc"),
        (b"U\x03abc.", "abc"),
        (b"Vplain\\u0041\n.", "plainA"),
        (b"I01\n.", True),
        (b"I00\n.", False),
        (b"I-7\n.", -7),
        (b"L12L\n.", 12),
        (b"L12\n.", 12),
        (b"F1.5e3\n.", 1500.0),
        (b"(I1\nI2\nl.", [1, 2]),
        (b"(I1\nI2\nt.", (1, 2)),
        (b"K\x012\x86.", (1, 1)),
        (b"(K\x01K\x021K\x03.", 3),
        (b"(0K\x05.", 5),
        (b"]p0\ng0\na.", None),
    ],
)
def test_old_opcodes_mean_what_python_says(written: bytes, value: object) -> None:
    expected = pickle.loads(written)
    program = read_pickle(written)
    if value is not None:
        assert expected == value
    assert Comparison().same(program.value, expected)


def test_a_second_pickle_is_read_from_where_the_first_ends() -> None:
    first, second = pickle.dumps([1]), pickle.dumps("two")
    one = read_pickle(first + second)
    assert one.value == [1]
    assert one.end == len(first)
    assert read_pickle(first + second, one.end).value == "two"


def test_what_is_thrown_away_is_still_reported() -> None:
    program = read_pickle(b"cos\nsystem\n(X\x02\x00\x00\x00idtR0N.")
    assert program.value is None
    assert [g.path for g in program.globals] == ["os.system"]
    assert [c.path for c in program.calls] == ["os.system"]


def test_persistent_ids_are_nodes() -> None:
    program = read_pickle(b"(Pnamed\nX\x03\x00\x00\x00abcQl.")
    assert [p.pid for p in program.persistent] == ["named", "abc"]
    assert isinstance(program.value, list)
    assert all(isinstance(node, Persistent) for node in program.value)


class Mapping(dict[str, int]):
    extra: int


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_an_object_keeps_its_items_and_state(protocol: int) -> None:
    made = Mapping(a=1, b=2)
    made.extra = 3
    node = read_pickle(pickle.dumps(made, protocol)).value
    assert isinstance(node, Object)
    assert (node.path, node.how) == (f"{__name__}.Mapping", "new")
    assert node.entries is not None
    assert list(node.entries.items()) == [("a", 1), ("b", 2)]
    assert isinstance(node.state, Dict)
    assert node.state.get("extra") == 3


# -- limits ---------------------------------------------------------------------------------------------

FEW = Limits(opcodes=1_000, stack=100, marks=20, memo=30, containers=200)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"N0" * 1_000 + b"N.", "more than 1,000 opcodes"),
        (b"N" * 200 + b".", "a stack of more than 100"),
        (b"(" * 30 + b"N.", "nests more than 20 marks"),
        (b"N" + b"".join(b"r" + struct.pack("<I", i) for i in range(31)) + b".", "remembers more than 30 objects"),
        (b"N" + b"\x94" * 31 + b".", "remembers more than 30 objects"),
        (b"]0" * 201 + b"N.", "builds more than 200 objects"),
        (b"}0" * 101 + b"N.", "builds more than 200 objects"),
        (b"N" + b"\x85" * 201 + b".", "builds more than 200 objects"),
        (b"I" + b"9" * 101 + b"\n.", "a number of 101 digits"),
        (b"L" + b"9" * 5_000 + b"L\n.", "a number of 5,000 digits"),
        (b"p" + b"9" * 101 + b"\n.", "a number of 101 digits"),
        (b"Ng" + b"9" * 101 + b"\n.", "a number of 101 digits"),
    ],
)
def test_a_limit_is_named_when_it_is_passed(data: bytes, message: str) -> None:
    with pytest.raises(LimitError, match=message):
        read_pickle(data, 0, FEW)


@pytest.mark.parametrize(
    "data",
    [b"N0" * 400 + b"N.", b"N" * 100 + b".", b"(" * 20 + b"N.", b"N" + b"\x94" * 30 + b".", b"]0" * 200 + b"N."],
)
def test_a_limit_is_not_passed_by_reaching_it(data: bytes) -> None:
    read_pickle(data, 0, FEW)


def test_the_published_limits_stop_a_bomb_of_marks() -> None:
    with pytest.raises(LimitError, match="100,000 marks"):
        read_pickle(b"(" * 200_000 + b"N.")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b".", "empty stack"),
        (b"0.", "empty stack"),
        (b"2.", "empty stack"),
        (b"a.", "empty stack"),
        (b"Na.", "empty stack"),
        (b"K\x01K\x02a.", "appends to a int"),
        (b"N(K\x01e.", "appends to a None"),
        (b"s.", "empty stack"),
        (b"K\x01K\x02K\x03s.", "sets items in a int"),
        (b"}(K\x01u.", "a key without a value"),
        (b"(K\x01d.", "a key without a value"),
        (b"(.", "empty stack"),
        (b"K\x01(0a.", "empty stack"),
        (b"K\x01(.", "empty stack"),
        (b"t.", "lacks a MARK"),
        (b"1.", "lacks a MARK"),
        (b"e.", "lacks a MARK"),
        (b"\x85.", "empty stack"),
        (b"K\x01\x86.", "empty stack"),
        (b"K\x01K\x02\x87.", "empty stack"),
        (b"q\x00.", "empty stack"),
        (b"\x94.", "empty stack"),
        (b"h\x07.", "recalls object 7"),
        (b"g-1\n.", "recalls object -1"),
        (b"j\xff\xff\xff\xff.", "recalls object 4,294,967,295"),
        (b"Rx.", "empty stack"),
        (b"cos\nsystem\nNR.", "arguments that are no tuple"),
        (b"cos\nsystem\nN\x81.", "arguments that are no tuple"),
        (b"cos\nsystem\n)N\x92.", "keyword arguments that are no dict"),
        (b"K\x01K\x02\x93.", "something that is no text"),
        (b"(o.", "an object without a class"),
        (b"K\x01K\x02b.", "sets the state of a int"),
        (b"Ixyz\n.", "not a number"),
        (b"Lxyz\n.", "not a number"),
        (b"Fxyz\n.", "not a number"),
        (b"S'open\n.", "without quotes"),
        (b"Snone\n.", "without quotes"),
        (b"S'\\x'\n.", "a broken string"),
        (b"V\\ud\n.", "a broken string"),
        (b"X\x01\x00\x00\x00\xff.", "not UTF-8"),
        (b"T\xff\xff\xff\xff.", "negative length"),
        (b"\x8b\xff\xff\xff\xff.", "negative length"),
        (b"\x80\x06N.", "protocol 6"),
        (b"\x97.", "out-of-band buffers"),
        (b"\xffN.", "is no opcode: found 0xff"),
        (b"\x00", "is no opcode: found 0x00"),
    ],
)
def test_what_no_pickler_writes_is_damage(data: bytes, message: str) -> None:
    with pytest.raises(Exception):  # noqa: B017
        pickle.loads(data)
    with pytest.raises(DamagedFileError, match=message):
        read_pickle(data)


@pytest.mark.parametrize("length", [b"\xff\xff\xff\x7f", b"\xff\xff\xff\x7f\x00\x00\x00\x00", b"\xff" * 7 + b"\x7f"])
@pytest.mark.parametrize("opcode", [b"\x8b", b"T", b"X", b"B", b"\x8d", b"\x8e", b"\x96"])
def test_a_huge_length_allocates_nothing(opcode: bytes, length: bytes) -> None:
    with allocated(1 << 20), pytest.raises((OutOfDataError, PinspectError)):
        read_pickle(opcode + length + b"abc.")


def test_a_long_integer_is_described_and_not_computed() -> None:
    assert read_pickle(pickle.dumps(1 << 8 * 300, 2)).value == "<integer of 2,408 bits>"


def test_a_memo_index_of_four_billion_costs_one_entry() -> None:
    with allocated(1 << 20):
        assert read_pickle(b"K\x01r\xff\xff\xff\xff0j\xff\xff\xff\xff.").value == 1


def test_deeply_nested_lists_are_read_without_recursion() -> None:
    node = read_pickle(b"]" * 300_000 + b"a" * 299_999 + b".").value
    depth = 0
    while node:
        assert isinstance(node, list)
        (node,) = node
        depth += 1
    assert depth == 299_999


def test_a_deep_tuple_as_a_key_is_never_hashed() -> None:
    program = read_pickle(b"}N" + b"\x85" * 500_000 + b"K\x01s.")
    assert isinstance(program.value, Dict)
    assert program.value.values == [1]


def test_sixty_thousand_colliding_keys_cost_no_more_than_others() -> None:
    colliding = [i * sys.hash_info.modulus for i in range(60_000)]
    assert len({hash(key) for key in colliding}) == 1
    data = b"}(" + b"".join(pickle.dumps(key, 2)[2:-1] + b"N" for key in colliding) + b"u."
    with processor_seconds(5):
        program = read_pickle(data)
    assert isinstance(program.value, Dict)
    assert len(program.value.keys) == 60_000


@pytest.mark.parametrize(("opcodes", "code"), [(b"\x82\x01", 1), (b"\x83\x01\x02", 513), (b"\x84\x01\x00\x00\x00", 1)])
def test_an_extension_code_is_a_hazard(opcodes: bytes, code: int) -> None:
    found = hazards(read_pickle(opcodes + b"."), "here")
    assert any(f"extension code {code} " in h.what for h in found)


def test_attributes_set_on_a_class_are_a_hazard() -> None:
    found = hazards(read_pickle(b"cmy_project\nThing\n}X\x01\x00\x00\x00aK\x01sb."), "here")
    assert [h.what for h in found] == ["attributes of my_project.Thing itself would be set"]


# -- frames ---------------------------------------------------------------------------------------------


def framed(body: bytes, length: int) -> bytes:
    return b"\x80\x04\x95" + struct.pack("<Q", length) + body


def test_a_frame_around_the_pickle_is_fine() -> None:
    assert read_pickle(framed(b"K\x01.", 3)).value == 1


def test_two_frames_in_a_row_are_fine() -> None:
    data = framed(b"K\x01", 2) + b"\x95" + struct.pack("<Q", 2) + b"\x85."
    assert pickle.loads(data) == (1,)
    assert read_pickle(data).value == (1,)


def test_a_frame_that_ends_inside_an_opcode_is_unsafe() -> None:
    with pytest.raises(UnsafeFileError, match="ends inside an opcode"):
        read_pickle(framed(b"B\x04\x00\x00\x00abcdN.", 6))


def test_a_frame_inside_a_frame_is_unsafe() -> None:
    with pytest.raises(UnsafeFileError, match="inside a frame"):
        read_pickle(framed(b"\x95" + struct.pack("<Q", 2) + b"K\x01.", 12))


@pytest.mark.parametrize("length", [4, 255, 2**40, 2**64 - 1])
def test_a_frame_beyond_the_end_of_the_pickle_is_refused_as_python_does(length: int) -> None:
    data = framed(b"K\x01.", length)
    with pytest.raises(Exception):  # noqa: B017
        pickle.loads(data)
    with pytest.raises((PinspectError, OutOfDataError)):
        read_pickle(data)


# -- cut and mutated pickles ----------------------------------------------------------------------------

SAMPLES = [
    {"a": [1, 2.5, None, True], "b": ("x", b"bytes", {1, 2}), 3: {"deep": [[[["y"]]]]}, "big": 2**70},
    recursive_dict(),
    argparse.Namespace(lr=0.1, layers=[1, 2], where=Path("runs/x")),
    [complex(1, 2), bytearray(b"abc"), frozenset("ab"), range(3), Exception("text")],
    [{"weight": i, "name": f"layer{i}"} for i in range(20)],
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("sample", range(len(SAMPLES)))
def test_every_prefix_lacks_data_and_nothing_else(sample: int, protocol: int) -> None:
    data = pickle.dumps(SAMPLES[sample], protocol)
    for end in range(len(data)):
        with pytest.raises(OutOfDataError):
            read_pickle(data[:end])
        with pytest.raises(TruncatedFileError, match="has no end"):
            read_whole_pickle(data[:end])


def read_as_a_reader_does(data: bytes) -> Program | None:
    try:
        program = read_pickle(data)
    except (PinspectError, OutOfDataError):
        return None
    hazards(program, "here")
    foreign((program,))
    return program


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_mutated_pickles_raise_our_errors_only_and_quickly(protocol: int) -> None:
    dice = random.Random(protocol)
    originals = [pickle.dumps(s, protocol) for s in SAMPLES]
    understood = 0
    for _ in range(2_500):
        data = bytearray(dice.choice(originals))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(data))
            kind = dice.randrange(3)
            if kind == 0:
                data[at] = dice.randrange(256)
            elif kind == 1:
                del data[at : at + dice.randint(1, 4)]
            else:
                data[at:at] = dice.randbytes(dice.randint(1, 4))
            data = data or bytearray(b".")
        with processor_seconds(5):
            understood += read_as_a_reader_does(bytes(data)) is not None
    assert 0 < understood < 2_500


@given(data=st.binary(max_size=60))
@settings(max_examples=500)
def test_any_bytes_raise_our_errors_only(data: bytes) -> None:
    read_as_a_reader_does(data)


OPCODES = b"(.0125]})abcdehijlopqrstuNKXCRVIQP\x81\x85\x86\x88\x8f\x90\x91\x93\x94\x95"


@given(opcodes=st.lists(st.sampled_from(OPCODES), max_size=40))
@settings(max_examples=1_000)
def test_any_order_of_opcodes_raises_our_errors_only(opcodes: list[int]) -> None:
    read_as_a_reader_does(bytes(opcodes))


# -- nothing runs ---------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def by_os_system(canary: Path) -> bytes:
    return pickle.dumps(Call(os.system, f"touch {canary}"))


def by_exec(canary: Path) -> bytes:
    return pickle.dumps(Call(exec, f"open({str(canary)!r}, 'w').close()"))


def by_a_chain_of_calls(canary: Path) -> bytes:
    system = Call(getattr, Call(__import__, "os"), "system")
    return pickle.dumps([1, {"x": Call(system, f"touch {canary}")}])


def by_computed_names(canary: Path) -> bytes:
    def joined(left: str, right: str) -> bytes:
        return b"cbuiltins\ngetattr\n(" + text(left) + text("__add__") + b"tR(" + text(right) + b"tR"

    return b"\x80\x04" + joined("po", "six") + joined("sys", "tem") + b"\x93(" + text(f"touch {canary}") + b"tR."


def by_inst(canary: Path) -> bytes:
    return f"(S'touch {canary}'\nios\nsystem\n.".encode()


def by_obj(canary: Path) -> bytes:
    return f"(cos\nsystem\nS'touch {canary}'\no.".encode()


def by_setstate(canary: Path) -> bytes:
    code = f"open({str(canary)!r}, 'w').close()"
    return b"\x80\x02cargparse\nNamespace\n)\x81}" + text("__setstate__") + b"cbuiltins\nexec\nsb" + text(code) + b"b."


def by_a_new_module(canary: Path) -> bytes:
    return b"cthis\ns\n0" + pickle.dumps(Call(os.system, f"touch {canary}"), 0)


@pytest.mark.parametrize("protocol", [0, 2])
@pytest.mark.parametrize(
    "payload",
    [
        by_os_system,
        by_exec,
        by_a_chain_of_calls,
        by_computed_names,
        by_inst,
        by_obj,
        by_setstate,
        by_a_new_module,
    ],
)  # fmt: skip
def test_a_hostile_pickle_runs_and_imports_nothing(
    payload: Callable[[Path], bytes], protocol: int, tmp_path: Path
) -> None:
    live, canary = tmp_path / "live", tmp_path / "canary"
    pickle.loads(payload(live))
    assert live.exists(), "the payload itself must work, or this test shows nothing"
    sys.modules.pop("this", None)
    before, data = set(sys.modules), payload(canary)
    if protocol == 0:
        data = data.replace(b"\x80\x02", b"")
    try:
        program = read_pickle(data)
    except PinspectError:
        program = None
    if program is not None:
        assert hazards(program, "here")
    assert not canary.exists()
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "data", [b"cno_such_module\nname\n.", b"\x80\x04" + text("no_such_module") + text("name") + b"\x93."]
)
def test_named_globals_are_not_looked_up(data: bytes) -> None:
    program = read_pickle(data)
    assert isinstance(program.value, Global)
    assert program.value.path == "no_such_module.name"
