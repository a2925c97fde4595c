"""Families against draws of torch and Keras, and against integrals of their densities."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inspectcli.analysis.initializers.config import ModelConfig
from inspectcli.analysis.initializers.families import (
    CUT,
    NORMAL,
    TRUNCATED,
    UNIFORM,
    Candidate,
    Distribution,
    candidates,
)
from inspectcli.analysis.initializers.fans import Framework
from inspectcli.analysis.roles import Part, Role

os.environ["KERAS_BACKEND"] = "torch"
keras = pytest.importorskip("keras")

FAMILIES = (UNIFORM, NORMAL, TRUNCATED)
N = 1 << 21


def draw(family: Distribution) -> np.ndarray:
    torch.manual_seed(3)
    x = torch.empty(N, dtype=torch.float64)
    if family is UNIFORM:
        x.uniform_(-1, 1)
    elif family is NORMAL:
        x.normal_()
    else:
        torch.nn.init.trunc_normal_(x, std=1 / CUT, a=-2 / CUT, b=2 / CUT)
    return x.numpy()


def by_name(family: Distribution) -> str:
    return family.name


@pytest.mark.parametrize("family", FAMILIES, ids=by_name)
def test_moments_are_those_of_draws(family: Distribution) -> None:
    x = draw(family)
    assert x.std() == pytest.approx(family.std, rel=3e-3)
    assert (x**4).mean() / x.var() ** 2 == pytest.approx(family.kurtosis, rel=1e-2)
    assert np.abs(x).max() <= family.bound
    if math.isfinite(family.bound):
        assert np.abs(x).max() > family.bound * (1 - 1e-4)


@pytest.mark.parametrize("family", FAMILIES, ids=by_name)
def test_the_distribution_function_is_that_of_draws(family: Distribution) -> None:
    x = np.sort(draw(family))
    for share in (0.001, 0.01, 0.2, 0.5, 0.77, 0.999):
        assert family.cdf(x[int(share * N)]) == pytest.approx(share, abs=2e-3)


def test_the_kurtosis_of_a_cut_normal_is_the_integral() -> None:
    x = np.linspace(-2, 2, 2_000_001)
    density = np.exp(-x * x / 2)
    second, fourth = ((x**p * density).sum() / density.sum() for p in (2, 4))
    assert TRUNCATED.kurtosis == pytest.approx(fourth / second**2, abs=1e-4)
    assert pytest.approx(math.sqrt(second), abs=1e-6) == CUT


@pytest.mark.parametrize("family", FAMILIES, ids=by_name)
@given(st.floats(-10, 10), st.floats(-10, 10))
def test_a_distribution_function_grows_and_is_symmetric(family: Distribution, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0 <= family.cdf(low) <= family.cdf(high) <= 1
    assert family.cdf(-a) == pytest.approx(1 - family.cdf(a), abs=1e-12)


WEIGHT = Role(Part.WEIGHT, "fc", "weight")


def of(
    shape: tuple[int, ...], role: Role = WEIGHT, framework: Framework = Framework.TORCH, **more: object
) -> list[Candidate]:
    return list(candidates(shape, role, framework, **({"config": ModelConfig()} | more)))  # type: ignore[arg-type]


def scale(found: list[Candidate], words: str) -> float:
    (only,) = {c.scale for c in found if c.label.startswith(words)}
    return only


@pytest.mark.parametrize(
    ("make", "words", "figure"),
    [
        (lambda w: torch.nn.init.kaiming_uniform_(w, a=math.sqrt(5)), "PyTorch default, U(±1/sqrt(fan_in))", "max"),
        (torch.nn.init.xavier_uniform_, "Xavier (Glorot) uniform", "max"),
        (lambda w: torch.nn.init.xavier_uniform_(w, 2**0.5), "Xavier uniform with gain sqrt(2)", "max"),
        (lambda w: torch.nn.init.xavier_uniform_(w, 5 / 3), "Xavier uniform with gain 5/3", "max"),
        (lambda w: torch.nn.init.kaiming_uniform_(w, nonlinearity="relu"),
         "Kaiming (He) uniform, U(±sqrt(6/fan_in))", "max"),
        (lambda w: torch.nn.init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu"),
         "Kaiming (He) uniform, U(±sqrt(6/fan_out))", "max"),
        (lambda w: torch.nn.init.kaiming_uniform_(w, nonlinearity="linear"), "LeCun uniform", "max"),
        (torch.nn.init.xavier_normal_, "Xavier (Glorot) normal", "std"),
        (lambda w: torch.nn.init.kaiming_normal_(w, nonlinearity="relu"),
         "Kaiming (He) normal, N(0, sqrt(2/fan_in))", "std"),
        (lambda w: torch.nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"),
         "Kaiming (He) normal, N(0, sqrt(2/fan_out))", "std"),
        (lambda w: torch.nn.init.kaiming_normal_(w, nonlinearity="linear"), "LeCun normal", "std"),
    ],
)  # fmt: skip
def test_scales_are_those_that_torch_draws_with(make: object, words: str, figure: str) -> None:
    torch.manual_seed(0)
    weight = torch.empty(300, 500, 3, 1, dtype=torch.float64)
    make(weight)  # type: ignore[operator]
    drawn = weight.abs().max() if figure == "max" else weight.std()
    assert scale(of(tuple(weight.shape)), words) == pytest.approx(float(drawn), rel=1e-4 if figure == "max" else 5e-3)


@pytest.mark.parametrize(
    ("name", "words", "figure"),
    [
        ("glorot_uniform", "Keras default, Glorot uniform", "max"),
        ("he_uniform", "Kaiming (He) uniform, U(±sqrt(6/fan_in))", "max"),
        ("lecun_uniform", "LeCun uniform", "max"),
        ("random_uniform", "U(±0.05)", "max"),
        ("glorot_normal", "Glorot normal (truncated)", "std"),
        ("he_normal", "He normal (truncated)", "std"),
        ("lecun_normal", "LeCun normal (truncated)", "std"),
        ("random_normal", "Keras RandomNormal", "std"),
        ("truncated_normal", "Keras TruncatedNormal", "std"),
    ],
)
def test_scales_are_those_that_keras_draws_with(name: str, words: str, figure: str) -> None:
    keras.utils.set_random_seed(0)
    drawn = np.asarray(keras.initializers.get(name)((3, 300, 500)), np.float64)
    found = of((3, 300, 500), Role(Part.WEIGHT, "dense", "kernel"), Framework.KERAS)
    scales = [c.scale for c in found if c.label.startswith(words)]
    value = np.abs(drawn).max() if figure == "max" else drawn.std()
    assert any(s == pytest.approx(value, rel=1e-4 if figure == "max" else 5e-3) for s in scales), (value, scales)


def test_a_formula_is_in_the_words_of_the_field() -> None:
    assert [c.formula for c in of((256, 256))][:6] == [
        "PyTorch default, U(±1/sqrt(fan_in)) = U(±0.0625)",
        "Xavier (Glorot) uniform, U(±sqrt(6/(fan_in+fan_out))) = U(±0.1083)",
        "Kaiming (He) uniform, U(±sqrt(6/fan_in)) = U(±0.1531)",
        "Kaiming (He) uniform, U(±sqrt(6/fan_out)) = U(±0.1531)",
        "LeCun uniform, U(±sqrt(3/fan_in)) = U(±0.1083)",
        "Xavier uniform with gain sqrt(2) = U(±0.1531)",
    ]


@pytest.mark.parametrize(
    ("role", "shape", "framework", "more", "default"),
    [
        (Role(Part.BIAS, "fc", "bias"), (9,), Framework.TORCH, {"fan_in": 64},
         "PyTorch default, U(±1/sqrt(fan_in)) = U(±0.125)"),
        (Role(Part.RNN_WEIGHT, "rnn", "weight_ih_l0"), (64, 7), Framework.TORCH, {"hidden": 16},
         "PyTorch default, U(±1/sqrt(hidden)) = U(±0.25)"),
        (Role(Part.RNN_BIAS, "rnn", "bias_hh_l0"), (64,), Framework.TORCH, {"hidden": 16},
         "PyTorch default, U(±1/sqrt(hidden)) = U(±0.25)"),
        (Role(Part.EMBEDDING, "emb", "weight"), (90, 16), Framework.TORCH, {}, "PyTorch default, N(0, 1)"),
        (Role(Part.EMBEDDING, "emb", "embeddings"), (90, 16), Framework.KERAS, {},
         "Keras default, U(±0.05) = U(±0.05)"),
        (Role(Part.EMBEDDING, "emb", "embedding"), (90, 16), Framework.FLAX, {},
         "Flax default, N(0, 1/sqrt(features)) = N(0, 0.25)"),
        (Role(Part.WEIGHT, "fc", "kernel"), (16, 9), Framework.FLAX, {},
         "Flax default, LeCun normal = N(0, 0.25) cut at ±0.5684"),
        (Role(Part.WEIGHT, "attn", "in_proj_weight"), (48, 16), Framework.TORCH, {},
         "PyTorch default of MultiheadAttention, Xavier uniform, U(±sqrt(6/(fan_in+fan_out))) = U(±0.3062)"),
        (Role(Part.LORA_A, "q.lora_A", "weight"), (4, 64), Framework.TORCH, {},
         "LoRA A default (Kaiming, a=sqrt(5)), U(±1/sqrt(fan_in)) = U(±0.125)"),
    ],
)  # fmt: skip
def test_the_default_comes_first_and_is_known(
    role: Role, shape: tuple[int, ...], framework: Framework, more: dict[str, int], default: str
) -> None:
    first = of(shape, role, framework, **more)[0]
    assert first.formula.removesuffix(" = N(0, 1)") == default
    assert first.known


def test_a_config_is_believed_and_residual_projections_are_smaller() -> None:
    found = of(
        (32, 32), Role(Part.WEIGHT, "h.0.attn.c_proj", "weight"), config=ModelConfig((("initializer_range", 0.03),), 8)
    )
    known = {c.formula: c.scale for c in found if c.known and c.label.startswith("initializer_range")}
    assert known == {
        "initializer_range, N(0, 0.03)": 0.03,
        "initializer_range/sqrt(2*layers) = N(0, 0.0075)": 0.0075,
    }


@given(st.lists(st.integers(0, 5), max_size=5).map(tuple), st.sampled_from(Part), st.sampled_from(Framework))
def test_every_candidate_has_a_scale(shape: tuple[int, ...], part: Part, framework: Framework) -> None:
    if 0 in shape:
        return
    for candidate in of(shape, Role(part, "m", "weight"), framework, fan_in=3, hidden=2):
        assert 0 < candidate.std <= candidate.bound
        assert candidate.formula.startswith(candidate.label)
