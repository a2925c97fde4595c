"""What is shown only when everything is asked for: where a file was, who made it, what it was trained on."""

from __future__ import annotations

import re

MASK = "(masked: --all)"

_KEYS = re.compile(
    r"""(^|[_./])(tag_frequency|dataset_dirs|captions?|prompts?|host|hostname|node_ip|ip|user|username|author|email|
    git|git_remote|remote|branch|entity|api_key|apikey|token|password|secret|home|cwd|bucket_info|reg_dataset_dirs|
    training_comment|output_name|session_id)$""",
    re.VERBOSE | re.IGNORECASE,
)
_PLACE = re.compile(r"^(/|~[/\\]|[A-Za-z]:[\\/]|\\\\|file://|s3://|gs://)\S|(^|\W)/(home|root|Users|mnt|data)/\S")
_PERSON = re.compile(r"^[^@\s]+@[^@\s]+\.\w+$")


#: Dicts whose very keys are captions or folders.
_PLACES = re.compile(r"tag_frequency|bucket_info|dataset_dirs|captions?(\.|$)", re.IGNORECASE)


def is_private_place(locator: str) -> bool:
    """Whether what stands there is private, its keys too."""
    return bool(_PLACES.search(locator))


def is_private(key: str, value: object) -> bool:
    """Captions, hosts, users, absolute paths."""
    if _KEYS.search(key) and isinstance(value, str | dict | list):
        return True
    if isinstance(value, str):
        return bool(_PLACE.search(value) or _PERSON.match(value))
    return isinstance(value, list | tuple) and any(isinstance(v, str) and is_private("", v) for v in value[:100])
