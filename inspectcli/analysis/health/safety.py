"""Safety (PI5xx): what a file would do when an unrestricted loader loads it. Headers are enough."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.display.text import INVISIBLE, listed, plural


def _hazards(subject: RuleContext, kind: str) -> Iterator[RuleHit]:
    for hazard in subject.checkpoint.hazards:
        if hazard.kind == kind:
            yield RuleHit(None, f"{hazard.what}, from {hazard.where}", {"what": hazard.what, "where": hazard.where})


@rule("PI501", "runs-code", Severity.ERROR, reads=False)
def runs_code(subject: RuleContext) -> Iterator[RuleHit]:
    """A pickle in the file would run code on the machine that loads it.

    Why it matters: `torch.load(weights_only=False)`, `pickle.load` and `np.load(allow_pickle=True)` do what the file
    says. No tensor needs that. pinspect reads the file without running any of it.

    What to do: do not load this file, and ask where it comes from.
    """
    yield from _hazards(subject, "code")


#: Keras has no state_dict: its files name classes, which the one who loads them must have registered.
_REGISTER = (
    "import the code that defines the class and registers it (`keras.saving.register_keras_serializable`) before "
    "loading, or pass it as `custom_objects`"
)


@rule("PI502", "foreign-class", Severity.NOTE, reads=False)
def foreign_class(subject: RuleContext) -> Iterator[RuleHit]:
    """The file names classes that are neither the library's nor Python's.

    Why it matters: a loader imports them, so the file loads only where the code that wrote it is installed, and safe
    loaders refuse it.

    What to do: save `model.state_dict()` and plain settings instead of whole objects.
    """
    foreign = subject.checkpoint.foreign
    keras = subject.checkpoint.format.startswith("keras")
    if foreign:
        yield RuleHit(
            None,
            f"{plural(len(foreign), 'class')} of other packages needed: {listed(foreign)}",
            {"classes": list(foreign[:100]), "count": len(foreign)},
            _REGISTER if keras else "",
        )


@rule("PI503", "keras-code", Severity.ERROR, reads=False)
def keras_code(subject: RuleContext) -> Iterator[RuleHit]:
    """The config of a Keras model holds code, or names what a loader would call: a Lambda layer or the like.

    Why it matters: a Lambda layer is Python bytecode that Keras runs when `safe_mode` is off; older versions always do.

    What to do: do not load it with `safe_mode=False`, and replace the layer with a registered class.
    """
    yield from _hazards(subject, "layer")


@rule("PI504", "reads-other-files", Severity.ERROR, reads=False)
def reads_other_files(subject: RuleContext) -> Iterator[RuleHit]:
    """The file makes a loader read other files of the machine, as if they were part of it.

    Why it matters: an HDF5 link to `/etc/passwd` puts its bytes into a weight, which is then passed on.

    What to do: do not load this file on a machine with private files, and ask where it comes from.
    """
    yield from _hazards(subject, "file")


#: Control characters, direction marks and characters without width, as far as no language needs them.
_HIDDEN = re.compile(
    f"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb{INVISIBLE}]"
)
#: Joiners and variation selectors, which Persian, Hindi, Mongolian, Chinese and emoji need; between ASCII characters
#: they hide.
_JOINERS = re.compile("[\u200c\u200d\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")


@rule("PI505", "hidden-characters", Severity.WARNING, reads=False)
def hidden_characters(subject: RuleContext) -> Iterator[RuleHit]:
    """The name of a tensor holds control characters, direction marks or characters without width.

    Why it matters: a terminal obeys the control characters in a name that it prints, and names that look alike can
    differ. Letters of any language are left alone.

    What to do: rename the tensor, and do not print its name without escaping it.
    """
    for tensor in subject.tensors:
        hidden = _hidden(tensor.name)
        if hidden:
            codes = [_described(c) for c in dict.fromkeys(hidden)]
            yield RuleHit(
                tensor.name,
                f"{plural(len(hidden), 'hidden character')} in the name: {listed(codes)}",
                {"count": len(hidden), "characters": [f"U+{ord(c):04X}" for c in dict.fromkeys(hidden)][:20]},
            )


def _hidden(name: str) -> list[str]:
    if name.isascii() and name.isprintable():
        return []
    rest = _JOINERS.sub("", name)
    return _HIDDEN.findall(rest) + (_JOINERS.findall(name) if rest.isascii() else [])


def _described(c: str) -> str:
    """`U+202E RIGHT-TO-LEFT OVERRIDE`."""
    name = unicodedata.name(c, "control character" if unicodedata.category(c) == "Cc" else "")
    return f"U+{ord(c):04X} {name}".rstrip()


@rule("PI506", "pickle-format", Severity.WARNING, reads=False, default=False)
def pickle_format(subject: RuleContext) -> Iterator[RuleHit]:
    """The checkpoint is a pickle.

    Why it matters: a pickle is a program. This one may be harmless, but every loader has to be careful, and the
    next one that is put in its place may not be.

    What to do: save as safetensors: `safetensors.torch.save_model(model, "model.safetensors")`.
    """
    found = subject.checkpoint.format
    if found.startswith("torch") or found == "pickle":
        yield RuleHit(None, f"the format is {found}, a pickle: expected safetensors", {"format": found})
