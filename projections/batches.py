"""The batches of requests: who asked for how many postings, why, and whether that was withdrawn. One row each."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Column, Integer, Table, Text

from eventlog.errors import BatchWasCancelled
from eventlog.events import BatchCancelled, EnrichmentRequested
from eventlog.log import Recorded
from eventlog.schema import OURS, Key, Number, UtcDateTime, metadata
from eventlog.streams import is_operational, split_stream
from projections.projection import Row
from projections.spanning import SpanningProjection

STREAMS = "$batch"
"""The category of the streams that tell of batches."""


class Batch(NamedTuple):
    """What the requests of one batch add up to; `freed` are the postings that its cancelling gave back."""

    enrichment: str | None = None
    why: str | None = None
    actor: str | None = None
    requested_at: datetime | None = None
    requested: int = 0
    first_position: int | None = None
    last_position: int | None = None
    freed: int = 0
    cancelled_at: datetime | None = None
    cancelled_by: str | None = None


def key(event: Recorded) -> tuple[str] | None:
    """Which batch an event is about; None for requests of single postings."""
    batch = event.facts.get("batch")
    return None if batch is None else (batch,)


def admit(batch: Batch, event: Recorded) -> None:
    """Raises `BatchWasCancelled` for a request of a batch that was cancelled."""
    if event.type == EnrichmentRequested.__name__ and batch.cancelled_at is not None:
        raise BatchWasCancelled(batch=event.facts["batch"], actor=batch.cancelled_by)


def fold(batch: Batch, event: Recorded) -> Batch:
    """The batch after one more event of its key."""
    facts = event.facts
    if event.type == BatchCancelled.__name__:
        if not is_operational(event.stream_id):
            return batch._replace(freed=batch.freed + 1)
        if batch.cancelled_at is not None:
            return batch
        return batch._replace(cancelled_at=event.recorded_at, cancelled_by=facts["actor"])
    more = batch._replace(requested=batch.requested + 1, last_position=event.position)
    if batch.first_position is not None:
        return more
    asked = {"why": facts["why"], "actor": facts["actor"], "requested_at": event.recorded_at}
    return more._replace(enrichment=split_stream(event.stream_id)[0], first_position=event.position, **asked)


batches = Table(
    "batches",
    metadata,
    Column("batch", Key, primary_key=True),
    Column("enrichment", Key),
    Column("why", Text),
    Column("actor", Text),
    Column("requested_at", UtcDateTime),
    Column("requested", Integer, nullable=False),
    Column("first_position", Number),
    Column("last_position", Number),
    Column("freed", Integer, nullable=False),
    Column("cancelled_at", UtcDateTime),
    Column("cancelled_by", Text),
    schema=OURS,
)


def row(state: Batch) -> Row:
    """The columns beside the key."""
    return state._asdict()


def state_of(row: Any) -> Batch:
    """The batch that a row was made of."""
    return Batch(*(row._mapping[name] for name in Batch._fields))


projection: SpanningProjection[Batch] = SpanningProjection(
    name="batches",
    version=1,
    table=batches,
    types=[kind.__name__ for kind in (EnrichmentRequested, BatchCancelled)],
    initial=Batch(),
    key=key,
    fold=fold,
    row=row,
    state=state_of,
    admit=admit,
    is_ordered=True,
)
