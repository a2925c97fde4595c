"""HDF5: the .h5 and .weights.h5 files of Keras 1, 2 and 3, and any other file with numeric datasets.

libhdf5 lists the file in a child process. Contiguous values are then read directly, as ranges of the file.
https://docs.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from inspectcli.display.text import listed, natural_key
from inspectcli.encodings import json as _json
from inspectcli.errors import PinspectError
from inspectcli.formats.base import HEAD, Format
from inspectcli.formats.hdf5.config import Layer, layers, optimizer_class, risks
from inspectcli.formats.hdf5.listing import Dataset, Listing, check_end, superblock
from inspectcli.formats.hdf5.names import BUFFERS, Keras3Names, legacy_name, optimizer_variables
from inspectcli.formats.hdf5.process import process_for
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.dtypes import DTYPES, NumberClass
from inspectcli.tensors.model import Checkpoint, Hazard, Kind, TensorRef, Training

_KERAS_3_VARIABLE = re.compile(r"(?:(.*)/)?vars/([0-9]{1,9})")
_ITERATIONS = re.compile(r"(^|[./])iterations?(:0)?$")
_COLUMN_MAJOR = "written by MATLAB, which stores arrays column by column: dimensions stand in reverse order"


@dataclass(frozen=True, slots=True)
class Named:
    """A dataset with the name and kind of its tensor."""

    name: str
    dataset: Dataset
    kind: Kind
    layer: str = ""


@dataclass(frozen=True, slots=True)
class Configs:
    """The JSON configs of a Keras file, with their hazards and notes."""

    model: Any = None
    training: Any = None
    hazards: tuple[Hazard, ...] = ()
    foreign: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> list[Layer]:
        return list(layers(self.model)) if self.model is not None else []

    @property
    def optimizer(self) -> str:
        return optimizer_class(self.training)


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
            values[where] = _json.parse(text, where, numbers=True, duplicates=False)
        except PinspectError as error:
            if error.code == "limit":
                raise
            notes.append(f"{error.message}: its layers were not looked at")
            continue
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
    flavour, named = name_datasets(listing, configs)
    version, backend = (listing.text(group, key) for group, key in _version_places(listing))
    notes = [*configs.notes, *listing_notes(listing)]
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
        training=training(source, named, configs.optimizer or listing.text("optimizer/vars", "name")),
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


# -- names ----------------------------------------------------------------------------------------------


def name_datasets(listing: Listing, configs: Configs) -> tuple[str, list[Named]]:
    """Return (format, the numeric datasets with their names), in the order of the model."""
    numeric = [d for d in listing.datasets if d.dtype is not None]
    if listing.attribute("model_weights", "layer_names") is not None:
        return "keras-h5", _legacy(listing, numeric, configs, "model_weights")
    if listing.attribute("", "layer_names") is not None:
        return "keras-h5", _legacy(listing, numeric, configs, "")
    if any(_KERAS_3_VARIABLE.fullmatch(d.path) for d in numeric):
        return "keras-weights-h5", keras_3(listing, numeric, configs)
    plain = [
        Named(d.path.replace("/", "."), d, _plain_kind(d)) for d in sorted(numeric, key=lambda d: natural_key(d.path))
    ]
    return "hdf5", _unique(plain, lambda d: d.path)


def _plain_kind(dataset: Dataset) -> Kind:
    dtype = dataset.dtype
    return Kind.BUFFER if dtype and dtype.family in (NumberClass.INT, NumberClass.BOOL) else Kind.PARAMETER


def _legacy(listing: Listing, numeric: list[Dataset], configs: Configs, root: str) -> list[Named]:
    """Name the datasets of Keras 1 and 2, and of `.h5` files of Keras 3, by the lists layer_names and weight_names."""
    start = f"{root}/" if root else ""
    by_path = {d.path: d for d in numeric}
    classes = {layer.name: layer.class_name for layer in configs.layers}
    named: list[Named] = []
    groups = [*listing.names(root, "layer_names"), "top_level_model_weights"]
    for layer in groups:
        for weight in listing.names(f"{start}{layer}", "weight_names"):
            dataset = by_path.pop(f"{start}{layer}/{weight}", None)
            if dataset is None:
                continue
            name = legacy_name(layer, weight) if layer != "top_level_model_weights" else weight.replace("/", ".")
            leaf = name.rpartition(".")[2]
            named.append(Named(name, dataset, _variable_kind(leaf, dataset), classes.get(layer, "")))
    for dataset in sorted(by_path.values(), key=lambda d: natural_key(d.path)):
        named.append(_unlisted(dataset, start))
    return _unique(named, lambda d: re.sub(r":\d+$", "", d.path.removeprefix(start)))


def _unlisted(dataset: Dataset, start: str) -> Named:
    """Name a dataset that no list of weights names: an optimizer's, or any other."""
    path = re.sub(r":\d+$", "", dataset.path)
    if path.startswith("optimizer_weights/"):
        return Named("optimizer." + path.partition("/")[2].replace("/", "."), dataset, Kind.OPTIMIZER)
    name = path.removeprefix(start).replace("/", ".")
    return Named(name, dataset, _variable_kind(name.rpartition(".")[2], dataset))


def keras_3(listing: Listing, numeric: list[Dataset], configs: Configs) -> list[Named]:
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
    for owner in sorted((o for o in owners if o.partition("/")[0] != "optimizer"), key=names.order):
        held = [d for _, d in sorted(owners[owner], key=lambda pair: pair[0])]
        shown, layer = names.owner(owner), names.class_of(owner)
        for variable, dataset in zip(names.variables(owner, [d.shape or () for d in held]), held, strict=True):
            name = f"{shown}.{variable}" if shown else variable
            named.append(Named(name, dataset, _variable_kind(variable, dataset), layer))
    trained = [(n.name, n.dataset.shape or ()) for n in named if n.kind is Kind.PARAMETER]
    ordered = trained if configs.model is not None else []
    for owner in sorted((o for o in owners if o.partition("/")[0] == "optimizer"), key=natural_key):
        held = [d for _, d in sorted(owners[owner], key=lambda pair: pair[0])]
        kind = configs.optimizer or labels.get(owner, "")
        named.extend(_optimizer(owner, held, kind, ordered))
    named.extend(
        Named(d.path.replace("/", "."), d, _plain_kind(d)) for d in sorted(others, key=lambda d: natural_key(d.path))
    )
    return _unique(named, lambda d: d.path)


def _optimizer(owner: str, held: list[Dataset], kind: str, trained: list[tuple[str, tuple[int, ...]]]) -> list[Named]:
    start = owner.replace("/", ".")
    names = optimizer_variables(kind, [d.shape or () for d in held], trained)
    if names is None:
        names = [f"vars.{i}" for i in range(len(held))]
        if len(held) > 1 and held[0].shape == held[1].shape == () and held[0].type.startswith(("i", "u")):
            names[:2] = ["iteration", "learning_rate"]
    return [Named(f"{start}.{name}", d, Kind.OPTIMIZER) for name, d in zip(names, held, strict=True)]


def _variable_kind(leaf: str, dataset: Dataset) -> Kind:
    return Kind.BUFFER if leaf in BUFFERS else _plain_kind(dataset)


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
    return tuple(_tensor_ref(source, entry) for entry in named)


def _tensor_ref(source: Source, entry: Named) -> TensorRef:
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
    )


def listing_notes(listing: Listing) -> tuple[str, ...]:
    """Return notes on objects that were left out."""
    notes = []
    other = [d for d in listing.datasets if d.dtype is None]
    if other:
        shown = listed([f"{d.path[-60:]} {d.type}" for d in other], 5)
        notes.append(f"{len(other):,} datasets hold no numbers and were not looked at: {shown}")
    if listing.external_links:
        shown = listed([f"{p[-40:]} -> {t[:60]}" for p, t in listing.external_links.items()], 5)
        notes.append(f"{len(listing.external_links):,} links lead to other files and were not followed: {shown}")
    if listing.soft_links:
        shown = listed([f"{p[-40:]} -> {t[:60]}" for p, t in listing.soft_links.items()], 5)
        notes.append(f"{len(listing.soft_links):,} symbolic links inside the file were not followed: {shown}")
    if listing.too_deep:
        notes.append("groups nested deeper than 200 levels were not looked at")
    return tuple(notes)


def training(source: Source, named: Iterable[Named], optimizer: str) -> Training:
    """Return the optimizer's class, and the step, which is an integer dataset in the file."""
    counters = [n.dataset for n in named if n.kind is Kind.OPTIMIZER and _ITERATIONS.search(n.name)]
    step = None
    for dataset in counters[:1]:
        segment = dataset.segment(source)
        if dataset.shape == () and not dataset.decoded and DTYPES[dataset.type].family is NumberClass.INT:
            order = "big" if dataset.big_endian else "little"
            step = int.from_bytes(source.read_at(segment.offset, segment.nbytes), order)  # type: ignore[arg-type]
    return Training(step=step, optimizer=optimizer)


FORMAT = Format(
    "hdf5",
    "HDF5",
    (".h5", ".hdf5", ".weights.h5", ".mat"),
    sniff,
    open_hdf5,
    variants={"keras-h5": "Keras HDF5 model", "keras-weights-h5": "Keras HDF5 weights"},
)
