"""The load verdict (PI42x): what a loader will say of a file, and what it will load beside the tensors."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping

from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.display.text import listed, size
from inspectcli.pickles.allowed import is_allowed
from inspectcli.tensors.model import TensorRef

#: Suffix -> beginnings of the names of the formats that its loaders take.
_TAKEN: Mapping[str, tuple[str, ...]] = {
    ".safetensors": ("safetensors",),
    ".pt": ("torch", "pickle"),
    ".pth": ("torch", "pickle"),
    ".bin": ("torch", "pickle"),
    ".ckpt": ("torch", "pickle"),
    ".h5": ("hdf5", "keras-h5", "keras-weights-h5"),
    ".hdf5": ("hdf5", "keras-h5", "keras-weights-h5"),
    ".keras": ("keras",),
    ".npz": ("npz",),
    ".npy": ("npy",),
}
#: Bytes of a storage that no tensor needs, and times those that are needed, from which they are worth a note.
_DRAGGED, _TIMES = 16_384, 4


@rule("PI429", "weights-only-refuses", Severity.NOTE, reads=False)
def weights_only_refuses(subject: RuleContext) -> Iterator[RuleHit]:
    """`torch.load` of torch 2.6 and later refuses the file by default: it names what is not on torch's allow-list.

    Why it matters: since 2.6 `weights_only=True` is the default, which takes tensors, plain containers and what
    `torch.serialization.add_safe_globals` was given. Who knows only the default gets an error, and may turn it off for
    files of strangers.

    What to do: save `model.state_dict()` and plain numbers, strings and lists. To load this file as it is, give
    what is named here to `torch.serialization.add_safe_globals`, if you trust it.
    """
    checkpoint = subject.checkpoint
    if checkpoint.format not in ("torch-zip", "torch-legacy") or checkpoint.hazards:
        return
    refused = [path for path in checkpoint.globals if not is_allowed(path)]
    if refused:
        yield RuleHit(
            None,
            f"torch.load(weights_only=True), the default since 2.6, refuses {listed(refused, 5)}",
            {"globals": refused[:100], "count": len(refused)},
        )


@rule("PI430", "suffix-lies", Severity.WARNING, reads=False)
def suffix_lies(subject: RuleContext) -> Iterator[RuleHit]:
    """The suffix is that of another format than the content has.

    Why it matters: loaders choose by the suffix and refuse the file; scanners that choose by it look past a pickle that
    is called `.safetensors`.

    What to do: rename the file, or convert it to the format that its name says.
    """
    checkpoint = subject.checkpoint
    if checkpoint.location is None or checkpoint.location.is_folder():
        return
    suffix = checkpoint.location.suffix.lower()
    taken = _TAKEN.get(suffix)
    own = any(checkpoint.format.startswith(formats) for formats in _TAKEN.values())
    if taken is not None and own and not checkpoint.format.startswith(taken):
        yield RuleHit(
            None,
            f"the content is {checkpoint.format}, the suffix {suffix}: a loader of {suffix} files refuses it",
            {"format": checkpoint.format, "suffix": suffix},
        )


@rule("PI431", "storage-dragged-along", Severity.NOTE, reads=False)
def storage_dragged_along(subject: RuleContext) -> Iterator[RuleHit]:
    """A storage is much larger than the tensors that use it: a view was saved with all that it is a view of.

    Why it matters: `torch.save` writes whole storages. The file is larger than need be, and passes on values that
    nobody meant to share.

    What to do: call `clone()` on the tensor before saving it.
    """
    records = sorted((check.source.name, check.offset, check.nbytes) for check in subject.checkpoint.checksums)
    starts = [record[:2] for record in records]
    users: dict[int, list[TensorRef]] = {}
    seen: set[tuple[object, ...]] = set()
    for ref in subject.checkpoint.tensors:
        if len(ref.segments) != 1 or (ref.storage is not None and ref.storage in seen):
            continue
        if ref.storage is not None:
            seen.add(ref.storage)
        segment = ref.segments[0]
        at = bisect_right(starts, (segment.source.name, segment.offset)) - 1
        if at >= 0 and records[at][0] == segment.source.name and segment.offset < records[at][1] + records[at][2]:
            users.setdefault(at, []).append(ref)
    for at, refs in users.items():
        held, used = records[at][2], sum(ref.nbytes for ref in refs)
        if held - used >= _DRAGGED and held >= _TIMES * used and subject.checkpoint.format.startswith("torch"):
            names = listed([ref.name for ref in refs])
            yield RuleHit(
                refs[0].name if len(refs) == 1 else None,
                f"{size(used)} of a storage of {size(held)} {'is' if len(refs) == 1 else 'are'} used, by {names}: "
                "save a clone()",
                {"used": used, "storage": held, "tensors": len(refs)},
            )
