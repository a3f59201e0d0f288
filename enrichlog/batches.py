"""Batches as people look at them: which there are, what became of their postings, and taking one back."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, exists, func, null, select

from enrichlog.actor import actor
from enrichlog.asking import require_reason
from enrichlog.exceptions import AmbiguousBatch, NothingWaits, UnknownBatch
from enrichlog.targets import PAGE
from eventlog.database import Database
from eventlog.errors import Conflict
from eventlog.events import BatchCancelled, EnrichmentRequested
from eventlog.folding import FOLD_ERRORS, unfoldable
from eventlog.log import Proposal, Recorded, read_page, read_stream, recorded
from eventlog.schema import events
from eventlog.streams import split_stream, stream_of
from projections.batches import STREAMS, batches
from projections.enrichment_status import enrichment_status
from projections.inline import append_together
from projections.status import Status, fold

Fate = Literal["recovered", "failed_the_same_way", "failed_differently", "not_yet", "withdrawn"]
FATES: tuple[Fate, ...] = ("recovered", "failed_the_same_way", "failed_differently", "not_yet", "withdrawn")

SHORTEST_ID = 8
"""So many characters of a batch's id are enough, if no other begins with them."""


class ToldBatch(NamedTuple):
    """One batch: its row, whether any posting still waits for it, and what its first request and its end say."""

    row: Any
    is_open: bool
    reason: str | None
    selection: str | None
    cancelled_for: str | None = None

    @property
    def state(self) -> str:
        """Cancelled, open while postings wait for it, or done."""
        if self.row.cancelled_at is not None:
            return "cancelled"
        return "open" if self.is_open else "done"


class Cancelled(NamedTuple):
    """What cancelling did: the postings given back, and those that were running already, which go on."""

    batch: str
    freed: int
    running: int
    is_new: bool


def list_batches(database: Database, limit: int) -> tuple[int, list[ToldBatch]]:
    """How many batches there are, and the newest of them."""
    total = database.count(select(func.count()).select_from(batches))
    rows = database.page(_rows().order_by(batches.c.first_position.desc().nulls_last()).limit(limit))
    wanted = events.c.position.in_([row.first_position for row in rows])
    requests = {event.position: event for event in read_page(database, select(events).where(wanted))}
    return total, [_told(row, requests.get(row.first_position)) for row in rows]


def find_batch(database: Database, batch: str) -> ToldBatch:
    """One batch, by its id or by the first 8 or more characters of it.

    Raises `UnknownBatch`, and `AmbiguousBatch` where several begin so.
    """
    rows = database.page(_rows().where(batches.c.batch == batch))
    if not rows and len(batch) >= SHORTEST_ID:
        rows = database.page(_rows().where(batches.c.batch.startswith(batch, autoescape=True)).limit(2))
    if not rows:
        raise UnknownBatch(batch=batch)
    if len(rows) > 1:
        raise AmbiguousBatch(batch=batch)
    first = read_page(database, select(events).where(events.c.position == rows[0].first_position))
    ends = read_stream(database, stream_of(STREAMS, rows[0].batch))
    told = _told(rows[0], first[0] if first else None)
    return told._replace(cancelled_for=(ends[0].content or {}).get("reason") if ends else None)


def fates(database: Database, told: ToldBatch) -> Iterator[tuple[str, Fate]]:
    """What became of each posting of a batch, in the order they were requested."""
    row, kind = told.row, EnrichmentRequested.__name__
    after = (row.first_position or 1) - 1
    query = select(events).where(events.c.type == kind, events.c.position <= row.last_position)
    query = query.order_by(events.c.position).limit(PAGE)
    while page := read_page(database, query.where(events.c.position > after)):
        asked = {event.stream_id: event.version for event in page if event.facts.get("batch") == row.batch}
        found = {stream_id: fate_of(one, asked[stream_id]) for stream_id, one in _histories(database, list(asked))}
        yield from ((split_stream(stream_id)[1], found[stream_id]) for stream_id in asked)
        after = page[-1].position


def fate_of(history: Sequence[Recorded], version: int) -> Fate:
    """What became of the request that is this version of its stream: the first end after it decides.

    Raises `Unfoldable`.
    """
    before, event = Status(), None
    try:
        for event in history:
            if event.version < version:
                before = fold(before, event)
            elif (fate := _fate(event, before.error_type)) is not None:
                return fate
    except FOLD_ERRORS as error:
        raise unfoldable(event, error) from error
    return "not_yet"


def _fate(event: Recorded, failed_before_with: str | None) -> Fate | None:
    match event.type:
        case "EnrichmentSucceeded":
            return "recovered"
        case "EnrichmentLateResult" if event.facts["used"]:
            return "recovered"
        case "EnrichmentFailed":
            is_same = event.facts["error_type"] == failed_before_with
            return "failed_the_same_way" if is_same else "failed_differently"
        case "BatchCancelled" | "EnrichmentDismissed":
            return "withdrawn"
    return None


def cancel(database: Database, batch: str, reason: str) -> Cancelled:
    """Withdraw a batch: no more of it is requested, and what still waits for it is as it was before.

    One that ended early is cancelled to its end when it is cancelled again. Raises `NothingWaits` where there is
    nothing of it to take back or to end, and what `find_batch` raises.
    """
    told = find_batch(database, batch)
    batch, why = told.row.batch, require_reason(reason)
    if not told.is_open and (told.row.cancelled_at is not None or not _running(database, told)):
        raise NothingWaits(batch=batch)
    event = BatchCancelled(batch=batch, actor=actor(), reason=why)
    if told.row.cancelled_at is None:
        _append(database, [Proposal(stream_of(STREAMS, batch), event, str(uuid.uuid4()))])
    freed, after = 0, ""
    while page := database.page(_waiting(batch, after)):
        freed += _append(database, [Proposal(row.stream_id, event, str(uuid.uuid4())) for row in page])
        after = page[-1].stream_id
    return Cancelled(batch, freed, _running(database, told), told.row.cancelled_at is None)


def count_waiting(database: Database, batch: str) -> int:
    """How many postings still wait for a batch: until a run takes them, or somebody takes the batch back."""
    return database.count(select(func.count()).select_from(enrichment_status).where(_waits(batch)))


def why_cancelled(database: Database, batch: str | None) -> str | None:
    """That a batch was cancelled, by whom and why; None when it was not."""
    if batch is None or not (ends := read_stream(database, stream_of(STREAMS, batch))):
        return None
    told = (ends[0].content or {}).get("reason")
    return f"the batch was cancelled by {ends[0].facts['actor']}" + (f": {told}" if told else ".")


def _rows() -> Select[Any]:
    waiting = select(enrichment_status.c.stream_id).where(_waits(batches.c.batch))
    return select(batches, exists(waiting).label("is_open"))


def _waits(batch: str | ColumnElement[str]) -> ColumnElement[bool]:
    """The status rows of the postings that wait for a batch: this one, or that of each row of a query."""
    return and_(enrichment_status.c.batch == batch, enrichment_status.c.before_batch.is_not(None))


def _told(row: Any, request: Recorded | None) -> ToldBatch:
    facts, content = (request.facts, request.content or {}) if request else ({}, {})
    return ToldBatch(row, bool(row.is_open), content.get("reason"), facts.get("selection"))


def _histories(database: Database, streams: Sequence[str]) -> Iterator[tuple[str, list[Recorded]]]:
    """The events of these streams, facts only, stream by stream."""
    columns = [column for column in events.c if column.name != "content"]
    query = select(*columns, null().label("content")).where(events.c.stream_id.in_(streams))
    rows = database.page(query.order_by(events.c.stream_id, events.c.version))
    for stream_id, found in groupby(map(recorded, (row._mapping for row in rows)), lambda event: event.stream_id):
        yield stream_id, list(found)


def _waiting(batch: str, after: str) -> Select[Any]:
    status = enrichment_status.c
    query = select(status.stream_id).where(_waits(batch), status.stream_id > after)
    return query.order_by(status.stream_id).limit(PAGE)


def _append(database: Database, proposals: Sequence[Proposal]) -> int:
    """How many of these were appended; the others have moved on."""
    outcomes = append_together(database, proposals)
    return sum(not isinstance(outcome, Conflict) for outcome in outcomes)


def _running(database: Database, told: ToldBatch) -> int:
    status = enrichment_status.c
    runs = and_(status.enrichment == told.row.enrichment, status.state == "running", status.batch == told.row.batch)
    return database.count(select(func.count()).select_from(enrichment_status).where(runs))
