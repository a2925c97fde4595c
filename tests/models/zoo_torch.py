"""torch, as its layers come."""

from __future__ import annotations

from models.zoo_register import architecture
from torch import nn


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
def weight_normalized() -> nn.Module:
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
