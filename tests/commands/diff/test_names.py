"""Prefixes, separators, and what two frameworks call the same thing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from inspectcli.commands.diff.names import Rewrite, in_torch_words, rewrites, unwrapped
from inspectcli.tensors.names import parts


def found(a: list[str], b: list[str]) -> list[tuple[str, str]]:
    return [(".".join(r.before), ".".join(r.after)) for r in rewrites([parts(n) for n in a], [parts(n) for n in b])]


BODY = ["h.0.attn.weight", "h.0.mlp.weight", "h.1.attn.weight", "h.1.mlp.weight", "ln_f.weight", "wte.weight"]


@pytest.mark.parametrize(
    ("before", "after"),
    [("", "module"), ("_orig_mod", ""), ("", "model.net"), ("state_dict.net", ""), ("transformer", "backbone.gpt")],
)
def test_a_prefix_of_all_names_is_one_rewrite(before: str, after: str) -> None:
    a = [".".join(filter(None, (before, n))) for n in BODY]
    b = [".".join(filter(None, (after, n))) for n in BODY]
    assert found(a, b) == [(before, after)]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (["fc.weight", "fc.bias"], ["linear.weight", "linear.bias"]),
        (["conv1.weight", "conv2.weight"], ["encoder.0.reparam_conv.weight", "encoder.1.reparam_conv.weight"]),
        (["a.b.c"], ["d.e.f"]),
        ([], ["a"]),
    ],
)  # fmt: skip
def test_leaves_alone_are_no_evidence(a: list[str], b: list[str]) -> None:
    assert found(a, b) == []


def test_two_copies_have_two_prefixes() -> None:
    a = [f"model.{n}" for n in BODY] + [f"ema.{n}" for n in BODY]
    b = BODY + [f"shadow.{n}" for n in BODY]
    assert sorted(found(a, b)) in ([("ema", ""), ("model", "shadow")], [("ema", "shadow"), ("model", "")])


def test_a_wrapper_only_adds_or_takes() -> None:
    assert Rewrite(("module",), ()).is_wrapper
    assert not Rewrite(("encoder",), ("enc",)).is_wrapper


@pytest.mark.parametrize(
    ("keras", "torch"),
    [
        ("dense.kernel", "dense.weight"),
        ("bn/gamma:0", "bn.weight"),
        ("lstm.lstm_cell.recurrent_kernel", "lstm.weight_hh_l0"),
        ("embedding.embeddings", "embedding.weight"),
        ("fc.weight", "fc.weight"),
    ],
)
def test_words(keras: str, torch: str) -> None:
    assert ".".join(in_torch_words(parts(keras))) == torch


@pytest.mark.parametrize(
    ("wrapped", "plain"),
    [
        ("layers.0._orig_mod.weight", "layers.0.weight"),
        ("layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.fc.weight", "layers.0.fc.weight"),
        ("encoder.module.fc.bias", "encoder.fc.bias"),
        ("module._orig_mod.layers.1._orig_mod.fc.bias", "module._orig_mod.layers.1.fc.bias"),
        ("layers.0.module", "layers.0.module"),
        ("module.weight", "module.weight"),
    ],
)
def test_wrappers_inside_a_name(wrapped: str, plain: str) -> None:
    assert ".".join(unwrapped(parts(wrapped))) == plain


def test_ties_do_not_depend_on_the_hashes_of_strings() -> None:
    code = (
        "from inspectcli.commands.diff.names import rewrites\n"
        "body = ['h.0.w', 'h.1.w', 'ln.w']\n"
        "a = [(p, *n.split('.')) for p in ('model', 'ema') for n in body]\n"
        "b = [(p, *n.split('.')) for p in ('net', 'shadow', 'teacher') for n in body]\n"
        "print(rewrites(a, b))"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(6)
    }
    assert len(made) == 1
