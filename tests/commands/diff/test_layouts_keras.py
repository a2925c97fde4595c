"""The same weights in Keras and in torch: both libraries compute the same, and the files compare as equal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models.pairs import write

from inspectcli import diff
from inspectcli.commands.diff.compare import Status

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

KERAS_FORMATS = ("keras", "weights.h5", "h5")
TORCH_FORMATS = ("pt", pytest.param("safetensors", marks=pytest.mark.slow))
EQUAL, IDENTICAL = Status.EQUAL_VALUES, Status.IDENTICAL


def save(model: Any, folder: Path, suffix: str) -> str:
    path = folder / f"model.{suffix}"
    (model.save_weights if suffix == "weights.h5" else model.save)(path)
    return str(path)


def randomise(model: Any) -> None:
    """No weight stays at its constant start."""
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 1.0, w.shape).astype("float32") for w in model.get_weights()])


def tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def mlp() -> tuple[Any, torch.nn.Module, dict[str, torch.Tensor]]:
    model = keras.Sequential(
        [keras.layers.Input((6,)), keras.layers.Dense(6, name="fc1"), keras.layers.Dense(3, name="fc2")]
    )
    randomise(model)
    twin = torch.nn.Sequential()
    for layer in model.layers:
        kernel, bias = layer.get_weights()
        linear = torch.nn.Linear(*kernel.shape)
        linear.load_state_dict({"weight": tensor(kernel.T), "bias": tensor(bias)})
        twin.add_module(layer.name, linear)
    return model, twin, twin.state_dict()


def cnn() -> tuple[Any, torch.nn.Module, dict[str, torch.Tensor]]:
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((7, 8, 3)),
            layers.Conv2D(4, 3, name="conv1"),
            layers.BatchNormalization(name="bn1", epsilon=1e-5),
            layers.DepthwiseConv2D(2, name="deep"),
            layers.Flatten(),
            layers.Dense(5, name="fc1"),
            layers.Dense(5, name="fc2"),
        ]
    )
    randomise(model)
    weights = {layer.name: layer.get_weights() for layer in model.layers if layer.get_weights()}
    gamma, beta, mean, variance = weights["bn1"]
    rows = weights["fc1"][0]
    twin = torch.nn.Sequential()
    twin.add_module("conv1", torch.nn.Conv2d(3, 4, 3))
    twin.add_module("bn1", torch.nn.BatchNorm2d(4))
    twin.add_module("deep", torch.nn.Conv2d(4, 4, 2, groups=4))
    twin.add_module("flatten", torch.nn.Flatten())
    twin.add_module("fc1", torch.nn.Linear(rows.shape[0], 5))
    twin.add_module("fc2", torch.nn.Linear(5, 5))
    state = {
        "conv1.weight": tensor(weights["conv1"][0].transpose(3, 2, 0, 1)),
        "conv1.bias": tensor(weights["conv1"][1]),
        "bn1.weight": tensor(gamma),
        "bn1.bias": tensor(beta),
        "bn1.running_mean": tensor(mean),
        "bn1.running_var": tensor(variance),
        "bn1.num_batches_tracked": torch.tensor(0),
        "deep.weight": tensor(weights["deep"][0].transpose(2, 3, 0, 1)),
        "deep.bias": tensor(weights["deep"][1]),
        # Keras flattens (height, width, channel), torch (channel, height, width).
        "fc1.weight": tensor(rows.reshape(4, 5, 4, 5).transpose(3, 2, 0, 1).reshape(5, -1)),
        "fc1.bias": tensor(weights["fc1"][1]),
        "fc2.weight": tensor(weights["fc2"][0].T),
        "fc2.bias": tensor(weights["fc2"][1]),
    }
    twin.load_state_dict(state)
    return model, twin.eval(), state


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(5, 6, batch_first=True)
        self.out = torch.nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lstm(x)[0][:, -1])


def lstm() -> tuple[Any, torch.nn.Module, dict[str, torch.Tensor]]:
    layers = keras.layers
    model = keras.Sequential([layers.Input((7, 5)), layers.LSTM(6, name="lstm"), layers.Dense(2, name="out")])
    randomise(model)
    kernel, recurrent, bias, out, out_bias = model.get_weights()
    state = {
        "lstm.weight_ih_l0": tensor(kernel.T),
        "lstm.weight_hh_l0": tensor(recurrent.T),
        "lstm.bias_ih_l0": tensor(bias),
        "lstm.bias_hh_l0": torch.zeros(24),
        "out.weight": tensor(out.T),
        "out.bias": tensor(out_bias),
    }
    twin = Recurrent()
    twin.load_state_dict(state)
    return model, twin, state


MODELS = {"mlp": (mlp, (2, 6)), "cnn": (cnn, (2, 7, 8, 3)), "lstm": (lstm, (2, 7, 5))}
#: What torch has and Keras has not.
ALONE = {"mlp": set(), "cnn": {"bn1.num_batches_tracked"}, "lstm": {"lstm.bias_hh_l0"}}


@pytest.mark.parametrize("name", MODELS)
def test_the_twins_compute_the_same(name: str) -> None:
    make, shape = MODELS[name]
    model, twin, _ = make()
    x = np.random.default_rng(1).normal(size=shape).astype("float32")
    inputs = tensor(x).permute(0, 3, 1, 2) if name == "cnn" else tensor(x)
    with torch.no_grad():
        expected = model.predict(x, verbose=0) if hasattr(model, "predict") else model(x)
        np.testing.assert_allclose(twin(inputs).numpy(), np.asarray(expected), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("ours", KERAS_FORMATS)
@pytest.mark.parametrize("theirs", TORCH_FORMATS)
@pytest.mark.parametrize("renamed", [False, True], ids=["same layer names", "other layer names"])
def test_keras_and_torch(name: str, ours: str, theirs: str, renamed: bool, tmp_path: Path) -> None:
    model, _, state = MODELS[name][0]()
    other = {"conv1": "features.0", "bn1": "features.1", "deep": "features.2", "fc1": "head.0", "fc2": "head.1"}
    other |= {"lstm": "encoder", "out": "classifier"}
    moved = {(f"{other[n.split('.')[0]]}.{n.split('.', 1)[1]}" if renamed else n): v for n, v in state.items()}
    alone = {n for n, old in zip(moved, state, strict=True) if old in ALONE[name]}
    a, b = save(model, tmp_path, ours), write(moved, tmp_path, "twin", theirs)
    report, back = diff(a, b), diff(b, a)
    assert {t.name for t in report.tensors if t.status is Status.ADDED} == alone
    assert {t.status for t in report.tensors if t.name not in alone} == {EQUAL, IDENTICAL}
    expected = "same-weights-and-more" if alone else "same-weights-other-names"
    assert report.verdict.code == back.verdict.code == expected
    assert not report.same
    assert {t.name for t in back.tensors if t.status is Status.REMOVED} == set() or alone
    assert {(t.a, t.b, t.status) for t in report.tensors if t.name not in alone} == {
        (t.b, t.a, t.status) for t in back.tensors if t.a not in alone
    }


def test_a_trained_copy_is_changed_and_not_reshaped(tmp_path: Path) -> None:
    model, _, state = mlp()
    state = dict(state)
    state["fc1.weight"] = state["fc1.weight"] * 1.1
    report = diff(save(model, tmp_path, "keras"), write(state, tmp_path, "b", "pt"))
    found = report["fc1.weight"]
    assert (found.status, found.layout) == (Status.CHANGED, "transposed")
    assert found.rel_l2 == pytest.approx(0.1, rel=1e-5)
    assert report["fc2.weight"].status is EQUAL
