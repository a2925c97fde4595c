"""What is judged beside the program that holds the tensors: blobs, what follows, archives, what is broken."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from typing import Any

import pytest
import torch

from inspectcli.pickles.machine import read_pickle
from inspectcli.pickles.sweep import Budget, begun, judged, swept
from inspectcli.storage.memory import Memory

BAD = b"cos\nsystem\nX\x02\x00\x00\x00id\x85R"
WHAT = "os.system would be called with 'id'"
LOAD = b"ctorch.storage\n_load_from_bytes\n"


def blob(inner: bytes) -> bytes:
    return LOAD + b"B" + struct.pack("<I", len(inner)) + inner + b"\x85R"


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def found(body: bytes) -> list[str]:
    return [h.what for h in judged((read_pickle(b"\x80\x02" + body + b"."),), "data.pkl")]


def of_file(data: bytes) -> list[str]:
    return [h.what for h in swept(Memory("x", data), "x")]


@pytest.mark.parametrize(
    "inner",
    [
        b"\x80\x02" + BAD + b".",
        BAD + b".",
        b"N0" + BAD + b"0N.",
        BAD,
        BAD + b"\xff",
        b"N." + BAD + b".",
        blob(blob(BAD + b".") + b".") + b".",
        LOAD + b"c_codecs\nencode\nX\x14\x00\x00\x00cos\nsystem\n(S'id'\ntRX\x06\x00\x00\x00latin1\x86R\x85R.",
        zipped(("a/data.pkl", BAD + b".")),
        zipped(("a/data.pkl", b"N."), ("a/x", BAD + b"."), method=zipfile.ZIP_DEFLATED),
    ],
)
def test_a_blob_is_judged_like_the_file_around_it(inner: bytes) -> None:
    assert found(blob(inner)) == [WHAT]
    assert found(blob(inner) + b"0N") == [WHAT]


def test_a_blob_is_judged_where_another_function_loads_it() -> None:
    inner = BAD + b"."
    args = b"B" + struct.pack("<I", len(inner)) + inner + b"\x85"
    body = b"ctorch._tensor\n_rebuild_from_type_v2\n(" + LOAD + b"ctorch\nTensor\n" + args + b"}tR"
    assert found(body) == [WHAT]


@pytest.mark.parametrize("made", [b"cbuiltins\nbytes\n]K\x2ea\x85R", b"cmy\nThing\n)R", b"N"])
def test_bytes_that_are_made_while_loading_cannot_be_judged(made: bytes) -> None:
    assert "bytes that are made while loading would be loaded as a file" in found(LOAD + made + b"\x85R")


def test_an_archive_in_a_blob_that_cannot_be_read_is_a_hazard() -> None:
    (what,) = found(blob(zipped(("a/data.pkl", b"N."))[:-3]))
    assert what.startswith("an archive that cannot be judged would be loaded")


def test_files_in_files_have_an_end() -> None:
    inner = BAD + b"."
    for _ in range(12):
        inner = blob(inner) + b"."
    assert found(inner[:-1]) == ["files inside files without end would be loaded"]


def test_honest_storages_in_a_pickle_raise_no_alarm() -> None:
    state: dict[str, Any] = {"w": torch.randn(40, 3), "b": torch.zeros(7, dtype=torch.int64)}
    for protocol in (2, 4):
        assert judged((read_pickle(pickle.dumps(state, protocol)),), "x") == ()


def test_one_blob_of_many_users_is_judged_once() -> None:
    budget = Budget()
    user = b"h\x00\x85R"
    body = b"\x80\x02C\x02N.q\x000](" + (LOAD + user) * 1000 + b"e."
    assert judged((read_pickle(body),), "x", budget) == ()
    assert budget.programs == Budget().programs - 1


# -- what follows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        BAD + b".",
        b"N." * 5 + BAD + b".",
        b"X" + struct.pack("<I", 3_000_000) + b"a" * 3_000_000 + b"0" + BAD + b".",
        b"N." + b"X" + struct.pack("<I", 70_000) + b"a" * 70_000 + b"0N." + BAD,
    ],
)
def test_pickles_that_follow_one_another_are_judged(data: bytes) -> None:
    assert of_file(data) == [WHAT]


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 99, b"N", b"\x93NUMPY", b"T\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 8 + b"x"]
)
def test_what_is_no_pickle_is_left_alone(data: bytes) -> None:
    assert of_file(data) == []


def test_text_is_no_pickle() -> None:
    for text in (b"class Linear(Module):\n  x = 1\n", b"(in this\nfile) R\n", b"cat: 1\nb: 2\n"):
        assert begun(Memory("x", text), "x", Budget()) == ()


def test_what_is_left_when_the_budget_is_spent_is_told() -> None:
    (what,) = (h.what for h in swept(Memory("x", b"N0" * 500 + b"N."), "x", budget=Budget(opcodes=100)))
    assert what.startswith("what was not judged would be loaded")


def test_many_small_pickles_are_read_once() -> None:
    class Counting(Memory):
        def read_at(self, offset: int, n: int) -> bytes:
            reads.append(n)
            return super().read_at(offset, n)

    reads: list[int] = []
    data = b"N." * 200_000
    assert swept(Counting("x", data), "x") == ()
    assert sum(reads) <= 3 * len(data)
