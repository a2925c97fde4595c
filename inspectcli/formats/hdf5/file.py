"""HDF5: the .h5 and .weights.h5 files of Keras 1, 2 and 3, and any other file with numeric datasets.

libhdf5 lists the file in a child process. Contiguous values are then read directly, as ranges of the file.
https://docs.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from inspectcli.display.text import listed, natural_key
from inspectcli.encodings import json as _json
from inspectcli.errors import PinspectError
from inspectcli.formats.base import HEAD, Format
from inspectcli.formats.hdf5.config import Layer, Optimizer, dtype_names, labelled, layers, optimizer_of, risks
from inspectcli.formats.hdf5.listing import Dataset, Listing, check_end, superblock
from inspectcli.formats.hdf5.names import BUFFERS, QUANTIZATION, Keras3Names, legacy_name
from inspectcli.formats.hdf5.optimizers import Run, by_name, by_order
from inspectcli.formats.hdf5.process import process_for
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.dtypes import DTYPES, NumberClass
from inspectcli.tensors.model import Checkpoint, Hazard, Kind, TensorRef, Training

_KERAS_3_VARIABLE = re.compile(r"(?:(.*)/)?vars/([0-9]{1,9})")
_ITERATIONS = re.compile(r"(?<!loss_scale\.)(?<![^./])iter(ations?)?$")
_BY_POSITION = "this file has no names of layers: `dense_1` is the second Dense of the model, whatever its name there"
_COLUMN_MAJOR = "written by MATLAB, which stores arrays column by column: dimensions stand in reverse order"


@dataclass(frozen=True, slots=True)
class Named:
    """A dataset with the name and kind of its tensor.

    Attributes:
        position: where Keras 3 counts it, `layers/dense_1/vars/0`: the same in each of its formats.
        positional: whether the name says no more than that.
    """

    name: str
    dataset: Dataset
    kind: Kind
    layer: str = ""
    position: str = ""
    positional: bool = False


@dataclass(frozen=True, slots=True)
class Configs:
    """The JSON configs of a Keras file, with their hazards and notes."""

    model: Any = None
    training: Any = None
    hazards: tuple[Hazard, ...] = ()
    foreign: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def dtypes(self) -> frozenset[str]:
        """Names of element types and policies in the model's config."""
        return frozenset(dtype_names(self.model))

    @property
    def layers(self) -> list[Layer]:
        return list(layers(self.model)) if self.model is not None else []

    @property
    def optimizer(self) -> Optimizer:
        return optimizer_of(self.training)


def read_configs(texts: Mapping[str, bytes]) -> Configs:
    """Parse `model_config` and `training_config`. One that is not JSON becomes a note: the weights can still be listed.

    Raises:
        LimitError: one is nested too deeply.
    """
    values: dict[str, Any] = {}
    hazards: list[Hazard] = []
    foreign: set[str] = set()
    notes: list[str] = []
    for where, text in texts.items():
        try:
            values[where] = _json.parse(text, where, numbers=True, duplicates=True)
        except PinspectError as error:
            if error.code == "limit":
                raise
            notes.append(f"{error.message}: its layers were not looked at")
            continue
        try:
            _json.parse(text, where, numbers=True)
        except PinspectError as error:  # a name that stands twice hides a layer from some readers
            hazards.append(Hazard(error.message, where, "layer"))
        found, own = risks(values[where], where)
        hazards.extend(found)
        foreign.update(own)
    return Configs(
        model=values.get("model_config", values.get("config.json")),
        training=values.get("training_config"),
        hazards=tuple(hazards),
        foreign=tuple(sorted(foreign)),
        notes=tuple(notes),
    )


def sniff(source: Source, head: bytes) -> bool:
    return superblock(head) is not None


def open_hdf5(location: Location) -> Checkpoint:
    source, head = location.open(), location.head(HEAD)
    check_end(source, head)
    listing = read_listing(source)
    texts = {k: listing.text("", k).encode() for k in ("model_config", "training_config") if listing.text("", k)}
    configs = read_configs(texts)
    flavour, named = name_datasets(listing, configs, copies_in(source))
    version, backend = (listing.text(group, key) for group, key in _version_places(listing))
    notes = [*configs.notes, *listing_notes(listing, named)]
    if any(n.positional and n.kind is not Kind.OPTIMIZER and ".vars." not in n.name for n in named):
        notes.append(_BY_POSITION)
    if head.startswith(b"MATLAB 7.3"):
        notes.append(_COLUMN_MAJOR)
    return Checkpoint(
        path=str(location),
        format=flavour,
        size=source.size,
        tensors=tensor_refs(source, named),
        metadata={
            **({"keras_version": version} if version else {}),
            **({"backend": backend} if backend else {}),
            "hdf5_library": listing.library,
        },
        objects={"model_config": configs.model, "training_config": configs.training} if texts else None,
        writer=writer(flavour, version, backend, head),
        foreign=configs.foreign,
        hazards=listing.hazards() + configs.hazards,
        notes=tuple(notes),
        training=training(source, named, configs.optimizer, optimizer_label(listing)),
    )


def read_listing(source: Source) -> Listing:
    """Return the objects of the file, listed by libhdf5 in a child process.

    Raises:
        PinspectError: libhdf5 cannot read the file, crashes on it, or does not come to an end.
    """
    return Listing.from_json(process_for(source).listing)


def _version_places(listing: Listing) -> tuple[tuple[str, str], tuple[str, str]]:
    group = "" if listing.text("", "keras_version") else "model_weights"
    return (group, "keras_version"), (group, "backend")


def writer(flavour: str, version: str, backend: str, head: bytes) -> str:
    if flavour == "hdf5":
        return "MATLAB 7.3" if head.startswith(b"MATLAB 7.3") else ""
    if version:
        return f"Keras {version}" + (f" ({backend})" if backend else "")
    return "Keras 3" if flavour == "keras-weights-h5" else "Keras"


def optimizer_label(listing: Listing) -> str:
    """Return the class of the optimizer by the name of its group; empty if it has another."""
    return labelled(listing.text("optimizer/inner_optimizer/vars", "name") or listing.text("optimizer/vars", "name"))


# -- names ----------------------------------------------------------------------------------------------


#: Whether the second dataset holds the bytes of the first.
IsCopy = Callable[[Dataset, Dataset], bool]


def name_datasets(listing: Listing, configs: Configs, is_copy: IsCopy) -> tuple[str, list[Named]]:
    """Return (format, the numeric datasets with their names), in the order of the model.

    A variable that Keras wrote twice, as its layer stands in two places, is named once.
    """
    numeric = [d for d in listing.datasets if d.dtype is not None]
    if _has_layer_names(listing):
        numeric = [d for d in _with_small_floats(listing.datasets, configs) if d.dtype is not None]
    if listing.attribute("model_weights", "layer_names") is not None:
        return "keras-h5", _legacy(listing, numeric, configs, "model_weights", is_copy)
    if listing.attribute("", "layer_names") is not None:
        return "keras-h5", _legacy(listing, numeric, configs, "", is_copy)
    if any(_KERAS_3_VARIABLE.fullmatch(d.path) for d in numeric):
        return "keras-weights-h5", keras_3(listing, numeric, configs, is_copy)
    plain = [
        Named(d.path.replace("/", "."), d, _plain_kind(d)) for d in sorted(numeric, key=lambda d: natural_key(d.path))
    ]
    return "hdf5", _unique(plain, lambda d: d.path)


def _has_layer_names(listing: Listing) -> bool:
    return any(listing.attribute(root, "layer_names") is not None for root in ("model_weights", ""))


def _with_small_floats(datasets: Iterable[Dataset], configs: Configs) -> list[Dataset]:
    """Give the datasets of bfloat16 their type: legacy files of Keras hold them as two bytes without a name.

    NumPy has one type of two bytes without a name of its own, that of ml_dtypes. Of those of one byte, the config must
    name the one.
    """
    types = {"(opaque 2 bytes)": "bf16"}
    named = {dtype for word, dtype in _FLOAT8.items() if word in configs.dtypes}
    if len(named) == 1:
        types["(opaque 1 bytes)"] = named.pop()
    return [replace(d, type=types.get(d.type, d.type)) for d in datasets]


_FLOAT8 = {"float8_e4m3fn": "f8_e4m3", "float8_e5m2": "f8_e5m2"}


def _plain_kind(dataset: Dataset) -> Kind:
    dtype = dataset.dtype
    return Kind.BUFFER if dtype and dtype.family in (NumberClass.INT, NumberClass.BOOL) else Kind.PARAMETER


def _legacy(listing: Listing, numeric: list[Dataset], configs: Configs, root: str, is_copy: IsCopy) -> list[Named]:
    """Name the datasets of Keras 1 and 2, and of `.h5` files of Keras 3, by the lists layer_names and weight_names."""
    start = f"{root}/" if root else ""
    by_path = {d.path: d for d in numeric}
    known = configs.layers
    classes = {layer.name: layer.class_name for layer in known}
    inner = _names_inside(known)
    named: list[Named] = []
    paths: dict[str, str] = {}
    originals: dict[str, Dataset] = {}
    owners = Keras3Names({}, known).paths()
    held: Counter[str] = Counter()
    groups = [*listing.names(root, "layer_names"), _TOP]
    for layer in groups:
        for weight in listing.names(f"{start}{layer}", "weight_names"):
            dataset = by_path.pop(f"{start}{layer}/{weight}", None)
            if dataset is None:
                continue
            path = _INDEX.sub("", weight)
            if path in originals and is_copy(originals[path], dataset):
                continue
            name = path.replace("/", ".") if layer == _TOP else legacy_name(layer, weight, inner.get(layer, ()))
            paths[path] = "" if path in paths else name
            originals[path] = dataset
            leaf = name.rpartition(".")[2]
            kind = _variable_kind(leaf, dataset)
            owner = owners.get(name.rpartition(".")[0], "")
            position = variable_position(f"{owner}/vars/{held[owner]}") if owner else ""
            held[owner] += 1
            named.append(Named(name, dataset, kind, classes.get(layer, ""), position))
    named.extend(_legacy_optimizer(listing, by_path, {p: n for p, n in paths.items() if n}, configs))
    for dataset in sorted(by_path.values(), key=lambda d: natural_key(d.path)):
        named.append(_unlisted(dataset, start))
    return _unique(named, lambda d: _INDEX.sub("", d.path.removeprefix(start)))


#: Group of the weights that the model itself holds.
_TOP = "top_level_model_weights"
#: TensorFlow's number of an operation's output.
_INDEX = re.compile(r":\d+$")


def variable_position(path: str) -> str:
    """Return the path of a variable as all versions of Keras 3 count it: some keep parts of attention as private."""
    return re.sub(r"/_(?=(query|key|value|output)_dense/)", "/", path)


def _names_inside(known: Iterable[Layer]) -> dict[str, set[str]]:
    """Name of each layer -> the names of the layers inside it."""
    inside: defaultdict[str, set[str]] = defaultdict(set)
    holders: dict[str, str] = {}
    for layer in known:
        holders[layer.path] = layer.name
        parts = layer.path.split("/")
        for n in range(1, len(parts)):
            if holder := holders.get("/".join(parts[:n])):
                inside[holder].add(layer.name)
    return inside


def _legacy_optimizer(
    listing: Listing, by_path: dict[str, Dataset], variables: Mapping[str, str], configs: Configs
) -> Iterator[Named]:
    """Name the optimizer's datasets as those of Keras 3, as far as their own names tell whose they are."""
    root = "optimizer_weights"
    weights = listing.names(root, "weight_names")
    scaled = configs.optimizer.inner is not None
    names = by_name(weights, variables, scaled)
    for i, (weight, name) in enumerate(zip(weights, names, strict=True)):
        if name is not None and (dataset := by_path.pop(f"{root}/{weight}", None)) is not None:
            yield Named(f"optimizer.{name}", dataset, Kind.OPTIMIZER, position=_slot_position(i, scaled))


def _unlisted(dataset: Dataset, start: str) -> Named:
    """Name a dataset that no list of weights names: an optimizer's, or any other."""
    path = _INDEX.sub("", dataset.path)
    if path.startswith("optimizer_weights/"):
        return Named("optimizer." + path.partition("/")[2].replace("/", "."), dataset, Kind.OPTIMIZER)
    name = path.removeprefix(start).replace("/", ".")
    return Named(name, dataset, _variable_kind(name.rpartition(".")[2], dataset))


def keras_3(listing: Listing, numeric: list[Dataset], configs: Configs, is_copy: IsCopy) -> list[Named]:
    """Name the datasets of Keras 3, which keeps variables by number below the object that owns them."""
    labels = {
        path.removesuffix("vars").rstrip("/"): listing.text(path, "name")
        for path in listing.attributes
        if path == "vars" or path.endswith("/vars")
    }
    names = Keras3Names({k: v for k, v in labels.items() if k and v}, configs.layers)
    owners: dict[str, list[tuple[int, Dataset]]] = defaultdict(list)
    others: list[Dataset] = []
    for dataset in numeric:
        match = _KERAS_3_VARIABLE.fullmatch(dataset.path)
        if match:
            owners[match[1] or ""].append((int(match[2]), dataset))
        else:
            others.append(dataset)
    named: list[Named] = []
    runs: list[Run] = []
    grouped = None
    for owner in sorted((o for o in owners if o.partition("/")[0] not in _APART), key=names.order):
        made = _variables(owner, _in_order(owners[owner]), names)
        if names.wraps_kernel(owner):  # SpectralNormalization writes the kernel of its layer too
            wrapped = [d for i, d in owners.get(f"{owner}/layer", ()) if i == 0]
            made = [n for n in made if not (wrapped and is_copy(wrapped[0], n.dataset))]
        named.extend(made)
        trained = () if names.is_frozen(owner) else [(n.name, n.dataset.shape or ()) for n in made if _is_trained(n)]
        group = names.group(owner)
        if group is not None and group == grouped and runs:
            runs[-1] = Run((*runs[-1].variables, *trained), ordered=False)
        else:
            runs.append(Run(tuple(trained)))
        grouped = group
    known = runs if configs.model is not None else []
    for owner in sorted((o for o in owners if o.partition("/")[0] in _APART), key=natural_key):
        held = _in_order(owners[owner])
        if owner.partition("/")[0] == "optimizer":
            named.extend(_optimizer(owner, held, owners, configs, labels.get(owner, ""), known))
        else:
            named.extend(_metric(owner, held))
    named.extend(
        Named(d.path.replace("/", "."), d, _plain_kind(d)) for d in sorted(others, key=lambda d: natural_key(d.path))
    )
    return _unique(named, lambda d: d.path)


#: Groups that are not of the model: what training needs.
_APART = frozenset({"optimizer", "metrics", "_metrics"})


def _in_order(held: list[tuple[int, Dataset]]) -> list[Dataset]:
    return [d for _, d in sorted(held, key=lambda pair: pair[0])]


def _variables(owner: str, held: list[Dataset], names: Keras3Names) -> list[Named]:
    """Name the variables of one object of the model."""
    shown, layer, positional = names.owner(owner), names.class_of(owner), names.is_positional(owner)
    leaves = names.variables(owner, [d.shape or () for d in held], [d.type for d in held])
    return [
        Named(
            f"{shown}.{leaf}" if shown else leaf,
            dataset,
            _variable_kind(leaf, dataset),
            layer,
            variable_position(dataset.path),
            positional or leaf.startswith("vars."),
        )
        for leaf, dataset in zip(leaves, held, strict=True)
    ]


def _is_trained(entry: Named) -> bool:
    return entry.kind is Kind.PARAMETER


def _metric(owner: str, held: list[Dataset]) -> list[Named]:
    """Name the state of a metric: sums and counts of the epoch that was running."""
    start = owner.replace("/", ".")
    return [Named(f"{start}.vars.{i}", d, Kind.METRIC, position=d.path) for i, d in enumerate(held)]


def _optimizer(
    owner: str,
    held: list[Dataset],
    owners: Mapping[str, Sequence[object]],
    configs: Configs,
    label: str,
    trained: list[Run],
) -> Iterator[Named]:
    """Name an optimizer's variables. A LossScaleOptimizer lists those of its inner one too: they are left to it."""
    shapes = [d.shape or () for d in held]
    optimizer = configs.optimizer
    inner = f"{owner}/inner_optimizer"
    start, names = "optimizer", list[str | None]()
    if inner in owners:
        own = max(len(held) - len(owners[inner]), 0)  # none of TF-Keras
        held = held[:own]
        names = list(_HEAD_OF_LOSS_SCALE) if own == len(_HEAD_OF_LOSS_SCALE) else [None] * own
        start = "optimizer.loss_scale"
    elif owner.endswith("/inner_optimizer"):
        names = by_order(optimizer.inner or Optimizer(labelled(label)), shapes, trained)
    elif owner == "optimizer":
        names = by_order(optimizer if optimizer.class_name else Optimizer(labelled(label)), shapes, trained)
    else:
        start, names = owner.replace("/", "."), [None] * len(held)
    if not any(names) and len(held) > 1 and shapes[0] == () and held[0].type.startswith(("i", "u")):
        names = ["iteration", "learning_rate" if shapes[1] == () else None, *names[2:]]
    for i, (name, dataset) in enumerate(zip(names, held, strict=True)):
        shown = f"{start}.{name}" if name else f"{owner.replace('/', '.')}.vars.{i}"
        position = _slot_position(i, inner in owners) if owner in _OPTIMIZERS else dataset.path
        yield Named(shown, dataset, Kind.OPTIMIZER, position=position, positional=name is None)


_OPTIMIZERS = frozenset({"optimizer", "optimizer/inner_optimizer"})


def _slot_position(index: int, scaled: bool) -> str:
    """Return the place of an optimizer's variable; a LossScaleOptimizer puts its own before those of the inner one."""
    own = len(_HEAD_OF_LOSS_SCALE)
    if not scaled:
        return f"optimizer/vars/{index}"
    return f"optimizer/loss_scale/{index}" if index < own else f"optimizer/vars/{index - own}"


_HEAD_OF_LOSS_SCALE = ("iteration", "learning_rate", "step_counter", "dynamic_scale")


def _variable_kind(leaf: str, dataset: Dataset) -> Kind:
    if leaf in BUFFERS:
        return Kind.BUFFER
    if leaf in QUANTIZATION:
        return Kind.QUANTIZATION
    if leaf == "seed_generator_state":
        return Kind.RNG
    return Kind.PARAMETER if leaf in ("kernel", "embeddings") else _plain_kind(dataset)


def _unique(named: list[Named], longer: Callable[[Dataset], str]) -> list[Named]:
    """Replace names that several datasets share by what `longer` gives."""
    count = Counter(n.name for n in named)
    taken = {name for name, n in count.items() if n == 1}
    result = []
    for entry in named:
        name = entry.name
        if count[name] > 1:
            name = longer(entry.dataset).replace("/", ".")
            name = entry.dataset.path if name in taken else name
            taken.add(name)
        result.append(replace(entry, name=name))
    return result


# -- tensors --------------------------------------------------------------------------------------------


def tensor_refs(source: Source, named: Iterable[Named]) -> tuple[TensorRef, ...]:
    return tuple(tensor_ref(source, entry) for entry in named)


def tensor_ref(source: Source, entry: Named) -> TensorRef:
    dataset = entry.dataset
    dtype, shape = dataset.dtype, dataset.shape or ()
    assert dtype is not None
    problem = dataset.obstacle
    segment = dataset.segment(source)
    if not problem and not dataset.decoded and segment.offset + segment.nbytes > source.size:
        problem = f"{segment.offset + segment.nbytes - source.size:,} bytes are missing at the end of the file"
    notes = []
    if dataset.filters:
        notes.append(f"compressed ({', '.join(dataset.filters)})"[:80])
    if not dataset.stored and dataset.nbytes and not problem:
        notes.append("never written: every value is the fill value")
    return TensorRef(
        name=entry.name,
        dtype=dtype,
        shape=shape,
        kind=entry.kind,
        segments=() if problem or not dataset.nbytes else (segment,),
        storage=("hdf5", source.identity, dataset.address),
        big_endian=dataset.big_endian and not dataset.decoded,
        layer=entry.layer,
        note=", ".join(notes),
        problem=problem,
        cure=dataset.cure,
        position=entry.position,
        positional=entry.positional,
    )


#: Bytes of one tensor up to which a copy is compared with its original.
_MOST_COMPARED = 64 << 20


def copies_in(source: Source) -> IsCopy:
    """Return the function that compares the bytes of two datasets of a file; those that are not plain are no copies."""

    def is_copy(first: Dataset, second: Dataset) -> bool:
        if (first.shape, first.type) != (second.shape, second.type) or first.decoded or second.decoded:
            return False
        a, b = first.segment(source), second.segment(source)
        if a.nbytes > _MOST_COMPARED or max(a.offset, b.offset) + a.nbytes > source.size:
            return False
        steps = ((at, min(1 << 20, a.nbytes - at)) for at in range(0, a.nbytes, 1 << 20))
        return all(source.read_at(a.offset + at, n) == source.read_at(b.offset + at, n) for at, n in steps)

    return is_copy


def listing_notes(listing: Listing, named: Iterable[Named]) -> tuple[str, ...]:
    """Return notes on objects that were left out: those that are not among the named."""
    read = {entry.dataset.path for entry in named}
    notes = []
    other = [d for d in listing.datasets if d.dtype is None and d.path not in read]
    for held, what in (
        ([d for d in other if not _has_no_numbers(d)], "are of types that are not read"),
        ([d for d in other if _has_no_numbers(d)], "hold no numbers and were not looked at"),
    ):
        if held:
            notes.append(f"{len(held):,} datasets {what}: {listed([f'{d.path[-60:]} {d.type}' for d in held], 5)}")
    twice = [d.path for d in listing.datasets if d.dtype is not None and d.path not in read]
    if twice:
        shown = listed([path[-60:] for path in twice])
        notes.append(f"{len(twice):,} datasets hold variables a second time, which are listed once: {shown}")
    if listing.pickles_left_out:
        notes.append(f"{listing.pickles_left_out:,} pickled objects are too large and were not looked at")
    if listing.external_links:
        shown = listed([f"{p[-40:]} -> {t[:60]}" for p, t in listing.external_links.items()], 5)
        notes.append(f"{len(listing.external_links):,} links lead to other files and were not followed: {shown}")
    if listing.soft_links:
        shown = listed([f"{p[-40:]} -> {t[:60]}" for p, t in listing.soft_links.items()], 5)
        notes.append(f"{len(listing.soft_links):,} symbolic links inside the file were not followed: {shown}")
    if listing.too_deep:
        notes.append("groups nested deeper than 200 levels were not looked at")
    return tuple(notes)


_WITHOUT_NUMBERS = frozenset({"(text)", "(references)", "(times)", "(no numbers)"})


def _has_no_numbers(dataset: Dataset) -> bool:
    return dataset.shape is None or dataset.type in _WITHOUT_NUMBERS


def training(source: Source, named: Iterable[Named], optimizer: Optimizer, label: str = "") -> Training:
    """Return the optimizer's class, and the step, which is an integer dataset in the file.

    Of accumulated gradients, as many batches as the config says make one step.
    """
    counters = [n.dataset for n in named if n.kind is Kind.OPTIMIZER and _ITERATIONS.search(n.name)]
    step = None
    for dataset in counters[:1]:
        segment = dataset.segment(source)
        if dataset.shape == () and not dataset.decoded and DTYPES[dataset.type].family is NumberClass.INT:
            order = "big" if dataset.big_endian else "little"
            step = int.from_bytes(source.read_at(segment.offset, segment.nbytes), order)  # type: ignore[arg-type]
    batches = (optimizer.inner or optimizer).config.get("gradient_accumulation_steps")
    if step is not None and isinstance(batches, int) and batches > 1:
        step //= batches
    return Training(step=step, optimizer=optimizer.trains or label)


FORMAT = Format(
    "hdf5",
    "HDF5",
    (".h5", ".hdf5", ".weights.h5", ".mat"),
    sniff,
    open_hdf5,
    variants={"keras-h5": "Keras HDF5 model", "keras-weights-h5": "Keras HDF5 weights"},
)
