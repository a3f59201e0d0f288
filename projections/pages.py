"""The streams of postings with all their events, a page at one moment: what a rebuild and a check walk over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, null, select, true

from eventlog.dialects import Dialect
from eventlog.folding import FOLD_ERRORS, fold_all
from eventlog.log import head_position
from eventlog.schema import PARTS, events
from eventlog.upcasting import read
from projections.projection import Projection, Row

FIRST = "%"
"""A name before those of all streams of postings, and behind those of operators, which begin with `$`."""


class Told(NamedTuple):
    """An event as a fold sees it, with its position for people; without content where no fold asks for that."""

    stream_id: str
    version: int
    type: str
    facts: dict[str, Any]
    content: dict[str, Any] | None
    position: int


class Share(NamedTuple):
    """The streams of one process of several: those whose part, divided by how many there are, leaves its number."""

    number: int = 0
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def is_mine(self) -> ColumnElement[bool]:
        """The condition on the `events` table: the parts by name, of which a planner knows how many rows they have."""
        return true() if self.of == 1 else events.c.part.in_(range(self.number, PARTS, self.of))


Streams = dict[str, list[Told]]


class Page:
    """Some streams, in the order of their names, each with all its events up to where the log stood.

    `is_last`: no stream comes after them.
    """

    def __init__(self, head: int, streams: Streams, *, is_last: bool = True) -> None:
        self.head, self.streams, self.is_last = head, streams, is_last
        self._rows: dict[str, dict[str, Row | None]] = {}

    @property
    def events(self) -> int:
        """How many events they have."""
        return sum(map(len, self.streams.values()))

    def rows(self, projection: Projection[Any]) -> dict[str, Row | None]:
        """The row that each stream folds to, folded once. Raises `Unfoldable`."""
        if projection.name not in self._rows:
            self._rows[projection.name] = _folded(projection, self.streams)
        return self._rows[projection.name]


def _folded(projection: Projection[Any], streams: Streams) -> dict[str, Row | None]:
    try:
        return {name: projection.row(name, projection.fold_all(story)) for name, story in streams.items()}
    except FOLD_ERRORS:
        for story in streams.values():  # one event after the other, to say which it is
            fold_all(projection.fold, projection.initial, story)
        raise


def reads_content(projections: Iterable[Projection[Any]]) -> bool:
    """Whether any of these needs more than facts."""
    return any(projection.reads_content for projection in projections)


def read_page(connection: Connection, after: str, share: Share, *, with_content: bool, size: int) -> Page:
    """The next streams, about as many as have so many events; at least one, while there is any."""
    query = _in_order(with_content).where(events.c.stream_id > after, share.is_mine)
    rows = _fetched(connection, query.limit(size))
    streams = _by_stream(rows)
    is_last = len(rows) < size
    if not is_last:  # the last stream may have more events than were read
        last, _ = streams.popitem()
        if not streams:
            streams = read_streams(connection, [last], with_content=with_content)
    return Page(head_position(connection), streams, is_last=is_last)


def read_streams(connection: Connection, names: Sequence[str], *, with_content: bool) -> Streams:
    """These streams, as far as there are any events of them."""
    return _by_stream(_fetched(connection, _in_order(with_content).where(events.c.stream_id.in_(names))))


def find_moved(connection: Connection, dialect: Dialect, head: int, names: Sequence[str]) -> set[str]:
    """Those of these streams to which something was appended after that position."""
    query = select(events.c.stream_id).where(events.c.position > head, dialect.among(events.c.stream_id, "streams"))
    return set(connection.execute(query, {"streams": list(names)}).scalars())


def _in_order(with_content: bool) -> Select[Any]:
    content = events.c.content if with_content else null().label("content")
    columns = (events.c.stream_id, events.c.version, events.c.type, events.c.facts, content, events.c.position)
    return select(*columns).order_by(events.c.stream_id, events.c.version)


def _fetched(connection: Connection, query: Select[Any]) -> Sequence[Any]:
    """The rows of a query as the driver has them: these columns need nothing done to them, and there are many."""
    cursor = connection.execute(query).cursor
    return cursor.fetchall() if cursor else ()


def _by_stream(rows: Iterable[Any]) -> Streams:
    """The events of rows, in today's version. Raises `UnknownEventType` and `Unfoldable`."""
    streams: Streams = {}
    for stream_id, version, kind, facts, content, position in rows:
        payload = read(kind, facts, content, position)
        event = Told(stream_id, version, kind, payload.facts, payload.content, position)
        if stream_id in streams:
            streams[stream_id].append(event)
        else:
            streams[stream_id] = [event]
    return streams
