"""Values as they may be shown: JSON values in which no secret stands."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr
from pydantic_core import to_jsonable_python

from eventlog.redaction import REDACTED, redact

MASKED_FROM = 20
"""Characters a secret must have before its last four are shown."""

_SECRET_NAME = re.compile(r"key|token|secret|passw|auth|credential|cookie", re.IGNORECASE)
_NAMED_SECRET = re.compile(
    r"([\w-]*(?:key|token|secret|passw|auth|credential|cookie)[\w-]*[\"']?\s*=\s*)"
    r"(?:\"(?:[^\"\\]|\\.)*\"?|'[^']*'?)",
    re.IGNORECASE,
)
"""A name that says secret, and the text that follows: alone, within braces or in a comment."""
_USER = re.compile(r"(?<=://)[^\s/?#\"']*@")
_URL = re.compile(r"([\w+.-]*://)([^/?#@]*@)?([^?#@]*)([?#][^@]*)?", re.DOTALL)


def masked(value: Any) -> Any:
    """The value as JSON without its secrets: keys, users and queries of URLs, texts under a name that says secret."""
    if isinstance(value, SecretStr):
        return _masked_key(value.get_secret_value().strip())
    return _masked(to_jsonable_python(value))


def masked_lines(text: str) -> list[str]:
    """The lines of a TOML text without its secrets, those in comments too; what has none stays as it is."""
    inner = {line.strip() for value in _texts(_read(text)) for line in value.splitlines()[1:]} - {""}
    return [REDACTED if line.strip(" \t'\"") in inner else _masked_line(line) for line in text.splitlines()]


def _masked_line(line: str) -> str:
    start = re.match(r"[\s#]*", line)[0]  # type: ignore[index] # it matches anything
    told = _read(line[len(start) :])
    if told != (shown := _masked(told)):
        line = start + ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in shown.items())
    named = _NAMED_SECRET.sub(rf'\1"{REDACTED}"', redact(line))
    return _USER.sub(f"{REDACTED}@", named)


def _read(text: str) -> dict[str, Any]:
    """What a TOML text says; nothing where it is none, such as a line in the midst of a value."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def _texts(told: Any, name: str = "") -> Iterator[str]:
    """The texts of several lines that are secret."""
    if isinstance(told, dict):
        for inner, value in told.items():
            yield from _texts(value, inner)
    elif isinstance(told, str) and "\n" in told and _SECRET_NAME.search(name):
        yield "\n" + told


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
