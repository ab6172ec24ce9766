"""Passwords and tokens, kept out of whatever is written or shown.

They are used as given and recorded as ``***``: the user and password of an address, parameters of
a query, values under keys that say what they hold, and the values of such environment variables.
Every room may import this module; it imports nothing of ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "***"

_NAME: Final = (
    r"(?:passw(?:or)?d|passphrase|secret|token(?!s)|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|account[_-]?key|shared[_-]?key"
    r"|credential|authori[sz]ation)"
)
_SECRET_NAME: Final = re.compile(_NAME, re.IGNORECASE)
_USER: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/?#\s'\"]+@", re.IGNORECASE)
_SLASHED: Final = re.compile(
    r"(\b[a-z][a-z0-9+.-]*://)[^/?#\s'\":@]*:(?!\d*(?:[/?#]|$))[^\s'\"@]*@", re.IGNORECASE
)
"""A password with a sign that ends the host, where no port stands before that sign."""
_QUERY: Final = re.compile(
    r"([?&;#](?:key|sig|signature|auth|pw|pwd|pass|x-amz-signature|jwt|sas|sid|j?session(?:id)?|code)=)"
    r"[^&;#\s'\"]+",
    re.IGNORECASE,
)
_FLAG: Final = re.compile(rf"(--[\w-]*{_NAME}[\w-]*\s+)(?!-)\S+", re.IGNORECASE)
_ISSUED: Final = re.compile(
    r"\b(gh[pousr]_|github_pat_|glpat-|hf_|xox[abprs]-|sk-)(?=[\w-]*\d)[\w-]{16,}"
)
"""Tokens whose first letters say who has issued them."""
_PAIR: Final = re.compile(
    rf"([\w.-]*{_NAME}[\w-]*\\?[\"']?\s*(?:[=:]|%3[ad])\s*)"
    r"(?!null\b|\$\{)(\\?\"[^\"]*\"|'(?:\\.|[^'\\])*'|(?:Bearer |Basic )?[^\s,;&#}\]\"']+)",
    re.IGNORECASE,
)
_SHORTEST: Final = 6
"""Letters of an environment variable's value below which it may stand in a text by chance."""


def is_secret_name(name: str) -> bool:
    """Whether a key, a field of a header or an environment variable is called after a secret."""
    return _SECRET_NAME.search(name) is not None


def masked_text(text: str) -> str:
    """Return a text with every secret that can be told from it replaced by ``***``."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and value in text and is_secret_name(name):
            text = text.replace(value, MASK)
    text = _USER.sub(rf"\1{MASK}@", text)
    text = _SLASHED.sub(rf"\1{MASK}@", text)
    text = _FLAG.sub(rf"\1{MASK}", text)
    text = _ISSUED.sub(MASK, text)
    text = _QUERY.sub(rf"\1{MASK}", text)
    return _PAIR.sub(rf"\1{MASK}", text)


def masked(value: Any, name: str = "") -> Any:
    """Return nested plain values with the secrets in them replaced; tuples become lists.

    Args:
        value: what a configuration or a record holds.
        name: the key that it stands under, which says whether all of it is secret.
    """
    if isinstance(value, Mapping):
        return {
            key: masked(entry, name if is_secret_name(name) else str(key))
            for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(entry, name) for entry in value]
    secret = is_secret_name(name)
    if isinstance(value, str):
        # What refers to a variable (${oc.env:NAME}) is no secret, and works when it is read back.
        return MASK if secret and value and not value.startswith("${") else masked_text(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # A number under a name with "token" in it is a size more often than a secret.
    return MASK if secret and is_number and "token" not in name.lower() else value
