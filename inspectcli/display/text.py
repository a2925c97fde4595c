"""Numbers, sizes, counts and lists as people read them: one notation for every command."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

#: For a class of `re`, characters that are shown as nothing or as a blank though their category does not say so: those
#: of Unicode's Default_Ignorable_Code_Point that are marks, letters or unassigned; Braille and musical blanks.
INVISIBLE = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U0001d159"
    "\U000e0000-\U000e0fff"
)

#: Names of the formats in the words of the README.
FORMAT_NAMES = {
    "torch-zip": "PyTorch zip archive",
    "torch-legacy": "PyTorch legacy stream",
    "torch-tar": "PyTorch tar",
    "torchscript": "TorchScript archive",
    "pickle": "pickle",
    "safetensors": "safetensors",
    "safetensors-sharded": "sharded safetensors",
    "torch-sharded": "sharded PyTorch",
    "keras": "Keras 3 archive",
    "keras-h5": "Keras HDF5 model",
    "keras-weights-h5": "Keras HDF5 weights",
    "hdf5": "HDF5",
    "npz": "NumPy .npz",
    "npy": "NumPy .npy",
    "memory": "model in memory",
}


def number(value: float | int | None, digits: int = 4) -> str:
    """A few significant digits, without noise: `0.1312`, `-12.5`, `3.2e-07`, `1,024`."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**7 else f"{value:.2e}"
    if math.isnan(value) or math.isinf(value):
        return str(value)
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e5 or size < 1e-3:
        return f"{value:.1e}"
    text = f"{value:.{min(max(0, digits - 1 - math.floor(math.log10(size))), 5)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def span(values: Iterable[float | int | None]) -> str:
    """A figure over a fold: one number, or `smallest…largest`."""
    known = [v for v in values if v is not None]
    if not known:
        return "–"
    low, high = min(known), max(known)
    if low == high:
        return number(low)
    return f"{number(low, 2)}…{number(high, 2)}"


def count(n: int) -> str:
    """`124,439,808 (124.4M)`; small numbers alone."""
    return f"{n:,} ({short(n)})" if n >= 10_000 else f"{n:,}"


def short(n: int) -> str:
    """`124.4M`, `2.36M`, `768`."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= limit:
            return f"{n / limit:.3g}{unit}" if n / limit < 100 else f"{n / limit:.1f}{unit}"
    return f"{n:,}"


def size(n: int) -> str:
    """Bytes in decimal units, as file systems and hubs show them."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n >= limit:
            return f"{n / limit:.1f} {unit}"
    return f"{n:,} bytes"


def shape(dims: tuple[int, ...]) -> str:
    return "×".join(map(str, dims)) if dims else "scalar"


def percent(share: float) -> str:
    """`0`, `<0.1 %`, `12.5 %`, `100 %`; only all is 100 %."""
    if share <= 0:
        return "0"
    if share < 0.001:
        return "<0.1 %"
    if 0.999 < share < 1:
        return ">99.9 %"
    return f"{100 * share:.3g} %"


def plural(n: int, noun: str) -> str:
    """`1 file`, `1,000 files`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def common_prefix(names: Sequence[str]) -> str:
    """`model.state_dict.` where all names begin with it: said once, above them. Never a whole name."""
    if len(names) < 2:
        return ""
    first, last = min(names), max(names)
    shared = first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
    end = max(shared.rfind("."), shared.rfind("/")) + 1
    prefix = shared[:end]
    return prefix if "{" not in prefix else ""
