"""Keras files of every kind: names and values as Keras has them, and configs that would act are hazards."""

from __future__ import annotations

import io
import itertools
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ["KERAS_BACKEND"] = "torch"
h5py = pytest.importorskip("h5py")
keras = pytest.importorskip("keras")
layers = keras.layers

from inspectcli.commands.diff.run import diff  # noqa: E402
from inspectcli.commands.inspect.run import inspect_path, totals  # noqa: E402
from inspectcli.errors import DamagedFileError, LimitError, PinspectError, TruncatedFileError, UnsafeFileError  # noqa: E402
from inspectcli.formats import open_checkpoint  # noqa: E402
from inspectcli.formats.hdf5.config import risks  # noqa: E402
from inspectcli.tensors.codecs import RAW  # noqa: E402
from inspectcli.tensors.model import Checkpoint, Kind  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

Array = np.ndarray[Any, Any]
SUFFIXES = (".keras", ".weights.h5", ".h5")


@keras.saving.register_keras_serializable("my_package")
class Scaled(layers.Layer):
    """A weight of its own, one that is not trained, and a layer inside."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inner = layers.Dense(3, name="projection")

    def build(self, shape: Any) -> None:
        self.calls = self.add_weight(shape=(), name="calls", trainable=False)
        self.alpha = self.add_weight(shape=(shape[-1],), name="alpha")
        self.inner.build(shape)

    def call(self, x: Any) -> Any:
        return self.inner(x * self.alpha)


@keras.saving.register_keras_serializable("my_package")
class Subclassed(keras.Model):
    """Layers under attributes, and in a list."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.entry = layers.Dense(4, name="first")
        self.blocks = [layers.Dense(4, name=f"block_{i}") for i in range(12)]

    def call(self, x: Any) -> Any:
        x = self.entry(x)
        for block in self.blocks:
            x = block(x)
        return x


def dense() -> Any:
    return keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(4, use_bias=False), layers.Dense(2)])


def many() -> Any:
    """More than ten layers of a class: the alphabet puts `dense_10` before `dense_2`."""
    return keras.Sequential([keras.Input((3,)), *(layers.Dense(3) for _ in range(12))])


def named() -> Any:
    """Names of the user's, which sort in another order than the layers."""
    return keras.Sequential([keras.Input((3,)), layers.Dense(3, name="zeta"), layers.Dense(3, name="alpha")])


def convolutions() -> Any:
    return keras.Sequential(
        [
            keras.Input((12, 12, 2)),
            layers.Conv2D(3, 2),
            layers.DepthwiseConv2D(2),
            layers.SeparableConv2D(4, 2),
            layers.Conv2DTranspose(3, 2),
            layers.BatchNormalization(),
            layers.LayerNormalization(),
            layers.GroupNormalization(3),
            layers.PReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Reshape((3, 1)),
            layers.Conv1D(2, 2, use_bias=False),
            layers.RMSNormalization(),
        ]
    )


def norms() -> Any:
    x = y = keras.Input((4,))
    for scale in (True, False):
        for center in (True, False):
            y = layers.BatchNormalization(scale=scale, center=center)(y)
    return keras.Model(x, y)


def recurrent() -> Any:
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(7, 4),
            layers.LSTM(3, return_sequences=True),
            layers.GRU(3, return_sequences=True, name="middle"),
            layers.Bidirectional(layers.LSTM(2, return_sequences=True)),
            layers.Bidirectional(layers.GRU(2, return_sequences=True), name="both"),
            layers.SimpleRNN(2),
        ]
    )


def attention() -> Any:
    x = keras.Input((4, 6))
    y = layers.MultiHeadAttention(2, 3)(x, x)
    return keras.Model(x, layers.MultiHeadAttention(2, 3, use_bias=False, name="second")(y, x))


def nested() -> Any:
    block = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="up"), layers.Dense(4)], name="block")
    x = keras.Input((4,))
    inner = keras.Model(x, layers.Dense(4, name="deep")(block(x)), name="inner")
    x = keras.Input((4,))
    return keras.Model(x, layers.Dense(2, name="head")(inner(layers.Dense(4, name="stem")(x))))


def custom() -> Any:
    return keras.Sequential([keras.Input((4,)), Scaled(), layers.Dense(2)])


def subclassed() -> Any:
    model = Subclassed()
    model.build((None, 4))
    return model


MODELS: dict[str, Callable[[], Any]] = {
    f.__name__: f for f in (dense, many, named, convolutions, norms, recurrent, attention, nested, custom, subclassed)
}
#: Variables of which only a config, or nothing at all, tells the name.
UNNAMED: dict[tuple[str, str], dict[str, str]] = {
    ("norms", ".weights.h5"): {
        "batch_normalization_1.gamma": "batch_normalization_1.vars.0",
        "batch_normalization_2.beta": "batch_normalization_2.vars.0",
    },
    ("custom", ".keras"): {"scaled.alpha": "scaled.vars.0", "scaled.calls": "scaled.vars.1"},
    ("custom", ".weights.h5"): {"scaled.alpha": "scaled.vars.0", "scaled.calls": "scaled.vars.1"},
}


def build(name: str) -> Any:
    """A model with weights that all differ."""
    keras.utils.clear_session()
    model = MODELS[name]()
    dice = np.random.default_rng(3)
    model.set_weights([dice.normal(size=w.shape).astype(w.dtype) for w in model.weights])
    return model


def save(model: Any, path: Path) -> Path:
    (model.save_weights if path.name.endswith(".weights.h5") else model.save)(path)
    return path


def shown(model: Any, weight: Any) -> str:
    """A variable's path as a user calls it: without the model's name.

    Keras leaves a functional model inside another out of the path; we name it.
    """
    holders = [x for x in model.layers if isinstance(x, keras.src.models.Functional)]
    holder = next((f"{x.name}." for x in holders if any(w is weight for w in x.weights)), "")
    return holder + weight.path.removeprefix(f"{model.name}/").replace("/", ".")


def values(model: Any) -> dict[str, Array]:
    return {shown(model, w): np.asarray(w.numpy()) for w in model.weights}


def same_values(checkpoint: Checkpoint, wanted: dict[str, Array]) -> None:
    got = {t.name: t for t in checkpoint if t.kind is not Kind.OPTIMIZER}
    assert sorted(got) == sorted(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(got[name].numpy(), array, strict=True)


# -- names and values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".keras", ".h5", pytest.param(".weights.h5", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MODELS)
def test_names_values_and_counts_are_those_of_keras(name: str, suffix: str, tmp_path: Path) -> None:
    model = build(name)
    model.compile(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 100), 0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    if name == "subclassed" and suffix == ".h5":
        suffix = ".weights.h5"  # Keras does not write it otherwise
    made = open_checkpoint(save(model, tmp_path / f"m{suffix}"))
    renamed = UNNAMED.get((name, suffix), {})
    wanted = {renamed.get(path, path): array for path, array in values(model).items()}
    same_values(made, wanted)
    assert made.hazards == ()
    assert name in ("custom", "subclassed") or made.foreign == ()
    assert totals(made.tensors).model_parameters == model.count_params()
    assert totals(made.tensors).optimizer_parameters == sum(int(np.prod(v.shape)) for v in model.optimizer.variables)
    if suffix != ".weights.h5" and name not in ("custom", "subclassed"):
        assert [t.name for t in made if t.kind is not Kind.OPTIMIZER] == [
            renamed.get(path, path) for path in values(model)
        ]
    if name != "custom":  # which of its weights are trained only its class knows
        assert {t.name for t in made if t.kind is Kind.BUFFER} == {shown(model, w) for w in model.non_trainable_weights}


def test_the_layers_class_is_told_where_the_config_tells_it(tmp_path: Path) -> None:
    made = open_checkpoint(save(build("nested"), tmp_path / "m.keras"))
    assert {t.layer for t in made if t.name.startswith(("head", "stem"))} == {"Dense"}


def test_the_writer_is_told(tmp_path: Path) -> None:
    model = build("dense")
    assert open_checkpoint(save(model, tmp_path / "m.keras")).writer == f"Keras {keras.__version__}"
    assert open_checkpoint(save(model, tmp_path / "m.h5")).writer == f"Keras {keras.__version__} (torch)"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_models_of_other_types_are_read(dtype: str, suffix: str, tmp_path: Path) -> None:
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype=dtype)])
    made = open_checkpoint(save(model, tmp_path / f"m{suffix}"))
    assert made["dense.kernel"].dtype.name == {"bfloat16": "bf16", "float16": "f16", "float64": "f64"}[dtype]
    wanted = keras.ops.convert_to_numpy(keras.ops.cast(model.weights[0], "float64"))
    np.testing.assert_array_equal(np.asarray(made["dense.kernel"].numpy(), np.float64), wanted)


# -- Keras before 3.15: no names in the file ------------------------------------------------------------


def without_names(weights: bytes) -> bytes:
    """The same weights file, without the attribute `name` of its groups."""
    held = io.BytesIO(weights)
    with h5py.File(held, "r+") as file:
        found: list[Any] = []
        file.visititems(lambda _, item: found.append(item) if "name" in item.attrs else None)
        for item in found:
            del item.attrs["name"]
        assert found
    return held.getvalue()


def rezip(path: Path, change: dict[str, Callable[[bytes], bytes]], method: int = zipfile.ZIP_STORED) -> Path:
    """The same archive with some members changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    target = path.with_name(f"changed_{path.name}")
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, change.get(name, lambda same: same)(data))
    return target


@pytest.mark.parametrize("name", ["dense", "many", "named", "convolutions", "norms", "nested"])
def test_without_names_in_the_file_the_config_gives_them(name: str, tmp_path: Path) -> None:
    model = build(name)
    path = rezip(save(model, tmp_path / "m.keras"), {"model.weights.h5": without_names})
    made = open_checkpoint(path)
    same_values(made, values(model))
    assert [t.name for t in made] == list(values(model))


@pytest.mark.parametrize("name", ["recurrent", "attention"])
def test_without_names_cells_and_parts_have_those_that_keras_gives_them(name: str, tmp_path: Path) -> None:
    model = build(name)
    made = open_checkpoint(rezip(save(model, tmp_path / "m.keras"), {"model.weights.h5": without_names}))
    same_values(made, values(model))
    assert [t.name for t in made] == list(values(model))


def test_weights_without_names_go_by_their_class(tmp_path: Path) -> None:
    model = build("dense")
    path = save(model, tmp_path / "m.weights.h5")
    path.write_bytes(without_names(path.read_bytes()))
    same_values(open_checkpoint(path), values(model))


# -- the optimizer --------------------------------------------------------------------------------------


def trained(name: str, optimizer: Any) -> Any:
    model = build(name)
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_variables)
    for i, variable in enumerate(optimizer.variables):
        if i > 1:
            variable.assign(np.full(variable.shape, float(i)))
    getattr(optimizer, "inner_optimizer", optimizer)._iterations.assign(77)
    return model


OPTIMIZERS = {
    "Adam": ("momentum", "velocity"), "AdamW": ("momentum", "velocity"), "Adamax": ("momentum", "norm"),
    "RMSprop": ("velocity",), "Adagrad": ("accumulator",), "Lion": ("momentum",),
    "Adadelta": ("accumulated_grad", "accumulated_delta_var"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["dense", "nested"])
def test_optimizer_variables_are_apart(name: str, suffix: str, tmp_path: Path) -> None:
    model = trained(name, keras.optimizers.Adam())
    report = inspect_path(str(save(model, tmp_path / f"m{suffix}")))
    rows = [row for row in report.tensors if row.kind is Kind.OPTIMIZER]
    assert all(row.name.startswith("optimizer.") for row in rows)
    assert len(rows) == len(model.optimizer.variables)
    assert report.totals is not None
    assert report.totals.model_parameters == model.count_params()
    assert report.totals.optimizer_parameters == sum(int(np.prod(v.shape)) for v in model.optimizer.variables)
    assert report.training.step == 77


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_slot_carries_the_name_of_its_variable(optimizer: str, tmp_path: Path) -> None:
    model = trained("dense", getattr(keras.optimizers, optimizer)())
    made = open_checkpoint(save(model, tmp_path / "m.keras"))
    assert made.training.optimizer == optimizer
    slots = [v for v in model.optimizer.variables if v.shape]
    names = [f"optimizer.{shown(model, w)}.{s}" for w in model.trainable_variables for s in OPTIMIZERS[optimizer]]
    by_name = {t.name: t.numpy() for t in made if t.kind is Kind.OPTIMIZER and t.shape}
    assert sorted(by_name) == sorted(names)
    for variable in slots:
        (name,) = [n for n in names if n.removeprefix("optimizer.").replace(".", "_") in variable.path]
        np.testing.assert_array_equal(by_name[name], np.asarray(variable.numpy()))


def test_slots_of_layers_that_are_not_trained_are_not_given_to_others(tmp_path: Path) -> None:
    model = build("dense")
    model.layers[0].trainable = False
    model.compile(keras.optimizers.Adam(), "mse")
    model.optimizer.build(model.trainable_variables)
    made = open_checkpoint(save(model, tmp_path / "m.keras"))
    assert not [t.name for t in made if t.kind is Kind.OPTIMIZER and t.name.startswith("optimizer.dense.")]
    assert sum(t.kind is Kind.OPTIMIZER for t in made) == len(model.optimizer.variables)


ALL_OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "nadam": lambda: keras.optimizers.Nadam(),
    "amsgrad": lambda: keras.optimizers.Adam(amsgrad=True),
    "ftrl": lambda: keras.optimizers.Ftrl(),
    "adafactor": lambda: keras.optimizers.Adafactor(),
    "centered": lambda: keras.optimizers.RMSprop(momentum=0.9, centered=True),
    "lamb": lambda: keras.optimizers.Lamb(),
    "muon": lambda: keras.optimizers.Muon(),
    "average": lambda: keras.optimizers.SGD(momentum=0.9, use_ema=True),
    "accumulated": lambda: keras.optimizers.Adam(gradient_accumulation_steps=7),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
    "schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 100)),
}


@pytest.mark.parametrize("optimizer", ALL_OPTIMIZERS)
def test_slots_of_every_optimizer_are_those_of_its_variables(optimizer: str, tmp_path: Path) -> None:
    model = trained("named", ALL_OPTIMIZERS[optimizer]())
    made = open_checkpoint(save(model, tmp_path / "m.keras"))
    values_of = {v.path.replace("/", "_"): np.asarray(v.numpy()) for v in model.optimizer.variables if v.shape}
    slots = [t for t in made if t.kind is Kind.OPTIMIZER and t.shape]
    assert len(slots) == sum(bool(v.shape) for v in model.optimizer.variables)
    for slot in slots:
        end = slot.name.removeprefix("optimizer.").replace(".", "_")
        if end.endswith(("_row", "_column")):  # Keras gives them no name of their own
            continue
        (path,) = [p for p in values_of if p.endswith(end)]
        np.testing.assert_array_equal(slot.numpy(), values_of[path])
    assert made.training.step == (11 if optimizer == "accumulated" else 77)
    assert made.training.optimizer == type(getattr(model.optimizer, "inner_optimizer", model.optimizer)).__name__
    if optimizer != "adafactor":  # Keras cannot write it: two datasets would have one name
        legacy = open_checkpoint(save(model, tmp_path / "m.h5"))
        assert {t.name for t in legacy if t.kind is Kind.OPTIMIZER} == {
            t.name for t in made if t.kind is Kind.OPTIMIZER
        }


@pytest.mark.parametrize("name", ["named", "recurrent", "attention", "nested"])
def test_one_model_of_one_moment_is_the_same_in_three_formats(name: str, tmp_path: Path) -> None:
    model = trained(name, keras.optimizers.Adam())
    paths = [str(save(model, tmp_path / f"m{suffix}")) for suffix in SUFFIXES]
    for a, b in itertools.combinations(paths, 2):
        assert diff(a, b).exit_code == 0


def test_names_that_say_a_position_are_no_names(tmp_path: Path) -> None:
    keras.utils.clear_session()
    names = ["dense_1", "dense_2", "dense"]
    model = keras.Sequential([keras.Input((3,)), *(layers.Dense(3, name=n) for n in names)])
    archive = rezip(save(model, tmp_path / "m.keras"), {"model.weights.h5": without_names})
    path = save(model, tmp_path / "m.weights.h5")
    path.write_bytes(without_names(path.read_bytes()))
    assert "no names of layers" in " ".join(open_checkpoint(path).notes)
    for other in (archive, save(model, tmp_path / "m.h5")):
        assert diff(str(other), str(path)).exit_code == 0


def shared_layer() -> Any:
    layer = layers.Dense(3, name="common")
    x = keras.Input((3,))
    inner = keras.Model(x, layer(x), name="sub")
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(2, name="last")(layer(inner(x))))


def spectral() -> Any:
    inner = layers.SpectralNormalization(layers.Dense(4, name="inner"), name="sn")
    return keras.Sequential([keras.Input((3,)), inner, layers.Dense(2, name="last")])


@pytest.mark.parametrize("make", [shared_layer, spectral])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_variable_that_is_written_twice_is_listed_once(make: Callable[[], Any], suffix: str, tmp_path: Path) -> None:
    keras.utils.clear_session()
    model = make()
    model.compile(keras.optimizers.Adam(), "mse")
    model.optimizer.build(model.trainable_variables)
    made = open_checkpoint(save(model, tmp_path / f"m{suffix}"))
    assert totals(made.tensors).model_parameters == model.count_params()
    if suffix != ".weights.h5":
        assert not [t.name for t in made if ".vars." in t.name]


def test_two_variables_of_one_name_with_other_values_are_both_listed(tmp_path: Path) -> None:
    path = save(shared_layer(), tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        file["model_weights/sub/common/kernel"][0, 0] += 1
    names = [t.name for t in open_checkpoint(path)]
    assert {"common.kernel", "sub.common.kernel"} <= set(names)
    assert "sub.common.bias" in names
    assert "common.bias" not in names


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_the_parts_of_quantized_layers_have_the_names_that_keras_gives_them(mode: str, tmp_path: Path) -> None:
    keras.utils.clear_session()
    x = keras.Input((5,), dtype="int32")
    y = layers.Dense(12, name="up")(layers.Embedding(20, 16, name="tok")(x))
    model = keras.Model(x, layers.Dense(4, name="head", use_bias=False)(y))
    model.quantize(mode)
    made = open_checkpoint(save(model, tmp_path / "m.keras"))
    assert {t.name for t in made} == {w.path.replace("/", ".") for w in model.weights}
    assert made["up.kernel"].kind is Kind.PARAMETER
    assert made["up.kernel_scale"].kind is Kind.QUANTIZATION


# -- several files, and folders -------------------------------------------------------------------------


def sharded(folder: Path) -> Path:
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input((24,)), *(layers.Dense(24, name=f"layer_{i}") for i in range(5))])
    folder.mkdir()
    model.save_weights(folder / "m.weights.json", max_shard_size=6e-6)
    model.save_weights(folder.parent / "one.weights.h5")
    assert len(list(folder.glob("*.h5"))) > 2
    return folder


def test_weights_in_several_files_are_one_checkpoint(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "shards")
    one = open_checkpoint(tmp_path / "one.weights.h5")
    for path in (folder, folder / "m.weights.json"):
        made = open_checkpoint(path)
        assert len(made) == len(one) == 10
        assert made.defects == ()
    assert diff(str(folder / "m.weights.json"), str(tmp_path / "one.weights.h5")).counts["identical"] == 10


def test_a_shard_that_is_missing_or_cut_is_said(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "shards")
    shard = folder / "m_00001.weights.h5"
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    with pytest.raises(TruncatedFileError) as caught:
        open_checkpoint(folder)
    assert caught.value.path == str(shard)
    shard.unlink()
    made = open_checkpoint(folder)
    assert [d.what for d in made.defects] == ["missing-shard"]
    assert "m_00001.weights.h5" in made.defects[0].message


@pytest.mark.parametrize("name", ["../x.weights.h5", "/etc/passwd", ".x.h5", ""])
def test_an_index_that_leads_out_of_its_folder_is_unsafe(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.weights.json").write_text(json.dumps({"weight_map": {"/layers/dense/vars": [name]}}))
    with pytest.raises(UnsafeFileError):
        open_checkpoint(tmp_path / "m.weights.json")


def test_an_unzipped_archive_is_the_archive(tmp_path: Path) -> None:
    path = save(trained("named", keras.optimizers.Adam()), tmp_path / "m.keras")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "m")
    made, zipped = open_checkpoint(tmp_path / "m"), open_checkpoint(path)
    assert open_checkpoint(tmp_path / "m" / "model.weights.h5").tensors == made.tensors
    assert [t.name for t in made] == [t.name for t in zipped]
    assert (made.format, made.writer, made.training) == (zipped.format, zipped.writer, zipped.training)
    assert diff(str(tmp_path / "m"), str(path)).exit_code == 0


# -- the archive ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nested"])
def test_a_deflated_archive_reads_the_same(name: str, tmp_path: Path) -> None:
    model = build(name)
    made = open_checkpoint(rezip(save(model, tmp_path / "m.keras"), {}, zipfile.ZIP_DEFLATED))
    same_values(made, values(model))
    assert {s.codec for t in made for s in t.segments} == {RAW}


def test_compressed_weights_inside_the_archive_are_read(tmp_path: Path) -> None:
    def compress(data: bytes) -> bytes:
        held = io.BytesIO(data)
        with h5py.File(held, "r+") as file:
            for i in (0, 2):
                array = file[f"layers/dense{f'_{i}' if i else ''}/vars/0"][()]
                del file[f"layers/dense{f'_{i}' if i else ''}/vars/0"]
                file.create_dataset(
                    f"layers/dense{f'_{i}' if i else ''}/vars/0", data=array, chunks=(2, 2), compression="gzip"
                )
        return held.getvalue()

    model = build("dense")
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        same_values(
            open_checkpoint(rezip(save(model, tmp_path / "m.keras"), {"model.weights.h5": compress}, method)),
            values(model),
        )


def test_an_archive_cut_anywhere_is_truncated(tmp_path: Path) -> None:
    path = save(build("dense"), tmp_path / "m.keras")
    data = path.read_bytes()
    for n in range(len(data) - 1, 100, -len(data) // 40):
        path.write_bytes(data[:n])
        with pytest.raises(TruncatedFileError):
            open_checkpoint(path)


@pytest.mark.parametrize(
    ("member", "content", "error_class", "message"),
    [
        ("model.weights.h5", b"nothing", DamagedFileError, "model.weights.h5 is no HDF5 file"),
        ("config.json", b'{"a":' * 500, LimitError, "nested more than"),
    ],
)
def test_a_broken_member_is_named(
    member: str, content: bytes, error_class: type[PinspectError], message: str, tmp_path: Path
) -> None:
    path = rezip(save(build("dense"), tmp_path / "m.keras"), {member: lambda _: content})
    with pytest.raises(error_class, match=message) as caught:
        open_checkpoint(path)
    assert caught.value.path == str(path)


def test_cut_weights_inside_a_whole_archive_say_how_many_bytes_are_missing(tmp_path: Path) -> None:
    path = rezip(save(build("dense"), tmp_path / "m.keras"), {"model.weights.h5": lambda data: data[:-500]})
    with pytest.raises(TruncatedFileError, match="500 bytes are missing"):
        open_checkpoint(path)


@pytest.mark.parametrize("config", [b"{broken", b"null", b'{"config": {"layers": [1]}}'])
def test_without_a_sound_config_the_weights_are_still_read(config: bytes, tmp_path: Path) -> None:
    model = build("dense")
    path = rezip(save(model, tmp_path / "m.keras"), {"config.json": lambda _: config})
    same_values(open_checkpoint(path), values(model))


# -- what a loader would run ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_class_of_the_user_s_own_is_named_and_no_hazard(suffix: str, tmp_path: Path) -> None:
    made = open_checkpoint(save(build("custom"), tmp_path / f"m{suffix}"))
    assert made.foreign == ("my_package>Scaled",)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_layer_is_a_hazard(suffix: str, tmp_path: Path) -> None:
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: x * 2, name="twice"), layers.Dense(2)])
    made = open_checkpoint(save(model, tmp_path / f"m{suffix}"))
    assert any("Lambda" in h.what and "'twice'" in h.what for h in made.hazards)
    assert {t.name for t in made} == {"dense.kernel", "dense.bias"}


def gadget(**node: object) -> dict[str, object]:
    return {"registered_name": None, "config": {"name": "g"}, **node}


GADGETS: dict[str, tuple[object, str]] = {
    "os.system": (gadget(module="os", class_name="system"), "os.system"),
    "os.system as a function": (
        gadget(module="builtins", class_name="function", config="system") | {"module": "os"}, "os.system"),
    "subprocess": (gadget(module="subprocess", class_name="Popen"), "subprocess.Popen"),
    "posix": (gadget(module="posix", class_name="system"), "posix.system"),
    "builtins.eval": (gadget(module="builtins", class_name="eval"), "eval"),
    "builtins.exec": (gadget(module="builtins", class_name="function", config="exec"), "exec"),
    "get_file": (gadget(module="keras.utils", class_name="function", config="get_file"), "get_file"),
    "get_file inside": (gadget(module="keras.src.utils.file_utils", class_name="function", config="get_file"),
         "get_file"),
    "enable_unsafe_deserialization": (
        gadget(module="keras.config", class_name="function", config="enable_unsafe_deserialization"),
        "enable_unsafe_deserialization"),
    "load_model": (gadget(module="keras.models", class_name="function", config="load_model"), "load_model"),
    "Lambda": (gadget(module="keras.layers", class_name="Lambda"), "Lambda"),
    "__lambda__": ({"class_name": "__lambda__", "config": {"value": "4wEAAAA="}}, "lambda"),
    "Lambda of Keras 2": ({"class_name": "Lambda", "config": {"name": "g", "function": ["4wE=", None, None]}},
         "Lambda"),
    "TorchModuleWrapper": (gadget(module="keras.layers", class_name="TorchModuleWrapper"), "TorchModuleWrapper"),
    "TFSMLayer": (gadget(module="keras.layers", class_name="TFSMLayer"), "TFSMLayer"),
}  # fmt: skip
PLACES: dict[str, Callable[[Any, object], None]] = {
    "a layer": lambda config, node: config["config"]["layers"].append(node),
    "an initializer": lambda config, node: config["config"]["layers"][1]["config"].update(kernel_initializer=node),
    "inside a layer": lambda config, node: config["config"]["layers"][1]["config"].update(layer={"deep": [node]}),
    "the compile config": lambda config, node: config.update(compile_config={"loss": node}),
    "the build config": lambda config, node: config.update(build_config={"x": node}),
}


def config_with(place: str, node: object) -> Any:
    config = json.loads(build("dense").to_json())
    PLACES[place](config, node)
    return config


@pytest.mark.parametrize("name", GADGETS)
def test_a_config_that_would_act_is_a_hazard(name: str) -> None:
    node, message = GADGETS[name]
    hazards, _ = risks(config_with("a layer", node), "config.json")
    assert any(message in h.what and h.where == "config.json" for h in hazards)


@pytest.mark.parametrize("place", PLACES)
def test_a_gadget_is_found_wherever_it_stands(place: str) -> None:
    hazards, _ = risks(config_with(place, GADGETS["os.system"][0]), "config.json")
    assert [h.what for h in hazards] == ["os.system would be imported and called by a loader"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(build("dense"), tmp_path_factory.mktemp("keras") / "plain.keras")


def test_a_gadget_in_an_archive_is_a_hazard_and_the_weights_are_read(plain: Path) -> None:
    config = json.dumps(config_with("the compile config", GADGETS["get_file"][0])).encode()
    made = open_checkpoint(rezip(plain, {"config.json": lambda _: config}))
    assert [(h.what, h.where) for h in made.hazards] == [
        ("keras.utils.get_file would be called by a loader", "config.json")
    ]
    same_values(made, values(build("dense")))


def test_a_gadget_in_an_h5_config_is_a_hazard(tmp_path: Path) -> None:
    path = save(build("dense"), tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        PLACES["a layer"](config, GADGETS["os.system"][0])
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["training_config"] = json.dumps({"loss": GADGETS["builtins.exec"][0]})
    made = open_checkpoint(path)
    assert sorted(h.where for h in made.hazards) == ["model_config", "training_config"]


def test_a_config_that_names_something_twice_is_not_trusted(plain: Path) -> None:
    path = rezip(plain, {"config.json": lambda data: b'{"module": "os", ' + data.lstrip()[1:]})
    made = open_checkpoint(path)
    (hazard,) = made.hazards
    assert "config.json names 'module' twice" in hazard.what
    assert hazard.kind == "layer"
    same_values(made, values(build("dense")))


def test_links_out_of_the_weights_in_an_archive_are_hazards(plain: Path) -> None:
    def link(data: bytes) -> bytes:
        held = io.BytesIO(data)
        with h5py.File(held, "r+") as file:
            file["layers/out"] = h5py.ExternalLink("/etc/passwd", "/")
        return held.getvalue()

    made = open_checkpoint(rezip(plain, {"model.weights.h5": link}))
    assert [(h.where, "/etc/passwd" in h.what) for h in made.hazards] == [("layers/out", True)]
