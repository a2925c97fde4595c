"""New models of real libraries: the right initializer for nearly every weight, and nothing wrong with any of them.

`python tests/analysis/health/test_zoo.py` prints the table by architecture, and every weight that is not as drawn.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

os.environ["KERAS_BACKEND"] = "torch"
pytest.importorskip("keras")
pytest.importorskip("transformers")

from models import zoo
from models.drawn import Drawn

from inspectcli.analysis.facts import InitMatch, Strength
from inspectcli.commands.inspect.run import inspect_path

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

#: Smaller matrices are not counted.
_LEAST = 16
#: Formulas show four digits.
_SHOWN = 6e-4
_NUMBER = re.compile(r"[NU]\((?:0, |±)([\d.e+-]+)\)")
_CONSTANTS = {0.0: "zeros", 1.0: "ones"}


class Row(NamedTuple):
    """One weight: what was drawn, what was said."""

    name: str
    shape: tuple[int, ...]
    drawn: Drawn
    verdict: InitMatch | None

    @property
    def is_right(self) -> bool:
        return self.verdict is not None and _says(self.verdict, self.drawn)


class Measured(NamedTuple):
    """One file of the zoo."""

    architecture: str
    dtype: str
    rows: tuple[Row, ...]
    findings: tuple[tuple[str, str | None, str], ...]

    @property
    def right(self) -> int:
        return sum(row.is_right for row in self.rows)


def _says(verdict: InitMatch, drawn: Drawn) -> bool:
    """Whether family, strength, number and (of a layer's own uniform initializer) the word default are right."""
    sharp = drawn.family in ("constant", "orthogonal")
    said = (
        (Strength.UNTOUCHED,) if sharp else (Strength.UNTOUCHED, Strength.INIT_LIKE)
    )  # where a grid proves it, or not
    if verdict.family != drawn.family or verdict.strength not in said:
        return False
    if drawn.family == "constant":
        return verdict.formula.startswith(_CONSTANTS.get(drawn.scale, f"all {drawn.scale:g}"))
    if drawn.family == "orthogonal":
        return ("gain" in verdict.formula) == (drawn.scale != 1)
    found = _NUMBER.findall(verdict.formula)
    close = bool(found) and abs(float(found[-1]) / drawn.scale - 1) < _SHOWN
    # A table is known by its name only: the same N(0, 1) may be called a default or not.
    return close and (not drawn.default or drawn.family != "uniform" or "default" in verdict.formula)


def _counts(shape: tuple[int, ...], keras: bool) -> bool:
    if len(shape) < 2:
        return False
    units = shape[-1] if keras else shape[0]
    size = 1
    for n in shape:
        size *= n
    return units >= _LEAST and size // units >= _LEAST


def measure(architecture: str, dtype: str, folder: Path) -> Measured:
    fresh = zoo.write(architecture, dtype, folder)
    report = inspect_path(str(fresh.path))
    assert report.error is None
    keras = report.format.startswith("keras")
    rows = tuple(
        Row(row.name, row.shape, fresh.drawn[row.name], row.init)
        for row in report.tensors
        if row.name in fresh.drawn and _counts(row.shape, keras)
    )
    return Measured(architecture, dtype, rows, tuple((f.code, f.tensor, f.message) for f in report.findings))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[Measured]:
    folder = tmp_path_factory.mktemp("zoo")
    return [measure(a, d, folder / a / d) for a in zoo.ARCHITECTURES for d in zoo.DTYPES]


def test_the_zoo_is_large_enough(measured: list[Measured]) -> None:
    assert len({m.architecture for m in measured if m.rows}) >= 40
    assert {m.dtype for m in measured} == {"f32", "bf16"}


@pytest.mark.parametrize("dtype", zoo.DTYPES)
def test_weights_are_recognized_as_drawn(measured: list[Measured], dtype: str) -> None:
    rows = [row for m in measured if m.dtype == dtype for row in m.rows]
    wrong = [row for row in rows if not row.is_right]
    assert len(rows) > 800
    assert len(wrong) <= 0.02 * len(rows), "\n".join(map(_shown, wrong))


def test_nothing_is_wrong_with_a_new_model(measured: list[Measured]) -> None:
    found = [(m.architecture, m.dtype, *f) for m in measured for f in m.findings if f[0][:3] in ("PI1", "PI2")]
    assert found == []


def _shown(row: Row) -> str:
    got = "nothing" if row.verdict is None else f"{row.verdict.strength}, {row.verdict.formula}"
    default = ", the layer's own" if row.drawn.default else ""
    return f"    {row.name} {row.shape}: drawn {row.drawn.family} {row.drawn.scale:.6g}{default}; said {got}"


def _lines(measured: list[Measured]) -> Iterator[str]:
    yield f"{'architecture':30} {'f32':>9} {'bf16':>9}  findings"
    for architecture in dict.fromkeys(m.architecture for m in measured):
        both = {m.dtype: m for m in measured if m.architecture == architecture}
        cells = " ".join(f"{both[d].right:>4}/{len(both[d].rows):<4}" for d in zoo.DTYPES if d in both)
        codes = Counter(f[0] for m in both.values() for f in m.findings)
        yield f"{architecture:30} {cells}  {' '.join(f'{code}x{n}' for code, n in sorted(codes.items()))}"
        for m in both.values():
            yield from (f"{m.dtype:>6}{_shown(row)}" for row in m.rows if not row.is_right)
            yield from (f"{m.dtype:>6}    {' '.join(map(str, f))}" for f in m.findings)
    for dtype in zoo.DTYPES:
        rows = [row for m in measured if m.dtype == dtype for row in m.rows]
        right = sum(row.is_right for row in rows)
        yield f"{dtype}: {right} of {len(rows)} weights = {right / max(len(rows), 1):.2%}"


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(zoo.ARCHITECTURES)
    with tempfile.TemporaryDirectory() as temporary:
        every = [measure(a, d, Path(temporary) / a / d) for a in chosen for d in zoo.DTYPES]
    sys.stdout.write("\n".join(_lines(every)) + "\n")
