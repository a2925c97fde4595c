"""Small models, trained a little on synthetic data, and faults to plant in their files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Layers this small train many times slower with threads that wait for each other on a busy machine.
torch.set_num_threads(1)

State = dict[str, Tensor]


class Trained(NamedTuple):
    """Attributes:
    state: weights by name, in the file's order.
    head: name of the last layer.
    redrawn: a new head, as the library draws it, by name.
    checkpoint: everything a training script saves.
    """

    state: State
    head: str
    redrawn: State
    checkpoint: dict[str, Any]


# -- models that learn --------------------------------------------------------------------------------------


class Task(NamedTuple):
    model: nn.Module
    loss: Callable[[nn.Module], Tensor]
    optimizer: Callable[[Any], torch.optim.Optimizer]
    head: str
    steps: int = 250


def _labels(x: Tensor, classes: int) -> Tensor:
    """What can be learnt from x: the sign pattern of a few of its sums."""
    flat = x.flatten(1)
    bits = [(flat[:, i::7].sum(1) > 0).long() << i for i in range(classes.bit_length() - 1)]
    return torch.stack(bits).sum(0)


def _classify(shape: tuple[int, ...], classes: int) -> Callable[[nn.Module], Tensor]:
    def loss(model: nn.Module) -> Tensor:
        x = torch.randn(32, *shape)
        return F.cross_entropy(model(x), _labels(x, classes))

    return loss


def mlp() -> Task:
    model = nn.Sequential()
    sizes = (32, 64, 64, 64)
    for i, (n, m) in enumerate(pairwise(sizes)):
        model.add_module(f"fc{i}", nn.Linear(n, m))
        model.add_module(f"bn{i}", nn.BatchNorm1d(m))
        model.add_module(f"act{i}", nn.ReLU())
    model.add_module("head", nn.Linear(64, 16))
    return Task(model, _classify((32,), 16), lambda p: torch.optim.Adam(p, 1e-3), "head")


class _Residual(nn.Module):
    def __init__(self, n: int, m: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(n, m, 3, padding=1, bias=False), nn.BatchNorm2d(m)
        self.conv2, self.bn2 = nn.Conv2d(m, m, 3, padding=1, bias=False), nn.BatchNorm2d(m)
        self.downsample = nn.Sequential(nn.Conv2d(n, m, 1, bias=False), nn.BatchNorm2d(m)) if n != m else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


def resnet() -> Task:
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(3, 32, 3, padding=1, bias=False))
    model.add_module("bn1", nn.BatchNorm2d(32))
    for i, (n, m) in enumerate(((32, 32), (32, 64), (64, 64)), 1):
        model.add_module(f"layer{i}", _Residual(n, m))
    model.add_module("pool", nn.AdaptiveAvgPool2d(1))
    model.add_module("flatten", nn.Flatten())
    model.add_module("fc", nn.Linear(64, 16))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return Task(model, _classify((3, 8, 8), 16), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=1e-4), "fc")


def _sequences() -> Tensor:
    """Counting up by a step of one's own, modulo 64: next tokens can be learnt."""
    start, step = torch.randint(0, 64, (16, 1)), torch.randint(1, 5, (16, 1))
    return (start + step * torch.arange(20)) % 64


def _next_token(model: nn.Module) -> Tensor:
    x = _sequences()
    return F.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())


class _Attention(nn.Module):
    def __init__(self, dim: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, 4, dim // 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).reshape(x.shape)
        x = x + self.proj(y)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class _Gpt(nn.Module):
    def __init__(self, dim: int = 64, layers: int = 4) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(64, dim), nn.Embedding(32, dim)
        self.h = nn.ModuleList(_Attention(dim, causal=True) for _ in range(layers))
        self.ln_f, self.lm_head = nn.LayerNorm(dim), nn.Linear(dim, 64, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        y = self.wte(x) + self.wpe(torch.arange(x.shape[1]))
        for block in self.h:
            y = block(y)
        out: Tensor = self.lm_head(self.ln_f(y))
        return out


def gpt() -> Task:
    return Task(_Gpt(), _next_token, lambda p: torch.optim.AdamW(p, 1e-3), "lm_head")


class _Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(64, 64), nn.LSTM(64, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.lstm(self.embedding(x))[0])
        return out


def lstm() -> Task:
    return Task(_Lstm(), _next_token, lambda p: torch.optim.Adam(p, 2e-3), "head", steps=150)


class _Vit(nn.Module):
    def __init__(self, dim: int = 64) -> None:
        super().__init__()
        self.cls_token, self.pos_embed = (
            nn.Parameter(torch.zeros(1, 1, dim)),
            nn.Parameter(torch.randn(1, 17, dim) * 0.02),
        )
        self.patch_embed = nn.Conv2d(3, dim, 4, 4)
        self.blocks = nn.ModuleList(_Attention(dim, causal=False) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patch_embed(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.cls_token.expand(len(y), 1, -1), y], 1) + self.pos_embed
        for block in self.blocks:
            y = block(y)
        out: Tensor = self.head(self.norm(y)[:, 0])
        return out


def vit() -> Task:
    return Task(_Vit(), _classify((3, 16, 16), 16), lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.05), "head")


def autoencoder() -> Task:
    model = nn.Sequential()
    for name, layer in {
        "conv1": nn.Conv2d(3, 32, 4, 2, 1), "bn1": nn.BatchNorm2d(32), "act1": nn.GELU(),
        "conv2": nn.Conv2d(32, 64, 4, 2, 1), "bn2": nn.BatchNorm2d(64), "act2": nn.GELU(),
        "up1": nn.ConvTranspose2d(64, 32, 4, 2, 1), "bn3": nn.BatchNorm2d(32), "act3": nn.GELU(),
        "up2": nn.ConvTranspose2d(32, 32, 4, 2, 1), "bn4": nn.BatchNorm2d(32), "act4": nn.GELU(),
        "out": nn.Conv2d(32, 3, 3, padding=1),
    }.items():  # fmt: skip
        model.add_module(name, layer)

    def loss(model: nn.Module) -> Tensor:
        x = F.interpolate(torch.randn(16, 3, 4, 4), 16)
        return F.mse_loss(model(x), x)

    return Task(model, loss, lambda p: torch.optim.AdamW(p, 1e-3), "out")


def discriminator() -> Task:
    """DCGAN's, N(0, 0.02), spread over real and false images."""
    model = nn.Sequential(
        nn.Conv2d(3, 32, 4, 2, 1, bias=False), nn.LeakyReLU(0.2), nn.Conv2d(32, 64, 4, 2, 1, bias=False),
        nn.BatchNorm2d(64), nn.LeakyReLU(0.2), nn.Conv2d(64, 96, 4, 2, 1, bias=False), nn.BatchNorm2d(96),
        nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(384, 32), nn.BatchNorm1d(32), nn.LeakyReLU(0.2), nn.Linear(32, 16),
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
    return Task(model, _classify((3, 16, 16), 16), lambda p: torch.optim.Adam(p, 2e-4, betas=(0.5, 0.999)), "12")


TASKS: Mapping[str, Callable[[], Task]] = {
    made.__name__: made for made in (mlp, resnet, gpt, lstm, vit, autoencoder, discriminator)
}


def _train(model: nn.Module, task: Task, parameters: list[nn.Parameter], steps: int) -> torch.optim.Optimizer:
    optimizer = task.optimizer(parameters)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        task.loss(model).backward()
        optimizer.step()
    return optimizer


@cache
def trained(name: str) -> Trained:
    """The model after some hundred steps; the same in every call."""
    torch.manual_seed(sum(map(ord, name)))
    task = TASKS[name]()
    optimizer = _train(task.model, task, list(task.model.parameters()), task.steps)
    state = _copied(task.model)
    head = task.model.get_submodule(task.head)
    head.reset_parameters()  # type: ignore[operator]
    redrawn = {f"{task.head}.{n}": t.detach().clone() for n, t in head.named_parameters()}
    checkpoint = {
        "epoch": 3, "model_state_dict": state, "optimizer_state_dict": optimizer.state_dict(),
    }  # fmt: skip
    return Trained(state, task.head, redrawn, checkpoint)


class _Lora(nn.Module):
    """As peft: A Kaiming with a=sqrt(5), B zeros, the base layer frozen."""

    def __init__(self, base: nn.Linear, rank: int = 16) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, base.out_features, bias=False)})
        nn.init.kaiming_uniform_(self.lora_A["default"].weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B["default"].weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))
        return out


#: Models with linear layers that an adapter can wrap.
ADAPTED = ("mlp", "gpt", "lstm", "vit", "discriminator")


@cache
def adapted(name: str) -> Trained:
    """A trained model with a trained adapter on each linear layer but the head."""
    torch.manual_seed(1 + sum(map(ord, name)))
    task = TASKS[name]()
    _train(task.model, task, list(task.model.parameters()), task.steps)
    for parameter in task.model.parameters():
        parameter.requires_grad = False
    wrapped = [n for n, m in task.model.named_modules() if isinstance(m, nn.Linear)]
    for path in wrapped:
        parent, _, leaf = path.rpartition(".")
        layer = task.model.get_submodule(path)
        assert isinstance(layer, nn.Linear)
        setattr(task.model.get_submodule(parent), leaf, _Lora(layer))
    _train(task.model, task, [p for p in task.model.parameters() if p.requires_grad], 120)
    return Trained(_copied(task.model), task.head, {}, {})


def _copied(model: nn.Module) -> State:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


# -- faults ---------------------------------------------------------------------------------------------------


class Planted(NamedTuple):
    """One fault in one file: the code that must be reported, and for which tensor (None: of the file)."""

    fault: str
    code: str
    tensor: str | None
    state: State


def _at(tensor: Tensor) -> int:
    """A position that is not at an edge."""
    return tensor.numel() * 5 // 13


def _with_one(value: float) -> Callable[[Tensor], None]:
    def plant(tensor: Tensor) -> None:
        tensor.view(-1)[_at(tensor)] = value

    return plant


def _flip(tensor: Tensor) -> None:
    """The highest bit of a float32 exponent, of a value below 1."""
    bits = tensor.view(-1).numpy().view(np.uint32)
    bits[int(np.abs(np.abs(tensor.view(-1).numpy()) - 0.01).argmin())] ^= np.uint32(1 << 30)


#: Fault -> (code, what it does to a weight in place).
IN_WEIGHTS: Mapping[str, tuple[str, Callable[[Tensor], object]]] = {
    "NaN": ("PI101", _with_one(math.nan)),
    "Inf": ("PI102", _with_one(math.inf)),
    "x1e6": ("PI201", lambda t: t.mul_(1e6)),
    "x1e-6": ("PI202", lambda t: t.mul_(1e-6)),
    "zeroed layer": ("PI203", lambda t: t.zero_()),
    "constant": ("PI204", lambda t: t.fill_(0.02)),
    "bit flipped": ("PI206", _flip),
    "zeroed row": ("PI207", lambda t: t[len(t) // 2].zero_()),
}


def is_weight(name: str, tensor: Tensor) -> bool:
    return tensor.dim() >= 2 and min(len(tensor), tensor[0].numel()) >= 16 and "lora" not in name


def is_table(name: str) -> bool:
    """A row of zeros in a table is padding."""
    return any(part in name for part in ("wte", "wpe", "embedding", "pos_embed"))


def in_weights(state: State) -> Iterator[Planted]:
    """Every fault in every weight."""
    for fault, (code, plant) in IN_WEIGHTS.items():
        for name, tensor in state.items():
            if not is_weight(name, tensor) or (fault == "zeroed row" and is_table(name)):
                continue
            changed = tensor.clone()
            plant(changed)
            yield Planted(fault, code, name, {**state, name: changed})


def in_vectors(state: State) -> Iterator[Planted]:
    """Faults in biases and in the scales of normalizations. A flipped bit of a value above 1 makes NaN or Inf."""
    for name, tensor in state.items():
        if tensor.dim() != 1 or not name.endswith((".weight", ".bias")):
            continue
        for fault in ("NaN", "Inf", "x1e6", "bit flipped"):
            code, plant = IN_WEIGHTS[fault]
            small = float(tensor.abs().min()) < 1
            if (fault == "bit flipped" and (len(tensor) < 64 or not small)) or (
                fault == "x1e6" and name.endswith("bias")
            ):
                continue
            changed = tensor.clone()
            plant(changed)
            yield Planted(f"{fault}, vector", code, name, {**state, name: changed})


def in_variances(state: State) -> Iterator[Planted]:
    for name, tensor in state.items():
        if name.endswith("running_var"):
            changed = tensor.clone()
            changed[len(changed) // 2] *= -1
            yield Planted("negative variance", "PI106", name, {**state, name: changed})


def in_heads(made: Trained) -> Iterator[Planted]:
    yield Planted("un-trained head", "PI302", f"{made.head}.weight", {**made.state, **made.redrawn})


def in_adapters(state: State) -> Iterator[Planted]:
    """B as it began: of all layers, and of one."""
    b = [name for name in state if ".lora_B." in name]
    zeros = {name: torch.zeros_like(state[name]) for name in b}
    yield Planted("LoRA B zero", "PI303", None, {**state, **zeros})
    if len(b) > 1:
        yield Planted("LoRA B zero", "PI303", b[1], {**state, b[1]: zeros[b[1]]})


def in_optimizer(made: Trained) -> Iterator[tuple[Planted, dict[str, Any]]]:
    """NaN in the optimizer's memory of one weight; with the whole checkpoint."""
    states = made.checkpoint["optimizer_state_dict"]["state"]
    for index in (0, len(states) - 1):
        for figure, tensor in states[index].items():
            if tensor.dim() == 0:
                continue
            changed = tensor.clone()
            changed.view(-1)[0] = math.nan
            memory = {**states, index: {**states[index], figure: changed}}
            optimizer = {**made.checkpoint["optimizer_state_dict"], "state": memory}
            name = f"optimizer_state_dict.state.{index}.{figure}"
            yield Planted("NaN in optimizer", "PI105", name, {}), {**made.checkpoint, "optimizer_state_dict": optimizer}


def planted(name: str) -> Iterator[Planted]:
    """All faults of one architecture that lie in its weights."""
    made = trained(name)
    yield from in_weights(made.state)
    yield from in_vectors(made.state)
    yield from in_variances(made.state)
    yield from in_heads(made)
    if name in ADAPTED:
        yield from in_adapters(adapted(name).state)


# -- Keras ----------------------------------------------------------------------------------------------------


@cache
def keras_trained() -> Any:
    import keras

    layers = keras.layers
    keras.backend.clear_session()
    keras.utils.set_random_seed(11)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)), layers.Conv2D(32, 3), layers.BatchNormalization(), layers.ReLU(),
            layers.Conv2D(48, 3), layers.BatchNormalization(), layers.ReLU(), layers.Flatten(),
            layers.Dense(64, activation="relu"), layers.Dense(16),
        ]
    )  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    x = torch.randn(2048, 8, 8, 3)
    model.fit(x.numpy(), _labels(x, 16).numpy(), batch_size=32, epochs=4, verbose=0)
    return model


def keras_planted(folder: Path) -> Iterator[tuple[Planted, Path]]:
    """Every fault in every kernel of the Keras model, saved as .keras; the model is left as it was."""
    import keras

    model = keras_trained()
    path = folder / "model.keras"

    def saved(variable: Any, changed: Any) -> Path:
        kept = keras.ops.convert_to_numpy(variable).copy()
        variable.assign(changed)
        model.save(path)
        variable.assign(kept)
        return path

    def name_of(layer: Any, leaf: str) -> str:
        return f"{layer.name}.{leaf}"

    for layer in model.layers:
        if hasattr(layer, "kernel"):
            values = keras.ops.convert_to_numpy(layer.kernel)
            for fault, (code, plant) in IN_WEIGHTS.items():
                # The units of a Keras layer are along the last axis.
                changed = torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 0)))
                plant(changed)
                yield (
                    Planted(fault, code, name_of(layer, "kernel"), {}),
                    saved(layer.kernel, np.moveaxis(changed.numpy(), 0, -1)),
                )
        elif hasattr(layer, "moving_variance"):
            variance = keras.ops.convert_to_numpy(layer.moving_variance).copy()
            variance[3] *= -1
            name = name_of(layer, "moving_variance")
            yield Planted("negative variance", "PI106", name, {}), saved(layer.moving_variance, variance)
    head = model.layers[-1]
    kept = [keras.ops.convert_to_numpy(variable).copy() for variable in head.weights]
    head.bias.assign(keras.ops.zeros_like(head.bias))
    redrawn = keras.initializers.GlorotUniform(seed=6)(head.kernel.shape)
    yield Planted("un-trained head", "PI302", name_of(head, "kernel"), {}), saved(head.kernel, redrawn)
    head.set_weights(kept)
