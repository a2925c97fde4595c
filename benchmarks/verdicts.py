"""How true the verdicts are: `python benchmarks/verdicts.py [ARCHITECTURE ...]` writes the tables of verdicts.md.

New models of real libraries, whose draws are watched; small models that were trained, and one with a frozen layer of
each kind; faults planted in them. Needs the `test` extra, and some minutes.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from models import calibration, zoo
from models.calibration import NewModel, Said

_ANSWERS = ("right", "unknown", "moved", "family", "nothing")


def _table(title: str, said: Sequence[Said], key: Callable[[Said], object]) -> Iterator[str]:
    yield f"| {title} | tensors | {' | '.join(_ANSWERS)} |"
    yield "|---|" + "--:|" * (1 + len(_ANSWERS))
    for value in sorted({key(s) for s in said}, key=lambda v: (isinstance(v, str), v)):
        counts = Counter(s.answer for s in said if key(s) == value)
        shown = f"{value:,} values and more" if isinstance(value, int) else value
        yield f"| {shown} | {counts.total():,} | " + " | ".join(f"{counts[a]:,}" for a in _ANSWERS) + " |"
    yield ""


def _new(models: Sequence[NewModel]) -> Iterator[str]:
    said = [s for m in models for s in m.said]
    yield from ("## New models", "")
    architectures = len({m.architecture for m in models})
    yield f"{len(models)} files of {architectures} architectures, {len(said):,} drawn tensors of"
    yield f"{calibration.LEAST} values and more. Right: the family is named. Unknown: nothing is claimed."
    yield ""
    yield from _table("type", said, lambda s: s.dtype)
    yield from _table("size", said, lambda s: s.size)
    yield from _table("family", said, lambda s: s.family)
    yield from _table("library", said, lambda s: s.library)
    called = [f"{m.architecture} {m.dtype}" for m in models if m.is_trained]
    alarmed = [f"{m.architecture} {m.dtype}: {', '.join(sorted(set(m.alarms)))}" for m in models if m.alarms]
    yield f"Called trained: {len(called)}. {'; '.join(called)}".rstrip()
    yield ""
    yield f"With errors or warnings: {len(alarmed)}. {'; '.join(alarmed)}".rstrip()
    yield ""


def _trained(folder: Path) -> Iterator[str]:
    yield from ("## Trained models", "", "| model | called trained | errors and warnings |", "|---|---|---|")
    for name, is_trained, alarms in calibration.trained(folder):
        yield f"| {name} | {'yes' if is_trained else 'no'} | {', '.join(alarms) or 'none'} |"
    yield ""
    yield from ("| frozen layer | found | others called as drawn |", "|---|---|--:|")
    for kind in calibration.FROZEN:
        frozen = calibration.frozen(kind, folder)
        yield f"| {frozen.kind} | {'yes' if frozen.is_found else 'no'} | {frozen.others} |"
    yield ""


def _faults(folder: Path) -> Iterator[str]:
    yield from ("## Planted faults", "", "| fault | files | found |", "|---|--:|--:|")
    for count in calibration.fault_counts(folder):
        yield f"| {count.fault} | {count.files} | {count.found} |"


def main(chosen: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = [
            calibration.new_model(a, d, folder / a / d) for a in chosen or list(zoo.ARCHITECTURES) for d in zoo.DTYPES
        ]
        head = ("# How true the verdicts are", "", "Written by `python benchmarks/verdicts.py`.", "")
        lines = [*head, *_new(models), *_trained(folder), *_faults(folder)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
