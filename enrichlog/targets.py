"""Targets: which postings a run takes, and the requests that make them due."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, exists, select

from enrichlog.actor import actor
from enrichlog.postings import find_posting, source_of
from enrichlog.retry import allowance
from enrichlog.scope import Scope
from enrichlog.sync import sync
from eventlog.database import Database
from eventlog.errors import Conflict
from eventlog.events import EnrichmentRequested
from eventlog.log import Proposal
from eventlog.streams import stream_of
from projections.enrichment_status import IS_RUNNING, enrichment_status
from projections.inline import append_together

PAGE = 500
"""Postings are requested so many at a time."""


IN_FLIGHT = "an attempt is in flight"
MOVED_ON = "it has moved on since the plan was made"
ENRICHED = "already enriched"
_SAME, _USED_UP = "trying again brings the same", "its attempts are used up"


class Target(NamedTuple):
    """A posting to be requested, and the version it was at when it was looked at."""

    job_id: str
    version: int | None = None


class Requested(NamedTuple):
    """The requests of one batch: its scope, and the postings that had moved on."""

    scope: Scope
    moved_on: list[str]


class Chosen(NamedTuple):
    """What a run over named postings takes, and for each of the others the reason that it does not."""

    targets: list[Target]
    left: dict[str, str]


def open_scope(database: Database, enrichment: str) -> Scope:
    """Everything that is due now, new and changed postings included."""
    sync(database, enrichment, actor())
    with database.read() as connection:
        return Scope(database.dialect.clock(connection))


def request(database: Database, enrichment: str, targets: Sequence[Target], reason: str) -> Requested:
    """Request these postings as one batch, because what their results rest on has changed.

    Those at another version than the target's are reported, not requested.
    """
    batch, moved_on = str(uuid.uuid4()), []
    event = EnrichmentRequested(why="changed", actor=actor(), batch=batch, reason=reason)
    for start in range(0, len(targets), PAGE):
        moved_on += request_page(database, enrichment, event, targets[start : start + PAGE])
    return Requested(batch_scope(database, batch), moved_on)


def request_page(
    database: Database, enrichment: str, event: EnrichmentRequested, targets: Sequence[Target]
) -> list[str]:
    """Append this request to the streams of up to a page of postings; returns those that had moved on."""
    proposals = [
        Proposal(stream_of(enrichment, target.job_id), event, str(uuid.uuid4()), target.version) for target in targets
    ]
    outcomes = append_together(database, proposals)
    pairs = zip(targets, outcomes, strict=True)
    return [target.job_id for target, outcome in pairs if isinstance(outcome, Conflict)]


def batch_scope(database: Database, batch: str) -> Scope:
    """The scope of a run over what one batch has requested."""
    with database.read() as connection:
        return Scope(database.dialect.clock(connection), batch)


def choose(database: Database, enrichment: str, job_ids: Sequence[str], max_attempts: int, *, force: bool) -> Chosen:
    """Which of these postings can be tried; `force` takes all but those in flight. Raises `UnknownJob`.

    One that was never requested is taken for pending, as it will be when the run begins.
    """
    with database.read() as connection:
        now = database.dialect.clock(connection)
        known = {row.job_id: row for row in connection.execute(_statuses(enrichment, job_ids))}
    chosen = Chosen([], {})
    for job_id in dict.fromkeys(job_ids):
        find_posting(database, job_id)
        row = known.get(job_id)
        reason = None if row is None else _why_left(row, max_attempts, now, force=force)
        if reason is None:
            chosen.targets.append(Target(job_id, None if row is None else row.version))
        else:
            chosen.left[job_id] = reason
    return chosen


def scope_of(database: Database, enrichment: str, targets: Sequence[Target], *, force: bool) -> Scope:
    """The scope of a run over these postings, each of which is requested when its turn comes."""
    scope, named = open_scope(database, enrichment), tuple(target.job_id for target in targets)
    return replace(scope, batch=str(uuid.uuid4()), job_ids=named, why="force" if force else "retry")


def every_posting(database: Database, enrichment: str) -> list[Target]:
    """All postings that no attempt is in flight for."""
    source = source_of(database)
    running = select(enrichment_status.c.stream_id).where(source.status_of(enrichment), IS_RUNNING)
    return [Target(job_id) for page in source.ids(database, ~exists(running)) for job_id in page]


def _statuses(enrichment: str, job_ids: Sequence[str]) -> Select[Any]:
    status = enrichment_status.c
    return select(enrichment_status).where(status.enrichment == enrichment, status.job_id.in_(job_ids))


def is_for_force(reason: str) -> bool:
    """Whether a posting that was left for this reason is taken with --force, where the reason does not say so."""
    return reason.endswith((ENRICHED, _SAME, _USED_UP))


def _why_left(row: Any, max_attempts: int, now: datetime, *, force: bool) -> str | None:
    """Why a posting that was named is not tried; None when it is."""
    if row.state == "running":  # one whose lease ran out is closed by the claim that takes it
        return IN_FLIGHT if row.due_at > now else None
    if force or row.state == "pending":
        return None
    if row.state == "succeeded":
        return ENRICHED
    if row.state == "dismissed":
        return "it was dismissed; to try it all the same: enrichlog requeue JOB_ID --reason TEXT, or give --force"
    if not row.retryable:
        return f"{row.error_type}: {_SAME}"
    if row.due_at is None:
        return "it was put off too often, or its workers died; to try it all the same, give --force"
    allowed = allowance(row.max_attempts, row.cap, max_attempts)
    return _USED_UP if row.budget_used - row.grants >= allowed and not row.deaths else None
