"""Values as they may be shown: JSON values in which no secret stands."""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import SecretStr
from pydantic_core import to_jsonable_python

from eventlog.redaction import REDACTED, redact

MASKED_FROM = 20
"""Characters a secret must have before its last four are shown."""

_SECRET_NAME = re.compile(r"key|token|secret|passw|auth|credential|cookie", re.IGNORECASE)
_URL = re.compile(r"([\w+.-]*://)([^/?#@]*@)?([^?#@]*)([?#][^@]*)?", re.DOTALL)


def masked(value: Any) -> Any:
    """The value as JSON without its secrets: keys, users and queries of URLs, texts under a name that says secret."""
    if isinstance(value, SecretStr):
        return _masked_key(value.get_secret_value().strip())
    return _masked(to_jsonable_python(value))


def _masked_key(key: str) -> str | None:
    if not key:
        return None
    return f"…{key[-4:]}" if len(key) >= MASKED_FROM else "set"


def _masked(value: Any) -> Any:
    match value:
        case dict():
            return {name: REDACTED if _is_secret(name, inner) else _masked(inner) for name, inner in value.items()}
        case list():
            return [_masked(inner) for inner in value]
        case str():
            return _masked_url(value) if "://" in value else redact(value)
        case float() if not math.isfinite(value):
            return str(value)  # JSON has no such number
    return value


def _is_secret(name: str, value: Any) -> bool:
    """`max_tokens` is a number, and a table is looked into."""
    return isinstance(value, str) and _SECRET_NAME.search(name) is not None


def _masked_url(url: str) -> str:
    """A URL without user and query; all of it is hidden where a password may hold what ends other parts."""
    found = _URL.fullmatch(url)
    if found is None:
        return REDACTED
    scheme, user, place, query = found.groups()
    return scheme + (f"{REDACTED}@" if user else "") + place + (f"?{REDACTED}" if query else "")
