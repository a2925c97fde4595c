"""Names of the tensors in an object: two never share one; what else is in the file is counted; ties, in any layout."""

from __future__ import annotations

import enum
import io
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from support.locations import in_memory

from inspectcli.formats import open_file
from inspectcli.tensors.model import Checkpoint, aliases


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"


@dataclass(frozen=True)
class Key:
    a: int
    b: str


@dataclass
class Settings:
    weight: torch.Tensor
    rate: float = 0.1


Pair = namedtuple("Pair", "x y")


def opened(value: object, **how: Any) -> Checkpoint:
    file = io.BytesIO()
    torch.save(value, file, **how)
    return open_file(in_memory("x.pt", file.getvalue()))


def numbered(n: int) -> torch.Tensor:
    return torch.full((2,), float(n))


# -- names ----------------------------------------------------------------------------------------------

#: Objects whose first tensor is of ones, whose second is of twos, ...; and the names of these.
CLASHES: dict[str, tuple[Any, list[str]]] = {
    "a dotted key": ({"a.b": numbered(1), "a": {"b": numbered(2)}}, ["a.b", "['a']['b']"]),
    "a dotted key behind": ({"a": {"b": numbered(1)}, "a.b": numbered(2)}, ["['a']['b']", "a.b"]),
    "three ways": (
        {"l.0.w": numbered(1), "l": {"0.w": numbered(2), 0: {"w": numbered(3)}}},
        ["l.0.w", "['l']['0.w']", "['l'][0]['w']"],
    ),
    "an integer": ({1: numbered(1), "1": numbered(2)}, ["[1]", "1"]),
    "none": ({None: numbered(1), "None": numbered(2)}, ["[None]", "None"]),
    "a tuple": ({(1, 2): numbered(1), "(1, 2)": numbered(2)}, ["[(1, 2)]", "(1, 2)"]),
    "bytes": ({b"w": numbered(1), "w": numbered(2)}, ["[w]", "w"]),
    "a list": ({"a": [numbered(1)], "a.0": numbered(2)}, ["['a'][0]", "a.0"]),
    "no key": ({"": numbered(1), "tensor": numbered(2)}, ["tensor", "['tensor']"]),
    "the name that would be given": (
        {"a.b": numbered(1), "a": {"b": numbered(2)}, "['a']['b']": numbered(3)},
        ["a.b", "['a']['b'] #2", "['a']['b']"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CLASHES)
@pytest.mark.parametrize("zipped", [True, False])
def test_two_tensors_never_share_a_name(case: str, zipped: bool) -> None:
    value, names = CLASHES[case]
    made = opened(value, _use_new_zipfile_serialization=zipped)
    assert {t.name: float(t.numpy()[0]) for t in made} == {name: n for n, name in enumerate(names, 1)}


KEYS: dict[str, tuple[Any, str]] = {
    "enum": (Color.RED, "Color(1)"),
    "enum of text": (Color.BLUE, "Color('blue')"),
    "dataclass": (Key(1, "x"), "Key(a=1, b='x')"),
    "named tuple": (Pair(1, "x"), "Pair(1, 'x')"),
    "tuple of enums": ((Color.RED, Color.BLUE), "(Color(1), Color('blue'))"),
    "device": (torch.device("cpu"), "device('cpu')"),
    "dtype": (torch.float32, "torch.float32"),
    "number": (1.5, "1.5"),
    "frozenset": (frozenset([3]), "frozenset((3))"),
}


@pytest.mark.parametrize("case", KEYS)
def test_a_key_of_any_kind_has_a_name(case: str) -> None:
    key, name = KEYS[case]
    (tensor,) = opened({key: numbered(1)})
    assert tensor.name == name


def test_keys_of_one_class_are_told_apart() -> None:
    made = opened({Color.RED: numbered(1), Color.BLUE: numbered(2), Key(1, "x"): numbered(3), Key(1, "y"): numbered(4)})
    assert len({t.name for t in made}) == 4


def test_keys_that_read_alike_are_numbered() -> None:
    made = opened({(1 << 20_000) + n: numbered(n) for n in range(4)})
    text = "<integer of 20,008 bits>"
    assert [t.name for t in made] == [text, f"['{text}']", f"['{text}'] #2", f"['{text}'] #3"]


def test_a_deep_key_is_cut() -> None:
    key: Any = 1
    for _ in range(50):
        key = (key,)
    (tensor,) = opened({key: numbered(1)})
    assert tensor.name == "(((...)))"


def test_many_tensors_of_one_name_are_told_apart_in_one_walk() -> None:
    made = opened([{"a.b": numbered(0), "a": {"b": numbered(1)}} for _ in range(2_000)])
    assert len({t.name for t in made}) == 4_000


# -- what is there besides tensors ----------------------------------------------------------------------

BESIDES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "a state dict": (OrderedDict(w=numbered(1)), ()),
    "the state dict of a module": (torch.nn.Linear(2, 2).state_dict(), ()),
    "a module": (torch.nn.Linear(2, 2), ()),
    "a tuple": ((numbered(1), 3, "x", {"lr": 0.1}), ("besides tensors: 2 numbers, 1 text (1, 2, 3.lr)",)),
    "a dataclass": ({"s": Settings(numbered(1))}, ("besides tensors: 1 number (s.rate)",)),
    "flags": ({"w": numbered(1), "done": True, "none": None}, ("besides tensors: 1 flag (done)",)),
    "deep ones": ({"w": numbered(1), "a": {"b": {"c": 1}}}, ("besides tensors: 1 number",)),
    "many": ({"w": numbered(1), **{str(n): n for n in range(9)}}, ("besides tensors: 9 numbers (0, 1, 2, 3, 4, ...)",)),
    "one list twice": ((lambda same: {"a": same, "b": same})([1, 2]), ("besides tensors: 2 numbers (a.0, a.1)",)),
}  # fmt: skip


@pytest.mark.parametrize("case", BESIDES)
def test_what_there_is_besides_tensors_is_said_in_one_line(case: str) -> None:
    value, notes = BESIDES[case]
    assert opened(value).notes == notes


# -- ties -----------------------------------------------------------------------------------------------


def tied(**views: torch.Tensor) -> set[str]:
    made = opened(views)
    for tensor in made:
        np.testing.assert_array_equal(tensor.numpy(), views[tensor.name].resolve_conj().numpy())
    return {made.tensors[position].name for position in aliases(made.tensors)}


def test_views_of_the_same_elements_are_tied_whatever_their_layout() -> None:
    w = torch.randn(6, 4)
    assert tied(w=w, t=w.t(), flat=w.view(-1), deep=w.view(2, 3, 4).permute(2, 0, 1), one=w[None]) == {
        "t", "flat", "deep", "one",
    }  # fmt: skip


def test_views_of_other_elements_are_not() -> None:
    w = torch.randn(6, 4)
    views = {"w": w, "rows": w[1:3], "columns": w[:, 1:3], "steps": w[::2], "other": w.view(-1)[1:], "less": w[:5]}
    assert tied(**views, wide=w[:1].expand(6, 4), first=w[0]) == set()


def test_a_slice_and_its_transpose_are_tied() -> None:
    w = torch.randn(6, 4)
    assert tied(w=w, columns=w[:, 1:3], turned=w[:, 1:3].t()) == {"turned"}


def test_a_conjugated_view_has_other_values() -> None:
    c = torch.randn(3, dtype=torch.complex64)
    assert tied(c=c, conjugated=c.conj(), same=c.conj()) == {"same"}


@pytest.mark.parametrize(
    "value", [torch.ones(1).expand(1000), torch.zeros(()).expand(3, 4), torch.randn(3, 1).expand(3, 9)]
)
def test_an_expanded_tensor_is_read(value: torch.Tensor) -> None:
    (tensor,) = opened({"e": value})
    np.testing.assert_array_equal(tensor.numpy(), value.numpy())
