"""All streams of one category, walked one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, groupby

from sqlalchemy import null, select, tuple_

from eventlog.database import Database
from eventlog.log import PAGE, Recorded, read_page
from eventlog.schema import events
from eventlog.streams import bounds


def walk(database: Database, category: str, until: int, page: int = PAGE) -> Iterator[tuple[str, list[Recorded]]]:
    """Each stream of a category with its events up to this position, without their content; in the order of names.

    Read a page of events at a time, so that memory holds a page and the longest stream.
    """
    told = chain.from_iterable(_pages(database, category, until, page))
    for stream_id, group in groupby(told, lambda event: event.stream_id):
        yield stream_id, list(group)


def _pages(database: Database, category: str, until: int, page: int) -> Iterator[list[Recorded]]:
    (first, behind), name = bounds(category), events.c.stream_id
    columns = [column for column in events.c if column.name in Recorded._fields and column.name != "content"]
    query = select(*columns, null().label("content")).where(name < behind, events.c.position <= until)
    place, after = tuple_(name, events.c.version), (first, 0)
    query = query.order_by(name, events.c.version).limit(page)
    while found := read_page(database, query.where(place > after)):
        yield found
        after = (found[-1].stream_id, found[-1].version)
