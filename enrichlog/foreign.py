"""Values that a server sent: taken as what they are, or not at all, and short where they are kept for ever."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import orjson

from eventlog.redaction import redact

FACT_CHARACTERS = 200
"""The most that is kept of a name or a code that somebody else chose."""


def decoded(body: bytes) -> Any:
    """The JSON value of a body. Raises `orjson.JSONDecodeError`."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        with suppress(ValueError, RecursionError):  # lone surrogates and NaN, which cost nobody an answer
            return json.loads(body)
        raise error


def as_dict(value: Any) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_text(value: Any) -> str | None:
    """The value as text, None for what is no scalar."""
    return None if value is None or isinstance(value, dict | list) else str(value)


def as_fact(value: Any) -> str | None:
    """The value as a text short enough to be kept for ever. Secrets are taken out before it is cut."""
    text = as_text(value)
    return None if text is None else redact(text)[:FACT_CHARACTERS]


def as_count(value: Any) -> int | None:
    """The value if it is a whole number from 0 that every JSON reader holds, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None
