"""Rebuild and verify are one walk: fold the log stream by stream, compare with the live rows, write what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, exists, func, select

from eventlog.database import Database
from eventlog.log import Recorded, recorded
from eventlog.schema import events
from projections import enrichment_status
from projections.drift import EXAMPLES, Difference, Drift, difference
from projections.projection import Projection, Row

Gone = Callable[[Connection, Iterable[str]], set[str]]
"""Finds the streams whose postings were deleted: a row of the users' that went with its posting is not missing."""

STREAMS_PER_PAGE = 500


class _Page(NamedTuple):
    """Some streams as they are at one moment: their events, their live rows, and which the users' table lacks."""

    events: dict[str, list[Recorded]]
    live: dict[str, Row]
    marked: set[str]


def none_gone(connection: Connection, streams: Iterable[str]) -> set[str]:
    """No posting was deleted."""
    return set()


def reconcile(
    database: Database,
    projection: Projection[Any],
    *,
    write: bool,
    streams: Sequence[str] | None = None,
    gone: Gone = none_gone,
    progress: Callable[[int], None] = lambda events: None,
) -> Drift:
    """Compare a projection with the log, and with `write` make its rows equal; readers never see less than before.

    `streams` limits it to these. `progress` is called with the number of events of each page. A row that no event
    explains is reported; it is removed from our own table and never from the users'.
    """
    drift = Drift(projection.name)
    for names in _names(database, streams):
        page = _read_page(database, projection, names)
        folded = {stream_id: _folded(projection, stream_id, events) for stream_id, events in page.events.items()}
        left = _find_gone(database, folded, page.live, gone) if projection.is_users else set()
        differences = _compare({one: row for one, row in folded.items() if one not in left}, page.live)
        drift.note(differences, gone=len(left))
        differing = page.marked.union(one.stream_id for one in differences)
        if write and differing:
            _mend(database, projection, sorted(differing), left, drift)
        count = sum(map(len, page.events.values()))
        drift.streams += len(page.events)
        drift.events += count
        progress(count)
    if streams is None:
        _report_unexplained(database, projection, drift, write=write)
    return drift


def not_shown(database: Database) -> dict[str, str]:
    """The streams that the users' table does not show, each with the database's reason."""
    table = enrichment_status.enrichment_status.c
    query = select(table.stream_id, table.projection_error).where(table.projection_error.is_not(None))
    return {str(stream_id): str(reason) for stream_id, reason in database.page(query.order_by(table.stream_id))}


def _names(database: Database, streams: Sequence[str] | None) -> Iterator[Sequence[str]]:
    """The streams, a page at a time: these, or all that have rows of their own."""
    if streams is not None:
        yield from (streams[start : start + STREAMS_PER_PAGE] for start in range(0, len(streams), STREAMS_PER_PAGE))
        return
    name = events.c.stream_id
    query = select(name).distinct().where(~name.startswith("$")).order_by(name).limit(STREAMS_PER_PAGE)
    after = ""
    while found := [row.stream_id for row in database.page(query.where(name > after))]:
        yield found
        after = found[-1]


def _read_page(database: Database, projection: Projection[Any], names: Sequence[str]) -> _Page:
    with database.read() as connection:
        database.dialect.see_one_moment(connection)  # else an append between two statements looks like a difference
        marked = enrichment_status.marked(connection, names) if projection.is_users else set()
        return _Page(_read(connection, names), projection.load(connection, names), marked)


def _find_gone(database: Database, folded: Mapping[str, Row | None], live: Mapping[str, Row], gone: Gone) -> set[str]:
    absent = [stream_id for stream_id, row in folded.items() if row is not None and stream_id not in live]
    if not absent:
        return set()
    with database.read() as connection:
        return gone(connection, absent)


def _compare(folded: Mapping[str, Row | None], live: Mapping[str, Row]) -> list[Difference]:
    return [d for stream_id, row in folded.items() if (d := difference(stream_id, live.get(stream_id), row))]


def _read(connection: Connection, streams: Sequence[str]) -> dict[str, list[Recorded]]:
    query = select(events).where(events.c.stream_id.in_(streams)).order_by(events.c.stream_id, events.c.version)
    rows = [recorded(row._mapping) for row in connection.execute(query)]
    return {stream_id: list(group) for stream_id, group in groupby(rows, lambda event: event.stream_id)}


def _folded(projection: Projection[Any], stream_id: str, events: Sequence[Recorded]) -> Row | None:
    state = projection.initial
    for event in events:
        state = projection.fold(state, event)
    return projection.row(stream_id, state)


def _mend(
    database: Database, projection: Projection[Any], streams: Sequence[str], gone: set[str], drift: Drift
) -> None:
    """Write the rows of these streams under their locks, folded anew from what the log holds by then."""
    with database.write() as connection:
        enrichment_status.insert_missing(connection, database.dialect, streams)
        held = enrichment_status.lock(connection, streams)
        current = _read(connection, streams)  # a new statement: it sees what came before the lock
        here = {one: events for one, events in current.items() if one not in gone}
        rows = {one: row for one, events in here.items() if (row := _folded(projection, one, events)) is not None}
        lost = [one for one in current if not held[one]["version"]]  # their status rows are new here, and still empty
        statuses = {one: _folded(enrichment_status.projection, one, current[one]) for one in lost}
        enrichment_status.write(connection, database.dialect, [row for row in statuses.values() if row is not None])
        refused = projection.store(connection, database.dialect, rows)
        if projection.is_users:
            enrichment_status.mark(connection, {stream_id: refused.get(stream_id) for stream_id in current})
    drift.refused |= refused
    drift.written += len(rows) - len(refused)


def _report_unexplained(database: Database, projection: Projection[Any], drift: Drift, *, write: bool) -> None:
    """Rows of streams that the log does not have."""
    table, name, ours = projection.table, projection.stream, not projection.is_users
    orphans = ~exists(select(events.c.position).where(events.c.stream_id == name))
    count = database.page(select(func.count()).select_from(table).where(orphans))[0][0]
    first = database.page(select(name).where(orphans).order_by(name).limit(EXAMPLES))
    drift.note_unexplained([row[0] for row in first], count)
    if write and ours and count:
        with database.write() as connection:  # locked first: by a new statement, what an append brought is seen
            connection.execute(select(table).where(orphans).with_for_update())
            connection.execute(delete(table).where(orphans))
