"""Checkpoints written here by torch, Lightning, Keras, transformers and OmegaConf: what was set is what is read."""

from __future__ import annotations

import argparse
import collections
import contextlib
import enum
import functools
import os
import pathlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import inspectcli
from inspectcli.commands.hparams.run import read_hparams
from inspectcli.hparams.base import HParamRow, Kind

#: 17 optimizers of torch with something set away from its default.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.03, "momentum": 0.8, "nesterov": True},
    "Adam": {"lr": 0.002, "betas": (0.8, 0.9), "eps": 1e-7},
    "AdamW": {"lr": 0.003, "weight_decay": 0.2},
    "NAdam": {"lr": 0.004},
    "RAdam": {"lr": 0.004},
    "Adamax": {"lr": 0.004},
    "Adagrad": {"lr": 0.004},
    "Adadelta": {"lr": 0.4},
    "RMSprop": {"lr": 0.004, "momentum": 0.7},
    "Rprop": {"lr": 0.004},
    "ASGD": {"lr": 0.004},
    "LBFGS": {"lr": 0.4},
    "Adafactor": {"lr": 0.004},
}

SCHEDULERS: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 2, "gamma": 0.5},
    "MultiStepLR": {"milestones": [2, 4], "gamma": 0.3},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 10, "eta_min": 1e-5},
    "CosineAnnealingWarmRestarts": {"T_0": 5, "T_mult": 2},
    "LinearLR": {"start_factor": 0.5, "total_iters": 4},
    "ConstantLR": {"factor": 0.5, "total_iters": 4},
    "PolynomialLR": {"total_iters": 10, "power": 2.0},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 20},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1},
    "ReduceLROnPlateau": {"factor": 0.2, "patience": 3},
}


def trained(name: str, **settings: Any) -> torch.optim.Optimizer:
    weight = torch.nn.Parameter(torch.ones(4, 3))
    optimizer: torch.optim.Optimizer = getattr(torch.optim, name)([weight], **settings)

    def closure() -> torch.Tensor:
        loss = (weight**2).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    return optimizer


def rows_of(path: Path) -> dict[str, list[HParamRow]]:
    found: dict[str, list[HParamRow]] = {}
    for row in read_hparams(str(path), neighbors=False).rows:
        found.setdefault(row.name or row.raw_key, []).append(row)
    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_class_and_settings(name: str, tmp_path: Path) -> None:
    torch.save({"optimizer": trained(name, **OPTIMIZERS[name]).state_dict()}, tmp_path / "c.pt")
    found = rows_of(tmp_path / "c.pt")
    assert [row.value for row in found["optimizer"]] == [name]
    assert found["learning_rate"][0].value == OPTIMIZERS[name]["lr"]
    assert found["learning_rate"][0].source.locator == "optimizer.param_groups[0]"
    for key, canonical in (("momentum", "momentum"), ("betas", "betas"), ("weight_decay", "weight_decay")):
        if key in OPTIMIZERS[name]:
            value = OPTIMIZERS[name][key]
            assert found[canonical][0].value == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_scheduler_class_and_current_rate(name: str, tmp_path: Path) -> None:
    optimizer = trained("SGD", lr=0.1, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **SCHEDULERS[name])
        for _ in range(3):
            scheduler.step(*([1.0] if name == "ReduceLROnPlateau" else []))
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "c.pt")
    found = rows_of(tmp_path / "c.pt")
    assert found["lr_scheduler"][0].value == name
    if "initial_lr" in optimizer.param_groups[0]:
        assert found["learning_rate.current"][0].value == pytest.approx(optimizer.param_groups[0]["lr"])
        # These two set the rates themselves, whatever the optimizer was made with.
        began = {"OneCycleLR": "lr_warmup_start", "CyclicLR": "lr_min"}.get(name, "learning_rate")
        assert found[began][0].value == optimizer.param_groups[0]["initial_lr"]
    if name == "MultiStepLR":
        assert found["lr_milestones"][0].value == [2, 4]


def test_a_schedule_that_keeps_no_first_rate_leaves_the_current_one(tmp_path: Path) -> None:
    optimizer = trained("SGD", lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    for _ in range(3):
        scheduler.step(1.0)
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "c.pt")
    found = rows_of(tmp_path / "c.pt")
    assert "learning_rate" not in found
    assert {row.value for row in found["learning_rate.current"]} == {optimizer.param_groups[0]["lr"]}


@pytest.mark.parametrize(("name", "key"), [("SGD", "momentum"), ("AdamW", "betas")])
def test_what_a_cycle_moves_is_not_what_was_set(name: str, key: str, tmp_path: Path) -> None:
    optimizer = trained(name, lr=0.1, **{key: 0.9 if key == "momentum" else (0.9, 0.99)})
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=9)
    scheduler.step()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(), "args": {"lr": 0.1}},
               tmp_path / "c.pt")  # fmt: skip
    hparams = read_hparams(tmp_path / "c.pt")
    assert key not in rows_of(tmp_path / "c.pt")
    assert f"{key}.current" in rows_of(tmp_path / "c.pt")
    assert (hparams["learning_rate"], hparams["max_lr"], hparams.findings) == (0.1, 0.3, ())


def test_schedules_in_sequence_are_one_schedule(tmp_path: Path) -> None:
    optimizer = trained("SGD", lr=0.4)
    schedules = torch.optim.lr_scheduler
    parts = [schedules.LinearLR(optimizer, 0.1, total_iters=5), schedules.CosineAnnealingLR(optimizer, 50)]
    scheduler = schedules.SequentialLR(optimizer, parts, milestones=[5])
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "c.pt")
    hparams = read_hparams(tmp_path / "c.pt")
    assert hparams["lr_scheduler"] == "SequentialLR: LinearLR, then CosineAnnealingLR"
    assert (hparams["learning_rate"], hparams["warmup_steps"]) == (0.4, 5)
    assert "max_steps" not in hparams


def test_rates_by_layer_did_not_move(tmp_path: Path) -> None:
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": rate} for rate in (1e-5, 1e-3)]
    held = {"optimizer": torch.optim.AdamW(groups).state_dict(), "cfg": {"lr": 1e-3}}
    torch.save(held, tmp_path / "c.pt")
    found = rows_of(tmp_path / "c.pt")
    assert [row.value for row in found["learning_rate"]] == [1e-5, 1e-3, 1e-3]
    assert "learning_rate.current" not in found


LEARNED = {"weight": torch.ones(2, 3), "lr": torch.tensor(0.5), "depth": torch.tensor([3.0])}


@pytest.mark.parametrize(
    "held",
    [
        {"lr": 0.1, "model": LEARNED},
        {"lr": 0.1, "anything": {"deeper": {"w": torch.ones(4)}, "lr": torch.tensor(0.5)}},
        {"lr": 0.1, "parts": [LEARNED, LEARNED]},
        {"lr": 0.1, "state": {"net": LEARNED}},
        {"lr": 0.1, "net": {"weight": torch.ones(1, 1), "lr": torch.ones(1)}},
        {"lr": 0.1, "args": {"class_weights": torch.ones(4)}, "w": torch.ones(2), "bias": torch.tensor([0.3])},
    ],
)
def test_what_was_learned_is_not_what_was_set(held: dict[str, Any], tmp_path: Path) -> None:
    torch.save(held, tmp_path / "c.pt")
    values = [row.value for row in read_hparams(tmp_path / "c.pt").rows]
    assert [value for value in values if isinstance(value, float)] == [0.1] * ("lr" in held)


def test_a_bare_state_dict_sets_nothing(tmp_path: Path) -> None:
    torch.save({"temperature": torch.tensor([1.5])}, tmp_path / "c.pt")
    assert read_hparams(tmp_path / "c.pt").rows == ()


def test_a_config_may_hold_tensors(tmp_path: Path) -> None:
    config = {"lr": torch.tensor(0.25), "class_weights": torch.ones(4)}
    torch.save({"config": config, "model": LEARNED}, tmp_path / "c.pt")
    assert dict(read_hparams(tmp_path / "c.pt")) == {"learning_rate": 0.25}


def test_parameter_groups_that_differ_are_all_told(tmp_path: Path) -> None:
    groups = [
        {"params": [torch.nn.Parameter(torch.ones(2))], "weight_decay": 0.1},
        {"params": [torch.nn.Parameter(torch.ones(2))], "weight_decay": 0.0, "lr": 1e-5},
    ]
    torch.save({"optimizer": torch.optim.AdamW(groups, lr=1e-3).state_dict()}, tmp_path / "c.pt")
    told = [(r.value, r.note, r.source.locator) for r in rows_of(tmp_path / "c.pt")["weight_decay"]]
    assert told == [
        (0.1, "", "optimizer.param_groups[0]"),
        (0.0, "group 2 of 2", "optimizer.param_groups[1]"),
    ]


def test_learning_rate_that_is_a_tensor(tmp_path: Path) -> None:
    torch.save({"optimizer": trained("Adam", lr=torch.tensor(0.25), capturable=False, foreach=False).state_dict()},
               tmp_path / "c.pt")  # fmt: skip
    assert read_hparams(tmp_path / "c.pt")["learning_rate"] == 0.25


def test_a_config_tells_the_configured_rate_and_the_group_the_current_one(tmp_path: Path) -> None:
    state = trained("AdamW", lr=1e-4).state_dict()
    torch.save({"optimizer": state, "config": {"learning_rate": 1e-3}, "iter_num": 5}, tmp_path / "ckpt.pt")
    found = read_hparams(tmp_path / "ckpt.pt")
    assert (found["learning_rate"], found.current("learning_rate")) == (1e-3, 1e-4)
    assert found.findings == ()
    assert found.current("step") == 1  # of the optimizer's state; nanoGPT's own count is another row
    assert [r.value for r in found.rows if r.raw_key == "iter_num"] == [5]


class Schedule(enum.Enum):
    COSINE = "cosine"


class Anything:
    def __init__(self) -> None:
        self.lr = 0.5
        self.hidden = 8


def test_every_kind_of_config_object(tmp_path: Path) -> None:
    config = {
        "args": argparse.Namespace(lr=0.1, sched=Schedule.COSINE, opt="sgd", warmup_epochs=5),
        "config": collections.OrderedDict(batch_size=7, optim=collections.OrderedDict(betas=(0.9, 0.95))),
        "hparams": Anything(),
        "opt": {"data_dir": pathlib.PurePosixPath("/home/someone/data"), "milestones": collections.Counter([3, 1])},
        "kwargs": {"seed": 3, "act": torch.nn.GELU, "optim": functools.partial(torch.optim.SGD, momentum=0.7)},
        "state_dict": {"w": torch.zeros(3)},
        "epoch": 4,
    }
    torch.save(config, tmp_path / "c.pt")
    found = rows_of(tmp_path / "c.pt")
    places = {name: [(r.value, r.source.locator) for r in rows] for name, rows in found.items()}
    assert places["learning_rate"] == [(0.1, "args.__dict__"), (0.5, "hparams.__dict__")]
    # Python 3.11.0 to 3.11.3 pickles a member as `getattr(Schedule, "COSINE")`: its value is not in the file.
    by_name = Schedule.COSINE.__reduce_ex__(2)[0] is getattr
    assert places["lr_scheduler"] == [("test_checkpoint.Schedule.COSINE" if by_name else "cosine", "args.__dict__")]
    assert places["warmup_epochs"] == [(5, "args.__dict__")]
    assert places["batch_size"] == [(7, "config")]
    assert places["betas"] == [([0.9, 0.95], "config.optim")]
    assert places["hidden_size"] == [(8, "hparams.__dict__")]
    assert places["seed"] == [(3, "kwargs")]
    assert places["activation"] == [("torch.nn.modules.activation.GELU", "kwargs")]
    assert places["optimizer"] == [("sgd", "args.__dict__"), ("torch.optim.sgd.SGD", "kwargs.optim")]
    assert places["momentum"] == [(0.7, "kwargs.optim")]
    assert places["epoch.current"] == [(4, "")]
    assert found["data_dir"][0].kind is Kind.SETTING
    assert found["data_dir"][0].private


def test_whole_modules(tmp_path: Path) -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.BatchNorm2d(8, momentum=0.05), torch.nn.Dropout(0.35)
    )
    torch.save(model, tmp_path / "m.pt")
    places = {
        (r.name, r.source.locator): r.value
        for r in read_hparams(str(tmp_path / "m.pt"), neighbors=False).rows
        if r.kind is not Kind.SETTING
    }
    assert places["dropout", "Dropout.__dict__"] == 0.35
    assert places["bn_momentum", "BatchNorm2d.__dict__"] == 0.05
    assert places["norm_eps", "BatchNorm2d.__dict__"] == 1e-5
    assert places["kernel_size", "Conv2d.__dict__"] == [5, 5]
    assert places["stride", "Conv2d.__dict__"] == [2, 2]


def test_legacy_stream_and_plain_pickle(tmp_path: Path) -> None:
    config = {"hyper_parameters": {"lr": 0.1}, "w": torch.zeros(2)}
    torch.save(config, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert read_hparams(tmp_path / "old.pt")["learning_rate"] == 0.1


def test_nothing_in_a_hostile_file_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return pathlib.Path.touch, (pathlib.Path(tmp_path / "PWNED"),)

    torch.save({"hyper_parameters": {"lr": 0.1, "hook": Evil()}, "state_dict": {}}, tmp_path / "hostile.ckpt")
    found = read_hparams(tmp_path / "hostile.ckpt")
    assert found["learning_rate"] == 0.1
    assert not (tmp_path / "PWNED").exists()


def test_mmengine_keeps_python_source(tmp_path: Path) -> None:
    source = (
        "import os\n"
        "base = 0.02\n"
        "optim_wrapper = dict(optimizer=dict(type='SGD', lr=base / 2, momentum=0.9), clip_grad=dict(max_norm=35))\n"
        "train_cfg = dict(max_epochs=12)\n"
        "train_dataloader = dict(batch_size=16, sampler=os.getcwd())\n"
        "randomness = dict(seed=3)\n"
    )
    meta = {"cfg": source, "epoch": 3, "iter": 30, "mmengine_version": "0.10.7", "seed": 3}
    torch.save({"meta": meta, "state_dict": {"w": torch.zeros(2)}}, tmp_path / "epoch_3.pth")
    found = read_hparams(tmp_path / "epoch_3.pth")
    assert found["learning_rate"] == 0.01
    assert found["optimizer"] == "SGD"
    assert (found["gradient_clip"], found["epochs"], found["batch_size"], found["seed"]) == (35, 12, 16, 3)
    (row,) = (r for r in found.rows if r.name == "learning_rate")
    assert (row.source.locator, row.raw_key) == ("meta.cfg (python source)", "optim_wrapper.optimizer.lr")
    assert found.current("step") == 30


# -- written by the tools themselves --------------------------------------------------------------------


def test_lightning(tmp_path: Path) -> None:
    lightning = pytest.importorskip("pytorch_lightning")

    class Net(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, lr: float, hidden_dim: int, dropout: float, optim_cfg: dict[str, Any]) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(4, 2)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return self.layer(batch).sum()  # type: ignore[no-any-return]

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, betas=(0.8, 0.9))
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)]

    loader = torch.utils.data.DataLoader(torch.ones(8, 4), batch_size=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=2, default_root_dir=tmp_path, logger=lightning.loggers.CSVLogger(tmp_path),
            enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        )  # fmt: skip
        trainer.fit(Net(3e-3, 32, 0.15, {"eps": 1e-6}), loader)
    found = read_hparams(tmp_path)
    assert found["learning_rate"] == 3e-3
    assert found.current("learning_rate") == pytest.approx(3e-3 / 4)
    assert (found["hidden_size"], found["dropout"], found["adam_epsilon"]) == (32, 0.15, 1e-6)
    assert (found["optimizer"], found["lr_scheduler"]) == ("AdamW", "StepLR")
    assert found["betas"] == [0.8, 0.9]
    assert (found.current("epoch"), found.current("step")) == (1, 8)
    assert found.findings == ()
    assert {Path(r.source.file).suffix for r in found.provenance("dropout")} == {".ckpt", ".yaml"}
    assert "epochs" in found.runs[0].not_recorded  # the Trainer's arguments are stored nowhere
    assert not {"gradient_clip", "seed"} & set(found)


def test_omegaconf_inside_a_checkpoint(tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"optim": {"lr": 0.07, "betas": [0.9, 0.99]}, "batch_size": 12})
    torch.save({"hyper_parameters": config, "state_dict": {"w": torch.zeros(2)}}, tmp_path / "c.ckpt")
    found = read_hparams(tmp_path / "c.ckpt")
    assert (found["learning_rate"], found["betas"], found["batch_size"]) == (0.07, [0.9, 0.99], 12)
    assert found.provenance("learning_rate")[0].source.locator == "hyper_parameters.optim"


def test_keras(tmp_path: Path) -> None:
    os.environ["KERAS_BACKEND"] = "torch"
    keras = pytest.importorskip("keras")
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(12, activation="relu", kernel_regularizer=keras.regularizers.L2(0.002)),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Dropout(0.25),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    schedule = keras.optimizers.schedules.CosineDecay(0.02, 100)
    model.compile(keras.optimizers.Adam(schedule, beta_1=0.7, clipnorm=2.0), "mse")
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    for name in ("m.keras", "m.h5"):
        found = read_hparams(tmp_path / name)
        assert found["learning_rate"] == pytest.approx(0.02)
        assert (found["lr_scheduler"], found["optimizer"], found["loss"]) == ("CosineDecay", "Adam", "mse")
        assert found["betas"] == [0.7, 0.999]
        assert (found["gradient_clip"], found["dropout"], found["l2"]) == (2.0, 0.25, 0.002)
        assert (found["bn_momentum"], found["hidden_units"], found["activation"]) == (0.9, [12], ["relu", "softmax"])
        assert found.runs[0].not_recorded == ("batch_size", "epochs", "seed")


def test_training_arguments(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), learning_rate=7e-5, per_device_train_batch_size=3, num_train_epochs=4, seed=11,
        lr_scheduler_type="cosine", weight_decay=0.03, adam_beta1=0.85, warmup_steps=6, use_cpu=True,
    )  # fmt: skip
    torch.save(arguments, tmp_path / "training_args.bin")
    found = read_hparams(tmp_path / "training_args.bin")
    assert (found["learning_rate"], found["batch_size"], found["epochs"], found["seed"]) == (7e-5, 3, 4, 11)
    assert (found["lr_scheduler"], found["weight_decay"], found["warmup_steps"]) == ("cosine", 0.03, 6)
    assert found["betas"] == [0.85, 0.999]
    assert {r.source.tool for r in found.rows} == {"transformers"}


# -- laws -----------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=12)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(tree=st.dictionaries(st.text(max_size=8), TREES, max_size=5))
def test_whatever_a_config_holds_is_read_without_a_word(
    tree: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "c.pt"
    torch.save({"config": tree, "w": torch.zeros(1)}, path)
    rows = read_hparams(path).rows
    assert all(isinstance(row.raw_key, str) for row in rows)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=60))
def test_damage_is_an_error_of_ours(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "x"
    whole = pickle.dumps({"lr": 0.1, "args": {"batch_size": 3}}, 2)
    path.write_bytes(whole[: len(whole) // 2] + data)
    with contextlib.suppress(inspectcli.PinspectError):
        read_hparams(path)
