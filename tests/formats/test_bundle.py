"""Archives around models: read as the model inside reads, or named with what is inside."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from support.locations import in_memory

from inspectcli.errors import PinspectError, UnsupportedFormatError
from inspectcli.formats import bundle, open_file
from inspectcli.hparams.sources.checkpoint import of_checkpoint
from inspectcli.tensors.model import Checkpoint, Kind

STATE = {"a.weight": torch.randn(8, 4), "a.bias": torch.randn(8), "n": torch.tensor(3)}


def saved(value: object, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **how)
    return file.getvalue()


def arrays(**values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **values)
    return file.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def opened(data: bytes) -> Checkpoint:
    return open_file(in_memory("x.zip", data))


def values(checkpoint: Checkpoint) -> dict[str, Any]:
    return {t.name: t.numpy() for t in checkpoint}


def adam() -> dict[str, Any]:
    layer = torch.nn.Linear(4, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def stable_baselines3(**data: object) -> dict[str, bytes]:
    return {
        "data": json.dumps({"gamma": 0.99, "learning_rate": 3e-4, "n_steps": 2048, **data}).encode(),
        "pytorch_variables.pth": saved(None),
        "policy.pth": saved(STATE),
        "policy.optimizer.pth": saved(adam()),
        "_stable_baselines3_version": b"2.7.0",
        "system_info.txt": b"OS: Linux",
    }


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_model_of_stable_baselines3_is_its_policy_and_optimizer(method: int) -> None:
    made = opened(zipped(stable_baselines3(), method))
    found = values(made)
    assert made.writer == "stable-baselines3 2.7.0"
    for name, value in STATE.items():
        np.testing.assert_array_equal(found[f"policy.{name}"], value.numpy())
    slots = [t for t in made if t.name.startswith("policy.optimizer.")]
    assert len(slots) == 6
    assert all(t.kind is Kind.OPTIMIZER for t in slots)
    assert {row.raw_key: row.value for row in of_checkpoint(made)} == {
        "gamma": 0.99,
        "learning_rate": 3e-4,
        "n_steps": 2048,
    }


class Runs:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("true",)


def test_a_pickle_in_the_settings_is_judged_and_named() -> None:
    harmful = base64.b64encode(pickle.dumps(Runs())).decode()
    made = opened(zipped(stable_baselines3(schedule={":type:": "x", ":serialized:": harmful})))
    assert [("system" in h.what, h.where.startswith("data")) for h in made.hazards] == [(True, True)]
    assert "1 pickle in data: stable-baselines loads them with cloudpickle, which runs code" in made.notes


@pytest.mark.parametrize("text", ["no base64!", "", "AAAA", 3])
def test_settings_that_are_no_pickle_are_left_alone(text: object) -> None:
    assert opened(zipped(stable_baselines3(schedule={":serialized:": text}))).hazards == ()


def test_a_model_of_stable_baselines2_is_an_npz() -> None:
    array = np.arange(8.0).reshape(2, 4)
    members = {"data": b"{}", "parameters": arrays(**{"model/pi/w:0": array}), "parameter_list": b'["model/pi/w:0"]'}
    made = opened(zipped(members))
    np.testing.assert_array_equal(values(made)["model/pi/w:0"], array)


INNER = {
    "model.pt": lambda: saved(STATE),
    "old.bin": lambda: saved(STATE, _use_new_zipfile_serialization=False),
    "folder/model.safetensors": lambda: safetensors.torch.save(STATE),
    "run.ckpt": lambda: saved({"state_dict": STATE}),
    "arrays.npz": lambda: arrays(**{k: v.numpy() for k, v in STATE.items()}),
}


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_one_model_of_an_archive_has_its_own_names(name: str, method: int) -> None:
    data = INNER[name]()
    made = opened(zipped({"config.json": b"{}", name: data, "README.md": b"text"}, method))
    alone = open_file(in_memory("x", data))
    assert [(t.name, t.shape, t.kind) for t in made] == [(t.name, t.shape, t.kind) for t in alone]
    for ours, theirs in zip(values(made).values(), values(alone).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert made.notes[-1] == "2 other files in the archive: config.json, README.md"


def test_the_manifest_of_torchserve_names_the_model() -> None:
    manifest = json.dumps({"model": {"serializedFile": "b.pt", "handler": "handler.py"}}).encode()
    members = {
        "a.pt": saved({"x": torch.ones(2)}),
        "b.pt": saved(STATE),
        "handler.py": b"",
        "MAR-INF/MANIFEST.json": manifest,
    }
    made = opened(zipped(members))
    assert (list(values(made)), made.writer) == (list(STATE), "torch-model-archiver")


def test_several_models_are_named_and_one_is_asked_for() -> None:
    with pytest.raises(UnsupportedFormatError, match=r"a zip archive of 2 models: a\.pt, b\.pt") as caught:
        opened(zipped({"a.pt": saved(STATE), "b.pt": saved(STATE), "c.txt": b"x"}))
    assert "unpack it" in caught.value.hint


def test_tied_tensors_are_tied_inside_one_member_only() -> None:
    tensor = torch.randn(3)
    made = opened(
        zipped(
            {**stable_baselines3(), "policy.pth": saved({"a": tensor, "b": tensor}), "other.pth": saved({"a": tensor})}
        )
    )
    keys = {t.name: t.storage for t in made}
    assert keys["policy.a"] == keys["policy.b"] != keys["other.a"]


def test_what_a_member_would_run_is_a_hazard_with_its_name() -> None:
    made = opened(zipped({"model.pt": saved({"w": torch.ones(2), "x": Runs()}), "vocab.pkl": pickle.dumps(Runs())}))
    assert sorted(h.where.partition(":")[0].partition(",")[0] for h in made.hazards) == ["model.pt", "vocab.pkl"]


def test_a_damaged_model_is_the_reason() -> None:
    data = bytearray(zipped({"model.pt": saved(STATE)[:-40]}))
    with pytest.raises(UnsupportedFormatError, match=r"model\.pt cannot be read: .*cut") as caught:
        opened(bytes(data))
    assert caught.value.hint


def test_an_archive_in_an_archive_in_an_archive_is_not_looked_at() -> None:
    with pytest.raises(PinspectError, match=r"it holds inner\.zip"):
        opened(zipped({"inner.zip": zipped({"model.pt": saved(STATE)})}))


def test_large_compressed_models_are_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_INFLATED", 1_000)
    with pytest.raises(UnsupportedFormatError, match=r"model\.pt is compressed, and [\d,]+ bytes were not inflated"):
        opened(zipped({"model.pt": saved(STATE)}, zipfile.ZIP_DEFLATED))


def test_pickles_without_tensors_are_no_model() -> None:
    with pytest.raises(UnsupportedFormatError, match=r"files without tensors: vocab\.pkl"):
        opened(zipped({"vocab.pkl": pickle.dumps({"a": 1})}))


def test_only_so_many_models_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_MODELS", 2)
    members = {**stable_baselines3(), **{f"{n}.pth": saved({"w": torch.ones(2)}) for n in range(5)}}
    assert len(opened(zipped(members)).metadata["models"]) <= 2  # type: ignore[arg-type]
