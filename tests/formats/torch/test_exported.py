"""Exported programs: every parameter, buffer and constant as torch has it, of torch 2.8 and of the older layout."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from support.locations import in_memory

from inspectcli.errors import PinspectError, UnsupportedFormatError
from inspectcli.formats import open_file
from inspectcli.tensors.model import Checkpoint, Kind, aliases


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.tied = torch.nn.Linear(4, 3, bias=False)
        self.tied.weight = self.layer.weight
        self.narrow = torch.nn.Parameter(torch.randn(3, 4).to(torch.bfloat16).t())
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("unkept", torch.ones(2), persistent=False)
        self.constant = torch.arange(3.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.narrow.float().sum() + self.unkept.sum() + self.kept.sum()
        return self.layer(x) + self.tied(x) + self.constant + wide


@pytest.fixture(scope="module")
def program() -> Any:
    return torch.export.export(Model(), (torch.ones(2, 4),))


@pytest.fixture(scope="module")
def data(program: Any) -> bytes:
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def opened(data: bytes) -> Checkpoint:
    return open_file(in_memory("x.pt2", data))


def rewritten(data: bytes, change: dict[str, bytes | None], method: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with some records replaced, added or left out (None), by the end of their names."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", method) as new:
        for name in old.namelist():
            end = name.partition("/")[2]
            content = change.pop(end, old.read(name))
            if content is not None:
                new.writestr(name, content)
        for end, content in change.items():
            new.writestr(f"{name.partition('/')[0]}/{end}", content or b"")
    return file.getvalue()


def config(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("model_weights_config.json")]
        return json.loads(archive.read(name))["config"]


def with_config(data: bytes, entries: object) -> bytes:
    return rewritten(data, {"data/weights/model_weights_config.json": json.dumps({"config": entries}).encode()})


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_tensor_is_that_of_the_program(program: Any, data: bytes, method: int) -> None:
    made = opened(rewritten(data, {}, method))
    found = {t.name: t for t in made}
    for name, value in {**program.state_dict, **program.constants}.items():
        np.testing.assert_array_equal(found.pop(name).numpy(), value.detach().float().numpy())
    assert found == {}
    assert (made.format, made.hazards) == ("pt2", ())


def test_kinds_are_those_of_the_program(program: Any, data: bytes) -> None:
    kinds = {t.name: t.kind for t in opened(data)}
    for name, _ in program.named_parameters():
        assert kinds[name] is Kind.PARAMETER
    assert (kinds["kept"], kinds["unkept"], kinds["constant"]) == (Kind.BUFFER, Kind.CONSTANT, Kind.CONSTANT)


def test_a_shared_parameter_is_tied(data: bytes) -> None:
    made = opened(data)
    assert list(aliases(made.tensors).values()) == ["layer.weight"]


def test_the_layout_before_torch_2_8_is_read(program: Any) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        for name, value in (("state_dict", dict(program.state_dict)), ("constants", dict(program.constants))):
            inner = io.BytesIO()
            torch.save(value, inner)
            archive.writestr(f"serialized_{name}.pt", inner.getvalue())
        archive.writestr("version", "7.3")
    found = {t.name: t for t in opened(file.getvalue())}
    assert set(found) == {*program.state_dict, *program.constants}
    assert found["constant"].kind is Kind.CONSTANT
    np.testing.assert_array_equal(found["layer.bias"].numpy(), program.state_dict["layer.bias"].detach().numpy())


class Runs:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("true",)


def test_sample_inputs_that_would_run_are_a_hazard(data: bytes) -> None:
    inner = io.BytesIO()
    torch.save(Runs(), inner)
    made = opened(rewritten(data, {"data/sample_inputs/model.pt": inner.getvalue()}))
    assert [h.where.partition(":")[0] for h in made.hazards] == ["data/sample_inputs/model.pt"]
    assert pickle.dumps(made.tensors)


@pytest.mark.parametrize("record", ["weight", "extra/notes.pkl"])
def test_other_records_that_would_run_are_a_hazard(data: bytes, record: str) -> None:
    entries = config(data)
    name = f"data/weights/{entries['layer.weight']['path_name']}" if record == "weight" else record
    entries["layer.weight"]["use_pickle"] = record == "weight"
    inner = io.BytesIO()
    torch.save(Runs(), inner)
    content = inner.getvalue() if record == "weight" else pickle.dumps(Runs())
    made = opened(rewritten(with_config(data, entries), {name: content}))
    assert ["system" in h.what for h in made.hazards] == [True]


LIES = {
    "type": ({"dtype": 99}, "an element type"),
    "type as text": ({"dtype": "7"}, "an element type"),
    "size": ({"sizes": [{"as_int": 4_000}, {"as_int": 3}]}, "reaches"),
    "negative": ({"sizes": [{"as_int": -4}, {"as_int": 3}]}, "not known before"),
    "symbol": ({"sizes": [{"as_expr": "s0"}, {"as_int": 3}]}, "not known before"),
    "no list": ({"sizes": None}, "not known before"),
    "strides": ({"strides": [{"as_int": 1}]}, "strides"),
    "offset": ({"storage_offset": {"as_int": 1 << 62}}, "impossible size"),
}


@pytest.mark.parametrize("case", LIES)
def test_a_lie_about_one_tensor_is_its_problem(data: bytes, case: str) -> None:
    change, message = LIES[case]
    entries = config(data)
    entries["layer.weight"]["tensor_meta"].update(change)
    found = {t.name: t for t in opened(with_config(data, entries))}
    assert message in found["layer.weight"].problem
    assert not found["layer.bias"].problem


def test_a_missing_record_is_the_problem_of_its_tensors(data: bytes) -> None:
    name = config(data)["layer.bias"]["path_name"]
    found = {t.name: t for t in opened(rewritten(data, {f"data/weights/{name}": None}))}
    assert "its bytes are missing" in found["layer.bias"].problem


@pytest.mark.parametrize("text", [b"[]", b"{}", b'{"config": 3}', b"{", b""])
def test_a_list_of_weights_that_is_none_is_damage(data: bytes, text: bytes) -> None:
    with pytest.raises(PinspectError):
        opened(rewritten(data, {"data/weights/model_weights_config.json": text}))


def test_a_compiled_program_is_named() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/data/aotinductor/model/x.wrapper.so", b"\x7fELF")
    with pytest.raises(UnsupportedFormatError, match="AOTInductor") as caught:
        opened(file.getvalue())
    assert caught.value.hint


def test_an_exported_program_without_weights_is_named(data: bytes) -> None:
    bare = rewritten(
        data, dict.fromkeys(["data/weights/model_weights_config.json", "data/constants/model_constants_config.json"])
    )
    with pytest.raises(PinspectError, match=r"an exported program \(\.pt2\) that does not list its weights"):
        opened(bare)
