"""Canonical JSON: one text for one value, because the text is what is stored, hashed and compared."""

from __future__ import annotations

import math
from typing import Any

import orjson

from eventlog.errors import NotAppended
from eventlog.redaction import may_hold_secrets, redact

REPLACEMENT = "\ufffd"  # U+FFFD stands for what no database can hold: NUL and lone surrogates
_ESCAPED_NUL = b"\\u0000"
_PLAIN = {str, int, bool, type(None)}


def facts_text(facts: dict[str, Any]) -> str:
    """Facts as canonical JSON: sorted keys, no white space, no floats.

    Raises `NotAppended` when a fact is a float: money is micro-dollars and time is milliseconds, both whole numbers.
    """
    if not set(map(type, facts.values())) <= _PLAIN:
        _refuse_floats(facts)
    return text(facts)


def text(value: Any) -> str:
    """A JSON value as canonical text: keys sorted by code point, no white space, UTF-8, secrets redacted.

    Raises `NotAppended` for a value nested deeper than some 250 levels.

    NUL and lone surrogates become U+FFFD, numbers that are not finite become null, whole numbers beyond 64 bits text.
    """
    try:
        encoded = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        encoded = _dump_cleaned(value)
    if _ESCAPED_NUL in encoded or may_hold_secrets(encoded):
        encoded = _dump_cleaned(value)
    return encoded.decode()


def _dump_cleaned(value: Any) -> bytes:
    try:
        return orjson.dumps(_cleaned(value), option=orjson.OPT_SORT_KEYS)
    except (TypeError, RecursionError) as error:
        raise NotAppended(reason="a value in it is nested too deep") from error


def storable(text: str) -> str:
    """A text that every database can hold: NUL and lone surrogates replaced."""
    return text.replace("\0", REPLACEMENT).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def as_kept(value: Any) -> Any:
    """A JSON value as the log keeps it: secrets redacted, and without what canonical text does not hold."""
    return _cleaned(value) if isinstance(value, str | list | dict) else value


def _cleaned(value: Any) -> Any:
    """A JSON value with everything replaced that canonical text does not hold."""
    match value:
        case str():
            return redact(storable(value))
        case dict():
            return {_cleaned(str(key)): _cleaned(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_cleaned(entry) for entry in value]
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
