"""Real trained files: no alarm but the known ones, and `untouched` only where a second sign confirms it.

`python tests/analysis/health/test_trained.py` prints the verdicts of each file.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # when run as a script

from support.places import CORPUS, corpus_truth

from inspectcli.commands.inspect.result import FileReport, TensorRow
from inspectcli.commands.inspect.run import inspect_path

pytestmark = pytest.mark.corpus

_IN_SCOPE = ("torch-zip", "torch-legacy", "safetensors", "hdf5", "keras", "npz")
FILES = [
    entry["file"]
    for entry in corpus_truth("truth.json")
    if entry["format"].startswith(_IN_SCOPE) and "expect" not in entry
]

#: File -> tensors that really are as they were drawn.
CONFIRMED = {
    # Parameters of a published model whose BatchNorm is at 1 and 0, |w| at most 1/sqrt(256).
    r"^chgnet/": r"\.angle_layers\.2\.twoBody_bond\.",
    # The state input is all zeros: no gradient, and biases that are exactly 0.
    r"^materialsvirtuallab\+megnet/.*/(formation_energy|mu|omega1)": r"^dense_[56]\.kernel$",
    # Orthogonal to 2e-7: a recurrent matrix that no gradient reached.
    r"^materialsvirtuallab\+megnet/.*/log10G": r"^set2_set_[12]\.recurrent_kernel$",
    # Saved at epoch 0, before training.
    r"^MDIL-SNU\+SevenNet/.*/_?cp_0": r"",
    # Made by a script that trains nothing.
    r"^tracel-ai\+burn/": r"",
}
#: File -> codes of errors: NaN and infinities on purpose.
PLANTED = {"special_values.pt": {"PI101", "PI102"}}
#: File -> codes of warnings that are right.
KNOWN = {
    r"^chgnet/": {"PI301"},
    r"^materialsvirtuallab\+megnet/.*/(formation_energy|mu|omega1)": {"PI301"},
    r"^materialsvirtuallab\+megnet/.*/log10G": {"PI205", "PI301"},  # decayed to 1e-33
}


@cache
def read(name: str) -> FileReport:
    return inspect_path(str(CORPUS / "corpora" / "files" / name))


def _untouched(report: FileReport) -> list[TensorRow]:
    """Constants left out: zeros and ones may be as they were in any trained model."""
    return [
        row for row in report.tensors if row.init and row.init.strength == "untouched" and row.init.family != "constant"
    ]


@pytest.mark.parametrize("name", FILES)
def test_no_error_but_the_planted_ones(name: str) -> None:
    found = {f.code for f in read(name).findings if f.severity.value == "error"}
    assert found == PLANTED.get(Path(name).name, set())


@pytest.mark.parametrize("name", FILES)
def test_no_warning_but_the_known_ones(name: str) -> None:
    known = {code for where, codes in KNOWN.items() if re.search(where, name) for code in codes}
    assert {f.code for f in read(name).findings if f.severity.value == "warning"} == known


@pytest.mark.parametrize("name", FILES)
def test_untouched_only_where_it_is_confirmed(name: str) -> None:
    confirmed = [names for where, names in CONFIRMED.items() if re.search(where, name)]
    wrong = [row.name for row in _untouched(read(name)) if not any(re.search(names, row.name) for names in confirmed)]
    assert wrong == []


@pytest.mark.parametrize("version", ["0.2.0", "0.3.0", "r2scan"])
def test_the_layer_of_chgnet_that_never_trained_is_found(version: str) -> None:
    (name,) = (name for name in FILES if name.startswith("chgnet/") and version in name)
    found = [f.tensor for f in read(name).findings if f.code == "PI301"]
    layer = "model.state_dict.angle_layers.2.twoBody_bond"
    assert found == [f"{layer}.mlp_core.layers.1.weight", f"{layer}.mlp_gate.layers.1.weight"]


@pytest.mark.parametrize("model", ["mp-2018.6.1/formation_energy", "qm9-2018.6.1/mu", "qm9-2018.6.1/omega1"])
def test_the_layers_of_megnet_that_never_trained_are_found(model: str) -> None:
    (name,) = (name for name in FILES if name.endswith(f"{model}.hdf5"))
    assert [f.tensor for f in read(name).findings if f.code == "PI301"] == ["dense_5.kernel", "dense_6.kernel"]


def test_the_layers_of_megnet_that_decayed_are_found() -> None:
    (name,) = (name for name in FILES if name.endswith("log10G.hdf5"))
    assert [f.tensor for f in read(name).findings if f.code == "PI205"] == ["dense_5.kernel", "dense_6.kernel"]


def _lines() -> Iterator[str]:
    yield f"{'file':58} {'moved':>5} {'init':>5} {'drawn':>5} {'const':>5}  findings"
    for name in FILES:
        rows = [row for row in read(name).tensors if row.init]
        strengths = Counter(
            "constant" if r.init and r.init.family == "constant" else str(r.init and r.init.strength) for r in rows
        )
        cells = " ".join(f"{strengths[s] or '.':>5}" for s in ("moved", "init-like", "untouched", "constant"))
        codes = Counter(f"{f.code} {f.severity.value}" for f in read(name).findings)
        yield f"{name[-58:]:58} {cells}  {', '.join(f'{n} x {code}' for code, n in sorted(codes.items()))}"
        for row in rows:
            if row.init and row.init.family != "constant" and row.init.strength != "moved":
                yield f"    {row.name} {row.shape}: {row.init.strength}, {row.init.formula}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(_lines()) + "\n")
