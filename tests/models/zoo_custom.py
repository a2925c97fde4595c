"""torch, with initializers that a project calls itself: copied from its code."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from models.zoo_register import architecture
from torch import Tensor, nn

init = nn.init


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
