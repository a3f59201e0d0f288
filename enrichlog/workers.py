"""The workers there are: one row for each, kept by itself, of what it does and when it was last seen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import CheckConstraint, Column, Integer, Table, Text, and_, delete, func, or_, select

from enrichlog.enrichment import Enrichment
from enrichlog.exceptions import NameElsewhere
from enrichlog.moments import told_moment
from enrichlog.worker_name import WorkerName, host_name
from eventlog.database import Database
from eventlog.events import iso
from eventlog.schema import OURS, Key, UtcDateTime, metadata

LIVE_SECONDS = 30
"""A worker that was seen within this is alive: three of its heartbeats."""

GONE_SECONDS = 60
"""Of a worker on another machine nobody can tell that it is dead; seen longer ago than this, its name can be taken."""

FORGOTTEN = timedelta(days=7)
STATES = ("starting", "idle", "working", "waiting", "away", "draining")
UNREADY = {
    "starting": "it has not claimed anything yet",
    "away": "it does not reach the database",
    "draining": "it is ending",
}

workers = Table(
    "workers",
    metadata,
    Column("name", Key, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("place", Text, nullable=False),
    Column("enrichment", Key, nullable=False),
    Column("request_model", Text, nullable=False),
    Column("prompt_hash", Text, nullable=False),
    Column("schema_hash", Text, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("last_seen", UtcDateTime, nullable=False),
    CheckConstraint(f"state IN ({', '.join(map(repr, STATES))})", name="workers_state"),
    schema=OURS,
)


class Registration(NamedTuple):
    """What a worker is, for as long as it lives."""

    name: str
    host: str
    pid: int
    place: str
    enrichment: str
    request_model: str
    prompt_hash: str
    schema_hash: str
    concurrency: int


def registration(held: WorkerName, enrichment: Enrichment, concurrency: int) -> Registration:
    """What this process is as a worker of that name."""
    rests_on = (enrichment.model, enrichment.prompt.hash, enrichment.schema_hash)
    return Registration(held.name, host_name(), os.getpid(), held.place, enrichment.name, *rests_on, concurrency)


class Registered(NamedTuple):
    """A worker that has its row: since when, and whether the row was that of one here, which is proven dead then."""

    since: datetime
    came_back: bool


def register(database: Database, worker: Registration) -> Registered:
    """Enter a worker whose name is held. Raises `NameElsewhere` when one of that name may be alive on another machine.

    Rows of workers that nobody has seen for days are removed.
    """
    with database.write() as connection:
        now = database.dialect.clock(connection)
        connection.execute(delete(workers).where(workers.c.last_seen < now - FORGOTTEN))
        former = connection.execute(select(workers).where(workers.c.name == worker.name)).one_or_none()
    beat(database, worker, now, "starting", 0)
    is_ours = former is not None and (former.place, former.host) == (worker.place, worker.host)
    return Registered(now, is_ours)


def beat(database: Database, worker: Registration, since: datetime, state: str, in_flight: int) -> None:
    """Write what a worker is doing, and that it was seen. Raises `NameElsewhere` when another has taken its name."""
    with database.write() as connection:
        now = database.dialect.clock(connection)
        seen = {"state": state, "in_flight": in_flight, "since": since, "last_seen": now}
        entry = database.dialect.insert(workers).values(**worker._asdict(), **seen)
        is_own = and_(workers.c.place == entry.excluded.place, workers.c.host == entry.excluded.host)
        is_gone = workers.c.last_seen < now - timedelta(seconds=GONE_SECONDS)
        changes = {column.name: entry.excluded[column.name] for column in workers.c if column.name != "name"}
        entry = entry.on_conflict_do_update(index_elements=["name"], set_=changes, where=or_(is_own, is_gone))
        if connection.execute(entry.returning(workers.c.name)).first() is None:
            other = connection.execute(select(workers).where(workers.c.name == worker.name)).one()
            last_seen = told_moment(other.last_seen)
            raise NameElsewhere(name=worker.name, host=other.host, last_seen=last_seen, seconds=GONE_SECONDS)


def leave(database: Database, worker: Registration) -> None:
    """Remove the row of a worker that ends, if it is still its own."""
    own = and_(workers.c.name == worker.name, workers.c.place == worker.place, workers.c.host == worker.host)
    with database.write() as connection:
        connection.execute(delete(workers).where(own))


class Seen(NamedTuple):
    """A worker as its row tells, the database's time at which it was read, and whether it is known to have ended."""

    row: Any
    now: datetime
    has_ended: bool = False

    @property
    def is_live(self) -> bool:
        """Whether it was seen just now, and has not ended since."""
        return not self.has_ended and bool(self.now - self.row.last_seen <= timedelta(seconds=LIVE_SECONDS))

    @property
    def why_unready(self) -> str | None:
        """Why it is not to be counted on; None when it is."""
        if self.has_ended:
            return "its process has ended"
        if not self.is_live:
            return f"it was last seen {told_moment(self.row.last_seen)}"
        return UNREADY.get(self.row.state)

    def document(self) -> dict[str, Any]:
        """The worker for scripts."""
        told = {name: value for name, value in self.row._mapping.items() if name != "place"}
        times = {name: iso(told[name]) for name in ("since", "last_seen")}
        return {**told, **times, "live": self.is_live, "ready": self.why_unready is None}


def list_workers(database: Database, enrichment: str | None = None) -> list[Seen]:
    """The workers, of one enrichment or all, by name."""
    query = select(workers).order_by(workers.c.name)
    with database.read() as connection:
        now = database.dialect.clock(connection)
        found = [Seen(row, now) for row in connection.execute(query)]
    return [one for one in found if enrichment in (None, one.row.enrichment)]


def count_live(database: Database) -> int:
    """How many workers were seen just now, of all enrichments."""
    with database.read() as connection:
        since = database.dialect.clock(connection) - timedelta(seconds=LIVE_SECONDS)
        query = select(func.count()).select_from(workers).where(workers.c.last_seen >= since)
        return int(connection.execute(query).scalar_one())


CONFIGURED = {"request_model": "model", "prompt_hash": "prompt", "schema_hash": "schema"}
"""The columns in which workers may be told different things, and what people call those."""


def differing(found: Sequence[Seen]) -> dict[str, dict[str, list[str]]]:
    """In what live workers of one enrichment differ: column -> value -> the names of those that have it."""
    told = {}
    for column in CONFIGURED:
        names: dict[str, list[str]] = {}
        for one in found:
            if one.is_live:
                names.setdefault(getattr(one.row, column), []).append(one.row.name)
        if len(names) > 1:
            told[column] = names
    return told


def document(found: Sequence[Seen]) -> dict[str, Any]:
    """The workers for scripts, and in what they differ."""
    return {"workers": [one.document() for one in found], "workers_differ": differing(found)}
