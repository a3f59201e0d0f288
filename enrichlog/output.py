"""A model's text as a JSON value: read strictly, never repaired."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from itertools import accumulate
from typing import Any, NoReturn

_FENCE = "```"
_BOM = "\ufeff"
DEEPEST = 200
"""Deeper than this no result is stored: canonical JSON ends at about 250 levels."""


class EmptyOutput(ValueError):
    """There was no text, or nothing within the fence."""


def parse(text: str) -> Any:
    """The JSON value in a model's text: the whole text, else exactly one fenced block or one balanced object.

    Quotes, braces and commas are never repaired: a repaired answer would be one that nobody gave. Raises
    `EmptyOutput`, or `json.JSONDecodeError` with the place in the whole text where a strict reading failed.
    """
    text = text.strip().strip(_BOM).strip()
    if not text:
        raise EmptyOutput("no text")
    try:
        return _strict(text)
    except json.JSONDecodeError as error:
        for inner in (_only_fence(text), _only_object(text)):  # a fence may also stand within one of its strings
            if inner is not None and not inner.strip():
                raise EmptyOutput("nothing within the fence") from None
            with suppress(json.JSONDecodeError):
                if inner is not None:
                    return _strict(inner.strip())
        raise error from None


def _strict(text: str) -> Any:
    if _depth(text) > DEEPEST:
        raise json.JSONDecodeError("nested too deep", text, 0)
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError:
        raise
    except (RecursionError, ValueError) as error:  # nested too deep, a number of too many digits, NaN
        raise json.JSONDecodeError(str(error) or "nested too deep", text, 0) from None


def _depth(text: str) -> int:
    """How deep brackets nest at the most; those within strings count too, which no real answer comes near."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return 0
    steps = (1 if character in "[{" else -1 for character in text if character in "[]{}")
    return max(accumulate(steps), default=0)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:20]} is larger than a number can be")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _only_fence(text: str) -> str | None:
    """What stands between the only two fences of a text; None when there are none, or more."""
    parts = text.split(_FENCE)
    return parts[1].strip().removeprefix("json").removeprefix("JSON") if len(parts) == 3 else None


def _only_object(text: str) -> str | None:
    """The one balanced {...} of a text around it; None when there is none, or more than one."""
    start = text.find("{")
    end = _balanced_end(text, start) if start >= 0 else None
    if end is None or "{" in text[end:] or "}" in text[end:]:
        return None
    return text[start:end]


def _balanced_end(text: str, start: int) -> int | None:
    """Where the object that begins at `start` ends; braces within strings do not count."""
    depth, in_string, escaped = 0, False, False
    for index in range(start, len(text)):
        character = text[index]
        if escaped:
            escaped = False
        elif in_string:
            escaped = character == "\\"
            in_string = character != '"'
        elif character == '"':
            in_string = True
        elif character in "{}":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return index + 1
    return None
