"""What a failure makes of a status: how it counts, until when the posting is put off, and when it is given up. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from projections.draft import Draft

INTERRUPTED = "interrupted"
"""The error type of an attempt that its own worker did not bring to an end."""


def deaths(status: Draft, facts: dict[str, Any]) -> int:
    """How many workers in a row died on the posting: any end but that of a stopped run clears it."""
    if facts["worker_died"]:
        return int(status.deaths) + 1
    was_stopped = facts["error_type"] == INTERRUPTED and facts.get("http_status") is None
    return status.deaths if was_stopped else 0


def fail(status: Draft, facts: dict[str, Any], since: datetime) -> None:
    """Failed as these facts say, which are those of the failure or of a later reading of it."""
    counts, most, longest = facts["counts"], facts.get("max_deferrals"), facts.get("max_deferred_seconds")
    was_deferred, is_deferred = status.max_deferrals is not None, most is not None and not counts
    is_put_off = not counts and (most or longest) is not None
    status.set(
        state="failed",
        budget_used=status.budget_used + counts - (status.counted is True),
        deferrals=status.deferrals + is_deferred - was_deferred,
        deferred_since=_deferred_since(status, since, is_put_off=is_put_off),
        counted=counts,
        max_deferrals=most if is_deferred else None,
        error_type=facts["error_type"],
        retryable=facts["retryable"],
        cap=facts.get("cap"),
    )
    is_over = not status.retryable or _is_given_up(status, facts, since)
    status.due_at = None if is_over else since + timedelta(milliseconds=facts.get("wait_ms") or 0)


def _deferred_since(status: Draft, since: datetime, *, is_put_off: bool) -> datetime | None:
    """Since when a posting has been put off; a later reading may find that this failure does not do that."""
    if is_put_off:
        return status.deferred_since or since
    return None if status.deferred_since == since else status.deferred_since


def _is_given_up(status: Draft, facts: dict[str, Any], since: datetime) -> bool:
    """Whether too many workers died on the posting, or the provider has had too many tries at it or for too long."""
    if facts.get("worker_died"):
        most = status.max_attempts or status.cap  # what a person allows overrides the cap
        return most is not None and status.deaths >= most
    longest, first = facts.get("max_deferred_seconds"), status.deferred_since
    if longest is not None and first is not None and since - first >= timedelta(seconds=longest):
        return True
    return status.max_deferrals is not None and status.deferrals >= status.max_deferrals
