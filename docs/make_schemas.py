"""Write docs/schema/*.json: a JSON Schema for what each command prints with `--format json`.

    python docs/make_schemas.py            write them
    python docs/make_schemas.py --check    exit 1 if they are not as this would write them

Made from the classes of the results: names and types are those of their fields, descriptions those of their docstrings.
"""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from inspect import cleandoc, get_annotations
from pathlib import Path
from typing import Any, ForwardRef, NamedTuple, Union, get_args, get_origin

from inspectcli.analysis.findings import Finding
from inspectcli.analysis.initializers.recognize import InitMatch
from inspectcli.analysis.training import TrainingJudgment
from inspectcli.commands.check.result import CheckReport, RulesReport
from inspectcli.commands.diff.result import DiffReport
from inspectcli.commands.diff.trajectory import RunDiff
from inspectcli.commands.hparams.result import HParamsDiff, HParamsReport
from inspectcli.commands.inspect.result import InspectReport
from inspectcli.contract import SCHEMA
from inspectcli.document import Absent, code, members
from inspectcli.errors import ErrorReport
from inspectcli.measure.sample import Sampled

FOLDER = Path(__file__).parent / "schema"
DRAFT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


class Printed(NamedTuple):
    """One of the objects that pinspect prints."""

    file: str
    commands: tuple[str, ...]
    result: type
    what: str


PRINTED = (
    Printed("inspect", ("inspect",), InspectReport, "pinspect MODEL... --format json"),
    Printed("check", ("check",), CheckReport, "pinspect check PATH... --format json"),
    Printed("rules", ("rules",), RulesReport, "pinspect rules [CODE...] --format json"),
    Printed("diff", ("diff",), DiffReport, "pinspect diff A B --format json"),
    Printed("diff-folder", ("diff",), RunDiff, "pinspect diff DIR --format json: the checkpoints of a run"),
    Printed("hparams", ("hparams",), HParamsReport, "pinspect hparams PATH --format json"),
    Printed("hparams-two", ("hparams",), HParamsDiff, "pinspect hparams A B --format json"),
    Printed(
        "error", ("check", "diff", "hparams", "rules"), ErrorReport, "what pinspect prints if it can say nothing else"
    ),
)

#: Names in annotations that a module knows for type checkers only.
_KNOWN = {cls.__name__: cls for cls in (Finding, InitMatch, Sampled, TrainingJudgment)}
_BUILTIN: dict[object, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    object: {},
    float: {"$ref": "#/$defs/number"},
}
_NUMBER = {
    "description": "A number; what JSON cannot hold as text.",
    "anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}],
}
#: Of classes whose docstrings describe no fields.
_ELSEWHERE = {
    "Hazard": {
        "what": "what it would do",
        "where": "the place inside the file",
        "kind": "what acts: `code` in a pickle, a `layer` of a Keras config, another `file` that is read",
    },
    "Training": {
        "epoch": "the epoch; null if the file does not say",
        "step": "the step; null if the file does not say",
        "optimizer": "its class; empty if the file does not say",
    },
}


def schema_of(printed: Printed) -> Schema:
    """The schema of one object."""
    maker = _Maker()
    body = maker.record(printed.result)
    head: Schema = {
        "schema": {"const": SCHEMA, "description": "The name of this contract."},
        "command": {"enum": list(printed.commands), "description": "What was run."},
    }
    return {
        "$schema": DRAFT,
        "title": printed.what,
        **body,
        "properties": head | body["properties"],
        "required": [*head, *body["required"]],
        "$defs": dict(sorted(maker.definitions.items())),
    }


class _Maker:
    """Collects the definitions that a schema refers to."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def record(self, cls: type) -> Schema:
        """A class as an object that has its members and no others."""
        texts = described(cls)
        properties, required = {}, []
        for name, quiet, default in members(cls) or ():
            hint = _hint(cls, name)
            options = [option for option in _options(hint) if option is not Absent]
            properties[name] = {**self.union(options), "description": _sentence(texts[name])}
            if quiet:
                properties[name]["default"] = default if not isinstance(default, Enum) else code(default)
            elif len(options) == len(_options(hint)):
                required.append(name)
        return {
            "description": _first(cls),
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }

    def union(self, options: Sequence[object]) -> Schema:
        made = [self.of(option) for option in options]
        if len(made) == 1:
            return made[0]
        if all(list(schema) == ["type"] for schema in made):
            return {"type": [schema["type"] for schema in made]}
        return {} if {} in made else {"anyOf": made}

    def of(self, hint: object) -> Schema:
        """What a value of this type may be."""
        if hint in _BUILTIN:
            if hint is float:
                self.definitions["number"] = _NUMBER
            return dict(_BUILTIN[hint])
        if isinstance(hint, type) and issubclass(hint, Enum):
            made = {"description": _first(hint), "enum": [code(member) for member in hint]}
            return self.defined(hint, made)
        if isinstance(hint, type) and members(hint) is not None:
            if hint.__name__ not in self.definitions:
                self.definitions[hint.__name__] = {}  # it may refer to itself
                self.definitions[hint.__name__] = self.record(hint)
            return {"$ref": f"#/$defs/{hint.__name__}"}
        outer, inner = get_origin(hint), get_args(hint)
        if outer is tuple and inner[-1] is Ellipsis:
            return {"type": "array", "items": self.union(_options(inner[0]))}
        if outer is tuple:
            items = [self.union(_options(part)) for part in inner]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
        if outer is not None and issubclass(outer, Mapping):
            values = self.union(_options(inner[1]))
            return {"type": "object", "additionalProperties": values or True}
        raise TypeError(f"no schema for {hint!r}")

    def defined(self, cls: type, schema: Schema) -> Schema:
        self.definitions[cls.__name__] = schema
        return {"$ref": f"#/$defs/{cls.__name__}"}


def _options(hint: object) -> Sequence[object]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _hint(cls: type, name: str) -> object:
    """The type of a field or a property, evaluated where its class stands."""
    attribute = getattr(cls, name, None)
    owner = next((c for c in cls.__mro__ if name in get_annotations(c)), None)
    text = attribute.fget.__annotations__["return"] if owner is None else owner.__annotations__[name]
    text = text.__forward_arg__ if isinstance(text, ForwardRef) else text
    return eval(text, {**_KNOWN, **vars(sys.modules[cls.__module__])}) if isinstance(text, str) else text


# -- docstrings -----------------------------------------------------------------------------------------

_ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): (.+)$")


def described(cls: type) -> Mapping[str, str]:
    """Member -> what the docstring says of it."""
    made = dict(_ELSEWHERE.get(cls.__name__, {}))
    name = ""
    for line in cleandoc(cls.__doc__ or "").partition("Attributes:")[2].splitlines():
        entry = _ENTRY.match(line)
        if entry:
            name = entry[1]
            made.update(dict.fromkeys(name.split(", "), entry[2]))
        elif line.strip() and name:
            made.update({part: f"{made[part]} {line.strip()}" for part in name.split(", ")})
    for member in members(cls) or ():
        attribute = getattr(cls, member.name, None)
        if isinstance(attribute, property) and attribute.__doc__:
            made[member.name] = cleandoc(attribute.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return made


def _first(cls: type) -> str:
    """The first paragraph of a docstring."""
    return _sentence(re.sub(r"\s+", " ", cleandoc(cls.__doc__ or "").split("\n\n")[0]))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


# -- files ----------------------------------------------------------------------------------------------


def files() -> Iterator[tuple[Path, str]]:
    """Each file with its text."""
    for printed in PRINTED:
        yield FOLDER / f"{printed.file}.json", json.dumps(schema_of(printed), indent=2, ensure_ascii=False) + "\n"


def main(argv: Sequence[str]) -> int:
    stale = [(path, text) for path, text in files() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in argv:
        for path, _ in stale:
            sys.stderr.write(f"{path} is not as docs/make_schemas.py writes it\n")
        return 1 if stale else 0
    for path, text in stale:
        path.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
