"""When and how often a posting is tried again: pure rules over the error type and the history."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Literal

from enrichlog.errors import ERROR_TYPES, ErrorType

Verdict = Literal["will_try", "waiting", "exhausted", "not_retryable"]
VERDICTS: tuple[Verdict, ...] = ("will_try", "waiting", "exhausted", "not_retryable")

DEFAULT_MAX_ATTEMPTS = 5
BACKOFF_BASE_SECONDS = 30.0
BACKOFF_CAP_SECONDS = 900.0
MAX_DEFERRED_SECONDS = 14 * 24 * 60 * 60
"""How long a posting may be put off for the provider's sake, from the first time on."""
_SHORT = 0.1  # a malformed answer is no sign of load: a tenth of the wait is enough


def backoff_ms(stream_id: str, failures: int, base_seconds: float = BACKOFF_BASE_SECONDS) -> int:
    """The wait after the n-th failure in a row, in milliseconds.

    d = min(900 s, base · 2^(n-1)), of which one half always and the other half by a fraction taken from the SHA-256 of
    the stream and n: spread over the postings, and the same whenever it is computed again.
    """
    longest = min(BACKOFF_CAP_SECONDS, base_seconds * 2.0 ** min(failures - 1, 30))
    digest = hashlib.sha256(f"{stream_id} {failures}".encode()).digest()
    fraction = int.from_bytes(digest[:4], "big") / 2**32
    return round(1000 * (longest / 2 + fraction * longest / 2))


def wait_ms(
    kind: ErrorType,
    stream_id: str,
    failures: int,
    retry_after_ms: int | None = None,
    base: float = BACKOFF_BASE_SECONDS,
) -> int:
    """How long after a failure the posting may be tried again; what the provider asked for is a floor."""
    own = {
        "none": 0,
        "short": backoff_ms(stream_id, failures, base * _SHORT),
        "backoff": backoff_ms(stream_id, failures, base),
    }[kind.wait]
    return max(own, retry_after_ms or 0)


def judged(kind: ErrorType) -> dict[str, Any]:
    """What a failure of this type means for its posting, as the facts of an event."""
    return {
        "error_type": kind.name,
        "retryable": kind.retryable,
        "counts": kind.counts,
        "cap": kind.cap,
        "max_deferrals": kind.max_deferrals,
        "max_deferred_seconds": MAX_DEFERRED_SECONDS if _is_put_off(kind) else None,
    }


def _is_put_off(kind: ErrorType) -> bool:
    """Whether such a failure only puts the posting off: not by its own fault, and not until a person acts."""
    return kind.retryable and not kind.counts and kind.wait != "none"


def allowance(max_attempts: int | None, cap: int | None, default: int = DEFAULT_MAX_ATTEMPTS) -> int:
    """How many counted failures a posting may have: an explicit maximum overrides the cap of the error type."""
    if max_attempts is not None:
        return max_attempts
    return default if cap is None else min(cap, default)


def types_allowed_at(budget_used: int, default: int = DEFAULT_MAX_ATTEMPTS) -> list[str]:
    """The error types of which a posting with this budget used may be tried once more."""
    return [
        kind.name
        for kind in ERROR_TYPES.values()
        if kind.retryable and budget_used < allowance(None, kind.cap, default)
    ]


def verdict(
    *, retryable: bool, budget_used: int, allowed: int, deaths: int, due_at: datetime | None, now: datetime,
    explicit: bool = False,
) -> Verdict:  # fmt: skip
    """What a retry does with a failed posting; `explicit` when its maximum was asked for.

    The death of a worker may be a neighbour's fault: by itself it does not use up what the posting is allowed. One that
    is never due was put off too often, or its workers died: only who asks for more attempts gets them.
    """
    if not retryable:
        return "not_retryable"
    own_or_deaths = max(deaths, budget_used - deaths) if explicit else 0
    spent = own_or_deaths if deaths else budget_used
    if spent >= allowed or (due_at is None and not explicit):
        return "exhausted"
    return "will_try" if due_at is None or due_at <= now else "waiting"
