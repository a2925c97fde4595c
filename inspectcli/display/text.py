"""Numbers, sizes, counts and lists as people read them: one notation for every command and every message."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from inspectcli.tensors.arithmetic import shortest

#: For a class of `re`, characters that are shown as nothing or as a blank though their category does not say so: those
#: of Unicode's Default_Ignorable_Code_Point that are marks, letters or unassigned; Braille and musical blanks.
INVISIBLE = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U0001d159"
    "\U000e0000-\U000e0fff"
)


# -- numbers --------------------------------------------------------------------------------------------


def number(value: float | int | None, digits: int = 4) -> str:
    """A figure of a table: a few significant digits without noise: `0.1312`, `-12.5`, `3.2e-7`, `1,024`."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**7 else _tidy(f"{value:.2e}")
    if math.isnan(value) or math.isinf(value):
        return str(value)
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e5 or size < 1e-3:
        return _tidy(f"{value:.1e}")
    text = f"{value:.{min(max(0, digits - 1 - math.floor(math.log10(size))), 5)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def significant(value: float, digits: int) -> str:
    """A figure of a sentence, to this many significant digits: `0.02`, `4.96e-8`, `1e6`."""
    return _tidy(f"{value:.{digits}g}")


def setting(value: object) -> str:
    """A value that somebody set: exact, but without the noise of 32-bit floats, and no endless lists.

    >>> setting(3e-05), setting(0.8999999761581421), setting([0.9, 0.999]), setting(True), setting(None)
    ('3e-5', '0.9', '[0.9, 0.999]', 'yes', 'not set')
    """
    if isinstance(value, float):
        return _exact(shortest(value) if len(repr(value)) > 12 and math.isfinite(value) else value)
    if isinstance(value, str):
        return value
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 256 else f"an integer of {value.bit_length():,} bits"
    if isinstance(value, list | tuple):
        inner = [setting(v) for v in value[:8]]
        return "[" + ", ".join([*inner, *(["…"] if len(value) > 8 else [])]) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {setting(v)}" for k, v in list(value.items())[:8]) + "}"
    return str(value)


def _exact(value: float) -> str:
    """`3e-5`, `0.001`, `64`: few digits, and no `0.00003`."""
    if not math.isfinite(value):
        return str(value)
    if value.is_integer() and abs(value) < 1e15:
        return f"{int(value)}"
    text = repr(value) if len(repr(value).replace("-", "")) <= 9 else f"{value:.6g}"
    digits, exponent = Decimal(text).normalize().as_tuple()[1:]
    if not isinstance(exponent, int) or 1e-3 <= abs(value) < 1e6:
        return text
    figures = "".join(map(str, digits))
    return _tidy(f"{'-' if value < 0 else ''}{figures[0]}.{figures[1:]}e{exponent + len(figures) - 1}")


def _tidy(text: str) -> str:
    """`1.20e+05` -> `1.2e5`."""
    mantissa, e, exponent = text.partition("e")
    if "." in mantissa and e:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}" if e else text


def span(values: Iterable[float | int | None]) -> str:
    """A figure over a fold: one number, or `smallest…largest`."""
    known = [v for v in values if v is not None]
    return between(min(known), max(known)) if known else "–"


def between(low: float | int, high: float | int) -> str:
    """One number if both are equal, else `smallest…largest`."""
    return number(low) if low == high else f"{number(low, 2)}…{number(high, 2)}"


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


# -- words and lists ------------------------------------------------------------------------------------


def plural(n: int, noun: str) -> str:
    """`1 file`, `1,000 files`."""
    return f"{n:,} {noun if n == 1 else plural_of(noun)}"


def plural_of(noun: str) -> str:
    """`studies`, `classes`, `files`."""
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def is_or_are(n: int) -> str:
    return "is" if n == 1 else "are"


def listed(items: Sequence[object], most: int = 3, noun: str = "", separator: str = ", ", of: int | None = None) -> str:
    """The first ones, and how many more there are; `of`: how many in all, if these are not all of them.

    >>> listed("abcde"), listed("ab"), listed("abcd", 1, "tensor")
    ('a, b, c and 2 more', 'a, b', 'a and 3 more tensors')
    >>> listed(["3 NaN in a, b", "1 Inf in c", "1 Inf in d"], 2, "tensor", "; ")
    '3 NaN in a, b; 1 Inf in c; and 1 more tensor'
    """
    shown = separator.join(map(str, items[:most]))
    rest = (len(items) if of is None else of) - most
    if rest <= 0:
        return shown
    more = plural(rest, f"more {noun}") if noun else f"{rest:,} more"
    return f"{shown}{separator.rstrip(', ')} and {more}"


def runs(indices: Iterable[int], separator: str = ", ") -> str:
    """Ascending whole numbers: `0..6, 8..11`, `3`."""
    ends: list[list[int]] = []
    for i in indices:
        if ends and i == ends[-1][1] + 1:
            ends[-1][1] = i
        else:
            ends.append([i, i])
    return separator.join(str(a) if a == b else f"{a}..{b}" for a, b in ends)


def clipped(text: str, most: int) -> str:
    """At most this many characters, the last of them `…` where some are missing."""
    return text if len(text) <= most else text[: most - 1] + "…"


def natural_key(text: str) -> tuple[object, ...]:
    """Sort key under which `conv1d_2` stands before `conv1d_10`, however long its numbers are."""
    # Split by numbers, every second part is one: like is compared with like. int() refuses more than 4,300 digits.
    parts = re.split(r"([0-9]+)", text)
    return tuple((len(digits := p.lstrip("0")), digits) if i % 2 else p for i, p in enumerate(parts))
