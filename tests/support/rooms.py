"""The rooms of the house, the lowest level first: what the test of imports enforces, and CONTRIBUTING draws."""

from __future__ import annotations

from typing import NamedTuple


class Room(NamedTuple):
    """A module or folder below `inspectcli`, and what lives in it."""

    name: str
    caption: str


#: A file may import from its own level and from those before it. It belongs to the room with the longest name that its
#: own begins with.
LEVELS = (
    (
        Room("errors", "every error a user can meet"),
        Room("contract", "schema name, exit codes, severities"),
        Room("document", "results -> JSON: the one writer"),
        Room("words", "the base of enums of words"),
        Room("plugins", "entry points of other packages: none is loaded unasked"),
        Room("display.blocks", "what people see, before it is text"),
    ),
    (Room("storage", "text -> Location -> Source: where bytes come from"),),
    (
        Room("tensors", "element types, codecs, frozen descriptions, and how they become arrays"),
        Room("display.text", "numbers, sizes, lists, plurals: one notation"),
        Room("display.fold", "rows of repeated blocks as one line"),
    ),
    (Room("encodings", "zip, JSON, YAML, SQLite, protobuf: bounded code that knows nothing of models"),),
    (Room("pickles", "the pickle machine: inert nodes, what a global means, torch's rebuild functions"),),
    (Room("formats", "bytes -> Checkpoint: a file or a folder for each format"),),
    (Room("measure", "the one loop that reads values, and what is worked out of them a block at a time"),),
    (Room("hparams", "stores of hyperparameters -> what was set, what contradicts what; in sources/ one file a tool"),),
    (Room("analysis", "roles, initializers, health: what the figures mean; one file a family of rules"),),
    (
        Room("commands.inspect", "paths -> InspectReport -> blocks"),
        Room("commands.hparams", "a path -> HParams -> blocks"),
    ),
    (
        Room("commands.check", "the rules as a gate: policy, baseline"),
        Room("commands.diff", "two checkpoints -> DiffReport -> blocks: match, compare, classify"),
    ),
    (Room("render", "Report -> terminal, plain, Markdown, JSON, ...: knows blocks, nothing else"),),
    (Room("cli", "command line -> exit code"), Room("__main__", "python -m inspectcli")),
)


def picture() -> str:
    """The levels as text, the highest first."""
    width = max(len(room.name) for level in LEVELS for room in level)
    drawn = ("\n".join(f"{room.name:<{width}}  {room.caption}" for room in level) for level in reversed(LEVELS))
    return "\n   │\n".join(drawn)
