"""What counts: which rules run, which findings may be there, which limits hold."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from inspectcli.analysis.findings import Finding, Rule, RuleHit, Severity
from inspectcli.errors import UsageError
from inspectcli.tensors.names import fits

#: Of the rules in `health.limits`, which run when a limit is given, and only then.
LIMIT_CODES = MAX_SIZE_CODE, REQUIRE_FORMAT_CODE = "PI490", "PI590"


#: First letters of rules that only the person who runs `check` can set aside, and no file that lies beside a model:
#: what acts when it is loaded, and what could not be looked at.
GUARDED = ("PI401", "PI409", "PI5")

#: Bytes: no file system addresses more.
_LARGEST = float(1 << 64)


class TensorIgnore(NamedTuple):
    """Findings of a rule that are meant to be there, in tensors or hyperparameters of these names.

    Attributes:
        code: of the rule, or the first letters of several.
        patterns: of names, as in a shell.
        reason: why; it is printed.
    """

    code: str
    patterns: tuple[str, ...]
    reason: str = ""

    def fits(self, finding: Finding) -> bool:
        """Whether it is one of these findings."""
        names = [name for name in (finding.tensor, finding.name) if name is not None]
        return finding.code.startswith(self.code) and any(fits(name, self.patterns) for name in names)


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of the files.

    Attributes:
        select: codes, their first letters, or names of rules; empty for those that run by default.
        ignore: the same, of rules that do not run. Where `select` and `ignore` both apply, the longer code counts.
        fail_on: findings this bad, or worse, fail.
        fast: only rules that need no values; none are read.
        max_size: bytes; None for any.
        require_format: formats of which one is asked for; empty for any.
        tensor_ignores: findings that are meant to be there.
        allow_unread: patterns of the paths of files that may stay unread.
        asked: what the command line alone asks, where a configuration that nobody named says the rest; None if all is
            said by the person who runs it.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: Severity = Severity.ERROR
    fast: bool = False
    max_size: int | None = None
    require_format: tuple[str, ...] = ()
    tensor_ignores: tuple[TensorIgnore, ...] = ()
    allow_unread: tuple[str, ...] = ()
    asked: Policy | None = None


def is_guarded(code: str) -> bool:
    """Whether a configuration or a baseline that nobody named leaves findings of this rule as they are."""
    return code.startswith(GUARDED)


def choose_guarded(policy: Policy, rules: Sequence[Rule]) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """The rules that count, and those that only a configuration set aside: they run too, so that it can be said.

    Raises:
        UsageError: an unknown code or format; or none is left.
    """
    chosen = choose(policy, rules)
    if policy.asked is None:
        return chosen, ()
    codes = {rule.code for rule in chosen}
    others = [rule for rule in choose(policy.asked, rules) if rule.code not in codes]
    counted = (*chosen, *(rule for rule in others if is_guarded(rule.code)))
    return tuple(sorted(counted, key=lambda r: r.code)), tuple(r for r in others if not is_guarded(r.code))


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean PI101?`, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {found[0]}?" if found else ""


#: Letters that are typed for the digits of a code.
_DIGITS = str.maketrans("OIL", "011")


def code_of(word: str, rules: Sequence[Rule]) -> str:
    """The code, or the first letters of codes, that a word stands for.

    Raises:
        UsageError: for no rule.
    """
    upper = word.strip().upper()
    if upper and any(rule.code.startswith(upper) for rule in rules):
        return upper
    named = next((rule.code for rule in rules if rule.name == word.strip().lower()), None)
    if named is not None:
        return named
    digits = upper[:2] + upper[2:].translate(_DIGITS)
    hint = nearest(digits, [r.code for r in rules]) or nearest(word.lower(), [r.name for r in rules])
    raise UsageError(f"there is no rule {word!r}", f"{hint} `pinspect rules` lists them".strip())


def choose(policy: Policy, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Those of all rules that run, with their limits.

    Raises:
        UsageError: an unknown code or format; or none is left.
    """
    select = [code_of(word, rules) for word in policy.select]
    ignore = [code_of(word, rules) for word in policy.ignore]
    limits = _limits(policy, rules)
    chosen = []
    for rule in rules:
        wanted = max((len(code) for code in select if rule.code.startswith(code)), default=-1)
        if rule.code in limits:
            wanted = len(rule.code)
        elif rule.code in LIMIT_CODES:
            wanted = -1
        elif not select and rule.default:
            wanted = 0
        if wanted > max((len(code) for code in ignore if rule.code.startswith(code)), default=-1):
            chosen.append(limits.get(rule.code, rule))
    left = tuple(rule for rule in chosen if not (policy.fast and rule.reads_values))
    if left:
        return left
    if chosen:
        raise UsageError("no rule is left to check: those that are selected need values", "leave out --fast")
    limited = f"{MAX_SIZE_CODE} runs with --max-size, {REQUIRE_FORMAT_CODE} with --require-format"
    raise UsageError("no rule is left to check", f"`pinspect rules` lists them; {limited}")


def _limits(policy: Policy, rules: Sequence[Rule]) -> dict[str, Rule]:
    """The rules that run because a limit is given, with it."""
    given: dict[str, dict[str, object]] = {}
    if policy.max_size is not None:
        given[MAX_SIZE_CODE] = {"limit": policy.max_size}
    if policy.require_format:
        given[REQUIRE_FORMAT_CODE] = {"allowed": _known_formats(policy.require_format)}
    return {rule.code: _limited(rule, given[rule.code]) for rule in rules if rule.code in given}


def _limited(rule: Rule, limits: Mapping[str, object]) -> Rule:
    check: Callable[..., Iterable[RuleHit]] = rule.check
    # A partial has no docstring of its own, and the docstring is the documentation.
    return replace(rule, check=functools.update_wrapper(functools.partial(check, **limits), check))


def _known_formats(names: Sequence[str]) -> tuple[str, ...]:
    from inspectcli.formats import formats

    known = {part for f in formats() for name in f.titles for part in (name, name.partition("-")[0])}
    for name in names:
        if name not in known:
            hint = nearest(name, known) or f"known are {', '.join(sorted(known))}"
            raise UsageError(f"there is no format {name!r}", hint)
    return tuple(names)


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i)?)?b?(?:ytes)?", re.IGNORECASE)


def parse_size(text: str | int) -> int:
    """`500MB`, `1.5 GiB`, `4096` -> bytes.

    >>> parse_size("500MB"), parse_size("1.5 GiB"), parse_size(4096)
    (500000000, 1610612736, 4096)

    Raises:
        UsageError: not a size.
    """
    found = _SIZE.fullmatch(str(text).strip())
    if found is None:
        raise UsageError(f"{str(text)[:40]!r} is not a size", "write it like 500MB, 1.5GB or 2GiB")
    digits, unit, binary = found.groups()
    power = " kmgt".index(unit.lower()) if unit else 0
    size = float(digits) * (1024 if binary else 1000) ** power
    if size > _LARGEST:
        raise UsageError(f"{str(text)[:40]!r} is larger than any file", "write it like 500MB, 1.5GB or 2GiB")
    return int(size)


def severity_of(word: str) -> Severity:
    """Return the severity of this name.

    Raises:
        UsageError: there is no such severity.
    """
    try:
        return Severity(word)
    except ValueError:
        known = ", ".join(s.value for s in Severity)
        raise UsageError(f"{str(word)[:40]!r} is not a severity", f"known are {known}") from None
