"""Rulings: what a person decides about single postings, to leave them alone or to grant them one more attempt."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import select

from enrichlog.actor import actor
from enrichlog.asking import require_reason
from enrichlog.postings import notice_posting, source_of
from enrichlog.targets import IN_FLIGHT, PAGE
from eventlog.database import Database
from eventlog.errors import Conflict
from eventlog.events import EnrichmentDismissed, EnrichmentRequested, Event
from eventlog.log import Proposal
from eventlog.streams import stream_of
from projections.enrichment_status import enrichment_status
from projections.inline import append_together

_MOVED_ON = "it has moved on just now; look at it again"


@dataclass
class Ruled:
    """The postings that were ruled on, and for each of the others the reason that it was not."""

    done: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


class _Known(NamedTuple):
    """How a posting that is named stands; `state` and `version` are None where it was never requested."""

    state: str | None
    version: int | None
    has_posting: bool


def dismiss(database: Database, enrichment: str, job_ids: Sequence[str], reason: str) -> Ruled:
    """Have these postings left alone, pending ones included. Raises `UnknownJob` before anything is appended."""
    return _rule(
        database, enrichment, job_ids, EnrichmentDismissed(actor=actor(), reason=require_reason(reason)), _why_kept
    )


def requeue(database: Database, enrichment: str, job_ids: Sequence[str], reason: str) -> Ruled:
    """Grant one more attempt, also to what is used up, given up, not retryable or dismissed. Raises `UnknownJob`."""
    event = EnrichmentRequested(why="requeue", actor=actor(), reason=require_reason(reason), grant=1)
    return _rule(database, enrichment, job_ids, event, _why_not_again)


def _rule(
    database: Database, enrichment: str, job_ids: Sequence[str], event: Event, why_left: Callable[[_Known], str | None]
) -> Ruled:
    ruled, names = Ruled(), list(dict.fromkeys(job_ids))
    known = _known(database, enrichment, names)
    for start in range(0, len(names), PAGE):
        page = []
        for job_id in names[start : start + PAGE]:
            if (why := why_left(known[job_id])) is not None:
                ruled.left[job_id] = why
            else:
                page.append(job_id)
        _append(database, enrichment, page, event, ruled, known)
    return ruled


def _known(database: Database, enrichment: str, names: Sequence[str]) -> dict[str, _Known]:
    """The status and the posting of each; those that were never requested are, first."""
    found = _read(database, enrichment, names)
    for job_id in names:
        if job_id not in found:
            raise source_of(database).unknown(job_id)
    unseen = [job_id for job_id in names if found[job_id].state is None]
    for job_id in unseen:
        notice_posting(database, job_id, enrichment, actor())
    return found | _read(database, enrichment, unseen)


def _read(database: Database, enrichment: str, names: Sequence[str]) -> dict[str, _Known]:
    status, known = enrichment_status.c, dict[str, _Known]()
    for start in range(0, len(names), PAGE):
        page = names[start : start + PAGE]
        streams = [stream_of(enrichment, job_id) for job_id in page]
        query = select(status.job_id, status.state, status.version).where(status.stream_id.in_(streams))
        with database.read() as connection:
            there = source_of(database).find_there(connection, page)
            known |= dict.fromkeys(there, _Known(None, None, has_posting=True))
            rows = connection.execute(query)
            known |= {row.job_id: _Known(row.state, row.version, has_posting=row.job_id in there) for row in rows}
    return known


def _append(
    database: Database, enrichment: str, page: Sequence[str], event: Event, ruled: Ruled, known: dict[str, _Known]
) -> None:
    proposals = [Proposal(stream_of(enrichment, one), event, str(uuid.uuid4()), known[one].version) for one in page]
    outcomes = append_together(database, proposals)
    for job_id, outcome in zip(page, outcomes, strict=True):
        if isinstance(outcome, Conflict):
            ruled.left[job_id] = _MOVED_ON
        else:
            ruled.done.append(job_id)


def _why_kept(row: _Known) -> str | None:
    return {
        "running": IN_FLIGHT,
        "succeeded": "it is enriched already",
        "dismissed": "it was dismissed already",
    }.get(row.state or "")


def _why_not_again(row: _Known) -> str | None:
    if not row.has_posting:
        return "its posting is not there any more"
    return {
        "running": IN_FLIGHT,
        "pending": "it is to be tried anyway",
        "succeeded": "it is enriched already; to pay for it again: enrichlog enrich JOB_ID --force",
    }.get(row.state or "")
