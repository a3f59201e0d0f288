"""The codes of the setting `error_codes`, looked for in a message of which only the text is left."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache


def stated_code(text: str, codes: Mapping[str, str]) -> str | None:
    """The error type of the first of these codes that the message states; None when it states none.

    `code:param` is stated where both are, and wins over the code alone, as in an error that has its structure still.
    """
    with_param_first = sorted(codes, key=lambda key: ":" not in key)
    return next((codes[key] for key in with_param_first if _is_stated(text, key)), None)


def _is_stated(text: str, key: str) -> bool:
    code, _, param = key.partition(":")
    return bool(_pattern(code).search(text)) and (not param or bool(_pattern(param).search(text)))


@lru_cache(maxsize=1_024)
def _pattern(word: str) -> re.Pattern[str]:
    """Where a word is a code: anywhere when no sentence has such a word, else only behind what announces one."""
    whole = rf"{re.escape(word)}(?!\w)"
    if re.search(r"[a-zA-Z][_-]|[a-z][A-Z]", word):
        return re.compile(rf"(?<!\w){whole}")
    status = "(?<!error )" if re.fullmatch(r"\d{3}", word) else ""  # `Error code: 429 - ` is the HTTP status
    return re.compile(rf"(?i:{status}\b(?:code|type|param))\W{{1,6}}{whole}")
