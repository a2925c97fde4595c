"""CRC-32 and DEFLATE are those of the standard library, whichever engine does them."""

from __future__ import annotations

import importlib
import sys
import zlib
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectcli.storage import deflate


@pytest.fixture(params=["zlib-ng", "zlib"])
def engine(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "zlib":
            patch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
        made = importlib.reload(deflate)
        assert made._ENGINE.__name__ == {"zlib": "zlib", "zlib-ng": "zlib_ng.zlib_ng"}[request.param]
        yield made
    importlib.reload(deflate)


@given(pieces=st.lists(st.binary(max_size=300), max_size=5))
def test_checksums(pieces: list[bytes]) -> None:
    crc = 0
    for piece in pieces:
        crc = deflate.crc32(memoryview(piece), crc)
    assert crc == zlib.crc32(b"".join(pieces))


@pytest.mark.parametrize("size", [0, 1, 1000, 1 << 17])
def test_inflating(engine: ModuleType, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    packer = zlib.compressobj(wbits=-15)
    stream = packer.compress(data) + packer.flush()
    inflater = engine.raw_inflater()
    out, pending = b"", stream
    while not inflater.eof:
        out += inflater.decompress(pending, 999)
        pending = inflater.unconsumed_tail
    assert (out, engine.crc32(out)) == (data, zlib.crc32(data))


def test_what_is_no_stream(engine: ModuleType) -> None:
    with pytest.raises(engine.InflateError):
        engine.raw_inflater().decompress(b"\xff" * 40)
