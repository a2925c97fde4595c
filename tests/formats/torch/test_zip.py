"""Files of `torch.save`, against what `torch.load` makes of them: names, values, kinds, and lying archives."""

from __future__ import annotations

import io
import os
import pickle
import random
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import inspectcli
from inspectcli.errors import DamagedFileError, LimitError, PinspectError, UnsafeFileError
from inspectcli.tensors.model import Checkpoint, Kind, aliases

pytestmark = pytest.mark.filterwarnings("ignore")


def saved(value: object, folder: Path, protocol: int = 2) -> Path:
    path = folder / "model.pt"
    torch.save(value, path, pickle_protocol=protocol)
    return path


def flat(value: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of nested containers under dotted names."""
    if isinstance(value, torch.Tensor):
        yield path or "tensor", value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from flat(child, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for i, child in enumerate(value):
            yield from flat(child, f"{path}.{i}" if path else str(i))


def assert_same(checkpoint: Checkpoint, expected: dict[str, torch.Tensor]) -> None:
    assert sorted(t.name for t in checkpoint) == sorted(expected)
    for name, tensor in expected.items():
        ref, values = checkpoint[name], tensor.detach().numpy()
        assert ref.shape == tuple(tensor.shape), name
        got = ref.numpy()
        assert isinstance(got, np.ndarray)
        assert got.dtype == values.dtype, name
        np.testing.assert_array_equal(got, values, err_msg=name)


# -- modules --------------------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight


class WithExtras(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.items = nn.ParameterList([nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(3))])
        self.named = nn.ParameterDict({"a": nn.Parameter(torch.randn(2)), "b": nn.Parameter(torch.randn(1))})
        self.register_buffer("table", torch.arange(4))
        self.register_buffer("scratch", torch.ones(2), persistent=False)


def nested() -> nn.Module:
    inner = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.LayerNorm(3), nn.Dropout()))
    return nn.Sequential(OrderedDict(first=inner, second=nn.ModuleDict({"x": nn.Linear(3, 1)}), third=nn.Identity()))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(3, 2),
    "convolution": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose1d(2, 3, 2)),
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2),
    "gru": lambda: nn.GRU(3, 4),
    "attention": lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6),
    "transformer": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2),
    "nested": nested,
    "tied": Tied,
    "extras": WithExtras,
    "embedding bag": lambda: nn.EmbeddingBag(5, 3),
    "half": lambda: nn.Linear(3, 2).half(),
    "double": lambda: nn.Linear(3, 2).double(),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", MODULES)
def test_a_state_dict_reads_as_torch_reads_it(name: str, protocol: int, tmp_path: Path) -> None:
    path = saved(MODULES[name]().state_dict(), tmp_path, protocol)
    checkpoint = inspectcli.open_checkpoint(path)
    assert checkpoint.format == "torch-zip"
    assert checkpoint.metadata["pickle_protocol"] == protocol
    assert [t.name for t in checkpoint] == list(torch.load(path, weights_only=False))
    assert_same(checkpoint, torch.load(path, weights_only=False))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", MODULES)
def test_a_whole_module_has_the_names_of_its_state_dict(name: str, protocol: int, tmp_path: Path) -> None:
    path = saved(MODULES[name](), tmp_path, protocol)
    module = torch.load(path, weights_only=False)
    expected = dict(module.named_parameters(remove_duplicate=False)) | dict(
        module.named_buffers(remove_duplicate=False)
    )
    checkpoint = inspectcli.open_checkpoint(path)
    assert_same(checkpoint, expected)
    kinds = {n: Kind.PARAMETER for n, _ in module.named_parameters(remove_duplicate=False)}
    kinds |= {n: Kind.BUFFER for n, _ in module.named_buffers(remove_duplicate=False)}
    assert {t.name: t.kind for t in checkpoint} == kinds
    assert checkpoint.hazards == ()


def test_a_module_tells_the_class_of_each_layer(tmp_path: Path) -> None:
    checkpoint = inspectcli.open_checkpoint(saved(nested(), tmp_path))
    assert {t.name: t.layer for t in checkpoint} == {
        "first.0.weight": "Linear", "first.0.bias": "Linear", "first.2.0.weight": "LayerNorm",
        "first.2.0.bias": "LayerNorm", "second.x.weight": "Linear", "second.x.bias": "Linear",
    }  # fmt: skip


def test_our_own_module_class_is_named_as_foreign(tmp_path: Path) -> None:
    assert inspectcli.open_checkpoint(saved(Tied(), tmp_path)).foreign == (f"{__name__}.Tied",)


@pytest.mark.parametrize("whole", [True, False])
def test_a_tied_weight_is_listed_twice_and_known(whole: bool, tmp_path: Path) -> None:
    model = Tied()
    checkpoint = inspectcli.open_checkpoint(saved(model if whole else model.state_dict(), tmp_path))
    names = [t.name for t in checkpoint]
    assert names == ["embedding.weight", "head.weight"]
    assert aliases(checkpoint.tensors) == {1: "embedding.weight"}


def test_running_statistics_are_buffers_in_a_state_dict(tmp_path: Path) -> None:
    checkpoint = inspectcli.open_checkpoint(saved(nn.BatchNorm1d(3).state_dict(), tmp_path))
    assert {t.name: t.kind for t in checkpoint} == {
        "weight": Kind.PARAMETER, "bias": Kind.PARAMETER, "running_mean": Kind.BUFFER,
        "running_var": Kind.BUFFER, "num_batches_tracked": Kind.BUFFER,
    }  # fmt: skip


# -- names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(3.0),
        [torch.zeros(1), torch.ones(2)],
        (torch.zeros(1), {"a": [torch.ones(1)]}),
        {"a": {"b": {"c": torch.ones(1)}}, "d.e": torch.zeros(1)},
        {0: torch.zeros(1), 1: {2: torch.ones(1)}},
        {"": torch.zeros(1), " ": torch.ones(1)},
        {"é日": torch.zeros(1), "new\nline": torch.ones(1)},
        {True: torch.zeros(1), None: torch.ones(1), 1.5: torch.zeros(2)},
        OrderedDict([("b", torch.zeros(1)), ("a", torch.ones(1))]),
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_names_are_dotted_paths(value: object, protocol: int, tmp_path: Path) -> None:
    path = saved(value, tmp_path, protocol)
    expected = dict(flat(torch.load(path, weights_only=False)))
    checkpoint = inspectcli.open_checkpoint(path)
    assert [t.name for t in checkpoint] == list(expected)
    assert_same(checkpoint, expected)


def test_keys_that_are_tuples_and_bytes_have_names(tmp_path: Path) -> None:
    checkpoint = inspectcli.open_checkpoint(saved({("a", 1): torch.zeros(1), b"raw": torch.ones(1)}, tmp_path))
    assert [t.name for t in checkpoint] == ["(a, 1)", "raw"]


# -- training state -------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p),
    "NAdam": lambda p: torch.optim.NAdam(p),
    "RMSprop": lambda p: torch.optim.RMSprop(p, momentum=0.9, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p),
    "Adadelta": lambda p: torch.optim.Adadelta(p),
    "Rprop": lambda p: torch.optim.Rprop(p),
    "ASGD": lambda p: torch.optim.ASGD(p),
    "LBFGS": lambda p: torch.optim.LBFGS(p),
}


def trained(optimizer: str) -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    opt = OPTIMIZERS[optimizer](model.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 10)

    def closure() -> torch.Tensor:
        opt.zero_grad()
        loss = model(torch.ones(5, 3) * torch.arange(5.0)[:, None]).square().mean()
        loss.backward()
        return loss

    for _ in range(2):
        opt.step(closure)
        scheduler.step()
    return {
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": opt.state_dict(),
        "scheduler_state_dict": scheduler.state_dict(),
        "epoch": 2,
        "global_step": 17,
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_state_is_read_named_and_apart(name: str, tmp_path: Path) -> None:
    path = saved(trained(name), tmp_path)
    checkpoint = inspectcli.open_checkpoint(path)
    expected = dict(flat(torch.load(path, weights_only=False)))
    assert_same(checkpoint, expected)
    for ref in checkpoint:
        assert (ref.kind is Kind.OPTIMIZER) == ref.name.startswith("optimizer_state_dict."), ref.name
    assert any(ref.kind is Kind.OPTIMIZER for ref in checkpoint)
    training = checkpoint.training
    assert (training.epoch, training.step, training.optimizer) == (2, 17, name)


@pytest.mark.parametrize("name", ["RAdam", "Adamax", "NAdam"])
def test_a_relative_of_adam_is_not_called_adam(name: str, tmp_path: Path) -> None:
    optimizer = getattr(torch.optim, name)([nn.Parameter(torch.ones(1))])
    checkpoint = inspectcli.open_checkpoint(saved({"w": torch.ones(1), "optimizer": optimizer.state_dict()}, tmp_path))
    assert checkpoint.training.optimizer not in ("", "Adam", "AdamW")


def test_a_bare_optimizer_state_is_optimizer_state(tmp_path: Path) -> None:
    checkpoint = inspectcli.open_checkpoint(saved(trained("Adam")["optimizer_state_dict"], tmp_path))
    assert {t.name.rpartition(".")[2] for t in checkpoint} == {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"}
    moments = [t for t in checkpoint if not t.name.endswith("step")]
    assert {t.kind for t in moments} == {Kind.OPTIMIZER}


@pytest.mark.parametrize("key", ["optimizer", "optimizer_states", "optim", "opt", "optimizerG", "optG", "opt_d"])
def test_an_optimizer_under_any_usual_key_is_one(key: str, tmp_path: Path) -> None:
    value = {"model": {"w": torch.ones(1)}, key: {"state": {0: {"exp_avg": torch.ones(1)}}}}
    checkpoint = inspectcli.open_checkpoint(saved(value, tmp_path))
    assert {t.name: t.kind for t in checkpoint} == {"model.w": Kind.PARAMETER, f"{key}.state.0.exp_avg": Kind.OPTIMIZER}


@pytest.mark.parametrize("key", ["rng_state", "torch_rng_state", "cuda_rng_state", "rng", "random_state"])
def test_a_random_state_is_one(key: str, tmp_path: Path) -> None:
    value = {key: torch.get_rng_state(), "rng_states": [torch.get_rng_state()], "w": torch.ones(2)}
    checkpoint = inspectcli.open_checkpoint(saved(value, tmp_path))
    assert {t.name: t.kind for t in checkpoint} == {key: Kind.RNG, "rng_states.0": Kind.RNG, "w": Kind.PARAMETER}


@pytest.mark.parametrize("key", ["ema", "model_ema", "ema_state_dict", "ema_model"])
def test_an_averaged_model_is_one(key: str, tmp_path: Path) -> None:
    value = {"model": {"fc.weight": torch.ones(1)}, key: {"fc.weight": torch.ones(1)}}
    checkpoint = inspectcli.open_checkpoint(saved(value, tmp_path))
    assert {t.name: t.kind for t in checkpoint} == {"model.fc.weight": Kind.PARAMETER, f"{key}.fc.weight": Kind.EMA}


@pytest.mark.parametrize("name", ["schema.weight", "cinema.weight", "optical_flow", "adopt.weight", "string.weight"])
def test_a_parameter_with_an_unlucky_name_stays_a_parameter(name: str, tmp_path: Path) -> None:
    (ref,) = inspectcli.open_checkpoint(saved({name: torch.ones(1)}, tmp_path))
    assert ref.kind is Kind.PARAMETER


@pytest.mark.parametrize("name", ["schema", "cinema", "adopt", "string", "stem"])
def test_a_module_with_an_unlucky_name_keeps_its_parameters(name: str, tmp_path: Path) -> None:
    (ref,) = inspectcli.open_checkpoint(saved({name: {"weight": torch.ones(1)}}, tmp_path))
    assert ref.kind is Kind.PARAMETER


# -- the archive ----------------------------------------------------------------------------------------

STATE = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.arange(4).short()}


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {n: archive.read(n) for n in archive.namelist()}


def rezipped(members: dict[str, bytes], path: Path, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_rezipped_file_reads_as_torch_reads_it(method: int, tmp_path: Path) -> None:
    value = {**STATE, "t": torch.arange(300_000.0).reshape(300, 1000).t()[5:, ::2]}
    path = rezipped(members_of(saved(value, tmp_path)), tmp_path / "again.pt", method)
    assert_same(inspectcli.open_checkpoint(path), torch.load(path, weights_only=False))


def test_a_renamed_file_keeps_its_root(tmp_path: Path) -> None:
    path = saved(STATE, tmp_path).rename(tmp_path / "other.bin")
    checkpoint = inspectcli.open_checkpoint(path)
    assert checkpoint.metadata["archive_root"] == "model"
    assert_same(checkpoint, torch.load(path, weights_only=False))


@pytest.mark.parametrize("gone", ["byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"])
def test_records_that_older_versions_lack_are_not_needed(gone: str, tmp_path: Path) -> None:
    members = members_of(saved(STATE, tmp_path))
    del members[f"model/{gone}"]
    assert_same(inspectcli.open_checkpoint(rezipped(members, tmp_path / "old.pt")), STATE)


def swapped(value: object, folder: Path, itemsizes: list[int]) -> Path:
    """As a big-endian machine writes it."""
    members = members_of(saved(value, folder))
    members["model/byteorder"] = b"big"
    for key, size in enumerate(itemsizes):
        data = np.frombuffer(members[f"model/data/{key}"], f"u{size}")
        members[f"model/data/{key}"] = data.byteswap().tobytes()
    return rezipped(members, folder / "big.pt")


def test_big_endian_values_read_as_torch_reads_them(tmp_path: Path) -> None:
    value = {
        "f": torch.randn(5), "d": torch.randn(2, 3).double().t(), "h": torch.randn(3).half(), "i": torch.arange(4),
        "b": torch.tensor([True, False]), "c": torch.randn(3, dtype=torch.complex64),
    }  # fmt: skip
    path = swapped(value, tmp_path, [4, 8, 2, 8, 1, 4])
    assert_same(inspectcli.open_checkpoint(path), torch.load(path, weights_only=False))


def test_big_endian_bfloat16_reads_as_torch_reads_it(tmp_path: Path) -> None:
    path = swapped({"w": torch.randn(5).bfloat16()}, tmp_path, [2])
    np.testing.assert_array_equal(
        inspectcli.open_checkpoint(path)["w"].numpy(), torch.load(path, weights_only=False)["w"].float().numpy()
    )


def test_big_endian_scales_of_a_quantized_tensor_read_as_torch_reads_them(tmp_path: Path) -> None:
    scales, zeros = torch.tensor([0.5, 0.25], dtype=torch.float64), torch.tensor([1, 2])
    value = torch.quantize_per_channel(torch.randn(2, 3), scales, zeros, 0, torch.qint8)
    path = swapped({"w": value}, tmp_path, [1, 8, 8])
    expected = torch.load(path, weights_only=False)["w"].dequantize().numpy()
    np.testing.assert_allclose(inspectcli.open_checkpoint(path)["w"].numpy(), expected)


def test_an_unknown_byte_order_is_refused(tmp_path: Path) -> None:
    members = members_of(saved(STATE, tmp_path)) | {"model/byteorder": b"middle"}
    with pytest.raises(DamagedFileError, match="unknown byte order 'middle'"):
        inspectcli.open_checkpoint(rezipped(members, tmp_path / "x.pt"))


def test_files_saved_without_checksums_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = saved(STATE, tmp_path)
    finally:
        torch.serialization.set_crc32_options(True)
    checkpoint = inspectcli.open_checkpoint(path)
    assert_same(checkpoint, torch.load(path, weights_only=False))
    assert checkpoint.checksums == ()


def test_other_alignments_read(tmp_path: Path) -> None:
    old = torch.utils.serialization.config.save.storage_alignment
    torch.utils.serialization.config.save.storage_alignment = 4096
    try:
        path = saved(STATE, tmp_path)
    finally:
        torch.utils.serialization.config.save.storage_alignment = old
    assert_same(inspectcli.open_checkpoint(path), torch.load(path, weights_only=False))


def test_a_file_saved_to_a_buffer_reads(tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save(STATE, file)
    path = tmp_path / "x.pt"
    path.write_bytes(file.getvalue())
    checkpoint = inspectcli.open_checkpoint(path)
    assert checkpoint.metadata["archive_root"] == "archive"
    assert_same(checkpoint, STATE)


def test_the_checksums_are_those_of_the_directory(tmp_path: Path) -> None:
    path = saved(STATE, tmp_path)
    with zipfile.ZipFile(path) as archive:
        expected = {i.filename: (i.CRC, i.file_size) for i in archive.infolist() if i.CRC and i.file_size}
    assert {c.name: (c.crc, c.nbytes) for c in inspectcli.open_checkpoint(path).checksums} == expected


def test_trailing_bytes_behind_the_pickle_are_refused(tmp_path: Path) -> None:
    members = members_of(saved(STATE, tmp_path))
    members["model/data.pkl"] += b"N."
    with pytest.raises(UnsafeFileError, match="2 bytes follow the pickle"):
        inspectcli.open_checkpoint(rezipped(members, tmp_path / "x.pt"))


def test_a_pickle_without_an_end_is_refused(tmp_path: Path) -> None:
    members = members_of(saved(STATE, tmp_path))
    members["model/data.pkl"] = members["model/data.pkl"][:-1]
    with pytest.raises(DamagedFileError, match="has no end"):
        inspectcli.open_checkpoint(rezipped(members, tmp_path / "x.pt"))


def test_two_roots_are_refused(tmp_path: Path) -> None:
    members = members_of(saved(STATE, tmp_path))
    with pytest.raises(UnsafeFileError, match="several roots"):
        inspectcli.open_checkpoint(rezipped({**members, "b/data.pkl": b"N."}, tmp_path / "x.pt"))


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    members = members_of(saved(STATE, tmp_path))
    del members["model/data/1"]
    with pytest.raises(DamagedFileError, match="storage '1' is missing: no record model/data/1"):
        inspectcli.open_checkpoint(rezipped(members, tmp_path / "x.pt"))


def test_a_checksum_of_the_pickle_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = saved(STATE, tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"OrderedDict" if b"OrderedDict" in data else b"_rebuild_tensor_v2")] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match="CRC-32"):
        inspectcli.open_checkpoint(path)


def test_a_bomb_as_the_pickle_is_refused(tmp_path: Path) -> None:
    members = {"x/data.pkl": b"N0" * (9 << 20), "x/version": b"3\n"}
    with pytest.raises(LimitError, match="bomb"):
        inspectcli.open_checkpoint(rezipped(members, tmp_path / "x.pt", zipfile.ZIP_DEFLATED))


# -- hostile objects ------------------------------------------------------------------------------------


class Hostile:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


def test_a_hostile_object_is_a_hazard_and_does_not_run(tmp_path: Path) -> None:
    live, canary = tmp_path / "live", tmp_path / "canary"
    named = f"touch {canary}"[:80]
    torch.load(saved({"x": Hostile(f"touch {live}")}, tmp_path), weights_only=False)
    assert live.exists()
    path = saved({"w": torch.ones(2), "x": Hostile(f"touch {canary}")}, tmp_path)
    np.testing.assert_array_equal(inspectcli.open_checkpoint(path)["w"].numpy(), np.ones(2))
    before = set(sys.modules)
    checkpoint = inspectcli.open_checkpoint(path)
    assert [h.what for h in checkpoint.hazards] == [f"{os.name}.system would be called with {named!r}"]
    np.testing.assert_array_equal(checkpoint["w"].numpy(), np.ones(2))
    assert not canary.exists()
    assert {m for m in set(sys.modules) - before if not m.startswith(("numpy", "inspectcli"))} == set()


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["extra.pkl", "model/extra/hidden.bin", "model/version"])
def test_a_hostile_pickle_in_another_record_is_a_hazard(name: str, protocol: int, tmp_path: Path) -> None:
    members = members_of(saved(STATE, tmp_path))
    members[name] = pickle.dumps(Hostile("id"), protocol)
    if name == "model/version":
        members["model/other"] = members.pop(name)
    checkpoint = inspectcli.open_checkpoint(rezipped(members, tmp_path / "x.pt"))
    assert [h.what for h in checkpoint.hazards] == [f"{os.name}.system would be called with 'id'"]


def test_a_state_dict_has_no_hazard_and_nothing_foreign(tmp_path: Path) -> None:
    checkpoint = inspectcli.open_checkpoint(saved(trained("Adam"), tmp_path))
    assert (checkpoint.hazards, checkpoint.foreign) == ((), ())
    assert [note.partition(" (")[0] for note in checkpoint.notes] == ["besides tensors: 20 numbers, 7 flags"]


@pytest.mark.parametrize("seed", range(3))
def test_a_file_with_flipped_bytes_raises_our_errors_only(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    original = saved(STATE, tmp_path).read_bytes()
    refused: dict[str, str] = {}
    for i in range(200):
        data = bytearray(original)
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path = tmp_path / f"{i}.pt"
        path.write_bytes(data)
        try:
            for ref in inspectcli.open_checkpoint(path):
                ref.numpy()
        except PinspectError as error:
            refused[str(path)] = str(error)
    assert 0 < len(refused) < 200
    assert all(path in message for path, message in refused.items())
