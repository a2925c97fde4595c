"""Recognize the initializer that drew a tensor, or tell how far the tensor has moved from it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from inspectcli.analysis.facts import InitMatch, Strength, TensorFacts
from inspectcli.analysis.initializers import matching, numbers
from inspectcli.analysis.initializers.config import ModelConfig, read_config
from inspectcli.analysis.initializers.families import NORMAL, UNIFORM, Candidate, candidates, place_in_model
from inspectcli.analysis.initializers.fans import Framework, fans
from inspectcli.analysis.initializers.numbers import Numbers
from inspectcli.analysis.roles import UNJUDGED, Part, Roles, pattern
from inspectcli.measure.again import whole
from inspectcli.tensors.model import Checkpoint

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


#: All values of a tensor, or None if it is too large.
_Values = Callable[[], "npt.NDArray[Any] | None"]

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
    model = _Model(checkpoint, read_config(checkpoint))
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
            verdicts[tensor.name] = InitMatch(Strength.MOVED)
    for tensor in tensors:
        if tensor.alias_of in verdicts:
            verdicts[tensor.name] = verdicts[tensor.alias_of]
    return verdicts


class _Match(NamedTuple):
    """Results of the tests of one tensor, before layers are compared."""

    exact: InitMatch | None = None
    fitting: tuple[Candidate, ...] = ()  # normal families that fit
    n: int = 0
    moved: InitMatch | None = None

    @property
    def enough(self) -> bool:
        """Whether there are enough values to judge a normal distribution."""
        return self.n >= LEAST_NORMAL

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
        ]
        if believed:
            best = max(believed, key=lambda c: (labels[c.label], c.known))
            return InitMatch(Strength.INIT_LIKE, best.formula, best.family.name)
        return self.moved


def _is_fresh(weights: Sequence[_Match]) -> bool:
    """Return whether nearly all weights of the file fit an initializer. Small ones and constants do not count."""
    drawn = [m for m in weights if m.enough or (m.exact is not None and m.exact.family != "constant")]
    alike = sum(m.exact is not None or bool(m.fitting) for m in drawn)
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
        padded = tensor.role.kind is Part.EMBEDDING and _has_padding(tensor)
        x = numbers.of_tensor(tensor, without_zeros=padded)
        if x is None or x.rms == 0:
            return _Match()
        values = lru_cache(maxsize=1)(partial(whole, tensor.ref, _MOST_READ))  # read once more, by whoever asks first
        orthogonal = self._orthogonal(tensor, x, values)
        if orthogonal is not None:
            return _Match(exact=orthogonal)
        tried = self._candidates(tensor, tensor.ref.shape)
        fitting: list[Candidate] = []
        if x.n >= LEAST:
            for candidate in tried:
                if not matching.fits(x, candidate) or not self._independent(tensor, candidate, padded, values):
                    continue
                if candidate.family is UNIFORM:
                    return _Match(exact=InitMatch(Strength.UNTOUCHED, candidate.formula, candidate.family.name))
                fitting.append(candidate)
            parts = self._parts(tensor, x, values) if not fitting else None
            if parts is not None:
                return _Match(exact=parts)
        return _Match(fitting=tuple(fitting), n=x.n, moved=_moved(tensor, x, tried))

    def _candidates(self, tensor: TensorFacts, shape: tuple[int, ...]) -> tuple[Candidate, ...]:
        """Worked out once for all tensors of one shape and place in a layer."""
        weight = self._beside(tensor, tensor.role.leaf.replace("bias", "weight")) or self._beside(tensor, "weight")
        first = next(fans(weight, Framework.TORCH), None)
        role, framework, hidden = tensor.role, self.framework(tensor), self._hidden(tensor)
        fan_in, in1 = first.fan_in if first else None, weight[1] if len(weight) == 3 else None
        key = (shape, role.kind, role.leaf, *place_in_model(role), framework, fan_in, hidden, in1)
        if key not in self._tried:
            found = candidates(shape, role, framework, self.config, fan_in=fan_in, hidden=hidden, in1=in1)
            self._tried[key] = tuple(found)
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
        if verdict.family != "uniform" or tensor.ref.numel >= _SHARP:
            return False
        layer = self.roles.modules.get(tensor.role.module, {}).values()
        return any(ref.name in verdicts and verdicts[ref.name].strength is Strength.MOVED for ref in layer)

    # -- what needs the values once more ---------------------------------------------------------------

    def _orthogonal(self, tensor: TensorFacts, x: Numbers, values: _Values) -> InitMatch | None:
        shape, n = tensor.ref.shape, tensor.ref.numel
        if len(shape) < 2 or not LEAST <= n <= _MOST_READ:
            return None
        squares = x.rms * x.rms * x.n
        for rows, columns in {(shape[0], n // shape[0]), (n // shape[-1], shape[-1])}:
            for parts, axis in ((1, 0), (3, 0), (4, 0), (3, 1), (4, 1)):
                if (rows, columns)[axis] % parts:
                    continue
                part = (rows // parts, columns) if axis == 0 else (rows, columns // parts)
                gain = matching.may_be_orthogonal(squares, *part, parts, x.rounding)
                array = values() if gain is not None else None
                if gain is None or array is None:
                    continue
                pieces = np.split(array.reshape(rows, columns), parts, axis)
                if all(matching.is_orthogonal(piece, gain, x.rounding) for piece in pieces):
                    formula = "orthogonal" + matching.GAINS[gain]
                    each = f", each of {parts} gates" if parts > 1 else ""
                    return InitMatch(Strength.UNTOUCHED, formula + each, "orthogonal")
        return None

    def _independent(self, tensor: TensorFacts, candidate: Candidate, padded: bool, values: _Values) -> bool:
        if (
            candidate.family is not NORMAL
            or padded
            or len(tensor.ref.shape) < 2
            or tensor.ref.numel > _MOST_INDEPENDENT
        ):
            return True
        array = values()
        return array is None or matching.is_independent(array, candidate)

    def _parts(self, tensor: TensorFacts, x: Numbers, values: _Values) -> InitMatch | None:
        """Judge the parts of a fused matrix: gates of a recurrent layer; query, key and value; gate and up."""
        shape, role = tensor.ref.shape, tensor.role
        fused = role.kind is Part.RNN_WEIGHT or (
            _FUSED.search(role.leaf) and _FUSED_MODULE.search(role.module + role.leaf)
        )
        if len(shape) != 2 or not fused or x.n > _MOST_READ:
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
                array = values()
                if array is None:
                    return None
                pieces = [numbers.of_array(piece, x.rounding) for piece in np.split(array, count, axis)]
                for candidate in self._candidates(tensor, part_shape):
                    if candidate.family.name != "uniform":
                        continue
                    fitting = [i + 1 for i, piece in enumerate(pieces) if matching.fits(piece, candidate)]
                    if fitting:
                        which = "each" if len(fitting) == count else "part " + ", ".join(map(str, fitting))
                        return InitMatch(
                            Strength.UNTOUCHED, f"{which} of {count} parts: {candidate.formula}", "uniform"
                        )
        return None


def _constant(tensor: TensorFacts) -> InitMatch | None:
    s, role = tensor.stats, tensor.role
    if s is None or s.nonfinite or s.low is None or s.high is None:
        return None
    if s.low == s.high:
        name = _CONSTANTS.get((role.kind, s.low))
        if name is None and (s.finite == 1 or role.kind is Part.COUNTER):
            return None  # a single value is always constant
        name = name or (f"all {s.low:g}" if s.low else "zeros")
        return InitMatch(Strength.UNTOUCHED, name, "constant")
    # A quarter of the values are not 0, and none is above 1: if their squares sum to a quarter of n, they are ones.
    ones = s.finite / 4
    forget = s.finite - s.zeros == ones and math.isclose(s.l2**2, ones)
    if role.kind is Part.RNN_BIAS and (s.low, s.high) == (0, 1) and forget:
        return InitMatch(Strength.UNTOUCHED, "zeros, and ones for the forget gate (unit_forget_bias)", "constant")
    return None


def _has_padding(tensor: TensorFacts) -> bool:
    """Return whether the zeros of a table may be a few whole rows."""
    s, width = tensor.stats, tensor.ref.shape[-1] if tensor.ref.shape else 0
    return bool(s is not None and width and s.zeros and s.zeros % width == 0 and s.zeros < s.finite / 2)


def _moved(tensor: TensorFacts, x: Numbers, tried: Sequence[Candidate]) -> InitMatch | None:
    """Return MOVED, or None if the tensor is too small to tell: a small bias within its bounds may be untouched."""
    default = tried[0] if tried and tried[0].known else None
    if default is None:
        return InitMatch(Strength.MOVED) if tensor.role.kind is not Part.OTHER or x.n >= LEAST else None
    widest = max(c.bound for c in tried if c.known and c.family is default.family)
    if x.n < LEAST and x.largest <= widest * (1 + x.rounding) and math.isfinite(widest):
        return None
    std = tensor.stats.std if tensor.stats is not None else 0.0
    return InitMatch(Strength.MOVED, default.formula, "", std / default.std)
