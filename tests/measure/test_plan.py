"""Tasks: every byte in one of them, small tensors together, large ones in parts that merge."""

from __future__ import annotations

import zlib
from functools import partial
from random import Random
from typing import Any

import numpy as np
import pytest
from support.encoded import FLOATS, PACKED, encode, normal, pack
from support.negatives import Negatives

from inspectcli.encodings.zip import DEFLATE
from inspectcli.formats.hdf5.process import HDF5
from inspectcli.measure import scan as scanning
from inspectcli.measure.figures import Figures, Sample
from inspectcli.measure.plan import FIGURES, plan, wanted
from inspectcli.measure.scan import ScannedTensor, scan
from inspectcli.measure.task import Task, run_task
from inspectcli.storage.memory import Memory
from inspectcli.tensors.codecs import Checksum, Segment
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.model import Affine, Checkpoint, TensorRef

MIB = 1 << 20
FILE = Memory("file", bytes(4 * MIB))


def ref(name: str, nbytes: int, offset: int = 0, crc: int = 0, **more: Any) -> TensorRef:
    segment = Segment(FILE, offset, nbytes, more.pop("codec", Segment(FILE, 0, 0).codec), crc=crc)
    return TensorRef(name, DTYPES["f32"], more.pop("shape", (nbytes // 4,)), segments=(segment,), **more)


def tasks(*refs: TensorRef, checksums: tuple[Checksum, ...] = (), **more: Any) -> list[Task]:
    return list(plan(enumerate(refs), checksums, FIGURES, **more))


def names(task: Task) -> str:
    return " ".join(item.ref.name for item in task.items)


def test_small_tensors_that_follow_each_other_are_one_task() -> None:
    made = tasks(ref("a", 4), ref("b", MIB // 2), ref("c", MIB // 4), ref("d", MIB), ref("e", 4), ref("f", 3 * MIB))
    assert [(names(task), task.nbytes) for task in made] == [
        ("a b c", 3 * MIB // 4 + 4),
        ("d", MIB),
        ("e", 4),
        ("f", 3 * MIB),
    ]


def test_what_has_no_values_is_in_no_task() -> None:
    meta = TensorRef("meta", DTYPES["f32"], (3,), note="meta: no values")
    assert [names(task) for task in tasks(meta, ref("packed", 40, packed=True), ref("a", 4))] == ["a"]


def test_hdf5_is_decoded_by_one_task() -> None:
    decoded = [ref(name, MIB, codec=HDF5) for name in "acd"]
    assert [names(task) for task in tasks(decoded[0], ref("b", MIB), *decoded[1:])] == ["b", "a c d"]


def test_a_checksum_is_compared_where_its_bytes_are_read_or_by_itself() -> None:
    checks = tuple(Checksum(f"m{i}", FILE, i * 400, 400, 7) for i in range(4))
    whole, view = ref("whole", 400, 400, crc=7), ref("view", 400, 800, crc=7, shape=(5, 5), strides=(20, 1))
    made = tasks(whole, view, ref("part", 200, 1200), checksums=checks)
    assert [item.checks for task in made for item in task.items] == [(1,), (2,), ()]
    assert [position for task in made for position, _ in task.checks] == [0, 2, 3]
    assert [task.nbytes for task in made if task.checks] == [1200]


def test_a_large_tensor_is_read_in_parts() -> None:
    made = tasks(ref("a", 4000), ref("large", 9998 * 4), ref("b", 4000), most=16_000)
    assert [(names(task), task.nbytes, task.items[0].start) for task in made] == [
        ("large", 16_000, 0),
        ("large", 16_000, 4000),
        ("large", 7992, 8000),
        ("a b", 8000, 0),
    ]


class Unmergeable(Negatives):
    can_be_merged = False


WHOLE = {
    "it has a checksum": ref("w", 40_000, crc=7),
    "it is a view": ref("w", 40_000, shape=(100, 100), strides=(1, 100)),
    "it is deflated": ref("w", 40_000, codec=DEFLATE),
    "it is quantized": ref("w", 40_000, affine=Affine(0.5, 3)),
}


@pytest.mark.parametrize("why", WHOLE)
def test_what_cannot_be_cut_is_read_in_one_task(why: str) -> None:
    assert [task.nbytes for task in tasks(WHOLE[why], most=16_000)] == [40_000]


def test_a_measurement_may_forbid_that_a_tensor_is_cut() -> None:
    made = plan([(0, ref("w", 40_000))], (), (Figures, Unmergeable), most=16_000)
    assert [task.nbytes for task in made] == [40_000]


def encoded(name: str, n: int) -> bytes:
    if name in PACKED:
        bits = DTYPES[name].bits // DTYPES[name].per_element
        return pack(np.random.default_rng(1).integers(0, 1 << bits, n).astype(np.uint8), bits).tobytes()
    return encode(normal(n), name)[0].tobytes()


def scanned(checkpoint: Checkpoint, most: int, monkeypatch: pytest.MonkeyPatch) -> ScannedTensor:
    monkeypatch.setattr(scanning, "plan", partial(plan, most=most))
    (found,) = scan(checkpoint, (*FIGURES, Negatives))
    return found


@pytest.mark.parametrize("name", [*FLOATS, *PACKED])
@pytest.mark.parametrize("segments", [1, 3])
def test_parts_merge_into_the_whole(name: str, segments: int, monkeypatch: pytest.MonkeyPatch) -> None:
    n, dtype = 40_004, DTYPES[name]
    sources = [Memory(str(i), encoded(name, n)) for i in range(segments)]
    tensor = TensorRef(
        "x",
        dtype,
        (segments * n // dtype.per_element,),
        segments=tuple(Segment(source, 0, source.size) for source in sources),
    )
    checkpoint = Checkpoint("test", "test", 0, (tensor,))
    whole, parts = (scanned(checkpoint, most, monkeypatch) for most in (1 << 30, 10_007))
    assert whole.stats is not None
    assert parts.stats is not None
    exact = "count nan posinf neginf zeros subnormals low high first_nonfinite".split()
    assert {k: getattr(parts.stats, k) for k in exact} == {k: getattr(whole.stats, k) for k in exact}
    assert parts.stats.mean == pytest.approx(whole.stats.mean, rel=1e-9)
    assert parts.stats.std == pytest.approx(whole.stats.std, rel=1e-9)
    assert parts.sampled == whole.sampled
    assert parts.get(Negatives) == whole.get(Negatives)


def test_the_order_of_the_parts_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    x = (1000 + np.random.default_rng(2).normal(size=100_000)).astype("<f4")
    tensor = TensorRef("x", DTYPES["f32"], x.shape, segments=(Segment(Memory("x", x.tobytes()), 0, x.nbytes),))
    checkpoint = Checkpoint("test", "test", 0, (tensor,))

    def run_in_any_order(made: list[Task], *_: object) -> list[object]:
        Random(len(seen)).shuffle(made)
        return [run_task(task) for task in made]

    seen: list[str] = []
    monkeypatch.setattr(scanning, "_run", run_in_any_order)
    for _ in range(5):
        seen.append(repr(scanned(checkpoint, 30_000, monkeypatch).stats))
    assert len(set(seen)) == 1


def test_a_part_that_cannot_be_read_is_the_problem_of_the_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = TensorRef("x", DTYPES["f32"], (1000,), segments=(Segment(Memory("cut", bytes(3990)), 0, 4000),))
    found = scanned(Checkpoint("test", "test", 0, (tensor,)), 1000, monkeypatch)
    assert found.problem.startswith("1,000 bytes wanted at byte 3,000")
    assert found.stats is None


def test_bytes_that_are_read_for_nothing_else_are_compared_too() -> None:
    good, bad = zlib.crc32(bytes(1000)), 7
    task = Task(2000, checks=((4, Checksum("a", FILE, 0, 1000, good)), (9, Checksum("b", FILE, 50, 1000, bad))))
    assert run_task(task).bad == (9,)


class Asking:
    def __init__(self, *needs: Any) -> None:
        self.needs = needs


def test_the_plan_holds_what_every_report_shows_and_what_rules_ask_for_once() -> None:
    assert wanted([]) == (Figures, Sample)
    assert wanted([Asking(Negatives), Asking(), Asking(Figures, Negatives)]) == (Figures, Sample, Negatives)
