"""What a file would do to a careless loader, and names that deceive: honest files first."""

from __future__ import annotations

import argparse
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from models.judged import Tensors, codes, findings, write
from support.places import CORPUS, FIXTURES, corpus_truth, healthy_fixtures
from torch import nn

from inspectcli.analysis.findings import Severity, all_rules
from inspectcli.render.base import escape

os.environ["KERAS_BACKEND"] = "torch"

# -- left alone -------------------------------------------------------------------------------------------


def state_dict() -> object:
    return nn.Linear(4, 4).state_dict()


def lightning_like() -> object:
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {
        "state_dict": model.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": argparse.Namespace(lr=0.1, path="runs/1"),
        "rng": torch.get_rng_state(),
        "array": np.arange(4.0),
        "note": "os.system('ls')",
    }


LEFT_ALONE: list[Callable[[], object]] = [state_dict, lightning_like]


@pytest.mark.parametrize("build", LEFT_ALONE, ids=lambda b: b.__name__)
@pytest.mark.parametrize("read", [True, False])
def test_an_honest_pickle_is_left_alone(build: Callable[[], object], read: bool, tmp_path: Path) -> None:
    assert findings(write(tmp_path / "model.pt", build()), "PI5", read=read) == ()


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.weight",
        "Schicht.größe.Gewicht",
        "слой.0.вес",
        "層.0.重み",
        "계층.가중치",
        "طبقة.وزن",
        "שכבה.משקל",
        "لایه\u200cها.وزن",  # Persian writes a joiner within a word
        "परत.भार",
        "क्\u200dष.weight",  # so does Hindi
        "e\u0301tage.poids",
        "👩\u200d🔬.weight",
        "❤\ufe0f.weight",
        "葛\U000e0100.weight",
        "θ.μ²",
        "blocks 0/dense 1/kernel:0",
        "a\u00a0b",
        "",
    ],
)
def test_names_of_any_language_are_left_alone(name: str, tmp_path: Path) -> None:
    assert findings(write(tmp_path / "model.safetensors", {name: torch.ones(2)}), "PI5") == ()


@pytest.mark.parametrize("path", healthy_fixtures(), ids=lambda p: p.name)
def test_fixtures_raise_no_false_alarm(path: Path) -> None:
    foreign = path.name in ("foreign.pt", "zoo.keras", "zoo_keras3.h5")
    assert codes(findings(path, "PI5")) == ["PI502"] * foreign


def corpus_files() -> list[str]:
    return [entry["file"] for entry in corpus_truth("truth.json") if "expect" not in entry]


@pytest.mark.corpus
@pytest.mark.parametrize("name", corpus_files())
def test_published_files_raise_no_false_alarm(name: str) -> None:
    found = findings(CORPUS / "corpora" / "files" / name, "PI5", read=False)
    assert set(codes(found)) <= {"PI502"}
    assert {f.severity for f in found} <= {Severity.NOTE}


def test_the_headers_are_enough_for_all_rules() -> None:
    assert [r.code for r in all_rules() if r.code.startswith("PI5") and r.reads_values] == []


# -- code -------------------------------------------------------------------------------------------------


class Runs:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch was-here",)


def test_a_pickle_that_runs_code_is_an_error(tmp_path: Path) -> None:
    (found,) = findings(write(tmp_path / "model.pt", {"weight": torch.ones(2), "x": Runs()}), "PI5", read=False)
    module = os.system.__module__  # posix, nt
    assert found[:3] == ("PI501", Severity.ERROR, None)
    assert found.message.startswith(
        f"{module}.system would be called with 'touch was-here', from model/data.pkl, byte "
    )
    assert found.advice == "do not load this file, and ask where it comes from"
    assert found.figures["what"] == f"{module}.system would be called with 'touch was-here'"


def test_each_call_is_a_finding_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "two.pkl"
    path.write_bytes(pickle.dumps({"w": np.ones(2), "a": Runs(), "b": eval_of("1")}, protocol=2))
    assert codes(findings(path, "PI5")) == ["PI501", "PI501"]


def eval_of(text: str) -> object:
    class Evaluates:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return eval, (text,)

    return Evaluates()


def test_an_array_of_objects_is_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones(3), y=np.array([{}, None], dtype=object))
    found = [f for f in findings(tmp_path / "a.npz", "PI5") if f.severity is Severity.ERROR]
    assert codes(found) == ["PI501"]
    assert "np.load(allow_pickle=True) would run it, from y" in found[0].message


def test_classes_of_other_packages_are_a_note() -> None:
    (found,) = findings(FIXTURES / "foreign.pt", "PI5", read=False)
    assert found[:4] == ("PI502", Severity.NOTE, None, "1 class of other packages needed: my_project.Config")
    assert found.figures == {"classes": ["my_project.Config"], "count": 1}


def test_a_lambda_layer_is_an_error(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    double = keras.layers.Lambda(lambda x: x * 2, output_shape=(3,), name="double")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), double])
    model.save(tmp_path / "model.keras")
    found = findings(tmp_path / "model.keras", "PI5", read=False)
    assert codes(found) == ["PI503", "PI503"]
    assert {f.severity for f in found} == {Severity.ERROR}
    assert [f.message for f in found] == [
        "a Lambda layer is Python code, which a loader would run: 'double', from config.json",
        "a lambda is stored as marshalled Python code, which a loader would run, from config.json",
    ]


def test_a_link_to_another_file_is_an_error(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["weight"] = np.ones(3)
        file["stolen"] = h5py.ExternalLink("/outside/secret.h5", "/key")
    (found,) = [f for f in findings(tmp_path / "a.h5", "PI5", read=False) if f.severity is Severity.ERROR]
    assert found.code == "PI504"
    assert "a loader would read another file, '/outside/secret.h5" in found.message


# -- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\x1b[2Kb", "1 hidden character in the name: U+001B control character"),
        ("a\r\nb", "2 hidden characters in the name: U+000D control character, U+000A control character"),
        ("weight\x00", "1 hidden character in the name: U+0000 control character"),
        ("a\x9bb", "1 hidden character in the name: U+009B control character"),
        ("w\u202ethgie", "1 hidden character in the name: U+202E RIGHT-TO-LEFT OVERRIDE"),
        (
            "\u2066a\u2069",
            "2 hidden characters in the name: U+2066 LEFT-TO-RIGHT ISOLATE, U+2069 POP DIRECTIONAL ISOLATE",
        ),
        ("weight\u200b", "1 hidden character in the name: U+200B ZERO WIDTH SPACE"),
        ("we\u200dight", "1 hidden character in the name: U+200D ZERO WIDTH JOINER"),
        ("вес\u200b", "1 hidden character in the name: U+200B ZERO WIDTH SPACE"),
        ("\ufeffweight", "1 hidden character in the name: U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("a\u2028b", "1 hidden character in the name: U+2028 LINE SEPARATOR"),
        ("a\u3164b", "1 hidden character in the name: U+3164 HANGUL FILLER"),
        ("a\u17b4b", "1 hidden character in the name: U+17B4 KHMER VOWEL INHERENT AQ"),
        ("a\u2800b", "1 hidden character in the name: U+2800 BRAILLE PATTERN BLANK"),
        ("a\ufe0fb", "1 hidden character in the name: U+FE0F VARIATION SELECTOR-16"),
        ("a\U000e0041b", "1 hidden character in the name: U+E0041 TAG LATIN CAPITAL LETTER A"),
    ],
)
def test_hidden_characters_are_a_warning(name: str, message: str, tmp_path: Path) -> None:
    tensors: Tensors = {name: torch.ones(2), "honest": torch.ones(2)}
    (found,) = findings(write(tmp_path / "model.safetensors", tensors), "PI5", read=False)
    assert found[:4] == ("PI505", Severity.WARNING, name, message)


def test_what_the_finding_says_is_safe_to_print(tmp_path: Path) -> None:
    name = "".join(map(chr, [*range(32), *range(127, 160), *range(0x202A, 0x202F), 0x2066, 0xFEFF]))
    (found,) = findings(write(tmp_path / "model.safetensors", {name: torch.ones(2)}), "PI5")
    assert found.message == escape(found.message)
    assert found.figures["count"] == len(name)


# -- the format -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_pickle"),
    [
        ("mlp.pt", True), ("mlp_legacy.pt", True), ("mlp_tar.pt", True), ("mlp_pickle.pkl", True),
        ("mlp_script.pt", True), ("sharded_torch", True), ("mlp.safetensors", False), ("sharded", False),
        ("mlp.keras", False), ("mlp_keras2.h5", False), ("arrays.npz", False), ("array.npy", False),
    ],
)  # fmt: skip
def test_a_pickle_is_a_warning_for_those_who_ask(name: str, is_pickle: bool) -> None:
    path = FIXTURES / name
    assert codes(findings(path, "PI506", read=False)) == ["PI506"] * is_pickle
    assert findings(path, "PI5", read=False) == ()


def test_the_advice_for_a_pickle_names_the_way_out() -> None:
    (found,) = findings(FIXTURES / "mlp.pt", "PI506")
    assert found.message == "the format is torch-zip, a pickle: expected safetensors"
    assert found.advice == 'save as safetensors: `safetensors.torch.save_model(model, "model.safetensors")`'


@pytest.mark.parametrize("code", [f"PI5{n:02}" for n in range(1, 7)])
def test_every_rule_explains_itself(code: str) -> None:
    (rule,) = [r for r in all_rules() if r.code == code]
    assert "Why it matters: " in rule.doc
    assert rule.advice
