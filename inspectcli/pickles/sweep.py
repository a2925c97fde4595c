"""Every pickle that a loader may come to, judged as far as it goes: what stands before an error is done all the same.

A reader of tensors reads one program; a loader runs those in blobs, those that follow, and those beside it as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from inspectcli.encodings.zip import LOCAL_MAGIC, Member, inflate, read_directory
from inspectcli.errors import LimitError, PinspectError
from inspectcli.pickles.globals import calls_made, canonical, hazards
from inspectcli.pickles.machine import Attempt, Limits, OutOfDataError, Program, attempt
from inspectcli.pickles.nodes import Global
from inspectcli.pickles.tensors import MAX_NESTING, text_bytes
from inspectcli.storage.memory import Memory
from inspectcli.storage.source import Source
from inspectcli.tensors.model import Hazard

_FIRST_WINDOW = 1 << 10
#: Of a program beside the one that is loaded: smaller than that one's.
_LIMITS = Limits(stack=500_000, memo=500_000, containers=1_000_000)


#: Characters that no module's name has: the opcode `c` begins many an English word.
_PROSE = re.compile(r"[\s()\[\]{}\"'=:;,#]")
_SPENT = "the pickles beside the first one are more than is read of them"


@dataclass(slots=True)
class Budget:
    """What may be spent on programs other than the one that holds the tensors, for a whole file.

    Attributes:
        opcodes: instructions that are executed.
        nbytes: bytes that are read.
        programs: pickles, blobs and archives.
        seen: blobs that were judged: many objects may share one.
    """

    opcodes: int = 8_000_000
    nbytes: int = 256 << 20
    programs: int = 2_000_000
    seen: set[bytes] = field(default_factory=set)


class _Bytes(NamedTuple):
    """Bytes that are fetched piece by piece.

    Attributes:
        fetch: (offset, count) -> bytes.
    """

    fetch: Callable[[int, int], bytes]
    size: int
    name: str


def judged(programs: tuple[Program, ...], where: str, budget: Budget | None = None) -> tuple[Hazard, ...]:
    """Return what would act in these programs, and in the files that are kept as bytes inside them, at any depth."""
    budget = budget or Budget()
    found = [hazard for program in programs for hazard in hazards(program, where)]
    found.extend(_in_blobs(programs, where, budget, 1))
    return _once(found)


def swept(source: Source, where: str, start: int = 0, budget: Budget | None = None) -> tuple[Hazard, ...]:
    """Return what would act in the pickles that follow one another from byte `start`, if pickles they are."""
    data = _Bytes(lambda at, n: source.read_at(start + at, n), source.size - start, where)
    return _once(_sequence(data, budget or Budget(), 1, loaded=True))


def begun(source: Source, where: str, budget: Budget) -> tuple[Hazard, ...]:
    """Return what would act in the bytes of a source if they were taken for pickles: mostly nothing, and soon."""
    return _once(_sequence(_Bytes(source.read_at, source.size, where), budget, 1, loaded=False))


def member_swept(source: Source, member: Member, budget: Budget, loaded: bool) -> tuple[Hazard, ...]:
    """Return what would act in a member of a zip, if it is a pickle.

    Args:
        loaded: whether a loader would load it; else it is told only if something in it would act.
    """
    return _once(_sequence(_member(source, member), budget, 1, loaded))


def _member(source: Source, member: Member) -> _Bytes:
    def fetch(at: int, n: int) -> bytes:
        if member.method == 0:
            return source.read_at(member.offset + at, n)
        return b"".join(inflate(source, member.offset, member.stored, at + n, partial=True))[at:]

    return _Bytes(fetch, member.size, member.name)


def _once(found: list[Hazard]) -> tuple[Hazard, ...]:
    return tuple({hazard.what: hazard for hazard in reversed(found)}.values())[::-1]


# -- one pickle after another -----------------------------------------------------------------------------


def _sequence(data: _Bytes, budget: Budget, depth: int, loaded: bool) -> list[Hazard]:
    found: list[Hazard] = []
    for tried in _attempts(data, budget):
        program = tried.program
        if not loaded and program.globals and _PROSE.search(program.globals[0].path):
            break  # text: no module is called so, and nothing after it is done
        where = data.name if not program.start else f"{data.name}, the pickle at byte {program.start:,}"
        found.extend(hazards(program, where))
        found.extend(_in_blobs((program,), where, budget, depth))
        if isinstance(tried.error, LimitError) and (loaded or program.globals):
            found.append(Hazard(f"what was not judged would be loaded: {tried.error.message}", where))
    return found


def _attempts(data: _Bytes, budget: Budget) -> Iterator[Attempt]:
    """Yield the pickles that follow one another, the last one up to its error; positions count from the first byte."""
    base, window, piece = 0, _FIRST_WINDOW, b""
    at = 0
    while at < data.size:
        if at - base >= len(piece) or not piece:
            base, piece = at, _fetched(data, at, window, budget)
        budget.programs -= 1
        tried = attempt(piece, at - base, replace(_LIMITS, opcodes=max(budget.opcodes, 1)))
        budget.opcodes -= tried.steps + 1
        if isinstance(tried.error, OutOfDataError) and base + len(piece) < data.size:
            needed = base + tried.error.needed - at
            if at + needed > data.size:
                yield _moved(tried, base)
                return
            window = max(4 * window, needed)
            base, piece = at, _fetched(data, at, window, budget)
            if len(piece) < needed:
                yield _moved(tried._replace(error=LimitError(_SPENT)), base)
                return
            continue
        if tried.error is None and (budget.opcodes <= 0 or budget.programs <= 0):
            tried = tried._replace(error=LimitError(_SPENT))
        yield _moved(tried, base)
        if tried.error is not None:
            return
        at = base + tried.program.end


def _fetched(data: _Bytes, at: int, n: int, budget: Budget) -> bytes:
    n = max(min(n, data.size - at, budget.nbytes), 0)
    budget.nbytes -= n
    try:
        return data.fetch(at, n)
    except PinspectError:
        return b""


def _moved(tried: Attempt, base: int) -> Attempt:
    program = tried.program
    return tried._replace(program=program._replace(start=base + program.start, end=base + program.end))


# -- files inside pickles ---------------------------------------------------------------------------------


def _in_blobs(programs: tuple[Program, ...], where: str, budget: Budget, depth: int) -> list[Hazard]:
    """Judge the files in `torch.storage._load_from_bytes(blob)`, which is `torch.load` of them."""
    found: list[Hazard] = []
    for program in programs:
        for blob in _blobs(program):
            if blob is None:
                found.append(Hazard("bytes that are made while loading would be loaded as a file", where))
            elif blob not in budget.seen:
                budget.seen.add(blob)
                found.extend(_in_blob(blob, f"a file inside {where}", budget, depth))
    return found


def _blobs(program: Program) -> Iterator[bytes | None]:
    for call in program.calls:
        for made in calls_made(call):
            if isinstance(made.func, Global) and canonical(made.func) == ("torch.storage", "_load_from_bytes"):
                yield text_bytes(made.args[0]) if len(made.args) == 1 else None


def _in_blob(blob: bytes, where: str, budget: Budget, depth: int) -> list[Hazard]:
    if depth > MAX_NESTING:
        return [Hazard("files inside files without end would be loaded", where)]
    source = Memory(where, blob)
    if not blob.startswith(LOCAL_MAGIC):
        return _sequence(_Bytes(source.read_at, source.size, where), budget, depth + 1, loaded=True)
    try:
        members = read_directory(source).members.values()
    except PinspectError as error:
        return [Hazard(f"an archive that cannot be judged would be loaded: {error.message}", where)]
    found: list[Hazard] = []
    for member in members:
        found.extend(_sequence(_member(source, member)._replace(name=where), budget, depth + 1, loaded=False))
    return found
