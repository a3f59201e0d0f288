"""What reports would have said when the log ended at an earlier position: its prefix, folded; nothing is written."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from enrichlog.as_of import AsOf
from enrichlog.posting import Titled
from enrichlog.postings import find_posting, find_titles
from enrichlog.reports import SUMMED, Document, FailedPage, failure, told_errors, told_history
from enrichlog.selection import Allowance, Selection
from eventlog.category import walk_events, walk_streams
from eventlog.database import Database
from eventlog.log import Recorded, read_stream
from eventlog.streams import split_stream, stream_of
from projections import enrichment_status, llm_enrichment
from projections.prefix import states
from projections.status import STATES, Status

OF_TODAY = ("title", "company")
"""What postings say now: the log does not know what they said at another time."""

STREAMS_PER_PAGE = 500
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Notice = Callable[[int], None]
"""Called with the number of events that were folded since it was called last."""


def no_notice(events: int) -> None:
    """Nobody is told how far it is."""


def status(database: Database, enrichment: str, at: AsOf, progress: Notice = no_notice) -> Document:
    """How many postings were in which state, and what had been spent."""
    counts, spent = Counter[str](), Counter[str]()
    for _, one in _statuses(database, enrichment, at, progress):
        counts[one.state] += 1
        for name in SUMMED:
            spent[name] += getattr(one, name)
    place = {"database": database.dialect.where(), "enrichment": enrichment}
    totals = {name: spent[name] for name in SUMMED}
    return {**place, "postings": {state: counts[state] for state in STATES}, **totals, "position": at.position}


def errors(database: Database, enrichment: str, at: AsOf, progress: Notice = no_notice) -> list[Document]:
    """How many postings had failed with each error type, most first, and what to do about each."""
    every = Selection()
    found = (one for _, one in _statuses(database, enrichment, at, progress) if every.has(one))
    return told_errors(Counter(one.error_type or "" for one in found))


def failed(
    database: Database, enrichment: str, selection: Selection, limit: int, default: int, at: AsOf,
    progress: Notice = no_notice,
) -> FailedPage:  # fmt: skip
    """The postings that had failed, newest first, with the errors of the events; judged by the moment of the position.

    Title and company are those of today. Memory holds `limit` of them.
    """
    count = Counter[str]()
    newest = heapq.nsmallest(limit, _failures(database, enrichment, selection, at, count, progress))
    policy, rows = Allowance(None, default), list[Document]()
    for start in range(0, len(newest), STREAMS_PER_PAGE):
        page = [(one.stream_id, one.status) for one in newest[start : start + STREAMS_PER_PAGE]]
        for row in _shown(database, page, at):
            rows.append(failure(row, row.titled, row.enrichment_error, policy.verdict(row.status, at.recorded_at)))
    return FailedPage(count.total(), rows)


def history(database: Database, enrichment: str, job_id: str, at: AsOf) -> Document:
    """The events that a posting had, oldest first. Raises `UnknownJob` when there is neither posting nor event."""
    stream_id = stream_of(enrichment, job_id)
    events = read_stream(database, stream_id, at.position)
    if not events and not read_stream(database, stream_id):
        find_posting(database, job_id)
    return told_history(job_id, events)


def _counting(events: Iterable[Recorded], progress: Notice) -> Iterator[Recorded]:
    """The events, told of a thousand at a time."""
    for number, event in enumerate(events, 1):
        yield event
        if number % 1_000 == 0:
            progress(1_000)


def _statuses(database: Database, enrichment: str, at: AsOf, progress: Notice) -> Iterator[tuple[str, Status]]:
    events = walk_events(database, enrichment, at.position)
    return states(enrichment_status.projection, _counting(events, progress))


class _Failure(NamedTuple):
    """A failed posting, in the order in which they are shown: newest first, then by the name of the stream."""

    newest_first: timedelta
    stream_id: str
    status: Status


def _failures(
    database: Database, enrichment: str, selection: Selection, at: AsOf, count: Counter[str], progress: Notice
) -> Iterator[_Failure]:
    """The failures that are meant, each counted on the way."""
    for stream_id, one in _statuses(database, enrichment, at, progress):
        if selection.has(one) and one.completed_at is not None:
            count["failed"] += 1
            yield _Failure(EPOCH - one.completed_at, stream_id, one)


class _Shown(NamedTuple):
    """What a failure is told of."""

    job_id: str
    titled: Titled
    error_type: str | None
    enrichment_error: str | None
    completed_at: datetime | None
    attempts: int
    due_at: datetime | None
    status: Status


def _shown(database: Database, page: Sequence[tuple[str, Status]], at: AsOf) -> list[_Shown]:
    """These failures with their messages, and with what their postings say today."""
    events = walk_streams(database, [stream_id for stream_id, _ in page], at.position, content=True)
    messages = {stream_id: one.error for stream_id, one in states(llm_enrichment.projection, events)}
    ids = {stream_id: split_stream(stream_id)[1] for stream_id, _ in page}
    with database.read() as connection:
        titles = find_titles(connection, database, list(ids.values()))
    return [
        _Shown(
            ids[stream_id], titles[ids[stream_id]], one.error_type, messages[stream_id],
            one.completed_at, one.attempts, one.due_at, one,
        )
        for stream_id, one in page
    ]  # fmt: skip
