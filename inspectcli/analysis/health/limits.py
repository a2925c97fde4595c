"""Limits that a team sets (PI490, PI590): each rule runs only when its limit is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext


@rule("PI490", "file-too-large", Severity.ERROR, reads=False, default=False)
def file_too_large(subject: RuleContext, limit: int | None = None) -> Iterator[RuleHit]:
    """The checkpoint is larger than `--max-size`.

    Why it matters: a repository keeps every version of a file forever, and every clone downloads it.

    What to do: store large files with Git LFS or outside the repository. Training state is often two thirds of a
    checkpoint: save the model's own tensors alone.
    """
    size = subject.checkpoint.size
    if limit is not None and size > limit:
        yield RuleHit(None, f"{size:,} bytes, at most {limit:,} are allowed", {"size": size, "limit": limit})


@rule("PI590", "format-not-allowed", Severity.ERROR, reads=False, default=False)
def format_not_allowed(subject: RuleContext, allowed: Sequence[str] = ()) -> Iterator[RuleHit]:
    """The checkpoint is in another format than `--require-format`.

    Why it matters: a pickle can run code on every machine that loads it; safetensors holds numbers and nothing else.

    What to do: save the model in the required format. `safetensors.torch.save_model(model, "model.safetensors")` writes
    safetensors.
    """
    found = subject.checkpoint.format
    if allowed and not any(found == name or found.startswith(f"{name}-") for name in allowed):
        yield RuleHit(
            None, f"the format is {found}, expected {' or '.join(allowed)}", {"format": found, "allowed": list(allowed)}
        )
