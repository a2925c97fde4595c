"""The tests of distributions: true draws pass, whatever is moved, scaled or decayed does not.

How often is measured over a few hundred seeded draws. The shares that are asked for are those that were measured when
the thresholds were chosen, with room for three standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from inspectcli.analysis.initializers import matching, numbers
from inspectcli.analysis.initializers.families import CUT, NORMAL, TRUNCATED, UNIFORM, Candidate
from inspectcli.analysis.initializers.numbers import ROUNDING

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}

#: Bound or standard deviation, and how torch draws with it.
DRAWS: dict[str, tuple[Candidate, Callable[[torch.Tensor], torch.Tensor]]] = {
    "uniform": (Candidate(UNIFORM, 0.0625, ""), lambda w: w.uniform_(-0.0625, 0.0625)),
    "normal": (Candidate(NORMAL, 0.02, ""), lambda w: w.normal_(0, 0.02)),
    "truncated": (
        Candidate(TRUNCATED, 0.02, ""),
        lambda w: torch.nn.init.trunc_normal_(w, 0, 0.02 / CUT, -0.04 / CUT, 0.04 / CUT),
    ),
}


def fits(x: torch.Tensor, candidate: Candidate, dtype: str = "f32") -> bool:
    stored = x.to(DTYPES[dtype]).double().numpy()
    return matching.fits(numbers.of_array(stored, ROUNDING[dtype]), candidate)


def accepted(family: str, shape: tuple[int, ...], dtype: str, runs: int) -> int:
    candidate, draw = DRAWS[family]
    torch.manual_seed(11)
    return sum(fits(draw(torch.empty(shape)), candidate, dtype) for _ in range(runs))


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("shape", [(16, 16), (64, 64), (40, 3, 3, 3)], ids=str)
@pytest.mark.parametrize("family", list(DRAWS))
def test_true_draws_are_accepted(family: str, shape: tuple[int, ...], dtype: str) -> None:
    assert accepted(family, shape, dtype, 300) >= 297


@pytest.mark.slow
@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("family", list(DRAWS))
def test_large_draws_are_accepted(family: str, dtype: str) -> None:
    assert accepted(family, (768, 512), dtype, 20) == 20


@pytest.mark.parametrize("size", [16, 64, 256])
def test_of_bounded_draws_nearly_all_are_accepted(size: int) -> None:
    assert accepted("uniform", (size, size), "f32", 300) >= 299


@pytest.mark.parametrize("factor", [0.9, 0.97, 1.03, 1.1])
@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("family", list(DRAWS))
def test_another_scale_is_rejected(family: str, dtype: str, factor: float) -> None:
    candidate, draw = DRAWS[family]
    torch.manual_seed(5)
    assert not any(fits(draw(torch.empty(256, 256)) * factor, candidate, dtype) for _ in range(10))


@pytest.mark.parametrize("family", list(DRAWS))
@pytest.mark.parametrize("other", list(DRAWS))
def test_another_family_of_the_same_spread_is_rejected(family: str, other: str) -> None:
    candidate, draw = DRAWS[family]
    wrong = DRAWS[other][0]
    torch.manual_seed(6)
    x = draw(torch.empty(64, 64)) * (wrong.std / candidate.std)
    assert fits(x, wrong) is (family == other)


@pytest.mark.parametrize(
    ("size", "move", "least"),
    [(256, 1e-4, 10), (256, 1e-3, 20), (64, 3e-3, 20)],
    ids=["1e-4 of 256", "1e-3 of 256", "3e-3 of 64"],
)
def test_a_small_move_of_uniform_numbers_is_seen(size: int, move: float, least: int) -> None:
    candidate, draw = DRAWS["uniform"]
    torch.manual_seed(7)
    seen = 0
    for _ in range(20):
        w = draw(torch.empty(size, size))
        step = torch.randn(size, size)
        seen += not fits(w + step * (move * w.norm() / step.norm()), candidate)
    assert seen >= least


@pytest.mark.parametrize("size", [64, 256])
def test_a_decay_by_a_thousandth_is_seen(size: int) -> None:
    candidate, draw = DRAWS["uniform"]
    torch.manual_seed(8)
    seen = sum(not fits(draw(torch.empty(size, size)) * 0.99, candidate) for _ in range(20))
    assert seen == 20
    if size == 256:
        assert sum(not fits(draw(torch.empty(size, size)) * 0.999, candidate) for _ in range(20)) == 20


def test_one_step_of_adamw_is_seen() -> None:
    torch.manual_seed(9)
    seen = 0
    for _ in range(20):
        layer = torch.nn.Linear(256, 256)
        candidate = Candidate(UNIFORM, 1 / 16, "")
        assert fits(layer.weight.detach(), candidate)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-5)
        layer(torch.randn(32, 256)).square().mean().backward()
        optimizer.step()
        seen += not fits(layer.weight.detach(), candidate)
    assert seen >= 19


def test_normal_numbers_that_moved_by_a_fifth_are_seen() -> None:
    candidate, draw = DRAWS["normal"]
    torch.manual_seed(10)
    seen = 0
    for _ in range(20):
        w = draw(torch.empty(256, 256))
        step = torch.randn(256, 256)
        seen += not fits(w + step * (0.2 * w.norm() / step.norm()), candidate)
    assert seen == 20


@pytest.mark.parametrize("family", list(DRAWS))
def test_a_shifted_mean_is_rejected(family: str) -> None:
    candidate, draw = DRAWS[family]
    torch.manual_seed(12)
    x = draw(torch.empty(128, 128))
    assert fits(x, candidate)
    assert not fits(x + 0.05 * candidate.std, candidate)


@pytest.mark.parametrize("family", list(DRAWS))
def test_one_value_beyond_what_is_possible_is_rejected(family: str) -> None:
    candidate, draw = DRAWS[family]
    torch.manual_seed(13)
    x = draw(torch.empty(128, 128))
    x[5, 7] = min(candidate.bound * 1.00001, 12 * candidate.std)
    assert not fits(x, candidate)


def test_zeros_are_no_draw() -> None:
    assert not fits(torch.zeros(64, 64), DRAWS["normal"][0])


# -- orthogonal -----------------------------------------------------------------------------------------


def orthogonal(x: torch.Tensor, parts: int = 1, dtype: str = "f32") -> float | None:
    """The gain that is found, of all parts."""
    stored, rounding = x.to(DTYPES[dtype]).double().numpy(), ROUNDING[dtype]
    gains = [matching.is_orthogonal(p, rounding) for p in np.split(stored, parts, 1)]
    return gains[0] if None not in gains else None


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("gain", [1.0, math.sqrt(2), 5 / 3, 0.237])
@pytest.mark.parametrize("shape", [(16, 16), (300, 300), (20, 90), (90, 20)], ids=str)
def test_orthogonal_matrices_of_torch(shape: tuple[int, int], gain: float, dtype: str) -> None:
    torch.manual_seed(14)
    for _ in range(100 if shape == (16, 16) else 5):
        made = torch.nn.init.orthogonal_(torch.empty(shape), gain)
        assert orthogonal(made, dtype=dtype) == pytest.approx(gain, rel=1e-5 + ROUNDING[dtype])
        stored = made.to(DTYPES[dtype]).double()
        assert matching.has_gain(float(stored.square().sum()), *shape, 1, ROUNDING[dtype]) == (gain != 0.237)


@pytest.mark.parametrize("gates", [3, 4])
def test_orthogonal_gates(gates: int) -> None:
    torch.manual_seed(15)
    whole = torch.cat([torch.nn.init.orthogonal_(torch.empty(32, 32)) for _ in range(gates)], 1)
    assert orthogonal(whole, gates) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_draws_of_the_same_energy_are_not_orthogonal(dtype: str) -> None:
    torch.manual_seed(16)
    x = torch.randn(64, 64)
    assert orthogonal(x * (8 / x.norm()), dtype=dtype) is None


def test_a_few_long_draws_are_not_orthogonal() -> None:
    """To a hundredth they are, which is no more than a bfloat16 is rounded by."""
    torch.manual_seed(19)
    for shape in ((3, 9216), (9216, 3), (4, 4096)):
        assert orthogonal(torch.randn(shape), dtype="bf16") is None


def test_orthogonal_no_more_after_a_step() -> None:
    torch.manual_seed(17)
    w = torch.nn.init.orthogonal_(torch.empty(64, 64))
    assert orthogonal(w + 1e-3 * torch.randn(64, 64)) is None
    assert orthogonal(torch.ones(1, 9)) is None


@pytest.mark.parametrize(
    ("gain", "words"),
    [(1.0, ""), (1.0000004, ""), (math.sqrt(2), ", gain sqrt(2)"), (1.6666666, ", gain 5/3"), (0.237, ", gain 0.237")],
)
def test_gains_are_named(gain: float, words: str) -> None:
    assert matching.gain_words(gain, 0.0) == words


# -- independent ----------------------------------------------------------------------------------------


def independent(x: torch.Tensor) -> bool:
    return matching.is_independent(x.numpy(), Candidate(NORMAL, 0.02, ""))


@pytest.mark.parametrize("shape", [(16, 16), (64, 64), (256, 768), (64, 3, 3, 3), (5, 900)], ids=str)
def test_independent_draws_are_independent(shape: tuple[int, ...]) -> None:
    torch.manual_seed(18)
    assert sum(independent(torch.empty(shape).normal_(0, 0.02)) for _ in range(100)) >= 97


def test_a_direction_that_training_left_is_seen() -> None:
    torch.manual_seed(19)
    w = torch.empty(128, 384).normal_(0, 0.02)
    u, v = (
        torch.nn.functional.normalize(torch.randn(128), dim=0),
        torch.nn.functional.normalize(torch.randn(384), dim=0),
    )
    candidate = Candidate(NORMAL, 0.02, "")
    moved = w + 0.12 * w.norm() * torch.outer(u, v)
    assert fits(moved, candidate)  # the marginal figures do not see it
    assert independent(w)
    assert not independent(moved)


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_or_columns_of_different_size_are_seen(axis: int) -> None:
    torch.manual_seed(20)
    w = torch.empty(96, 96).normal_(0, 0.02)
    sizes = 1 + 0.2 * torch.randn(96)
    assert not independent(w * (sizes[:, None] if axis == 0 else sizes[None, :]))
