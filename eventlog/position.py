"""Where the log stood at a moment: the last position recorded by then."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from eventlog.database import Database
from eventlog.errors import LogUnsound
from eventlog.faults import MISSING
from eventlog.log import head_position
from eventlog.schema import events


def last_by(database: Database, moment: datetime) -> int:
    """The last position recorded by a moment, 0 when there is none: all up to there is what the log was by then.

    Looked for from the head backwards, since a clock that was set back has left later times before earlier ones.
    """
    recorded = select(events.c.position).where(events.c.recorded_at <= moment)
    latest = recorded.order_by(events.c.position.desc()).limit(1)
    last = head(database)
    together = database.dialect.rows_together or last
    while last > 0:
        found = database.page(latest.where(events.c.position.between(last - together + 1, last)))
        if found:
            return int(found[0].position)
        last -= together
    return 0


def head(database: Database) -> int:
    """The position of the newest event, 0 for an empty log; in a transaction of its own."""
    with database.read() as connection:
        return head_position(connection)


def recorded_at(database: Database, position: int) -> datetime:
    """When the event of a position up to the head was recorded. Raises `LogUnsound` when it is missing."""
    found = database.page(select(events.c.recorded_at).where(events.c.position == position))
    if not found:
        raise LogUnsound(position=position, reason=MISSING)
    moment: datetime = found[0].recorded_at
    return moment
