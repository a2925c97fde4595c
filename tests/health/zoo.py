"""New models as libraries make them: seeded, small, each with what was drawn into its weights.

`ARCHITECTURES` maps a name to its library and builder; `write` saves the model as its users would and returns the file
with the truth, by the name of the tensor. Initialisers that a project calls itself are copied from its code.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "torch")

import torch
from drawn import Drawn, fingerprint, watch_keras, watch_torch
from safetensors.torch import save_model
from torch import Tensor, nn

from inspectcli.formats import open_checkpoint
from inspectcli.values import read_array

init = nn.init
DTYPES = ("f32", "bf16")


class Fresh(NamedTuple):
    """A file of a new model, and what was drawn into its tensors; a tensor that was computed is left out."""

    path: Path
    drawn: Mapping[str, Drawn]


Builder = Callable[[], Any]
ARCHITECTURES: dict[str, tuple[str, Builder]] = {}


def architecture(library: str) -> Callable[[Builder], Builder]:
    def register(builder: Builder) -> Builder:
        ARCHITECTURES[builder.__name__] = library, builder
        return builder

    return register


def write(name: str, dtype: str, folder: Path) -> Fresh:
    """Build with a seed of its own and save: torch as .pt (f32) or .safetensors (bf16), Keras as .h5 or .keras.

    What was drawn is found again by its values, because writers rename tensors.
    """
    library, builder = ARCHITECTURES[name]
    folder.mkdir(parents=True, exist_ok=True)
    path, by_value = (_write_keras if library == "keras" else _write_torch)(
        library, builder, sum(map(ord, name)), dtype, folder
    )
    tensors = open_checkpoint(str(path)).tensors
    drawn = {t.name: d for t in tensors if t.numel and (d := by_value.get(fingerprint(read_array(t)))) is not None}
    return Fresh(path, drawn)


def _write_torch(
    library: str, builder: Builder, seed: int, dtype: str, folder: Path
) -> tuple[Path, Mapping[bytes, Drawn]]:
    torch.manual_seed(seed)
    with watch_torch() as seen:
        model = builder()
    drawn = [seen.of(tensor) for tensor in model.state_dict().values()]
    model = model.to(torch.bfloat16) if dtype == "bf16" else model
    values = [fingerprint(tensor.double().numpy()) for tensor in model.state_dict().values()]
    if library == "transformers":
        model.save_pretrained(folder)
        path = folder / "model.safetensors"
    elif dtype == "bf16":
        path = folder / "model.safetensors"
        save_model(model, str(path))
    else:
        path = folder / "model.pt"
        torch.save(model.state_dict(), path)
    return path, {value: d for value, d in zip(values, drawn, strict=True) if d is not None}


def _write_keras(
    library: str, builder: Builder, seed: int, dtype: str, folder: Path
) -> tuple[Path, Mapping[bytes, Drawn]]:
    import keras

    keras.utils.set_random_seed(seed)
    keras.backend.clear_session()
    keras.config.set_dtype_policy("bfloat16" if dtype == "bf16" else "float32")
    try:
        with watch_keras() as seen:
            model = builder()
    finally:
        keras.config.set_dtype_policy("float32")
    path = folder / ("model.keras" if dtype == "bf16" else "model.h5")  # in .h5, Keras loses the type bfloat16
    model.save(path)
    return path, seen


# -- torch, as its layers come ----------------------------------------------------------------------------


@architecture("torch")
def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 32))


@architecture("torch")
def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 64, 3),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.Conv2d(128, 128, 5, groups=2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 100),
    )


@architecture("torch")
def alexnet() -> nn.Module:
    net = nn.Module()
    net.features = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4), nn.ReLU(), nn.Conv2d(64, 96, 5), nn.ReLU(), nn.Conv2d(96, 128, 3), nn.ReLU()
    )
    net.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1152, 256), nn.ReLU(), nn.Linear(256, 100))
    return net


@architecture("torch")
def unet() -> nn.Module:
    def double(n: int, m: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(n, m, 3, padding=1, bias=False),
            nn.BatchNorm2d(m),
            nn.ReLU(),
            nn.Conv2d(m, m, 3, padding=1, bias=False),
            nn.BatchNorm2d(m),
            nn.ReLU(),
        )

    net = nn.Module()
    net.inc, net.down = double(3, 32), double(32, 64)
    net.up, net.conv = nn.ConvTranspose2d(64, 32, 2, stride=2), double(64, 32)
    net.outc = nn.Conv2d(32, 2, 1)
    return net


@architecture("torch")
def autoencoder() -> nn.Module:
    net = nn.Module()
    net.encoder = nn.Sequential(
        nn.Conv2d(1, 32, 4, 2), nn.ReLU(), nn.Conv2d(32, 96, 4, 2), nn.Flatten(), nn.Linear(384, 64)
    )
    net.decoder = nn.Sequential(nn.Linear(64, 384), nn.ConvTranspose2d(96, 32, 4, 2), nn.ConvTranspose2d(32, 1, 4, 2))
    return net


@architecture("torch")
def lstm_language_model() -> nn.Module:
    net = nn.Module()
    net.encoder, net.rnn = nn.Embedding(500, 96), nn.LSTM(96, 128, num_layers=2, dropout=0.1)
    net.decoder = nn.Linear(128, 500)
    return net


@architecture("torch")
def lstm_projected() -> nn.Module:
    net = nn.Module()
    net.rnn, net.out = nn.LSTM(80, 128, proj_size=64, num_layers=2), nn.Linear(64, 40)
    return net


@architecture("torch")
def gru_bidirectional() -> nn.Module:
    net = nn.Module()
    net.embed, net.gru = nn.Embedding(300, 64, padding_idx=0), nn.GRU(64, 96, bidirectional=True, batch_first=True)
    net.fc = nn.Linear(192, 20)
    return net


@architecture("torch")
def elman_rnn() -> nn.Module:
    net = nn.Module()
    net.rnn, net.cell, net.head = nn.RNN(64, 128, num_layers=2), nn.LSTMCell(128, 64), nn.Linear(64, 64)
    return net


@architecture("torch")
def seq2seq_attention() -> nn.Module:
    net = nn.Module()
    net.src, net.tgt = nn.Embedding(200, 64), nn.Embedding(220, 64)
    net.encoder, net.decoder = nn.GRU(64, 128, bidirectional=True), nn.GRU(64 + 256, 128)
    net.attention, net.out = nn.Linear(128 * 3, 128), nn.Linear(128, 220)
    return net


@architecture("torch")
def transformer_encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(128, 4, 256, batch_first=True)
    net = nn.Module()
    net.embedding, net.encoder, net.head = nn.Embedding(300, 128), nn.TransformerEncoder(layer, 2), nn.Linear(128, 300)
    return net


@architecture("torch")
def transformer_full() -> nn.Module:
    return nn.Transformer(96, 4, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=192)


@architecture("torch")
def attention_of_other_widths() -> nn.Module:
    net = nn.Module()
    net.cross = nn.MultiheadAttention(128, 4, kdim=96, vdim=64)
    net.own = nn.MultiheadAttention(128, 4, add_bias_kv=True)
    net.no_bias = nn.MultiheadAttention(64, 2, bias=False)
    return net


@architecture("torch")
def embedding_bag() -> nn.Module:
    net = nn.Module()
    net.embedding, net.fc = nn.EmbeddingBag(1000, 64, padding_idx=0), nn.Linear(64, 16)
    return net


@architecture("torch")
def bilinear() -> nn.Module:
    net = nn.Module()
    net.left, net.right = nn.Linear(64, 64), nn.Linear(64, 48)
    net.pair, net.out = nn.Bilinear(64, 48, 32), nn.Linear(32, 16)
    return net


@architecture("torch")
def depthwise_and_grouped() -> nn.Module:
    def block(n: int, m: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(n, n, 3, groups=n), nn.ReLU(), nn.Conv2d(n, m, 1), nn.Conv2d(m, m, 3, groups=4))

    return nn.Sequential(nn.Conv2d(3, 64, 3), block(64, 128), block(128, 128), nn.Linear(128, 64))


@architecture("torch")
def conv1d_audio() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(1, 64, 10, 5),
        nn.GroupNorm(8, 64),
        nn.GELU(),
        nn.Conv1d(64, 128, 8),
        nn.Conv1d(128, 128, 8, groups=8),
        nn.ConvTranspose1d(128, 64, 4, 2),
        nn.Linear(64, 64),
    )


@architecture("torch")
def conv3d_video() -> nn.Module:
    return nn.Sequential(nn.Conv3d(3, 32, 3), nn.BatchNorm3d(32), nn.Conv3d(32, 64, 3), nn.ConvTranspose3d(64, 32, 2))


@architecture("torch")
def prelu_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.PReLU(64), nn.Conv2d(64, 64, 3), nn.PReLU(), nn.Flatten(), nn.Linear(256, 64)
    )


@architecture("torch")
def weight_normalised() -> nn.Module:
    from torch.nn.utils.parametrizations import weight_norm

    return nn.Sequential(
        weight_norm(nn.Conv1d(64, 64, 3)), nn.ReLU(), weight_norm(nn.Conv1d(64, 64, 3, dilation=2)), nn.Linear(64, 64)
    )


@architecture("torch")
def mlp_mixer() -> nn.Module:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(96), nn.LayerNorm(96)
            self.tokens = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))
            self.channels = nn.Sequential(nn.Linear(96, 192), nn.GELU(), nn.Linear(192, 96))

    return nn.Sequential(nn.Conv2d(3, 96, 8, 8), *(Mixer() for _ in range(3)), nn.Linear(96, 64))


# -- torch, with initialisers that the project calls ------------------------------------------------------


def deep(width: int = 128, depth: int = 4) -> nn.Sequential:
    sizes = [64, *[width] * depth, 32]
    return nn.Sequential(*(layer for n, m in pairwise(sizes) for layer in (nn.Linear(n, m), nn.ReLU())))


def each(
    model: nn.Module, kinds: Any, weight: Callable[[Tensor], object], bias: Callable[[Tensor], object] = init.zeros_
) -> nn.Module:
    for module in model.modules():
        if isinstance(module, kinds):
            weight(module.weight)
            if module.bias is not None:
                bias(module.bias)
    return model


@architecture("torch")
def mlp_xavier_uniform() -> nn.Module:
    return each(deep(), nn.Linear, init.xavier_uniform_)


@architecture("torch")
def mlp_xavier_uniform_tanh() -> nn.Module:
    return each(deep(96), nn.Linear, lambda w: init.xavier_uniform_(w, init.calculate_gain("tanh")))


@architecture("torch")
def mlp_xavier_normal() -> nn.Module:
    return each(deep(), nn.Linear, init.xavier_normal_)


@architecture("torch")
def mlp_kaiming_uniform() -> nn.Module:
    return each(deep(), nn.Linear, lambda w: init.kaiming_uniform_(w, nonlinearity="relu"))


@architecture("torch")
def mlp_kaiming_normal() -> nn.Module:
    return each(deep(), nn.Linear, lambda w: init.kaiming_normal_(w, nonlinearity="relu"))


@architecture("torch")
def mlp_trunc_normal() -> nn.Module:
    return each(deep(), nn.Linear, lambda w: init.trunc_normal_(w, std=0.02))


@architecture("torch")
def ppo_orthogonal() -> nn.Module:
    """As cleanrl: gain sqrt(2), 0.01 for the policy, 1 for the value."""

    def layer(n: int, m: int, gain: float = math.sqrt(2)) -> nn.Module:
        made = nn.Linear(n, m)
        init.orthogonal_(made.weight, gain)
        init.constant_(made.bias, 0.0)
        return made

    net = nn.Module()
    net.critic = nn.Sequential(layer(64, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 1, 1.0))
    net.actor = nn.Sequential(layer(64, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 18, 0.01))
    return net


@architecture("torch")
def atari_orthogonal() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(4, 32, 8, 4), nn.Conv2d(32, 64, 4, 2), nn.Conv2d(64, 64, 3), nn.Flatten(), nn.Linear(1024, 256)
    )
    return each(net, (nn.Conv2d, nn.Linear), lambda w: init.orthogonal_(w, math.sqrt(2)))


@architecture("torch")
def lstm_orthogonal() -> nn.Module:
    """Recurrent weights orthogonal as a whole, input weights Xavier, as many projects do."""
    net = nn.Module()
    net.lstm, net.out = nn.LSTM(64, 96), nn.Linear(96, 64)
    for name, parameter in net.lstm.named_parameters():
        {"weight_i": init.xavier_uniform_, "weight_h": init.orthogonal_}.get(name[:8], init.zeros_)(parameter)
    return net


class Block(nn.Module):
    """torchvision's BasicBlock, or Bottleneck."""

    def __init__(self, n: int, m: int, bottleneck: bool = False) -> None:
        super().__init__()
        out = m * 4 if bottleneck else m
        sizes = [(n, m, 1), (m, m, 3), (m, out, 1)] if bottleneck else [(n, m, 3), (m, m, 3)]
        for i, (a, b, k) in enumerate(sizes, 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, k, padding=k // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        if n != out:
            self.downsample = nn.Sequential(nn.Conv2d(n, out, 1, 2, bias=False), nn.BatchNorm2d(out))


def resnet(bottleneck: bool, zero_init_residual: bool) -> nn.Module:
    """torchvision.models.ResNet.__init__: kaiming_normal_ fan_out, ones and zeros, the last gamma 0."""
    net, grown = nn.Module(), 4 if bottleneck else 1
    net.conv1, net.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
    net.layer1 = nn.Sequential(Block(64, 64, bottleneck), Block(64 * grown, 64, bottleneck))
    net.layer2 = nn.Sequential(Block(64 * grown, 128, bottleneck), Block(128 * grown, 128, bottleneck))
    net.fc = nn.Linear(128 * grown, 100)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            init.constant_(module.weight, 1)
            init.constant_(module.bias, 0)
    if zero_init_residual:
        for module in net.modules():
            if isinstance(module, Block):
                init.constant_((module.bn3 if bottleneck else module.bn2).weight, 0)
    return net


@architecture("torch")
def resnet18() -> nn.Module:
    return resnet(bottleneck=False, zero_init_residual=False)


@architecture("torch")
def resnet18_zero_residual() -> nn.Module:
    return resnet(bottleneck=False, zero_init_residual=True)


@architecture("torch")
def resnet50_zero_residual() -> nn.Module:
    return resnet(bottleneck=True, zero_init_residual=True)


@architecture("torch")
def vgg() -> nn.Module:
    """torchvision.models.VGG: kaiming_normal_ fan_out, N(0, 0.01) for the classifier."""
    net = nn.Module()
    net.features = nn.Sequential(
        nn.Conv2d(3, 64, 3),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3),
        nn.ReLU(),
        nn.Conv2d(128, 128, 3),
    )
    net.classifier = nn.Sequential(
        nn.Linear(2048, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 100)
    )
    each(net, nn.Conv2d, lambda w: init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"))
    return each(net, nn.Linear, lambda w: init.normal_(w, 0, 0.01))


@architecture("torch")
def mobilenet_v2() -> nn.Module:
    """torchvision.models.MobileNetV2: kaiming_normal_ fan_out, N(0, 0.01) for the classifier."""

    def block(n: int, m: int) -> nn.Module:
        wide = 4 * n
        return nn.Sequential(
            nn.Conv2d(n, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.Conv2d(wide, wide, 3, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.Conv2d(wide, m, 1, bias=False),
            nn.BatchNorm2d(m),
        )

    net = nn.Module()
    net.features = nn.Sequential(nn.Conv2d(3, 32, 3, bias=False), block(32, 64), block(64, 64), block(64, 96))
    net.classifier = nn.Sequential(nn.Dropout(), nn.Linear(96, 100))
    each(net, nn.Conv2d, lambda w: init.kaiming_normal_(w, mode="fan_out"))
    return each(net, nn.Linear, lambda w: init.normal_(w, 0, 0.01))


@architecture("torch")
def densenet() -> nn.Module:
    """torchvision.models.DenseNet: kaiming_normal_, torch's own for the classifier except its bias."""
    net = nn.Module()
    net.features = nn.Sequential(
        nn.Conv2d(3, 64, 7, bias=False),
        nn.BatchNorm2d(64),
        nn.Conv2d(64, 128, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.Conv2d(128, 32, 3, bias=False),
        nn.BatchNorm2d(96),
        nn.Conv2d(96, 128, 1, bias=False),
    )
    net.classifier = nn.Linear(128, 100)
    each(net, nn.Conv2d, init.kaiming_normal_)
    init.constant_(net.classifier.bias, 0)
    return net


@architecture("torch")
def efficientnet() -> nn.Module:
    """torchvision.models.EfficientNet: convolutions kaiming fan_out, the classifier U(±1/sqrt(fan_out))."""
    net = nn.Module()
    net.features = nn.Sequential(
        nn.Conv2d(3, 32, 3, bias=False),
        nn.BatchNorm2d(32),
        nn.Conv2d(32, 128, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.Conv2d(128, 128, 3, groups=128, bias=False),
        nn.Conv2d(128, 96, 1, bias=False),
        nn.Conv2d(96, 320, 1, bias=False),
    )
    net.classifier = nn.Sequential(nn.Dropout(), nn.Linear(320, 100))
    each(net, nn.Conv2d, lambda w: init.kaiming_normal_(w, mode="fan_out"))
    return each(net, nn.Linear, lambda w: init.uniform_(w, -1 / math.sqrt(w.shape[0]), 1 / math.sqrt(w.shape[0])))


@architecture("torch")
def inception() -> nn.Module:
    """torchvision.models.Inception3: truncated normal 0.1 cut at ±2 of itself, not of the deviation."""
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, bias=False),
        nn.BatchNorm2d(32),
        nn.Conv2d(32, 64, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.Conv2d(64, 80, 1, bias=False),
        nn.BatchNorm2d(80),
        nn.Conv2d(80, 96, 3, bias=False),
        nn.Linear(96, 100),
    )
    return each(net, (nn.Conv2d, nn.Linear), lambda w: init.trunc_normal_(w, 0.0, 0.1, -2, 2))


@architecture("torch")
def convnext() -> nn.Module:
    """torchvision.models.ConvNeXt: trunc_normal_(0.02), zero biases, layer scale 1e-6."""

    class ConvNext(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.block = nn.Sequential(
                nn.Conv2d(n, n, 7, padding=3, groups=n),
                nn.LayerNorm(n),
                nn.Linear(n, 4 * n),
                nn.GELU(),
                nn.Linear(4 * n, n),
            )
            self.layer_scale = nn.Parameter(torch.ones(n, 1, 1) * 1e-6)

    net = nn.Module()
    net.features = nn.Sequential(
        nn.Conv2d(3, 64, 4, 4), ConvNext(64), ConvNext(64), nn.Conv2d(64, 96, 2, 2), ConvNext(96)
    )
    net.classifier = nn.Sequential(nn.LayerNorm(96), nn.Flatten(), nn.Linear(96, 100))
    return each(net, (nn.Conv2d, nn.Linear), lambda w: init.trunc_normal_(w, std=0.02))


class ViTBlock(nn.Module):
    """Names as in timm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.qkv, self.attn.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)


def vit(dim: int = 96) -> nn.Module:
    net = nn.Module()
    net.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
    net.pos_embed = nn.Parameter(torch.randn(1, 65, dim) * 0.02)
    net.patch_embed = nn.Module()
    net.patch_embed.proj = nn.Conv2d(3, dim, 8, 8)
    net.blocks = nn.ModuleList(ViTBlock(dim) for _ in range(3))
    net.norm, net.head = nn.LayerNorm(dim), nn.Linear(dim, 100)
    init.trunc_normal_(net.pos_embed, std=0.02)
    init.normal_(net.cls_token, std=1e-6)
    return net


@architecture("torch")
def vit_timm() -> nn.Module:
    """timm init_weights_vit_timm: trunc_normal_(0.02) for linear layers, the patch embedding as torch makes it."""
    return each(vit(), nn.Linear, lambda w: init.trunc_normal_(w, std=0.02))


@architecture("torch")
def vit_jax() -> nn.Module:
    """timm init_weights_vit_jax: Xavier, a head of zeros, the patch embedding LeCun normal cut at two deviations."""
    net = each(vit(), nn.Linear, init.xavier_uniform_)
    for name, module in net.named_modules():
        if ".mlp." in name:
            init.normal_(module.bias, std=1e-6)
    init.zeros_(net.head.weight)
    std = math.sqrt(1 / (3 * 64)) / 0.87962566103423978
    init.trunc_normal_(net.patch_embed.proj.weight, std=std, a=-2 * std, b=2 * std)
    init.zeros_(net.patch_embed.proj.bias)
    return net


@architecture("torch")
def vit_moco() -> nn.Module:
    """timm init_weights_vit_moco: query, key and value each have a third of the fused matrix's outputs."""
    net = vit()
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            if "qkv" in name:
                bound = math.sqrt(6.0 / float(module.weight.shape[0] // 3 + module.weight.shape[1]))
                init.uniform_(module.weight, -bound, bound)
            else:
                init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
    return net


@architecture("torch")
def dcgan_generator() -> nn.Module:
    """The PyTorch tutorial: N(0, 0.02) for convolutions, N(1, 0.02) for BatchNorm."""
    net = nn.Sequential(
        nn.ConvTranspose2d(100, 128, 4, 1, 0, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 3, 4, bias=False),
    )
    return dcgan(net)


@architecture("torch")
def dcgan_discriminator() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(3, 64, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 4, 2, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2),
        nn.Conv2d(128, 128, 4, 2, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.Conv2d(128, 1, 4, bias=False),
    )
    return dcgan(net)


def dcgan(net: nn.Module) -> nn.Module:
    for module in net.modules():
        name = module.__class__.__name__
        if name.find("Conv") != -1:
            init.normal_(module.weight.data, 0.0, 0.02)
        elif name.find("BatchNorm") != -1:
            init.normal_(module.weight.data, 1.0, 0.02)
            init.constant_(module.bias.data, 0)
    return net


@architecture("torch")
def nano_gpt() -> nn.Module:
    """nanoGPT: N(0, 0.02), residual projections 0.02/sqrt(2 n_layer), embedding and head tied, no config beside it."""
    layers, dim = 4, 128

    def block() -> nn.Module:
        made = nn.Module()
        made.ln_1, made.ln_2, made.attn, made.mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.Module(), nn.Module()
        made.attn.c_attn, made.attn.c_proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        made.mlp.c_fc, made.mlp.c_proj = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        return made

    net = nn.Module()
    net.transformer = nn.ModuleDict(
        {
            "wte": nn.Embedding(256, dim),
            "wpe": nn.Embedding(64, dim),
            "h": nn.ModuleList(block() for _ in range(layers)),
            "ln_f": nn.LayerNorm(dim),
        }
    )
    net.lm_head = nn.Linear(dim, 256, bias=False)
    net.transformer.wte.weight = net.lm_head.weight
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=0.02)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
    for name, parameter in net.named_parameters():
        if name.endswith("c_proj.weight"):
            init.normal_(parameter, mean=0.0, std=0.02 / math.sqrt(2 * layers))
    return net


@architecture("torch")
def fairseq_transformer() -> nn.Module:
    """fairseq: embeddings N(0, 1/sqrt(dim)) with a padding row, layers Xavier, query, key, value with 1/sqrt(2)."""
    dim = 128

    def linear(n: int, m: int, gain: float = 1.0) -> nn.Linear:
        made = nn.Linear(n, m)
        init.xavier_uniform_(made.weight, gain)
        init.constant_(made.bias, 0.0)
        return made

    def block() -> nn.Module:
        made = nn.Module()
        made.self_attn = nn.ModuleDict({f"{x}_proj": linear(dim, dim, 1 / math.sqrt(2)) for x in "qkv"})
        made.self_attn["out_proj"] = linear(dim, dim)
        made.fc1, made.fc2, made.final_layer_norm = linear(dim, 512), linear(512, dim), nn.LayerNorm(dim)
        return made

    net = nn.Module()
    net.embed_tokens = nn.Embedding(400, dim, padding_idx=1)
    init.normal_(net.embed_tokens.weight, mean=0, std=dim**-0.5)
    init.constant_(net.embed_tokens.weight[1], 0)
    net.layers = nn.ModuleList(block() for _ in range(2))
    return net


@architecture("torch")
def recommender() -> nn.Module:
    """Neural collaborative filtering: embeddings N(0, 0.01), layers Xavier, the prediction Kaiming."""
    net = nn.Module()
    for name, size in {"user_gmf": 300, "item_gmf": 400, "user_mlp": 300, "item_mlp": 400}.items():
        table = nn.Embedding(size, 64)
        init.normal_(table.weight, std=0.01)
        setattr(net, f"embed_{name}", table)
    net.layers = each(
        nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64)), nn.Linear, init.xavier_uniform_
    )
    net.predict = nn.Linear(128, 1)
    init.kaiming_uniform_(net.predict.weight, a=1, nonlinearity="sigmoid")
    return net


@architecture("torch")
def graph_network() -> nn.Module:
    """PyTorch Geometric: GCNConv's weight is Glorot uniform, its bias zeros."""
    net = nn.Module()
    net.convs = nn.ModuleList()
    for n, m in ((96, 128), (128, 128), (128, 64)):
        conv = nn.Module()
        conv.lin, conv.bias = nn.Linear(n, m, bias=False), nn.Parameter(torch.zeros(m))
        bound = math.sqrt(6.0 / (n + m))
        conv.lin.weight.data.uniform_(-bound, bound)
        net.convs.append(conv)
    return net


class LoraLinear(nn.Module):
    """peft.tuners.lora: A kaiming_uniform_(a=sqrt(5)), B zeros."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, base.out_features, bias=False)})
        init.kaiming_uniform_(self.lora_A["default"].weight, a=math.sqrt(5))
        init.zeros_(self.lora_B["default"].weight)


@architecture("torch")
def lora() -> nn.Module:
    net = nn.Module()
    net.layers = nn.ModuleList(
        nn.ModuleDict({"q_proj": LoraLinear(nn.Linear(128, 128), 16), "v_proj": LoraLinear(nn.Linear(128, 64), 16)})
        for _ in range(3)
    )
    return net


@architecture("torch")
def lora_adapter() -> nn.Module:
    """What peft writes: A and B only, under their long names."""
    net = nn.Module()
    net.base_model = nn.Module()
    net.base_model.model = nn.Module()
    net.base_model.model.layers = nn.ModuleList()
    for _ in range(3):
        layer = nn.Module()
        for name in ("q_proj", "v_proj"):
            made = nn.Module()
            made.lora_A, made.lora_B = nn.Linear(256, 16, bias=False), nn.Linear(16, 256, bias=False)
            init.kaiming_uniform_(made.lora_A.weight, a=math.sqrt(5))
            init.zeros_(made.lora_B.weight)
            setattr(layer, name, made)
        net.base_model.model.layers.append(layer)
    return net


# -- transformers, from configs -----------------------------------------------------------------------------

_SMALL = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256}


def pretrained(kind: str, config: str, **options: Any) -> nn.Module:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    made: nn.Module = getattr(transformers, kind)(getattr(transformers, config)(**options))
    return made


@architecture("transformers")
def gpt2() -> nn.Module:
    return pretrained("GPT2LMHeadModel", "GPT2Config", n_embd=96, n_layer=4, n_head=4, vocab_size=400, n_positions=64)


@architecture("transformers")
def gpt2_other_range() -> nn.Module:
    return pretrained(
        "GPT2LMHeadModel",
        "GPT2Config",
        n_embd=96,
        n_layer=3,
        n_head=4,
        vocab_size=400,
        n_positions=64,
        initializer_range=0.041,
    )


@architecture("transformers")
def bert() -> nn.Module:
    return pretrained("BertForMaskedLM", "BertConfig", vocab_size=500, max_position_embeddings=64, **_SMALL)


@architecture("transformers")
def roberta() -> nn.Module:
    return pretrained(
        "RobertaForSequenceClassification", "RobertaConfig", vocab_size=500, max_position_embeddings=66, **_SMALL
    )


@architecture("transformers")
def distilbert() -> nn.Module:
    return pretrained(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        vocab_size=500,
        dim=96,
        hidden_dim=256,
        n_layers=3,
        n_heads=4,
        max_position_embeddings=64,
    )


@architecture("transformers")
def t5() -> nn.Module:
    return pretrained(
        "T5ForConditionalGeneration",
        "T5Config",
        vocab_size=400,
        d_model=96,
        d_kv=24,
        d_ff=256,
        num_layers=2,
        num_heads=4,
    )


@architecture("transformers")
def t5_gated() -> nn.Module:
    return pretrained(
        "T5ForConditionalGeneration",
        "T5Config",
        vocab_size=400,
        d_model=128,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )


@architecture("transformers")
def llama() -> nn.Module:
    return pretrained("LlamaForCausalLM", "LlamaConfig", vocab_size=500, num_key_value_heads=4, **_SMALL)


@architecture("transformers")
def mistral() -> nn.Module:
    return pretrained(
        "MistralForCausalLM",
        "MistralConfig",
        vocab_size=500,
        num_key_value_heads=2,
        initializer_range=0.01,
        **{**_SMALL, "hidden_size": 128},
    )


@architecture("transformers")
def vit_hf() -> nn.Module:
    return pretrained("ViTForImageClassification", "ViTConfig", image_size=64, patch_size=8, num_labels=20, **_SMALL)


@architecture("transformers")
def whisper() -> nn.Module:
    return pretrained(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        vocab_size=400,
        d_model=96,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        max_source_positions=60,
        max_target_positions=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )


@architecture("transformers")
def clip() -> nn.Module:
    part = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 384}
    return pretrained(
        "CLIPModel",
        "CLIPConfig",
        projection_dim=64,
        text_config={**part, "vocab_size": 400, "max_position_embeddings": 48},
        vision_config={**part, "image_size": 64, "patch_size": 8},
    )


@architecture("transformers")
def wav2vec2() -> nn.Module:
    return pretrained(
        "Wav2Vec2ForCTC",
        "Wav2Vec2Config",
        vocab_size=40,
        conv_dim=(64, 64, 64),
        conv_kernel=(10, 3, 3),
        conv_stride=(5, 2, 2),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        **_SMALL,
    )


@architecture("transformers")
def deberta_v2() -> nn.Module:
    return pretrained(
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        vocab_size=500,
        max_position_embeddings=64,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=32,
        **_SMALL,
    )


# -- Keras --------------------------------------------------------------------------------------------------


def sequential(shape: tuple[int, ...], *made: Any) -> Any:
    import keras

    return keras.Sequential([keras.Input(shape), *made])


def layers() -> Any:
    import keras

    return keras.layers


def dense_with(initializer: Callable[[], object]) -> Any:
    """A new initialiser for each layer: one instance draws the same values again and again."""
    return sequential(
        (64,),
        *(layers().Dense(n, activation="relu", kernel_initializer=initializer()) for n in (128, 256, 128, 96, 20)),
    )


def _keras_dense(name: str, initializer: Callable[[], object]) -> None:
    def builder() -> Any:
        return dense_with(initializer)

    builder.__name__ = f"keras_dense_{name}"
    architecture("keras")(builder)


for _name in "glorot_uniform glorot_normal he_uniform he_normal lecun_uniform lecun_normal".split():
    _keras_dense(_name, lambda name=_name: name)  # type: ignore[misc]


def _random(kind: str) -> object:
    import keras

    return getattr(keras.initializers, kind)()


_keras_dense("orthogonal", lambda: _random("Orthogonal"))
_keras_dense("truncated_normal", lambda: _random("TruncatedNormal"))
_keras_dense("random_normal", lambda: _random("RandomNormal"))
_keras_dense("random_uniform", lambda: _random("RandomUniform"))


@architecture("keras")
def keras_cnn() -> Any:
    k = layers()
    return sequential(
        (32, 32, 3),
        k.Conv2D(64, 3),
        k.BatchNormalization(),
        k.ReLU(),
        k.Conv2D(96, 3, groups=2),
        k.MaxPooling2D(4),
        k.Conv2D(128, 3, use_bias=False),
        k.BatchNormalization(),
        k.Flatten(),
        k.Dense(64),
        k.PReLU(),
        k.Dense(32),
    )


@architecture("keras")
def keras_cnn_he() -> Any:
    k = layers()
    return sequential(
        (16, 16, 3),
        *(k.Conv2D(n, 3, kernel_initializer="he_normal", padding="same") for n in (64, 64, 96)),
        k.GlobalAveragePooling2D(),
        k.Dense(32),
    )


@architecture("keras")
def keras_mobilenet() -> Any:
    k = layers()
    return sequential(
        (16, 16, 64),
        k.DepthwiseConv2D(3),
        k.BatchNormalization(),
        k.Conv2D(96, 1),
        k.SeparableConv2D(128, 3),
        k.DepthwiseConv2D(3, depth_multiplier=2),
        k.GlobalAveragePooling2D(),
        k.Dense(40),
    )


@architecture("keras")
def keras_conv_transpose() -> Any:
    k = layers()
    return sequential(
        (8, 8, 64), k.Conv2DTranspose(96, 4, 2), k.BatchNormalization(), k.Conv2DTranspose(64, 4, 2), k.Conv2D(32, 3)
    )


@architecture("keras")
def keras_conv1d() -> Any:
    k = layers()
    return sequential((64, 32), k.Conv1D(64, 5), k.Conv1D(96, 3, dilation_rate=2), k.Conv1D(64, 3, padding="causal"))


@architecture("keras")
def keras_conv3d() -> Any:
    k = layers()
    return sequential((8, 8, 8, 16), k.Conv3D(32, 3), k.BatchNormalization(), k.Conv3D(64, 3))


@architecture("keras")
def keras_lstm() -> Any:
    k = layers()
    return sequential((20,), k.Embedding(400, 64), k.LSTM(96, return_sequences=True), k.LSTM(64), k.Dense(32))


@architecture("keras")
def keras_gru() -> Any:
    k = layers()
    return sequential((20,), k.Embedding(300, 64, mask_zero=True), k.GRU(96), k.Dense(24))


@architecture("keras")
def keras_simple_rnn() -> Any:
    k = layers()
    return sequential((20, 64), k.SimpleRNN(96, return_sequences=True), k.SimpleRNN(64), k.Dense(24))


@architecture("keras")
def keras_bidirectional() -> Any:
    k = layers()
    return sequential(
        (20,),
        k.Embedding(400, 64),
        k.Bidirectional(k.LSTM(64, return_sequences=True)),
        k.Bidirectional(k.GRU(64)),
        k.Dense(20),
    )


@architecture("keras")
def keras_transformer() -> Any:
    import keras

    k = layers()
    tokens = keras.Input((24,))
    x = k.Embedding(400, 96)(tokens)
    for _ in range(2):
        x = k.LayerNormalization()(x + k.MultiHeadAttention(4, 24)(x, x))
        x = k.LayerNormalization()(x + k.Dense(96)(k.Dense(192, activation="gelu")(x)))
    return keras.Model(tokens, k.Dense(400)(x))


def names(library: str = "") -> Iterator[str]:
    """Of all architectures, or those of one library."""
    return (name for name, (made_by, _) in ARCHITECTURES.items() if library in ("", made_by))
