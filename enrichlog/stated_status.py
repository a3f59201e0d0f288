"""The HTTP status that a text states, in the spellings of many libraries, and no other number."""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus

_NUMBER = re.compile(r"[3-5](?<![\w.,$€£#/+-].)\d\d(?![\w%]|[.,]\d)", re.ASCII)
_LEADS_TO_STATUS = re.compile(
    r"(?:status|code|http|https?/[\d.]+|error|exception|api|respon[ds]\w*|returned|got|received|failed|with)"
    r"[\s:=\"'\\(\[{,<-]*$"
)
_IS_AMOUNT = re.compile(
    r"\s*(?:token|char|m?s\b|milli|second|min|word|byte|[km]b\b|row|line|time|try|tries|retr|attempt)"
)
_IS_CALLED_ONE = re.compile(r"\s+(?:http )?(?:status|response)\b")
_STATES = re.compile(r"\s*(?:[:\-{<\[]|$)|\s+(?:client|server) error|\s+[A-Z{<\"'\[]")
_UNOFFICIAL = (498, 499, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530)
_STATUSES = frozenset(status.value for status in HTTPStatus if status >= 300).union(_UNOFFICIAL)


def stated_status(shown: str, said: str) -> int | None:
    """The first number in a text that is written as an HTTP status is; `said` is the text in small letters."""
    for match in _NUMBER.finditer(shown):
        status = int(match[0])
        if status in _STATUSES and _is_status(shown, said, match.start(), match.end()):
            return status
    return None


def _is_status(shown: str, said: str, start: int, end: int) -> bool:
    """Whether the words around a number make it one: `status code: 429`, `429 status code`, `[429]`, `409 Conflict`."""
    if _IS_AMOUNT.match(said, end):
        return False
    if _IS_CALLED_ONE.match(said, end):
        return True
    before = said[max(0, start - 24) : start]
    if _LEADS_TO_STATUS.search(before) or said.startswith(_reason(int(shown[start:end])), end + 1):
        return True
    if shown[start - 1 : start] in ("[", "(") and shown[end : end + 1] in ("]", ")"):
        return True
    is_begin = shown[start - 1 : start] == ">" or not any(map(str.isalnum, said[:start]))  # ">" ends a page's <title>
    return bool(_STATES.match(shown, end)) and (is_begin or " error" in said[end : end + 13])


@lru_cache(maxsize=64)
def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "<none>"
