"""Attempts that nobody ended: begun, their leases run out, and no end in the log. Told by the log alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain, groupby
from typing import NamedTuple

from sqlalchemy import literal, select, tuple_

from eventlog.database import Database
from eventlog.events import EnrichmentFailed, EnrichmentStarted, EnrichmentSucceeded
from eventlog.folding import fold_all
from eventlog.log import PAGE, Recorded
from eventlog.schema import events
from projections.spanning import WITHOUT_CONTENT, facts_only

EXAMPLES = 5
REMEDY = "The next enrich or worker closes them."

_START = EnrichmentStarted.__name__
_TYPES = [kind.__name__ for kind in (EnrichmentStarted, EnrichmentSucceeded, EnrichmentFailed)]


class OpenAttempt(NamedTuple):
    """An attempt without an end, and until when it was leased."""

    stream_id: str
    position: int
    attempt_id: str
    worker: str
    leased_until: datetime


class Abandoned(NamedTuple):
    """How many attempts nobody ended, and the first of them in the order of their streams."""

    total: int
    examples: list[OpenAttempt]


def find_abandoned(database: Database, progress: Callable[[int], None] = lambda events: None) -> Abandoned:
    """The attempts without an end whose leases have run out by the database's clock.

    Read stream by stream, so that memory holds a page and the attempts of one stream. `progress` is called with the
    number of events of each page. Raises `UnknownEventType` and `Unfoldable`.
    """
    now, found = database.now(), Abandoned(0, [])
    told = chain.from_iterable(_pages(database, progress))
    for _, stream in groupby(told, lambda event: event.stream_id):
        over = [one for start in open_starts(stream) if (one := _attempt(start)).leased_until <= now]
        found = Abandoned(found.total + len(over), [*found.examples, *over[: EXAMPLES - len(found.examples)]])
    return found


def open_starts(events: Iterable[Recorded]) -> list[Recorded]:
    """The starts among the events of one stream that no end is of. A late result is none: its attempt has ended."""
    return list(fold_all(_fold, dict[str, Recorded](), events).values())


def _fold(started: dict[str, Recorded], event: Recorded) -> dict[str, Recorded]:
    if event.type == _START:
        started[event.facts["attempt_id"]] = event
    elif event.type in _TYPES:
        started.pop(event.facts["attempt_id"], None)
    return started


def _attempt(start: Recorded) -> OpenAttempt:
    until = start.recorded_at + timedelta(seconds=start.facts["lease_seconds"])
    return OpenAttempt(start.stream_id, start.position, start.facts["attempt_id"], start.facts["worker"], until)


def _pages(database: Database, progress: Callable[[int], None]) -> Iterator[list[Recorded]]:
    place = tuple_(events.c.stream_id, events.c.version)
    query = select(*WITHOUT_CONTENT).order_by(*place).limit(PAGE)
    after = ("", 0)
    while rows := database.page(query.where(place > tuple_(*map(literal, after)))):
        yield [facts_only(row) for row in rows if row.type in _TYPES]  # not in SQL: it would go by the index of types
        progress(len(rows))
        after = (rows[-1].stream_id, rows[-1].version)
