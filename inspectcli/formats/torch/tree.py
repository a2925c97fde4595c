"""Named tensors of the object in a torch file: paths are those of `state_dict`, and tell what each tensor is for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

from inspectcli.errors import LimitError, PinspectError
from inspectcli.formats.torch.optimizers import optimizer_class, param_groups
from inspectcli.pickles.globals import is_torchscript
from inspectcli.pickles.nodes import Dict, Global, Object, Set, dict_of
from inspectcli.pickles.tensors import Rebuilder, Tensor, span, text_bytes
from inspectcli.storage.memory import Memory
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import NumberClass
from inspectcli.tensors.model import Affine, Kind, TensorRef, Training
from inspectcli.tensors.stored import c_strides, elements

MAX_DEPTH = 200
MAX_TENSORS = 1_000_000
MAX_VISITS = 5_000_000
#: Characters of one tensor's name, and of all names beyond ROOM_OF_NAME for each tensor.
MAX_NAME, MAX_NAMES, ROOM_OF_NAME = 32_768, 16 << 20, 200
#: Names of tensors that have one already, beyond MAX_TIES_EACH for each tensor.
MAX_TIES, MAX_TIES_EACH = 10_000, 8
#: Views of one storage may ask for this many times its bytes, and what is deflated for this many times the file's.
MAX_REREADS, REREAD_FLOOR = 16, 64 << 20

#: Keys, indices and attributes that lead to an object, as the file has them.
Path = tuple[object, ...]

_SCALARS = frozenset({int, float, bool, str, bytes, type(None)})


@dataclass(slots=True)
class TorchTree:
    """Result of walking an object.

    Attributes:
        paths: where each of the tensors stands.
        aside: what is there besides tensors, by its kind: how many; and the first of them near the top, by
            their names.
        too_deep: whether something was left out, since it is nested too deep.
    """

    tensors: list[TensorRef] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    aside: dict[str, int] = field(default_factory=dict)
    first_aside: list[str] = field(default_factory=list)
    too_deep: bool = False


class _Walker:
    def __init__(self, rebuilder: Rebuilder, identity: str, tree: TorchTree) -> None:
        self.rebuilder = rebuilder
        self.identity = identity
        self.tree = tree
        self.active: set[int] = set()
        self.barren: set[int] = set()  # containers without a tensor below: not visited twice
        self.counted: set[int] = set()  # containers whose numbers and texts were counted
        self.visits = 0
        self.walked: set[int] = set()
        self.emitted: dict[int, Tensor] = {}
        self.ties = 0
        self.name_room = MAX_NAMES
        self.views: set[object] = set()
        self.asked: dict[object, int] = {}  # storage -> bytes that its views ask for
        self.inflated = 0

    def visit(self, node: object, path: Path, kind: Kind | None, layer: str) -> None:
        if type(node) in _SCALARS or isinstance(node, Global) or id(node) in self.active or id(node) in self.barren:
            return
        # What is shared costs as much each time as it is large.
        self.visits += 1 + (_width(node) if id(node) in self.walked else 0)
        self.walked.add(id(node))
        if self.visits > MAX_VISITS:
            raise LimitError(f"more than {MAX_VISITS:,} objects to look at: the file repeats itself without end")
        tensor = self.rebuilder.tensor(node)
        if tensor is not None:
            self.emit(tensor, path, kind, layer)
            if isinstance(node, Object) and node.state is not None:
                self.attributes(node.state, path)
            return
        if len(path) >= MAX_DEPTH:
            self.tree.too_deep = True
            return
        before = len(self.tree.tensors)
        self.active.add(id(node))
        # The versions of modules, which every state dict has, do not count.
        new = id(node) not in self.counted and "_metadata" not in path
        new = new and not (isinstance(node, Object) and is_module(node))
        self.counted.add(id(node))
        for child, key, child_kind, child_layer in self.children(node, layer):
            if type(child) not in _SCALARS:
                self.visit(child, (*path, *key), child_kind or kind, child_layer)
            elif new:
                self.count(child, path, key)
        self.active.discard(id(node))
        if len(self.tree.tensors) == before and not self.tree.too_deep:
            self.barren.add(id(node))

    def count(self, value: object, path: Path, key: Path) -> None:
        """Count a number or text."""
        kind = _ASIDE.get(type(value))
        if kind is None:
            return
        self.tree.aside[kind] = self.tree.aside.get(kind, 0) + 1
        if len(path) + len(key) <= 2 and len(self.tree.first_aside) < 5:
            self.tree.first_aside.append(".".join(map(key_text, (*path, *key))))

    def children(self, node: object, layer: str) -> Iterator[tuple[object, Path, Kind | None, str]]:
        """Yield (child, its components of the path, its kind if that is known, class of the module around it)."""
        if isinstance(node, Dict):
            for key, value in node.items():
                yield value, (key,), None, layer
        elif isinstance(node, list | tuple):
            for index, value in enumerate(node):
                yield value, (index,), None, layer
        elif isinstance(node, Set):
            for index, value in enumerate(node.members):
                yield value, (index,), None, layer
        elif isinstance(node, Object):
            yield from self.object_children(node)

    def object_children(self, node: Object) -> Iterator[tuple[object, Path, Kind | None, str]]:
        # Only a module names a layer, a container class (OrderedDict, the dict of a ParameterDict) does not.
        name = node.func.name if isinstance(node.func, Global) and is_module(node) else ""
        for index, value in enumerate(node.args):
            if type(value) not in _SCALARS:
                # OrderedDict([(key, value), ...]), as Python 2 pickles it: its items are those of the list.
                pairs = _pairs(value) if node.path == "collections.OrderedDict" else None
                if pairs is not None:
                    yield from ((v, (k,), None, name) for k, v in pairs)
                else:
                    yield value, ("__args__", index), None, name
        for attributes in _state_parts(node.state):
            if isinstance(attributes, Dict):
                yield from _module_children(attributes, name)
            else:
                yield attributes, ("__state__",), None, name
        if node.entries is not None:
            yield from ((value, (key,), None, "") for key, value in node.entries.items())
        for index, value in enumerate(node.members or ()):
            yield value, (index,), None, name

    def attributes(self, state: object, path: Path) -> None:
        """Visit the Python attributes of a tensor or dict; `_metadata` of an OrderedDict holds no tensor."""
        for part in _state_parts(state):
            if isinstance(part, Dict):
                self.visits += len(part.keys)
                for key, value in part.items():
                    if isinstance(value, Object) and self.rebuilder.tensor(value) is not None:
                        self.visit(value, (*path, key), Kind.OTHER, "")

    def emit(self, tensor: Tensor, path: Path, kind: Kind | None, layer: str) -> None:
        if len(self.tree.tensors) >= MAX_TENSORS:
            raise LimitError(f"more than {MAX_TENSORS:,} tensors")
        texts = tuple(map(key_text, path))
        name = ".".join(texts) or "tensor"
        self.count_name(tensor, len(name) + 1)
        kind = kind_of(texts, tensor, kind)
        ref = tensor_ref(tensor, name, kind, layer, self.identity)
        self.tree.paths.append(path)
        self.tree.tensors.append(self.bounded(ref, tensor))
        for key, part in tensor.parts.items():
            self.emit(part, (*path, key), Kind.QUANTIZATION if kind is Kind.PARAMETER else kind, layer)

    def count_name(self, tensor: Tensor, length: int) -> None:
        """Count one name of a tensor.

        Raises:
            LimitError: it is too long, all are, or a few tensors have very many.
        """
        self.name_room += ROOM_OF_NAME - length
        if length > MAX_NAME or self.name_room < 0:
            raise LimitError(
                f"names of tensors are too long: one of {length:,} characters, at most {MAX_NAME:,} are read, "
                f"and {MAX_NAMES:,} of all"
            )
        if id(tensor) not in self.emitted:
            self.emitted[id(tensor)] = tensor
            return
        self.ties += 1
        if self.ties > MAX_TIES + MAX_TIES_EACH * len(self.emitted):
            raise LimitError(f"more than {self.ties - 1:,} names of {len(self.emitted):,} tensors: a web of references")

    def bounded(self, ref: TensorRef, tensor: Tensor) -> TensorRef:
        """Return the tensor; one too many of the views that ask for the same bytes with a problem."""
        storage = (tensor.values or tensor).storage
        if storage is None or not ref.segments or ref.storage in self.views:
            return ref
        self.views.add(ref.storage)
        (segment,) = ref.segments
        # What is deflated is inflated from its beginning.
        deflated = not segment.codec.is_plain
        cost = segment.nbytes + (segment.skip if deflated else 0)
        asked = self.asked[storage.identity] = self.asked.get(storage.identity, 0) + cost
        if asked > MAX_REREADS * storage.nbytes + REREAD_FLOOR:
            problem = f"views of its storage ask for more than {MAX_REREADS} times its bytes"
            return replace(ref, segments=(), problem=problem)
        self.inflated += cost if deflated else 0
        if deflated and self.inflated > MAX_REREADS * segment.source.size + 8 * REREAD_FLOOR:
            problem = f"compressed storages ask for more than {MAX_REREADS} times the file's bytes"
            return replace(ref, segments=(), problem=problem)
        return ref


def _width(node: object) -> int:
    """Return how many children a container has."""
    if isinstance(node, Dict):
        return len(node.keys)
    if isinstance(node, list | tuple):
        return len(node)
    if isinstance(node, Set):
        return len(node.members)
    if isinstance(node, Object):
        state = node.state
        return (
            len(node.args)
            + len(node.members or ())
            + (len(node.entries.keys) if node.entries else 0)
            + (len(state.keys) if isinstance(state, Dict) else 0)
        )
    return 0


def _pairs(value: object) -> list[tuple[object, object]] | None:
    if isinstance(value, list) and value and all(isinstance(v, list | tuple) and len(v) == 2 for v in value):
        return [(v[0], v[1]) for v in value]
    return None


def _state_parts(state: object) -> tuple[object, ...]:
    """Return the dicts in the state of BUILD, which is a dict, or (dict or None, dict of slots)."""
    if isinstance(state, tuple) and len(state) == 2 and all(isinstance(s, Dict | None) for s in state):
        return tuple(s for s in state if s is not None)
    return () if state is None else (state,)


def _module_children(state: Dict, layer: str) -> Iterator[tuple[object, Path, Kind | None, str]]:
    """Yield the attributes of an object; those of an nn.Module under the names that `state_dict` gives them."""
    holders = {"_parameters": Kind.PARAMETER, "_buffers": Kind.BUFFER, "_modules": None}
    is_module = state.get("_modules") is not None or state.get("_parameters") is not None
    for key, value in state.items():
        if is_module and isinstance(key, str) and key in holders:
            for name, child in _items(value):
                yield child, (name,), holders[key], layer
        elif not (is_module and key == "_flat_weights"):  # recurrent layers list the same parameters a second time
            yield value, (key,), None, layer


def _items(node: object) -> Iterator[tuple[object, object]]:
    if isinstance(node, Dict):
        yield from node.items()
    elif isinstance(node, Object):
        if node.entries is not None:
            yield from node.entries.items()
        for arg in node.args:
            yield from _pairs(arg) or ()


_ASIDE = {int: "number", float: "number", bool: "flag", str: "text", bytes: "text"}
#: Of a key that is an object, arguments that are shown, and levels of objects in objects.
_KEY_PARTS, _KEY_DEPTH = 8, 3


def key_text(key: object) -> str:
    """Return a dict key as a component of a tensor's name: `weight`, `0`, `(1, 2)`, `Color(1)`, `Key(a=1)`."""
    return key if isinstance(key, str) else _key_text(key, 0)


def _key_text(key: object, depth: int) -> str:
    if isinstance(key, str):
        return repr(key[:100])
    if isinstance(key, bytes):
        return key.decode("latin-1")
    if isinstance(key, bool | int | float | None):
        return str(key)
    if isinstance(key, Global):
        return key.path
    if depth >= _KEY_DEPTH:
        return "..."
    if isinstance(key, tuple | list):
        parts = [part if isinstance(part, str) else _key_text(part, depth + 1) for part in key[:_KEY_PARTS]]
        return f"({', '.join(parts)}{', ...' if len(key) > _KEY_PARTS else ''})"
    encoded = text_bytes(key)
    if encoded is not None:
        return encoded.decode("latin-1")
    if isinstance(key, Object) and isinstance(key.func, Global):
        return f"{key.func.name}({', '.join(_key_arguments(key, depth + 1))})"
    return f"<{type(key).__name__.lower()}>"


def _key_arguments(key: Object, depth: int) -> Iterator[str]:
    """Yield the arguments and attributes of an object that is a key: of an enum its value, of a dataclass fields."""
    for arg in key.args[:_KEY_PARTS]:
        yield _key_text(arg, depth)
    for part in _state_parts(key.state):
        if isinstance(part, Dict):
            for name, value in zip(part.keys[:_KEY_PARTS], part.values, strict=False):
                yield f"{key_text(name)}={_key_text(value, depth)}"


def _bracketed(path: Path) -> str:
    """Return a path as Python would write it: `['a.b']`, `['a']['b']`, `[1]`."""
    return "".join(f"[{key!r}]" if isinstance(key, str) else f"[{key_text(key)}]" for key in path)


def _set_apart(tree: TorchTree) -> None:
    """Give tensors whose paths read alike different names. The shortest path of strings keeps the dotted one."""
    by_name: dict[str, list[int]] = {}
    for position, ref in enumerate(tree.tensors):
        by_name.setdefault(ref.name, []).append(position)
    taken = set(by_name)
    numbers: dict[str, int] = {}
    for positions in by_name.values():
        if len(positions) > 1:
            _, *others = sorted(positions, key=lambda p: (len(tree.paths[p]), not _is_text(tree.paths[p])))
            for position in sorted(others):
                name = plain = _bracketed(tree.paths[position])
                while name in taken:
                    numbers[plain] = numbers.get(plain, 1) + 1
                    name = f"{plain} #{numbers[plain]}"
                taken.add(name)
                tree.tensors[position] = replace(tree.tensors[position], name=name)


def _is_text(path: Path) -> bool:
    return all(isinstance(key, str) for key in path)


# -- what a tensor is for: from where it stands ---------------------------------------------------------

_OPTIMIZER = re.compile(r"optim|^opt$|^opt[_-]|[_-]opt$|^opt[GD]$", re.IGNORECASE)
_RNG = re.compile(r"(^|[_-])rng([_-]|$)|random_state|rng_states?$", re.IGNORECASE)
_EMA = re.compile(r"(^|[_-])ema([_-]|$)|shadow_params|^averaged?_model", re.IGNORECASE)
_FIRST_KEY = {
    "callbacks": Kind.CALLBACK,
    "loops": Kind.CALLBACK,
    "lr_schedulers": Kind.CALLBACK,
    "lr_scheduler": Kind.CALLBACK,
    "scheduler": Kind.CALLBACK,
    "scheduler_state_dict": Kind.CALLBACK,
    "hyper_parameters": Kind.HYPERPARAMETER,
    "datamodule_hyper_parameters": Kind.HYPERPARAMETER,
    "hparams": Kind.HYPERPARAMETER,
}
_OPTIMIZER_LEAVES = frozenset(
    "exp_avg exp_avg_sq max_exp_avg_sq exp_inf momentum_buffer square_avg acc_delta grad_avg".split()
)
_BUFFER_LEAVES = frozenset(
    "running_mean running_var num_batches_tracked position_ids inv_freq causal_mask attn_mask".split()
)


def kind_of(path: tuple[str, ...], tensor: Tensor, known: Kind | None) -> Kind:
    """Return what a tensor is for: told by the containers of its path, then by its leaf, then by its element type."""
    if len(path) > 1:
        if path[0] in _FIRST_KEY:
            return _FIRST_KEY[path[0]]
        if any(_OPTIMIZER.search(part) for part in path[:2]) or (path[-1] in _OPTIMIZER_LEAVES and path[-2].isdigit()):
            return Kind.OPTIMIZER
        if any(_RNG.search(part) for part in path[:2]):
            return Kind.RNG
        if known is None and any(_EMA.search(part) for part in path[:-1][:2]):
            return Kind.EMA
    elif path and _RNG.search(path[0]):
        return Kind.RNG
    if known is not None:
        return known
    return leaf_kind(path[-1].rpartition(".")[2] if path else "", tensor.dtype.family, tensor.parameter)


def leaf_kind(leaf: str, family: NumberClass, parameter: bool = False) -> Kind:
    """Return PARAMETER or BUFFER, by the last component of the name and the element type: integers are not trained."""
    if leaf in _BUFFER_LEAVES or (family in (NumberClass.INT, NumberClass.BOOL) and not parameter):
        return Kind.BUFFER
    return Kind.PARAMETER


# -- one tensor -----------------------------------------------------------------------------------------


def tensor_ref(tensor: Tensor, name: str, kind: Kind, layer: str, identity: str) -> TensorRef:
    """Return the description of a rebuilt tensor. `identity` tells storages of different files apart."""
    held = tensor.values or tensor
    segments: tuple[Segment, ...] = ()
    problem = ""
    try:
        segments = _segments(held)
    except PinspectError as error:
        problem = error.message
    strides = held.strides
    if strides is not None and (strides == c_strides(held.shape) or prod(held.shape) <= 1):
        strides = None
    key = None
    if held.storage is not None:
        first = (held.offset, held.storage.shift)
        whole = None if held is tensor else tensor.shape
        places = elements(held.shape, held.strides)
        bits = (held.negated, held.conjugated)
        key = (identity, *held.storage.identity, first, tensor.dtype.name, whole, places, bits)
    return TensorRef(
        name=name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        kind=kind,
        segments=segments,
        stored_shape=None if held is tensor else held.shape,
        strides=strides,
        storage=key,
        big_endian=held.big_endian,
        negated=held.negated,
        conjugated=held.conjugated,
        implicit_zeros=tensor.implicit_zeros,
        affine=_affine(tensor, name, identity),
        layer=layer,
        note=tensor.form,
        problem=problem,
    )


def _segments(tensor: Tensor) -> tuple[Segment, ...]:
    if tensor.raw is not None:
        return (Segment(Memory("array", tensor.raw), 0, len(tensor.raw)),) if tensor.raw else ()
    if tensor.storage is None:
        return ()
    covered = span(tensor.shape, tensor.strides)
    if not covered:
        return ()
    bits = tensor.dtype.bits
    start = tensor.storage.shift + tensor.offset * bits // 8
    return (tensor.storage.place.segment(start, tensor.dtype.nbytes(covered)),)


def _affine(tensor: Tensor, name: str, identity: str) -> Affine | None:
    q = tensor.quantizer
    if q is None:
        return None
    if q.axis is None or q.scales is None or q.zero_points is None:
        return Affine(q.scale, q.zero_point)
    scales = tensor_ref(q.scales, f"{name}.scales", Kind.QUANTIZATION, "", identity)
    zeros = tensor_ref(q.zero_points, f"{name}.zero_points", Kind.QUANTIZATION, "", identity)
    return Affine(axis=q.axis, scales=scales, zero_points=zeros)


def walk(value: object, rebuilder: Rebuilder, identity: str, prefix: Path = (), kind: Kind | None = None) -> TorchTree:
    """Return the tensors in an object, named by their paths, in file order.

    A tensor under two names is listed twice, with equal `storage`.

    Args:
        value: the node of the object.
        rebuilder: makes tensors of nodes.
        identity: tells storages of different files apart.
        prefix: path of the object itself.
        kind: of all its tensors; None to tell it from their paths.
    """
    tree = TorchTree()
    _Walker(rebuilder, identity, tree).visit(value, prefix, kind, "")
    if len({ref.name for ref in tree.tensors}) < len(tree.tensors):
        _set_apart(tree)
    return tree


# -- the non-tensor side, for the summary ---------------------------------------------------------------

_EPOCH_KEYS = ("epoch", "current_epoch", "epochs_run", "epoch_idx", "last_epoch")
_STEP_KEYS = ("global_step", "step", "iteration", "iter", "iter_num", "num_updates", "current_step", "steps", "it")


def scalars(value: object, limit: int = 50) -> Mapping[str, object]:
    """Return at most `limit` numbers, strings and booleans at the top of a checkpoint dict, by key."""
    top = dict_of(value)
    if top is None:
        return {}
    found = {key_text(k): v for k, v in top.items() if type(v) in (int, float, bool, str)}
    return {k: (v[:200] if isinstance(v, str) else v) for k, v in list(found.items())[:limit]}


def training(value: object) -> Training:
    """Return epoch, step and optimizer, from the keys under which trainers keep them."""
    top = dict_of(value)
    if top is None or (isinstance(value, Object) and is_module(value)):
        return Training()
    places = [top, *(d for k in ("meta", "train_state", "trainer", "state") if (d := dict_of(top.get(k))) is not None)]
    epoch = next((n for d in places if (n := _first_number(d, _EPOCH_KEYS)) is not None), None)
    step = next((n for d in places if (n := _first_number(d, _STEP_KEYS)) is not None), None)
    optimizer = next(
        (kind for k, v in top.items() if _OPTIMIZER.search(key_text(k)) and (kind := _optimizer_kind(v))), ""
    )
    return Training(epoch, step, optimizer)


def is_module(node: Object) -> bool:
    """Return whether a node is a pickled nn.Module or a TorchScript object."""
    if isinstance(node.func, Global) and is_torchscript(node.func):
        return True
    return isinstance(node.state, Dict) and node.state.get("_modules") is not None


def _first_number(node: Dict, keys: tuple[str, ...]) -> int | float | None:
    for key in keys:
        value = node.get(key)
        if type(value) in (int, float):
            return value  # type: ignore[return-value]
    return None


def _optimizer_kind(node: object) -> str:
    """Return the optimizer's class, told by the keys of its first group; `Adam-like` if only its betas say so."""
    for candidate in node if isinstance(node, list) else (node,):
        group = next(param_groups(candidate), {})
        name = optimizer_class(group, _state_keys(candidate)) or ("Adam-like" if "betas" in group else "")
        if name:
            return name
    return ""


def _state_keys(optimizer: object) -> list[str]:
    """What the optimizer holds of its first parameter."""
    top = dict_of(optimizer)
    states = dict_of(top.get("state")) if top is not None else None
    first = dict_of(states.values[0]) if states is not None and states.values else None
    return [key for key in first.keys if isinstance(key, str)] if first is not None else []
