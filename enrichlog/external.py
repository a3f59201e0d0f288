"""Attempts that were made elsewhere: recorded as a start and its end in one transaction, both marked external."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import select

from enrichlog import reports
from enrichlog.actor import actor
from enrichlog.errors import ERROR_TYPES
from enrichlog.postings import notice_posting
from enrichlog.retry import judged
from enrichlog.single import record_pair
from eventlog.database import Database
from eventlog.events import EnrichmentFailed, EnrichmentLateResult, EnrichmentStarted, EnrichmentSucceeded
from eventlog.log import read_page
from eventlog.schema import events
from eventlog.streams import stream_of

_ENDS = [kind.__name__ for kind in (EnrichmentSucceeded, EnrichmentFailed, EnrichmentLateResult)]


def record_result(database: Database, enrichment: str, job_id: str, result: dict[str, Any]) -> None:
    """Record a result that was found elsewhere; nothing right after the call of ours that found it.

    Raises `UnknownJob`, and `Conflict` while an attempt is in flight.
    """
    if _ends_with(database, enrichment, job_id, "result", result):
        return
    start = _start(database, enrichment, job_id)
    end = EnrichmentSucceeded(
        attempt_id=start.attempt_id, attempt=start.attempt, origin="external", called=False, result=result
    )
    record_pair(database, stream_of(enrichment, job_id), start, end)


def record_error(database: Database, enrichment: str, job_id: str, message: str) -> None:
    """Record that an attempt elsewhere failed; nothing right after the call of ours that failed with this message.

    Raises `UnknownJob`, and `Conflict` while an attempt is in flight.
    """
    if _ends_with(database, enrichment, job_id, "message", message):
        return
    start = _start(database, enrichment, job_id)
    kind = ERROR_TYPES["other"]  # a message alone has no structure to recognise it by
    end = EnrichmentFailed(
        attempt_id=start.attempt_id, attempt=start.attempt, origin="external", called=False, message=message,
        **judged(kind), fault=kind.fault, wait_ms=0,
    )  # fmt: skip
    record_pair(database, stream_of(enrichment, job_id), start, end)


def _ends_with(database: Database, enrichment: str, job_id: str, name: str, value: object) -> bool:
    """Whether a call of ours is the last that ended for the posting, and ended with this, or with what was erased."""
    ends = (events.c.stream_id == stream_of(enrichment, job_id)) & events.c.type.in_(_ENDS)
    newest = read_page(database, select(events).where(ends).order_by(events.c.version.desc()).limit(1))
    for last in newest:
        return last.facts["origin"] == "call" and (last.content is None or last.content.get(name) == value)
    return False


def _start(database: Database, enrichment: str, job_id: str) -> EnrichmentStarted:
    posting = notice_posting(database, job_id, enrichment, actor())
    status = reports.current(database, enrichment, job_id)
    return EnrichmentStarted(
        attempt_id=str(uuid.uuid4()), attempt=status.attempts + 1, origin="external", worker=actor(), lease_seconds=0,
        input_hash=posting.input_hash,
    )  # fmt: skip
