"""YAML: numbers, words and tags as training tools mean them; bombs and nonsense end in one clear error."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inspectcli.display.blocks import Report
from inspectcli.encodings.yaml import MAX_YAML, load_yaml
from inspectcli.errors import DamagedFileError, LimitError, PinspectError
from inspectcli.render.yaml import render


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1e3),
        ("1.0e-08", 1e-8),
        ("-1_000", -1000),
        ("0x10", 16),
        ("017", 17.0),  # a number, never an octal one
        (".5", 0.5),
        (".inf", math.inf),
        ("no", "no"),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("12:30", "12:30"),
        ("2026-11-24", "2026-11-24"),
        ("'1e-4'", "1e-4"),
        ("!!python/name:torch.optim.adamw.AdamW ''", "torch.optim.adamw.AdamW"),
        ("!!python/tuple [0.9, 0.98]", [0.9, 0.98]),
        ("!!python/object:argparse.Namespace {lr: 0.1}", {"lr": 0.1}),
        ("!!python/object/apply:enums.Schedule [cosine]", "cosine"),
        ("!!python/object/apply:os.system ['touch PWNED']", "touch PWNED"),
        ("!mine abc", "abc"),
    ],
)
def test_scalars_and_tags(text: str, value: object) -> None:
    assert load_yaml(f"a: {text}\n".encode(), "x") == {"a": value}


def test_merge_keys_and_aliases() -> None:
    assert load_yaml(b"base: &b {lr: 1e-3}\nrun: {<<: *b, seed: 1}\n", "x")["run"] == {"lr": 1e-3, "seed": 1}


def test_first_document_of_several() -> None:
    assert load_yaml(b"lr: 1\n---\nlr: 2\n", "x") == {"lr": 1}


def test_laughs_are_counted_before_they_are_told() -> None:
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 12))
    with pytest.raises(LimitError, match="aliases multiply it"):
        load_yaml(("l0: &l0 [x]\n" + levels).encode(), "bomb.yaml")


def test_a_config_that_contains_itself() -> None:
    with pytest.raises(PinspectError):
        load_yaml(b"a: &a [*a]\n", "x")


@pytest.mark.parametrize("text", [b"a: [1, 2", b"a: b: c", b"\xff\xfe", b"{" * 5000, b"[" * 5000 + b"]" * 5000])
def test_nonsense_is_one_clear_error(text: bytes) -> None:
    with pytest.raises(PinspectError, match=r"^x "):
        load_yaml(text, "x")


def test_size_is_bounded() -> None:
    with pytest.raises(LimitError, match="at most"):
        load_yaml(b"#" * (MAX_YAML + 1), "x")


def test_error_names_the_line() -> None:
    with pytest.raises(DamagedFileError, match="in line 3"):
        load_yaml(b"a: 1\nb: [\n", "x")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=8), VALUES, min_size=1, max_size=4))
def test_what_we_write_is_what_pyyaml_reads(document: dict[str, object]) -> None:
    assert yaml.safe_load("".join(render(Report("hparams", (), document)))) == document


@pytest.mark.parametrize(
    "text", [b"[" + b"a," * 400_000 + b"]", b"{" + b"a: 1, " * 300_000 + b"}", b"a: 1\n" * 300_000]
)
def test_values_are_counted_as_they_come(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = yaml.SafeLoader.compose_node
    monkeypatch.setattr(
        yaml.SafeLoader,
        "compose_node",
        lambda self, *args: made.append(1) or real(self, *args),  # type: ignore[func-returns-value]
    )
    monkeypatch.setattr("inspectcli.encodings.yaml.MAX_EXPANDED", 1000)
    with pytest.raises(LimitError, match="more than 1,000 values"):
        load_yaml(text, "a config")
    assert len(made) == 1000
