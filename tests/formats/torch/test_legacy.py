"""Torch files without a zip around them: the stream of torch < 1.6, plain pickles, the tar of torch < 0.1.10."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import sys
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.places import FIXTURES
from support.work import processor_seconds
from torch import nn

import inspectcli
from inspectcli.errors import DamagedFileError, PinspectError, TruncatedFileError, UnsupportedFormatError
from inspectcli.tensors.model import Checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")


def saved(value: object, folder: Path, protocol: int = 2) -> Path:
    path = folder / "old.pt"
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    return path


def written(data: bytes, folder: Path) -> Path:
    path = folder / "x.pt"
    path.write_bytes(data)
    return path


def assert_same(checkpoint: Checkpoint, expected: dict[str, torch.Tensor]) -> None:
    assert sorted(t.name for t in checkpoint) == sorted(expected)
    for name, tensor in expected.items():
        assert checkpoint[name].shape == tuple(tensor.shape), name
        np.testing.assert_array_equal(checkpoint[name].numpy(), tensor.detach().numpy(), err_msg=name)


BASE = torch.arange(60.0).reshape(3, 4, 5)
STATES: dict[str, dict[str, torch.Tensor]] = {
    "linear": nn.Linear(3, 2).state_dict(),
    "batch norm": nn.BatchNorm1d(3).state_dict(),
    "views": {"base": BASE, "t": BASE.transpose(0, 2), "row": BASE[1], "tail": BASE.view(-1)[7:], "again": BASE},
    "types": {
        d: torch.arange(5).to(getattr(torch, d)) for d in
        ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64", "complex128")
    },
    "odd": {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4), "expanded": torch.ones(1).expand(3, 2)},
    "ordered": OrderedDict(b=torch.ones(2), a=torch.zeros(3)),
    "unaligned": {"a": torch.ones(3, dtype=torch.uint8), "b": torch.arange(7.0), "c": torch.tensor([True])},
    "parameter": {"p": nn.Parameter(torch.arange(3.0)), "g": torch.ones(2, requires_grad=True)},
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", STATES)
def test_a_stream_reads_as_torch_reads_it(name: str, protocol: int, tmp_path: Path) -> None:
    path = saved(STATES[name], tmp_path, protocol)
    checkpoint = inspectcli.open_checkpoint(path)
    assert checkpoint.format == "torch-legacy"
    assert checkpoint.metadata["pickle_protocol"] == protocol
    assert (checkpoint.hazards, checkpoint.notes) == ((), ())
    assert [t.name for t in checkpoint] == list(torch.load(path, weights_only=False))
    assert_same(checkpoint, torch.load(path, weights_only=False))


def test_a_bfloat16_stream_reads(tmp_path: Path) -> None:
    value = torch.randn(3, 2).bfloat16()
    got = inspectcli.open_checkpoint(saved({"w": value}, tmp_path))["w"].numpy()
    np.testing.assert_array_equal(got, value.float().numpy())


def test_quantized_and_sparse_tensors_read_from_a_stream(tmp_path: Path) -> None:
    scales, zeros = torch.tensor([0.5, 0.25], dtype=torch.float64), torch.tensor([1, 2])
    value = {
        "q": torch.quantize_per_channel(torch.randn(2, 3), scales, zeros, 0, torch.qint8),
        "s": torch.eye(3).to_sparse(),
    }
    path = saved(value, tmp_path)
    checkpoint, loaded = inspectcli.open_checkpoint(path), torch.load(path, weights_only=False)
    np.testing.assert_allclose(checkpoint["q"].numpy(), loaded["q"].dequantize().numpy(), rtol=1e-6)
    np.testing.assert_array_equal(checkpoint["s"].numpy(), loaded["s"].values().numpy())


def test_a_whole_module_reads_from_a_stream(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.LSTM(3, 2))
    path = saved(model, tmp_path)
    module = torch.load(path, weights_only=False)
    assert_same(inspectcli.open_checkpoint(path), dict(module.named_parameters()) | dict(module.named_buffers()))


def test_optimizer_state_reads_from_a_stream(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    path = saved({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 4}, tmp_path)
    checkpoint = inspectcli.open_checkpoint(path)
    for i, moments in torch.load(path, weights_only=False)["optimizer"]["state"].items():
        for key, tensor in moments.items():
            np.testing.assert_array_equal(checkpoint[f"optimizer.state.{i}.{key}"].numpy(), tensor.numpy())
    assert (checkpoint.training.epoch, checkpoint.training.optimizer) == (4, "Adam")


# -- streams put together by hand -----------------------------------------------------------------------


def stream(
    body: object,
    storages: dict[str, bytes],
    pids: dict[int, object],
    keys: object = None,
    system: object = None,
    protocol: object = 1001,
    counts: dict[str, int] | None = None,
) -> bytes:
    """As torch writes it; `pids` maps the id of a stand-in object to its persistent id."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return pids.get(id(obj))

    file = io.BytesIO()
    pickle.dump(0x1950A86A20F9469CFC6C, file, 2)
    pickle.dump(protocol, file, 2)
    pickle.dump({"protocol_version": 1001, "little_endian": True} if system is None else system, file, 2)
    Pickler(file, 2).dump(body)
    pickle.dump(sorted(storages) if keys is None else keys, file, 2)
    for key, data in storages.items():
        file.write(struct.pack("<q", (counts or {}).get(key, len(data) // 4)) + data)
    return file.getvalue()


class Rebuilt:
    def __init__(self, *args: object) -> None:
        self.args = args

    def __reduce__(self) -> tuple[object, ...]:
        return torch._utils._rebuild_tensor_v2, (*self.args, False, OrderedDict())


class Stand:
    """Stands for a storage."""


FLOATS = np.arange(10, dtype=np.float32).tobytes()


def one(pid: object, size: int = 10, **more: Any) -> bytes:
    stand = Stand()
    return stream({"w": Rebuilt(stand, 0, (size,), (1,))}, {"7": FLOATS}, {id(stand): pid}, **more)


GOOD = ("storage", torch.FloatStorage, "7", "cpu", 10, None)


def test_a_stream_by_hand_reads_as_torch_reads_it(tmp_path: Path) -> None:
    path = written(one(GOOD), tmp_path)
    assert_same(inspectcli.open_checkpoint(path), torch.load(path, weights_only=False))


def test_a_view_of_a_storage_reads_as_torch_reads_it(tmp_path: Path) -> None:
    root, part = Stand(), Stand()
    body = {"all": Rebuilt(root, 0, (10,), (1,)), "part": Rebuilt(part, 1, (2,), (2,))}
    pids: dict[int, object] = {
        id(root): GOOD,
        id(part): ("storage", torch.FloatStorage, "7", "cpu", 10, ("view", 4, 5)),
    }
    path = written(stream(body, {"7": FLOATS}, pids), tmp_path)
    loaded = torch.load(path, weights_only=False)
    assert loaded["part"].tolist() == [5, 7]
    assert_same(inspectcli.open_checkpoint(path), loaded)


def test_a_tensor_beyond_its_view_is_refused(tmp_path: Path) -> None:
    path = written(one(("storage", torch.FloatStorage, "7", "cpu", 10, ("view", 0, 3)), size=8), tmp_path)
    with pytest.raises(RuntimeError):
        torch.load(path, weights_only=False)
    with pytest.raises(DamagedFileError):
        inspectcli.open_checkpoint(path)


DEEP: list[object] = []
for _ in range(3_000):
    DEEP = [DEEP]


def deep(data: bytes) -> bytes:
    """The pickle of a number, replaced by one of a list nested 3,000 deep."""
    return data[:2] + b"]" * 3_000 + b"a" * 2_999 + b"."


def system_with_colliding_keys() -> bytes:
    step = sys.hash_info.modulus
    return b"\x80\x02}(" + b"".join(pickle.dumps(i * step, 2)[2:-1] + b"N" for i in range(60_000)) + b"u."


def with_pickle(index: int, replacement: bytes) -> bytes:
    """The good stream with one of its five pickles replaced."""
    data, parts, at = one(GOOD), [], 0
    for _ in range(5):
        file = io.BytesIO(data[at:])
        unpickler = pickle.Unpickler(file)
        unpickler.persistent_load = lambda pid: torch.FloatStorage(10)  # type: ignore[method-assign]
        unpickler.load()
        parts.append(data[at : at + file.tell()])
        at += file.tell()
    parts[index] = replacement
    return b"".join(parts) + data[at:]


STREAM_LIES: dict[str, bytes] = {
    "other protocol": one(GOOD, protocol=1002),
    "protocol that is text": one(GOOD, protocol="1001"),
    "protocol that is deep": with_pickle(1, deep(b"\x80\x02")),
    "big-endian": one(GOOD, system={"little_endian": False}),
    "keys that are no list": one(GOOD, keys=7),
    "keys that are deep": with_pickle(4, b"\x80\x02]" + b"]" * 3_000 + b"a" * 3_000 + b"."),
    "a key that nobody uses": one(GOOD, keys=["7", "8"]),
    "no key": one(GOOD, keys=[]),
    "another count": one(GOOD, counts={"7": 11}),
    "a negative count": one(GOOD, counts={"7": -1}),
    "a size beyond the file": one(("storage", torch.FloatStorage, "7", "cpu", 1 << 40, None)),
    "a tensor beyond its storage": one(GOOD, size=11),
    "a view that is a number": one(("storage", torch.FloatStorage, "7", "cpu", 10, 5)),
    "a view of two fields": one(("storage", torch.FloatStorage, "7", "cpu", 10, ("v", 1))),
    "a view beyond the end": one(("storage", torch.FloatStorage, "7", "cpu", 10, ("v", 8, 3))),
    "an unknown storage class": one(("storage", nn.Linear, "7", "cpu", 10, None)),
    "too few fields": one(("storage", torch.FloatStorage, "7")),
    "an escaping key": one(("storage", torch.FloatStorage, "../x", "cpu", 10, None)),
}


def outcome(path: Path) -> str:
    try:
        checkpoint = inspectcli.open_checkpoint(path)
        for ref in checkpoint:
            if ref.problem:
                return "problem"
            ref.numpy()
    except PinspectError as error:
        str(error)
        return "error"
    return "values"


@pytest.mark.parametrize("name", STREAM_LIES)
def test_a_lying_stream_is_an_error_or_a_problem(name: str, tmp_path: Path) -> None:
    assert outcome(written(STREAM_LIES[name], tmp_path)) in ("error", "problem")


def test_keys_that_collide_cost_no_more_than_others(tmp_path: Path) -> None:
    path = written(with_pickle(2, system_with_colliding_keys()), tmp_path)
    with processor_seconds(5):
        outcome(path)


def test_bytes_behind_the_last_storage_are_a_note(tmp_path: Path) -> None:
    checkpoint = inspectcli.open_checkpoint(written(one(GOOD) + bytes(9), tmp_path))
    assert checkpoint.notes == ("9 bytes follow the last storage and were not looked at",)
    assert checkpoint.hazards == ()


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("id",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("before", [b"", None])
def test_a_hostile_pickle_behind_the_file_is_a_hazard(before: bytes | None, protocol: int, tmp_path: Path) -> None:
    first = one(GOOD) if before is None else pickle.dumps({"w": torch.ones(2)})
    checkpoint = inspectcli.open_checkpoint(written(first + pickle.dumps(Hostile(), protocol), tmp_path))
    assert [h.what for h in checkpoint.hazards] == [f"{os.name}.system would be called with 'id'"]


@pytest.mark.parametrize("index", [0, 1, 2, 3, 4])
def test_a_hostile_pickle_at_any_place_of_the_stream_is_seen(index: int, tmp_path: Path) -> None:
    path = written(with_pickle(index, b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00idtR."), tmp_path)
    try:
        hazards = inspectcli.open_checkpoint(path).hazards
    except PinspectError:
        return
    assert [h.what for h in hazards] == ["os.system would be called with 'id'"]


# -- cut and changed streams ----------------------------------------------------------------------------


def test_a_stream_cut_at_any_byte_is_an_error_or_has_problems(tmp_path: Path) -> None:
    path = saved({"a": torch.arange(6.0), "b": torch.arange(20), "v": torch.arange(9.0)[2:5]}, tmp_path)
    data, values = path.read_bytes(), torch.load(path, weights_only=False)
    seen = set()
    for end in range(1, len(data)):
        path.write_bytes(data[:end])
        try:
            checkpoint = inspectcli.open_checkpoint(path)
        except PinspectError as error:
            seen.add(type(error))
            continue
        assert any("end of the file is missing" in note for note in checkpoint.notes), end
        assert any(ref.problem for ref in checkpoint), end
        for ref in checkpoint:
            if not ref.problem:
                np.testing.assert_array_equal(ref.numpy(), values[ref.name].numpy())
    assert TruncatedFileError in seen


def test_a_cut_stream_names_the_missing_bytes_of_each_tensor(tmp_path: Path) -> None:
    data = one(GOOD)
    checkpoint = inspectcli.open_checkpoint(written(data[:-12], tmp_path))
    assert checkpoint["w"].problem == "cut: 12 bytes of it are missing"
    assert checkpoint.notes == ("the end of the file is missing: 12 bytes",)


def test_a_stream_whose_object_is_cut_is_truncated(tmp_path: Path) -> None:
    data = one(GOOD)
    with pytest.raises(TruncatedFileError, match=r"has no end|where the file ends"):
        inspectcli.open_checkpoint(written(data[:150], tmp_path))


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_stream_raises_our_errors_only(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    value = {
        "a": torch.arange(6.0),
        "q": torch.quantize_per_tensor(torch.ones(3), 0.1, 1, torch.qint8),
        "n": np.ones(2),
    }
    original = saved(value, tmp_path).read_bytes()
    seen: dict[str, int] = {}
    for _ in range(300):
        data = bytearray(original)
        for _ in range(dice.randint(1, 3)):
            data[dice.randrange(len(data))] = dice.choice([dice.randrange(256), *b"K(tRN\x85}s]\x00\xff"])
        result = outcome(written(bytes(data), tmp_path))
        seen[result] = seen.get(result, 0) + 1
    assert seen["error"]
    assert seen["values"]


# -- plain pickles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickled_state_dict_reads_as_pickle_reads_it(protocol: int, tmp_path: Path) -> None:
    path = written(pickle.dumps({"w": torch.arange(3.0), "n": np.arange(4)}, protocol), tmp_path)
    checkpoint = inspectcli.open_checkpoint(path)
    assert checkpoint.format == "pickle"
    np.testing.assert_array_equal(checkpoint["w"].numpy(), np.arange(3.0, dtype=np.float32))
    np.testing.assert_array_equal(checkpoint["n"].numpy(), np.arange(4))


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_without_tensors_is_not_a_checkpoint(protocol: int, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormatError):
        inspectcli.open_checkpoint(written(pickle.dumps({"lr": 0.1, "names": ["a"] * 30}, protocol), tmp_path))


def test_a_hostile_pickle_without_tensors_is_a_hazard(tmp_path: Path) -> None:
    checkpoint = inspectcli.open_checkpoint(written(pickle.dumps(Hostile()), tmp_path))
    assert len(checkpoint.hazards) == 1
    assert len(checkpoint) == 0


# -- the tar --------------------------------------------------------------------------------------------

TAR = (FIXTURES / "mlp_tar.pt").read_bytes()


def test_the_tar_reads_as_torch_reads_it() -> None:
    path = FIXTURES / "mlp_tar.pt"
    checkpoint = inspectcli.open_checkpoint(path)
    assert checkpoint.format == "torch-tar"
    assert (checkpoint.hazards, checkpoint.foreign, checkpoint.notes) == ((), (), ())
    assert_same(checkpoint, torch.load(path, weights_only=False))


def tar_with(**changes: bytes | None) -> bytes:
    """The fixture with members replaced, or left out where None."""
    file = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(TAR)) as old, tarfile.open(fileobj=file, mode="w") as new:
        members = {m.name: old.extractfile(m).read() for m in old.getmembers() if m.isfile()}  # type: ignore[union-attr]
        for name, data in {**members, **changes}.items():
            if data is not None:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                new.addfile(info, io.BytesIO(data))
    return file.getvalue()


def storages_with(views: bytes, count: bytes = b"K\x01.", triple: bytes | None = None, numel: int = 2) -> bytes:
    """Storage "s" of `numel` floats, and then the list of views."""
    head = triple or b"(X\x01\x00\x00\x00sX\x03\x00\x00\x00cpuctorch\nFloatStorage\nt."
    return count + head + struct.pack("<q", numel) + bytes(8) + views


def tensors_with(ndim: int, *numbers: int, key: bytes = b"K\x01") -> bytes:
    head = b"(" + key + b"X\x01\x00\x00\x00sctorch\nFloatTensor\nt."
    return b"K\x01." + head + struct.pack("<i4x", ndim) + struct.pack(f"<{len(numbers)}q", *numbers)


PICKLE = b"}X\x01\x00\x00\x00wP1\ns."
DEEP_VALUE = b"]" * 3_000 + b"a" * 2_999


def small_tar(storages: bytes, tensors: bytes, body: bytes = PICKLE) -> bytes:
    return tar_with(storages=storages, tensors=tensors, pickle=body)


def test_a_small_tar_by_hand_reads(tmp_path: Path) -> None:
    path = written(small_tar(storages_with(b"]."), tensors_with(1, 2, 1, 0)), tmp_path)
    np.testing.assert_array_equal(inspectcli.open_checkpoint(path)["w"].numpy(), np.zeros(2))


TAR_LIES: dict[str, bytes] = {
    "no tensors": tar_with(tensors=None),
    "empty storages": tar_with(storages=b""),
    "count that is text": small_tar(storages_with(b"].", count=b"X\x01\x00\x00\x00a."), tensors_with(1, 2, 1, 0)),
    "count that is deep": small_tar(storages_with(b"].", count=DEEP_VALUE + b"."), tensors_with(1, 2, 1, 0)),
    "count that is negative": small_tar(storages_with(b"].", count=b"J\xff\xff\xff\xff."), tensors_with(1, 2, 1, 0)),
    "storage that is no triple": small_tar(storages_with(b"].", triple=b"K\x01."), tensors_with(1, 2, 1, 0)),
    "storage of unknown class": small_tar(
        storages_with(b"].", triple=b"(X\x01\x00\x00\x00sNcos\nsystem\nt."), tensors_with(1, 2, 1, 0)
    ),
    "storage with a deep key": small_tar(
        storages_with(b"].", triple=b"(" + DEEP_VALUE + b"Nctorch\nFloatStorage\nt."), tensors_with(1, 2, 1, 0)
    ),
    "storage beyond its member": small_tar(storages_with(b"].", numel=1 << 40), tensors_with(1, 2, 1, 0)),
    "storage of negative size": small_tar(storages_with(b"].", numel=-1), tensors_with(1, 2, 1, 0)),
    "views that are numbers": small_tar(storages_with(b"(K\x01K\x02l."), tensors_with(1, 2, 1, 0)),
    "views of three fields": small_tar(storages_with(b"(K\x01K\x02K\x03\x87l."), tensors_with(1, 2, 1, 0)),
    "view of nothing": small_tar(storages_with(b"((K\x01K\x02K\x03K\x04tl."), tensors_with(1, 2, 1, 0)),
    "many dimensions": small_tar(storages_with(b"]."), tensors_with(65, *[1] * 131)),
    "negative dimensions": small_tar(storages_with(b"]."), tensors_with(-1)),
    "tensor beyond its storage": small_tar(storages_with(b"]."), tensors_with(1, 3, 1, 0)),
    "tensor of negative size": small_tar(storages_with(b"]."), tensors_with(1, -2, 1, 0)),
    "tensor cut": small_tar(storages_with(b"]."), tensors_with(4, 2)),
    "tensor with a deep key": small_tar(storages_with(b"]."), tensors_with(1, 2, 1, 0, key=DEEP_VALUE)),
}  # fmt: skip


@pytest.mark.parametrize("name", TAR_LIES)
def test_a_lying_tar_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PinspectError):
        inspectcli.open_checkpoint(written(TAR_LIES[name], tmp_path))


@pytest.mark.parametrize("body", [b"}X\x01\x00\x00\x00w" + DEEP_VALUE + b"Qs.", b"}X\x01\x00\x00\x00wP9\ns."])
def test_a_persistent_id_that_no_tensor_has_is_our_error_or_not_listed(body: bytes, tmp_path: Path) -> None:
    path = written(small_tar(storages_with(b"]."), tensors_with(1, 2, 1, 0), body), tmp_path)
    try:
        listed = len(inspectcli.open_checkpoint(path))
    except PinspectError:
        return
    assert listed == 0


@pytest.mark.parametrize("member", ["sys_info", "storages", "tensors", "pickle"])
def test_a_hostile_pickle_in_any_member_is_a_hazard(member: str, tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(TAR)) as tar:
        honest = tar.extractfile(member).read()  # type: ignore[union-attr]
    assert honest[:2] == b"\x80\x02"
    call = b"cos\nsystem\n(X\x02\x00\x00\x00idtR0"
    path = written(tar_with(**{member: honest[:2] + call + honest[2:]}), tmp_path)
    assert [h.what for h in inspectcli.open_checkpoint(path).hazards] == ["os.system would be called with 'id'"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    file = io.BytesIO(TAR)
    with tarfile.open(fileobj=file, mode="a") as tar:
        info = tarfile.TarInfo("evil")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(PinspectError, match="a link or a device"):
        inspectcli.open_checkpoint(written(file.getvalue(), tmp_path))


def test_a_tar_cut_anywhere_raises_our_errors_only(tmp_path: Path) -> None:
    end_of_data = len(TAR.rstrip(b"\0"))
    for end in range(1, len(TAR), 61):
        result = outcome(written(TAR[:end], tmp_path))
        assert result == "error" or end >= end_of_data, end


@pytest.mark.parametrize("seed", range(2))
def test_a_changed_tar_raises_our_errors_only(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    used = [i for i, byte in enumerate(TAR) if byte]
    seen = set()
    for _ in range(300):
        data = bytearray(TAR)
        for _ in range(dice.randint(1, 2)):
            data[dice.choice(used) + dice.choice([0, 0, 0, 1])] = dice.choice([dice.randrange(256), *b"K(tRN]0"])
        seen.add(outcome(written(bytes(data), tmp_path)))
    assert seen >= {"error", "values"}
