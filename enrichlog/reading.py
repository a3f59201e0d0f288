"""How today's rules read a failure that the log holds: by its raw facts, and no further than these go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from enrichlog.errors import ERROR_TYPES, FINISHES, ErrorType, ProviderError, recognise
from enrichlog.retry import BACKOFF_BASE_SECONDS, judged, wait_ms
from projections.failing import INTERRUPTED
from projections.outage import NOT_COUNTED

Facts = Mapping[str, Any]

COMPARED = ("error_type", "retryable", "counts", "cap", "max_deferrals", "max_deferred_seconds")
"""What makes a difference. The wait makes none: it follows from the type, and is nearly always over."""

_OF_AN_ANSWER = ("content_filter", "output_truncated", "empty_output", "invalid_json", "schema_mismatch")
"""The types that are looked for in an answer once it has ended as it should; a refusal comes before its end."""


class Failure(NamedTuple):
    """The failure that a posting ended with.

    `facts` are those of its event, `verdict` those of its last reading: of the same event, or of a later
    `FailureReclassified`. `number` is which in a row it is.
    """

    stream_id: str
    facts: Facts
    verdict: Facts
    number: int


def read_again(
    failure: Failure, codes: Mapping[str, str] | None = None, base: float = BACKOFF_BASE_SECONDS
) -> dict[str, Any] | None:
    """The verdict of today's rules where it differs from the last one; None where it does not.

    `codes` are the setting `error_codes`, `base` is that of the backoff in seconds. Which type it is, is decided

    - for a reply with a status other than 200: by status, code, type, param and limits;
    - for an error inside a reply of status 200: by code, type and param, where there are any;
    - for an answer: by its finish reason, where that is one of `FINISHES`;
    - for all else not at all: a malformed or refused answer, no reply in time or none, a posting that was not sent,
      what was recorded elsewhere as a message. It stays what it is, and means what that type means today.

    An interruption is left alone altogether: whether it counts is a fact of its own.
    """
    kind = None if failure.facts["error_type"] == INTERRUPTED else _type_today(failure, codes)
    if kind is None:
        return None
    verdict = judged(kind) | (NOT_COUNTED if _is_excused(failure.facts, kind) else {})
    if all(verdict[name] == failure.verdict.get(name) for name in COMPARED):
        return None
    return verdict | {"wait_ms": _wait(failure, kind, base)}


def _type_today(failure: Failure, codes: Mapping[str, str] | None) -> ErrorType | None:
    """The error type; None when it is one that the table does not have any more and the facts do not tell another."""
    facts, known = failure.facts, failure.verdict["error_type"]
    status = facts.get("http_status")
    said = (facts.get("error_code"), facts.get("provider_error_type"), facts.get("error_param"))
    limits = (facts.get("limit_tokens"), facts.get("remaining_tokens"), facts.get("requested_tokens"))
    if status == 200 and any(said):
        return recognise(ProviderError(None, *said, *limits), codes)
    if status not in (None, 200):
        return recognise(ProviderError(status, *said, *limits), codes)
    if known in _OF_AN_ANSWER:
        known = FINISHES.get(facts.get("finish_reason", ""), known)
    return ERROR_TYPES.get(known)


def _is_excused(facts: Facts, kind: ErrorType) -> bool:
    """Whether the failure is not the posting's to pay for, whatever its type means today.

    A failure of the provider either counts or has a bound on its deferrals, so one that has neither was recorded
    during an outage. And what was not counted for another reason cannot become a failure of the provider that counts:
    nobody knows any more whether there was an outage at the time.
    """
    is_counted = facts["counts"] or facts.get("max_deferrals") is not None
    return not is_counted and "provider" in (facts["fault"], kind.fault)


def _wait(failure: Failure, kind: ErrorType, base: float) -> int | None:
    """The wait from the failure on, in milliseconds.

    A type that stays keeps its wait: it has been told to people. Another type waits as if it had been recognised at
    once, which can be computed again: what the provider asked for is among the facts.
    """
    if not kind.retryable:
        return None
    known = failure.verdict.get("wait_ms")
    if kind.name == failure.verdict["error_type"] and known is not None:
        return int(known)
    return wait_ms(kind, failure.stream_id, failure.number, failure.facts.get("retry_after_ms"), base)
