"""All streams of one category up to a position, walked one after the other, or those that a part of the log touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from sqlalchemy import ColumnElement, Select, and_, case, exists, null, or_, select, tuple_

from eventlog.database import Database
from eventlog.log import PAGE, Recorded, recorded
from eventlog.schema import events
from eventlog.streams import bounds

Place = tuple[str, int]
"""A stream and a version of it: where a page has ended."""

_HEADER = [column for column in events.c if column.name in Recorded._fields[:-2]]


def walk(database: Database, category: str, until: int, page: int = PAGE) -> Iterator[tuple[str, list[Recorded]]]:
    """Each stream of a category with its events up to this position, without their content; in the order of names.

    Memory holds a page and the longest stream.
    """
    for stream_id, group in groupby(walk_events(database, category, until, page=page), lambda event: event.stream_id):
        yield stream_id, list(group)


def walk_events(
    database: Database, category: str, until: int, *, content: bool = False, page: int = PAGE
) -> Iterator[Recorded]:
    """The events of a category up to this position, stream by stream in the order of names; memory holds a page."""
    (first, behind), name = bounds(category), events.c.stream_id
    place = tuple_(name, events.c.version)
    yield from _walk(database, lambda after: and_(name < behind, place > after), (first, 0), until, content, page)


def walk_streams(
    database: Database, streams: Sequence[str], until: int, *, content: bool = False, page: int = PAGE
) -> Iterator[Recorded]:
    """The same of these streams alone, some hundreds at the most."""
    name, version = events.c.stream_id, events.c.version

    def behind(after: Place) -> ColumnElement[bool]:
        """Without the streams that are done: for each of those PostgreSQL would walk to the end of the index."""
        left = [one for one in streams if one >= after[0]]
        return and_(name.in_(left), or_(name > after[0], version > after[1]))

    yield from _walk(database, behind, ("", 0), until, content, page)


def touched(
    database: Database, category: str, after: int, until: int, page: int = PAGE,
    progress: Callable[[int], None] = lambda positions: None,
) -> Iterator[list[str]]:  # fmt: skip
    """The streams of a category with events behind one position and up to another, in pages; each of them once.

    A stream is told where its first event of that part of the log stands: memory holds a page, however long the part.
    `progress` is called with the number of positions of each page, once that is done with.
    """
    earlier, first = events.alias(), bounds(category)[0]
    is_not_first = exists().where(
        earlier.c.stream_id == events.c.stream_id,
        earlier.c.version == events.c.version - 1,
        earlier.c.position > after,
    )
    query = select(events.c.stream_id).where(~is_not_first).order_by(events.c.position)
    for start in range(after, until, page):
        end = min(start + page, until)
        found = database.page(query.where(events.c.position.between(start + 1, end)))
        # Told apart here: asked for both, PostgreSQL reads the whole category's index for each page.
        if names := [row.stream_id for row in found if row.stream_id.startswith(first)]:
            yield names
        progress(end - start)


def _walk(
    database: Database, behind: Callable[[Place], ColumnElement[bool]], after: Place, until: int, content: bool,
    page: int,
) -> Iterator[Recorded]:  # fmt: skip
    """Read so many rows at a time, later ones among them and passed over: a page stays short however few are wanted."""
    query = _query(until, content).order_by(events.c.stream_id, events.c.version).limit(page)
    while found := database.page(query.where(behind(after))):
        yield from (recorded(row._mapping) for row in found if row.position <= until)
        if len(found) < page:
            return
        after = (found[-1].stream_id, found[-1].version)


def _query(until: int, content: bool) -> Select[tuple[object, ...]]:
    is_wanted = events.c.position <= until
    facts = case((is_wanted, events.c.facts)).label("facts")
    text = case((is_wanted, events.c.content)).label("content") if content else null().label("content")
    return select(*_HEADER, facts, text)
