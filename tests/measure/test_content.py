"""Content hashes: those of hashlib over the values in C order, whatever the order of storage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import inspectcli
from inspectcli.measure.again import again
from inspectcli.measure.content import ContentHash, Digest
from inspectcli.measure.scan import scan
from inspectcli.tensors.model import TensorRef

VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.T,
    "sliced": lambda t: t[::2, 1::3],
    "sliced and transposed": lambda t: t[::2, 1::3].T,
}


def saved(tensor: torch.Tensor, folder: Path) -> TensorRef:
    torch.save({"x": tensor}, folder / "x.pt")
    return inspectcli.open_checkpoint(folder / "x.pt")["x"]


def digest_of(ref: TensorRef, folder: Path) -> str | None:
    (found,) = scan(inspectcli.open_checkpoint(folder / "x.pt"), (Digest,))
    return found.get(Digest)


@pytest.mark.parametrize("view", VIEWS)
def test_a_hash_is_of_the_values_in_c_order(view: str, tmp_path: Path) -> None:
    tensor = VIEWS[view](torch.randn(900, 1000, generator=torch.Generator().manual_seed(0)))
    ref = saved(tensor, tmp_path)
    data = np.ascontiguousarray(tensor.numpy()).tobytes()
    assert digest_of(ref, tmp_path) == hashlib.blake2b(data, digest_size=8).hexdigest()
    assert again(ref, ContentHash) == hashlib.blake2b(data, digest_size=32).hexdigest()


def test_packed_words_have_a_hash_but_no_figures(fixtures: Path) -> None:
    found = {s.ref.name: s for s in scan(inspectcli.open_checkpoint(fixtures / "gptq.safetensors"), (Digest,))}
    words = [s for s in found.values() if s.ref.packed]
    assert words
    for scanned in words:
        (segment,) = scanned.ref.segments
        data = segment.source.read_at(segment.offset, segment.nbytes)
        assert scanned.get(Digest) == hashlib.blake2b(data, digest_size=8).hexdigest()


def test_a_quantized_tensor_with_another_scale_has_another_hash(tmp_path: Path) -> None:
    x = torch.arange(12.0)
    hashes = set()
    for scale in (0.5, 0.25):
        codes = torch.quantize_per_tensor(x * scale, scale, 3, torch.qint8)
        ref = saved(codes, tmp_path)
        hashes.add(digest_of(ref, tmp_path))
    assert len(hashes) == 2


@pytest.mark.parametrize(("distinct", "is_content"), [(1, False), (15, False), (16, True)])
def test_a_pattern_of_a_few_values_is_no_content(distinct: int, is_content: bool, tmp_path: Path) -> None:
    ref = saved(torch.arange(distinct, dtype=torch.float32).repeat(100), tmp_path)
    assert bool(again(ref, ContentHash)) is is_content
