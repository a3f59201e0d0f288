"""Orphans: attempts whose worker did not come back; closed by whoever meets them, or by their worker's next start."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select

from enrichlog import attempt
from enrichlog.attempt import Started
from enrichlog.scope import orphaned
from eventlog.database import Database
from eventlog.events import EnrichmentStarted
from eventlog.log import Proposal, recorded
from eventlog.schema import events
from projections.enrichment_status import IS_RUNNING, enrichment_status
from projections.inline import append_all

LEASE_RAN_OUT = "The worker {worker} did not come back before its lease ran out"
DIED = "The worker {worker} died before the answer came, and was started again"
PAGE = 100
HELD_LOOKS, HELD_LOOK_SECONDS = 20, 0.25


def close_orphans(connection: Connection, which: ColumnElement[bool], limit: int) -> list[Proposal]:
    """The ends of up to `limit` attempts whose leases ran out; their postings run alone after that, if at all."""
    return [_end(connection, row, LEASE_RAN_OUT) for row in _locked(connection, which, limit)]


def close_own(database: Database, worker: str) -> int:
    """Close all that a worker of this name had begun: it is known to be dead. Returns how many attempts that were.

    Whoever calls this holds the name, so that nobody else can be working under it. Rows that the session of the dead
    one still holds on a server are waited for a little.
    """
    which = and_(IS_RUNNING, enrichment_status.c.worker == worker)
    left = select(func.count()).select_from(enrichment_status).where(which)
    closed = _close_all(database, lambda now: which, DIED)
    for _ in range(HELD_LOOKS):
        if not database.count(left):
            break
        time.sleep(HELD_LOOK_SECONDS)
        closed += _close_all(database, lambda now: which, DIED)
    return closed


def close_overdue(database: Database, enrichment: str) -> int:
    """Close all whose leases ran out. Returns how many attempts that were."""
    return _close_all(database, lambda now: orphaned(enrichment, now), LEASE_RAN_OUT)


def _close_all(database: Database, which: Callable[[datetime], ColumnElement[bool]], message: str) -> int:
    closed = 0
    while True:
        with database.write() as connection:
            rows = _locked(connection, which(database.dialect.clock(connection)), PAGE)
            if rows:
                append_all(connection, database, [_end(connection, row, message) for row in rows])
        closed += len(rows)
        if len(rows) < PAGE:
            return closed


def _locked(connection: Connection, which: ColumnElement[bool], limit: int) -> Sequence[Row[Any]]:
    """The longest due of them, locked; those that others hold are left to them."""
    if limit <= 0:
        return []
    query = select(enrichment_status).where(which).order_by(enrichment_status.c.due_at).limit(limit)
    return connection.execute(query.with_for_update(skip_locked=True)).all()


def _end(connection: Connection, row: Row[Any], message: str) -> Proposal:
    """The end of an attempt whose worker did not come back; should its own still come, that will be a late result."""
    starts = and_(events.c.stream_id == row.stream_id, events.c.type == EnrichmentStarted.__name__)
    found = connection.execute(select(events).where(starts).order_by(events.c.version.desc()).limit(1)).one()
    facts = recorded(found._mapping).facts
    known = EnrichmentStarted.model_fields.keys() - {"occurred_at"}  # the attempt is closed now, not when it began
    event = EnrichmentStarted.model_validate({name: facts[name] for name in known & facts.keys()})
    started = Started(row.stream_id, event, position=found.position, at=found.recorded_at)
    closed = attempt.interrupted(started, message.format(worker=row.worker), worker_died=True)
    return Proposal(row.stream_id, closed, str(uuid.uuid5(uuid.UUID(event.attempt_id), "lease ran out")))
