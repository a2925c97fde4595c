"""Closed sets of words: enums whose members are their own text."""

from __future__ import annotations

from enum import Enum


class Word(str, Enum):
    """Base of the enums whose values people and programs read: `str(Kind.BUFFER)` is `buffer`, on every Python.

    `enum.StrEnum` does this from Python 3.11 on.
    """

    def __str__(self) -> str:
        return str(self.value)
