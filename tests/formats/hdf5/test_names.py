"""Names of Keras variables: from weight_names, from numbers, and Keras's own way to spell a class."""

from __future__ import annotations

import os
from typing import Any

import pytest

from inspectcli.display.text import natural_key
from inspectcli.formats.hdf5.config import Layer, layers, optimizer_of, snake_case
from inspectcli.formats.hdf5.names import (
    Keras3Names,
    legacy_name,
    without_number,
)


@pytest.mark.parametrize(
    ("layer", "weight", "name"),
    [
        ("dense_1", "dense_1/kernel:0", "dense_1.kernel"),
        ("dense_1", "dense_1/kernel", "dense_1.kernel"),
        ("dense_1", "dense_1/dense_1_10/bias:0", "dense_1.bias"),
        ("conv2d_3", "conv2d_3_1/kernel:0", "conv2d_3.kernel"),
        ("dense", "sequential/dense/kernel", "dense.kernel"),
        ("my_block", "my_block/sequential/my_block/alpha", "my_block.alpha"),
        ("lstm", "lstm/lstm_cell/recurrent_kernel:0", "lstm.lstm_cell.recurrent_kernel"),
        ("lstm", "lstm_2/lstm_cell_4/bias:0", "lstm.lstm_cell_4.bias"),
        ("bidirectional", "bidirectional/forward_gru/gru_cell/kernel:0", "bidirectional.forward_gru.gru_cell.kernel"),
        ("model_1", "block1_conv1/kernel:0", "model_1.block1_conv1.kernel"),
        ("dense_1", "dense_1_W", "dense_1.W"),
        ("dense_1", "dense_1_W:0", "dense_1.W"),
        ("dense", "kernel:0", "dense.kernel"),
        ("dense", "dense_", "dense.dense_"),
        ("bn", "bn/moving_mean:12", "bn.moving_mean"),
        ("a", "/", "a./"),
    ],
)
def test_a_weight_name_is_shown_behind_its_layer(layer: str, weight: str, name: str) -> None:
    assert legacy_name(layer, weight) == name


def layer(path: str, class_name: str, name: str = "", **config: Any) -> Layer:
    return Layer(path, name or path.rpartition("/")[2], class_name, config)


M, V = (4, 3), (3,)
SQUARE = (4, 4)


@pytest.mark.parametrize(
    ("path", "shapes", "names"),
    [
        ("layers/dense", [M, V], "kernel bias"),
        ("layers/dense_12", [M], "kernel"),
        ("layers/dense", [V], "vars.0"),
        ("layers/dense", [M, V, V], "vars.0 vars.1 vars.2"),
        ("layers/conv1d_transpose_3", [(2, 4, 3), V], "kernel bias"),
        ("layers/separable_conv2d", [M, M, V], "depthwise_kernel pointwise_kernel bias"),
        ("layers/embedding", [M], "embeddings"),
        ("layers/batch_normalization_1", [V, V, V, V], "gamma beta moving_mean moving_variance"),
        ("layers/batch_normalization", [V, V, V], "vars.0 moving_mean moving_variance"),
        ("layers/batch_normalization", [V, V], "moving_mean moving_variance"),
        ("layers/layer_normalization", [V, V], "gamma beta"),
        ("layers/layer_normalization", [V], "vars.0"),
        ("layers/rms_normalization", [V], "scale"),
        ("layers/p_re_lu", [V], "alpha"),
        ("layers/normalization", [V, V, ()], "mean variance count"),
        ("layers/lstm/cell", [M, M, V], "kernel recurrent_kernel bias"),
        ("layers/gru_2/cell", [M, M, (2, 9)], "kernel recurrent_kernel bias"),
        ("layers/simple_rnn/cell", [M, M], "kernel recurrent_kernel"),
        ("layers/multi_head_attention/query_dense", [(4, 2, 3), (2, 3)], "kernel bias"),
        ("layers/multi_head_attention/_key_dense", [(4, 2, 3)], "kernel"),
        ("layers/dropout/seed_generator", [(2,)], "seed_generator_state"),
        ("layers/sequential/layers/dense_1", [M, V], "kernel bias"),
        ("layers/my_block", [V, V], "vars.0 vars.1"),
        ("layers/my_block", [M, V], "kernel bias"),
        ("layers/my_block", [M, (4,)], "vars.0 vars.1"),
        ("layers/my_block/proj", [SQUARE], "vars.0"),
        ("head", [M, V], "kernel bias"),
        ("", [V], "vars.0"),
        ("layers/dense", [], ""),
    ],
)
def test_variables_without_labels_and_config_go_by_the_path(path: str, shapes: list[Any], names: str) -> None:
    assert Keras3Names({}, []).variables(path, shapes) == names.split()


@pytest.mark.parametrize(
    ("class_name", "config", "shapes", "names"),
    [
        ("BatchNormalization", {"scale": False}, [V, V, V], "beta moving_mean moving_variance"),
        ("BatchNormalization", {"center": False}, [V, V, V], "gamma moving_mean moving_variance"),
        ("BatchNormalization", {"scale": False, "center": False}, [V, V], "moving_mean moving_variance"),
        ("BatchNormalization", {"scale": True, "center": True}, [V, V, V], "vars.0 vars.1 vars.2"),
        ("LayerNormalization", {"scale": False}, [V], "beta"),
        ("LayerNormalization", {"center": False, "scale": True}, [V], "gamma"),
        ("GroupNormalization", {"center": False}, [V], "gamma"),
        ("Dense", {"use_bias": False}, [M], "kernel"),
        ("MyBlock", {}, [M, V], "vars.0 vars.1"),
        ("MyDense", {}, [M, V, V], "vars.0 vars.1 vars.2"),
        ("Conv2D", {}, [(1, 1, 4, 3), V], "kernel bias"),
        ("Conv2D", {}, [V, (1, 1, 4, 3)], "vars.0 vars.1"),
    ],
)
def test_the_config_knows_better_than_the_path(class_name: str, config: Any, shapes: list[Any], names: str) -> None:
    path = "layers/whatever"
    assert Keras3Names({}, [layer(path, class_name, **config)]).variables(path, shapes) == names.split()


@pytest.mark.parametrize(
    ("path", "label", "shapes", "names"),
    [
        ("entry", "dense_7", [M, V], "kernel bias"),
        ("blocks/norm", "layer_normalization_2", [V, V], "gamma beta"),
        ("rnn/cell", "gru_cell", [M, M, V], "kernel recurrent_kernel bias"),
        ("layers/rnn/cell", "lstm_cell_3", [M, M, V], "kernel recurrent_kernel bias"),
        ("blocks/norm", "my_norm", [V, V], "vars.0 vars.1"),
    ],
)
def test_a_label_tells_the_class_of_a_part(path: str, label: str, shapes: list[Any], names: str) -> None:
    assert Keras3Names({path: label}, []).variables(path, shapes) == names.split()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("layers/dense", "stem"),
        ("layers/dense_1", "head"),
        ("layers/sequential/layers/dense", "block.up"),
        ("layers/dense_2", "dense_2"),
        ("layers/lstm/cell", "lstm.lstm_cell"),
        ("_layer_checkpoint_dependencies/dense", "dense"),
        ("", ""),
    ],
)
def test_an_owner_is_shown_by_the_names_of_the_config(path: str, name: str) -> None:
    known = [
        layer("layers/dense", "Dense", "stem"),
        layer("layers/dense_1", "Dense", "head"),
        layer("layers/sequential", "Sequential", "block"),
        layer("layers/sequential/layers/dense", "Dense", "up"),
    ]
    assert Keras3Names({}, known).owner(path) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("layers/dense", "stem"),
        ("layers/lstm/cell", "memory.lstm_cell"),
        ("blocks/dense_1", "b1"),
        ("layers/sequential/layers/dense", "block.up"),
    ],
)
def test_labels_of_the_file_give_the_names_and_lists_have_none(path: str, name: str) -> None:
    labels = {
        "layers/dense": "stem", "layers/lstm": "memory", "layers/lstm/cell": "lstm_cell", "blocks/dense_1": "b1",
        "layers/sequential": "block", "layers/sequential/layers/dense": "up",
    }  # fmt: skip
    assert Keras3Names(labels, []).owner(path) == name


def test_owners_come_in_the_order_of_the_config() -> None:
    known = [layer("layers/zeta", "Zeta"), layer("layers/dense_10", "Dense"), layer("layers/dense_2", "Dense")]
    owners = ["layers/dense_2", "layers/unknown_2", "layers/unknown_10", "layers/dense_10", "layers/zeta/part"]
    assert sorted(set(owners), key=Keras3Names({}, known).order) == [
        "layers/zeta/part", "layers/dense_10", "layers/dense_2", "layers/unknown_2", "layers/unknown_10",
    ]  # fmt: skip


def test_directions_come_in_their_order_even_if_the_config_tells_of_one() -> None:
    known = [layer("layers/bi", "Bidirectional", "bi"), layer("layers/bi/forward_layer", "LSTM", "lstm")]
    owners = ["layers/bi/forward_layer/cell", "layers/bi/backward_layer/cell"]
    names = Keras3Names({}, known)
    assert sorted(sorted(owners), key=names.order) == owners
    assert [names.owner(o) for o in owners] == ["bi.forward_lstm.lstm_cell", "bi.backward_lstm.lstm_cell"]


def test_without_a_config_owners_come_in_natural_order() -> None:
    owners = ["layers/conv1d", "layers/conv1d_2", "layers/conv1d_10", "layers/dense"]
    assert sorted(set(owners), key=Keras3Names({}, []).order) == owners


def test_the_parts_of_attention_come_in_order_of_creation() -> None:
    owners = [f"layers/mha/{part}" for part in ("query_dense", "key_dense", "value_dense", "output_dense")]
    assert sorted(sorted(owners), key=Keras3Names({}, []).order) == owners


@pytest.mark.parametrize(
    "texts", [["a_2", "a_10", "a_11"], ["a", "a_1", "b"], ["1", "2", "10"], ["x/9/y", "x/10/a"], ["", "a"]]
)
def test_natural_order_counts_numbers_as_numbers(texts: list[str]) -> None:
    assert sorted(set(texts), key=natural_key) == texts


@pytest.mark.parametrize(
    ("name", "base"),
    [("dense_12", "dense"), ("dense", "dense"), ("conv2d", "conv2d"), ("a_1_2", "a_1"), ("_1", ""), ("x_y", "x_y")],
)
def test_the_number_of_a_name_is_cut_off(name: str, base: str) -> None:
    assert without_number(name) == base


@pytest.mark.parametrize(
    ("layer_name", "weight", "inner", "name"),
    [
        ("conv1/conv", "conv1/conv/kernel:0", (), "conv1/conv.kernel"),
        ("encoder", "encoder_1/kernel:0", ("encoder_1",), "encoder.encoder_1.kernel"),
        ("encoder", "encoder/encoder_1/kernel:0", ("encoder_1",), "encoder.encoder_1.kernel"),
        ("dense_1", "dense_1/dense_1_10/bias:0", (), "dense_1.bias"),
    ],
)
def test_slashes_and_numbers_belong_to_the_names_of_layers(layer_name: str, weight: str, inner: Any, name: str) -> None:
    assert legacy_name(layer_name, weight, inner) == name


# -- optimizers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"optimizer_config": {"class_name": "Adam", "config": {}}}, "Adam"),
        ({"optimizer": {"class_name": "SGD", "module": "keras.optimizers"}}, "SGD"),
        ({"optimizer": {"class_name": "Custom>MyOptimizer"}}, "Custom>MyOptimizer"),
        ({"optimizer_config": {"class_name": "Custom>AdamW"}}, "AdamW"),
        ({"optimizer": "rmsprop"}, "rmsprop"),
        ({"optimizer": 3}, ""),
        ({"optimizer": {"class_name": 3}}, ""),
        ({}, ""),
        (None, ""),
        ([], ""),
    ],
)
def test_the_optimizer_of_a_config_is_named(config: object, name: str) -> None:
    assert optimizer_of(config).class_name == name


# -- configs --------------------------------------------------------------------------------------------


def node(class_name: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, **config}}


def test_layers_of_a_class_are_counted_in_their_order() -> None:
    model = node(
        "Sequential", "m", layers=[node("Dense", "b"), node("Conv2D", "c"), node("Dense", "a"), node("Dense", "z")]
    )
    assert [(x.path, x.name, x.class_name) for x in layers(model)] == [
        ("layers/dense", "b", "Dense"), ("layers/conv2d", "c", "Conv2D"), ("layers/dense_1", "a", "Dense"),
        ("layers/dense_2", "z", "Dense"),
    ]  # fmt: skip


def test_layers_inside_others_stand_below_them() -> None:
    inner = node("Sequential", "block", layers=[node("Dense", "up")])
    both = node("Bidirectional", "both", layer=node("GRU", "forward_gru"), backward_layer=node("GRU", "backward_gru"))
    timed = node("TimeDistributed", "timed", layer=node("Dense", "each"))
    model = node("Functional", "m", layers=[inner, both, timed])
    assert [(x.path, x.name) for x in layers(model)] == [
        ("layers/sequential", "block"), ("layers/sequential/layers/dense", "up"), ("layers/bidirectional", "both"),
        ("layers/bidirectional/forward_layer", "forward_gru"), ("layers/bidirectional/backward_layer", "backward_gru"),
        ("layers/time_distributed", "timed"), ("layers/time_distributed/layer", "each"),
    ]  # fmt: skip


def test_a_sequential_model_of_keras_2_2_is_a_list() -> None:
    assert [
        x.name for x in layers({"class_name": "Sequential", "config": [node("Dense", "a"), node("Dense", "b")]})
    ] == ["a", "b"]


@pytest.mark.parametrize(
    "config",
    [None, [], 3, "x", {}, {"config": None}, {"config": {"layers": 3}},
         {"config": {"layers": [None, 3, {}, {"config": 1}]}}],
)  # fmt: skip
def test_a_config_without_layers_has_none(config: object) -> None:
    assert list(layers(config)) == []


# -- Keras's own spelling -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("keras")


def test_every_layer_of_keras_is_spelled_as_keras_spells_it(keras: Any) -> None:
    from keras.src.utils.naming import to_snake_case

    names = [name for name in dir(keras.layers) if name[0].isupper()]
    assert len(names) > 100
    for name in names:
        assert snake_case(name) == to_snake_case(name)


@pytest.mark.parametrize(
    "name",
    ["MyBlock2D", "ABCNet", "HTTPServer2Go", "_Private", "a", "", "X", "XYZ", "snake_case", "With Space", "A-b.C",
         "LSTMv2",
     "Größe", "Conv2DTranspose1x1", "PReLU", "9Lives", "aBC", "ResNet50V2", "__init__"],
)  # fmt: skip
def test_unusual_classes_are_spelled_as_keras_spells_them(name: str, keras: Any) -> None:
    from keras.src.utils.naming import to_snake_case

    assert snake_case(name) == to_snake_case(name)
