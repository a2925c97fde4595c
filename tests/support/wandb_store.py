"""What tests write of wandb."""

from __future__ import annotations

import json

from support.framings import field

HEADER = b":W&B\xe1\xbe\x00"


def items(values: dict[str, object]) -> bytes:
    """Updates of a ConfigRecord or SummaryRecord; `a.b` is a nested key."""
    made = b""
    for key, value in values.items():
        parts = key.split(".")
        path = b"".join(field(2, part.encode()) for part in parts) if len(parts) > 1 else field(1, key.encode())
        made += field(1, path + field(16, json.dumps(value).encode()))
    return made


def run(values: dict[str, object]) -> bytes:
    return field(17, field(1, b"id") + field(3, b"project") + field(4, items(values)))


def summary(values: dict[str, object]) -> bytes:
    return field(3, items(values))
