"""Names of an optimizer's variables: only where every shape, or the file's own names, confirm whose they are."""

from __future__ import annotations

from typing import Any

import pytest

from inspectcli.formats.hdf5.config import Optimizer
from inspectcli.formats.hdf5.optimizers import Run, by_name, by_order

M, V, S = (4, 3), (3,), (5, 5)
TRAINED = [Run((("dense.kernel", M), ("dense.bias", V)))]
ADAM = "dense.kernel.momentum dense.kernel.velocity dense.bias.momentum dense.bias.velocity"


@pytest.mark.parametrize(
    ("kind", "config", "shapes", "names"),
    [
        ("Adam", {}, [(), (), M, M, V, V], f"iteration learning_rate {ADAM}"),
        ("adam", {}, [(), M, M, V, V], f"iteration {ADAM}"),
        ("SGD", {"momentum": 0.9}, [(), (), M, V], "iteration learning_rate dense.kernel.momentum dense.bias.momentum"),
        ("SGD", {"momentum": 0.0}, [(), ()], "iteration learning_rate"),
        ("RMSprop", {}, [(), (), M, V], "iteration learning_rate dense.kernel.velocity dense.bias.velocity"),
        ("Nadam", {}, [(), (), M, M, V, V, ()], f"iteration learning_rate {ADAM} u_product"),
    ],
)
def test_slots_are_named_after_their_variables(kind: str, config: Any, shapes: list[Any], names: str) -> None:
    assert by_order(Optimizer(kind, config), shapes, TRAINED) == names.split()


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("Adam", [(), (), M, V]),
        ("Adam", [(), (), M, M, V, V, V]),
        ("Adam", [(), (), V, V, M, M]),
        ("Adam", [M, M, V, V]),
        ("Adam", [(), (), M, V, M, V]),
        ("Adam", []),
        ("Unknown", [(), (), M, V]),
        ("", [(), ()]),
    ],
)
def test_slots_that_do_not_fit_are_not_named(kind: str, shapes: list[Any]) -> None:
    assert not any(by_order(Optimizer(kind), shapes, TRAINED))


def test_of_parts_in_unknown_order_only_a_shape_of_its_own_tells_the_slot() -> None:
    run = Run((("a.kernel", S), ("b.kernel", S), ("c.kernel", M)), ordered=False)
    names = by_order(Optimizer("Lion"), [(), (), S, M, S, M, V], [run, *TRAINED])
    assert names == ["iteration", "learning_rate", None, "c.kernel.momentum", None, *(
        "dense.kernel.momentum", "dense.bias.momentum",
    )]  # fmt: skip


VARIABLES = {"dense/kernel": "dense.kernel", "block/sub/kernel": "block.sub.kernel", "m/a_b/kernel": "a_b.kernel"}


@pytest.mark.parametrize(
    ("weight", "name"),
    [
        ("adam/iteration", "iteration"),
        ("Adam/iter:0", "iteration"),
        ("adam/m_a_b_kernel_velocity_hat", "a_b.kernel.velocity_hat"),
        ("Adam/m/block/sub/kernel:0", "block.sub.kernel.momentum"),
        ("training/Adam/dense/kernel/v:0", "dense.kernel.velocity"),
        ("RMSprop/dense/kernel/rms:0", "dense.kernel.rms"),
        ("v/dense/kernel:0", "dense.kernel.velocity"),
        ("adam/other_kernel_momentum", None),
        ("training/Adam/Variable_12:0", None),
    ],
)
def test_a_slot_of_a_legacy_file_has_the_name_of_its_variable(weight: str, name: str | None) -> None:
    assert by_name([weight], VARIABLES, scaled=False) == [name]


def test_a_name_that_two_would_have_is_given_to_none() -> None:
    assert by_name(["a/dense_kernel_momentum", "b/dense_kernel_momentum"], VARIABLES, scaled=False) == [None, None]
