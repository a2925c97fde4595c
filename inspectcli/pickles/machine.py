"""Pickle virtual machine for protocols 0 to 5, with limits. It builds nodes and imports, calls and hashes nothing.

A pickle is a program for a stack machine, and ends with the opcode STOP.
    https://github.com/python/cpython/blob/v3.13.0/Lib/pickletools.py describes every opcode.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from inspectcli.errors import DamagedFileError, LimitError, PinspectError, TruncatedFileError, UnsafeFileError
from inspectcli.pickles.nodes import Dict, Global, Object, Persistent, Set


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one pickle: a checkpoint of 100,000 tensors stays far below them, a bomb does not.

    Attributes:
        opcodes: instructions that are executed.
        stack, marks, memo, containers: entries on the stack, open marks, memo slots, and lists, dicts, sets and tuples.
        digits: of a decimal integer in protocols 0 and 1.
        integer_bytes: of a binary integer; a longer one is described, not computed.
    """

    opcodes: int = 12_000_000
    stack: int = 2_000_000
    marks: int = 100_000
    memo: int = 2_000_000
    containers: int = 4_000_000
    digits: int = 100
    integer_bytes: int = 64


LIMITS = Limits()


class OutOfDataError(Exception):
    """The data ended before STOP: the caller reads more of the file, or reports it as truncated.

    Attributes:
        needed: bytes that the data must have at least.
    """

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


class Program(NamedTuple):
    """One pickle that was read.

    Attributes:
        value: the node that stands for the object it would build.
        start, end: byte range in the data, [start, end).
        protocol: the highest PROTO opcode; 0 without one.
        globals: every global it names, in order of first appearance.
        calls: every call it asks for, in order, including those whose result is discarded.
        persistent: every persistent id it loads, in order.
        tricks: descriptions of what no honest pickler writes, such as an extension code.
    """

    value: object
    start: int
    end: int
    protocol: int
    globals: tuple[Global, ...]
    calls: tuple[Object, ...]
    persistent: tuple[Persistent, ...]
    tricks: tuple[str, ...]


_OPS: dict[int, Callable[[Machine], None]] = {}


def _op(code: bytes) -> Callable[[Callable[[Machine], None]], Callable[[Machine], None]]:
    def register(method: Callable[[Machine], None]) -> Callable[[Machine], None]:
        _OPS[code[0]] = method
        return method

    return register


_STOP = 0x2E
_U16, _U32, _I32, _U64, _F64 = (struct.Struct(f) for f in ("<H", "<I", "<i", "<Q", ">d"))


class Machine:
    """State of the virtual machine while it reads one pickle. Use `read_pickle`."""

    def __init__(self, data: bytes, start: int, limits: Limits) -> None:
        self.data = data
        self.at = self.start = start
        self.limits = limits
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.steps = 0
        self.fence = 0  # the stack below the last mark is out of reach
        self.memo: dict[int, object] = {}
        self.frame_end = 0
        self.protocol = 0
        self.containers = 0
        self.globals: dict[tuple[str, str], Global] = {}
        self.calls: list[Object] = []
        self.persistent: list[Persistent] = []
        self.tricks: list[str] = []

    def run(self) -> Program:
        ops, data, limits = _OPS, self.data, self.limits
        end = len(data)
        for self.steps in range(limits.opcodes):
            at = self.at
            if at >= end:
                raise OutOfDataError(at + 1)
            if self.frame_end and at >= self.frame_end:
                if at > self.frame_end:
                    raise UnsafeFileError("a pickle frame ends inside an opcode: two readers would see two programs")
                self.frame_end = 0
            code = data[at]
            self.at = at + 1
            if code == _STOP:
                return self._finish()
            try:
                ops[code](self)
            except KeyError:
                raise DamagedFileError(f"byte {at:,} of the pickle is no opcode: found 0x{code:02x}") from None
            if len(self.stack) > limits.stack:
                raise LimitError(f"the pickle needs a stack of more than {limits.stack:,}")
        raise LimitError(f"the pickle has more than {limits.opcodes:,} opcodes")

    def _finish(self) -> Program:
        if self.frame_end > self.at:
            raise UnsafeFileError("a pickle frame reaches beyond the pickle's end: two readers would see two programs")
        return self.so_far(self.pop())

    def so_far(self, value: object = None) -> Program:
        """Return the program as far as it was read, with the value it would give."""
        return Program(
            value,
            self.start,
            self.at,
            self.protocol,
            tuple(self.globals.values()),
            tuple(self.calls),
            tuple(self.persistent),
            tuple(self.tricks),
        )

    # -- reading arguments ------------------------------------------------------------------------------

    def take(self, n: int) -> bytes:
        """Return the next `n` bytes. The length is checked before anything is sliced or allocated."""
        end = self.at + n
        if end > len(self.data):
            raise OutOfDataError(end)
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise OutOfDataError(len(self.data) + 1)
        piece = self.data[self.at : end]
        self.at = end + 1
        return piece

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise OutOfDataError(self.at + 1)
        self.at += 1
        return self.data[self.at - 1]

    def number(self, form: struct.Struct) -> int:
        if self.at + form.size > len(self.data):
            raise OutOfDataError(self.at + form.size)
        (value,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value  # type: ignore[no-any-return]

    def decimal(self, text: bytes) -> int:
        if len(text) > self.limits.digits:
            raise LimitError(f"a number of {len(text):,} digits in the pickle, at most {self.limits.digits} are read")
        try:
            return int(text)
        except ValueError:
            raise DamagedFileError(f"not a number in the pickle: {text[:20]!r}") from None

    def long(self, n: int) -> object:
        if n < 0:
            raise DamagedFileError("an integer of negative length in the pickle")
        raw = self.take(n)
        if n > self.limits.integer_bytes:
            return f"<integer of {8 * n:,} bits>"
        return int.from_bytes(raw, "little", signed=True)

    # -- the stack --------------------------------------------------------------------------------------

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        if len(self.stack) <= self.fence:
            raise DamagedFileError(f"the pickle takes from an empty stack at byte {self.at - 1:,}")
        return self.stack.pop()

    def top(self) -> object:
        if len(self.stack) <= self.fence:
            raise DamagedFileError(f"the pickle looks at an empty stack at byte {self.at - 1:,}")
        return self.stack[-1]

    def pop_mark(self) -> list[object]:
        if not self.marks:
            raise DamagedFileError(f"the pickle lacks a MARK at byte {self.at - 1:,}")
        start = self.marks.pop()
        self.fence = self.marks[-1] if self.marks else 0
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def contain(self, cost: int = 1) -> None:
        self.containers += cost
        if self.containers > self.limits.containers:
            raise LimitError(f"the pickle builds more than {self.limits.containers:,} objects")

    def remember(self, index: int) -> None:
        if len(self.memo) >= self.limits.memo:
            raise LimitError(f"the pickle remembers more than {self.limits.memo:,} objects")
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        try:
            self.stack.append(self.memo[index])
        except KeyError:
            raise DamagedFileError(f"the pickle recalls object {index:,}, which it never stored") from None

    # -- globals and calls ------------------------------------------------------------------------------

    def name_global(self, module: object, name: object) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise DamagedFileError(f"the pickle names a global by something that is no text at byte {self.at - 1:,}")
        known = self.globals.get((module, name))
        if known is None:
            self.contain()
            known = self.globals[module, name] = Global(module, name)
        return known

    def call(self, func: object, args: object, how: str, kwargs: Dict | None = None) -> None:
        if not isinstance(args, tuple):
            raise DamagedFileError(f"the pickle calls with arguments that are no tuple at byte {self.at - 1:,}")
        self.contain(2)
        made = Object(func, args, how, self.at - 1, kwargs)
        self.calls.append(made)
        self.stack.append(made)

    def load_persistent(self, pid: object) -> None:
        self.contain()
        node = Persistent(pid)
        self.persistent.append(node)
        self.stack.append(node)

    def append_to(self, target: object, items: list[object]) -> None:
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Set):
            target.members.extend(items)
        elif isinstance(target, Object):
            if target.members is None:
                self.contain()
                target.members = []
            target.members.extend(items)
        else:
            raise DamagedFileError(f"the pickle appends to a {_noun(target)} at byte {self.at - 1:,}")

    def set_in(self, target: object, items: list[object]) -> None:
        if len(items) % 2:
            raise DamagedFileError(f"a key without a value in the pickle at byte {self.at - 1:,}")
        if isinstance(target, Object):
            if target.entries is None:
                self.contain()
                target.entries = Dict()
            target = target.entries
        if not isinstance(target, Dict):
            raise DamagedFileError(f"the pickle sets items in a {_noun(target)} at byte {self.at - 1:,}")
        target.keys.extend(items[::2])
        target.values.extend(items[1::2])


def _noun(value: object) -> str:
    return {"NoneType": "None", "Persistent": "storage", "Global": "class"}.get(
        type(value).__name__, type(value).__name__
    )


# -- constants ------------------------------------------------------------------------------------------


@_op(b"N")
def _none(m: Machine) -> None:
    m.push(None)


@_op(b"\x88")
def _true(m: Machine) -> None:
    m.push(True)


@_op(b"\x89")
def _false(m: Machine) -> None:
    m.push(False)


@_op(b"I")
def _int(m: Machine) -> None:
    text = m.line()
    # Protocols 0 and 1 write booleans as the integers 00 and 01.
    m.push(text == b"01" if text in (b"00", b"01") else m.decimal(text))


@_op(b"L")
def _long(m: Machine) -> None:
    m.push(m.decimal(m.line().removesuffix(b"L")))


@_op(b"J")
def _binint(m: Machine) -> None:
    m.push(m.number(_I32))


@_op(b"K")
def _binint1(m: Machine) -> None:
    m.push(m.byte())


@_op(b"M")
def _binint2(m: Machine) -> None:
    m.push(m.number(_U16))


@_op(b"\x8a")
def _long1(m: Machine) -> None:
    m.push(m.long(m.byte()))


@_op(b"\x8b")
def _long4(m: Machine) -> None:
    m.push(m.long(m.number(_I32)))


@_op(b"F")
def _float(m: Machine) -> None:
    text = m.line()
    try:
        m.push(float(text[: m.limits.digits]))
    except ValueError:
        raise DamagedFileError(f"not a number in the pickle: {text[:20]!r}") from None


@_op(b"G")
def _binfloat(m: Machine) -> None:
    m.push(m.number(_F64))


# -- text and bytes: Python 2 strings are read as latin-1, as torch does -----------------------------------


@_op(b"S")
def _string(m: Machine) -> None:
    text = m.line()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b'"', b"'"):
        raise DamagedFileError("a string without quotes in the pickle")
    try:
        m.push(codecs.escape_decode(text[1:-1])[0].decode("latin-1"))
    except ValueError as error:
        raise DamagedFileError(f"a broken string in the pickle: {error}") from None


@_op(b"T")
def _binstring(m: Machine) -> None:
    n = m.number(_I32)
    if n < 0:
        raise DamagedFileError("a string of negative length in the pickle")
    m.push(m.take(n).decode("latin-1"))


@_op(b"U")
def _short_binstring(m: Machine) -> None:
    m.push(m.take(m.byte()).decode("latin-1"))


def _text(raw: bytes) -> str:
    # CPython keeps lone surrogates through pickling; the renderers escape them.
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"a string in the pickle is not UTF-8: {error.reason}") from None


@_op(b"V")
def _unicode(m: Machine) -> None:
    try:
        m.push(m.line().decode("raw-unicode-escape"))
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"a broken string in the pickle: {error.reason}") from None


@_op(b"X")
def _binunicode(m: Machine) -> None:
    m.push(_text(m.take(m.number(_U32))))


@_op(b"\x8c")
def _short_binunicode(m: Machine) -> None:
    m.push(_text(m.take(m.byte())))


@_op(b"\x8d")
def _binunicode8(m: Machine) -> None:
    m.push(_text(m.take(m.number(_U64))))


@_op(b"B")
def _binbytes(m: Machine) -> None:
    m.push(m.take(m.number(_U32)))


@_op(b"C")
def _short_binbytes(m: Machine) -> None:
    m.push(m.take(m.byte()))


@_op(b"\x8e")
@_op(b"\x96")  # BYTEARRAY8: never changed here, so bytes will do
def _binbytes8(m: Machine) -> None:
    m.push(m.take(m.number(_U64)))


# -- containers -----------------------------------------------------------------------------------------


@_op(b"(")
def _mark(m: Machine) -> None:
    if len(m.marks) >= m.limits.marks:
        raise LimitError(f"the pickle nests more than {m.limits.marks:,} marks")
    m.fence = len(m.stack)
    m.marks.append(m.fence)


@_op(b"0")
def _pop(m: Machine) -> None:
    # As in CPython, POP just after a MARK takes the mark.
    if m.marks and len(m.stack) == m.fence:
        m.pop_mark()
    else:
        m.pop()


@_op(b"1")
def _pop_mark(m: Machine) -> None:
    m.pop_mark()


@_op(b"2")
def _dup(m: Machine) -> None:
    m.push(m.top())


@_op(b"]")
def _empty_list(m: Machine) -> None:
    m.contain()
    m.push([])


@_op(b"l")
def _list(m: Machine) -> None:
    m.contain()
    m.push(m.pop_mark())


@_op(b"a")
def _append(m: Machine) -> None:
    item = m.pop()
    m.append_to(m.top(), [item])


@_op(b"e")
def _appends(m: Machine) -> None:
    items = m.pop_mark()
    m.append_to(m.top(), items)


@_op(b")")
def _empty_tuple(m: Machine) -> None:
    m.push(())


@_op(b"t")
def _tuple(m: Machine) -> None:
    m.contain()
    m.push(tuple(m.pop_mark()))


@_op(b"\x85")
def _tuple1(m: Machine) -> None:
    m.contain()
    m.push((m.pop(),))


@_op(b"\x86")
def _tuple2(m: Machine) -> None:
    m.contain()
    second = m.pop()
    m.push((m.pop(), second))


@_op(b"\x87")
def _tuple3(m: Machine) -> None:
    m.contain()
    third, second = m.pop(), m.pop()
    m.push((m.pop(), second, third))


@_op(b"}")
def _empty_dict(m: Machine) -> None:
    m.contain(2)
    m.push(Dict())


@_op(b"d")
def _dict(m: Machine) -> None:
    m.contain(2)
    items, made = m.pop_mark(), Dict()
    m.set_in(made, items)
    m.push(made)


@_op(b"s")
def _setitem(m: Machine) -> None:
    value, key = m.pop(), m.pop()
    m.set_in(m.top(), [key, value])


@_op(b"u")
def _setitems(m: Machine) -> None:
    items = m.pop_mark()
    m.set_in(m.top(), items)


@_op(b"\x8f")
def _empty_set(m: Machine) -> None:
    m.contain(2)
    m.push(Set())


@_op(b"\x90")
def _additems(m: Machine) -> None:
    items = m.pop_mark()
    m.append_to(m.top(), items)


@_op(b"\x91")
def _frozenset(m: Machine) -> None:
    m.contain(2)
    made = Set()
    made.members = m.pop_mark()
    m.push(made)


# -- memo -----------------------------------------------------------------------------------------------


@_op(b"p")
def _put(m: Machine) -> None:
    m.remember(m.decimal(m.line()))


@_op(b"q")
def _binput(m: Machine) -> None:
    m.remember(m.byte())


@_op(b"r")
def _long_binput(m: Machine) -> None:
    m.remember(m.number(_U32))


@_op(b"\x94")
def _memoize(m: Machine) -> None:
    m.remember(len(m.memo))


@_op(b"g")
def _get(m: Machine) -> None:
    m.recall(m.decimal(m.line()))


@_op(b"h")
def _binget(m: Machine) -> None:
    m.recall(m.byte())


@_op(b"j")
def _long_binget(m: Machine) -> None:
    m.recall(m.number(_U32))


# -- what a real unpickler would import, call or look up ---------------------------------------------------


@_op(b"c")
def _global(m: Machine) -> None:
    module, name = _text(m.line()), _text(m.line())
    m.push(m.name_global(module, name))


@_op(b"\x93")
def _stack_global(m: Machine) -> None:
    name, module = m.pop(), m.pop()
    m.push(m.name_global(module, name))


def _extension(m: Machine, code: int) -> None:
    m.tricks.append(f"extension code {code} names a class that only the loading machine knows")
    m.push(m.name_global("copyreg", f"<extension {code}>"))


@_op(b"\x82")
def _ext1(m: Machine) -> None:
    _extension(m, m.byte())


@_op(b"\x83")
def _ext2(m: Machine) -> None:
    _extension(m, m.number(_U16))


@_op(b"\x84")
def _ext4(m: Machine) -> None:
    _extension(m, m.number(_I32))


@_op(b"R")
def _reduce(m: Machine) -> None:
    args = m.pop()
    m.call(m.pop(), args, "reduce")


@_op(b"\x81")
def _newobj(m: Machine) -> None:
    args = m.pop()
    m.call(m.pop(), args, "new")


@_op(b"\x92")
def _newobj_ex(m: Machine) -> None:
    kwargs, args = m.pop(), m.pop()
    if not isinstance(kwargs, Dict):
        raise DamagedFileError("the pickle passes keyword arguments that are no dict")
    m.call(m.pop(), args, "new", kwargs)


@_op(b"i")
def _inst(m: Machine) -> None:
    module, name = _text(m.line()), _text(m.line())
    m.call(m.name_global(module, name), tuple(m.pop_mark()), "inst")


@_op(b"o")
def _obj(m: Machine) -> None:
    items = m.pop_mark()
    if not items:
        raise DamagedFileError("the pickle builds an object without a class")
    m.call(items[0], tuple(items[1:]), "inst")


@_op(b"b")
def _build(m: Machine) -> None:
    state, target = m.pop(), m.top()
    if isinstance(target, Object):
        target.state = state
        for name in sorted(_replaced_methods(state)):
            m.tricks.append(f"{name} of an object would be replaced, and called by the next opcode")
    elif isinstance(target, Global):
        # BUILD on a class would set attributes of the class itself.
        m.tricks.append(f"attributes of {target.path} itself would be set")
    elif not isinstance(target, Dict | list | Set | Persistent):
        raise DamagedFileError(f"the pickle sets the state of a {_noun(target)} at byte {m.at - 1:,}")


#: Methods that an unpickler calls on an object while it builds it.
_CALLED_WHILE_LOADING = frozenset({"__setstate__", "append", "extend", "add", "__reduce__", "__reduce_ex__"})


def _replaced_methods(state: object) -> set[str]:
    """Return the names of methods that this state, which becomes the object's `__dict__`, would replace."""
    parts = state if isinstance(state, tuple) else (state,)
    return {k for part in parts if isinstance(part, Dict) for k in part.keys if isinstance(k, str)} & (
        _CALLED_WHILE_LOADING
    )


@_op(b"P")
def _persid(m: Machine) -> None:
    m.load_persistent(_text(m.line()))


@_op(b"Q")
def _binpersid(m: Machine) -> None:
    m.load_persistent(m.pop())


# -- framing --------------------------------------------------------------------------------------------


@_op(b"\x80")
def _proto(m: Machine) -> None:
    version = m.byte()
    if version > 5:
        raise DamagedFileError(f"pickle protocol {version}: expected 0 to 5")
    m.protocol = max(m.protocol, version)


@_op(b"\x95")
def _frame(m: Machine) -> None:
    if m.frame_end:
        raise UnsafeFileError("a pickle frame inside a frame: two readers would see two programs")
    m.frame_end = m.at + 8 + m.number(_U64)


@_op(b"\x97")
@_op(b"\x98")
def _buffer(m: Machine) -> None:
    raise DamagedFileError("the pickle needs out-of-band buffers, which are not in the file")


def read_pickle(data: bytes, start: int = 0, limits: Limits = LIMITS) -> Program:
    """Read the pickle that begins at `start`.

    Raises:
        OutOfDataError: `data` ends before STOP.
        DamagedFileError: an opcode, argument or stack state that no pickler writes.
        LimitError: one of `limits` was passed.
        UnsafeFileError: framing that different unpicklers understand in different ways.
    """
    return Machine(data, start, limits).run()


class Attempt(NamedTuple):
    """A pickle, read as far as it goes: an unpickler does what stands before an error too.

    Attributes:
        program: what was read; its value is None after an error.
        error: why it could not be read to its end; None if it was.
        steps: number of instructions that were executed.
    """

    program: Program
    error: PinspectError | OutOfDataError | None
    steps: int


def attempt(data: bytes, start: int = 0, limits: Limits = LIMITS) -> Attempt:
    """Read the pickle that begins at `start`, up to its end or the first error."""
    machine = Machine(data, start, limits)
    try:
        return Attempt(machine.run(), None, machine.steps)
    except (PinspectError, OutOfDataError) as error:
        return Attempt(machine.so_far(), error, machine.steps)


def read_whole_pickle(data: bytes, start: int = 0) -> Program:
    """Read a pickle of which `data` holds everything, as `read_pickle` does.

    Raises:
        TruncatedFileError: `data` ends before STOP.
    """
    try:
        return read_pickle(data, start)
    except OutOfDataError:
        raise TruncatedFileError(f"the pickle has no end: {len(data) - start:,} bytes and no STOP") from None
