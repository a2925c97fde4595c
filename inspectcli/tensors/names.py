"""Names of tensors: their parts, the module they belong to, and the numbers that count blocks.

Which numbers count is a question of purpose, so three functions leave them out, each by a rule of its own:
`block_numbers` to show repeated blocks as one line, `pattern` to compare a tensor with its siblings, and `counted` to
pair modules that were numbered anew.

Names come from untrusted files: a number of more than nine digits counts nothing, and is text like any other.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence

Parts = tuple[str, ...]

_SEPARATORS = re.compile(r"[./]")
_INDEX = re.compile(r"[0-9]{1,9}")
#: A whole part, the end of a part that is not the last one, or what stands behind the word in Keras's
#: `block_1_expand` and `conv2_block1_1_conv`: `h.3.w`, `layer3.w`; not `conv1d.w`.
_BLOCK = re.compile(
    r"(?<![^./])[0-9]{1,9}(?=[./]|$)|(?<=[A-Za-z_])[0-9]{1,9}(?=[./])|(?:(?<=block)|(?<=block_))[0-9]{1,9}(?=_)"
)
#: A number that touches no letter: `layer1` is another kind of layer than `layer2`, `h.1` is not.
_APART = re.compile(r"(?<![A-Za-z])\d+(?![A-Za-z])")
#: The end of a part: `dense_3`, `layer4`, `7`.
_COUNTER = re.compile(r"_?\d+$")


def parts(name: str) -> Parts:
    """A name without its separators, and without TensorFlow's `:0`."""
    return tuple(p for p in _SEPARATORS.split(name.removesuffix(":0")) if p) or (name,)


def split_name(name: str) -> tuple[str, str]:
    """(module, leaf) of `a.b.weight` or `a/b/kernel:0`."""
    name = name.removesuffix(":0")
    at = max(name.rfind("."), name.rfind("/"))
    return (name[:at], name[at + 1 :]) if at >= 0 else ("", name)


def module_of(name: str, prefix: str = "") -> str:
    """The first part below `prefix`, and a number behind it: `h.3` of `h.3.attn.weight`, `head` of `head.weight`."""
    components = name[len(prefix) :].replace("/", ".").split(".")
    depth = 2 if len(components) > 2 and is_index(components[1]) else 1
    return ".".join(components[: min(depth, max(len(components) - 1, 1))])


def common_prefix(names: Sequence[str]) -> str:
    """`model.state_dict.` where all names begin with it: said once, above them. Never a whole name."""
    if len(names) < 2:
        return ""
    first, last = min(names), max(names)
    shared = first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
    end = max(shared.rfind("."), shared.rfind("/")) + 1
    prefix = shared[:end]
    return prefix if "{" not in prefix else ""


def fits(name: str, globs: Iterable[str]) -> bool:
    """Whether a name fits one of these patterns, as in a shell: `*.attn.*`, `h.[0-3].*`."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in globs)


def name_filter(globs: Sequence[str]) -> Callable[[str], bool] | None:
    """Whether a name is asked for: it fits a pattern, and none of those that begin with `!`; None without any.

    With no others than those that begin with `!`, every name that they leave fits.
    """
    if not globs:
        return None
    only = [pattern for pattern in globs if not pattern.startswith("!")]
    never = [pattern[1:] for pattern in globs if pattern.startswith("!")]
    return lambda name: (not only or fits(name, only)) and not fits(name, never)


# -- numbers --------------------------------------------------------------------------------------------


def is_index(part: str) -> bool:
    """Whether a part of a name counts: `7`."""
    return _INDEX.fullmatch(part) is not None


def block_numbers(name: str) -> tuple[Parts, tuple[int, ...]]:
    """The texts between the numbers of blocks, and the numbers: `h.3.w` -> (`h.`, `.w`), (3,)."""
    return tuple(_BLOCK.split(name)), tuple(map(int, _BLOCK.findall(name)))


def pattern(name: str) -> str:
    """The name with its block numbers left out: `h.3.mlp.weight` -> `h.#.mlp.weight`."""
    return _APART.sub("#", name)


def counted(name: str) -> Parts:
    """The parts without the numbers they end with: `dense_3.kernel` and `dense_7.kernel` are siblings."""
    return tuple(_COUNTER.sub("#", p) for p in parts(name))
