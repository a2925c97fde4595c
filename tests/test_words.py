"""A word is its own text, in every way of writing it."""

from __future__ import annotations

import importlib
import json
import pkgutil
from enum import Enum

import inspectcli
from inspectcli.words import Word


class Fruit(Word):
    RED_APPLE = "red-apple"


def test_a_word_is_its_text() -> None:
    fruit = Fruit.RED_APPLE
    assert fruit == "red-apple"
    assert str(fruit) == f"{fruit}" == "%s" % fruit == "red-apple"  # noqa: UP031
    assert json.dumps([fruit]) == '["red-apple"]'
    assert Fruit("red-apple") is fruit


def test_every_enum_of_texts_is_one_of_words() -> None:
    for module in pkgutil.walk_packages(inspectcli.__path__, "inspectcli."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and issubclass(value, Enum) and issubclass(value, str):
                assert issubclass(value, Word), f"{module.name}.{name}"
