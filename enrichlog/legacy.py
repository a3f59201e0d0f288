"""The error type of a message of which nothing is left but its text, such as one of an old `enrichment_error` column.

What has structure in the text counts first: HTTP status, the provider's code and type, exception classes. Words count
last. Only here is an error recognised by its text; one that was recorded with its facts is recognised by these.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from enrichlog.errors import ERROR_TYPES, ErrorType, ProviderError, recognise
from enrichlog.own_codes import stated_code
from enrichlog.phrases import PHRASES
from enrichlog.signs import BY_THE_MINUTE, EXACT_CLASSES, FIXED, MISSHAPEN, NARROWED, SPECIFIC_FIRST, STEMS, WORDS
from enrichlog.stated_status import stated_status

_HEAD, _TAIL = 4_000, 2_000  # a long message is a traceback, which ends with its error, or a page, which begins with it
_VAGUE = ("bad_request", "rate_limited", "server_error", "other")
_RANK = dict.fromkeys(ERROR_TYPES, -1) | {name: rank for rank, name in enumerate(SPECIFIC_FIRST)}
_CLASS = ("Error", "Exception", "Exceeded", "Timeout", "Exhausted", "Unavailable", "Denied", "Refused", "Cancelled")
_DATABASE = ("SQLITE_", "PGRST")
_DATABASE_CLASS = ("SQL", "PSQL", "Npgsql", "MySql", "Jdbc", "Prisma", "Mongo", "Redis")
_WORD = re.compile(r"[A-Za-z_]\w+(?:-\w+)*", re.ASCII)
_ESCAPED_BLANK = re.compile(r"\\{1,4}[nrt]")
_PYDANTIC = re.compile(r"validation errors? for \w|\[type=\w+, input_value=")
_PLACE_IN_JSON = re.compile(r"line:? \d+,? column:? \d+|json at position|bytepositioninline")
_SCHEMA_PARAM = re.compile(r"param\W{2,5}(?:text\.format|response_format)")
_QUOTED_VALUE = re.compile(r"(?<=\w )(['\"`])(?:(?!\1).)*\1(?!\w)")
_ENDED_BY_LENGTH = re.compile(r"(?:finish|stop)[_ ]?reason\W{0,5}(?:is|was)?\W{0,3}(?:length|max_tokens)")
_SHAPES = (
    (_PYDANTIC, "schema_mismatch"),
    (_ENDED_BY_LENGTH, "output_truncated"),
)
_NOT_EXTRACTED = "could not extract structured output from api response"
_OUR_REASONS = (
    (": the model refused", "refusal"),
    (": the content filter stopped it", "content_filter"),
    (": the output was cut off", "output_truncated"),
)


def classify_message(text: str, codes: Mapping[str, str] | None = None) -> ErrorType:
    """The error type of a message. A total function: any text comes out as exactly one type, if need be as `other`.

    `codes` are those that the user's settings add; they win over what we know.
    """
    shown = text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]} {text[-_TAIL:]}"
    shown = " ".join(_unescaped(shown).split()).replace("’", "'").replace("İ", "I")  # which would be two when lowered
    if codes and (own := stated_code(shown, codes)):
        return ERROR_TYPES[own]
    said = shown.lower()
    if said.startswith(_NOT_EXTRACTED):
        return ERROR_TYPES[_not_extracted(said.removeprefix(_NOT_EXTRACTED))]
    sign = _most_telling(shown, said)
    if sign in (None, "rate_limited") and any(words in said for words in BY_THE_MINUTE):
        return ERROR_TYPES["rate_limited"]
    allowed = NARROWED.get(sign, ()) if sign else None
    if "valueerror" in said:  # what a word before it introduces is the value, and nobody's message
        said = _QUOTED_VALUE.sub(" ", said)
    return ERROR_TYPES[_by_phrase(said, allowed) or sign or "other"]


def _unescaped(text: str) -> str:
    """The text with the line breaks that a JSON body or a Python repr within it has escaped."""
    return _ESCAPED_BLANK.sub(" ", text) if "\\" in text else text


def _not_extracted(why: str) -> str:
    """The error type of a reply from which nothing could be taken, by the reason behind our own words."""
    for reason, name in _OUR_REASONS:
        if why.startswith(reason):
            return name
    otherwise = "schema_mismatch" if why.strip(" .:") else "empty_output"
    return _by_phrase(why, ("output_truncated", "empty_output", "invalid_json")) or otherwise


def _most_telling(shown: str, said: str) -> str | None:
    """What the structure within a message says: codes, unless they are vague, before status and classes."""
    words = set(_WORD.findall(shown))
    codes = {name for word in words if (name := _of_code(word))}
    codes.update(name for wording, name in FIXED if wording in said)
    if _SCHEMA_PARAM.search(said):
        codes.add("invalid_schema")
    if exact := codes.difference(_VAGUE):
        return min(exact, key=_RANK.__getitem__)
    status = stated_status(shown, said)
    told = {*codes, *map(_of_class, words), recognise(ProviderError(status)).name if status else None}
    if "bad_request" not in told:  # else it is the request that has this shape, and no answer
        told.update(_shapes(said))
    return _first(told)


def _shapes(said: str) -> Iterator[str]:
    yield from (name for shape, name in _SHAPES if shape.search(said))
    if _PLACE_IN_JSON.search(said):
        yield "schema_mismatch" if any(words in said for words in MISSHAPEN) else "invalid_json"


def _first(names: Iterable[str | None]) -> str | None:
    return min((name for name in names if name), key=_RANK.__getitem__, default=None)


@lru_cache(maxsize=16_384)
def _of_code(word: str) -> str | None:
    """What a code says: `content_filter`, also as `contentFilter` or `content-filter`, but no word of a sentence."""
    return WORDS.get(word) or (_FLAT.get(_flat(word)) if _is_joined(word) else None)


def _is_joined(word: str) -> bool:
    return not (word.isalpha() and word[1:].islower())


def _flat(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()


_FLAT = {
    _flat(word): name
    for word, name in WORDS.items()
    if _is_joined(word)
    and not word.isupper()  # the case tells: MAX_TOKENS is why an answer ended, max_tokens what was asked for
    and not word.lower().endswith("error")  # APIError is a class
}


@lru_cache(maxsize=16_384)
def _of_class(word: str) -> str | None:
    """What the name of an exception class says."""
    if word.startswith(_DATABASE):
        return "storage_error"
    if not word.endswith(_CLASS):
        return None
    if word.startswith(_DATABASE_CLASS):
        return "storage_error"
    if word in EXACT_CLASSES:
        return EXACT_CLASSES[word]
    small = word.lower()
    return next((name for stem, name in STEMS if stem in small), None)


class _Phrases(NamedTuple):
    """The phrases of an error type: those without a gap, and those with one by what stands before it."""

    name: str
    whole: tuple[str, ...]
    gapped: tuple[tuple[str, re.Pattern[str]], ...]

    def stand_in(self, said: str) -> bool:
        """Whether a message says one of them."""
        for phrase in self.whole:
            if phrase in said and _begins_with_a_word(phrase, said):
                return True
        return any(first in said and pattern.search(said) for first, pattern in self.gapped)


def _begins_with_a_word(phrase: str, said: str) -> bool:
    """Whether a phrase that stands in a message does so from a word's beginning: no "stream error" is in "upstream"."""
    at = said.find(phrase)
    while at > 0 and said[at - 1].isalnum() and phrase[0].isalnum():
        at = said.find(phrase, at + 1)
    return at >= 0


def _compiled(name: str, phrases: Iterable[str]) -> _Phrases:
    ends: dict[str, list[str]] = {}
    for first, gap, end in (phrase.partition(" … ") for phrase in phrases):
        if gap:
            ends.setdefault(first, []).append(re.escape(end))
    gapped = {first: rf"{re.escape(first)}.{{0,80}}?\b(?:{'|'.join(some)})" for first, some in ends.items()}
    whole = tuple(phrase for phrase in phrases if " … " not in phrase)
    return _Phrases(name, whole, tuple((first, re.compile(pattern)) for first, pattern in gapped.items()))


_PHRASES = tuple(_compiled(name, phrases) for name, phrases in PHRASES)


def _by_phrase(said: str, allowed: Collection[str] | None) -> str | None:
    """The first type, of those allowed, one of whose phrases stands in a message."""
    told = (one.name for one in _PHRASES if (allowed is None or one.name in allowed) and one.stand_in(said))
    return next(told, None)
