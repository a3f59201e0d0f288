"""Pages of streams with their live rows, each as both are at one moment: what a rebuild and a check compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from eventlog.database import Database
from eventlog.log import head_position
from projections import enrichment_status
from projections.pages import FIRST, Page, Share, read_page, read_streams, reads_content
from projections.projection import Projection, Row

EVENTS_PER_PAGE = 5_000
STREAMS_PER_PAGE = 500


class Moment(NamedTuple):
    """A page, the live rows of its streams by projection, and which of them a users' table has refused."""

    page: Page
    live: Mapping[str, Mapping[str, Row]]
    marked: set[str]


class Reader:
    """Reads pages of streams together with their live rows."""

    def __init__(self, database: Database, projections: Sequence[Projection[Any]]) -> None:
        self._database, self._projections = database, projections
        self._with_content = reads_content(projections)

    def all(self, share: Share, after: str = FIRST) -> Iterator[Moment]:
        """The streams of a share in the order of their names, from behind one on."""
        head, size, is_last = None, EVENTS_PER_PAGE, False
        while not is_last:
            page, *_ = moment = self._read(self._next(after, share, size))
            size = self._size(others_append=head not in (None, page.head))
            head, is_last = page.head, page.is_last
            if page.streams:
                yield moment
                after = next(reversed(page.streams))

    def named(self, streams: Sequence[str]) -> Iterator[Moment]:
        """These streams, as far as there are any events of them."""
        for start in range(0, len(streams), STREAMS_PER_PAGE):
            moment = self._read(self._these(streams[start : start + STREAMS_PER_PAGE]))
            if moment.page.streams:
                yield moment

    def _size(self, *, others_append: bool) -> int:
        """Of how many events the next page is: who appends must not wait for the rows of many."""
        most = self._database.dialect.events_together if others_append else None
        return min(EVENTS_PER_PAGE, most or EVENTS_PER_PAGE)

    def _next(self, after: str, share: Share, size: int) -> Callable[[Connection], Page]:
        return lambda connection: read_page(connection, after, share, with_content=self._with_content, size=size)

    def _these(self, names: Sequence[str]) -> Callable[[Connection], Page]:
        return lambda connection: Page(
            head_position(connection), read_streams(connection, names, with_content=self._with_content)
        )

    def _read(self, read: Callable[[Connection], Page]) -> Moment:
        with self._database.read() as connection:
            dialect = self._database.dialect
            dialect.see_one_moment(connection)  # else an append between two statements looks like a difference
            page = read(connection)
            names = list(page.streams)
            live = {one.name: one.load(connection, dialect, names) for one in self._projections}
            has_users = any(one.is_users for one in self._projections)
            return Moment(page, live, enrichment_status.marked(connection, dialect, names) if has_users else set())
