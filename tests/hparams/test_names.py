"""Names: the key, the scope and the value decide; what is ambiguous is left raw."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectcli.hparams.base import Kind
from inspectcli.hparams.names import canonical, scope_of, snake


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("lr", "learning_rate"),
        ("learningRate", "learning_rate"),
        ("learning-rate", "learning_rate"),
        ("BASE_LR", "learning_rate"),
        ("ss_learning_rate", "learning_rate"),
        ("config/lr", "learning_rate"),
        ("hparams/batch_size", "batch_size"),
        ("optim.lr", "learning_rate"),
        ("model/hidden dim", "hidden_size"),
        ("n_embd", "hidden_size"),
        ("batchSize", "batch_size"),
        ("gradient_clip_val", "gradient_clip"),
        ("seed_everything", "seed"),
    ],
)
def test_spellings(key: str, name: str) -> None:
    assert canonical(key, "config", 3) == (name, Kind.STATIC)


@pytest.mark.parametrize(
    ("key", "scope", "value", "name"),
    [
        ("momentum", "optimizer", 0.9, "momentum"),
        ("momentum", "norm", 0.1, "bn_momentum"),
        ("alpha", "lora", 16, "lora_alpha"),
        ("alpha", "config", 0.2, None),
        ("alpha", "optimizer", 0.99, "rmsprop_alpha"),
        ("eps", "optimizer", 1e-8, "adam_epsilon"),
        ("eps", "norm", 1e-5, "norm_eps"),
        ("eps", "config", 1e-5, None),
        ("p", "dropout", 0.3, "dropout"),
        ("p", "config", 0.3, None),
        ("r", "lora", 8, "lora_rank"),
        ("r", "config", 8, None),
        ("dim", "model", 512, "hidden_size"),
        ("dim", "config", 512, None),
        ("step_size", "scheduler", 10, "lr_step_size"),
        ("step_size", "config", 10, None),
        ("gamma", "scheduler", 0.1, "lr_gamma"),
        ("gamma", "config", 0.99, None),  # of reinforcement learning, for all we know
        ("name", "optimizer", "sgd", "optimizer"),
        ("name", "config", "run 7", None),
        ("layers", "config", 4, "num_layers"),
        ("layers", "config", [64, 32], "hidden_units"),
        ("warmup_steps", "config", 0.1, "warmup_ratio"),
        ("warmup_steps", "config", 100, "warmup_steps"),
        ("optimizer", "config", 3, None),
        ("dropout", "config", True, None),
        ("hidden_size", "config", "resnet", None),
        ("learning_rate", "optimizer", "auto", "learning_rate"),
        ("epoch", "checkpoint", 3, "epoch.current"),
        ("epoch", "config", 3, None),
    ],
)
def test_scope_and_value_decide(key: str, scope: str, value: object, name: str | None) -> None:
    assert canonical(key, scope, value).name == name


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("output_dir", Kind.SETTING),
        ("num_workers", Kind.SETTING),
        ("initializer_range", Kind.SETTING),
        ("eos_token_id", Kind.SETTING),
        ("hsv_h", Kind.AUGMENTATION),
        ("mosaic", Kind.AUGMENTATION),
        ("cutoff", Kind.STATIC),
    ],
)
def test_what_is_no_hyperparameter_is_apart(key: str, kind: Kind) -> None:
    assert canonical(key, "config", 1) == (None, kind)


def test_sampling_is_for_inference() -> None:
    assert canonical("temperature", "generation", 0.7) == ("generation.temperature", Kind.INFERENCE)
    assert canonical("bos_token_id", "generation", 1) == (None, Kind.SETTING)


@pytest.mark.parametrize(
    ("parents", "scope"),
    [
        (("config", "optim_cfg"), "optimizer"),
        (("optimizer", "params"), "optimizer"),
        (("optim_wrapper", "clip_grad"), "clip"),
        (("lr_scheduler", "init_args"), "scheduler"),
        (("model", "batch_norm"), "norm"),
        (("train_dataloader",), "data"),
        (("foo", "bar"), "config"),
    ],
)
def test_scope_is_that_of_the_nearest_telling_parent(parents: tuple[str, ...], scope: str) -> None:
    assert scope_of(parents, "config") == scope


@given(st.text(max_size=40), st.sampled_from(["", "config", "optimizer", "model", "checkpoint", "generation"]))
def test_any_key_has_an_answer(key: str, scope: str) -> None:
    name, kind = canonical(key, scope, 1)
    assert (name is None or name.isprintable()) or scope == "generation"
    assert isinstance(kind, Kind)


@given(st.text(alphabet="abcdefghij_", min_size=1, max_size=30))
def test_snake_case_stays(key: str) -> None:
    assert snake(key) == key
