"""What other packages add: entry points, of which none is loaded that nobody asked for.

To load one runs its code, and whatever can write to a folder of `sys.path` can leave one there: `python -m` has the
working folder in it, where downloaded files may lie.
"""

from __future__ import annotations

from collections.abc import Iterator

from inspectcli.errors import UsageError

_asked = False


def use_plugins() -> None:
    """From now on formats, rules and renderers of other packages are loaded, as `--plugins` does.

    They are entry points in the groups `inspectcli.formats`, `inspectcli.rules` and `inspectcli.renderers`.
    """
    global _asked
    _asked = True


def are_asked_for() -> bool:
    """Whether they are loaded."""
    return _asked


def plugins(group: str) -> Iterator[object]:
    """What other packages offer as a group of entry points; nothing if nobody asked for it.

    Raises:
        UsageError: one cannot be loaded.
    """
    if not _asked:
        return
    from importlib.metadata import entry_points  # takes longer to import than a small report

    for point in entry_points(group=group):
        try:
            yield point.load()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(f"the plug-in {point.name} ({point.value}) cannot be loaded: {reason}") from error
