"""TorchScript archives, against the names and values that torch.jit.load gives."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import inspectcli
from inspectcli.errors import PinspectError
from inspectcli.tensors.model import Checkpoint, Kind

pytestmark = pytest.mark.filterwarnings("ignore")


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)).relu()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cell(x)[0]


class Constants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)
        self.register_buffer("table", torch.arange(2))
        self.scale = 2.5
        self.sizes = [1, 2, 3]
        self.extra = torch.arange(3.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) * self.scale + self.table + torch.tensor([1.0, 2.0])


class Twins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


MODELS: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "linear": (lambda: nn.Linear(4, 2), torch.ones(1, 4)),
    "nested": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.LayerNorm(3), nn.ReLU())), torch.ones(1, 4)),
    "convolutions": (Convolutions, torch.ones(1, 3, 5, 5)),
    "recurrent": (Recurrent, torch.ones(2, 1, 4)),
    "constants": (Constants, torch.ones(1, 4)),
    "twins": (Twins, torch.ones(1, 4)),
}


def scripted(name: str) -> torch.jit.ScriptModule:
    torch.manual_seed(0)
    return torch.jit.script(MODELS[name][0]().eval())


def traced(name: str) -> torch.jit.ScriptModule:
    torch.manual_seed(0)
    make, example = MODELS[name]
    return torch.jit.trace(make().eval(), example)


def read(module: torch.jit.ScriptModule, folder: Path) -> tuple[Checkpoint, torch.jit.ScriptModule]:
    path = folder / "script.pt"
    torch.jit.save(module, str(path))
    return inspectcli.open_checkpoint(path), torch.jit.load(str(path))


@pytest.mark.parametrize("make", [scripted, traced])
@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_buffers_are_those_that_torch_loads(
    name: str, make: Callable[[str], torch.jit.ScriptModule], tmp_path: Path
) -> None:
    checkpoint, module = read(make(name), tmp_path)
    assert checkpoint.format == "torchscript"
    expected = {n: (Kind.PARAMETER, p) for n, p in module.named_parameters(remove_duplicate=False)}
    expected |= {n: (Kind.BUFFER, b) for n, b in module.named_buffers(remove_duplicate=False)}
    kinds = {t.name: t.kind for t in checkpoint if t.kind in (Kind.PARAMETER, Kind.BUFFER)}
    assert kinds == {n: kind for n, (kind, _) in expected.items()}
    for tensor_name, (_, tensor) in expected.items():
        np.testing.assert_array_equal(checkpoint[tensor_name].numpy(), tensor.detach().numpy())


def test_an_attribute_that_is_a_tensor_is_neither_parameter_nor_buffer(tmp_path: Path) -> None:
    checkpoint, module = read(scripted("constants"), tmp_path)
    assert checkpoint["extra"].kind is Kind.OTHER
    np.testing.assert_array_equal(checkpoint["extra"].numpy(), module.extra.numpy())


def test_constants_are_apart_and_read(tmp_path: Path) -> None:
    checkpoint, _ = read(traced("constants"), tmp_path)
    constants = [t for t in checkpoint if t.kind is Kind.CONSTANT]
    assert all(t.name.startswith("<constants>.") for t in constants)
    assert any(np.array_equal(t.numpy(), [1.0, 2.0]) for t in constants)


def test_the_class_and_the_code_are_told(tmp_path: Path) -> None:
    checkpoint, _ = read(scripted("constants"), tmp_path)
    with zipfile.ZipFile(tmp_path / "script.pt") as archive:
        files = [n for n in archive.namelist() if "/code/" in n and n.endswith(".py")]
    assert checkpoint.metadata["class"] == "Constants"
    assert checkpoint.metadata["code_files"] == len(files) > 0
    assert any("code files were not looked at" in note for note in checkpoint.notes)


@pytest.mark.parametrize("make", [scripted, traced])
@pytest.mark.parametrize("name", MODELS)
def test_an_honest_archive_raises_no_alarm(
    name: str, make: Callable[[str], torch.jit.ScriptModule], tmp_path: Path
) -> None:
    checkpoint, _ = read(make(name), tmp_path)
    assert (checkpoint.hazards, checkpoint.foreign) == ((), ())


def test_half_precision_and_frozen_archives_read(tmp_path: Path) -> None:
    checkpoint, module = read(torch.jit.script(nn.Linear(4, 2).half().eval()), tmp_path)
    np.testing.assert_array_equal(checkpoint["weight"].numpy(), module.weight.detach().numpy())
    frozen, _ = read(torch.jit.freeze(scripted("linear")), tmp_path)
    values = [t.numpy() for t in frozen if t.kind is Kind.CONSTANT]
    weight = scripted("linear").weight.detach().numpy()
    assert any(np.array_equal(v, weight) or np.array_equal(v, weight.T) for v in values)


def test_a_tied_weight_shares_its_storage(tmp_path: Path) -> None:
    checkpoint, _ = read(scripted("twins"), tmp_path)
    assert checkpoint["a.weight"].segments == checkpoint["b.weight"].segments


def test_a_hostile_constants_record_is_a_hazard(tmp_path: Path) -> None:
    read(scripted("linear"), tmp_path)
    with zipfile.ZipFile(tmp_path / "script.pt") as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    members["script/constants.pkl"] = b"cos\nsystem\n(X\x02\x00\x00\x00idtR."
    with zipfile.ZipFile(tmp_path / "hostile.pt", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    checkpoint = inspectcli.open_checkpoint(tmp_path / "hostile.pt")
    assert [h.what for h in checkpoint.hazards] == ["os.system would be called with 'id'"]


def test_a_cut_or_changed_archive_raises_our_errors_only(tmp_path: Path) -> None:
    read(scripted("convolutions"), tmp_path)
    original = (tmp_path / "script.pt").read_bytes()
    dice, refused = random.Random(0), 0
    for i in range(150):
        data = bytearray(original)
        if i % 2:
            del data[dice.randrange(len(data)) :]
        else:
            data[dice.randrange(len(data))] ^= 255
        path = tmp_path / f"{i}.pt"
        path.write_bytes(data)
        try:
            for ref in inspectcli.open_checkpoint(path):
                ref.numpy()
        except PinspectError:
            refused += 1
    assert 75 <= refused <= 150
