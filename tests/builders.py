"""Small builders: events with only what a test cares about, a stopped clock, short ways to append and look."""

import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
from sqlalchemy import Table, select

from eventlog.database import Database
from eventlog.events import (
    BatchCancelled,
    ContentErased,
    EnrichmentDismissed,
    EnrichmentFailed,
    EnrichmentRequested,
    EnrichmentStarted,
    EnrichmentSucceeded,
    Event,
    FailureReclassified,
)
from eventlog.log import Appended, Inline, Outcome, Proposal, append, read_log
from projections.enrichment_status import enrichment_status
from projections.inline import InlineReadModels
from projections.llm_enrichment import llm_enrichment

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
BOUND = 20.0
"""Seconds that a test waits for what happens at once unless something is broken."""

Session = psycopg.Connection[tuple[Any, ...]]


class StoppedClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> datetime:
        """Go on by this much (`seconds=90`), and say what time it is then."""
        self.now += timedelta(**span)
        return self.now


def requested(why: str = "new", **facts: Any) -> EnrichmentRequested:
    return EnrichmentRequested.model_validate({"why": why, "actor": "tests", **facts})


def started(attempt: int = 1, **facts: Any) -> EnrichmentStarted:
    values = {**_attempt(attempt), "worker": "worker-1", "lease_seconds": 330, "request_model": "model-1", **facts}
    return EnrichmentStarted.model_validate(values)


def succeeded(attempt: int = 1, **facts: Any) -> EnrichmentSucceeded:
    values = {**_attempt(attempt), "response_model": "model-1-snapshot", "result": {"attempt": attempt}, **facts}
    return EnrichmentSucceeded.model_validate(values)


def failed(attempt: int = 1, **facts: Any) -> EnrichmentFailed:
    verdict = {"error_type": "timeout", "retryable": True, "counts": True, "wait_ms": 30_000, "fault": "provider"}
    texts = {"message": "Request timeout after 300 seconds", "raw_head": None}
    return EnrichmentFailed.model_validate({**_attempt(attempt), **verdict, **texts, **facts})


def dismissed() -> EnrichmentDismissed:
    return EnrichmentDismissed(actor="tests")


def reclassified(attempt: int = 1, **facts: Any) -> FailureReclassified:
    verdict = {"error_type": "refusal", "retryable": False, "counts": True}
    before = {"previous_error_type": "timeout", "attempt_id": f"attempt-{attempt}", "actor": "rules"}
    return FailureReclassified.model_validate({**verdict, **before, **facts})


def cancelled(batch: str = "b") -> BatchCancelled:
    return BatchCancelled(batch=batch, actor="tests")


def erased() -> ContentErased:
    return ContentErased(actor="tests")


def _attempt(number: int) -> dict[str, Any]:
    return {"attempt_id": f"attempt-{number}", "attempt": number}


def proposal(
    stream_id: str, event: Event, event_id: str | None = None, expected_version: int | None = None
) -> Proposal:
    return Proposal(stream_id, event, event_id or str(uuid.uuid4()), expected_version)


def offer(database: Database, *proposals: Proposal, inline: Inline | None = None) -> list[Outcome]:
    """Append in one transaction, with the read models unless others are given."""
    with database.write() as connection:
        return append(connection, database.dialect, proposals, inline or InlineReadModels(database))


def tell(database: Database, stream_id: str, *events: Event) -> list[Outcome]:
    """Append these events to one stream, each in a transaction of its own."""
    return [offer(database, proposal(stream_id, event))[0] for event in events]


def appended(outcomes: Sequence[Outcome]) -> list[Appended]:
    """The acknowledgements, when there is no conflict among the outcomes."""
    acknowledged = [outcome for outcome in outcomes if isinstance(outcome, Appended)]
    assert acknowledged == list(outcomes)
    return acknowledged


def run(database: Database, sql: str) -> list[dict[str, Any]]:
    """Run one statement of plain SQL, `{ours}` being the schema of our tables, and give the rows it returns."""
    schema = database.dialect.qualified("")
    with database.write() as connection:
        result = connection.execution_options(no_parameters=True).exec_driver_sql(sql.replace("{ours}", schema))
        return [dict(row._mapping) for row in result] if result.returns_rows else []


def follow(database: Database, after: int = 0) -> list[int]:
    """The positions of the log after this one."""
    return [recorded.position for page in read_log(database, after) for recorded in page]


@contextmanager
def sessions(database: Database, count: int = 2) -> Iterator[list[Session]]:
    """Plain connections of the driver, for doing things the obvious way."""
    with ExitStack() as stack:
        yield [stack.enter_context(psycopg.connect(database.url)) for _ in range(count)]


def ask(session: Session, query: LiteralString) -> list[Any]:
    """The first column of what a query gives."""
    return [row[0] for row in session.execute(query)]


def wait_for_a_waiter(database: Database) -> None:
    """Until a session of this database waits for a lock, of whatever kind; the server says so."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    never = threading.Event()
    for _ in range(int(BOUND * 100)):
        if run(database, waiting):
            return
        never.wait(0.01)
    raise AssertionError("nobody came to wait")


def row_of(database: Database, table: Table, stream_id: str) -> dict[str, Any] | None:
    """The live row of a stream in one of the two inline read models."""
    category, _, key = stream_id.partition("-")
    names = {enrichment_status: ("job_id", "enrichment"), llm_enrichment: ("job_posting_id", "enrichment")}[table]
    query = select(table).where(table.c[names[0]] == key, table.c[names[1]] == category)
    found = database.page(query)
    return dict(found[0]._mapping) if found else None


def status(database: Database, stream_id: str) -> dict[str, Any]:
    row = row_of(database, enrichment_status, stream_id)
    assert row is not None
    return row


def shown(database: Database, stream_id: str) -> dict[str, Any] | None:
    return row_of(database, llm_enrichment, stream_id)


def drop_triggers(database: Database) -> None:
    """What somebody who wants to change the log has to do first."""
    if database.dialect.name == "postgresql":
        run(database, "ALTER TABLE {ours}events DISABLE TRIGGER ALL")
        return
    for trigger in run(database, "SELECT name FROM sqlite_master WHERE type = 'trigger'"):
        run(database, f"DROP TRIGGER {trigger['name']}")
