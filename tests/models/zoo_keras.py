"""Keras: layers as they come, and every initializer by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.zoo_register import architecture


def sequential(shape: tuple[int, ...], *made: Any) -> Any:
    import keras

    return keras.Sequential([keras.Input(shape), *made])


def layers() -> Any:
    import keras

    return keras.layers


def dense_with(initializer: Callable[[], object]) -> Any:
    """A new initializer for each layer: one instance draws the same values again and again."""
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
