"""One attempt of one posting: made here and now, or recorded whole as a start and its end."""

from __future__ import annotations

from sqlalchemy import select

from enrichlog import attempt, reports
from enrichlog.actor import actor
from enrichlog.attempt import End, Started, end_proposal, start_proposal
from enrichlog.enrichment import enrichment_of, request_for
from enrichlog.postings import notice_posting
from enrichlog.ready import require_ready
from enrichlog.runs import perform
from enrichlog.settings import Settings
from enrichlog.targets import Target, choose, scope_of
from eventlog.database import Database
from eventlog.errors import Conflict, HeldBack
from eventlog.events import EnrichmentStarted
from eventlog.log import Recorded, read_page
from eventlog.schema import events
from eventlog.streams import stream_of
from projections.inline import append_all

OVERTAKEN = "no attempt could begin: another worker took the posting, or its workers died too often"


def attempt_now(database: Database, settings: Settings, name: str, job_id: str, *, force: bool) -> Recorded:
    """Make one attempt and return its own end as the log has it, whatever else has happened to the posting since.

    `name` is the enrichment's. Raises `UnknownJob`, `MissingApiKey`, `HeldBack` while nothing may be called, and
    `Conflict` when the posting is another's.
    """
    enrichment = enrichment_of(settings, name)
    require_ready(settings, database, enrichment)
    target = require_free(database, settings, name, job_id)
    ends: list[str] = []
    scope = scope_of(database, name, [target], force=force)
    run = perform(
        database, settings, enrichment, scope,
        notice=lambda claim, end, run: ends.append(end_proposal(claim.started, end).event_id),
    )  # fmt: skip
    if not ends and run.stopped:
        raise HeldBack(reason=run.stopped.rstrip("."))
    if not ends:
        raise Conflict(stream_id=stream_of(name, job_id), reason=OVERTAKEN)
    return _recorded(database, ends[0])


def require_free(database: Database, settings: Settings, name: str, job_id: str) -> Target:
    """The target of a posting that no attempt is in flight for. Raises `UnknownJob`, and `Conflict` when one is."""
    chosen = choose(database, name, [job_id], settings.max_attempts, force=True)
    if chosen.left:
        raise Conflict(stream_id=stream_of(name, job_id), reason=chosen.left[job_id])
    return chosen.targets[0]


def fail_without_description(database: Database, settings: Settings, name: str, job_id: str) -> Recorded:
    """Record that an attempt was given no description, so that nobody was called; the posting keeps its own.

    Raises `UnknownJob`, and `Conflict` while an attempt is in flight.
    """
    enrichment, stream_id = enrichment_of(settings, name), stream_of(name, job_id)
    posting = notice_posting(database, job_id, name, actor())
    request = request_for(
        enrichment, posting._asdict() | {"description": ""}, posting.input_hash, settings.max_input_tokens, cut=False
    )
    outcome = attempt.precheck("", request, settings.max_input_tokens)
    assert outcome is not None
    start = attempt.start(
        enrichment, request, number=reports.current(database, name, job_id).attempts + 1, worker=actor(),
        input_hash=posting.input_hash, lease_seconds=0,  # it has ended already
    )  # fmt: skip
    end = attempt.end(enrichment, Started(stream_id, start), outcome)
    return _recorded(database, record_pair(database, stream_id, start, end))


def record_pair(database: Database, stream_id: str, start: EnrichmentStarted, end: End) -> str:
    """Append an attempt that has ended already; returns the event id of its end. Raises `Conflict`."""
    started = Started(stream_id, start)
    pair = [start_proposal(started), end_proposal(started, end)]
    with database.write() as connection:
        append_all(connection, database, pair)
    return pair[1].event_id


def _recorded(database: Database, event_id: str) -> Recorded:
    return read_page(database, select(events).where(events.c.event_id == event_id))[0]
