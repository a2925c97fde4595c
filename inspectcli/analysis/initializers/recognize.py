"""Recognize the initializer that drew a tensor, or tell how far the tensor has moved from it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from inspectcli.analysis.facts import InitMatch, Strength, TensorFacts
from inspectcli.analysis.initializers import draws, free, matching, numbers
from inspectcli.analysis.initializers.config import ModelConfig, read_config
from inspectcli.analysis.initializers.constructed import constructed
from inspectcli.analysis.initializers.families import NORMAL, UNIFORM, Candidate, candidates, place_in_model
from inspectcli.analysis.initializers.fans import Framework, fans
from inspectcli.analysis.initializers.keras import Layer, layers_of, named_for
from inspectcli.analysis.initializers.numbers import Numbers
from inspectcli.analysis.initializers.tables import rows_as_drawn
from inspectcli.analysis.roles import UNJUDGED, Part, Roles
from inspectcli.display.text import significant
from inspectcli.measure.again import again, whole
from inspectcli.measure.first_values import FirstValues
from inspectcli.tensors.model import Checkpoint, TensorRef
from inspectcli.tensors.names import pattern

#: Least number of values from which bounds tell something.
LEAST = 64
#: Least number of values to believe a normal distribution: fewer fit one too often by chance.
LEAST_NORMAL = 4096
#: From this many uniform values on, a move by a thousandth of the spread takes one out of bounds.
_SHARP = 1024
#: Least number of values to believe a normal distribution in a new file: fewer fit one by chance in any file.
_LEAST_FRESH = 256
#: Share of weights that fit an initializer, from which the small and the single ones in the file are believed too.
_FRESH = 0.75
#: Up to this many values, rows and columns are tested too; above, the marginal tests are sharp enough.
_MOST_INDEPENDENT = 1 << 18
#: Larger tensors are not read a second time, to look at their parts or at their orthogonality.
_MOST_READ = 1 << 22
#: A uniform draw of n values could have moved by this many n-ths of its bound, and no value would be beyond it.
_UNSEEN = 20
#: Share of the bound above which nothing is called untouched.
_COARSE = 0.1
#: Least number of values of which a normal draw can be proved.
_LEAST_PROVED = 256
#: Fewest rows that are orthogonal with a gain that nobody names.
_LEAST_ROWS = 4
#: Standard errors by which the spread of a named initializer may be off, to be named for what fits any.
_NAMED = 2.0
#: Root mean square of a table of which one row in fifty is from N(0, 1), and the others are small.
_SOME_OF_1 = 0.14
#: Beyond the bound of the default by less than this share: moved from it, and no other initializer.
_BEYOND = 0.1


class _Values:
    """The values of one tensor, read once more, by whoever asks first."""

    def __init__(self, ref: TensorRef, without_zero_rows: bool) -> None:
        self._ref = ref
        self._without = without_zero_rows

    @cached_property
    def all(self) -> npt.NDArray[Any] | None:
        """All of them; None if they are too many."""
        return whole(self._ref, _MOST_READ)

    @cached_property
    def first(self) -> npt.NDArray[Any] | None:
        """Some from the beginning, flat."""
        if self._ref.numel <= _MOST_INDEPENDENT:
            return self.all.ravel() if self.all is not None else None
        return again(self._ref, FirstValues)

    @cached_property
    def rows(self) -> npt.NDArray[Any] | None:
        """Whole rows, all of a small tensor, the first of a large one; None if they are too few to compare."""
        shape = self._ref.shape
        if self.first is None or len(shape) < 2:
            return None
        columns = math.prod(shape) // shape[0]
        matrix = self.first[: self.first.size // columns * columns].reshape(-1, columns)
        if self._without:
            matrix = matrix[matrix.any(axis=1)]
        return matrix if len(matrix) >= 8 else None


#: (Role, value) of a constant tensor -> its usual name.
_CONSTANTS = {
    (Part.NORM_SCALE, 1.0): "ones, as every new normalization",
    (Part.NORM_SCALE, 0.0): "zeros, as a zero-init residual",
    (Part.NORM_SCALE, 0.25): "0.25, PReLU's default",
    (Part.NORM_SHIFT, 0.0): "zeros, as every new normalization",
    (Part.RUNNING_MEAN, 0.0): "zeros, as every new BatchNorm",
    (Part.RUNNING_VAR, 1.0): "ones, as every new BatchNorm",
    (Part.COUNTER, 0): "zero batches",
    (Part.BIAS, 0.0): "zeros",
    (Part.RNN_BIAS, 0.0): "zeros",
    (Part.LORA_B, 0.0): "zeros, as every new LoRA B",
}

_JUDGED = frozenset(Part) - UNJUDGED
_KERAS_LEAVES = re.compile(r"^(kernel|embeddings?|recurrent_kernel|depthwise_kernel|pointwise_kernel|\w+_kernel)$")
_FUSED = re.compile(r"(weight_(ih|hh)\w*|in_proj_weight|recurrent_kernel|kernel|weight)$")
_FUSED_MODULE = re.compile(
    r"(qkv|c_attn|query_key_value|in_proj|gate_up_proj|wqkv|Wqkv|kv|to_kv|to_qkv|lstm|gru|rnn)", re.I
)


def recognize(checkpoint: Checkpoint, tensors: Sequence[TensorFacts]) -> Mapping[str, InitMatch]:
    """Return name -> initializer. Tensors of which nothing can be told are left out; tied ones share the result."""
    model = _Model(checkpoint, read_config(checkpoint), layers_of(checkpoint))
    matches = {
        tensor.name: model.match(tensor)
        for tensor in tensors
        if tensor.stats is not None and tensor.role.kind in _JUDGED
    }
    agreed, labels = _agreed(matches), Counter(label for m in matches.values() for label in m.labels)
    fresh = _is_fresh([matches[tensor.name] for tensor in tensors if tensor.name in matches and tensor.role.is_weight])
    verdicts = {name: v for name, m in matches.items() if (v := m.verdict(name, agreed, labels, fresh)) is not None}
    for tensor in tensors:
        if tensor.name in verdicts and model.is_doubtful(tensor, verdicts):
            verdicts[tensor.name] = InitMatch(Strength.UNKNOWN)
    for tensor in tensors:
        if tensor.alias_of in verdicts:
            verdicts[tensor.name] = verdicts[tensor.alias_of]
    return verdicts


class _Match(NamedTuple):
    """Results of the tests of one tensor, before layers are compared.

    Attributes:
        exact: what needs no others to be believed.
        fitting: initializers with a bell shape and a named scale that fit.
        shape: a distribution that fits with some scale.
        proved: whether the numbers are on the grid of a generator: an unchanged normal draw.
        moved: what is said if it is no draw.
    """

    exact: InitMatch | None = None
    fitting: tuple[Candidate, ...] = ()
    shape: Candidate | None = None
    proved: bool = False
    n: int = 0
    std: float = 0.0
    moved: InitMatch | None = None

    @property
    def enough(self) -> bool:
        """Whether there are enough values to judge a normal distribution."""
        return self.proved or self.n >= LEAST_NORMAL

    @property
    def has_shape(self) -> bool:
        """Whether it is a draw of some initializer, as far as its own numbers tell."""
        if self.shape is None:
            return False
        return self.proved or self.n >= (free.LEAST_UNIFORM if self.shape.family is UNIFORM else LEAST_NORMAL)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(candidate.label for candidate in self.fitting))

    def verdict(
        self, name: str, agreed: Collection[tuple[str, str]], labels: Mapping[str, int], fresh: bool
    ) -> InitMatch | None:
        """Choose among the candidates that fit: the one that fits most tensors of the file, then the default."""
        if self.exact is not None:
            return self.exact
        believed = [
            c
            for c in self.fitting
            if (self.enough and (c.known or (pattern(name), c.label) in agreed)) or (fresh and self.n >= _LEAST_FRESH)
        ] or [c for c in self.fitting if self.has_shape and self._is_close(c)]
        shape = self.shape if self.has_shape or (fresh and self.n >= _LEAST_FRESH) else None
        best = max(believed, key=lambda c: (labels[c.label], c.known), default=shape)
        if best is not None:
            ratio = self.moved.ratio if self.moved is not None and not believed else None
            within = _UNSEEN / self.n if best.family is UNIFORM else None
            strength = Strength.UNTOUCHED if self.proved else Strength.INIT_LIKE
            return InitMatch(strength, best.formula, best.family.name, ratio, within)
        if self.moved is not None and (self.fitting or self.shape is not None):
            return self.moved._replace(strength=Strength.UNKNOWN)
        return self.moved

    def _is_close(self, candidate: Candidate) -> bool:
        error = math.sqrt((candidate.family.kurtosis - 1) / (4 * self.n))
        return abs(self.std / candidate.std - 1) < _NAMED * error


def _is_fresh(weights: Sequence[_Match]) -> bool:
    """Return whether nearly all weights of the file fit an initializer. Small ones and constants do not count."""
    drawn = [m for m in weights if m.enough or m.has_shape or (m.exact is not None and m.exact.is_drawn)]
    alike = sum(m.exact is not None or bool(m.fitting) or m.has_shape for m in drawn)
    return len(drawn) > 2 and alike >= _FRESH * len(drawn)


def _agreed(matches: Mapping[str, _Match]) -> Collection[tuple[str, str]]:
    """Return the (pattern of names, label) on which siblings agree: two or more, not a minority that fits by chance."""
    large = [name for name, m in matches.items() if m.enough]
    fitting = [(name, label) for name in large for label in matches[name].labels]
    anywhere, alike = Counter(label for _, label in fitting), Counter((pattern(name), label) for name, label in fitting)
    siblings = Counter(pattern(name) for name in large)
    return {
        (pattern(name), label)
        for name, label in fitting
        if 2 * alike[pattern(name), label] >= max(siblings[pattern(name)], 4)
        or 2 * anywhere[label] >= max(len(large), 4)
    }


@dataclass(frozen=True)
class _Model:
    """The rest of the file, as far as judging a tensor depends on it."""

    checkpoint: Checkpoint
    config: ModelConfig
    layers: Mapping[str, Layer]

    @cached_property
    def roles(self) -> Roles:
        return Roles(self.checkpoint)

    @cached_property
    def _tried(self) -> dict[tuple[object, ...], tuple[Candidate, ...]]:
        return {}

    def framework(self, tensor: TensorFacts) -> Framework:
        if self.checkpoint.format.startswith("keras"):
            return Framework.KERAS
        if _KERAS_LEAVES.match(tensor.role.leaf) or (tensor.role.leaf == "bias" and self._beside(tensor, "kernel")):
            return Framework.KERAS if self.checkpoint.format == "hdf5" else Framework.FLAX
        return Framework.TORCH

    def _beside(self, tensor: TensorFacts, leaf: str) -> tuple[int, ...]:
        """Return the shape of another tensor of the layer; empty without one."""
        other = self.roles.modules.get(tensor.role.module, {}).get(leaf)
        return other.shape if other is not None else ()

    def match(self, tensor: TensorFacts) -> _Match:
        constant = _constant(tensor)
        if constant is not None:
            return _Match(exact=constant)
        if tensor.ref.stored_shape is not None:  # sparse, or the part of one rank
            return _Match()
        padded = _has_padding(tensor)
        x = numbers.of_tensor(tensor, without_zeros=padded)
        if x is None or x.rms == 0:
            return _Match()
        values = _Values(tensor.ref, padded)
        exact = self._constructed(tensor, x, values) or self._orthogonal(tensor, x, values)
        if exact is not None:
            return _Match(exact=exact)
        tried = self._candidates(tensor, tensor.ref.shape)
        moved = _moved(tensor, x, tried)
        if x.n < LEAST:
            return _Match(n=x.n, moved=moved)
        fitting: list[Candidate] = []
        for candidate in tried:
            if not matching.fits(x, candidate) or not self._independent(tensor, candidate, values):
                continue
            if candidate.family is UNIFORM:
                return _Match(exact=_uniform(tensor, candidate.formula, candidate, x, values.first))
            fitting.append(candidate)
        parts = self._parts(tensor, x, values) if not fitting else None
        if parts is not None:
            return _Match(exact=parts)
        shape = self._shape(tensor, x, tried, values)
        proved = self._is_proved(tensor, x, values)
        if proved and shape is None:  # the tests of a shape may be wrong once in a while, a grid is not
            shape = free.normal(x)
        if not fitting and shape is None:
            exact = _computed(tensor, values)
            moved = self._rows(tensor, x, tried, values) or moved
        return _Match(exact, tuple(fitting), shape, proved, x.n, x.rms, moved)

    def _shape(self, tensor: TensorFacts, x: Numbers, tried: Sequence[Candidate], values: _Values) -> Candidate | None:
        """Judge without a scale. What is a little beyond the bound of its default is that default, moved."""
        if len(tensor.ref.shape) < 2:
            return None
        for known in tried:
            if not known.known or known.family is not tried[0].family:
                break
            beyond = x.largest / known.bound - 1 if math.isfinite(known.bound) else 0.0
            if max(x.rounding, 1e-6) < beyond < _BEYOND and abs(x.rms / known.std - 1) < _BEYOND:
                return None
        found = free.shape_of(x)
        return found if found is not None and free.is_draw(x, found, lambda: values.rows) else None

    def _is_proved(self, tensor: TensorFacts, x: Numbers, values: _Values) -> bool:
        if tensor.ref.dtype.name != "f32" or x.n < _LEAST_PROVED or not free.may_be_normal(x):
            return False
        if values.first is None or draws.is_normal_draw(values.first) is not True:
            return False
        return free.is_of_one_scale(x, lambda: values.rows)

    def _rows(self, tensor: TensorFacts, x: Numbers, tried: Sequence[Candidate], values: _Values) -> InitMatch | None:
        """Judge the rows of a table, each on its own."""
        shape, kind = tensor.ref.shape, tensor.role.kind
        if len(shape) != 2 or shape[0] < 16:
            return None
        if kind is Part.EMBEDDING:
            likely = [c for c in tried if c.known]
        elif kind is Part.WEIGHT and x.rms > _SOME_OF_1 and not self._beside(tensor, "bias"):
            likely = [c for c in tried if c.family is NORMAL and c.std == 1]  # a table, whatever it is called
        else:
            return None
        if not likely or values.all is None:
            return None
        found = rows_as_drawn(values.all, likely, x.rounding)
        if found is None:
            return None
        where = "the last " if found.is_end else ""
        text = f"{where}{found.rows:,} of {shape[0]:,} rows, as drawn from {found.candidate.formula}"
        return InitMatch(Strength.MOVED, text, "", _ratio(tensor, found.candidate), None, found.rows)

    def _candidates(self, tensor: TensorFacts, shape: tuple[int, ...]) -> tuple[Candidate, ...]:
        """Worked out once for all tensors of one shape and place in a layer."""
        weight = self._beside(tensor, tensor.role.leaf.replace("bias", "weight")) or self._beside(tensor, "weight")
        first = next(fans(weight, Framework.TORCH), None)
        role, framework, hidden = tensor.role, self.framework(tensor), self._hidden(tensor)
        fan_in, in1 = first.fan_in if first else None, weight[1] if len(weight) == 3 else None
        told = tuple(named_for(role, shape, self.layers)) if self.layers else ()
        key = (told, shape, role.kind, role.leaf, *place_in_model(role), framework, fan_in, hidden, in1)
        if key not in self._tried:
            found = candidates(shape, role, framework, self.config, fan_in=fan_in, hidden=hidden, in1=in1)
            self._tried[key] = (*told, *found)
        return self._tried[key]

    def _hidden(self, tensor: TensorFacts) -> int | None:
        """Return the number of units of a recurrent layer: `weight_hh` is (gates * hidden, hidden or projection)."""
        if tensor.role.kind not in (Part.RNN_WEIGHT, Part.RNN_BIAS):
            return None
        suffix = re.sub(r"^(weight|bias)_(ih|hh|hr)", "", tensor.role.leaf)
        recurrent, projected = self._beside(tensor, f"weight_hh{suffix}"), self._beside(tensor, f"weight_hr{suffix}")
        if projected:
            return projected[1]
        return recurrent[-1] if recurrent else None

    def is_doubtful(self, tensor: TensorFacts, verdicts: Mapping[str, InitMatch]) -> bool:
        """Return whether a small tensor may look untouched only because a short step keeps it in bounds.

        The rest of its layer tells: it took the same step.
        """
        verdict = verdicts[tensor.name]
        if verdict.family != "uniform" or verdict.within is None or tensor.ref.numel >= _SHARP:
            return False
        layer = self.roles.modules.get(tensor.role.module, {}).values()
        return any(ref.name in verdicts and verdicts[ref.name].strength is Strength.MOVED for ref in layer)

    # -- what needs the values once more ---------------------------------------------------------------

    def _constructed(self, tensor: TensorFacts, x: Numbers, values: _Values) -> InitMatch | None:
        """Recognize a matrix of 0 and one other magnitude: the sum of its squares is a multiple of the largest."""
        s = tensor.stats
        if s is None or len(tensor.ref.shape) < 2 or not x.largest or tensor.ref.numel > _MOST_READ:
            return None
        if not math.isclose(s.l2**2, (s.finite - s.zeros) * x.largest**2, rel_tol=1e-4) or values.all is None:
            return None
        name = constructed(values.all)
        return InitMatch(Strength.UNTOUCHED, name, "constant") if name is not None else None

    def _orthogonal(self, tensor: TensorFacts, x: Numbers, values: _Values) -> InitMatch | None:
        shape, n = tensor.ref.shape, tensor.ref.numel
        if len(shape) < 2 or not LEAST <= n <= _MOST_READ or not free.is_symmetric(x):
            return None
        squares, small = x.rms * x.rms * x.n, n <= _MOST_INDEPENDENT
        if small and (x.kurtosis is None or abs(x.kurtosis - 3) > 4 * math.sqrt(24 / x.sample) + 6 / max(shape)):
            return None  # entries of a random orthogonal matrix are all but normal
        other: InitMatch | None = None
        splits = ((1, 0), (3, 0), (4, 0), (3, 1), (4, 1)) if _is_fused(tensor) else ((1, 0),)
        for rows, columns in {(shape[0], n // shape[0]), (n // shape[-1], shape[-1])}:
            for parts, axis in splits:
                if (rows, columns)[axis] % parts:
                    continue
                part = (rows // parts, columns) if axis == 0 else (rows, columns // parts)
                if not small and not matching.has_gain(squares, *part, parts, x.rounding):
                    continue
                if values.all is None:
                    return None
                pieces = np.split(values.all.reshape(rows, columns), parts, axis)
                gains = [matching.is_orthogonal(piece, x.rounding) for piece in pieces]
                if None in gains:
                    continue
                words = matching.gain_words(gains[0] or 1.0, x.rounding)
                each = f", each of {parts} gates" if parts > 1 else ""
                found = InitMatch(Strength.UNTOUCHED, "orthogonal" + words + each, "orthogonal")
                if words in matching.GAINS.values():
                    return found  # three orthogonal gates, one below the other, are orthogonal with a gain of sqrt(3)
                if min(part) >= _LEAST_ROWS:  # two or three are so by chance
                    other = other or found
        return other

    def _independent(self, tensor: TensorFacts, candidate: Candidate, values: _Values) -> bool:
        if candidate.family is not NORMAL or tensor.ref.numel > _MOST_INDEPENDENT:
            return True
        return values.rows is None or matching.is_independent(values.rows, candidate)

    def _parts(self, tensor: TensorFacts, x: Numbers, values: _Values) -> InitMatch | None:
        """Judge the parts of a fused matrix: gates of a recurrent layer; query, key and value; gate and up."""
        shape, role = tensor.ref.shape, tensor.role
        if len(shape) != 2 or not _is_fused(tensor) or x.n > _MOST_READ:
            return None
        for axis in (0, 1):
            # The likelier number of parts first: a part of a part would fit too.
            for count in (4, 3) if role.kind is Part.RNN_WEIGHT else (3, 2, 4):
                if shape[axis] % count or (axis == 0) != (
                    self.framework(tensor) is Framework.TORCH and "c_attn" not in role.module
                ):
                    continue
                size = shape[axis] // count
                part_shape = (size, shape[1]) if axis == 0 else (shape[0], size)
                if math.prod(part_shape) < LEAST:
                    continue
                if values.all is None:
                    return None
                split = np.split(values.all, count, axis)
                pieces = [numbers.of_array(piece, x.rounding) for piece in split]
                for candidate in self._candidates(tensor, part_shape):
                    if candidate.family.name != "uniform":
                        continue
                    fitting = [i for i, piece in enumerate(pieces) if matching.fits(piece, candidate)]
                    if fitting:
                        which = "each" if len(fitting) == count else "part " + ", ".join(str(i + 1) for i in fitting)
                        formula = f"{which} of {count} parts: {candidate.formula}"
                        drawn = np.concatenate([split[i].ravel() for i in fitting])
                        return _uniform(tensor, formula, candidate, pieces[fitting[0]], drawn)
        return None


def _is_fused(tensor: TensorFacts) -> bool:
    """Return whether a matrix may hold several side by side: gates, or query, key and value."""
    role = tensor.role
    return role.kind is Part.RNN_WEIGHT or bool(
        _FUSED.search(role.leaf) and _FUSED_MODULE.search(role.module + role.leaf)
    )


def _uniform(
    tensor: TensorFacts, formula: str, candidate: Candidate, x: Numbers, drawn: npt.NDArray[Any] | None
) -> InitMatch:
    """Say how certain it is that what fits a uniform initializer is as drawn: exactly, or to a share of its bound."""
    on_grid = None
    if tensor.ref.dtype.name == "f32" and drawn is not None:
        on_grid = draws.is_uniform_draw(drawn, candidate.bound)
    within = None if on_grid else max(_UNSEEN / x.n, x.rounding)
    sure = on_grid is not False and (within is None or within <= _COARSE)
    return InitMatch(Strength.UNTOUCHED if sure else Strength.INIT_LIKE, formula, "uniform", None, within)


def _computed(tensor: TensorFacts, values: _Values) -> InitMatch | None:
    """Recognize equal rows, of which a sample shows the same few numbers again and again."""
    sampled = tensor.sampled
    if sampled is None or len(tensor.ref.shape) < 2 or tensor.ref.numel > _MOST_INDEPENDENT:
        return None
    if 2 * int((np.diff(sampled.knots) == 0).sum()) < sampled.knots.size or values.all is None:
        return None
    name = constructed(values.all)
    return InitMatch(Strength.UNTOUCHED, name, "constant") if name is not None else None


def _constant(tensor: TensorFacts) -> InitMatch | None:
    s, role = tensor.stats, tensor.role
    if s is None or s.nonfinite or s.low is None or s.high is None:
        return None
    if s.low == s.high:
        name = _CONSTANTS.get((role.kind, s.low))
        if name is None and (s.finite == 1 or role.kind is Part.COUNTER):
            return None  # a single value is always constant
        name = name or (f"all {significant(s.low, 6)}" if s.low else "zeros")
        return InitMatch(Strength.UNTOUCHED, name, "constant")
    # A quarter of the values are not 0, and none is above 1: if their squares sum to a quarter of n, they are ones.
    ones = s.finite / 4
    forget = s.finite - s.zeros == ones and math.isclose(s.l2**2, ones)
    if role.kind is Part.RNN_BIAS and (s.low, s.high) == (0, 1) and forget:
        return InitMatch(Strength.UNTOUCHED, "zeros, and ones for the forget gate (unit_forget_bias)", "constant")
    return None


def _has_padding(tensor: TensorFacts) -> bool:
    """Return whether the zeros of a table may be a few whole rows; of any other matrix, a single one."""
    s, shape = tensor.stats, tensor.ref.shape
    if s is None or not s.zeros or len(shape) != 2 or not shape[-1]:
        return False
    if tensor.role.kind is Part.EMBEDDING:
        return s.zeros % shape[-1] == 0 and s.zeros < s.finite / 2
    return tensor.role.kind is Part.WEIGHT and s.zeros == shape[-1] >= 8 and shape[0] > 2


def _moved(tensor: TensorFacts, x: Numbers, tried: Sequence[Candidate]) -> InitMatch | None:
    """Return MOVED, or None if the tensor is too small to tell: a small bias within its bounds may be untouched."""
    default = tried[0] if tried and tried[0].known else None
    if default is None:
        return InitMatch(Strength.MOVED) if tensor.role.kind is not Part.OTHER or x.n >= LEAST else None
    widest = max(c.bound for c in tried if c.known and c.family is default.family)
    if x.n < LEAST and x.largest <= widest * (1 + x.rounding) and math.isfinite(widest):
        return None
    return InitMatch(Strength.MOVED, default.formula, "", _ratio(tensor, default))


def _ratio(tensor: TensorFacts, start: Candidate) -> float:
    return (tensor.stats.std if tensor.stats is not None else 0.0) / start.std
