"""Rebuild and verify are one walk: fold the log stream by stream, compare with the live rows, write what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, exists, func, select

from eventlog.cycles import collecting_cycles_seldom
from eventlog.database import Database
from eventlog.log import PAGE
from eventlog.schema import events
from projections import enrichment_status
from projections.as_kept import without_what_the_table_changes
from projections.drift import EXAMPLES, Difference, Drift, difference
from projections.edits import find_edited
from projections.mending import Wanted, mend
from projections.moments import Moment, Reader
from projections.pages import FIRST, Page, Share
from projections.projection import Projection

Gone = Callable[[Connection, Database, Iterable[str]], set[str]]
"""Finds the streams whose postings were deleted: a row of the users' that went with its posting is not missing."""

WHOLE = Share()
NO_COLUMNS: frozenset[str] = frozenset()


def none_gone(connection: Connection, database: Database, streams: Iterable[str]) -> set[str]:
    """No posting was deleted."""
    return set()


def nothing(*_: object) -> None:
    """Nobody wants to know."""


class Walk(NamedTuple):
    """What a reconciliation is told: which streams, what it may write, and whom it tells how far it is.

    `streams` limits it to these, `share` to those of some parts, `after` to what comes after one. Columns that someone
    has corrected by hand are written only when it `overwrites` them. `progress` is called with the number of events of
    each page, `done` with the last stream of each once what differed there is written.
    """

    write: bool
    overwrites: bool = False
    streams: Sequence[str] | None = None
    share: Share = WHOLE
    after: str = FIRST
    gone: Gone = none_gone
    progress: Callable[[int], None] = nothing
    done: Callable[[str], None] = nothing


def reconcile(database: Database, projections: Sequence[Projection[Any]], walk: Walk) -> list[Drift]:
    """Compare projections with the log in one pass, and make their rows equal; readers never see less than before.

    A row that no event explains is reported; it is removed from our own tables and never from the users'. Raises
    `UnknownEventType` or `Unfoldable` at an event that this code cannot fold: what comes before is done.
    """
    drifts = [Drift(projection.name) for projection in projections]
    with collecting_cycles_seldom():
        _walk(database, projections, walk, drifts)
    if walk.streams is None and walk.share.number == 0:
        for projection, drift in zip(projections, drifts, strict=True):
            _report_extra(database, projection, drift, write=walk.write)
    return drifts


def _walk(database: Database, projections: Sequence[Projection[Any]], walk: Walk, drifts: Sequence[Drift]) -> None:
    reader = Reader(database, projections)
    for moment in reader.all(walk.share, walk.after) if walk.streams is None else reader.named(walk.streams):
        page, gone = moment.page, set[str]()
        for one in projections:
            gone |= _find_gone(database, one, moment, walk.gone)
        wanted = [
            _compare(database, one, moment, gone, drift, walk) for one, drift in zip(projections, drifts, strict=True)
        ]
        if walk.write and any(one.kept for one in wanted):
            _mend(database, page, wanted, gone, drifts)
        if not any(drift.refused for drift in drifts):  # what was refused is not done: whoever goes on begins with it
            walk.done(next(reversed(page.streams)))
        walk.progress(page.events)


def not_shown(database: Database) -> dict[str, str]:
    """The streams that the users' table does not show, each with the database's reason."""
    return dict(marks(database))


def marks(database: Database) -> Iterator[tuple[str, str]]:
    """The same one after the other, in the order of their names; memory holds a page."""
    table, after = enrichment_status.enrichment_status.c, ""
    query = select(table.stream_id, table.projection_error).where(table.projection_error.is_not(None))
    query = query.order_by(table.stream_id).limit(PAGE)
    while found := database.page(query.where(table.stream_id > after)):
        yield from ((row.stream_id, row.projection_error) for row in found)
        after = found[-1].stream_id


def _find_gone(database: Database, projection: Projection[Any], moment: Moment, gone: Gone) -> set[str]:
    """Of the streams whose rows the users' table lacks, those whose postings were deleted."""
    if not projection.is_users:
        return set()
    live = moment.live[projection.name]
    absent = [name for name, row in moment.page.rows(projection).items() if row is not None and name not in live]
    if not absent:
        return set()
    with database.read() as connection:
        return gone(connection, database, absent)


def _compare(
    database: Database, projection: Projection[Any], moment: Moment, gone: set[str], drift: Drift, walk: Walk
) -> Wanted:
    """Note what differs; what is to be written of it, with the columns that stay as somebody has corrected them."""
    rows, live = moment.page.rows(projection), moment.live[projection.name]
    left = gone if projection.is_users else set()
    pairs = ((name, projection.seen(live.get(name), row), row) for name, row in rows.items() if name not in left)
    found = [one for pair in pairs if (one := difference(*pair))]
    if projection.is_users and any(one.kind == "stale" for one in found):
        found, locked = without_what_the_table_changes(database, projection, found)
        drift.locked += len(locked)
    kept = dict.fromkeys(moment.marked, NO_COLUMNS) if projection.is_users else {}
    for place, one in enumerate(found):
        edited = _find_edited(projection, one, moment.page)
        if edited:
            found[place] = one._replace(kind="edited")
        if walk.overwrites and one.kind != "extra":
            kept[one.stream_id] = NO_COLUMNS
        elif one.kind == "missing" or (one.kind == "stale" and one.columns.keys() - edited):
            kept[one.stream_id] = edited
        elif one.stream_id in kept:  # all that differs was corrected: only the mark goes
            kept[one.stream_id] = frozenset(one.folded or ())
    drift.note(found, gone=len(left))
    drift.streams += len(rows)
    drift.events += moment.page.events
    return Wanted(projection, kept)


def _find_edited(projection: Projection[Any], found: Difference, page: Page) -> frozenset[str]:
    if not projection.is_users or found.kind != "stale":
        return NO_COLUMNS
    return find_edited(projection, found, page.streams[found.stream_id])


def _mend(database: Database, page: Page, wanted: Sequence[Wanted], gone: set[str], drifts: Sequence[Drift]) -> None:
    for drift, (written, refused) in zip(drifts, mend(database, page, wanted, gone), strict=True):
        drift.refused |= refused
        drift.written += written


def _report_extra(database: Database, projection: Projection[Any], drift: Drift, *, write: bool) -> None:
    """Rows of streams that the log does not have."""
    table, name, ours = projection.table, projection.stream, not projection.is_users
    orphans = projection.shows & ~exists(select(events.c.position).where(events.c.stream_id == name))
    count = database.page(select(func.count()).select_from(table).where(orphans))[0][0]
    first = database.page(select(name).where(orphans).order_by(name).limit(EXAMPLES)) if count else []
    drift.note_extra([row[0] for row in first], count)
    if write and ours and count:
        with database.write() as connection:  # locked first: by a new statement, what an append brought is seen
            connection.execute(select(table).where(orphans).with_for_update())
            connection.execute(delete(table).where(orphans))
