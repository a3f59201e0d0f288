"""Canonical JSON: one text for one value, because the text is what is stored, hashed and compared."""

from __future__ import annotations

import math
from typing import Any

import orjson

from eventlog.errors import NotAppended
from eventlog.redaction import redact

REPLACEMENT = "\ufffd"  # U+FFFD stands for what no database can hold: NUL and lone surrogates
_ESCAPED_NUL = b"\\u0000"


def facts_text(facts: dict[str, Any]) -> str:
    """Facts as canonical JSON: sorted keys, no white space, no floats.

    Raises `NotAppended` when a fact is a float: money is micro-dollars and time is milliseconds, both whole numbers.
    """
    _refuse_floats(facts)
    return text(facts)


def text(value: Any) -> str:
    """A JSON value as canonical text: keys sorted by code point, no white space, UTF-8, secrets redacted.

    NUL and lone surrogates become U+FFFD, numbers that are not finite become null, whole numbers beyond 64 bits text.
    """
    try:
        encoded = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        encoded = orjson.dumps(cleaned(value), option=orjson.OPT_SORT_KEYS)
    if _ESCAPED_NUL in encoded:
        encoded = orjson.dumps(cleaned(value), option=orjson.OPT_SORT_KEYS)
    return redact(encoded.decode())


def cleaned(value: Any) -> Any:
    """A JSON value with everything replaced that canonical text cannot hold."""
    match value:
        case str():
            return value.replace("\0", REPLACEMENT).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {str(cleaned(str(key))): cleaned(entry) for key, entry in value.items()}
        case list() | tuple():
            return [cleaned(entry) for entry in value]
        case bool() | None:
            return value
        case int():
            return value if -(2**63) <= value < 2**64 else str(value)
        case float():
            return value if math.isfinite(value) else None
        case _:
            return str(value)


def _refuse_floats(value: Any, path: str = "") -> None:
    if isinstance(value, float):
        raise NotAppended(reason=f"the fact {path} is a float; facts hold whole numbers")
    if isinstance(value, dict):
        for key, entry in value.items():
            _refuse_floats(entry, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for entry in value:
            _refuse_floats(entry, path)
