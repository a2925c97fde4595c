"""Small files that ask for much: what is shared is looked at once, what has no end is refused by a named limit."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest
import torch
from support.work import allocated

from inspectcli.errors import LimitError
from inspectcli.formats import open_checkpoint
from inspectcli.formats.torch.script import _NAMES
from inspectcli.pickles import tensors

REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def u(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def number(n: int) -> bytes:
    return b"J" + struct.pack("<i", n)


def storage(elements: int) -> bytes:
    return b"(" + u("storage") + b"ctorch\nFloatStorage\n" + u("0") + u("cpu") + number(elements) + b"tQ"


def tensor(elements: int, offset: int = 0, size: int | None = None, held: bytes = b"") -> bytes:
    n = elements if size is None else size
    shape = number(n) + b"\x85" + b"K\x01\x85"
    return REBUILD + b"(" + (held or storage(elements)) + number(offset) + shape + b"\x89NtR"


def archive(path: Path, body: bytes, elements: int, method: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(path, "w", method) as made:
        made.writestr("a/data.pkl", b"\x80\x02" + body + b".")
        made.writestr("a/data/0", struct.pack("<f", 1) * elements)
    return str(path)


def test_a_web_of_names_of_one_tensor_is_refused(tmp_path: Path) -> None:
    body = b"](" + tensor(4) + b"q\x01" + b"h\x01" * 500 + b"eq\x020](" + b"h\x02" * 500 + b"e"
    with allocated(64 << 20), pytest.raises(LimitError, match="names of 1 tensors: a web of references"):
        open_checkpoint(archive(tmp_path / "x.pt", body, 4))


def test_names_that_are_too_long_are_refused(tmp_path: Path) -> None:
    body = b"}" + u("k" * 50_000) + b"](" + tensor(4) + b"q\x01" + b"h\x01" * 999 + b"es"
    with (
        allocated(64 << 20),
        pytest.raises(LimitError, match=r"names of tensors are too long: one of 50,00\d characters"),
    ):
        open_checkpoint(archive(tmp_path / "x.pt", body, 4))
    body = b"}" + u("k" * 30_000) + b"](" + tensor(4) + b"q\x01" + b"h\x01" * 999 + b"es"
    with allocated(64 << 20), pytest.raises(LimitError, match=r"16,777,216 of all"):
        open_checkpoint(archive(tmp_path / "x.pt", body, 4))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_views_that_ask_for_the_same_bytes_again_and_again_are_not_all_read(method: int, tmp_path: Path) -> None:
    n = 1 << 20
    views = b"".join(tensor(n, i, n - i, b"h\x01") for i in range(200))
    checkpoint = open_checkpoint(archive(tmp_path / "x.pt", storage(n) + b"q\x010](" + views + b"e", n, method))
    read = [t for t in checkpoint if not t.problem]
    assert 16 <= len(read) < 40
    assert sum(t.nbytes for t in read) < (17 * 4 + 64) << 20
    assert "ask for more than 16 times its bytes" in checkpoint.tensors[-1].problem


def test_views_of_a_deflated_storage_are_inflated_from_its_beginning(tmp_path: Path) -> None:
    n = 1 << 20
    views = b"".join(tensor(n, n - 8, 8 - i % 8, b"h\x01") for i in range(3000))
    ends = b"".join(tensor(n, n - 8 - i, 4, b"h\x01") for i in range(300))
    checkpoint = open_checkpoint(
        archive(tmp_path / "x.pt", storage(n) + b"q\x010](" + ends + views + b"e", n, zipfile.ZIP_DEFLATED)
    )
    assert sum(not t.problem for t in checkpoint.tensors[:300]) < 40


def test_honest_ties_and_views_are_all_there(tmp_path: Path) -> None:
    flat = torch.randn(30_000)
    state = {f"w{i}": flat[i * 10 : (i + 1) * 10] for i in range(3000)}
    torch.save({"model": state, "ema": dict(state), "best": dict(state), "flat": flat}, tmp_path / "x.pt")
    checkpoint = open_checkpoint(str(tmp_path / "x.pt"))
    assert len(checkpoint) == 9001
    assert not any(t.problem for t in checkpoint)


def test_lists_and_texts_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    whole = tensors.text_bytes
    monkeypatch.setattr(tensors, "text_bytes", lambda node: encoded.append(1) or whole(node))
    dtype = (
        b"cnumpy\ndtype\n("
        + u("u1")
        + b"\x89\x88tRq\x03(K\x03"
        + u("|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01"
        + number(1000)
        + b"\x85h\x03\x89"
    )
    text = b"c_codecs\nencode\n(h\x02" + u("latin1") + b"tR"
    body = dtype + b"0" + u("a" * 1000) + b"q\x020](" + (array + text + b"tb") * 50 + b"e"
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x02" + body + b".")
    assert len(open_checkpoint(str(path))) == 50
    assert len(encoded) == 1


def test_blank_lines_of_code_are_passed_over() -> None:
    assert _NAMES.findall("\n" * 300_000 + '  __parameters__ = ["w", ]\n__buffers__ = []\n') == [
        ("parameters", '"w", '),
        ("buffers", ""),
    ]
