"""Options, each described once: those that commands share, and the settings of `check`.

A setting of `check` is a flag (`--max-size`), a key of the configuration (`max-size`), a field of `Policy` (`max_size`)
and a line of help. SETTINGS says all of it; to add one, add it there and to `Policy`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from inspectcli.contract import Severity

if TYPE_CHECKING:
    from inspectcli.commands.check.policy import Policy

F = TypeVar("F", bound=Callable[..., Any])


# -- what commands share --------------------------------------------------------------------------------


def quiet_option(command: F) -> F:
    """--quiet."""
    return click.option("-q", "--quiet", is_flag=True, help="Print errors only; the exit code tells.")(command)


def filter_option(which: str) -> Callable[[F], F]:
    """--filter, for tensors; `which` is the beginning of its help."""
    return click.option(
        "--filter",
        "patterns",
        metavar="GLOB",
        multiple=True,
        help=f"{which} tensors whose name fits; '!GLOB' leaves out. Repeatable.",
    )


def top_option(which: str) -> Callable[[F], F]:
    """--top N; `which` says of what."""
    return click.option("--top", type=click.IntRange(min=0), default=0, metavar="N", help=which)


# -- settings of `check` --------------------------------------------------------------------------------


class WrongKindError(Exception):
    """A value of a configuration is not of the kind that its text names."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise WrongKindError("a string")
    return value


def _texts(value: object) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise WrongKindError("a list of strings")
    return tuple(values)


def _size(value: object) -> str | int:
    if isinstance(value, str) or type(value) is int:
        return value
    raise WrongKindError('a number of bytes, or a string like "500MB"')


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongKindError("true or false")
    return value


def _ignores(value: object) -> object:
    from inspectcli.commands.check.policy import TensorIgnore

    if not isinstance(value, dict):
        raise WrongKindError("a table: code -> patterns")
    made = []
    for code, said in value.items():
        if not isinstance(said, dict):
            made.append(TensorIgnore(code, _texts(said)))
        elif said.keys() <= {"patterns", "reason"} and "patterns" in said:
            made.append(TensorIgnore(code, _texts(said["patterns"]), _text(said.get("reason", ""))))
        else:
            raise WrongKindError('for each code patterns, or { patterns = [...], reason = "..." }')
    return tuple(made)


def _words(values: tuple[str, ...]) -> tuple[str, ...]:
    """`("PI1,PI2", "PI3")` -> `("PI1", "PI2", "PI3")`."""
    return tuple(word.strip() for value in values for word in value.split(",") if word.strip())


def _parse_size(value: str | int) -> int:
    from inspectcli.commands.check.policy import parse_size

    return parse_size(value)


def _parse_severity(value: str) -> Severity:
    from inspectcli.commands.check.policy import severity_of

    return severity_of(value)


def _same(value: object) -> object:
    return value


@dataclass(frozen=True, slots=True)
class Kind:
    """What a setting may be, and how it is read.

    Attributes:
        option: what click is told about it; None for what only a configuration can say.
        from_option: what click gives -> the value.
        from_config: a value of the configuration -> the value; None for what only the command line can say.
            Raises WrongKindError.
        parse: the value -> what the field of `Policy` holds. Raises UsageError.
    """

    option: Mapping[str, Any] | None = None
    from_option: Callable[[Any], object] = _same
    from_config: Callable[[object], object] | None = None
    parse: Callable[[Any], object] = _same


FLAG = Kind({"is_flag": True})
WORDS = Kind({"multiple": True}, _words, _texts)
SEVERITY = Kind({"type": click.Choice([s.value for s in Severity])}, from_config=_text, parse=_parse_severity)
SIZE = Kind({}, from_config=_size, parse=_parse_size)
#: Relative to the configuration that names it.
FILE = Kind({"type": click.Path(dir_okay=False)}, from_config=_text)
#: Only a configuration that is named says it; the command line has a flag of all commands.
SWITCH = Kind(from_config=_switch)
TENSOR_IGNORES = Kind(from_config=_ignores)


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be asked of `check`.

    Attributes:
        name: as Python spells it; flag and key have dashes instead.
        kind: what it may be.
        help: of the flag.
        metavar: of the flag.
        field: of `Policy`, if it has another name there; None for what is no part of it.
    """

    name: str
    kind: Kind
    help: str = ""
    metavar: str | None = None
    field: str | None = ""

    @property
    def key(self) -> str:
        return self.name.replace("_", "-")

    @property
    def policy_field(self) -> str | None:
        return self.name if self.field == "" else self.field


SETTINGS = (
    Setting("select", WORDS, "Only these rules: PI101,PI3. Repeatable.", "CODES"),
    Setting("ignore", WORDS, "Not these rules. Repeatable.", "CODES"),
    Setting("fail_on", SEVERITY, "Exit 1 at this severity or worse.  [default: error]"),
    Setting("fast", FLAG, "Headers and safety only: reads no values."),
    Setting("baseline", FILE, "Only findings that are not in FILE; writes it if it is not there.", "FILE", field=None),
    Setting("max_size", SIZE, "A larger checkpoint is an error: 500MB.", "SIZE"),
    Setting("require_format", WORDS, "Another format is an error: safetensors.", "FORMATS"),
    Setting("allow_unread", WORDS, "Files that may stay unread: 'onnx/*'. Repeatable.", "GLOB"),
    Setting("plugins", SWITCH, field=None),
    Setting("per_tensor_ignores", TENSOR_IGNORES, field="tensor_ignores"),
)

#: Key of a configuration -> its setting.
KEYS = {setting.key: setting for setting in SETTINGS if setting.kind.from_config is not None}


def settings_options(command: F) -> F:
    """The flags of all settings; `asked` gives what they say."""
    for setting in reversed(SETTINGS):
        if setting.kind.option is not None:
            command = click.option(
                f"--{setting.key}",
                setting.name,
                metavar=setting.metavar,
                help=setting.help,
                expose_value=False,
                callback=_keep(setting),
                **setting.kind.option,
            )(command)
    return command


def _keep(setting: Setting) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(ctx: click.Context, param: click.Parameter, given: Any) -> None:
        value = None if given is None else setting.kind.from_option(given)
        # A flag that is not set, and a list without a word, say nothing.
        if value is not None and value is not False and value != ():
            ctx.ensure_object(dict)[setting.name] = value

    return keep


def asked() -> Mapping[str, object]:
    """Name of a setting -> its value, for those that the command line names."""
    said: Mapping[str, object] = click.get_current_context().ensure_object(dict)
    return said


def merged(said: Mapping[str, object], config: Mapping[str, object]) -> Mapping[str, object]:
    """The command line's settings, and the configuration's where it is silent.

    `--select` also sets aside the configuration's `ignore`: what is asked for by name runs.
    """
    kept = {name: value for name, value in config.items() if name != "ignore" or "select" not in said}
    return {**kept, **said}


def policy_of(settings: Mapping[str, object]) -> Policy:
    """The policy that these settings ask for.

    Raises:
        UsageError: a size or a severity that is none.
    """
    from inspectcli.commands.check.policy import Policy

    fields: dict[str, Any] = {
        s.policy_field: s.kind.parse(settings[s.name])
        for s in SETTINGS
        if s.policy_field is not None and s.name in settings
    }
    return Policy(**fields)
