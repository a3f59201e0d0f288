"""Where rebuilds that were stopped had come to, so that the next one goes on there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select

from eventlog.database import Database
from projections.checkpoints import rebuilds
from projections.drift import Drift
from projections.pages import FIRST, Share
from projections.projection import Projection
from projections.reconcile import Walk, reconcile

LONGEST = timedelta(days=1)
"""After so long a rebuild begins anew: what it had compared may have been changed since."""

PAUSE_SECONDS = 2.0

_of = rebuilds.c


class Unfinished:
    """One share of a rebuild of some projections, told by name and version: how far it has come."""

    def __init__(
        self, database: Database, projections: str, share: Share, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database, self._clock = database, clock
        self._key = {"projections": projections, "share": str(share)}
        self._is_mine = (_of.projections == projections) & (_of.share == str(share))
        self._noted_at = clock()

    def last_stream(self) -> str:
        """The last stream that an earlier run has done; `FIRST` when there was none lately."""
        with self._database.read() as connection:
            now = self._database.dialect.clock(connection)
            found = connection.execute(select(_of.last_stream, _of.moved_at).where(self._is_mine)).one_or_none()
        return found.last_stream if found is not None and now - found.moved_at < LONGEST else FIRST

    def note(self, stream_id: str) -> None:
        """All streams up to this one are done; kept now and then, because to do a few again does no harm."""
        if self._clock() - self._noted_at < PAUSE_SECONDS:
            return
        with self._database.write() as connection:
            values = {"last_stream": stream_id, "moved_at": self._database.dialect.clock(connection)}
            insert = self._database.dialect.insert(rebuilds).values(**self._key, **values)
            connection.execute(insert.on_conflict_do_update(index_elements=list(self._key), set_=values))
        self._noted_at = self._clock()

    def forget(self) -> None:
        """All is done."""
        with self._database.write() as connection:
            connection.execute(delete(rebuilds).where(self._is_mine))


def go_on(
    database: Database, projections: Sequence[Projection[Any]], walk: Walk, *, begins_anew: bool = False
) -> list[Drift]:
    """Reconcile, from where an earlier run that wrote was stopped, if one was; what it did is not told again."""
    if not walk.write:
        return reconcile(database, projections, walk)
    named = " ".join(f"{one.name}:{one.version}" for one in projections) + (" overwriting" if walk.overwrites else "")
    unfinished = Unfinished(database, named, walk.share)
    after = FIRST if begins_anew else unfinished.last_stream()
    if after == FIRST:
        unfinished.forget()  # else the next one goes on from there, should this one be stopped before it notes anything
    drifts = reconcile(database, projections, walk._replace(after=after, done=unfinished.note))
    unfinished.forget()
    for drift in drifts:
        drift.went_on_after = None if after == FIRST else after
    return drifts


def forget_all(database: Database) -> None:
    """All streams are done: where rebuilds of any other kind, or in other shares, were stopped says nothing now."""
    with database.write() as connection:
        connection.execute(delete(rebuilds))
