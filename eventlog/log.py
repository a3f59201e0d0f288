"""The log itself: append events, and read them back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import orjson
from sqlalchemy import Connection, RowMapping, Select, func, select

from eventlog.chain import GENESIS, Sealed, link, seal
from eventlog.database import Database
from eventlog.dialects import Dialect, Head
from eventlog.errors import Conflict
from eventlog.events import Event
from eventlog.schema import events
from eventlog.timed import timed
from eventlog.upcasting import read

PAGE = 1_000


class Proposal(NamedTuple):
    """An event that someone wants appended. Offered twice under the same event id it is stored once."""

    stream_id: str
    event: Event
    event_id: str
    expected_version: int | None = None


class Decided(NamedTuple):
    """An event that will be appended: sealed, with its version, and not yet with its position.

    Facts and content are read back from the sealed text, so that a fold sees now what a rebuild will see later.
    """

    stream_id: str
    version: int
    event_id: str
    type: str
    facts: dict[str, Any]
    content: dict[str, Any] | None
    sealed: Sealed


class Recorded(NamedTuple):
    """An event of the log, in today's schema version."""

    position: int
    event_id: str
    stream_id: str
    version: int
    type: str
    recorded_at: datetime
    facts: dict[str, Any]
    content: dict[str, Any] | None


class Appended(NamedTuple):
    """The acknowledgement: where the event stands in the log, and as what it was recorded."""

    stream_id: str
    position: int
    version: int
    type: str
    recorded_at: datetime


Outcome = Appended | Conflict


class Streams(Protocol):
    """The streams of one append, held so that nobody else can append to them."""

    def __contains__(self, stream_id: str) -> bool: ...

    def version(self, stream_id: str) -> int: ...

    def decide(self, stream_id: str, event: Event) -> Event:
        """What is to be recorded for this event as the stream stands. Raises `Conflict`."""
        ...

    def fold(self, decided: Decided) -> None: ...

    def write(self, connection: Connection) -> None: ...

    def settle(self, connection: Connection, recorded: Sequence[Recorded]) -> None: ...


class Inline(Protocol):
    """What moves in the same transaction as the log: read models whose rows are also the locks of their streams."""

    def hold(self, connection: Connection, proposals: Sequence[Proposal]) -> Streams: ...


def append(
    connection: Connection, dialect: Dialect, proposals: Sequence[Proposal], inline: Inline | None = None
) -> list[Outcome]:
    """Append events in one short transaction, the caller's. The only place that does.

    Returns one outcome for each proposal, in order: a `Conflict` is a value here, so that in a batch it reaches its
    own caller and nobody else. Raises `NotAppended` and what the database raises; then nothing of the transaction may
    be committed.
    """
    streams = (inline or LogAlone()).hold(connection, proposals)  # 1. lock the rows of the streams
    held = [proposal for proposal in proposals if proposal.stream_id in streams]
    free = [proposal for proposal in proposals if proposal.stream_id not in streams]
    batch = _Batch(connection, dialect)
    if held:
        batch.decide(streams, held)  # by their state
        streams.write(connection)  # 2. their read models
    head = dialect.lock_log(connection)  # 3. the log lock, and where the log ends under it
    if free:
        batch.decide(_FreeStreams(_find_versions(connection, dialect, free)), free, head.now)
    recorded = batch.record(head)  # 4. number, chain, insert
    streams.settle(connection, recorded)  # 5. rows that span streams: never before the log lock
    return [batch.outcomes[proposal.event_id] for proposal in proposals]


class _Batch:
    """The proposals of one append on their way into the log."""

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        self._connection, self._dialect = connection, dialect
        self._decided: dict[str, Decided] = {}
        self.outcomes: dict[str, Outcome] = {}

    def decide(self, streams: Streams, proposals: Sequence[Proposal], now: datetime | None = None) -> None:
        """Drop what is known already, give the rest its version and time, or a conflict.

        The time, unless it is given, is read under the locks of these streams: within one it does not run backwards.
        """
        asked, known = _find_known(self._connection, self._dialect, [proposal.event_id for proposal in proposals])
        now, self.outcomes = now or asked, self.outcomes | known
        for proposal in proposals:
            if proposal.event_id in self.outcomes or proposal.event_id in self._decided:
                continue
            try:
                decided = _decide(streams, proposal, now)
            except Conflict as conflict:
                self.outcomes[proposal.event_id] = conflict
            else:
                streams.fold(decided)
                self._decided[decided.event_id] = decided

    def record(self, head: Head) -> list[Recorded]:
        """Number, chain and insert what was decided."""
        decided = list(self._decided.values())
        rows = _chain(decided, head)
        if rows:
            self._dialect.insert_events(self._connection, rows)
        recorded = [
            Recorded(row[0], one.event_id, one.stream_id, one.version, one.type, head.now, one.facts, one.content)
            for row, one in zip(rows, decided, strict=True)
        ]
        for one in recorded:
            self.outcomes[one.event_id] = Appended(one.stream_id, one.position, one.version, one.type, head.now)
        return recorded


def _decide(streams: Streams, proposal: Proposal, now: datetime) -> Decided:
    stream_id, version = proposal.stream_id, streams.version(proposal.stream_id)
    if proposal.expected_version not in (None, version):
        raise Conflict(stream_id=stream_id, reason=f"it is at version {version}, expected {proposal.expected_version}")
    event = streams.decide(stream_id, proposal.event)
    kind = type(event).__name__
    sealed = seal(proposal.event_id, stream_id, version + 1, kind, event.payload(now))
    content = None if sealed.content is None else orjson.loads(sealed.content)
    return Decided(stream_id, version + 1, proposal.event_id, kind, orjson.loads(sealed.facts), content, sealed)


def _chain(decided: Sequence[Decided], head: Head) -> list[tuple[Any, ...]]:
    rows, previous = [], head.hash or GENESIS
    for position, one in enumerate(decided, head.position + 1):
        event_id, stream_id, version, part, kind, facts, *content, digest = one.sealed
        previous = link(previous, position, head.now, event_id, stream_id, version, kind, facts, digest)
        rows.append((position, event_id, stream_id, version, part, kind, head.now, facts, *content, digest, previous))
    return rows


class _Lookups(NamedTuple):
    """What an append looks up."""

    known: Select[Any]
    versions: Select[Any]


@lru_cache(maxsize=8)  # to build and recognise a statement costs as much as to run it
def _lookups(dialect: Dialect) -> _Lookups:
    columns = [events.c[name] for name in ("event_id", *Appended._fields)]
    versions = select(events.c.stream_id, func.max(events.c.version)).group_by(events.c.stream_id)
    return _Lookups(
        timed(dialect, columns, dialect.among(events.c.event_id, "event_ids")),
        versions.where(dialect.among(events.c.stream_id, "streams")),
    )


def _find_known(
    connection: Connection, dialect: Dialect, event_ids: Sequence[str]
) -> tuple[datetime, dict[str, Outcome]]:
    """The time, and what is known of these."""
    found = connection.execute(_lookups(dialect).known, {"event_ids": event_ids}).all()
    known: dict[str, Outcome] = {row.event_id: Appended(*row[2:]) for row in found if row.event_id is not None}
    return found[0].now, known


def _find_versions(connection: Connection, dialect: Dialect, proposals: Sequence[Proposal]) -> dict[str, int]:
    names = list({proposal.stream_id for proposal in proposals})
    versions: dict[str, int] = dict(connection.execute(_lookups(dialect).versions, {"streams": names}).all())
    return versions


class _FreeStreams:
    """Streams that no row stands for: they are decided under the log lock, which then is their lock."""

    def __init__(self, versions: dict[str, int]) -> None:
        self._versions = versions

    def __contains__(self, stream_id: str) -> bool:
        return False

    def version(self, stream_id: str) -> int:
        return self._versions.get(stream_id, 0)

    def decide(self, stream_id: str, event: Event) -> Event:
        return event

    def fold(self, decided: Decided) -> None:
        self._versions[decided.stream_id] = decided.version

    def write(self, connection: Connection) -> None:
        """There is nothing to write."""

    def settle(self, connection: Connection, recorded: Sequence[Recorded]) -> None:
        """There is nothing to settle."""


class LogAlone:
    """No read models: every stream is free."""

    def hold(self, connection: Connection, proposals: Sequence[Proposal]) -> Streams:
        return _FreeStreams({})


def read_log(
    database: Database, after: int = 0, page: int = PAGE, until: int | None = None
) -> Iterator[list[Recorded]]:
    """The log in order of position, in pages; without `until` what is appended meanwhile is read too."""
    while True:
        later = _up_to(until, select(events).where(events.c.position > after))
        found = read_page(database, later.order_by(events.c.position).limit(page))
        if not found:
            return
        yield found
        after = found[-1].position


def read_stream(database: Database, stream_id: str, until: int | None = None) -> list[Recorded]:
    """All events of one stream, or those up to a position, oldest first; empty when there is no such stream."""
    of_stream = select(events).where(events.c.stream_id == stream_id).order_by(events.c.version)
    return read_page(database, _up_to(until, of_stream))


def _up_to(until: int | None, query: Select[Any]) -> Select[Any]:
    return query if until is None else query.where(events.c.position <= until)


def read_page(database: Database, query: Select[Any]) -> list[Recorded]:
    """The events that a query over the `events` table finds."""
    return [recorded(row._mapping) for row in database.page(query)]


def recorded(row: RowMapping) -> Recorded:
    """A row of the `events` table as an event in today's version. Raises `UnknownEventType` and `Unfoldable`."""
    facts, content = read(row["type"], row["facts"], row["content"], row["position"])
    header = [row[name] for name in Recorded._fields[:-2]]
    return Recorded._make([*header, facts, content])


def head_position(connection: Connection) -> int:
    """The position of the newest event; 0 for an empty log."""
    position: int = connection.execute(select(func.coalesce(func.max(events.c.position), 0))).scalar_one()
    return position
