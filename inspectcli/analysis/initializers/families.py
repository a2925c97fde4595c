"""Distributions of initializers, and the few candidates for a tensor, the library's default first."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from inspectcli.analysis.initializers.config import ModelConfig
from inspectcli.analysis.initializers.fans import Framework, fans
from inspectcli.analysis.roles import Part, Role, is_position_table
from inspectcli.display.text import significant

#: Standard deviation of N(0, 1) truncated at ±2.
CUT = 0.87962566103423978
_WITHIN_2 = math.erf(2 / math.sqrt(2))


def _normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


class Distribution(NamedTuple):
    """A distribution symmetric about 0, with one scale parameter.

    Attributes:
        name: its usual name.
        kurtosis: fourth central moment over squared variance: 3 for a normal distribution.
        std: standard deviation at scale 1.
        bound: largest magnitude at scale 1; may be infinite.
        cdf: cumulative distribution function at scale 1.
    """

    name: str
    kurtosis: float
    std: float
    bound: float
    cdf: Callable[[float], float]


#: The scale is the bound.
UNIFORM = Distribution("uniform", 1.8, 1 / math.sqrt(3), 1.0, lambda x: min(max((x + 1) / 2, 0.0), 1.0))
NORMAL = Distribution("normal", 3.0, 1.0, math.inf, _normal_cdf)
#: Truncated at two standard deviations of the normal distribution. The scale is the resulting standard deviation.
TRUNCATED = Distribution(
    "truncated-normal",
    2.3655,
    1.0,
    2 / CUT,
    lambda x: min(max((_normal_cdf(min(max(x * CUT, -2.0), 2.0)) - _normal_cdf(-2.0)) / _WITHIN_2, 0.0), 1.0),
)


def truncated_at(cut: float) -> tuple[Distribution, float]:
    """Return a normal distribution cut at `cut` of its deviations, and what is left of the deviation.

    The scale is the resulting standard deviation. Moments by repeated integration by parts.
    """
    within = math.erf(cut / math.sqrt(2))
    edge = 2 * cut * math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi) / within
    square, fourth = 1 - edge, 3 * (1 - edge) - cut * cut * edge
    left = math.sqrt(square)
    low = _normal_cdf(-cut)

    def cdf(x: float) -> float:
        return min(max((_normal_cdf(min(max(x * left, -cut), cut)) - low) / within, 0.0), 1.0)

    return Distribution("truncated-normal", fourth / square**2, 1.0, cut / left, cdf), left


#: As Keras draws on torch: it draws four times, and keeps the first if all lie beyond the cut, 4 in a million.
ALMOST_CUT = TRUNCATED._replace(bound=2.25 * TRUNCATED.bound)


class Candidate(NamedTuple):
    """One initializer with all its parameters: nothing is fitted.

    Attributes:
        formula: in the usual notation, with numbers.
        known: whether it is the library's default for this layer, or in a config beside the file. Others need siblings
            that agree.
        label: the formula without numbers, equal for layers of one initializer.
    """

    family: Distribution
    scale: float
    formula: str
    known: bool = False
    label: str = ""

    @property
    def std(self) -> float:
        return self.family.std * self.scale

    @property
    def bound(self) -> float:
        return self.family.bound * self.scale


def _uniform(label: str, bound: float, known: bool = False) -> Candidate:
    return Candidate(UNIFORM, bound, f"{label} = U(±{significant(bound, 4)})", known, label)


def _normal(label: str, std: float, known: bool = False) -> Candidate:
    shown = f"N(0, {significant(std, 4)})"
    return Candidate(NORMAL, std, label if label.endswith(shown) else f"{label} = {shown}", known, label)


def _truncated(label: str, std: float, known: bool = False, family: Distribution = TRUNCATED) -> Candidate:
    return Candidate(
        family, std, f"{label} = N(0, {significant(std, 4)}) cut at ±{significant(2 * std / CUT, 4)}", known, label
    )


_RESIDUAL = re.compile(r"(c_proj|o_proj|out_proj|down_proj|wo|fc2|dense_4h_to_h|attention\.dense|proj)$")
#: Standard deviations that people choose.
_COMMON_STD = (0.02, 0.01, 0.006, 0.1, 1.0)


def candidates(
    shape: tuple[int, ...],
    role: Role,
    framework: Framework,
    config: ModelConfig,
    fan_in: int | None = None,
    hidden: int | None = None,
    in1: int | None = None,
) -> Iterator[Candidate]:
    """Yield the initializers that may have drawn a tensor, the default first.

    Args:
        shape: of the tensor, or of one part of a fused one.
        role: of the tensor in its layer.
        framework: whose conventions to follow.
        config: settings of files beside the checkpoint.
        fan_in: of the weight beside a bias.
        hidden: number of units of a recurrent layer.
        in1: first input size of a bilinear layer, for its bias.
    """
    if role.kind is Part.BIAS:
        if framework is Framework.TORCH and fan_in:
            yield _uniform("PyTorch default, U(±1/sqrt(fan_in))", 1 / math.sqrt(fan_in), known=True)
        if framework is Framework.TORCH and in1:
            yield _uniform("PyTorch default of Bilinear, U(±1/sqrt(in1))", 1 / math.sqrt(in1), known=True)
        return
    if role.kind in (Part.RNN_WEIGHT, Part.RNN_BIAS) and framework is Framework.TORCH and hidden:
        yield _uniform("PyTorch default, U(±1/sqrt(hidden))", 1 / math.sqrt(hidden), known=True)
    if role.kind is Part.EMBEDDING and shape:
        yield from _of_tables(shape, role, framework, config)
    if len(shape) >= 2:
        yield from _of_weights(shape, role, framework, config)


def place_in_model(role: Role) -> tuple[bool, bool]:
    """What candidates depend on in a module's name: whether it is a table of positions, or ends a residual branch."""
    return is_position_table(role.module), bool(_RESIDUAL.search(role.module))


def _of_tables(shape: tuple[int, ...], role: Role, framework: Framework, config: ModelConfig) -> Iterator[Candidate]:
    if framework is Framework.KERAS:
        yield _uniform("Keras default, U(±0.05)", 0.05, known=True)
    elif framework is Framework.FLAX:
        yield _normal("Flax default, N(0, 1/sqrt(features))", 1 / math.sqrt(shape[-1]), known=True)
    else:
        yield _normal("PyTorch default, N(0, 1)", 1.0, known=not is_position_table(role.module))
    yield from _from_config(role, config)
    yield _normal("N(0, 1/sqrt(dim))", 1 / math.sqrt(shape[-1]))
    yield _uniform("U(±0.1)", 0.1)


def _from_config(role: Role, config: ModelConfig) -> Iterator[Candidate]:
    for key, std in config.stds:
        yield _normal(f"{key}, N(0, {significant(std, 4)})", std, known=True)
        if config.layers and _RESIDUAL.search(role.module):
            yield _normal(f"{key}/sqrt(2*layers)", std / math.sqrt(2 * config.layers), known=True)


def _of_weights(shape: tuple[int, ...], role: Role, framework: Framework, config: ModelConfig) -> Iterator[Candidate]:
    """Yield the candidates for weights, uniform ones first: their bounds are sharp. The gain is part of the label."""
    keras = framework is Framework.KERAS
    family = ALMOST_CUT if keras else TRUNCATED
    first, *others = [pair for pair in fans(shape, framework) if pair.fan_in and pair.fan_out]
    is_table = role.kind is Part.EMBEDDING
    lora = role.kind is Part.LORA_A
    fused = role.leaf == "in_proj_weight"  # MultiheadAttention: Xavier over the fused matrix
    if framework is Framework.TORCH and not is_table and not fused:
        name = "LoRA A default (Kaiming, a=sqrt(5))" if lora else "PyTorch default"
        yield _uniform(f"{name}, U(±1/sqrt(fan_in))", 1 / math.sqrt(first.fan_in), known=True)
        if len(shape) == 3:
            yield _uniform("PyTorch default of Bilinear, U(±1/sqrt(in1))", 1 / math.sqrt(shape[1]), known=True)
    if framework is Framework.FLAX and not is_table:
        yield _truncated("Flax default, LeCun normal", 1 / math.sqrt(first.fan_in), known=True)
    for pair in (first, *others):
        fan_in, fan_out = pair
        both = fan_in + fan_out
        glorot = "Keras default, Glorot uniform" if framework is Framework.KERAS else "Xavier (Glorot) uniform"
        if fused:
            glorot = "PyTorch default of MultiheadAttention, Xavier uniform"
        known = framework is Framework.KERAS or fused
        yield _uniform(f"{glorot}, U(±sqrt(6/(fan_in+fan_out)))", math.sqrt(6 / both), known)
        yield _uniform("Kaiming (He) uniform, U(±sqrt(6/fan_in))", math.sqrt(6 / fan_in))
        yield _uniform("Kaiming (He) uniform, U(±sqrt(6/fan_out))", math.sqrt(6 / fan_out))
        yield _uniform("LeCun uniform, U(±sqrt(3/fan_in))", math.sqrt(3 / fan_in))
        yield _uniform("Xavier uniform with gain sqrt(2)", math.sqrt(12 / both))
        yield _uniform("Xavier uniform with gain 5/3", 5 / 3 * math.sqrt(6 / both))
        yield _uniform("Xavier uniform with gain 1/sqrt(2)", math.sqrt(3 / both))
        yield _uniform("U(±1/sqrt(fan_out))", 1 / math.sqrt(fan_out))
    yield _uniform("U(±0.05)", 0.05)
    if framework is Framework.KERAS:
        yield _normal("Keras RandomNormal, N(0, 0.05)", 0.05, known=True)
        yield _truncated("Keras TruncatedNormal(0.05)", 0.05 * CUT, True, ALMOST_CUT)
    yield from _from_config(role, config)
    for fan_in, fan_out in (first, *others):
        both = fan_in + fan_out
        if framework is not Framework.TORCH:
            yield _truncated("Glorot normal (truncated)", math.sqrt(2 / both), keras, family)
            yield _truncated("He normal (truncated)", math.sqrt(2 / fan_in), keras, family)
        yield _truncated("LeCun normal (truncated)", math.sqrt(1 / fan_in), keras, family)
        yield _normal("Kaiming (He) normal, N(0, sqrt(2/fan_in))", math.sqrt(2 / fan_in))
        yield _normal("Kaiming (He) normal, N(0, sqrt(2/fan_out))", math.sqrt(2 / fan_out))
        yield _normal("Xavier (Glorot) normal, N(0, sqrt(2/(fan_in+fan_out)))", math.sqrt(2 / both))
        yield _normal("LeCun normal, N(0, sqrt(1/fan_in))", math.sqrt(1 / fan_in))
    for std in _COMMON_STD:
        if not (is_table and std == 1.0):
            yield _normal(f"N(0, {significant(std, 4)})", std)
    yield _truncated("truncated normal(0.02)", 0.02)
    yield _truncated("truncated normal(0.02) without correction", 0.02 * CUT)
    if config.layers:
        for std in (0.02, 1 / math.sqrt(first.fan_in)):
            yield _normal(f"N(0, {significant(std, 4)}/sqrt(2*layers))", std / math.sqrt(2 * config.layers))
