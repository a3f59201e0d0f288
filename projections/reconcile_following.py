"""Rebuild and verify of projections that follow the log: folded in pages, compared at the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from eventlog.database import Database
from eventlog.faults import require_sound_between
from eventlog.log import head_position
from projections.drift import Drift
from projections.following import (
    checkpoint_of,
    end_of_page,
    lock,
    move,
    page_behind,
    standing,
)
from projections.spanning import Key, SpanningProjection
from projections.spanning_rows import fold_into, live_rows, make_equal, note_drift


def reconcile_following(
    database: Database, projection: SpanningProjection[Any], *, write: bool, proved: int = 0,
    progress: Callable[[int], None] = lambda events: None,
) -> Drift:  # fmt: skip
    """Compare the rows with the log up to the checkpoint, and with `write` make them equal to all of it.

    The log was `proved` up to a position; what comes behind it is proved here, before it is folded. What was not
    applied yet is no difference, and told as that; events and rows are counted up to the head. The log is folded in
    pages; its tail, the comparison and the writing within one moment, in which nobody else moves rows or checkpoint:
    readers never see less than before. To write raises `FoldTooNew` for rows of a newer fold.
    """
    drift, states = Drift(projection.name), _Folding(database, projection, proved, progress)
    begun = standing(database, projection)
    states.fold_pages(min(begun.position, begun.head))
    ahead = states.copy()
    ahead.fold_pages(begun.head)
    with _one_moment(database, projection, write=write) as (connection, position):
        head = head_position(connection)
        states.fold_tail(connection, min(position, head))
        ahead.fold_tail(connection, head)
        live = live_rows(connection, projection)
        if write:
            drift.written = make_equal(connection, database.dialect, projection, ahead.rows, live)
            move(connection, projection, head)
    note_drift(projection, states.rows, live, drift)
    drift.events, drift.streams, drift.behind = ahead.events, len(ahead.rows), max(0, head - position)
    return drift


class _Folding:
    """The states that the log folds to, up to a position that only goes on."""

    def __init__(
        self, database: Database, projection: SpanningProjection[Any], proved: int, progress: Callable[[int], None]
    ) -> None:
        self._database, self._projection, self._proved, self._progress = database, projection, proved, progress
        self.rows: dict[Key, Any] = {}
        self.position = self.events = 0

    def copy(self) -> _Folding:
        """Another, which goes on from here by itself."""
        other = _Folding(self._database, self._projection, self._proved, self._progress)
        other.rows, other.position, other.events = dict(self.rows), self.position, self.events
        return other

    def fold_pages(self, until: int) -> None:
        """Fold up to a position, each page in a transaction of its own."""
        while self.position < until:
            with self._database.read() as connection:
                self._fold_page(connection, until)

    def fold_tail(self, connection: Connection, until: int) -> None:
        """Fold up to a position within one transaction."""
        while self.position < until:
            self._fold_page(connection, until)

    def _fold_page(self, connection: Connection, until: int) -> None:
        last = end_of_page(self.position, until)
        require_sound_between(self._database.within(connection), max(self.position, self._proved), last)
        page = page_behind(connection, self._projection, self.position, last)
        fold_into(self._projection, self.rows, page.told)
        self.events += len(page.told)
        self.position = page.until
        self._progress(page.until - page.after)


@contextmanager
def _one_moment(
    database: Database, projection: SpanningProjection[Any], *, write: bool
) -> Iterator[tuple[Connection, int]]:
    """A transaction in which rows and checkpoint stand still, and the position that they stand at.

    To write, it holds the checkpoint's lock; to compare, seeing one moment is enough, which a reader may do too.
    """
    if write:
        with database.write() as connection:
            yield connection, lock(connection, database.dialect, projection, or_older=True)
        return
    with database.read() as connection:
        database.dialect.see_one_moment(connection)
        found = connection.execute(checkpoint_of(projection)).one_or_none()
        yield connection, (found[0] or 0) if found else 0
