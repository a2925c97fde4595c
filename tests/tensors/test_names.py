"""What names of tensors say: modules, leaves, shared prefixes, numbers of blocks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import inspectcli
from inspectcli.cli import run
from inspectcli.tensors.names import (
    block_numbers,
    common_prefix,
    counted,
    is_index,
    module_of,
    name_filter,
    parts,
    pattern,
    split_name,
)


@pytest.mark.parametrize(
    ("given_names", "prefix"),
    [(["a.b.c", "a.b.d"], "a.b."), (["a.b"], ""), (["ab", "ac"], ""), (["h.{0..2}.w", "h.{0..2}.v"], ""), ([], "")],
)
def test_what_all_names_share_is_said_once(given_names: list[str], prefix: str) -> None:
    assert common_prefix(given_names) == prefix


@pytest.mark.parametrize(
    ("name", "module", "leaf"),
    [
        ("a.b.weight", "a.b", "weight"),
        ("dense/kernel:0", "dense", "kernel"),
        ("a.b/kernel", "a.b", "kernel"),
        ("weight", "", "weight"),
        ("", "", ""),
        (".", "", ""),
    ],
)
def test_names_are_split_at_the_last_separator(name: str, module: str, leaf: str) -> None:
    assert split_name(name) == (module, leaf)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("h.3.mlp.weight", "h.#.mlp.weight"),
        ("layer1.0.conv2.weight", "layer1.#.conv2.weight"),
        ("a.10.b.2.c", "a.#.b.#.c"),
        ("dense_5/kernel", "dense_#/kernel"),
        ("conv3x3.weight", "conv3x3.weight"),
    ],
)
def test_blocks_share_a_pattern_and_kinds_of_layers_do_not(name: str, expected: str) -> None:
    assert pattern(name) == expected


def test_siblings_are_counted() -> None:
    assert counted("dense_3.kernel") == counted("dense_12.kernel") == ("dense#", "kernel")
    assert counted("net.0.weight") == counted("net.3.weight")


@pytest.mark.parametrize(
    ("name", "prefix", "module"),
    [
        ("h.3.attn.weight", "", "h.3"), ("lm_head.weight", "", "lm_head"), ("model.h.3.w", "model.", "h.3"),
        ("weight", "", "weight"), ("layers/0/kernel", "", "layers.0"), ("h.3", "", "h"), ("h.²³.a.w", "", "h"),
    ],
)  # fmt: skip
def test_the_module_of_a_name(name: str, prefix: str, module: str) -> None:
    assert module_of(name, prefix) == module


@pytest.mark.parametrize(
    ("name", "texts", "numbers"),
    [
        ("h.3.w", ("h.", ".w"), (3,)), ("layer1.0.w", ("layer", ".", ".w"), (1, 0)), ("conv1d.w", ("conv1d.w",), ()),
        ("block_1_expand.w", ("block_", "_expand.w"), (1,)),
        ("conv2_block1_1_conv.w", ("conv2_block", "_1_conv.w"), (1,)),
        ("w.12", ("w.", ""), (12,)), ("fc1.w", ("fc", ".w"), (1,)), ("fc1", ("fc1",), ()), ("w", ("w",), ()),
    ],
)  # fmt: skip
def test_the_numbers_of_blocks(name: str, texts: tuple[str, ...], numbers: tuple[int, ...]) -> None:
    assert block_numbers(name) == (texts, numbers)


@given(st.lists(st.sampled_from(["h", "layer1", "conv1d", "0", "12", "w", "a_3"]), min_size=1, max_size=5))
def test_texts_and_numbers_give_back_the_name(components: list[str]) -> None:
    name = ".".join(components)
    texts, numbers = block_numbers(name)
    assert "".join(a + b for a, b in zip(texts, [*map(str, numbers), ""], strict=True)) == name


def test_parts_have_no_separators() -> None:
    assert parts("a/b.kernel:0") == ("a", "b", "kernel")
    assert parts(":0") == (":0",)


LONG = "9" * 5000


def test_a_number_too_long_for_python_counts_nothing() -> None:
    assert not is_index(LONG)
    assert block_numbers(f"h.{LONG}.w") == ((f"h.{LONG}.w",), ())
    assert module_of(f"h.{LONG}.a.w") == "h"


@pytest.mark.parametrize("name", [f"h.{LONG}.a.w", f"layers.{LONG}.attn.w", "h.².a.w", "layers.².w", f"w{LONG}"])
def test_a_file_with_such_a_name_is_read(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    # int() raises ValueError for more than 4,300 digits, and for digits that are not decimal.
    path = tmp_path / "model.safetensors"
    entries = {n: {"dtype": "F32", "shape": [1], "data_offsets": [i * 4, i * 4 + 4]} for i, n in enumerate([name, "b"])}
    header = json.dumps({**entries, "__metadata__": {"ss_epoch": "²"}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    for args in (
        ["--sort", "name"],
        ["--tree"],
        ["check"],
        ["hparams"],
        ["diff", str(path)],
        ["diff", "--stat", str(path)],
    ):
        assert run([*args, str(path)]) == 0, args
    assert inspectcli.inspect(path).files[0][name].numel == 1
    assert "bug" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("globs", "kept"),
    [
        (["*.w"], ["a.w", "b.w"]), (["*.w", "c"], ["a.w", "b.w", "c"]), (["!a.*"], ["b.w", "c"]),
        (["*.w", "!a.*"], ["b.w"]), (["A.*"], []), (["[ab].w"], ["a.w", "b.w"]),
    ],
)  # fmt: skip
def test_names_are_chosen_by_globs(globs: list[str], kept: list[str]) -> None:
    wanted = name_filter(globs)
    assert wanted is not None
    assert [name for name in ("a.w", "b.w", "c") if wanted(name)] == kept


def test_without_globs_nothing_is_chosen_by_name() -> None:
    assert name_filter([]) is None
