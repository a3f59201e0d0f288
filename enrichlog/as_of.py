"""As of when: a position of the log, given as such or as a time, and checked."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from enrichlog.exceptions import BeforeTheLog, BeyondTheHead, EmptyLog, NoPosition, WrongOrder, YetToCome
from enrichlog.moments import told_exactly
from eventlog import position
from eventlog.database import Database
from eventlog.events import iso


class AsOf(NamedTuple):
    """A position of the log, and when that event was recorded: what is told is what the log was up to there."""

    position: int
    recorded_at: datetime

    def document(self) -> dict[str, Any]:
        """As documents for scripts have it."""
        return {"position": self.position, "recorded_at": iso(self.recorded_at)}


def as_of(database: Database, asked: int | datetime | None) -> AsOf:
    """The position asked for, or the last that was recorded by a time; None asks for the head.

    Raises `EmptyLog`, `NoPosition`, `BeyondTheHead`, `YetToCome`, `BeforeTheLog`, and `LogUnsound` when it is missing.
    """
    head = position.head(database)
    if not head:
        raise EmptyLog
    found = _position(database, asked, head) if asked is not None else head
    return AsOf(found, position.recorded_at(database, found))


def span(database: Database, start: int | datetime, end: int | datetime | None) -> tuple[AsOf, AsOf]:
    """Two positions of which the one is not after the other. Raises `WrongOrder` and what `as_of` raises."""
    first, last = as_of(database, start), as_of(database, end)
    if first.position > last.position:
        raise WrongOrder(start=first.position, end=last.position)
    return first, last


def _position(database: Database, asked: int | datetime, head: int) -> int:
    if isinstance(asked, datetime):
        return _by(database, asked)
    if asked < 1:
        raise NoPosition(position=asked, head=head)
    if asked > head:
        raise BeyondTheHead(position=asked, head=head)
    return asked


def _by(database: Database, moment: datetime) -> int:
    now = database.now()
    if moment > now:
        raise YetToCome(time=told_exactly(moment), now=told_exactly(now))
    found = position.last_by(database, moment)
    if not found:
        raise BeforeTheLog(time=told_exactly(moment), begins=told_exactly(position.recorded_at(database, 1)))
    return found
