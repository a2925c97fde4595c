"""Inert nodes of the pickle machine -> plain Python: what a config would be if it were loaded. Tensors are left out."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

from inspectcli.formats.torch.tree import key_text
from inspectcli.hparams._tree import MAX_DEPTH, Attributes
from inspectcli.pickles.nodes import Dict, Global, Object, Set
from inspectcli.pickles.tensors import text_bytes
from inspectcli.tensors.model import TensorRef
from inspectcli.tensors.names import is_index

#: No honest checkpoint has more objects beside its tensors.
MAX_NODES = 500_000

#: What stands for a value that is left out.
ABSENT = object()

_REBUILDS = ("torch._utils._rebuild", "torch._tensor._rebuild", "torch.nn.parameter.", "numpy.core.multiarray._recon",
             "numpy._core.multiarray._recon", "torch.storage.", "torch.FloatStorage", "torch.jit.")  # fmt: skip
_STRUCT = {"f32": "<f", "f64": "<d", "f16": "<e", "i64": "<q", "i32": "<i", "i16": "<h", "i8": "<b", "u8": "<B"}
_NUMPY = {"f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i", "i2": "<h", "i1": "<b", "u8": "<Q", "b1": "<?"}

#: Dicts of these names hold what was set, even if there are tensors among it: `class_weights`, a rate as a tensor.
_SETTINGS = re.compile(
    r"(^|_)(config|cfg|conf|args|arguments|options|opt|hparams?|hps?|hyper_?param\w*|settings|kwargs)$", re.IGNORECASE
)
#: Dicts of these names hold a model, even one whose tensors all have one element.
_WEIGHTS = re.compile(
    r"(^|_)(state_?dict|model|net|network|module|ema|weights|params|generator|discriminator)$", re.IGNORECASE
)
#: Dicts of an optimizer and of a schedule: their tensors are steps and rates.
_OPTIMIZING = frozenset({"param_groups", "base_lrs", "_last_lr"})


class Module(Attributes):
    """The attributes of a pickled nn.Module; `cls` is its class's bare name."""

    cls = ""


def plain(node: object, tensors: Mapping[str, TensorRef] | None = None) -> object:
    """The tree below a node; `tensors` are those of one element, by name, whose values are wanted."""
    return _Reader(tensors or {}).value(node, ())


class _Reader:
    def __init__(self, tensors: Mapping[str, TensorRef]) -> None:
        self.tensors = tensors
        self.active: set[int] = set()
        self.left = MAX_NODES
        self.weights: dict[int, bool] = {}

    def value(self, node: object, path: tuple[str, ...]) -> object:
        if node is None or isinstance(node, str | int | float | bool):
            return node
        if isinstance(node, bytes | bytearray):
            return bytes(node[:1000]).decode("latin-1")
        if isinstance(node, Global):
            return node.path
        self.left -= 1
        if self.left < 0 or len(path) > MAX_DEPTH or id(node) in self.active:
            return ABSENT
        self.active.add(id(node))
        try:
            return self.container(node, path)
        finally:
            self.active.discard(id(node))

    def container(self, node: object, path: tuple[str, ...]) -> object:
        if isinstance(node, Dict):
            return self.mapping(node, path)
        if isinstance(node, list | tuple):
            return self.listed(list(node), path)
        if isinstance(node, Set):
            return self.listed(node.members, path)
        if isinstance(node, Object):
            return self.instance(node, path)
        return ABSENT

    def mapping(self, node: Dict, path: tuple[str, ...]) -> dict[str, object]:
        made = {}
        # Of an optimizer's state the names matter, even where the value is a tensor.
        of_optimizer = path[-2:-1] == ("state",)
        learned = self.is_model(node, path)
        for key, child in node.items():
            name = key_text(key)
            value = ABSENT if learned and _is_tensor(child) else self.value(child, (*path, name))
            if value is not ABSENT:
                made[name] = value
            elif of_optimizer:
                made[name] = None
        return made

    def is_model(self, node: Dict, path: tuple[str, ...]) -> bool:
        """Whether a tensor of one element in this dict was learned, like those around it: a bias, a logit scale."""
        if not _OPTIMIZING.isdisjoint(path) or any(map(_SETTINGS.search, path)):
            return False
        if path[-2:-1] == ("state",) and (is_index(path[-1]) or node.get("step") is not None):
            return False
        if path:
            return _WEIGHTS.search(path[-1]) is not None or self.holds_weights(node, path)
        children = list(node.values)
        return all(map(_is_tensor, children)) or any(self.is_weight(v, key_text(k)) for k, v in node.items())

    def holds_weights(self, node: object, path: tuple[str, ...], depth: int = 0) -> bool:
        """Whether a tensor of several elements lies in this dict or below it."""
        if not isinstance(node, Dict):
            node = node.entries if isinstance(node, Object) and node.entries is not None else None
        if node is None or depth > MAX_DEPTH:
            return False
        known = self.weights.get(id(node))
        if known is None:
            self.weights[id(node)] = False  # it may hold itself
            known = self.weights[id(node)] = any(
                self.is_weight(child, ".".join((*path, key_text(key))))
                or self.holds_weights(child, (*path, key_text(key)), depth + 1)
                for key, child in node.items()
            )
        return known

    def is_weight(self, node: object, name: str) -> bool:
        return _is_tensor(node) and name not in self.tensors

    def listed(self, nodes: list[object], path: tuple[str, ...]) -> list[object]:
        values = (self.value(child, (*path, str(i))) for i, child in enumerate(nodes))
        return [v for v in values if v is not ABSENT]

    def instance(self, node: Object, path: tuple[str, ...]) -> object:
        called = node.path
        if called.startswith(_REBUILDS):
            return self.tensor(path)
        known = _SPECIAL.get(called)
        if known is not None:
            return known(self, node, path)
        state = self.state(node, path)
        if called.startswith("omegaconf."):
            return self.omegaconf(state)
        if node.entries is not None:
            return {"__class__": called, **self.mapping(node.entries, path)}
        if "_modules" in state:
            return self.module(node, state)
        if state:
            return Attributes({"__class__": called, **state})
        if node.members is not None:
            return self.listed(node.members, path)
        if len(node.args) == 1 and isinstance(node.args[0], str | int | float):  # Enum: SchedulerType('cosine')
            return node.args[0]
        return called or ABSENT

    def module(self, node: Object, state: dict[str, object]) -> Module:
        made = Module({"__class__": node.path, **state})
        made.cls = node.path.rpartition(".")[2]
        return made

    def state(self, node: Object, path: tuple[str, ...]) -> dict[str, object]:
        """What BUILD was given: a dict, or (dict or None, dict of slots)."""
        parts = node.state if isinstance(node.state, tuple) else (node.state,)
        made: dict[str, object] = {}
        for part in parts:
            if isinstance(part, Dict):
                made.update(self.mapping(part, path))
        return made

    def omegaconf(self, state: dict[str, object]) -> object:
        """DictConfig and ListConfig keep `_content`, their leaves `_val`."""
        return state.get("_val") if "_val" in state else state.get("_content", ABSENT)

    def tensor(self, path: tuple[str, ...]) -> object:
        """The number in a tensor of one element: learning rates and steps are kept like that."""
        ref = self.tensors.get(".".join(path))
        return ABSENT if ref is None else one_number(ref)


def _is_tensor(node: object) -> bool:
    return isinstance(node, Object) and node.path.startswith(_REBUILDS)


def one_number(ref: TensorRef) -> object:
    """The value of a tensor of one element; ABSENT if it cannot be read at once."""
    form = _STRUCT.get(ref.dtype.name)
    if form is None or len(ref.segments) != 1 or ref.problem:
        return ABSENT
    segment = ref.segments[0]
    if not segment.codec.is_plain:
        return ABSENT
    order = ">" if ref.big_endian else "<"
    (value,) = struct.unpack(order + form[1], segment.source.read_at(segment.offset, struct.calcsize(form)))
    return value


# -- classes whose meaning is known ---------------------------------------------------------------------


def _first(reader: _Reader, node: Object, path: tuple[str, ...]) -> object:
    """A wrapper around its only argument: set([...]), torch.Size((...)), torch.device('cpu')."""
    if node.entries is not None:
        return reader.mapping(node.entries, path)
    return reader.value(node.args[0], path) if node.args else []


def _ordered(reader: _Reader, node: Object, path: tuple[str, ...]) -> object:
    made = reader.mapping(node.entries, path) if node.entries is not None else {}
    pairs = node.args[0] if node.args else None  # OrderedDict([(key, value), ...]), as Python 2 wrote it
    for pair in pairs if isinstance(pairs, list) else ():
        if isinstance(pair, list | tuple) and len(pair) == 2:
            made[key_text(pair[0])] = reader.value(pair[1], (*path, key_text(pair[0])))
    return {k: v for k, v in made.items() if v is not ABSENT}


def _counter(reader: _Reader, node: Object, path: tuple[str, ...]) -> object:
    """MultiStepLR's milestones: each as often as it counts, sorted."""
    counts = node.args[0] if node.args else node.entries
    listed: list[object] = []
    for key, n in counts.items() if isinstance(counts, Dict) else ():
        listed += [key] * min(n, 100) if type(n) is int and isinstance(key, int | str) else []
    return sorted(listed, key=lambda v: (isinstance(v, str), v))


def _path(reader: _Reader, node: Object, path: tuple[str, ...]) -> object:
    parts = [p for p in node.args if isinstance(p, str)]
    return "/".join(parts).replace("//", "/")


def _getattr(reader: _Reader, node: Object, path: tuple[str, ...]) -> object:
    owner, name = (*node.args, None, None)[:2]
    return f"{owner.path}.{name}" if isinstance(owner, Global) else ABSENT


def _numpy_scalar(reader: _Reader, node: Object, path: tuple[str, ...]) -> object:
    dtype, raw = (*node.args, None, None)[:2]
    code = dtype.args[0] if isinstance(dtype, Object) and dtype.args else None
    form = _NUMPY.get(code) if isinstance(code, str) else None
    data = text_bytes(raw)
    if form is None or data is None or len(data) != struct.calcsize(form):
        return ABSENT
    return struct.unpack(form, data)[0]


def _partial(reader: _Reader, node: Object, path: tuple[str, ...]) -> object:
    """functools.partial: the function's name and the keyword arguments."""
    target = node.args[0] if node.args else None
    state = node.state if isinstance(node.state, tuple) else ()
    keywords = next((reader.mapping(part, path) for part in state if isinstance(part, Dict)), {})
    return {"_target_": target.path if isinstance(target, Global) else "functools.partial", **keywords}


_PATHS = ("PosixPath", "WindowsPath", "Path", "PurePosixPath", "PureWindowsPath", "PurePath")

_SPECIAL = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _ordered,
    "collections.Counter": _counter,
    "functools.partial": _partial,
    **{f"{m}.{n}": _first for m in ("builtins", "__builtin__") for n in ("set", "frozenset", "list", "tuple", "dict")},
    "torch.Size": _first,
    "torch.device": _first,
    **{f"pathlib{m}.{n}": _path for m in ("", "._local") for n in _PATHS},
    "builtins.getattr": _getattr,
    "__builtin__.getattr": _getattr,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
}
