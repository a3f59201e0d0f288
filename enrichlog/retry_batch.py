"""The batch that a confirmed plan becomes: its requests, and the postings that have moved on since it was made."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import select

from enrichlog.actor import actor
from enrichlog.retry_plan import RetryPlan, targets_of
from enrichlog.targets import request_page
from eventlog.database import Database
from eventlog.events import EnrichmentRequested
from eventlog.folding import fold_all
from eventlog.log import PAGE, head_position, read_page
from eventlog.schema import events
from eventlog.streams import split_stream
from projections.status import Status, fold

NAMED = 10
"""How many of the postings that have moved on are told by name."""


@dataclass
class RetryBatch:
    """What was requested under which id; `moved_on` counts the planned postings that were not, `moved` names the first.

    A limit that is reached leaves the rest of the plan unlooked at: then only what was met on the way is counted.
    """

    batch: str
    requested: int = 0
    moved_on: int = 0
    moved: list[str] = field(default_factory=list)


def request_plan(
    database: Database, plan: RetryPlan, reason: str | None, progress: Callable[[int], None] = lambda count: None
) -> RetryBatch:
    """Request what the plan takes, as one batch, at the versions of its position; `progress` is told of each page.

    Raises `BatchWasCancelled` when someone cancels the batch meanwhile; what was requested until then is free again.
    """
    made = RetryBatch(str(uuid.uuid4()))
    event = EnrichmentRequested(
        why="retry", actor=actor(), batch=made.batch, reason=reason, max_attempts=plan.policy.max_attempts,
        selection=plan.told(),
    )  # fmt: skip
    with database.read() as connection:
        begun_at = head_position(connection)
    for page in targets_of(database, plan):
        late = request_page(database, plan.enrichment, event, page)
        made.requested += len(page) - len(late)
        made.moved += late
        progress(len(page))
    made.moved_on = plan.taken - made.requested
    if made.moved_on > len(made.moved):
        earlier = _moved_earlier(database, plan, begun_at)
        made.moved += islice(earlier, min(NAMED, made.moved_on - len(made.moved)))
    return made


def _moved_earlier(database: Database, plan: RetryPlan, until: int) -> Iterator[str]:
    """The planned postings whose streams went on between the plan and the first request."""
    after, known = plan.position, set[str]()
    query = select(events.c.position, events.c.stream_id).where(events.c.position <= until)
    while page := database.page(query.where(events.c.position > after).order_by(events.c.position).limit(PAGE)):
        for stream_id in dict.fromkeys(row.stream_id for row in page if row.stream_id not in known):
            if _was_planned(database, plan, stream_id):
                yield split_stream(stream_id)[1]
        known.update(row.stream_id for row in page)
        after = page[-1].position


def _was_planned(database: Database, plan: RetryPlan, stream_id: str) -> bool:
    """Whether the plan would take the posting as it stood at the plan's position."""
    query = select(events).where(events.c.stream_id == stream_id, events.c.position <= plan.position)
    if split_stream(stream_id)[0] != plan.enrichment:
        return False
    status = fold_all(fold, Status(), read_page(database, query.order_by(events.c.version)))
    return plan.selection.has(status) and plan.policy.verdict(status, plan.now) == "will_try"
