"""What a table of the users' holds, told as JSON: read as far as it can be."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

from eventlog.canonical import storable


class Unread(str):
    """Why a value cannot be read, in the place of it: it is none that the log has ever held."""

    __slots__ = ()


TOO_LARGE = Unread("it holds a number that is too large to be read")
_HELD_WHOLE = range(-(2**63), 2**64)


def read_row(text: str, names: list[str]) -> dict[str, Any]:
    """The columns of a row, which `names` names, from its JSON; what cannot be read is `Unread`, and ends nothing."""
    try:
        row: dict[str, Any] = orjson.loads(text)
    except ValueError:
        return _read_slowly(text, names)
    return row


def _read_slowly(text: str, names: list[str]) -> dict[str, Any]:
    """The same where a number is larger, or a value deeper, than is usual."""
    try:
        row = json.loads(text, parse_int=_number)
        return {name: _read(value) for name, value in row.items()}
    except (ValueError, RecursionError) as error:
        return dict.fromkeys(names, Unread(f"it cannot be read: {error}"))


def _number(digits: str) -> int | float:
    """A whole number; where it takes more than 64 bits, as near as a double is to it."""
    value = float(digits)
    return int(digits) if abs(value) < 2.0**65 and int(digits) in _HELD_WHOLE else value


def _read(value: Any) -> Any:
    try:
        return _finite(value)
    except OverflowError:
        return TOO_LARGE


def _finite(value: Any) -> Any:
    """A value with its texts as every database can hold them. Raises `OverflowError` for a number without end."""
    match value:
        case float() if not math.isfinite(value):
            raise OverflowError
        case str():
            return storable(value)
        case list():
            return [_finite(one) for one in value]
        case dict():
            return {storable(name): _finite(one) for name, one in value.items()}
    return value
