"""What is shown only when it is asked for: what gives access; where a file was, who made it, what it was trained on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

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


# -- secrets --------------------------------------------------------------------------------------------

SECRET = "(secret: --show-secrets)"

#: Keys of what gives access, whatever the value looks like. Words are told apart by `_`.
_SECRET_KEYS = re.compile(
    r"""(^|_)(api_?key|access_?key(_id)?|secret(_.*|s)?|secret_?key|private_?key|passw(or)?ds?|passwd|pwd|passphrase
    |credentials?|auth|authorization|bearer|account_key|connection_string|sas_token|auth_?token|access_?token
    |api_?token|hf_?token|hub_?token|refresh_?token|github_?token)$""",
    re.VERBOSE,
)
#: Keys that may be of what gives access: then the value looks like it. `cls_token: [CLS]`, `label_key: image` do not.
_MAYBE_KEYS = re.compile(r"(^|_)(tokens?|key|keys|login|dsn)$")
_SPECIAL_TOKENS = re.compile(
    r"(^|_)(cls|pad|eos|bos|unk|sep|mask|image|audio|video|special|stop|start|end|decoder)_tokens?$"
)
_OPAQUE = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z])[\w.~+/=-]{8,}")
#: What services hand out begins like this, wherever it stands.
_ISSUED = re.compile(
    r"\b(hf_\w{8,}|sk-[\w-]{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{12,}|xox[abprs]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{12,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*|AIza[\w-]{20,})"
)
_WORDS = (
    r"(?:[\w-]*(?:api[_-]?key|[_-]key|token|passw(?:or)?d|passwd|secret|pwd|passphrase|credentials?|sig|signature))"
)
#: Inside text: the password of a URL, a parameter of its query, an option of a command line, an assignment.
_INSIDE = (
    re.compile(r"(?<=://)([^/\s:@]*:)[^/\s@]+(?=@)"),
    re.compile(rf"([?&;](?:key|{_WORDS})=)[^&\s#]+", re.IGNORECASE),
    re.compile(rf"(--?{_WORDS}(?:=|\s+))[^\s-]\S*", re.IGNORECASE),
    re.compile(r"(\b[A-Z_]*(?:KEY|TOKEN|SECRET|PASSWORD)=)[^\s]+"),
    re.compile(r"(\b[Bb]earer\s+)[\w.~+/=-]{8,}"),
)
_FLAG = re.compile(rf"--?{_WORDS}", re.IGNORECASE)


def without_secrets(key: str, value: object, locator: str = "") -> object:
    """The value, with what gives access masked: tokens, keys, passwords.

    Args:
        key: as the file has it.
        value: scalar, list or dict.
        locator: where it stands: a dict `secrets` holds nothing else.
    """
    if value is None or isinstance(value, bool) or value == "":
        return value
    if isinstance(value, Mapping):
        at = f"{locator}.{key}"
        return {k: without_secrets(str(k), v, at) for k, v in value.items()}
    parents = locator.split(".")
    if _is_secret_key(key) or any(_is_secret_key(part) for part in parents):
        return SECRET
    last = _snake(key)
    about = _MAYBE_KEYS.search(last) or (parents and _MAYBE_KEYS.search(_snake(parents[-1])))
    if isinstance(value, str):
        if about and not _SPECIAL_TOKENS.search(last) and _OPAQUE.fullmatch(value.strip()):
            return SECRET
        return _masked_text(value)
    if isinstance(value, list | tuple):
        return _masked_list(key, value, locator)
    return value


def _masked_text(text: str) -> str:
    if len(text) > 100_000:
        return text
    made = _ISSUED.sub(SECRET, text)
    for pattern in _INSIDE:
        made = pattern.sub(lambda match: f"{match[1]}{SECRET}", made)
    return made


def _masked_list(key: str, values: Sequence[object], locator: str) -> object:
    """What follows an option such as `--hf-token` too. The list itself, if there is nothing to mask."""
    if not any(isinstance(value, str | Mapping | list | tuple) for value in values):
        return values
    made: list[object] = []
    for index, value in enumerate(values):
        before = values[index - 1] if index else None
        flagged = isinstance(before, str) and _FLAG.fullmatch(before) and not str(value).startswith("-")
        made.append(SECRET if flagged else without_secrets(key, value, locator))
    return made if made != list(values) else values


@lru_cache(maxsize=4096)
def _is_secret_key(key: str) -> bool:
    return _SECRET_KEYS.search(_snake(key)) is not None


def _snake(key: str) -> str:
    key = re.sub(r"[-\s/]+", "_", key)
    if not key.isupper():
        key = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key)
    return key.lower()


# -- private --------------------------------------------------------------------------------------------


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
