"""From the keys that tools use to canonical names. An ambiguous key is decided by its scope, or left raw."""

from __future__ import annotations

import re
from typing import NamedTuple

from inspectcli.hparams.base import HParam, Kind, Origin


class Named(NamedTuple):
    """What a key stands for; `name` is None if that is unknown or ambiguous."""

    name: str | None
    kind: Kind


def canonical(raw_key: str, scope: str = "", value: object = None) -> Named:
    """The canonical name of a key.

    Args:
        raw_key: as the file has it.
        scope: what the keys around it describe: one of SCOPES, or empty.
        value: decides a few (`optimizer` names one only if it is text; `layers` may be a number or a list of sizes).
    """
    return Named(None, Kind.STATIC)


def hparam(
    raw_key: str,
    value: object,
    origin: Origin,
    scope: str = "",
    note: str = "",
    stored: str = "",
    current: object = None,
) -> HParam:
    """A row, named."""
    name, kind = canonical(raw_key, scope, value)
    return HParam(name, raw_key, value, current, kind, origin, note, stored)
