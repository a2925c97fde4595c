"""Stores written by the real tools: every value under its name, at its place; nothing claimed that is not there."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from support.places import CORPUS, corpus_truth

from inspectcli.commands.hparams.run import read_hparams
from inspectcli.hparams.base import HParamRow, Kind

pytestmark = pytest.mark.corpus

SAMPLES = CORPUS / "hparams"
TRUTHS: dict[str, Any] = {
    path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(SAMPLES.glob("*/truth.json"))
}
#: Rows of files that are not in the corpus cannot be found.
ROWS = [
    pytest.param(name, row, id=f"{name}:{row['file']}:{row['locator']}:{row['raw_key']}")
    for name, truth in TRUTHS.items()
    for row in truth["where"]
    if (SAMPLES / name / row["file"]).exists()
]


def same(a: object, b: object) -> bool:
    """Equal, numbers to a relative 1e-6; a number that a tool stores as text is that number."""
    a, b = number(a), number(b)
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-6) or a == b
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def number(value: object) -> object:
    if isinstance(value, bool) or value is None:
        return value
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return value


def is_row(found: HParamRow, row: dict[str, Any]) -> bool:
    # One truth names two places in a sentence: `RunRecord.config / ConfigRecord.update (LevelDB-style log ...)`.
    places = [row["locator"], *(place.split(" (")[0] for place in row["locator"].split(" / "))]
    return (
        found.raw_key == row["raw_key"]
        and found.source.locator in places
        and (found.name or "-") == row["canonical"]
        and str(found.kind) == row["kind"]
        and (same(found.value, row["value"]) or found.stored == row["value"])
    )


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_row_is_found_in_its_file(name: str, row: dict[str, Any]) -> None:
    found = read_hparams(SAMPLES / name / row["file"], neighbors=False)
    assert any(is_row(r, row) for r in found.rows), [
        (r.name, r.value, r.kind, r.source.locator) for r in found.rows if r.raw_key == row["raw_key"]
    ]


@pytest.mark.parametrize("name", TRUTHS)
def test_folder_shows_every_row_and_claims_nothing_else(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = TRUTHS[name], read_hparams(SAMPLES / name)
    rows = [row for row in truth["where"] if (SAMPLES / name / row["file"]).exists()]
    missed = [row for row in rows if not any(is_row(r, row) for r in found.rows)]
    claims = [r for r in found.rows if r.name is not None and r.kind is not Kind.SETTING and r.value is not None]
    untrue = [r for r in claims if not on_disk(r)]
    with capsys.disabled():
        print(f"\n{name}: rows found {len(rows) - len(missed)} / {len(rows)}, false claims {len(untrue)}", end="")  # noqa: T201
    assert not missed
    assert not untrue


def on_disk(row: HParamRow) -> bool:
    """An independent look: the key, or the value, stands in the bytes of the file it is said to be in."""
    if row.note == "told by the keys of its state":
        return all(holds(row.source.file, key.encode()) for key in row.raw_key.split(", "))
    key = row.raw_key.rpartition(".")[2].rpartition("/")[2]
    place = re.split(r"[./]", row.source.locator)[-1].split("[")[0].encode()
    return holds(row.source.file, key.encode()) or (key.isdigit() and holds(row.source.file, place))


def holds(file: str, text: bytes) -> bool:
    """Whether a file, or a member of an archive that it is, holds these bytes; or its own name does."""
    import zipfile

    path = Path(file)
    data = path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            data = b"".join(archive.read(m) for m in archive.namelist() if not re.search(r"/data/\d+$", m))
    return text in data or text in str(path).encode()


#: What was set but stands nowhere on disk: a reader that shows a default would be caught here.
NOT_STORED = {
    "lightning": {"seed", "gradient_clip", "gradient_accumulation_steps", "epochs"},
    "keras": {"batch_size", "epochs", "seed"},
    "nanogpt": {"seed"},
}


@pytest.mark.parametrize(("name", "names"), NOT_STORED.items())
def test_what_is_not_stored_is_not_claimed(name: str, names: set[str]) -> None:
    assert not names & set(read_hparams(SAMPLES / name))


# -- the checkpoints of the other corpus ----------------------------------------------------------------

FILES = {e["file"]: e for e in corpus_truth("truth.json") if e.get("hyperparameters_found")} if TRUTHS else {}
#: Keys that the truth's own reader made up: counts of layers, arguments of classes, one attribute under two groups.
MADE_UP = re.compile(
    r"layer_types$|^model_weights/|__args__|_device\.__class__$|config\.class_name$|^model_config\.layers$"
)


@pytest.mark.parametrize("name", FILES)
def test_keys_and_values_of_real_checkpoints(name: str) -> None:
    truth = FILES[name]
    found = read_hparams(CORPUS / "corpora" / "files" / name, neighbors=False)
    have: dict[str, list[object]] = {}
    for row in found.rows:
        module = row.note.removeprefix("module ") if row.note.startswith("module ") else ""
        inner = row.source.locator.partition("__dict__")[2]
        for path in (f"{row.source.locator}.{row.raw_key}", row.raw_key, f"{module}.{inner}.{row.raw_key}"):
            have.setdefault(plain_path(path), []).append(row.value)
    prefixes = {".".join(k.split(".")[:i]) for k in have for i in range(1, k.count(".") + 1)}

    def values(key: str) -> list[object] | None:
        owner, _, last = key.rpartition(".")
        if last.isdigit() and key not in have:  # an element of a list
            return [v[int(last)] for v in have.get(owner, ()) if isinstance(v, list | tuple) and int(last) < len(v)]
        return have.get(key)

    wanted = {plain_path(key): key for key in truth["hyperparameters_found"] if not MADE_UP.search(key)}
    assert not [key for path, key in wanted.items() if not values(path) and path not in prefixes]
    told = {k: v for k, v in truth["hyperparameter_values"].items() if not isinstance(v, str) or v[:1] not in "<{"}
    different = {
        key: (value, values(plain_path(key)))
        for key, value in told.items()
        if values(plain_path(key)) and not key.endswith(".params")
        if not any(same(value, v) for v in values(plain_path(key)) or ())
    }
    assert not different


def plain_path(path: str) -> str:
    """`attr:config.json:a.__dict__.b[0]` -> `a.b.0`."""
    path = re.sub(r"config\.json:|attr:|(^|\.)__dict__(?=\.|$)|(^|\.)_modules(?=\.|$)", "", path)
    path = path.replace("metadata.json", "metadata").replace("/", ".")
    return re.sub(r"\.+", ".", re.sub(r"\[(\d+)\]", r".\1", path)).strip(".")
